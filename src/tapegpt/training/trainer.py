"""Training: a corpus in, a model out, in chunks of steps so that progress and interruption are prompt.

Random numbers are drawn in microgpt.py's order: the documents are shuffled, the parameters initialised, and generation
continues with the same generator. Not here: arithmetic, files, what is printed.
"""

from __future__ import annotations

import math
import time
from operator import sub

from tapegpt.autograd.model import Model
from tapegpt.data.corpus import CORPUS, Corpus
from tapegpt.data.rng import Random
from tapegpt.data.vocabulary import NAMED
from tapegpt.engines.base import STEPS, Adam
from tapegpt.errors import DivergedError, TapeGPTError, argument, either, quote, warn
from tapegpt.inference.language_model import MODEL
from tapegpt.log import log
from tapegpt.models.trained import GPT, initialise, make_engine
from tapegpt.processes import Local
from tapegpt.ranges import Instance, Whole
from tapegpt.settings import MAX_STEPS, Settings
from tapegpt.text import amount, breaks
from tapegpt.training.clock import (
    CHUNK_SECONDS,
    EVALUATIONS,
    Clock,
    layers,
    passes_that_help,
    sample_for_ngrams,
    sample_held_out,
    threads_that_pay,
    weights,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from tapegpt.data.tokens import Tokens
    from tapegpt.engines.base import Parameters, Snapshot
    from tapegpt.models.provenance import DataRecord, Evaluation

    Callback = Callable[["Trainer", list[float]], object]

# For each pass through so many documents with a model of so many weights, of at most so many. A pass through fewer
# documents has fewer steps to forget in; what has more weights memorises sooner.
DECAYS = {"weight_decay": 0.0075, "gram_decay": 0.15}
DOCUMENTS, WEIGHTS, MOST_PASSES = 28_800, 12 * 48**2, 160


class Trainer(Local):
    """One training run; `model` is as far as it has come, and at the end of `chunks` the best that was evaluated.

    One thread at a time may use it; meanwhile others may use its `model`. Where Ctrl-C or a callback's error ends a
    call, the steps that were taken count, and the next call continues after them.

    Settings are given as a record or by name: `Trainer(corpus, config, steps=500)`. A budget counts from `started`, a
    time of `time.perf_counter`, by default now; compiling, once for a shape, does not count. Of what is `held_out`
    it is judged by the documents `judged`, and beside n-gram models of the training documents `counted`: all, or in a
    budget as many as its shares of the time suffice for. `windows`, if they are at
    hand, are what the engine fast takes of the corpus: `corpus.windows(block_size, long=long)`. Raises
    `TapeGPTError` for settings out of range.
    """

    evaluate_every: int | None = None  # steps, in a training that does not follow the clock; None for 20 evaluations

    def __init__(
        self,
        corpus: Corpus,
        config: Model,
        settings: Settings | None = None,
        *,
        started: float | None = None,
        windows: Tokens | None = None,
        **named: Any,
    ) -> None:
        started = time.perf_counter() if started is None else started
        CORPUS.check("corpus", corpus)
        Instance(Model, "give tapegpt.Config() or one of your own").check("config", config)
        settings = Settings() if settings is None else settings
        Instance(Settings).check("settings", settings)
        settings = settings.replace(**named)
        if settings.threads is None and settings.engine == "fast":
            settings = settings.replace(threads=threads_that_pay(config, corpus.vocab_size, settings.batch_size))
        self.settings = settings
        self.corpus = corpus
        self.training, self.held_out = corpus, None
        if settings.validation:
            from tapegpt.data.holdout import hold_out

            self.training, self.held_out = hold_out(corpus, settings.validation, settings.seed)
        self.judged, self.counted = self.held_out, self.training
        if settings.budget is not None:
            self.counted = sample_for_ngrams(self.training, settings.budget)
            if self.held_out:
                self.judged = sample_held_out(self.held_out, config, settings)
        rates = [name for name in Adam.fields if name in Settings.fields and name != "steps"]
        self.adam = Adam(settings.steps, **{name: float(getattr(settings, name) or 0.0) for name in rates})
        self.evaluations: list[Evaluation] = []
        self._validation = self.judged.sorted_windows(config.block_size) if self.judged else None
        self._best: Snapshot | None = None
        self._data: DataRecord | None = None
        self._last: Snapshot | None = None  # parameters to resume with, while the model has the best ones
        rng = Random(settings.seed)
        self.tokens = _tokens(self.training, config, settings, rng, windows)  # in the order of the steps
        enough = math.ceil(passes_that_help(len(self.tokens)) * len(self.tokens) / settings.batch_size)
        self._steps = settings.steps if settings.budget is None else min(enough, MAX_STEPS)  # at most
        engine = make_engine(settings.engine, config, corpus.vocab_size, settings.batch_size, settings.threads or 1)
        self.model = GPT(config, corpus.vocabulary, rng, engine)
        self.model.documents = corpus.documents
        if count := len(corpus.vocabulary.labels):
            from tapegpt.data.labels import LabelCounts

            if count >= config.block_size:
                what = f"block_size {config.block_size} does not hold {amount(count, 'label')} and a string"
                raise TapeGPTError(f"{what}: choose a larger one")
            self.model.counts = LabelCounts.of(corpus.documents)
        log("%d documents, %d parameters, engine %s", len(corpus), self.model.num_parameters, settings.engine)
        self._clock = Clock(settings.budget, started + engine.compile_seconds)
        initialise(engine, config, corpus.vocab_size, rng, float(settings.init_std), self._count())

    def _count(self) -> Parameters:
        config, vocab_size = self.model.config, self.corpus.vocab_size
        if not any(each.fixed for each in config.parameters(vocab_size)):
            return {}
        from tapegpt.autograd.operations.kneser_ney import KneserNey
        from tapegpt.data.ngrams import make_trie

        nodes = config.record(vocab_size).tape.nodes
        tables = [node.inputs[2] for node in nodes if isinstance(node.operation, KneserNey)]
        self._exclude_ngrams()
        return {table.name: make_trie(self.counted, vocab_size, table.shape.columns) for table in tables}

    def _exclude_ngrams(self) -> None:
        """Not to count what compiling the n-gram models takes."""
        from tapegpt.data.ngrams import kernels

        self._clock.exclude(kernels().compile_seconds)

    # --- resuming ----------------------------------------------------------------------------------------------

    @classmethod
    def resume(cls, model: GPT, corpus: Corpus, more: int | None = None) -> Trainer:
        """The run that left this model, where it stood: it ends with the bits of one that was never interrupted.

        With `more`, that many steps are added to those taken, and the learning rate falls to zero after them. A run of
        a time budget has the time that was left. Raises `TapeGPTError` for a model that holds weights only, for
        other documents than it was trained on, saying what differs, and where no step is left.
        """
        MODEL.check("model", model)
        CORPUS.check("corpus", corpus)
        state = model.state
        if state is None or model.data is None:
            raise TapeGPTError("the model has weights only, no training to resume: finetune it, or train anew")
        STEPS.check("steps", model.steps)
        model.data.check_equals(corpus, "the data")
        settings = state.settings
        if more is not None:
            Whole(1).check("the steps to add", more)
            settings = settings.replace(steps=model.steps + more, budget=None, patience=None)
        trainer = cls(corpus.replace(vocabulary=model.vocabulary), model.config, settings)
        engine = trainer.model.engine
        engine.load_parameters(model.parameters)
        if state.evaluations:
            trainer._best = engine.snapshot()
        if state.last is not None:
            engine.load_parameters(state.last)
        engine.load_moments(state.moments)
        trainer.evaluations = list(state.evaluations)
        trainer.model.steps = model.steps
        trainer.model.rng.setstate(model.rng.getstate())
        trainer._clock.spent = state.spent
        if trainer.is_over:
            add = either("more", "--more-steps")
            raise TapeGPTError(f"the training is over, after {model.steps} steps: say how many to add by {add}")
        return trainer

    @classmethod
    def finetune(cls, model: GPT, corpus: Corpus, settings: Settings) -> Trainer:
        """A new run that starts with the weights of a model, on any documents.

        The vocabulary is the model's and the documents'. Parameters with a row or a column for each token have those of
        new tokens as in a new model. Where there are new tokens, sparse parameters start anew, and n-grams are
        counted anew: both are found by tokens, which move. Raises `TapeGPTError` where a parameter grows with the
        vocabulary in another way, and for documents that are split by another rule.
        """
        MODEL.check("model", model)
        CORPUS.check("corpus", corpus)
        vocabulary = model.vocabulary | corpus.vocabulary
        trainer = cls(corpus.replace(vocabulary=vocabulary), model.config, settings)
        engine, former = trainer.model.engine, model.parameters
        if vocabulary == model.vocabulary:
            engine.load_parameters(former)
            return trainer
        parameters, growth = engine.parameters(), model.config.growth(model.vocab_size)
        shapes = model.config.shapes(vocabulary.size)
        kept = model.vocabulary.numbers_in(vocabulary)
        for each in model.config.parameters(model.vocab_size):
            if not each.is_dense:
                continue
            sizes = (each.rows, each.columns)
            for size, more in zip(sizes, growth[each.name], strict=True):
                if more and (size, more) != (model.vocab_size, 1):
                    raise TapeGPTError(
                        f"parameter {each.name}: {size} rows or columns are for {model.vocab_size} tokens, so that "
                        f"none is a {vocabulary.unit}'s own: finetune on documents without new {vocabulary.unit}s"
                    )
            rows, columns = (kept if more else range(size) for size, more in zip(sizes, growth[each.name], strict=True))
            width, numbers = shapes[each.name][1], iter(former[each.name])
            for row in rows:
                for column in columns:
                    parameters[each.name][row * width + column] = next(numbers)
        engine.load_parameters(parameters)
        return trainer

    def keep(self, write: Callable[[GPT], None]) -> None:
        """Call `write` with the model as it is to be kept: the best weights that were evaluated, and the training."""
        from tapegpt.models.provenance import TrainingState

        engine, ended = self.model.engine, self._last is not None
        moments = engine.moments()
        self._take_best()
        try:
            self.model.state = TrainingState(
                self.settings,
                moments,
                tuple(self.evaluations),
                None if self._last is None else engine.parameters_in(self._last),
                max(self._clock.spent, 0.0),
            )
            self.model.data = self.data
            write(self.model)
        finally:
            if not ended:
                self._take_last()

    # --- training -----------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.model.steps

    @property
    def passes(self) -> float:
        """How often the training documents have been gone through."""
        return self.step * self.settings.batch_size / len(self.tokens)

    @property
    def is_complete(self) -> bool:
        """Whether all steps are taken; in a budget, as many as help."""
        return self.step >= self._steps

    @property
    def is_over(self) -> bool:
        """Whether no step is left: of their number, of the time, or because the held-out loss gets no better."""
        budget = self.settings.budget
        late = budget is not None and self._clock.spent > budget - CHUNK_SECONDS
        return late or self.is_complete or self._exhausted()

    @property
    def data(self) -> DataRecord:
        """What the documents are, also those that are held out."""
        if self._data is None:
            from tapegpt.models.provenance import DataRecord

            self._data = DataRecord.of(self.corpus)
        return self._data

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the lowest held-out loss so far."""
        return min(self.evaluations, key=lambda evaluation: evaluation.loss, default=None)

    def run(self, count: int) -> list[float]:
        """Take up to `count` more steps; their losses.

        Raises `DivergedError` before a step that cannot be taken, `TapeGPTError` for a negative count.
        """
        Whole(0).check("count", count)
        adam, progress = self.adam, None
        count = min(count, self._steps - self.step)
        if self.settings.budget is not None:
            adam, progress = self._clock.schedule(adam, self.step, self._steps)
        if count:
            self._take_last()
        try:
            losses = self.model.engine.train(self.tokens, self.decaying(adam), self.step, count, progress)
        except DivergedError as error:
            self.model.losses.extend(error.losses)
            self._take_best()
            raise
        self.model.losses.extend(losses)
        return losses

    def decaying(self, adam: Adam) -> Adam:
        """With the decays that are left open: what is gone through often is memorised unless it fades."""
        if self.settings.engine != "fast":
            return adam
        passes = adam.steps * self.settings.batch_size / len(self.tokens) * DOCUMENTS / len(self.tokens)
        config, vocab_size = self.model.config, self.training.vocab_size
        # Nine passes, 1,686 characters: both decays three times as fast 3.250, the first alone 3.221, neither 3.241.
        sizes = {"weight_decay": weights(config, vocab_size), "gram_decay": layers(config, vocab_size)}
        return adam.replace(
            **{
                name: a_pass * min(passes * max(sizes[name] / WEIGHTS, 1.0), MOST_PASSES)
                for name, a_pass in DECAYS.items()
                if getattr(self.settings, name) is None
            }
        )

    def evaluate(self) -> Evaluation:
        """The held-out loss now, noted in `evaluations`; raises `TapeGPTError` where nothing is held out."""
        from tapegpt.models.provenance import Evaluation

        if self._validation is None:
            raise TapeGPTError("no documents are held out: give validation, for instance 0.1")
        total, count = self.model.engine.evaluate(self._validation)
        evaluation = Evaluation(self.step, total / count if math.isfinite(total) else math.inf)
        former, best = self.best, self._best
        if former is None or evaluation.loss < former.loss:
            best = self.model.engine.snapshot()
        self.evaluations, self._best = [*self.evaluations, evaluation], best
        log("step %d: held-out loss %.4f", evaluation.step, evaluation.loss)
        return evaluation

    def chunks(self, stops: Sequence[int] = ()) -> Iterator[list[float]]:
        """Run to the end, giving the losses about every 50 ms, and after each of these steps, which rise.

        In a run of steps the cuts change no number; one of a time budget makes no extra stop.
        """
        pace = self._paced_by_time() if self.settings.budget is not None else self._paced_by_steps(stops)
        yield from pace
        self.finish()

    def finish(self) -> None:
        """End the run here: where documents are held out, take the best weights."""
        log("trained to step %d", self.step)
        if self._validation is not None:
            if not self.evaluations or self.evaluations[-1].step != self.step:
                self.evaluate()
            self._take_best()
            if self.model.counts and self.held_out and not self.model.engine.notice:  # interpreted it takes minutes
                self.model.calibrate_labels(self.held_out.documents)

    def baselines(self) -> dict[str, float]:
        """Losses of simple models on the held-out documents: uniform, unigram, bigram and 5-gram."""
        from tapegpt.data.ngrams import baselines

        if self.judged is None:
            raise TapeGPTError("no documents are held out: give validation, for instance 0.1")
        self._exclude_ngrams()
        return baselines(self.counted, self.judged, self.training.vocab_size)

    def rank(self) -> None:
        """Note how surprising the training strings are, in a budget some of them: see `GPT.rank`."""
        budget = self.settings.budget
        most = None if budget is None else len(sample_held_out(self.corpus, self.model.config, self.settings)) // 2
        self.model.rank(most)

    def _take_best(self) -> None:
        if self._best is not None and self.best is not None and self.best.step != self.step:
            if self._last is None:
                self._last = self.model.engine.snapshot()
            self.model.engine.restore(self._best)

    def _take_last(self) -> None:
        """Go on with the weights of the last step, if the best were taken."""
        if self._last is not None:
            self.model.engine.restore(self._last)
            self._last = None

    def _exhausted(self) -> bool:
        """Whether the last `patience` evaluations have all been no better than one before them."""
        patience, best = self.settings.patience, self.best
        return (
            patience is not None
            and best is not None
            and self.evaluations.index(best) + patience < len(self.evaluations)
        )

    def _paced_by_steps(self, stops: Sequence[int]) -> Iterator[list[float]]:
        every = self.evaluate_every or max(1, self.settings.steps // EVALUATIONS)
        waiting, stop = iter(stops), 0
        count = 1
        while True:
            if self._validation is not None and self._is_due(every):  # left over where the evaluation was interrupted
                self.evaluate()
            if self.is_over:
                return
            start = time.perf_counter()
            left = every - self.step % every if self._validation is not None else count
            while stop <= self.step:
                stop = next(waiting, self._steps)
            losses = self.run(min(count, left, stop - self.step))
            elapsed = max(time.perf_counter() - start, 1e-6)
            count = max(1, min(4 * len(losses), int(len(losses) * CHUNK_SECONDS / elapsed)))
            if self._validation is not None and self._is_due(every):
                self.evaluate()
            yield losses

    def _is_due(self, every: int) -> bool:
        """Whether an evaluation every so many steps is still to be made here."""
        last = self.evaluations[-1].step if self.evaluations else 0
        return self.step % every == 0 and last != self.step

    def _paced_by_time(self) -> Iterator[list[float]]:
        """The schedule follows the clock, or the steps that help; the last evaluation is within the budget too."""
        clock = self._clock
        clock.begin()
        if self._validation is not None:
            clock.measure_evaluation(lambda: self.model.engine.evaluate(self._validation) if self._validation else None)
        while not self.is_complete and not self._exhausted() and (count := clock.affordable()) > 0:
            start = time.perf_counter()
            losses = self.run(count)
            clock.took(len(losses), time.perf_counter() - start)
            if self._validation is not None and clock.evaluation_is_due():
                self.evaluate()
            yield losses


def _tokens(corpus: Corpus, config: Model, settings: Settings, rng: Random, windows: Tokens | None) -> Tokens:
    """The documents, or their windows, in random order: the first that is drawn with the seed."""
    if settings.engine != "fast":
        return corpus.tokens(rng.permutation(len(corpus))[: settings.steps])  # no step comes to any later document
    tokens = windows or corpus.windows(config.block_size, long=settings.long)
    return tokens.replace(order=rng.permutation(len(tokens)))


def watch(trainer: Trainer, chunks: Iterable[list[float]], callbacks: Sequence[Callback]) -> None:
    """Run to the end, or until a callback returns True; at last each is called once more, and closed if it can be."""
    _warn(trainer)
    try:
        for losses in chunks:
            stops = [callback(trainer, losses) is True for callback in callbacks]
            if any(stops):
                trainer.finish()
                break
        for callback in callbacks:
            callback(trainer, [])  # the last evaluation is new
    finally:
        _close(callbacks)


def _close(callbacks: Sequence[Callback]) -> None:
    """Close each that can be closed, though another one's close raises."""
    if callbacks:
        try:
            if close := getattr(callbacks[0], "close", None):
                close()
        finally:
            _close(callbacks[1:])


def _warn(trainer: Trainer) -> None:
    """Say what is lost of the documents, and what is hardly meant to be in them."""
    corpus, block = trainer.training, trainer.model.config.block_size
    starts = trainer.tokens.starts  # of the documents that a step comes to
    if trainer.settings.engine != "fast" and max(map(sub, starts[1:], starts)) > block:
        cut = [length for length in corpus.lengths() if length >= block]
        warn(
            f"{len(cut):,} of {len(corpus):,} documents are cut, block_size {block} does not hold them with their end: "
            f"choose one of up to {max(cut) + 1:,}, or the engine fast, which learns from all of them"
        )
    vocabulary = corpus.vocabulary
    if vocabulary.rule not in NAMED and max(map(len, vocabulary.tokens)) == 1:
        warn(
            f"by {argument('tokens')} {quote(vocabulary.rule)} every token is one character: choose from "
            f"{', '.join(NAMED)}, or a regular expression that matches several characters"
        )
    controls = [character for character in vocabulary.characters if breaks(character) and character != "\n"]
    if controls:
        warn(
            f"the documents have control characters, {quote(''.join(controls))}: look where with tapegpt doctor, and "
            "choose another encoding, or leave them out"
        )
