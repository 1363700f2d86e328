"""Strings that have labels: what is known of a document beside its characters, such as a country.

Not here: the tokens that labels are (`vocabulary.py`), the columns of files that they are read from (`sources.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import product, repeat

from tapegpt.errors import TapeGPTError, argument, quote, warn
from tapegpt.ranges import Number
from tapegpt.record import Record, field
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Self

    Combination = tuple[str | None, ...]  # a value for each column of labels; None where it is not known
    Columns = dict[str, list[str | None]]

COLUMN = "label"  # the name of labels that are given without one
MOST = 1000  # values of a column: each is a token


class Labelled(str):
    """A string with its labels, a value for each column. It equals the string with others, and the one without."""

    __slots__ = ("labels",)
    labels: Combination

    def __new__(cls, text: str, labels: str | Combination = ()) -> Self:
        """Labels are several, or one. The text may itself have some, which are replaced."""
        made = super().__new__(cls, text)
        made.labels = (labels,) if isinstance(labels, str) else tuple(labels)
        return made


def identity(text: str) -> tuple[str, Combination]:
    """What a document and its repetitions have in common: the text and the labels."""
    return text, text.labels if isinstance(text, Labelled) else ()


def label(texts: Iterable[str | None], columns: Iterable[Sequence[str | None]]) -> list[str | None]:
    """The texts with the labels of their rows, stripped; a blank one is not known. None stays None."""
    stripped = [[(value or "").strip() or None for value in column] for column in columns]
    pairs = zip(texts, zip(*stripped, strict=True), strict=True)
    return [None if text is None else Labelled(text, labels) for text, labels in pairs]


def without_gaps(documents: Sequence[str], names: Sequence[str]) -> list[str]:
    """The documents that have all labels; warns of those that have not."""
    if not names:
        return list(documents)
    kept = [document for document in documents if None not in labels_of(document)]
    if len(kept) < len(documents):
        warn(
            f"{amount(len(documents) - len(kept), 'string')} of {len(documents):,} without a {' or '.join(names)}: "
            "left out, since a label is to be learned"
        )
    return kept


def labels_of(text: str) -> Combination:
    """Those of a text; none where it has none."""
    return text.labels if isinstance(text, Labelled) else ()


def columns_of(documents: Sequence[str], names: Sequence[str]) -> Columns:
    """The labels of documents by the name of their column."""
    return dict(zip(names, map(list, zip(*map(labels_of, documents), strict=True)), strict=True))


def read_labels(labels: Any, count: int) -> Columns:
    """Labels of so many strings by column: of a mapping or data frame, or one column, called by its name or `COLUMN`.

    A str is the label of all. Raises `TapeGPTError` for as many as there are no strings.
    """
    from tapegpt.data.strings import values_of

    if hasattr(labels, "columns"):
        labels = {name: labels[name] for name in labels.columns}
    if not isinstance(labels, Mapping):
        name = getattr(labels, "name", None)
        labels = {name if isinstance(name, str) and name else COLUMN: labels}
    found: Columns = {}
    for name, values in labels.items():
        if not isinstance(name, str):
            raise TapeGPTError(f"a column of labels must have a str as its name, not {quote(name)}: give a dict")
        found[name] = list(repeat(values, count)) if isinstance(values, str) else values_of(values, f"labels {name}")
        if len(found[name]) != count:
            given, strings = amount(len(found[name]), "value"), amount(count, "string")
            raise TapeGPTError(f"labels {quote(name)} have {given} for {strings}: give one for each")
    return found


class LabelCounts(Record):
    """How often each combination of labels comes in the training data: what is known of a string before it is read."""

    counts: tuple[tuple[tuple[str, ...], int], ...]  # sorted
    temperature: float = field("what log-likelihoods are divided by in `classify`", Number(0, 1000, "(]"), default=1.0)

    def check(self) -> None:
        """Raise `TapeGPTError` for what counts nothing."""
        counts = tuple([(tuple(labels), count) for labels, count in self.counts])
        self.__dict__["counts"] = counts
        if not counts or not all(isinstance(count, int) and count > 0 for _, count in counts):
            raise TapeGPTError(f"counts of labels must be whole numbers from 1 on, not {quote(counts)}")

    @classmethod
    def of(cls, documents: Iterable[str]) -> LabelCounts:
        """Of documents with labels."""
        return cls(tuple(sorted(Counter(map(labels_of, documents)).items())))  # type: ignore[arg-type]  # none is None

    def logs(self, known: Combination, values: Sequence[Sequence[str]]) -> dict[tuple[str, ...], float]:
        """log p of each combination with the labels that are known; together they are 1.

        Of those that never came together all with these values are equally probable.
        """
        found = {each: count for each, count in self.counts if _agree(each, known)}
        if not found:
            columns = [every if label is None else [label] for label, every in zip(known, values, strict=True)]
            found = dict.fromkeys(product(*columns), 1)
        total = math.log(sum(found.values()))
        return {each: math.log(count) - total for each, count in found.items()}


def _agree(labels: Combination, known: Combination) -> bool:
    return all(there is None or here == there for here, there in zip(labels, known, strict=True))


def check_columns(labels: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names of columns with their values, as a `Vocabulary` has them; raises `TapeGPTError` for what cannot be."""
    columns = tuple([(name, tuple(values)) for name, values in labels])
    names = [name for name, _ in columns]
    if len(set(names)) < len(names):
        raise TapeGPTError(f"the columns of labels are {', '.join(map(quote, names))}: give each once")
    for name, values in columns:
        if not isinstance(name, str) or not name or not all(isinstance(value, str) and value for value in values):
            raise TapeGPTError(f"labels {quote(name)} must be texts, none of them empty, not {quote(values)}")
        if list(values) != sorted(set(values)) or not values:
            raise TapeGPTError(f"the labels {quote(values)} are not a sorted set: sort them")
        if len(values) > MOST:
            raise TapeGPTError(
                f"{argument('labels')} {name} has {len(values):,} values, of which each is a token: at most {MOST:,} "
                "can be, choose a column with fewer"
            )
    return columns
