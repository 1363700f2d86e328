"""Where documents come from, and how they are read: files, directories, standard input, embedded data sets.

Gzip is known by its first bytes, a table by the name of its file or a format that is given. Not here: the columns of
tables (`columns.py`), vocabulary and tokens (`corpus.py`).
"""

from __future__ import annotations

import os
import sys
from itertools import chain

from tapegpt.data.decoding import decode, with_line_feeds
from tapegpt.errors import TapeGPTError, argument, quote
from tapegpt.ranges import Instance, OneOf, Whole
from tapegpt.record import Record, field
from tapegpt.text import escape_line, unescape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO, Literal, TypedDict

    class Reading(TypedDict, total=False):
        """How files are read: the fields of `Source` but for what is read."""

        format: Literal["text", "csv", "tsv", "jsonl", "json"] | None
        encoding: str
        delimiter: str
        column: str | None
        header: bool
        lowercase: bool
        max_length: int | None
        unique: bool
        sample: int | None


DATASETS = {
    "names": "first names of the 1990 US Census",
    "surnames": "surnames of the 1990 US Census",
}
FORMATS = ("text", "csv", "tsv", "jsonl", "json")
STDIN = "-"
LINE, BLANK, WHOLE = "\n", "\n\n", ""  # the delimiters with a meaning of their own
PARTS = 16  # of a file of which a sample is read
ASCII_LIKE = ("utf-8", "utf8", "ascii", "latin-1", "cp1252", "utf-8-sig")  # encodings in which b"\n" ends a line
CHUNK = 1 << 20  # bytes that are read or inflated at a time
MAX_CONTENT = 4 << 30  # bytes that a gzip file may become: a few MB can say terabytes

_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_WORDS = {"line": LINE, "blank": BLANK, "none": WHOLE}
GZIP = b"\x1f\x8b\x08"


class Selection(Record):
    """Which strings become documents."""

    lowercase: bool = field("in lower case", Instance(bool), default=False)
    max_length: int | None = field("longer documents, in characters, are left out", Whole(1), default=None)
    unique: bool = field("each document once, where it comes first", Instance(bool), default=False)

    def select(self, values: Iterable[str], *, keep_blank: bool = False) -> list[str]:
        """The values stripped, without blank ones, which with `keep_blank` are the empty string; chosen as asked."""
        stripped = map(str.strip, values)
        documents = list(stripped if keep_blank else filter(None, stripped))
        if self.lowercase:
            documents = list(map(str.lower, documents))
        if self.max_length is not None:
            documents = [document for document in documents if len(document) <= self.max_length]
        return list(dict.fromkeys(documents)) if self.unique else documents


