"""Whole trainings: what a step takes in the first, the middle and the last third.

Late in a training many moments are tiny: benchmarks of the first steps do not see what they cost. Not here: the step by
shape (`training.py`, `fast.py`).
"""

from __future__ import annotations

from statistics import median

from benchmarks.fast import check_against_exact, check_threads
from benchmarks.timing import Contender, cpu_name, figure, seconds, table, take_turns
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


def by_third(corpus: Corpus, steps: int, rounds: int) -> str:
    """Microseconds a step of trainings that take turns, `rounds` samples of each third."""
    check_against_reference(corpus, Config(), 20)
    check_against_exact(corpus, Config(), 100)
    check_threads(corpus, *THREADED)
    contenders = [_training(corpus, *job, steps // (3 * rounds), 3 * rounds) for job in JOBS]
    rows = []
    for (config, settings), summary in zip(JOBS, take_turns(contenders, 3 * rounds), strict=True):
        first, middle, last = (median(summary.samples[at : at + rounds]) for at in range(0, 3 * rounds, rounds))
        sizes = map(str, (config.n_embd, settings.batch_size, settings.threads or 1))
        rows.append([settings.engine, *sizes, *map(figure, (first, middle, last, last / first))])
    heads = ["engine", "n_embd", "documents", "threads", "first third", "middle", "last", "last to first"]
    return table(f"A step of a training of {steps:,}, us, on {cpu_name()}", heads, rows)


def _training(corpus: Corpus, config: Config, settings: Settings, count: int, samples: int) -> Contender:
    """Microseconds a step, over `count` steps a sample, of one training that ends with the last sample."""
    trainer = Trainer(corpus, config, settings.replace(steps=WARM_UP + samples * count))
    trainer.run(WARM_UP)
    return Contender("", lambda: 1e6 * seconds(lambda: trainer.run(count)) / count)
