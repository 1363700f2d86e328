"""Documents and their characters: from a file, from strings, or embedded. Not here: order, training.

A document is one line of a file, stripped; the vocabulary is the sorted set of characters, and after them comes BOS,
the token before and after every document.
"""

from __future__ import annotations

import os
import sys
from array import array
from itertools import accumulate

from tapegpt.engine import Tokens
from tapegpt.errors import TapeGPTError
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DATASETS = {
    "names": "first names of the 1990 US Census",
    "surnames": "surnames of the 1990 US Census",
}


class Corpus(Record):
    """Documents in order, and the vocabulary: their distinct characters, sorted."""

    documents: list[str]
    vocabulary: str

    @classmethod
    def of(cls, strings: Iterable[str]) -> Corpus:
        """A corpus of these strings, stripped, empty ones left out.

        Raises `TapeGPTError` for anything but strings, and where no characters are left.
        """
        documents = []
        for place, string in enumerate(strings):
            if not isinstance(string, str):
                raise TapeGPTError(f"document {place} must be a str, not {type(string).__name__}: {string!r:.50}")
            if stripped := string.strip():
                documents.append(stripped)
        if not documents:
            raise TapeGPTError("there is no document: give at least one string that is not blank")
        return cls(documents, "".join(sorted(set().union(*documents))))

    @classmethod
    def read(cls, source: str | os.PathLike[str], encoding: str = "utf-8") -> Corpus:
        """The lines of a text file, stripped, blank ones left out; CR LF, CR and LF end a line, a BOM is dropped.

        Raises `TapeGPTError` for a file that is missing, unreadable, not text in this encoding, or blank.
        """
        path = os.fspath(source)
        text = _decoded(path, _content(path), encoding)
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        documents = list(filter(None, map(str.strip, lines)))
        if not documents:
            raise TapeGPTError(f"{path}: no document in it: write one string a line")
        return cls(documents, "".join(sorted(set("".join(documents)))))

    @classmethod
    def dataset(cls, name: str) -> Corpus:
        """An embedded data set, one of `DATASETS`; provenance in `datasets/README.md`."""
        if name not in DATASETS:
            raise TapeGPTError(f"dataset must be one of {', '.join(DATASETS)}, not {name!r}")
        import zlib

        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "datasets", f"{name}.txt.gz")
        with open(path, "rb") as file:
            text = zlib.decompress(file.read(), wbits=31).decode("ascii")  # 31: the gzip format
        return cls(text.split(), "".join(sorted(set(text) - {"\n"})))

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

    def tokens(self, order: Iterable[int] | None = None) -> Tokens:
        """Documents as token ids: all, or those with these numbers, in this order."""
        documents = self.documents if order is None else [self.documents[number] for number in order]
        separator = "\n"  # documents of a file have no newline; other ones may
        if separator in self.vocabulary:
            text = chr(self.bos).join([self._translated(document) for document in documents])
        else:
            text = self._translated(separator.join(documents))
        codec = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
        ids = array("I", f"{chr(self.bos)}{text}{chr(self.bos)}".encode(codec, "surrogatepass"))
        starts = array("q", accumulate((len(document) + 1 for document in documents), initial=0))
        return Tokens(ids, starts)

    def _translated(self, text: str) -> str:
        """The text with each character replaced by the one whose code is its token, a newline outside by BOS."""
        table = {10: self.bos, **{ord(character): token for token, character in enumerate(self.vocabulary)}}
        if max(table) < 256 and self.vocab_size <= 256:  # a byte a character: 20 times faster
            codes = bytes(table.get(code, 0) for code in range(256))
            return text.encode("latin-1").translate(codes).decode("latin-1")
        return text.translate(table)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise TapeGPTError(f"{path}: no such file: give the path of a text file, one string a line") from None
    except IsADirectoryError:
        raise TapeGPTError(f"{path}: is a directory: give the path of a text file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TapeGPTError(f"{path!r}: cannot be read: {reason}") from None


def _decoded(path: str, data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except LookupError:
        raise TapeGPTError(
            f"--encoding {encoding!r} is not known: choose one such as utf-8, utf-16 or latin-1"
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TapeGPTError(
            f"{path}: line {line}, byte {error.start}: 0x{data[error.start]:02x} is not {encoding}: "
            "choose --encoding, for instance --encoding latin-1"
        ) from None
    except (UnicodeError, ValueError) as error:
        raise TapeGPTError(f"{path}: is not {encoding}: {error}: choose --encoding") from None
    return text.removeprefix("\ufeff")