class Source(Selection):
    """What is read, and how. Raises `TapeGPTError` for fields that do not fit together."""

    paths: tuple[str, ...] = ()  # of files and directories, "-" for standard input
    dataset: str | None = field("or an embedded data set", OneOf(DATASETS), default=None)
    format: str | None = field("None: each file's name says it, or it is text", OneOf(FORMATS), default=None)
    encoding: str = field("of text", Instance(str, "give the name of one"), default="utf-8")
    delimiter: str = field(
        "text: what lies between documents", Instance(str, "give the text between documents"), default=LINE
    )
    column: str | None = field(
        "tables: name or number from 1; JSON: a key or dotted path",
        Instance(str, "give its name, or its number as text"),
        default=None,
    )
    header: bool = field("tables: whether the first row names the columns", Instance(bool), default=True)
    sample: int | None = field(
        "bytes that are read, about, of larger data: evenly spaced lines, or the beginning", Whole(1), default=None
    )

    def check(self) -> None:
        """Raise `TapeGPTError` where a field is out of range."""
        if not isinstance(self.paths, tuple | list):  # of lists, which JSON has, tuples are made
            raise TapeGPTError(
                f"paths must be a tuple of str, not {quote(self.paths)}: give several, or one in a tuple"
            )
        self.__dict__["paths"] = tuple(self.paths)
        for path in self.paths:
            if not isinstance(path, str):
                raise TapeGPTError(f"a path to read must be a str, not {quote(path)}: give the path of a file")
        if self.paths.count(STDIN) > 1:
            raise TapeGPTError("- is given more than once: standard input can be read once")
        if not self.paths and self.dataset is None:
            raise TapeGPTError(f"there is nothing to read: give a path, or a dataset: {' or '.join(DATASETS)}")
        super().check()
        if self.dataset is not None:
            self._check_dataset()

    def _check_dataset(self) -> None:
        if self.paths:
            raise TapeGPTError(
                f"the path {self.paths[0]} and {argument('dataset')} {quote(self.dataset)} exclude each other: give one"
            )
        for name in ("format", "encoding", "delimiter", "column", "header"):
            if getattr(self, name) != getattr(Source, name):
                raise TapeGPTError(
                    f"{name} {quote(getattr(self, name))} is for files, not for the embedded {self.dataset}: leave it "
                    "out, or give the path of a file"
                )

    def options(self) -> dict[str, list[str]]:
        """The options of a command that reads these paths so, each as the words that are typed."""
        found = {}
        for name, value in self.as_dict().items():
            if value != getattr(Source, name) and name not in ("paths", "sample"):  # which a budget decides
                flag = "--no-header" if name == "header" else f"--{name.replace('_', '-')}"
                text = _type_delimiter(value) if name == "delimiter" else str(value)
                separate = [flag] if isinstance(value, bool) else [flag, text]
                found[name] = [f"{flag}={text}"] if text.startswith("-") else separate
        return found

    def absolute(self) -> Source:
        """The same whatever the current directory is."""
        return self.replace(paths=tuple(path if path == STDIN else os.path.abspath(path) for path in self.paths))

    @property
    def again(self) -> bool:
        """Whether it can be read more than once, as standard input and pipes cannot."""
        return not any(path == STDIN or _is_stream(path) for path in self.paths)

    def files(self) -> list[str]:
        """The files, in order: those of directories by path, of all levels, without hidden ones and linked directories.

        Raises `TapeGPTError` for a directory that cannot be read or has no file in it.
        """
        if self.dataset is not None:
            return [os.path.join(os.path.dirname(os.path.abspath(__file__)), "datasets", f"{self.dataset}.txt.gz")]
        return [file for path in self.paths for file in _files(path)]

    def documents(self) -> list[str]:
        """The documents of all files, as `values` and then `select` give them.

        Raises `TapeGPTError` for what cannot be read, and where no document is left.
        """
        size = self.size
        whole = self.sample is None or size <= self.sample
        values = [self.values(path, content(path) if whole else self._excerpt(path, size)) for path in self.files()]
        documents = self.select(chain.from_iterable(values))
        if not documents:
            raise self.emptiness()
        return documents

    @property
    def size(self) -> int:
        """Bytes of its files on the disk; streams have none."""
        return sum(os.path.getsize(path) for path in self.files() if os.path.isfile(path))

    def _excerpt(self, path: str, size: int) -> bytes:
        """A file's share of the sample, in whole documents; all of it where these cannot be told apart unread."""
        from io import BytesIO

        kind = self.format or format_of(path)
        whole = kind == "text" and self.delimiter == WHOLE
        if whole or not os.path.isfile(path) or self.encoding.lower() not in ASCII_LIKE:
            return content(path)
        share = (self.sample or 0) * os.path.getsize(path) // size
        with BytesIO(content(path)) if _is_packed(path) else open(path, "rb") as file:
            if kind == "jsonl" or (kind == "text" and self.delimiter == LINE):
                return excerpt(file, share, PARTS)
            if kind == "text":
                beginning, found, _ = file.read(share).rpartition(self.delimiter.encode(self.encoding))
                return beginning if found else content(path)
            rows = excerpt(file, share, 1)
            while rows.count(b'"') % 2 and (line := file.readline()):  # a quoted cell goes on
                rows += line
            return rows

    def values(self, path: str, data: bytes) -> list[str]:
        """What a file's content holds, not yet stripped, blank ones among it.

        CR LF and CR have become LF, and a BOM is dropped. Raises `TapeGPTError` for what is not text in the encoding,
        or not of the format, or has no such column.
        """
        text = with_line_feeds(decode(named(path), data, self.encoding))
        kind = self.format or format_of(path)
        if kind == "text":
            if self.column is not None:
                raise TapeGPTError(
                    f"{named(path)}: is read as text, which has no column {quote(self.column)}: leave "
                    f"{argument('column')} out, or choose {argument('format')} from {', '.join(FORMATS[1:])}"
                )
            return _pieces(text, with_line_feeds(self.delimiter))
        if self.delimiter != LINE:
            rule = f"{argument('delimiter')} is for {argument('format', 'text')}"
            raise TapeGPTError(f"{named(path)}: is read as {kind}, {rule}: give one of them")
        from tapegpt.data.columns import column_of

        return column_of(named(path), kind, text, self.column, self.header)

    def emptiness(self) -> TapeGPTError:
        """The error where no document is left."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        place = self.dataset or f"{named(self.paths[0])}{more}"
        if self.max_length is not None:
            return TapeGPTError(f"{place}: no document of 1 to {self.max_length} characters: choose another max_length")
        remedy = "write one string a line" if self.delimiter == LINE else "write some text between the delimiters"
        return TapeGPTError(f"{place}: no document in it: {remedy}")


# How, not what; tokens are the rule of a vocabulary.
READING = ("tokens", *[name for name in Source.fields if name not in ("paths", "dataset")])


def parse_delimiter(text: str) -> str:
    r"""The delimiter that a command line means: `line`, `blank`, `none`, or a text with escapes as in `text.py`.

    Raises `TapeGPTError` for any other escape, and for a backslash at the end.
    """
    if text in _WORDS:
        return _WORDS[text]
    try:
        return unescape_line(text)
    except ValueError as error:
        raise TapeGPTError(
            f"{argument('delimiter')} {text}: {error} is no escape: choose from \\n \\t \\r \\x00 \\u0000, and "
            "\\\\ for a backslash"
        ) from None


def _type_delimiter(delimiter: str) -> str:
    """A delimiter as `parse_delimiter` reads it."""
    words = {text: word for word, text in _WORDS.items()}
    if delimiter in _WORDS:  # the text "line", which as a word means another
        return f"\\x{ord(delimiter[0]):02x}{delimiter[1:]}"
    return words.get(delimiter) or escape_line(delimiter).replace("\t", "\\t")


def format_of(path: str) -> str:
    """The format that a file's name says."""
    name = path.lower().removesuffix(".gz")
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), "text")


