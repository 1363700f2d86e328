"""Which training documents taught a model a string: the influence of each on the string's loss.

A step of training on a document moves each parameter against the document's gradient, in Adam's manner divided by about
the root mean square of that parameter's gradients. To first order this takes from the loss of a string the product of
the step and the string's gradient. What came early in training is mostly overwritten, so that a document counts by the
share of the training that had gone by. docs/why.md shows how well this predicts what `verify` finds: how the loss
changes where documents are left out and the model is trained again. Not here: what a training went through
(`recording.py`).
Source: Pruthi et al., Estimating Training Data Influence by Tracing Gradient Descent, 2020.
"""

from __future__ import annotations

import math
from array import array
from itertools import chain, pairwise, repeat
from time import perf_counter

from tapegpt.analysis.influence import Rater
from tapegpt.data.corpus import Corpus
from tapegpt.data.rng import Random
from tapegpt.data.vocabulary import listed
from tapegpt.data.windows import tilings
from tapegpt.errors import TapeGPTError, quote
from tapegpt.inference.language_model import MODEL
from tapegpt.ranges import Instance, Whole
from tapegpt.record import Record
from tapegpt.settings import Settings
from tapegpt.training.recording import Recording
from tapegpt.training.trainer import Trainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tapegpt.data.tokens import Tokens
    from tapegpt.machine.language import Operand, Value
    from tapegpt.models.trained import GPT

    Use = Callable[[Operand, Value], None]

TOP = 10
DRAWS = 20  # of documents at random, to compare with
MANY = 10.0  # seconds


class Influence(Record):
    """What a document did to a string; equal documents count as one."""

    document: str
    number: int  # of the first of them in the corpus
    influence: float  # on the string's loss, in root mean squares of all that were compared; above 0 it lowered it
    steps: tuple[int, ...]  # in which it was trained on, from 1 on


class Attribution(Record):
    """Which documents taught a model a string."""

    text: str  # what was looked at, cut to the block
    loss: float  # its own, in nats per token
    documents: int  # distinct ones that were compared
    seen: bool  # whether these are the ones that the model was trained on, rather than all
    taught: list[Influence]  # those that took most from the loss, falling
    hindered: list[Influence]  # those that added most to it


class Verification(Record):
    """How a string's loss changes, in nats per token, where documents are left out and the model is trained again."""

    count: int  # documents left out
    taught: float  # without those that taught it
    random: list[float]  # without as many at random, of each draw

    @property
    def mean(self) -> float:
        """Of the random draws."""
        return math.fsum(self.random) / len(self.random)

    @property
    def deviation(self) -> float:
        """The standard deviation of the random draws."""
        mean = self.mean
        return math.sqrt(math.fsum((change - mean) ** 2 for change in self.random) / (len(self.random) - 1))


def attribute(
    model: GPT,
    text: str,
    recording: Recording | None = None,
    top: int = TOP,
    *,
    unseen: bool = False,
    watch: Callable[[float], object] | None = None,
) -> Attribution:
    """The documents that taught a model a string most, and those that hindered it, at most `top` each.

    They are chosen from those that the model was trained on, by what is left of it. With `unseen`, or where nothing is
    known of the training, all documents are compared, by what a step on them would do now. A recording of the model
    tells of its training where the model itself does not. `watch` is told the seconds that it takes, if many.
    Raises `TapeGPTError` for a text that is empty or has unknown characters, and where the documents are not known or
    have changed.
    """
    MODEL.check("model", model)
    Whole(1).check("top", top)
    query, parameters, lessons = encoded(model, text), model.parameters, Lessons(model, recording)
    seen = lessons.known and not unseen
    windows = lessons.order[: lessons.visits] if seen else lessons.order
    rater = Rater(model.config, model.vocab_size, parameters)
    _announce(watch, rater.seconds(lessons.tokens, windows))
    loss, products = rater.rate(query, lessons.tokens, windows)
    strengths = lessons.strengths(windows, products, seen)
    scale = math.hypot(*strengths.values()) / math.sqrt(len(strengths))
    if not 0.0 < scale < math.inf:
        raise TapeGPTError("the model's numbers overflow on its documents: train it again at a smaller learning rate")
    ranked = sorted(strengths, key=strengths.__getitem__, reverse=True)
    taught = [document for document in ranked[:top] if strengths[document] > 0]
    hindered = [document for document in ranked[: -top - 1 : -1] if strengths[document] < 0]
    steps = lessons.steps({*taught, *hindered})

    def influences(documents: list[str]) -> list[Influence]:
        numbers = map(lessons.documents.index, documents)
        return [
            Influence(text, number, strengths[text] / scale, steps[text])
            for text, number in zip(documents, numbers, strict=True)
        ]

    shortened = model.vocabulary.clip(text, model.config.block_size)
    return Attribution(shortened, loss, len(strengths), seen, influences(taught), influences(hindered))


