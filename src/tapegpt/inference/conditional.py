"""How surprising strings are given their labels, and where these are not known, by all that they may be.

P(string) = sum of P(labels) P(string | labels), where P(labels) is how often they come in the training data. The labels
are read before the string, and what they cost is taken away again. Of a string longer than the block only the beginning
follows them. Not here: strings without labels (`scores.py`), what is made of it for a user (`classes.py`).
"""

from __future__ import annotations

import math
from array import array
from itertools import pairwise

from tapegpt.data.labels import labels_of
from tapegpt.data.tokens import Tokens
from tapegpt.errors import TapeGPTError
from tapegpt.inference.choice import log_sum
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tapegpt.data.labels import Combination, LabelCounts
    from tapegpt.data.vocabulary import Split, Vocabulary
    from tapegpt.inference.forward import Inference


class Conditional:
    """Strings that a model can read behind any combination of labels."""

    def __init__(self, inference: Inference, vocabulary: Vocabulary, split: Split) -> None:
        self._inference, self._vocabulary = inference, vocabulary
        self._plain = vocabulary.encode_all(split)

    def _tokens(self, labels: Combination) -> tuple[Tokens, float]:
        head = self._vocabulary.head(labels)
        tokens = self._plain.behind([head] * len(self._plain))
        bos = self._vocabulary.bos
        alone = Tokens(array("I", [bos, *map(ord, head), bos]), array("q", [0, len(head) + 1]))
        return tokens, math.fsum(self._inference.surprises(alone)[: len(head)])

    def logs(self, labels: Combination, log: float = 0.0, cold: float = 1.0) -> list[float]:
        """log + cold * log P(string | labels) of each string."""
        tokens, before = self._tokens(labels)
        log += cold * before
        return [log - cold * total for total in self._inference.totals(tokens)]

    def surprises(self, labels: Combination) -> Iterator[array[float]]:
        """-log p of each token of each string, and last of its end."""
        tokens, _ = self._tokens(labels)
        found = self._inference.surprises(tokens)
        return (found[first + len(labels) : last] for first, last in pairwise(tokens.starts))


def groups(strings: Sequence[str], columns: int) -> dict[Combination, list[int]]:
    """The numbers of the strings of which the same labels are known."""
    found: dict[Combination, list[int]] = {}
    for number, text in enumerate(strings):
        found.setdefault(labels_of(text) or (None,) * columns, []).append(number)
    for labels in found:
        if len(labels) != columns:
            given = amount(len(labels), "label")
            raise TapeGPTError(f"string {found[labels][0]} has {given}, the model's have {columns}")
    return found


def _by_labels(
    inference: Inference, vocabulary: Vocabulary, counts: LabelCounts, strings: Sequence[str], split: Split
) -> Iterator[tuple[list[int], Conditional, dict[tuple[str, ...], float]]]:
    """The numbers of such strings, they, and log P of each combination that their labels may be."""
    values = [values for _, values in vocabulary.labels]
    for known, numbers in groups(strings, len(values)).items():
        some = Conditional(inference, vocabulary, [split[number] for number in numbers])
        yield numbers, some, counts.logs(known, values)


def totals(
    inference: Inference, vocabulary: Vocabulary, counts: LabelCounts, strings: Sequence[str], split: Split
) -> list[float]:
    """-log P of each string, given what is known of its labels; `split` are its tokens."""
    result = [0.0] * len(strings)
    for numbers, some, logs in _by_labels(inference, vocabulary, counts, strings, split):
        weighed = [some.logs(*each) for each in logs.items()]
        for number, each in zip(numbers, zip(*weighed, strict=True), strict=True):
            result[number] = -log_sum(each)
    return result


def surprises(
    inference: Inference, vocabulary: Vocabulary, counts: LabelCounts, strings: Sequence[str], split: Split
) -> list[list[float]]:
    """-log p of each token of each string and of its end; their sums are `totals`."""
    result: list[list[float]] = [[]] * len(strings)
    for numbers, some, logs in _by_labels(inference, vocabulary, counts, strings, split):
        for number, each in zip(numbers, zip(*map(some.surprises, logs), strict=True), strict=True):
            result[number] = _mix(list(logs.values()), each)
    return result


def _mix(logs: Sequence[float], surprises: Sequence[array[float]]) -> list[float]:
    """-log p of each token by all labels, which what came before tells more of."""
    weights, result, before = list(logs), list[float](), log_sum(logs)
    for nats in zip(*surprises, strict=True):
        weights = [weight - each for weight, each in zip(weights, nats, strict=True)]
        after = log_sum(weights)
        result.append(before - after)
        before = after
    return result