def named(path: str) -> str:
    """A path as messages name it."""
    return "standard input" if path == STDIN else path or quote(path)


def _pieces(text: str, delimiter: str) -> list[str]:
    """What lies between delimiters, not yet stripped."""
    if delimiter == WHOLE:
        return [text]
    if delimiter == BLANK:  # a longer run of line ends leaves some to be stripped
        text = "\n".join([line.strip(" \t") and line for line in text.split("\n")])
    return text.split(delimiter)


# --- files ------------------------------------------------------------------------------------------------------


def _files(path: str) -> list[str]:
    if path == STDIN or not os.path.isdir(path):
        return [path]

    def failed(error: OSError) -> None:
        raise TapeGPTError(f"{error.filename!r}: cannot be read: {error.strerror}: leave it out") from None

    found = []
    for directory, names, files in os.walk(path, onerror=failed):  # it follows no link to a directory
        names[:] = [name for name in names if not name.startswith(".")]
        found += [os.path.join(directory, name) for name in files if not name.startswith(".")]
    found = sorted(filter(os.path.isfile, found))
    if not found:
        raise TapeGPTError(f"{path}: no file in this directory: give one with text files in it")
    return found


def _is_stream(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def content(path: str) -> bytes:
    """The bytes of a file or of standard input, decompressed where they are gzip.

    Raises `TapeGPTError` for what is missing, unreadable, damaged gzip, or gzip of more than `MAX_CONTENT` bytes.
    """
    try:
        data = _stdin() if path == STDIN else _read(path)
    except FileNotFoundError:
        raise TapeGPTError(f"{named(path)}: no such file: give the path of a text file, one string a line") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TapeGPTError(f"{named(path)!r}: cannot be read: {reason}") from None
    return decompress(path, data)


def excerpt(file: BinaryIO, size: int, parts: int) -> bytes:
    """Evenly spaced parts of a file, about `size` bytes together, each of whole lines; all where it has no more."""
    whole, pieces = file.seek(0, os.SEEK_END), []
    if whole <= size:
        parts = 1
    for part in range(parts):
        file.seek(whole * part // parts)
        if part:
            file.readline()  # the rest of one that may have been read
        pieces.append(file.read(size // parts) + file.readline())
    return b"".join(pieces)


def _is_packed(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(GZIP)) == GZIP
    except OSError:
        return True  # whoever reads all of it says what is wrong


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _stdin() -> bytes:
    if sys.stdin is None:  # closed by whoever started this
        raise ValueError("it is closed: give the path of a file")
    return sys.stdin.buffer.read()


class TooLargeError(TapeGPTError):
    """Gzip data that hold more than may be."""


def decompress(path: str, data: bytes, most: int = MAX_CONTENT) -> bytes:
    """What data hold where they are gzip, else the data themselves; raises as `inflate`, and `TooLargeError`.

    It goes piece by piece, so that what would fill the memory is seen before it does.
    """
    if not data.startswith(GZIP):
        return data
    pieces, size = [], 0
    for piece in inflate(path, (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise TooLargeError(f"{named(path)}: this gzip file holds more than {most:,} bytes: give it in parts")
    return b"".join(pieces)


def inflate(path: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What all members of gzip data hold, at most `CHUNK` bytes at a time: a few MB can say terabytes.

    Raises `TapeGPTError` for data that are damaged or not whole.
    """
    import zlib

    member, begun, place = zlib.decompressobj(wbits=31), False, 0  # 31: the gzip format
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                piece = member.decompress(rest, CHUNK)
                if piece:
                    yield piece
                left, begun = member.unconsumed_tail or member.unused_data, not member.eof
                place += len(rest) - len(left)
                rest = left
                if member.eof:
                    member = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise TapeGPTError(f"{named(path)}: this gzip file is damaged at byte {place}: {error}") from None
    if begun:
        raise TapeGPTError(f"{named(path)}: this gzip file ends too early, part of it is missing")
