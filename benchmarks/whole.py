"""Whole trainings: what a step takes in the first, the middle and the last third.

Late in a training many moments are tiny: benchmarks of the first steps do not see what they cost. A peer is any program
that trains on `input.txt` and prints lines with `step 120`, as microgpt.py does. Not here: the step by shape
(`training.py`, `fast.py`).
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from benchmarks.command import workplace
from benchmarks.fast import check_against_exact, check_threads
from benchmarks.timing import Contender, cpu_name, cpu_seconds, figure, seconds, table, take_turns
from benchmarks.training import WARM_UP, check_against_reference
from tapegpt import Config, Corpus
from tapegpt.settings import Settings
from tapegpt.training.trainer import Trainer

STEPS = 40_000
THREADED = (Config(n_embd=64), 64)  # and documents of a step
JOBS = (
    (Config(), Settings("exact")),
    (Config(), Settings("fast", batch_size=1, threads=1)),
    *[(Config(n_embd=width), Settings("fast", batch_size=16, threads=1)) for width in (16, 32, 64)],
    *[(THREADED[0], Settings("fast", batch_size=THREADED[1], threads=threads)) for threads in (1, 2)],
)


def by_third(corpus: Corpus, steps: int, rounds: int, peers: Mapping[str, str]) -> str:
    """Microseconds a step of trainings that take turns, the lowest of `rounds` samples of each third, which other
    programs on the core disturb least; then of each peer alone.
    """
    check_against_reference(corpus, Config(), 20)
    check_against_exact(corpus, Config(), 100)
    check_threads(corpus, *THREADED)
    contenders = [_training(corpus, *job, steps // (3 * rounds), 3 * rounds) for job in JOBS]
    rows = []
    for (config, settings), summary in zip(JOBS, take_turns(contenders, 3 * rounds), strict=True):
        first, middle, last = (min(summary.samples[at : at + rounds]) for at in range(0, 3 * rounds, rounds))
        sizes = map(str, (config.n_embd, settings.batch_size, settings.threads or 1))
        rows.append([settings.engine, *sizes, *map(figure, (first, middle, last, last / first))])
    with workplace(None) as folder:
        (folder / "input.txt").write_text("\n".join(corpus.documents), encoding="utf-8")
        for name, command in peers.items():
            first, middle, last = peer_thirds(name, shlex.split(command), folder)
            rows.append([name, "", "", "", *map(figure, (first, middle, last, last / first))])
    heads = ["engine", "n_embd", "documents", "threads", "first third", "middle", "last", "last to first"]
    return table(f"A step of a training of {steps:,}, us, on {cpu_name()}", heads, rows)


def _training(corpus: Corpus, config: Config, settings: Settings, count: int, samples: int) -> Contender:
    """Microseconds a step, over `count` steps a sample, of one training that ends with the last sample.

    Of one thread it is CPU time.
    """
    trainer = Trainer(corpus, config, settings.replace(steps=WARM_UP + samples * count))
    trainer.run(WARM_UP)
    clock = seconds if (settings.threads or 1) > 1 else cpu_seconds
    return Contender("", lambda: 1e6 * clock(lambda: trainer.run(count)) / count)


def peer_thirds(name: str, command: Sequence[str], folder: Path) -> list[float]:
    """Microseconds a step of a peer, in each third of the steps between the first and the last that it names."""
    reports = list(_reports(name, command, folder))
    span = reports[-1][0] - reports[0][0] if reports else 0
    ends = [next(each for each in reports if each[0] >= reports[0][0] + span * n / 3) for n in range(4) if reports]
    if len(set(ends)) < 4:
        raise SystemExit(f"{name}: {shlex.join(command)} names {len(reports)} steps: have it print `step 120`, say")
    return [1e6 * (end - start) / (last - first) for (first, start), (last, end) in pairwise(ends)]


def _reports(name: str, command: Sequence[str], folder: Path) -> Iterator[tuple[int, float]]:
    """The steps that a peer names, and when; on a terminal, where programs print each line at once."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=folder, stdout=theirs) as process, os.fdopen(ours, "rb", 0) as output:
        os.close(theirs)
        text, known = b"", -1
        with suppress(OSError):  # which is how Linux says that the other side is closed
            while more := output.read(1 << 16):
                now, text = perf_counter(), text[-80:] + more
                step = max(map(int, re.findall(rb"step\W*(\d+)\W", text)), default=-1)
                if step > known:
                    known = step
                    yield step, now
    if process.returncode:
        raise SystemExit(f"{name}: {shlex.join(command)} ended with {process.returncode}")
