"""Which labels strings have, how probably: P(labels | string) by Bayes' rule, of P(string | labels) and P(labels).

A model is surer than it is right where it has memorised, so log-likelihoods are divided by a temperature, with which
strings that it was not trained on are the most probable to have the labels that they have. Not here: likelihoods
(`conditional.py`).
"""

from __future__ import annotations

import math
from array import array
from operator import itemgetter

from tapegpt.data.labels import labels_of
from tapegpt.errors import TapeGPTError, argument, quote
from tapegpt.inference.columnar import Columnar
from tapegpt.inference.conditional import Conditional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tapegpt.data.labels import Combination, LabelCounts
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.inference.forward import Inference

    Labels = tuple[str, ...]

CELLS = 1 << 20  # strings times labels that are looked at together
FITTED = 1 << 17  # the same for a temperature: half a second
LEAST_T, MOST_T, STEPS = 0.25, 16.0, 24  # of its search


class Classes(Columnar):
    """Of each string the most probable label, with several columns of them the combination, and how probable it is.

    Gone through, it gives for each string the probabilities of all, the most probable first. Missing values have None,
    NaN and nothing.
    """

    def __init__(
        self,
        inference: Inference,
        vocabulary: Vocabulary,
        counts: LabelCounts,
        strings: Sequence[str | None],
        *,
        by: str | None = None,
        given: Combination,
        index: Sequence[object] | None = None,
    ) -> None:
        if by is not None and by not in vocabulary.columns:
            known = ", ".join(vocabulary.columns)
            raise TapeGPTError(f"{argument('by')} {quote(by)}: the model's labels are {known}: choose one of them")
        self._inference, self._vocabulary, self._counts, self._strings = inference, vocabulary, counts, strings
        self._logs = counts.logs(given, [values for _, values in vocabulary.labels])
        self.columns = vocabulary.columns if by is None else (by,)
        self._take = itemgetter(*map(vocabulary.columns.index, self.columns))
        self._classes = sorted({self._class(labels) for labels in self._logs})
        self.index = range(len(strings)) if index is None else index
        self.labels: list[Labels | None] = []
        self.probabilities = array("d")
        for row in self._rows():
            share = max(row, default=math.nan)
            self.labels.append(self._classes[row.index(share)] if row else None)
            self.probabilities.append(share)

    def _class(self, labels: Labels) -> Labels:
        taken = self._take(labels)
        return taken if len(self.columns) > 1 else (taken,)

    def _rows(self) -> Iterator[Sequence[float]]:
        """The probabilities of all classes of each string; none of a missing value."""
        size = max(CELLS // len(self._logs), 1)
        for start in range(0, len(self._strings), size):
            batch = self._strings[start : start + size]
            rows = self._posteriors([text for text in batch if text is not None])
            yield from (() if text is None else next(rows) for text in batch)

    def _posteriors(self, strings: Sequence[str]) -> Iterator[Sequence[float]]:
        if not strings:
            return
        weighed = _weighed(self._inference, self._vocabulary, self._logs, strings, self._counts.temperature)
        places = [self._classes.index(self._class(labels)) for labels in self._logs]
        is_each = places == list(range(len(places)))
        exp = math.exp
        for row in zip(*weighed, strict=True):
            largest = max(row)
            shares = [exp(each - largest) for each in row]
            total = sum(shares)
            if is_each:
                yield [share / total for share in shares]
                continue
            sums = [0.0] * len(self._classes)
            for place, share in zip(places, shares, strict=True):
                sums[place] += share / total
            yield sums

    def __len__(self) -> int:
        return len(self._strings)

    def __iter__(self) -> Iterator[dict[Labels, float]]:
        for row in self._rows():
            pairs = zip(self._classes, row, strict=True) if row else ()
            yield dict(sorted(pairs, key=lambda pair: -pair[1]))

    def as_columns(self) -> dict[str, array[float] | list[str | None]]:
        """By name the most probable labels, the names of their columns behind "predicted_", and the probability."""
        found: dict[str, array[float] | list[str | None]] = {
            f"predicted_{name}": [None if labels is None else labels[place] for labels in self.labels]
            for place, name in enumerate(self.columns)
        }
        return {**found, "probability": self.probabilities}

    def __repr__(self) -> str:
        return f"<Classes of {len(self):,} strings by {', '.join(self.columns)}>"


def _weighed(
    inference: Inference,
    vocabulary: Vocabulary,
    logs: dict[Labels, float],
    strings: Sequence[str],
    temperature: float = 1.0,
) -> list[list[float]]:
    """For each combination of labels log P(labels) + log P(string | labels) / temperature of each string."""
    split = vocabulary.split_all(strings)
    some = Conditional(inference, vocabulary, vocabulary.without(vocabulary.unknown(split), split))
    cold = 1.0 / temperature
    return [some.logs(labels, log, cold) for labels, log in logs.items()]


def temperature(inference: Inference, vocabulary: Vocabulary, counts: LabelCounts, strings: Sequence[str]) -> float:
    """The one with which strings, that were not trained on, are the most probable to have their labels."""
    logs = counts.logs((None,) * len(vocabulary.columns), [values for _, values in vocabulary.labels])
    numbers = {labels: number for number, labels in enumerate(logs)}
    stride = -(-len(strings) * len(logs) // FITTED)
    some = [text for text in strings[::stride] if labels_of(text) in numbers]
    if not some:
        return 1.0
    right = [numbers[labels_of(text)] for text in some]  # type: ignore[index]  # it has all labels
    likelihoods = list(zip(*_weighed(inference, vocabulary, dict.fromkeys(logs, 0.0), some), strict=True))
    priors = list(logs.values())

    def nats(log_temperature: float) -> float:
        cold, total = math.exp(-log_temperature), 0.0
        for row, number in zip(likelihoods, right, strict=True):
            weighed = [prior + cold * log for prior, log in zip(priors, row, strict=True)]
            largest = max(weighed)
            total += largest + math.log(sum([math.exp(each - largest) for each in weighed])) - weighed[number]
        return total

    return math.exp(_least(nats, math.log(LEAST_T), math.log(MOST_T)))


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one valley is least, by golden section (Kiefer, 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(STEPS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = function(b)
    return (low + high) / 2
