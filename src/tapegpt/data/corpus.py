"""Documents and their characters. Not here: files and how they are read (`sources.py`), order, training.

A document is a stripped string; the vocabulary is the sorted set of characters, and after them comes BOS, the token
before and after every document.
"""

from __future__ import annotations

import os
import sys
from array import array
from functools import lru_cache
from itertools import accumulate, chain, repeat
from operator import add

from tapegpt.data.sources import Selection, Source
from tapegpt.data.tokens import Tokens, encode
from tapegpt.errors import TapeGPTError
from tapegpt.log import log
from tapegpt.ranges import Whole
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from tapegpt.data.sources import Reading


class Corpus(Record):
    """Documents in order, and the vocabulary: their distinct characters, sorted. Any number of threads may use one."""

    documents: list[str]
    vocabulary: str
    source: Source | None = None  # what gives the documents again

    @classmethod
    def of(
        cls, strings: Iterable[str], *, lowercase: bool = False, max_length: int | None = None, unique: bool = False
    ) -> Corpus:
        """A corpus of these strings, stripped, empty ones left out.

        A column of pandas, pyarrow, polars or numpy does as well, and its nulls are left out too. `lowercase`,
        `max_length` and `unique` are those of `Source`. Raises `TapeGPTError` for anything but strings, and where no
        characters are left.
        """
        from tapegpt.data.strings import strings_of

        selection = Selection(lowercase=lowercase, max_length=max_length, unique=unique)
        documents = selection.select(strings_of(strings, "documents", drop_nulls=True))
        if not documents:
            longest = "" if max_length is None else f" and has at most {max_length} characters"
            raise TapeGPTError(f"there is no document: give at least one string that is not blank{longest}")
        return cls(documents, distinct("".join(documents)))

    @classmethod
    def read(cls, *paths: str | os.PathLike[str], **options: Unpack[Reading]) -> Corpus:
        r"""The documents of files, of all files in directories, and for "-" of standard input, gzip or not.

        A document is a line of a text, stripped, blank ones left out; CR LF, CR and LF end a line, a BOM is dropped. In
        tables, `.csv`, `.tsv` and `.jsonl` files or what `format` says is one, it is a value of the `column`. Of a text
        the `delimiter` lies between documents: "\n" makes each line one, "\n\n" each block of lines between blank
        lines (of spaces and tabs at most), "" the whole file, any other text what lies between its occurrences.
        Options are the fields of `Source`. Raises `TapeGPTError` for a file that is missing, unreadable, not text in
        this encoding, or no table with such a column, and where no document is left.
        """
        return cls.from_source(Source(paths=tuple([os.fspath(path) for path in paths]), **options))

    @classmethod
    def dataset(cls, name: str) -> Corpus:
        """An embedded data set, one of `DATASETS` in `sources.py`; provenance in `datasets/README.md`."""
        return cls.from_source(Source(dataset=name))

    @classmethod
    def from_source(cls, source: Source) -> Corpus:
        """The documents of a source; raises `TapeGPTError` as `read` does."""
        documents = source.documents()
        log("read %d documents", len(documents))
        return cls(documents, distinct("".join(documents)), source)

    def __eq__(self, other: object) -> bool:
        """Whether these are the same documents and characters, wherever they come from."""
        if not isinstance(other, Corpus):
            return NotImplemented
        return (self.documents, self.vocabulary) == (other.documents, other.vocabulary)

    __hash__ = None  # type: ignore[assignment]  # its documents are a list

    def digest(self) -> str:
        """SHA-256 of the documents and their order, in hexadecimal: of their lengths, then of their characters."""
        from hashlib import sha256

        lengths = list(map(len, self.documents))
        shown = {length: str(length) for length in set(lengths)}  # few differ: half the time
        text = "".join([",".join(map(shown.__getitem__, lengths)), "\n", *self.documents])
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def bos(self) -> int:
        """The token before and after every document."""
        return len(self.vocabulary)

    @property
    def vocab_size(self) -> int:
        """Number of tokens: the characters and BOS."""
        return len(self.vocabulary) + 1

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        return f"<Corpus of {len(self):,} documents, {len(self.vocabulary):,} characters>"

    @property
    def predictions(self) -> int:
        """Tokens that are predicted in all documents: their characters, and the end of each."""
        return sum(map(len, self.documents)) + len(self)

    def sample(self, predictions: int) -> Corpus:
        """Evenly spaced documents that make about so many predictions, at least one; all where they make no more."""
        total, size = self.predictions, len(self)
        if total <= predictions:
            return self
        count = max(size * predictions // total, 1)
        return self.replace(documents=[self.documents[i * size // count] for i in range(count)], source=None)

    def tokens(self, order: Iterable[int] | None = None) -> Tokens:
        """Documents as token ids: all, or those with these numbers, in this order."""
        documents = self.documents if order is None else [self.documents[number] for number in order]
        separator = next(c for c in map(chr, range(sys.maxunicode + 1)) if c not in self.vocabulary)  # becomes BOS
        text = _translate(separator.join(["", *documents, ""]), self.vocabulary + separator)
        ids = array("I", text.encode("utf-32", "surrogatepass")[4:])  # in this machine's order of bytes, after a mark
        starts = array("q", accumulate(map(add, map(len, documents), repeat(1)), initial=0))
        return Tokens(ids, starts)

    def windows(self, block_size: int, order: Iterable[int] | None = None, cut: bool = False) -> Tokens:
        """`tokens(order)`, with a document of more than `block_size` predictions as several windows in a row.

        Each window but a document's last makes `block_size` predictions, and the next one starts with the token that
        it ends with. With `cut` every document is one window, whatever its length, for an engine that trains on its
        beginning. Raises `TapeGPTError` unless block_size is a whole number from 1 on.
        """
        Whole(1).check("block_size", block_size)
        tokens = self.tokens(order)
        if cut or max(map(len, self.documents), default=0) < block_size:
            return tokens
        windows = map(range, tokens.starts, tokens.starts[1:], repeat(block_size))  # the starts inside each document
        return Tokens(tokens.ids, array("q", [*chain.from_iterable(windows), tokens.starts[-1]]))

    def encode(self, text: str) -> list[int]:
        """The tokens of a text's characters; raises `TapeGPTError` for a character that is not in the vocabulary."""
        return encode(text, self.vocabulary)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; raises `TapeGPTError` for a token that is no character, as BOS is none."""
        characters = []
        for position, token in enumerate(ids):
            if not 0 <= token < self.bos:
                raise TapeGPTError(f"token {position} is {token}: characters are 0 to {self.bos - 1}")
            characters.append(self.vocabulary[token])
        return "".join(characters)


def _translate(text: str, alphabet: str) -> str:
    """The text with each character replaced by the one whose code is its index in the alphabet."""
    table = _table(alphabet)
    if isinstance(table, bytes):  # a byte a character: 20 times faster
        return text.encode("latin-1").translate(table).decode("latin-1")
    return text.translate(table)


@lru_cache(8)
def _table(alphabet: str) -> bytes | dict[int, int]:
    table = {ord(character): position for position, character in enumerate(alphabet)}
    return bytes(table.get(code, 0) for code in range(256)) if max(table) < 256 else table


def distinct(text: str) -> str:
    """The characters of a text, sorted."""
    try:
        absent = bytes(range(256)).translate(None, delete=text.encode("latin-1"))  # 20 times faster than a set
    except UnicodeEncodeError:
        return "".join(sorted(set(text)))
    return bytes(range(256)).translate(None, delete=absent).decode("latin-1")
