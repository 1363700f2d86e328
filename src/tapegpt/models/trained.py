"""A GPT that can generate and score: its shape, vocabulary, random state and the engine that holds its numbers.

Any number of threads may use one model at once. Not here: training (`trainer.py`), files (`checkpoint.py`), arithmetic
(the engines), constraints (`sampling.py`).
"""

from __future__ import annotations

import math
import time
from _thread import allocate_lock
from array import array

from tapegpt.data.labels import identity, labels_of, read_labels
from tapegpt.data.rng import Random
from tapegpt.data.tokens import ROOM
from tapegpt.errors import TapeGPTError, argument, check_names, either, warn
from tapegpt.inference.constraints import Constraints, Drawing, split_options
from tapegpt.inference.language_model import LanguageModel
from tapegpt.processes import renew_at_fork
from tapegpt.ranges import Instance, OneOf, Whole
from tapegpt.settings import ENGINES, SEED, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, Unpack

    from tapegpt.autograd.model import Model
    from tapegpt.data.labels import Combination, LabelCounts
    from tapegpt.data.neighbours import Neighbours
    from tapegpt.data.rng import State
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.engines.base import Engine, Parameters
    from tapegpt.files import Path
    from tapegpt.inference.classes import Classes
    from tapegpt.inference.constraints import GenerateOptions, StringOptions
    from tapegpt.inference.explanation import Explanation
    from tapegpt.inference.forward import Inference
    from tapegpt.inference.sampling import Estimate, Sampler
    from tapegpt.inference.scores import Calibration, Scores
    from tapegpt.models.provenance import DataRecord, TrainingState

    Shape = tuple[str, Model, int]  # of an engine: its name, the model's shape, the number of tokens

BATCH_SECONDS, MAX_BATCH = 0.02, 4096  # strings generated at a time, so that Ctrl-C is prompt
MODELS = Whole(1, 1000)  # of an ensemble


def make_engine(name: str, config: Model, vocab_size: int, batch_size: int = 1, threads: int = 1) -> Engine:
    """The engine of this name, its parameters zero; raises `TapeGPTError` for another name or too large a model.

    Batches and threads are the fast engine's.
    """
    OneOf(ENGINES).check("engine", name)
    config.num_parameters(vocab_size)
    if name != "fast" and (what := config.needs_fast(vocab_size)):
        raise TapeGPTError(f"{what} needs the engine fast, not {name}, which does what microgpt.py does")
    if name == "exact":
        from tapegpt.engines.exact import ExactEngine

        return ExactEngine(config, vocab_size)
    if name == "fast":
        from tapegpt.engines.fast.engine import FastEngine

        return FastEngine(config, vocab_size, batch_size, threads)
    from tapegpt.engines.reference import ReferenceEngine

    return ReferenceEngine(config, vocab_size)


def check_memory(shapes: Iterable[Shape]) -> None:
    """Raise `TapeGPTError` where engines of these shapes would need too much memory, alone or together."""
    from tapegpt.autograd.places import check_size
    from tapegpt.engines.graph import exact_graph, fast_graph

    size = 0
    for name, config, vocab_size in shapes:
        tape = (fast_graph if name == "fast" else exact_graph)(config, vocab_size).tape
        size += tape.real.size * sum(tape.plan().as_dict().values())
    check_size(size)


def initialise(
    engine: Engine,
    config: Model,
    vocab_size: int,
    rng: Random,
    deviation: float = Settings.init_std,
    fixed: Parameters | None = None,
) -> None:
    """Draw all parameters from a normal distribution around 0, row by row, in the order of the recording.

    But for those that say where they start; n-gram embeddings start at zero: an n-gram counts once it has been seen.
    `fixed` are numbers of fixed parameters.
    """
    every = config.parameters(vocab_size)
    numbers, taken = rng.gauss_array(sum(each.size for each in every if each.start is None), 0.0, deviation), 0
    parameters = {}
    for each in every:
        if each.start is None:
            parameters[each.name] = numbers[taken : taken + each.size]
            taken += each.size
        else:
            parameters[each.name] = array("d", [each.start]) * each.size
    engine.load_parameters({**parameters, **(fixed or {})})


