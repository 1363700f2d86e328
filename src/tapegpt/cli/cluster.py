"""What commands do on a cluster of Ray: the options, and the bulk of `generate` and `score`.

Not here: how it is done (`tapegpt/cluster/`).
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager

from tapegpt.cli.console import STDOUT, StatusLine
from tapegpt.cli.options import Group, Namespace, flag, option
from tapegpt.errors import TapeGPTError
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tapegpt.cluster.bulk import Part
    from tapegpt.experiments.sweep import Executor

FORMATS = ("text", "jsonl", "parquet")


def ray_argument(group: Group) -> None:
    """Declare the address."""
    option(group, "--ray", "ADDRESS", "on a cluster of Ray: local, auto, or HOST:PORT of its head [this process]")


def bulk_arguments(group: Group) -> None:
    """Declare the address, and where those write who work there."""
    ray_argument(group)
    option(group, "--output-dir", "DIR", "with --ray: new directory for the files, shared by all machines")


def check_bulk(options: Namespace, refused: tuple[str, ...], needing: tuple[str, ...] = ()) -> None:
    """Raise `TapeGPTError` where options do not go with --ray, or not without it."""
    if options.ray is None:
        for name in ("output_dir", *needing):
            if getattr(options, name) is not None:
                raise TapeGPTError(f"{flag(name)} is about what --ray writes: give --ray ADDRESS too")
        return
    if options.output_dir is None:
        raise TapeGPTError("--ray writes files: give --output-dir DIR too")
    for name in refused:
        if getattr(options, name) not in (None, False, STDOUT):
            raise TapeGPTError(f"{flag(name)} does not go with --ray: leave one of them out")


@contextmanager
def executor(ray: str | None, threads: int | None) -> Iterator[tuple[Executor, int | None]]:
    """What a sweep is done by, and how many trainings at once it may reckon with."""
    if ray is None:
        from tapegpt.experiments.population import populate

        yield populate, threads
        return
    from tapegpt.cluster import Cluster, Executor

    with Cluster(ray) as cluster:
        yield Executor(cluster), threads or cluster.cores()


def write_parts(options: Namespace, write: Callable[..., Iterator[Part]], *what: object, **how: Any) -> int:
    """Let workers write parts, with `generate` or `score` of the cluster; say how far it is; the exit code."""
    from tapegpt.cluster import Cluster

    start, done, strings = time.perf_counter(), 0, 0
    line = StatusLine(sys.stderr)
    if options.output_format is not None:
        how["format"] = options.output_format
    with Cluster(options.ray) as cluster:
        for done, part in enumerate(write(cluster, *what, options.output_dir, **how), 1):
            strings += part.strings
            line.show(f"part {done:,} of {part.of:,}")
    line.end()
    rate = strings / (time.perf_counter() - start)
    print(f"{amount(strings, 'string')} in {amount(done, 'file')} of {options.output_dir}, {rate:,.0f} a second")
    return 0
