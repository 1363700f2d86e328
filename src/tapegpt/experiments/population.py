"""Many trainings on the same strings, several at once: one corpus, one split, one set of held-out strings to judge by.

Threads are enough: a training is machine code that runs without the interpreter's lock, and programs of a shape are
shared. Not here: which trainings (`search.py`), what is made of their losses (`sweep.py`), files.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from itertools import islice

from tapegpt.data.holdout import hold_out
from tapegpt.data.rng import Random
from tapegpt.errors import DivergedError, TapeGPTError
from tapegpt.models.curves import curve
from tapegpt.models.provenance import DataRecord, TrainingState
from tapegpt.models.trained import GPT, make_engine
from tapegpt.processes import cores, renew_at_fork, thread_time
from tapegpt.ranges import Instance, Number, Whole
from tapegpt.record import Record, field
from tapegpt.settings import SECONDS, Settings
from tapegpt.training.trainer import Trainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from typing import Any, TypeVar

    from tapegpt.autograd.model import Model
    from tapegpt.data.corpus import Corpus
    from tapegpt.data.tokens import Tokens

    T = TypeVar("T")

AHEAD = 16  # candidates that are taken before the first one's outcome is requested, a thread
LAST = 0.1  # share of the steps whose mean is the training loss
LOSS = Number(0, 10**100)  # whose square is finite
PROBE_SECONDS = 0.02  # that a shape trains for to see what it costs


class Candidate(Record):
    """One training to be done: `settings.steps` is how long it runs, `settings.seed` its seed."""

    number: int
    config: Model
    settings: Settings
    strings: int | None = None  # of the held-out ones, by how many it is judged; None: all

    def chosen(self) -> dict[str, Any]:
        """All settings by name, of the model and of the training."""
        return {**self.config.as_dict(), **self.settings.as_dict()}


class Outcome(Record):
    """What became of a candidate. Losses are in nats per token; those of a training that diverged are infinite."""

    candidate: Candidate
    loss: float  # on the held-out strings
    error: float | None = field("standard error of the loss over seeds; None of one training", LOSS)
    training_loss: float  # mean of the last tenth of the steps
    seconds: float = field("of its own thread's clock, without compiling", Number(0, SECONDS.most))
    losses: dict[str, Any]  # of the steps, as a curve: see `curves.curve`
    parameters: int = field("", Whole(0))
    diverged: str = field("why, if it did", Instance(str), default="")


class Cost(Record):
    """What trainings of a shape take, in seconds of a core."""

    evaluating: float  # on the held-out strings
    a_step: float


def differences(outcomes: Iterable[Outcome]) -> list[str]:
    """The settings that the candidates differ in, but for the steps, which say how far each has come."""
    tables = [outcome.candidate.chosen() for outcome in outcomes]
    return [name for name in tables[0] if name != "steps" and len({repr(table[name]) for table in tables}) > 1]


class Field:
    """What all trainings of a population share; any number of threads may use it at once.

    The share `validation` of the distinct strings is held out, chosen by the seed as `Trainer` does. Raises
    `TapeGPTError` where that cannot be.
    """

    def __init__(self, corpus: Corpus, validation: float = 0.1, seed: int = 42) -> None:
        self.corpus, self.validation, self.seed = corpus, validation, seed
        self.training, self.held_out = hold_out(corpus, validation, seed)
        self._order = Random(seed).permutation(len(self.held_out))  # so that some strings stand for all
        self._made: dict[object, Any] = {}

    def prepare(self, candidate: Candidate) -> float:
        """Make the machine code of a candidate's shape, for this and all later trainings; the seconds it took."""
        config, settings = candidate.config, _settle(candidate.settings)
        sizes = (config, self.corpus.vocab_size, settings.batch_size, settings.threads or 1)
        engine = self._once((settings.engine, *sizes), lambda: make_engine(settings.engine, *sizes))
        seconds, engine.compile_seconds = engine.compile_seconds, 0.0
        return seconds

    def train(self, candidate: Candidate, stopped: Callable[[], bool] = bool) -> tuple[Outcome, GPT]:
        """Train one candidate, with the bits of a `Trainer` on `training`; the outcome and the model.

        A training that diverges has an outcome too. One ends early once `stopped` says so: it counts for nothing then.
        """
        self.prepare(candidate)
        started = thread_time()
        trainer = self.trainer(candidate)
        losses, diverged = _train(trainer, stopped)
        last = losses[-max(1, round(LAST * len(losses))) :]
        outcome = Outcome(
            candidate,
            loss=math.inf if diverged else self.loss(trainer.model, candidate.strings),
            error=None,
            training_loss=math.inf if diverged else math.fsum(last) / len(last),
            seconds=thread_time() - started,
            losses=curve(losses),
            parameters=trainer.model.num_parameters,
            diverged=diverged,
        )
        return outcome, trainer.model

    def trainer(self, candidate: Candidate) -> Trainer:
        """What trains a candidate."""
        config, settings = candidate.config, _settle(candidate.settings)
        return Trainer(self.training, config, settings, windows=self._windows(config, settings))

    def loss(self, model: GPT, strings: int | None = None) -> float:
        """In nats per token of so many held-out strings, always the same ones; infinite where it is no number."""
        block_size, order = model.config.block_size, self._order[:strings]
        tokens = self._once(("held out", block_size, strings), lambda: self.held_out.sorted_windows(block_size, order))
        total, count = model.engine.evaluate(tokens)
        return total / count if math.isfinite(total) else math.inf

    def measure(self, candidate: Candidate) -> Cost:
        """What a training of the candidate's shape costs."""
        trainer = self.trainer(candidate)
        start = thread_time()
        self.loss(trainer.model, candidate.strings)
        evaluated = before = thread_time()
        a_step = math.inf
        with suppress(DivergedError):
            for losses in trainer.chunks():
                now = thread_time()
                a_step, before = min(a_step, (now - before) / len(losses)), now
                if now - evaluated > PROBE_SECONDS:
                    break
        return Cost(evaluated - start, a_step if a_step < math.inf else PROBE_SECONDS)

    def baselines(self) -> dict[str, float]:
        """Losses of simple models on the held-out strings: uniform, unigram, bigram and 5-gram."""
        from tapegpt.data.ngrams import baselines

        return self._once("baselines", lambda: baselines(self.training, self.held_out, self.corpus.vocab_size))

    def remember(self, model: GPT, settings: Settings) -> None:
        """Let a model know how it was trained: where its seed is the split's, as if it had held out the strings."""
        own = settings.seed == self.seed
        corpus = self.corpus if own else self.training
        model.documents = corpus.documents
        model.data = self._once(("data", own), lambda: DataRecord.of(corpus))
        settings = _settle(settings).replace(validation=self.validation if own else 0.0)
        model.state = TrainingState(settings, model.engine.moments())

    def _windows(self, config: Model, settings: Settings) -> Tokens | None:
        """The training strings for the engine fast, as they lie."""
        if settings.engine != "fast":
            return None
        block, long = config.block_size, settings.long
        return self._once(("training", block, long), lambda: self.training.windows(block, long=long))

    def _once(self, key: object, make: Callable[[], T]) -> T:
        """What is made at the first use, and then shared; two threads that need it at once may both make it."""
        if key not in self._made:
            self._made.setdefault(key, make())
        made: T = self._made[key]
        return made