def _made(
    config: Model,
    vocabulary: Vocabulary,
    rng: Random,
    name: str,
    sizes: tuple[int, int],
    parameters: Parameters,
    steps: int,
) -> GPT:
    engine = make_engine(name, config, vocabulary.size, *sizes)
    engine.load_parameters(parameters)
    return GPT(config, vocabulary, rng, engine, steps)


def _index_of(strings: object) -> Any:
    """That of a Series of pandas; a list has a method of this name."""
    index = getattr(strings, "index", None)
    return None if callable(index) else index


class GPT(LanguageModel):
    """A model: `generate` makes strings, `score` judges them.

    Any number of threads may generate, score, explain and read `parameters` at once, also while a `Trainer` trains it
    in one of them: each call finds the parameters of a whole number of steps. Strings without a seed depend on whose
    turn it is then. Only the thread that trains may save a model or set its attributes meanwhile.

    Other processes may have it too, forked or sent a pickle: each has its own parameters, and its generator continues
    from the same state as Python's own does, so give each process a seed. A pickle holds what a file does.
    """

    models: Sequence[GPT] = ()  # those of an ensemble

    def __init__(
        self, config: Model, vocabulary: Vocabulary, rng: Random, engine: Engine, steps: int | None = None
    ) -> None:
        if (engine.vocab_size, engine.config) != (vocabulary.size, config):
            raise TapeGPTError(
                f"the engine is made for {engine.vocab_size} tokens and {engine.config}, not for {vocabulary.size} and "
                f"{config}: give the model an engine of its own"
            )
        self.config = config
        self.vocabulary = vocabulary
        self.rng = rng
        self.engine = engine
        if steps is not None:
            self.steps = steps
        self.data: DataRecord | None = None  # what it was trained on
        self.documents: Sequence[str] | None = None  # the training strings, where they are known
        self.state: TrainingState | None = None  # of its training, to resume
        self.counts: LabelCounts | None = None  # of labels in the training data, where there are some
        self.losses = array("d")  # of the steps that were taken here, in nats per token; 8 bytes each
        self.ranks: Sequence[float] = ()  # how surprising training strings are, see `rank`
        self._lock = renew_at_fork(allocate_lock())
        self._ranked = -1  # revision of the parameters that the ranks are of
        self._inference: tuple[int, Inference] | None = None
        self._neighbours: tuple[Sequence[str], Neighbours] | None = None

    def __reduce__(self) -> tuple[Callable[..., GPT], tuple[object, ...], dict[str, Any]]:
        """For another process: what a file of the model holds, so no training strings; its code is made there."""
        engine = self.engine
        sizes = (getattr(engine, "batch_size", 1), getattr(engine, "threads", 1))
        state = {"data": self.data, "state": self.state, "ranks": self.ranks, "counts": self.counts}
        return _made, (self.config, self.vocabulary, self.rng, engine.name, sizes, self.parameters, self.steps), state

    def __deepcopy__(self, memo: dict[int, Any]) -> GPT:
        """A model of its own; unlike a pickle it has the training strings."""
        from copy import deepcopy

        make, arguments, state = self.__reduce__()
        copied: GPT = make(*deepcopy(arguments, memo))
        copied.__dict__.update(deepcopy(state, memo), documents=self.documents)
        return copied

    def __copy__(self) -> GPT:
        return self.__deepcopy__({})

    @property
    def fingerprint(self) -> str:
        """What it is, whatever it is called: SHA-256 of its kind, settings, tokens, engine and parameters, in hex.

        Copies, files and other processes have the same; training changes it. Not in it: the random state, what is known
        of the training, the code of a model of your own. A model itself equals no other and is hashed as an object.
        """
        from tapegpt.models.writing import fingerprint

        return fingerprint(self)

    @property
    def steps(self) -> int:
        """Steps taken in training."""
        return self.engine.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.engine.steps = steps

    @property
    def inference(self) -> Inference:
        """The forward pass in f32 with the parameters as they are now."""
        from tapegpt.inference.forward import Inference

        made = self._inference
        revision = self.engine.revision  # before the parameters: they may be newer than it says, never older
        if made is None or made[0] != revision:
            made = self._inference = (revision, Inference(self.config, self.vocab_size, self.engine.parameters()))
        return made[1]

    # --- generation ---------------------------------------------------------------------------------------------

    def generate(self, n: int = 20, *, seed: int | None = None, **options: Unpack[GenerateOptions]) -> list[str]:
        """n generated strings of at most block_size or `max_length` tokens; fewer where there are no more.

        Options are the fields of `Constraints` (prefix, suffix, pattern, min_length, max_length, avoid, novel,
        distinct, unbiased) and of `Drawing` (temperature, top_k, top_p, min_p). Without a seed the model's own
        generator is used; with one the strings are the same each time, and the model's generator stays as it is. Where
        constraints or a narrowed choice are given, and with the engine fast, numbers are f32, whose sums are grouped by
        the CPU's vector width: on another kind of CPU about one string in 50,000 differs.

        Warns (`TapeGPTWarning`) where fewer than n strings meet the constraints, or unbiased sampling was given up.

        Raises `TapeGPTError` for a negative n, options that cannot be met, or a seed that is no whole number.
        """
        Whole(0).check("n", n)  # without end is for `stream`
        return list(self.stream(n, seed=seed, **options))

    def stream(
        self, n: int | None = None, *, seed: int | None = None, **options: Unpack[GenerateOptions]
    ) -> Iterator[str]:
        """Generate strings a few at a time, n or without end; otherwise as `generate`."""
        return self.draw(n, *split_options(options), seed=seed)

    def draw(
        self,
        n: int | None,
        constraints: Constraints,
        drawing: Drawing,
        *,
        seed: int | None = None,
        note: Callable[[str], object] = warn,
        inference: Inference | None = None,
    ) -> Iterator[str]:
        """The strings of `stream`, by constraints and drawing as records; `note` gets what it would warn of.

        Without constraints the engine draws them by itself. With some it is a `Sampler`, which needs an `Inference`: by
        default the model's. Raises `TapeGPTError` before the first string.
        """
        if n is not None:
            Whole(0).check("n", n)
        if seed is not None:
            SEED.check("seed", seed)
        block = self.config.block_size
        if drawing.truncates or self.vocabulary.labels or not constraints.only_cut(block):
            return self.sampler(constraints, drawing, seed, note, inference).strings(n)
        rng = self.rng if seed is None else Random(seed)
        length = constraints.lengths(block, self.vocabulary)[1]
        return self._strings(math.inf if n is None else n, float(drawing.temperature), length, rng)

    def sampler(
        self,
        constraints: Constraints,
        drawing: Drawing,
        seed: int | None = None,
        note: Callable[[str], object] = warn,
        inference: Inference | None = None,
    ) -> Sampler:
        """What draws strings within constraints, with a generator of its own, so that threads do not share one."""
        from tapegpt.inference.sampling import Sampler

        if seed is None:
            with self._lock:
                seed = self.rng.getrandbits(64)
        known = None if constraints.distance is None else self.neighbours
        return Sampler(inference or self.inference, self.vocabulary, constraints, drawing, known, Random(seed), note)

    @property
    def random_state(self) -> State:
        """The state of its generator, between two strings."""
        with self._lock:
            return self.rng.getstate()

    def _strings(self, n: float, temperature: float, max_length: int, rng: Random) -> Iterator[str]:
        count, most = 1, max(min(MAX_BATCH, ROOM // max_length), 1)
        while n > 0:
            start = time.perf_counter()
            with self._lock:  # the generator may be the model's
                batch = self.engine.generate(rng, int(min(n, count)), temperature, max_length)
            n -= len(batch)
            if time.perf_counter() - start < BATCH_SECONDS:
                count = min(2 * count, most)
            yield from self.vocabulary.texts(batch)

    def estimate_probability(
        self, *, draws: int | None = None, seed: int = 0, **options: Unpack[GenerateOptions]
    ) -> Estimate:
        """That a string meets constraints if the model is left to itself, by default at temperature 1.

        An estimate with its standard error, good for probabilities far below 1 / draws too; 20,000 are drawn, or 1,000
        if each has to be compared with all training strings. Takes the options of `generate` but those that narrow the
        choice by probability, for which it raises `TapeGPTError`.
        """
        constraints, drawing = split_options({"temperature": 1.0, **options})
        if draws is None:
            draws = 1000 if constraints.distance else 20_000
        Whole(2).check("draws", draws)
        SEED.check("seed", seed)
        return self.sampler(constraints.replace(distinct=False), drawing, seed).probability(draws)

    def next_probabilities(self, prefix: str = "", *, temperature: float = 1.0) -> dict[str, float]:
        """The probability of each next token after a prefix, and under "" that the string ends; falling.

        Raises `TapeGPTError` for a prefix with tokens that the model does not know.
        """
        Drawing(temperature=temperature)
        logs = self.inference.next_logs([self.vocabulary.encode(prefix, "prefix")])[0]
        largest = max(logs)
        weights = [math.exp((log - largest) / temperature) if temperature else float(log == largest) for log in logs]
        total = math.fsum(weights)
        pairs = zip(self.vocabulary.names, weights, strict=True)
        return {token: weight / total for token, weight in sorted(pairs, key=lambda pair: -pair[1])}

    def names_for(
        self,
        keys: Iterable[str],
        *,
        secret: str | bytes,
        unique: bool = True,
        labels: Any = None,
        **options: Unpack[StringOptions],
    ) -> list[str]:
        """A pseudonym for each key, never an empty one: the same for the same model, secret, options and keys.

        Who has the model and the names, but not the secret of at least 16 bytes, cannot tell whose they are. Names are
        no training strings, unless `novel` is False, and of one key each, unless `unique` is: then a name depends on
        its key alone, else on which other keys there are, but not on their order or number. `labels` of keys, as
        `score` takes them, are those of their names, which depend on them; a missing one is any. All CPUs give the same
        names. Other options are those of `generate`, but `distinct` and `unbiased`; the temperature is 1 by default.

        Raises `TapeGPTError` for a secret that is too short, where the training strings are not known, and where the
        model has too few names.
        """
        from functools import cache

        from tapegpt.data.strings import strings_of
        from tapegpt.inference.certain import Certain
        from tapegpt.inference.pseudonyms import names, read_secret

        Instance(bool).check("unique", unique)
        check_names("names_for", options, {**Constraints.fields, **Drawing.fields}.keys() - {"distinct", "unbiased"})
        constraints, drawing = split_options(
            {"temperature": 1.0, "novel": True, **options, "distinct": False, "unbiased": False}
        )
        if constraints.distance is not None:
            try:
                self.training_documents()
            except TapeGPTError as error:
                raise TapeGPTError(f"{error}, or choose {argument('novel', False)}") from None
        key, given = read_secret(secret), strings_of(keys, "keys")
        if labels is not None:
            given = self.vocabulary.label(given, read_labels(labels, len(given)))  # type: ignore[assignment]  # none is None
        certain, columns = Certain(self.inference, self.models or [self]), self.vocabulary.columns
        default = self.vocabulary.combination(constraints.label)

        @cache
        def samplers(own: Combination) -> Sampler:
            pairs = zip(columns, own or default, default, strict=True)
            known = {name: value or other for name, value, other in pairs if value or other}
            return self.sampler(constraints.replace(label=known), drawing, seed=0, inference=certain)

        named = names(samplers, map(identity, given), key, unique=unique)
        return [named[identity(key)] for key in given]

    # --- judgement ----------------------------------------------------------------------------------------------

    def score(self, strings: Iterable[str | None], labels: Any = None) -> Scores:
        """How surprising strings are to the model; raises `TapeGPTError` for anything but several strings.

        Percentiles compare with the training strings, where these are known (`rank`). Missing values, None, NaN and
        the nulls of columns, have missing scores; the index of a pandas Series is that of its scores.

        Of a model with labels P(string | labels): of those that are given, as `Corpus.of` takes them, or that strings
        of `generate` have. What is not given, or missing, is summed over, by how often labels come in the training
        data; percentiles are of strings given all their labels.
        """
        from tapegpt.data.strings import values_of
        from tapegpt.inference.scores import Scores

        self.rank()
        values, index = values_of(strings, "strings"), _index_of(strings)
        if labels is not None:
            values = self.vocabulary.label(values, read_labels(labels, len(values)))
        given = all(len(labels_of(text)) and None not in labels_of(text) for text in values if text is not None)
        ranks = self.ranks if given or not self.vocabulary.labels else ()
        return Scores(self.inference, self.vocabulary, values, ranks, index, self.counts)

    def classify(self, strings: Iterable[str | None], *, by: str | None = None, label: Any = None) -> Classes:
        """Which labels strings probably have, of a model with labels: P(labels | string) by Bayes' rule.

        With several columns of labels their combinations, or `by` one column its values; `label` is what is known of
        the others, as `generate` takes it. Before a string is read, labels are as probable as they come in the training
        data. Probabilities are calibrated where the training held strings out. Missing values have none. Raises
        `TapeGPTError` for a model without labels, and anything but strings.
        """
        from tapegpt.data.strings import values_of
        from tapegpt.inference.classes import Classes

        if self.counts is None:
            raise TapeGPTError(f"the model has no labels to choose from: train one with {argument('labels')}")
        given = self.vocabulary.combination(label)
        values, index = values_of(strings, "strings"), _index_of(strings)
        return Classes(self.inference, self.vocabulary, self.counts, values, by=by, given=given, index=index)

    def explain(self, text: str) -> Explanation:
        """How the model reads a text: what it expects at each position, where it looks, how the loss goes back.

        Raises `TapeGPTError` for anything but a str, and for what the model does not know.
        """
        from tapegpt.inference.explanation import explain

        return explain(self, text)

    def calibrate(self, strings: Iterable[str]) -> Calibration:
        """What alarms are to be measured by: the scores of strings that are known to be good, not trained on."""
        from tapegpt.inference.scores import Calibration

        return Calibration([nats for nats in self.score(strings).nats if nats == nats])  # but those of missing values

    def calibrate_labels(self, strings: Iterable[str], labels: Any = None) -> float:
        """Fit how sure `classify` is, on strings with all their labels that were not trained on; the temperature.

        Labels are given as `score` takes them. Raises `TapeGPTError` for a model without labels.
        """
        from tapegpt.data.strings import strings_of
        from tapegpt.inference.classes import temperature

        if self.counts is None:
            raise TapeGPTError("the model has no labels to be sure of: leave them out")
        given = strings_of(strings, "strings")
        if labels is not None:
            given = self.vocabulary.label(given, read_labels(labels, len(given)))  # type: ignore[assignment]  # none is None
        if not any(labels_of(text) and None not in labels_of(text) for text in given):
            raise TapeGPTError("no string has all its labels, so that none is calibrated on: give strings with labels")
        fitted = temperature(self.inference, self.vocabulary, self.counts, given)
        self.counts = self.counts.replace(temperature=fitted)
        return fitted

    def rank(self, most: int | None = None) -> None:
        """Note how surprising the training strings are, where they are known and it has not been done.

        As many as there is `most` time for, evenly spaced, stand for all.
        """
        revision = self.engine.revision
        if self.documents and (not self.ranks or self._ranked != revision):
            from tapegpt.inference.scores import SAMPLE, quantiles

            most = max(min(most or SAMPLE, SAMPLE), 1)
            ranks = quantiles(self.inference, self.vocabulary, self.documents, most, self.counts)
            with self._lock:
                self.ranks, self._ranked = ranks, revision

    @property
    def neighbours(self) -> Neighbours:
        """The training strings, to look up what is like them.

        Raises `TapeGPTError` where they are not known, and no longer where they were read from.
        """
        from tapegpt.data.neighbours import Neighbours

        documents = self.training_documents()
        if self._neighbours is None or self._neighbours[0] is not documents:
            self._neighbours = (documents, Neighbours(documents))
        return self._neighbours[1]

    def read_training_data(self, *paths: Path) -> None:
        """Give a loaded model its training strings, from files that are read as they were for training.

        `novel`, percentiles, `evaluate`, `attribute` and `report` need them. A model that was trained by this process
        has them, and one whose files are where they were reads them by itself; strings from elsewhere are set as its
        `documents`. Raises `TapeGPTError` for what cannot be read.
        """
        from tapegpt.data.corpus import Corpus
        from tapegpt.data.sources import Source
        from tapegpt.files import path_text

        names = list(map(path_text, paths))
        source = self.data.source_of(*names) if self.data else Source(paths=tuple(names))
        self.documents = Corpus.from_source(source).documents

    def training_documents(self) -> Sequence[str]:
        """The training strings, read again from where they came if need be; raises `TapeGPTError` if that cannot be."""
        if self.documents is None:
            if self.data is None:
                raise TapeGPTError(
                    "the model does not know what it was trained on: give its training data by "
                    f"{either('read_training_data', '--training-data')}"
                )
            self.documents = self.data.read().documents
        return self.documents

    def learned_documents(self) -> Sequence[str]:
        """Those of the training strings that gradients were taken of: not what was held out; raises as above."""
        documents, settings = self.training_documents(), self.state.settings if self.state else None
        if settings is None or not settings.validation:
            return documents
        from tapegpt.data.corpus import Corpus
        from tapegpt.data.holdout import hold_out

        return hold_out(Corpus(list(documents), self.vocabulary), settings.validation, settings.seed)[0].documents

    def save(self, path: Path, *, weights_only: bool = False) -> None:
        """Write it to a file, as `tapegpt.save` does."""
        from tapegpt.models.writing import save

        save(self, path, weights_only=weights_only)

    def plot_losses(self, axes: Any = None) -> Any:
        """Draw `losses` and held-out ones with matplotlib; the axes, new unless some are given.

        Takes the extra `notebook`. Raises `TapeGPTError` where matplotlib is not installed, and where there is no loss.
        """
        from tapegpt.models.curves import plot

        if not self.losses:
            raise TapeGPTError("there is no loss to plot: a file keeps none, train or resume the model here")
        evaluations = self.state.evaluations if self.state else ()
        return plot(self.losses, self.steps - len(self.losses), evaluations, axes)

    def __repr__(self) -> str:
        settings = " ".join(f"{name}={value}" for name, value in self.config.in_use().items())
        return (
            f"<{type(self.config).__name__} of {self.num_parameters:,} parameters: {settings}, "
            f"{self.vocab_size} tokens, {self.steps} steps>"
        )

    def _repr_html_(self) -> str:
        from html import escape

        shape = {**self.config.in_use(), "parameters": f"{self.num_parameters:,}", "steps": f"{self.steps:,}"}
        cells = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in shape.items())
        says = ", ".join(f"<bdi>{escape(text)}</bdi>" for text in self.generate(8, seed=0))
        return f"<table>{cells}</table><p>{says}</p>"