def verify(
    model: GPT,
    attribution: Attribution,
    recording: Recording | None = None,
    draws: int = DRAWS,
    *,
    watch: Callable[[float], object] | None = None,
) -> Verification:
    """Train again without the documents that taught a string, and without as many that are drawn at random.

    The others keep their order, and the parameters start as they did. `watch` is told the seconds that it takes, if
    many. Raises `TapeGPTError` for fewer than two draws, and where the training cannot be repeated.
    """
    MODEL.check("model", model)
    Instance(Attribution).check("attribution", attribution)
    Whole(2).check("draws", draws)
    lessons = Lessons(model, recording)
    if not attribution.seen:
        raise TapeGPTError("leaving out documents that were not trained on changes nothing: attribute without unseen")
    count = len(attribution.taught)
    if not 0 < 2 * count <= attribution.documents:
        raise TapeGPTError(
            f"{count} of {attribution.documents} documents cannot be left out and compared with others: choose a "
            "smaller top, or another text"
        )
    query, retraining = encoded(model, attribution.text), Retraining(model, lessons)

    def loss_without(documents: Collection[str]) -> float:
        retraining.run_without(documents)
        return retraining.loss(query)

    started = perf_counter()
    known = loss_without(())
    _announce(watch, (draws + 1) * (perf_counter() - started))
    if retraining.model.parameters != model.parameters:
        raise TapeGPTError("the training cannot be repeated: other weights come out")
    taught = loss_without({influence.document for influence in attribution.taught}) - known
    seen = list(dict.fromkeys(map(lessons.document, lessons.order[: lessons.visits])))
    rng = Random(0)
    others = [loss_without(set(rng.sample(seen, count))) - known for _ in range(draws)]
    return Verification(count, taught, others)


def _announce(watch: Callable[[float], object] | None, seconds: float) -> None:
    if watch is not None and seconds > MANY:
        watch(seconds)


def encoded(model: GPT, text: str) -> Tokens:
    """A string's tokens, cut to the block; raises `TapeGPTError` where it is empty or has unknown characters."""
    if not isinstance(text, str) or not text:
        raise TapeGPTError(f"text must be a str of at least one character, not {quote(text)}")
    model.vocabulary.encode(text)  # which knows all of it, or says so
    tokens = Corpus([text], model.vocabulary).windows(model.config.block_size)
    return tokens.replace(starts=tokens.starts[:2])


