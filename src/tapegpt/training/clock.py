"""How the time of a budget is spent: predicted shares before the training, measured ones while it runs.

A budget of T seconds reads at most T megabytes, counts n-grams of a sample and judges by a sample of what is held out,
so that most of the time is left for training whatever the data are. All of that follows from the budget, the shape and
the kind of CPU alone: a resumed training has the same samples. Not here: the training.
"""

from __future__ import annotations

import math
import time

from tapegpt.machine.host import host_target
from tapegpt.processes import cores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.autograd.model import Model
    from tapegpt.data.corpus import Corpus
    from tapegpt.data.sources import Source
    from tapegpt.engines.base import Adam
    from tapegpt.settings import Settings

CHUNK_SECONDS = 0.05
EVALUATIONS = 20  # in a training, at most in one of a time budget
# Shares of a budget: one evaluation, as predicted, and all but the last, as measured.
ONE_EVALUATION, MOST_EVALUATIONS = 0.015, 0.02
BYTES_A_SECOND = 1_000_000  # that are read: more characters than a core can train on in that time
COUNTED_A_SECOND = 250_000  # tokens that n-gram models count, in 2 % of it, with a `Trie` in 5 to 8 %
FLOPS_A_LANE = 4.0e9  # f32 operations a second: 65 GFLOP/s of 16 lanes, AVX-512 at 2.6 GHz
INTERPRETED_FLOPS = 1e5  # without machine code
EVALUATION_COST = 0.35  # of that of training, for a position
FEW, HELPED_ONCE = 4, 50  # passes that help in any case; documents that one pass helps


def passes_that_help(documents: int) -> float:
    """How often to go through so many: what comes after that is memorised. docs/fast.md has the figures."""
    return max(FEW, math.sqrt(documents / HELPED_ONCE))


def seconds_a_position(model: Model, vocab_size: int, length: float, threads: int = 1) -> float:
    """What training on one position will take here, in documents of so many, within a factor of two."""
    target = host_target()
    lanes = target.vector_bytes / 4 if target.fma else target.vector_bytes / 8
    flops = INTERPRETED_FLOPS if target.name == "interpreted" else FLOPS_A_LANE * lanes * threads
    attention = 32 * sum(model.heads(vocab_size)) * min(length, model.block_size)  # as measured, for small heads
    return 6 * (weights(model, vocab_size) + attention) / flops


def weights(model: Model, vocab_size: int) -> int:
    """A position's multiply-adds with parameters: with all but those in which rows are looked up."""
    return sum(each.products * each.size for each in model.parameters(vocab_size) if not each.fixed)


def layers(model: Model, vocab_size: int) -> int:
    """Those that do not grow with the vocabulary."""
    growth, every = model.growth(vocab_size), model.parameters(vocab_size)
    return sum(each.products * each.size for each in every if not each.fixed and growth[each.name] == (0, 0))


WORTH_A_THREAD = 3_000_000  # multiply-adds of a step: 100 us of one core, where a barrier costs about one


def threads_that_pay(model: Model, vocab_size: int, batch_size: int) -> int:
    """As many as there are cores for this process, documents, and enough work for each."""
    most = min(cores(), batch_size // 4)
    if most < 2:
        return 1
    each_step = 3 * layers(model, vocab_size) * 8 * batch_size  # strings of 8 characters
    return max(1, min(most, each_step // WORTH_A_THREAD))


def within(source: Source, budget: float | None) -> Source:
    """The source, or where a budget is too short for all of it a sample."""
    most = None if budget is None else max(int(BYTES_A_SECOND * budget), 1)
    return source if most is None or source.size <= most else source.replace(sample=most)


def sample_held_out(held_out: Corpus, model: Model, settings: Settings) -> Corpus:
    """Of the held-out documents those that one evaluation of a budget has the time for."""
    assert settings.budget is not None
    length = held_out.predictions / len(held_out)
    cost = EVALUATION_COST * seconds_a_position(model, held_out.vocab_size, length, settings.threads or 1)
    return held_out.sample(int(ONE_EVALUATION * settings.budget / cost))


def sample_for_ngrams(training: Corpus, budget: float) -> Corpus:
    """Of the training documents those that n-gram models have the time for."""
    return training.sample(int(COUNTED_A_SECOND * budget))


class Clock:
    """How a time budget is spent."""

    def __init__(self, budget: float | None, started: float) -> None:
        self._budget, self._begun = budget or 0.0, started
        self._end = started + self._budget
        self._gone = 0.0  # seconds of the budget, before this process
        self._evaluation = 0.0  # seconds
        self._rate = 0.0  # steps a second
        self._next = self._interval = 0.0  # of evaluations

    @property
    def spent(self) -> float:
        """Seconds of the budget that are gone."""
        return min(self._budget - (self._end - time.perf_counter()), self._budget) if self._budget else 0.0

    @spent.setter
    def spent(self, seconds: float) -> None:
        self._end = time.perf_counter() + self._budget - seconds
        self._gone = seconds

    def exclude(self, seconds: float) -> None:
        """Not to count seconds that were spent on compiling."""
        self._begun += seconds
        self._end += seconds

    def begin(self) -> None:
        """Training begins, or is resumed."""
        self._begun = time.perf_counter() - self._gone

    def measure_evaluation(self, evaluate: Callable[[], object]) -> None:
        """See what an evaluation costs, and lay them out."""
        start = time.perf_counter()
        evaluate()
        self._evaluation = time.perf_counter() - start
        span = self._end - start
        count = min(EVALUATIONS, int(MOST_EVALUATIONS * span / self._evaluation)) if span > 0 else 0
        self._interval = span / (count + 1)
        self._next = start + self._interval

    def evaluation_is_due(self) -> bool:
        """Whether it is time for one that is not the last."""
        now = time.perf_counter()
        if now < self._next or self._next + self._interval / 2 > self._end:
            return False
        self._next += self._interval
        return True

    def took(self, steps: int, elapsed: float) -> None:
        """Learn the pace."""
        self._rate = steps / max(elapsed, 1e-9)

    def _left(self) -> float:
        return self._end - self._evaluation - time.perf_counter()

    def affordable(self) -> int:
        """Steps of the next chunk; none when the time is up, but at least one in a run."""
        if not self._rate:
            return 1
        left = self._left() * self._rate  # steps
        return max(int(min(CHUNK_SECONDS * self._rate, left)), 1) if left >= 1 else 0

    def schedule(self, adam: Adam, step: int, most: int) -> tuple[Adam, float]:
        """The schedule in steps that ends when the time does or all steps are taken, and where on it the run stands."""
        now = time.perf_counter()
        span = max(self._end - self._evaluation - self._begun, 1e-9)
        gone = min(max(now - self._begun, 0.0) / span, 1.0)
        rate = self._rate or 1.0
        total = min(max(round(span * rate), 1), most)
        return adam.replace(steps=total), max(gone, step / most) * total
