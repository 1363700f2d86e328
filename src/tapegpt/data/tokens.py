"""Token ids: documents to train on or to score, generated strings, and these as text. Not here: generating them."""

from __future__ import annotations

import sys
from array import array

from tapegpt.errors import TapeGPTError, quote
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


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


class Strings(Record):
    """Generated strings: number i is the first `lengths[i]` of its token ids, which begin at i times block_size."""

    ids: array[int]  # typecode "I"
    lengths: array[int]  # typecode "q"

    @staticmethod
    def empty(count: int, block_size: int) -> Strings:
        """So many strings of no token, with room for a block each."""
        return Strings(array("I", bytes(4 * count * block_size)), array("q", bytes(8 * count)))

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> list[int]:
        """The token ids of one string; negative: from the last. Raises `IndexError` where there is none."""
        length = self.lengths[number]
        start = range(len(self))[number] * (len(self.ids) // len(self))
        return self.ids[start : start + length].tolist()


def texts(strings: Strings, vocabulary: str) -> list[str]:
    """Generated strings as text."""
    if max(vocabulary) < "\x80":  # a byte a character: all at once, ten times faster
        place = 0 if sys.byteorder == "little" else 3
        codes = strings.ids.tobytes()[place::4].translate(vocabulary.encode("ascii").ljust(256, b"?"))
        text = codes.decode("ascii")
    else:
        text = "".join([vocabulary[token] for token in strings.ids])
    block = len(text) // max(len(strings), 1)
    return [text[i * block : i * block + length] for i, length in enumerate(strings.lengths)]


def encode(text: str, vocabulary: str, what: str = "text") -> list[int]:
    """The token ids of a text; raises `TapeGPTError` for anything but a str, and for characters that have none."""
    if not isinstance(text, str):
        raise TapeGPTError(f"{what} must be a str, not {quote(text)}")
    unknown = "".join(sorted(set(text) - set(vocabulary)))
    if unknown:
        raise TapeGPTError(f"{what} {quote(text)}: the model does not know {quote(unknown)}: leave that out")
    return [*map(vocabulary.index, text)]