class Lessons:
    """A model's documents as windows of at most a block, and when each was trained on, where that is known."""

    def __init__(self, model: GPT, recording: Recording | None) -> None:
        if recording is not None:
            Instance(Recording).check("recording", recording)
        settings, steps = _training(model, recording)
        self.known = settings is not None
        self.settings = settings or Settings(engine=model.engine.name)
        corpus = _corpus(model)
        if self.settings.validation:
            from tapegpt.data.holdout import hold_out

            corpus, _ = hold_out(corpus, self.settings.validation, self.settings.seed)
        block, long = model.config.block_size, self.settings.long
        self.corpus, self.documents = corpus, corpus.documents
        self.tokens = corpus.windows(block, long=long)
        counts = [sum(map(len, tilings(length + 1, block, long))) for length in corpus.lengths()]
        self._lengths = [1] * len(self.tokens)
        if self.settings.engine == "fast":  # whose steps are means over positions
            self._lengths = [min(end - start, block) for start, end in pairwise(self.tokens.starts)]
        self._owners = array("I", chain.from_iterable(map(repeat, range(len(counts)), counts)))
        self.order = Random(self.settings.seed).permutation(len(self.tokens))
        self.visits = steps * self.settings.batch_size  # of windows, in this order, again and again

    def document(self, window: int) -> str:
        """The document of a window."""
        return self.documents[self._owners[window]]

    def strengths(self, windows: array[int], products: array[float], seen: bool) -> dict[str, float]:
        """The sum of each document's products, by what is left of them where they are what was trained on, in order."""
        found: dict[str, float] = {}
        for position, (window, product) in enumerate(zip(windows, products, strict=True)):
            document = self.document(window)
            strength = product * self._lengths[window] * (self._left(position) if seen else 1.0)
            found[document] = found.get(document, 0.0) + strength
        return found

    def _left(self, position: int) -> float:
        """What is left of a window at this position of the order: the shares of the training gone by at each visit."""
        visits = range(position, self.visits, len(self.order))
        return len(visits) * (visits[0] + visits[-1] + 2) / (2 * self.visits)

    def steps(self, documents: Collection[str]) -> dict[str, tuple[int, ...]]:
        """The steps, from 1 on, in which each of some documents was trained on."""
        found: dict[str, set[int]] = {document: set() for document in documents}
        for position, window in enumerate(self.order[: self.visits]):
            steps = found.get(self.document(window))
            if steps is not None:
                visits = range(position, self.visits, len(self.order))
                steps.update(visit // self.settings.batch_size + 1 for visit in visits)
        return {document: tuple(sorted(steps)) for document, steps in found.items()}


def _training(model: GPT, recording: Recording | None) -> tuple[Settings | None, int]:
    """How a model was trained, None where that is not known, and the steps up to its weights: the best ones."""
    if recording is not None and recording.losses:
        settings, evaluations, steps = recording.settings, recording.evaluations, recording.moments[-1].step
    elif model.state is not None:
        settings, evaluations, steps = model.state.settings, model.state.evaluations, model.steps
    else:
        return None, 0
    best = min(evaluations, key=lambda evaluation: evaluation.loss, default=None)
    return settings, steps if best is None else best.step


def _corpus(model: GPT) -> Corpus:
    """A model's documents, in its vocabulary; raises `TapeGPTError` where they are not known, or have changed."""
    corpus = Corpus(list(model.training_documents()), model.vocabulary)
    if model.data is not None:
        model.data.check_equals(corpus, "the data")
    vocabulary = model.vocabulary
    unknown = vocabulary.unknown(vocabulary.split_all(corpus.documents))
    if unknown:
        raise TapeGPTError(
            f"the model does not know the data's {vocabulary.unit}s {listed(unknown)}: give what it was trained on"
        )
    return corpus


class Retraining(Trainer):
    """A training done again, each time without some of its documents."""

    def __init__(self, model: GPT, lessons: Lessons) -> None:
        if lessons.settings.budget is not None:
            raise TapeGPTError("the training cannot be repeated: it followed the clock; give steps instead of a budget")
        engine = "fast" if lessons.settings.engine == "fast" else "exact"  # which has the reference's bits
        settings = lessons.settings.replace(engine=engine, validation=0.0, patience=None)
        super().__init__(lessons.corpus, model.config, settings)
        self._lessons, self._start = lessons, self.model.parameters

    def run_without(self, left_out: Collection[str]) -> None:
        """Train from the start without these documents; the others keep their order."""
        lessons = self._lessons
        order = [window for window in lessons.order if lessons.document(window) not in left_out]
        if self.settings.engine == "fast":
            self.tokens = lessons.tokens.replace(order=array("I", order))
        else:
            self.tokens = lessons.corpus.tokens(order[: lessons.settings.steps])
        self.model.engine.load_parameters(self._start)
        self.model.steps = 0
        self.run(lessons.visits // lessons.settings.batch_size)

    def loss(self, query: Tokens) -> float:
        """A string's loss after the last training, in nats per token."""
        total, count = self.model.engine.evaluate(query)
        return total / count