def _settle(settings: Settings) -> Settings:
    """Without what is the population's: what is held out, and the cores."""
    settings = settings.replace(validation=0.0, patience=None)
    return settings.replace(threads=1) if settings.engine == "fast" and settings.threads is None else settings


def _train(trainer: Trainer, stopped: Callable[[], bool]) -> tuple[list[float], str]:
    """Train; the losses, and why it diverged."""
    losses: list[float] = []
    try:
        for chunk in trainer.chunks():
            losses += chunk
            if stopped():
                break
    except DivergedError as error:
        return losses + error.losses, str(error)
    return losses, ""


class Population:
    """The outcomes of candidates, in their order, as they come; `kept` are the best so far with their models.

    A training that fails raises its error in its turn; the next call continues with the others.
    """

    def __init__(self, outcomes: Generator[Outcome | BaseException], kept: list[tuple[Outcome, GPT]]) -> None:
        self._outcomes, self.kept = outcomes, kept
        self._is_torn = False
        renew_at_fork(self)

    def _at_fork_reinit(self) -> None:
        self._is_torn = True

    def __iter__(self) -> Iterator[Outcome]:
        return self

    def __next__(self) -> Outcome:
        if self._is_torn:
            raise TapeGPTError("forked while trainings ran, which continue in the parent process: start new ones")
        outcome = next(self._outcomes)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Stop what is still running."""
        self._outcomes.close()


def populate(field: Field, candidates: Iterable[Candidate], threads: int | None = None, keep: int = 0) -> Population:
    """Train candidates, so many at once (by default as there are cores): an iterator over their outcomes, in order.

    The `keep` best models, of equal ones the first, are in its `kept`, best first. Raises `TapeGPTError` for settings
    out of range, and for what a candidate's training raises.
    """
    if threads is None:
        threads = cores()
    Settings.ranges["threads"].check("threads", threads)
    kept: list[tuple[Outcome, GPT]] = []
    return Population(_outcomes(field, iter(candidates), threads, keep, kept), kept)


def _outcomes(
    field: Field, candidates: Iterator[Candidate], threads: int, keep: int, kept: list[tuple[Outcome, GPT]]
) -> Generator[Outcome | BaseException]:
    from tapegpt.pools import pool

    stopped = False
    waiting: deque[Future[tuple[Outcome, GPT | None]]] = deque()

    def train(candidate: Candidate) -> tuple[Outcome, GPT | None]:
        outcome, model = field.train(candidate, lambda: stopped)
        return outcome, model if keep else None  # what is not kept is to be gone before its turn comes

    with pool(threads) as workers:
        try:
            while True:
                ahead = islice(candidates, AHEAD * threads - len(waiting))
                waiting.extend(workers.submit(train, candidate) for candidate in ahead)
                if not waiting:
                    return
                future = waiting.popleft()
                if error := future.exception():
                    yield error
                    continue
                outcome, model = future.result()
                if model is not None:
                    kept.append((outcome, model))
                    kept.sort(key=lambda pair: pair[0].loss)
                    del kept[keep:]
                    if any(each is model for _, each in kept):
                        field.remember(model, outcome.candidate.settings)
                yield outcome
        finally:
            stopped = True
            workers.shutdown(wait=False, cancel_futures=True)
