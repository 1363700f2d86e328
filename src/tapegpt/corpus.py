"""Documents and their characters: from a file, from strings, or embedded. Not here: order, training.

A document is one line of a file, or what lies between other delimiters, stripped; the vocabulary is the sorted set of
characters, and after them comes BOS, the token before and after every document.
"""

from __future__ import annotations

import os
import sys
from array import array
from itertools import accumulate, chain, repeat

from tapegpt.engine import Tokens
from tapegpt.errors import TapeGPTError, is_whole, shown
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DATASETS = {
    "names": "first names of the 1990 US Census",
    "surnames": "surnames of the 1990 US Census",
}
LINE, BLANK, WHOLE = "\n", "\n\n", ""  # the delimiters with a meaning of their own
_WORDS = {"line": LINE, "blank": BLANK, "none": WHOLE}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


class Corpus(Record):
    """Documents in order, and the vocabulary: their distinct characters, sorted."""

    documents: list[str]
    vocabulary: str

    @classmethod
    def of(cls, strings: Iterable[str]) -> Corpus:
        """A corpus of these strings, stripped, empty ones left out.

        Raises `TapeGPTError` for anything but strings, and where no characters are left.
        """
        if isinstance(strings, str) or not hasattr(strings, "__iter__"):
            raise TapeGPTError(
                f"documents must be several strings, not {shown(strings)}: give a list, or a path to read"
            )
        documents = []
        for place, string in enumerate(strings):
            if not isinstance(string, str):
                raise TapeGPTError(f"document {place} must be a str, not {type(string).__name__}: {shown(string)}")
            if stripped := string.strip():
                documents.append(stripped)
        if not documents:
            raise TapeGPTError("there is no document: give at least one string that is not blank")
        return cls(documents, "".join(sorted(set().union(*documents))))

    @classmethod
    def read(cls, source: str | os.PathLike[str], encoding: str = "utf-8", delimiter: str = LINE) -> Corpus:
        r"""The documents of a text file, stripped, blank ones left out; CR LF, CR and LF end a line, a BOM is dropped.

        The delimiter is the text between documents: "\n" makes each line one, "\n\n" each block of lines between blank
        lines (of spaces and tabs at most), "" the whole file, any other text what lies between its occurrences.
        Raises `TapeGPTError` for a file that is missing, unreadable, not text in this encoding, or blank, and for a
        delimiter that is not a str.
        """
        if not isinstance(delimiter, str):
            raise TapeGPTError(f"delimiter must be a str, not {shown(delimiter)}: give the text between documents")
        path = os.fspath(source)
        text = _with_line_feeds(_decoded(path, _content(path), encoding))
        documents = list(filter(None, map(str.strip, _pieces(text, _with_line_feeds(delimiter)))))
        if not documents:
            remedy = "write one string a line" if delimiter == LINE else "write some text between the delimiters"
            raise TapeGPTError(f"{path}: no document in it: {remedy}")
        return cls(documents, _distinct("".join(documents)))

    @classmethod
    def dataset(cls, name: str) -> Corpus:
        """An embedded data set, one of `DATASETS`; provenance in `datasets/README.md`."""
        if name not in DATASETS:
            raise TapeGPTError(f"dataset must be one of {', '.join(DATASETS)}, not {shown(name)}")
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
        separator = next(c for c in map(chr, range(sys.maxunicode + 1)) if c not in self.vocabulary)  # becomes BOS
        text = _translated(separator.join(["", *documents, ""]), self.vocabulary + separator)
        codec = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
        ids = array("I", text.encode(codec, "surrogatepass"))
        starts = array("q", accumulate((len(document) + 1 for document in documents), initial=0))
        return Tokens(ids, starts)

    def windows(self, block_size: int, order: Iterable[int] | None = None, cut: bool = False) -> Tokens:
        """`tokens(order)`, with a document of more than `block_size` predictions as several windows in a row.

        Each window but a document's last makes `block_size` predictions, and the next one starts with the token that
        it ends with. With `cut` every document is one window, whatever its length, for an engine that trains on its
        beginning. Raises `TapeGPTError` unless block_size is a whole number from 1 on.
        """
        if not is_whole(block_size) or block_size < 1:
            raise TapeGPTError(f"block_size must be a whole number from 1 on, not {shown(block_size)}")
        tokens = self.tokens(order)
        if cut:
            return tokens
        windows = map(range, tokens.starts, tokens.starts[1:], repeat(block_size))  # the starts inside each document
        return Tokens(tokens.ids, array("q", [*chain.from_iterable(windows), tokens.starts[-1]]))

    def encode(self, text: str) -> list[int]:
        """The tokens of a text's characters; raises `TapeGPTError` for a character that is not in the vocabulary."""
        tokens = {character: token for token, character in enumerate(self.vocabulary)}
        for place, character in enumerate(text):
            if character not in tokens:
                raise TapeGPTError(f"character {place}, {character!r}, is not in the vocabulary: leave it out")
        return [tokens[character] for character in text]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; raises `TapeGPTError` for a token that is no character, as BOS is none."""
        characters = []
        for place, token in enumerate(ids):
            if not 0 <= token < self.bos:
                raise TapeGPTError(f"token {place} is {token}: characters are 0 to {self.bos - 1}")
            characters.append(self.vocabulary[token])
        return "".join(characters)


def parse_delimiter(text: str) -> str:
    r"""The delimiter that a command line means: `line`, `blank`, `none`, or a text with the escapes \n \t \r \\.

    Raises `TapeGPTError` for any other escape, and for a backslash at the end.
    """
    if text in _WORDS:
        return _WORDS[text]
    delimiter, rest = [], iter(text)
    for character in rest:
        if character != "\\":
            delimiter.append(character)
            continue
        name = next(rest, "")
        if name not in _ESCAPES:
            raise TapeGPTError(
                f"--delimiter {text}: \\{name} is no escape: choose from \\n \\t \\r, and \\\\ for a backslash"
            )
        delimiter.append(_ESCAPES[name])
    return "".join(delimiter)


def _pieces(text: str, delimiter: str) -> list[str]:
    """What lies between delimiters, not yet stripped."""
    if delimiter == WHOLE:
        return [text]
    if delimiter == BLANK:  # a longer run of line ends leaves some to be stripped
        text = "\n".join([line.strip(" \t") and line for line in text.split("\n")])
    return text.split(delimiter)


def _translated(text: str, alphabet: str) -> str:
    """The text with each character replaced by the one whose code is its place in the alphabet."""
    table = {ord(character): place for place, character in enumerate(alphabet)}
    if max(table) < 256:  # a byte a character: 20 times faster
        codes = bytes(table.get(code, 0) for code in range(256))
        return text.encode("latin-1").translate(codes).decode("latin-1")
    return text.translate(table)


def _distinct(text: str) -> str:
    """The characters of a text, sorted."""
    try:
        absent = bytes(range(256)).translate(None, delete=text.encode("latin-1"))  # 20 times faster than a set
    except UnicodeEncodeError:
        return "".join(sorted(set(text)))
    return bytes(range(256)).translate(None, delete=absent).decode("latin-1")


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise TapeGPTError(
            f"{path or shown(path)}: no such file: give the path of a text file, one string a line"
        ) from None
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # not IsADirectoryError: Windows says that permission is denied
            raise TapeGPTError(f"{path}: is a directory: give the path of a text file") from None
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
        start = error.start + len(data) - len(error.object)  # utf-8-sig counts from behind the BOM
        other = "utf-16" if start == 0 and data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        raise TapeGPTError(
            f"{path}: line {_line(data[:start], encoding)}, byte {start}: 0x{data[start]:02x} is not {encoding}: "
            f"choose --encoding, for instance --encoding {other}"
        ) from None
    except ValueError as error:
        raise TapeGPTError(f"{path}: is not {encoding!r}: {error}: choose --encoding") from None
    return text.removeprefix("\ufeff")


def _with_line_feeds(text: str) -> str:
    """With LF for CR LF and CR, as Python's text mode reads it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(before: bytes, encoding: str) -> int:
    """Number, from 1, of the line that these bytes lead up to."""
    try:
        text = before.decode(encoding)
    except UnicodeError:  # cut inside what the encoding shifts
        text = before.decode("latin-1")
    return _with_line_feeds(text).count("\n") + 1
