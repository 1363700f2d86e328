"""Training: a corpus in, a model out, in chunks of steps so that progress and interruption are prompt.

Random numbers are drawn in microgpt.py's order: the documents are shuffled, the parameters initialised, and generation
goes on with the same generator. Not here: arithmetic, files, what is printed.
"""

from __future__ import annotations

import os
import time

from tapegpt.corpus import Corpus
from tapegpt.engine import Adam
from tapegpt.errors import DivergedError, TapeGPTError, is_whole, shown
from tapegpt.model import GPT, initialise, make_engine
from tapegpt.record import Record
from tapegpt.rng import Random
from tapegpt.settings import Settings, resolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Unpack

    from tapegpt.config import Config
    from tapegpt.engine import Engine, Snapshot, Tokens
    from tapegpt.settings import Options

CHUNK_SECONDS = 0.05
DECAYS = {"weight_decay": (0.0075, 0.5), "gram_decay": (0.15, 15.0)}  # for each pass, and the most
EVALUATIONS = 20  # in a run of so many steps
EVALUATION_SHARE = 0.02  # of a time budget, at most, but for the last


class Evaluation(Record):
    """The held-out loss after so many steps, in nats a token."""

    step: int
    loss: float


class Trainer:
    """One training run; `model` is as far as it has come, and at the end of `chunks` the best that was evaluated.

    Settings are given as a record or by name: `Trainer(corpus, config, steps=500)`. A budget counts from `started`, a
    time of `time.perf_counter`, by default now; compiling, once for a shape, does not count. Raises `TapeGPTError` for
    settings out of range.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: Config,
        settings: Settings | None = None,
        *,
        started: float | None = None,
        **named: Any,
    ) -> None:
        started = time.perf_counter() if started is None else started
        self.settings = settings = (settings or Settings()).replaced(**named)
        self.corpus, self.held_out = corpus, None
        if settings.validation:
            from tapegpt.split import hold_out

            self.corpus, self.held_out = hold_out(corpus, settings.validation, settings.seed)
        self.adam = _adam(settings)
        self.evaluations: list[Evaluation] = []
        self._validation = self.held_out.windows(config.block_size) if self.held_out else None
        self._best: Snapshot | None = None
        rng = Random(settings.seed)
        self._tokens = _tokens(self.corpus, config, settings, rng)
        engine = _engine(config, corpus.vocab_size, settings)
        self.model = GPT(config, corpus.vocabulary, rng, engine)
        initialise(engine, config, corpus.vocab_size, rng, float(settings.init_std))
        self._clock = _Clock(settings.budget, started + engine.compile_seconds)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.model.steps

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the lowest held-out loss so far."""
        return min(self.evaluations, key=lambda evaluation: evaluation.loss, default=None)

    def run(self, count: int) -> list[float]:
        """Take up to `count` more steps; their losses.

        Raises `DivergedError` before a step that cannot be taken, `TapeGPTError` for a negative count.
        """
        if not is_whole(count) or count < 0:
            raise TapeGPTError(f"count must be a whole number from 0 on, not {shown(count)}")
        adam, progress = self.adam, None
        if self.settings.budget is None:
            count = min(count, self.settings.steps - self.step)
        else:
            adam, progress = self._clock.schedule(adam)
        try:
            losses = self.model.engine.train(self._tokens, self._decaying(adam), self.step, count, progress)
        except DivergedError as error:
            self.model.steps += len(error.losses)
            self._take_best()
            raise
        self.model.steps += len(losses)
        return losses

    def _decaying(self, adam: Adam) -> Adam:
        """With the decays that are left open: what is gone through often is learned by heart unless it fades."""
        passes = adam.steps * self.settings.batch_size / len(self._tokens)
        decays = {}
        for name, (a_pass, most) in DECAYS.items():
            if getattr(self.settings, name) is None:
                decays[name] = min(a_pass * passes, most)
        return adam.replaced(**decays)

    def evaluate(self) -> Evaluation:
        """The held-out loss now, noted in `evaluations`; raises `TapeGPTError` where nothing is held out."""
        if self._validation is None:
            raise TapeGPTError("no documents are held out: give validation, for instance 0.1")
        total, count = self.model.engine.evaluate(self._validation)
        evaluation = Evaluation(self.step, total / count)
        former = self.best
        self.evaluations.append(evaluation)
        if former is None or evaluation.loss < former.loss:
            self._best = self.model.engine.snapshot()
        return evaluation

    def chunks(self) -> Iterator[list[float]]:
        """Run to the end, giving the losses about every 50 ms. In a run of steps the cuts change no number."""
        pace = self._paced_by_time() if self.settings.budget is not None else self._paced_by_steps()
        yield from pace
        if self._validation is not None:
            if not self.evaluations or self.evaluations[-1].step != self.step:
                self.evaluate()
            self._take_best()

    def baselines(self) -> dict[str, float]:
        """Losses of simple models on the held-out documents: uniform, unigram, bigram and 5-gram."""
        from tapegpt.ngrams import baselines

        if self.held_out is None:
            raise TapeGPTError("no documents are held out: give validation, for instance 0.1")
        return baselines(self.corpus, self.held_out, self.corpus.vocab_size)

    def _take_best(self) -> None:
        """Go back to the weights with the best held-out loss, if they are not the last."""
        best = self.best
        if self._best is not None and best is not None and best.step != self.step:
            self.model.engine.restore(self._best)

    def _exhausted(self) -> bool:
        """Whether the last `patience` evaluations have all been no better than one before them."""
        patience, best = self.settings.patience, self.best
        return (
            patience is not None
            and best is not None
            and self.evaluations.index(best) + patience < len(self.evaluations)
        )

    def _paced_by_steps(self) -> Iterator[list[float]]:
        every = max(1, self.settings.steps // EVALUATIONS)
        count = 1
        while self.step < self.settings.steps:
            start = time.perf_counter()
            left = every - self.step % every if self._validation is not None else count
            losses = self.run(min(count, left))
            elapsed = max(time.perf_counter() - start, 1e-6)
            count = max(1, min(4 * len(losses), int(len(losses) * CHUNK_SECONDS / elapsed)))
            if self._validation is not None and self.step % every == 0:
                self.evaluate()
            yield losses
            if self._exhausted():
                return

    def _paced_by_time(self) -> Iterator[list[float]]:
        """The schedule follows the clock; the last evaluation is within the budget too."""
        clock = self._clock
        clock.begin()
        if self._validation is not None:
            clock.measure_evaluation(lambda: self.model.engine.evaluate(self._validation) if self._validation else None)
        while (count := clock.affordable()) > 0:
            start = time.perf_counter()
            losses = self.run(count)
            clock.took(len(losses), time.perf_counter() - start)
            if self._validation is not None and clock.evaluation_is_due():
                self.evaluate()
            yield losses
            if self._exhausted():
                return


class _Clock:
    """How a time budget is spent."""

    def __init__(self, budget: float | None, started: float) -> None:
        self._end = started + (budget or 0.0)
        self._begun = started
        self._evaluation = 0.0  # seconds
        self._rate = 0.0  # steps a second
        self._next = self._interval = 0.0  # of evaluations

    def begin(self) -> None:
        """Training begins."""
        self._begun = time.perf_counter()

    def measure_evaluation(self, evaluate: Callable[[], object]) -> None:
        """See what an evaluation costs, and lay them out."""
        start = time.perf_counter()
        evaluate()
        self._evaluation = time.perf_counter() - start
        span = self._end - start
        count = min(EVALUATIONS, int(EVALUATION_SHARE * span / self._evaluation)) if span > 0 else 0
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

    def schedule(self, adam: Adam) -> tuple[Adam, float]:
        """The schedule in steps that ends when the time does, and where on it the run stands."""
        now = time.perf_counter()
        span = max(self._end - self._evaluation - self._begun, 1e-9)
        gone = min(max(now - self._begun, 0.0) / span, 1.0)
        rate = self._rate or 1.0
        total = max(round(span * rate), 1)
        return adam.replaced(steps=total), gone * total


def _adam(settings: Settings) -> Adam:
    return Adam(
        settings.steps,
        float(settings.learning_rate),
        float(settings.beta1),
        float(settings.beta2),
        weight_decay=float(settings.weight_decay or 0.0),
        gram_decay=float(settings.gram_decay or 0.0),
        warmup=float(settings.warmup),
        clip=float(settings.clip),
    )


def _tokens(corpus: Corpus, config: Config, settings: Settings, rng: Random) -> Tokens:
    """The documents, or their windows, in random order: the first that is drawn with the seed."""
    if settings.engine != "fast":
        return corpus.tokens(rng.permutation(len(corpus))[: settings.steps])  # no step comes to any later document
    tokens = corpus.windows(config.block_size, cut=settings.long == "cut")
    return tokens.replaced(order=rng.permutation(len(tokens)))


def _engine(config: Config, vocab_size: int, settings: Settings) -> Engine:
    threads = settings.threads or threads_that_pay(config, settings.batch_size)
    return make_engine(settings.engine, config, vocab_size, settings.batch_size, threads)


WORTH_A_THREAD = 3_000_000  # multiply-adds of a step: 100 us of one core, where a barrier costs about one


def threads_that_pay(config: Config, batch_size: int) -> int:
    """As many as there are cores for this process, documents, and enough work for each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    work = 3 * 12 * config.n_layer * config.n_embd**2 * 8 * batch_size  # strings of 8 characters
    return max(1, min(cores, batch_size // 4, work // WORTH_A_THREAD))


def train(
    data: str | os.PathLike[str] | Corpus | Iterable[str],
    *,
    preset: str | None = None,
    encoding: str = "utf-8",
    delimiter: str = "\n",
    on_progress: Callable[[int, list[float]], None] | None = None,
    **options: Unpack[Options],
) -> GPT:
    """Train a model on a text file (a str is a path), a corpus or strings.

    Options are the fields of `Config` and `Settings`; a preset gives some of them. `on_progress(step, losses)` is
    called about every 50 ms with the steps taken and the losses since the last call. Raises `TapeGPTError` for input
    that cannot be used.
    """
    started = time.perf_counter()
    config, settings = resolved(options, preset)
    if isinstance(data, str | os.PathLike):
        data = Corpus.read(data, encoding=encoding, delimiter=delimiter)
    corpus = data if isinstance(data, Corpus) else Corpus.of(data)
    trainer = Trainer(corpus, config, settings, started=started)
    for losses in trainer.chunks():
        if on_progress:
            on_progress(trainer.step, losses)
    return trainer.model
