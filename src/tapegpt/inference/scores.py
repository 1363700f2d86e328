"""How surprising strings are to a model. Not here: the model's arithmetic (`forward.py`), files.

A string's surprise is the sum, over its tokens and the end that follows, of -log p of each given those before it:
beyond the block those that it would be generated from. A piece that is no token of the model costs `UNKNOWN`; the
others are judged as if it were not there.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from itertools import chain, islice

from tapegpt.data.vocabulary import CHARACTERS
from tapegpt.errors import TapeGPTError, is_number, quote
from tapegpt.inference.columnar import Columnar
from tapegpt.ranges import are_finite
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tapegpt.data.labels import LabelCounts
    from tapegpt.data.vocabulary import Split, Vocabulary
    from tapegpt.inference.forward import Inference

UNKNOWN = 16.0  # nats for a token that the model does not know: one in 9 million
ODD = math.log(100)  # nats from which a token is odd: less probable than one in 100
END = "⏎"  # how the end of a string is shown
RANKS = 1000  # quantiles of the training strings that a model keeps
SAMPLE = 10_000  # training strings that they come from, at most
FEW = 10  # alarms
SHOWN = 20  # in a notebook
SURPRISING = 6.0  # nats that have the full colour there, as on the pages
BATCH = 1024  # strings whose tokens are looked at together


class Score(Record):
    """How surprising one string is: to each token, and last to the end, its nats; of a missing value none."""

    tokens: tuple[str, ...]
    surprises: tuple[float, ...]
    percentile: float | None  # share of the training strings that are at most as surprising, in percent
    unknown: tuple[int, ...] = ()  # positions of the tokens that the model does not know

    @property
    def text(self) -> str:
        """The string."""
        return "".join(self.tokens)

    @property
    def total(self) -> float:
        """-log of the string's probability."""
        return math.fsum(self.surprises)

    @property
    def nats(self) -> float:
        """Mean surprise of a token, the end counted as one."""
        return self.total / len(self.surprises) if self.surprises else math.nan

    @property
    def bits(self) -> float:
        """The same in bits."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """Among how many equally probable tokens one would be as unsure."""
        return math.exp(min(self.nats, 700.0))

    @property
    def odd(self) -> list[int]:
        """Positions of the tokens less probable than one in 100, `len(tokens)` for the end; the oddest first."""
        positions = [position for position, nats in enumerate(self.surprises) if nats > ODD]
        return sorted(positions, key=lambda position: -self.surprises[position])

    def _repr_html_(self) -> str:
        """The string with its surprising tokens in colour."""
        from html import escape

        spans = []
        for token, nats in zip((*self.tokens, END), self.surprises, strict=True):
            spans.append(f'<span style="{heat(nats)}" title="{nats:.2f} nats">{escape(token)}</span>')
        return f'<code dir="auto" style="font-size: 1.2em">{"".join(spans)}</code> {self.nats:.2f} nats per token'


def heat(nats: float) -> str:
    """The style of a token in a notebook: an orange on which black text can be read, and on dark ground white."""
    return f"background: rgba(200, 98, 31, {0.8 * min(nats / SURPRISING, 1.0):.2f})"


class Scores(Columnar):
    """The scores of several strings, in their order: all means in `nats`, one string's `Score` by its number.

    Missing values have the text "", nats that are NaN, and no percentile.
    """

    def __init__(
        self,
        inference: Inference,
        vocabulary: Vocabulary,
        strings: Sequence[str | None],
        ranks: Sequence[float],
        index: Sequence[object] | None = None,
        counts: LabelCounts | None = None,
    ) -> None:
        self._inference, self._vocabulary, self._ranks = inference, vocabulary, array("d", ranks)
        self._counts = counts  # of labels, where the model has some
        self.index = range(len(strings)) if index is None else index  # where each is in the data
        missing = () if all(strings) else [number for number, text in enumerate(strings) if text is None]
        self.texts: Sequence[str] = [text or "" for text in strings] if missing else strings  # type: ignore[assignment]
        # Of a token, the end counted as one.
        self.nats, self.unknown = _means(inference, vocabulary, self.texts, counts)
        for number in missing:
            self.nats[number] = math.nan

    @property
    def percentiles(self) -> list[float | None]:
        """Share of the training strings that are at most as surprising, in percent; None where none are known."""
        if not self._ranks:
            return [None] * len(self)
        shares = [100.0 * rank / len(self._ranks) for rank in range(len(self._ranks) + 1)]
        found = map(shares.__getitem__, self._inference.ranks(self.nats, self._ranks))
        if are_finite(self.nats):
            return list(found)
        return [share if nats == nats else None for nats, share in zip(self.nats, found, strict=True)]

    def as_columns(self) -> dict[str, array[float] | list[str | None]]:
        """By name the text of each string, its nats, percentile and the tokens that the model does not know.

        Of missing values they are None, NaN, NaN and ""; without training strings all percentiles are NaN.
        """
        texts = [text if nats == nats else None for text, nats in zip(self.texts, self.nats, strict=True)]
        shares = array("d", [math.nan if share is None else share for share in self.percentiles])
        return {"text": texts, "nats": self.nats, "percentile": shares, "unknown": [*self.unknown_of_each()]}

    def unknown_of_each(self) -> list[str]:
        """The tokens of each string that the model does not know, each once; commas lie between longer ones."""
        if not self.unknown:
            return [""] * len(self)
        between = "" if self._vocabulary.rule == CHARACTERS else ", "
        split = self._vocabulary.split_all(self.texts)
        return [between.join(dict.fromkeys(filter(self.unknown.__contains__, pieces))) for pieces in split]

    def take(self, numbers: Iterable[int]) -> Scores:
        """The scores of some of the strings, by their numbers."""
        numbers = list(numbers)
        taken = Scores.__new__(Scores)
        taken.__dict__.update(self.__dict__)
        taken.texts = [self.texts[number] for number in numbers]
        taken.index = [self.index[number] for number in numbers]
        taken.nats = array("d", [self.nats[number] for number in numbers])
        return taken

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> Score:
        return next(self._score([self.texts[number]], [self.nats[number]]))

    def __iter__(self) -> Iterator[Score]:
        for start in range(0, len(self), BATCH):
            yield from self._score(self.texts[start : start + BATCH], self.nats[start : start + BATCH])

    def _score(self, texts: Sequence[str], means: Iterable[float]) -> Iterator[Score]:
        split = self._vocabulary.split_all(texts)
        known = self._vocabulary.without(self.unknown, split)
        found = self._surprises(texts, known)
        for pieces, rest, nats in zip(split, known, means, strict=True):
            if nats != nats:
                next(found)  # of the end
                yield Score((), (), None)
                continue
            surprises = tuple(islice(found, len(rest) + 1))
            positions: tuple[int, ...] = ()
            if len(rest) < len(pieces):
                positions = tuple([position for position, piece in enumerate(pieces) if piece in self.unknown])
                own = iter(surprises)
                surprises = (*[UNKNOWN if piece in self.unknown else next(own) for piece in pieces], next(own))
            yield Score(tuple(pieces), surprises, percentile(nats, self._ranks), positions)

    def _surprises(self, texts: Sequence[str], known: Split) -> Iterator[float]:
        if self._counts:
            from tapegpt.inference.conditional import surprises

            return chain.from_iterable(surprises(self._inference, self._vocabulary, self._counts, texts, known))
        return iter(self._inference.surprises(self._vocabulary.encode_all(known)))

    def _repr_html_(self) -> str:
        rows = [score._repr_html_() for score in self._score(self.texts[:SHOWN], self.nats[:SHOWN])]
        more = [f"and {len(self) - SHOWN:,} more"] if len(self) > SHOWN else []
        return "<br>".join([*rows, *more])

    def __repr__(self) -> str:
        return f"<Scores of {len(self):,} strings>"


class Calibration(Record):
    """How surprising strings are that are known to be good, and were not trained on: what alarms are to be measured by.

    Raises `TapeGPTError` where there is none.
    """

    nats: Sequence[float]  # of each string, rising

    def check(self) -> None:
        """Sort them."""
        if not self.nats:
            raise TapeGPTError("there is no string to calibrate with: give some that are known to be good")
        self.__dict__["nats"] = tuple(sorted(self.nats))

    def threshold(self, rate: float) -> float:
        """Nats that a good string exceeds with at most this probability, over the choice of these strings too.

        Strings above it are alarms. Raises `TapeGPTError` for a rate that is not between 0 and 1, and one that so few
        strings cannot tell.
        """
        return self.nats[len(self) - 1 - self.alarms(rate)]

    def alarms(self, rate: float) -> int:
        """How many of these strings at most lie above the threshold; raises as `threshold` does."""
        if not is_number(rate) or not 0 < rate < 1:
            raise TapeGPTError(f"the rate of alarms must be a number above 0 and below 1, not {quote(rate)}")
        # A new string is equally likely to have any of the len + 1 ranks (Vovk et al., 2005); 0.29 * 100 is 28.99...
        alarms = int(rate * (len(self) + 1) + 1e-9) - 1
        if alarms < 0:
            least = math.ceil(1 / rate - 1e-9) - 1
            raise TapeGPTError(
                f"a rate of {rate:g} takes {least:,} strings known to be good, not {len(self):,}: give more, or a "
                "higher rate"
            )
        return alarms

    def is_rough(self, rate: float) -> bool:
        """Whether fewer than `FEW` alarms are to be expected among so many strings, so that chance decides."""
        return rate * len(self) < FEW

    def __len__(self) -> int:
        return len(self.nats)

    def __repr__(self) -> str:
        return f"<Calibration on {len(self):,} strings>"


def _means(
    inference: Inference, vocabulary: Vocabulary, strings: Sequence[str], counts: LabelCounts | None
) -> tuple[array[float], set[str]]:
    """Mean nats of each string, and what the model does not know of them."""
    if not strings:
        return array("d"), set()
    split = vocabulary.split_all(strings)
    unknown = vocabulary.unknown(split)
    known = vocabulary.without(unknown, split)
    if counts:
        from tapegpt.inference.conditional import totals

        found: Sequence[float] = totals(inference, vocabulary, counts, strings, known)
        return _with_unknown(found, split, known), unknown
    tokens = vocabulary.encode_all(known)
    if not unknown:
        return inference.means(tokens), unknown
    return _with_unknown(inference.totals(tokens), split, known), unknown


def _with_unknown(totals: Sequence[float], split: Split, known: Split) -> array[float]:
    """Means of a token by the totals of those that are known."""
    parts = zip(totals, split, known, strict=True)
    return array("d", [(total + UNKNOWN * (len(each) - len(rest))) / (len(each) + 1) for total, each, rest in parts])


def quantiles(
    inference: Inference,
    vocabulary: Vocabulary,
    documents: Sequence[str],
    most: int = SAMPLE,
    counts: LabelCounts | None = None,
) -> array[float]:
    """The means of so many training strings, sorted: `RANKS` of them, or all if there are fewer."""
    stride = -(-len(documents) // most)
    means = sorted(_means(inference, vocabulary, documents[::stride], counts)[0])
    if len(means) <= RANKS:
        return array("d", means)
    return array("d", [means[rank * (len(means) - 1) // (RANKS - 1)] for rank in range(RANKS)])


def percentile(nats: float, ranks: Sequence[float]) -> float | None:
    """Share of the ranks that are no higher, in percent; None where there are none."""
    return 100.0 * bisect_right(ranks, nats) / len(ranks) if len(ranks) else None
