"""Token ids: documents to train on or to score, and generated strings. Not here: what they mean (`vocabulary.py`)."""

from __future__ import annotations

import sys
from array import array
from itertools import accumulate, chain, pairwise, repeat
from operator import add

from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


ROOM = 1 << 25  # tokens that strings have room for which are drawn together


class Tokens(Record):
    """Documents as one run of token ids, `BOS doc BOS doc BOS ...`.

    Document d is `ids[starts[d]]` up to and including `ids[starts[d + 1]]`, both a BOS, or where a long document is cut
    into windows any token.
    """

    ids: array[int]  # typecode "I"
    starts: array[int]  # typecode "q", number of documents + 1
    order: array[int] | None = None  # typecode "I": the documents in the order of training; None is as they lie

    def __len__(self) -> int:
        return len(self.starts) - 1

    def windows(self, block_size: int, long: str = "window") -> Tokens:
        """With a document of more than `block_size` predictions as several windows, see `Corpus.windows`."""
        if long == "window":  # the starts inside each document: 10 times faster
            windows = map(range, self.starts, self.starts[1:], repeat(block_size))
            return Tokens(self.ids, array("q", [*chain.from_iterable(windows), self.starts[-1]]))
        from tapegpt.data.windows import tilings

        ids, starts = array("I"), array("q")
        for start, end in pairwise(self.starts):
            for begins in tilings(end - start, block_size, long):
                starts.extend([len(ids) + begin for begin in begins])
                ids.extend(self.ids[start:end])
        starts.append(len(ids))
        ids.append(self.ids[-1])
        return Tokens(ids, starts)

    def behind(self, heads: Sequence[str]) -> Tokens:
        """With more tokens, which are the codes of characters, between the BOS and each document."""
        bos = chr(self.ids[0])
        text = self.ids.tobytes().decode(f"utf-32-{sys.byteorder[0]}e", "surrogatepass")
        documents = text.split(bos)[1:-1]
        text = "".join([*chain.from_iterable(zip(repeat(bos), heads, documents)), bos])
        starts = map(add, self.starts, accumulate(map(len, heads), initial=0))
        return Tokens(ids_of(text), array("q", starts))


class Strings(Record):
    """Generated strings: number i is the first `lengths[i]` of its token ids; all have as much room."""

    ids: array[int]  # typecode "I"
    lengths: array[int]  # typecode "q"

    @staticmethod
    def empty(count: int, room: int) -> Strings:
        """So many strings of no token, with room for as many each."""
        return Strings(array("I", bytes(4 * count * room)), array("q", bytes(8 * count)))

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> list[int]:
        """The token ids of one string; negative: from the last. Raises `IndexError` where there is none."""
        length = self.lengths[number]
        start = range(len(self))[number] * (len(self.ids) // len(self))
        return self.ids[start : start + length].tolist()


def ids_of(text: str) -> array[int]:
    """Token ids that are written as the codes of characters, since functions of text are the fastest there are."""
    return array("I", text.encode("utf-32", "surrogatepass"))[1:]  # without its BOM, which a codec of 0.3 ms leaves out
