"""What commands do on a cluster of Ray: the options, and the bulk of `generate` and `score`.

Not here: how it is done (`tapegpt/cluster/`).
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager

from tapegpt.cli.console import STDOUT, moves
from tapegpt.cli.options import flag
from tapegpt.errors import TapeGPTError
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from tapegpt.cluster import Cluster
    from tapegpt.cluster.bulk import Part
    from tapegpt.experiments.sweep import Executor

FORMATS = ("text", "jsonl", "parquet")


def ray_argument(group: argparse._ActionsContainer) -> None:
    """Declare the address."""
    about = "on a cluster of Ray: local, auto, or HOST:PORT of its head [this process]"
    group.add_argument("--ray", metavar="ADDRESS", help=about)


def bulk_arguments(group: argparse._ActionsContainer, default: str) -> None:
    """Declare the address, and what is written by those who work there."""
    ray_argument(group)
    about = "with --ray: new directory for the files, which all machines have"
    group.add_argument("--output-dir", metavar="DIR", help=about)
    about = f"with --ray: {', '.join(FORMATS)} [{default}]"
    group.add_argument("--output-format", choices=FORMATS, metavar="NAME", help=about)


def check_bulk(options: argparse.Namespace, refused: tuple[str, ...]) -> None:
    """Raise `TapeGPTError` where options do not go with --ray, or not without it."""
    if options.ray is None:
        for name in ("output_dir", "output_format"):
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


def write_parts(options: argparse.Namespace, kind: str, parts: Callable[[Cluster, str], Iterator[Part]]) -> int:
    """Let the parts of a cluster be written, by default in a format of this kind; the exit code."""
    from tapegpt.cluster import Cluster

    with Cluster(options.ray) as cluster:
        return _follow(parts(cluster, options.output_format or kind), options.output_dir)


def _follow(parts: Iterator[Part], directory: str) -> int:
    """Say how far it is, and in the end what there is."""
    start, done, strings = time.perf_counter(), 0, 0
    in_place = moves(sys.stderr)
    for done, part in enumerate(parts, 1):
        strings += part.strings
        if in_place:
            print(
                f"\rpart {done:,} of {part.of:,}\x1b[K", end="" if done < part.of else "\n", file=sys.stderr, flush=True
            )
    rate = strings / (time.perf_counter() - start)
    print(f"{amount(strings, 'string')} in {amount(done, 'file')} of {directory}, {rate:,.0f} a second")
    return 0
