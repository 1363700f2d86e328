"""How good a model is, with data beside it: its loss, what it has memorised, how its strings are distributed.

Each figure stands beside what it is to be compared with: n-gram models, real strings that are new, chance. Not here:
how it is printed (`cli/eval.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from operator import mul

from tapegpt.data.corpus import CORPUS, Corpus
from tapegpt.data.holdout import hold_out
from tapegpt.data.neighbours import Neighbours
from tapegpt.data.rng import Random
from tapegpt.errors import TapeGPTError
from tapegpt.inference.language_model import MODEL
from tapegpt.ranges import Whole
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tapegpt.models.trained import GPT

SAMPLES = 1000  # strings that are generated
PAIRS = 50_000_000  # comparisons of generated strings, and again of new ones, with training strings: 2 seconds each
EXAMPLES = 8  # of generated strings and their nearest ones
HALF = 0.5  # of the data that baselines learn from, where the training data are not known


class Loss(Record):
    """Of some strings, those that the model knows all tokens of."""

    strings: int
    unknown: int  # strings with tokens that the model does not know, which are left out
    loss: float | None  # nats per token; None where no string is left


class Baselines(Record):
    """Losses on the same strings, in nats per token: of the "model", and of models that count."""

    learned_from: str  # by the models that count: "training data", or "half of the data"
    strings: int
    losses: dict[str, float]


class Example(Record):
    """A generated string that is in the training data nowhere, and the one most like it there."""

    text: str
    nearest: str
    distance: int  # insertions, deletions and replacements


class Memory(Record):
    """What generated strings have to do with the training data."""

    samples: int
    temperature: float
    copies: int  # samples that are training strings
    repeated: int  # samples that have come before
    distances: dict[int, int]  # how many samples are how many edits from the nearest training string
    real: dict[int, int] | None  # the same of the data's strings that are not in the training data
    examples: list[Example]


class Distribution(Record):
    """Shares of the data and of generated strings; half the sum of their differences, and what chance makes of it."""

    data: dict[str, float]
    generated: dict[str, float]
    distance: float
    chance: float  # distance of as many strings drawn from the data


class EvaluationReport(Record):
    """All of it."""

    strings: int
    distinct: int
    training: int | None  # strings trained on, where they are known
    reason: TapeGPTError | None  # why they are not
    losses: dict[str, Loss]  # of "new" strings, each once, and those "trained on"; of "all" where that is not known
    comparison: Baselines | None  # None where there is nothing to compare, or no machine code for it
    memory: Memory  # where the training data are not known, with the data in their place
    lengths: Distribution
    characters: Distribution


def evaluate(
    model: GPT, corpus: Corpus, *, samples: int = SAMPLES, temperature: float = 1.0, seed: int = 0
) -> EvaluationReport:
    """Compare a model with data, strings that it was not trained on or that it was: they are told apart.

    What it was trained on is `model.documents`, or is read again from where it came, without what its training held
    out. The same seed gives the same report. Raises `TapeGPTError` for settings out of range.
    """
    MODEL.check("model", model)
    CORPUS.check("corpus", corpus)
    Whole(1).check("samples", samples)
    generated = model.generate(samples, temperature=temperature, seed=seed)
    training, reason = _trained_on(model)
    learned = set(training or ())
    groups = {"all": corpus.documents}
    if training is not None:
        groups = {
            "new": list(dict.fromkeys(text for text in corpus.documents if text not in learned)),
            "trained on": [text for text in corpus.documents if text in learned],
        }
    drawn = Random(seed).choices(corpus.documents, k=samples)
    return EvaluationReport(
        strings=len(corpus),
        distinct=len(set(corpus.documents)),
        training=None if training is None else len(training),
        reason=reason,
        losses={name: _loss(model, texts) for name, texts in groups.items()},
        comparison=_comparison(model, groups, training),
        memory=_memory(generated, training or corpus.documents, groups.get("new"), temperature),
        lengths=_distribution(*[[str(len(text)) for text in texts] for texts in (corpus.documents, generated, drawn)]),
        characters=_distribution(*map("".join, (corpus.documents, generated, drawn))),
    )


def _trained_on(model: GPT) -> tuple[Sequence[str] | None, TapeGPTError | None]:
    """The strings that gradients were taken of; or why they are not known."""
    try:
        return model.learned_documents(), None
    except TapeGPTError as error:
        return None, error


# --- loss -------------------------------------------------------------------------------------------------------


def _known(model: GPT, texts: Iterable[str]) -> Corpus:
    """The strings of which the model knows all tokens; their labels are not among what is to be predicted."""
    known, split = set(model.vocabulary), model.vocabulary.split
    return Corpus([text for text in texts if known.issuperset(split(text))], model.vocabulary.replace(labels=()))


def _loss(model: GPT, texts: Sequence[str]) -> Loss:
    known = _known(model, texts)
    return Loss(len(known), len(texts) - len(known), _nats_a_token(model, known) if len(known) else None)


def _nats_a_token(model: GPT, corpus: Corpus) -> float:
    counts = [length + 1 for length in corpus.lengths()]
    return math.fsum(map(mul, model.score(corpus.documents).nats, counts)) / sum(counts)


def _comparison(model: GPT, groups: dict[str, list[str]], training: Sequence[str] | None) -> Baselines | None:
    """With models that have counted the training data, or where these are not known half of the data."""
    from tapegpt.data.ngrams import baselines, kernels

    if training is not None:
        learned, judged, name = _known(model, training), _known(model, groups["new"]), "training data"
    else:
        learned, judged, name = _known(model, groups["all"]), _known(model, ()), "half of the data"
        if len(set(learned.documents)) > 1:
            learned, judged = hold_out(learned, HALF, 0)
    if not len(learned) or not len(judged) or kernels().notice:
        return None
    losses = {"model": _nats_a_token(model, judged), **baselines(learned, judged, learned.vocab_size)}
    return Baselines(name, len(judged), losses)


# --- memory -----------------------------------------------------------------------------------------------------


def _memory(generated: Sequence[str], training: Sequence[str], new: Sequence[str] | None, temperature: float) -> Memory:
    neighbours = Neighbours(training)
    nearest = _nearest(neighbours, generated)
    learned = set(training)
    return Memory(
        samples=len(generated),
        temperature=temperature,
        copies=sum(text in learned for text in generated),
        repeated=len(generated) - len(set(generated)),
        distances=_counts(nearest),
        real=None if new is None else _counts(_nearest(neighbours, new, len(generated))),
        examples=[example for example in nearest if example.distance][:EXAMPLES],
    )


def _nearest(neighbours: Neighbours, texts: Sequence[str], most: int | None = None) -> list[Example]:
    """Of some of the strings, evenly spaced, the nearest documents."""
    count = min(len(texts), most or len(texts), max(PAIRS // len(neighbours), 1))
    examples = []
    for text in texts[:: -(-len(texts) // count)] if count else ():
        found = neighbours.nearest(text)
        examples.append(Example(text, found.document, found.distance))
    return examples


def _counts(examples: Iterable[Example]) -> dict[int, int]:
    """How many are how far."""
    return dict(sorted(Counter(example.distance for example in examples).items()))


# --- distributions ----------------------------------------------------------------------------------------------


def _distribution(data: Iterable[str], generated: Iterable[str], drawn: Iterable[str]) -> Distribution:
    real, made, other = map(_shares, (data, generated, drawn))
    return Distribution(real, made, _distance(real, made), _distance(real, other))


def _shares(values: Iterable[str]) -> dict[str, float]:
    counts = Counter(values)
    total = sum(counts.values())
    return {value: count / total for value, count in counts.items()}


def _distance(some: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Total variation distance: the most that the probabilities of any event differ by."""
    return 0.5 * math.fsum(abs(some.get(value, 0.0) - other.get(value, 0.0)) for value in {*some, *other})
