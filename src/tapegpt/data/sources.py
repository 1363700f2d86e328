"""Where documents come from, and how they are read: files, directories, standard input, embedded data sets.

A table is known by the name of its file or a format that is given. Not here: the bytes of packed files (`packed.py`),
the columns of tables (`tables.py`), vocabulary and tokens (`corpus.py`).
"""

from __future__ import annotations

import os
from itertools import chain

from tapegpt.data.decoding import FAULT, REPLACEMENT, decode_chunks, with_line_feeds
from tapegpt.data.labels import identity, label, without_gaps
from tapegpt.data.packed import MAX_CONTENT, STDIN, is_packed, named, open_files, unpacked
from tapegpt.data.rows import Rows
from tapegpt.errors import TapeGPTError, argument, quote, warn
from tapegpt.ranges import Instance, OneOf, Whole
from tapegpt.record import Record, field
from tapegpt.text import amount, escape_line, unescape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO, Literal, TypedDict

    class Reading(TypedDict, total=False):
        """How files are read: the fields of `Source` but for what is read."""

        files: str | None
        format: Literal["text", "csv", "tsv", "jsonl", "json", "parquet", "arrow"] | None
        encoding: str
        errors: Literal["strict", "replace", "skip"]
        delimiter: str
        column: str | None
        header: bool
        separator: str | None
        quotes: bool
        lowercase: bool
        max_length: int | None
        unique: bool
        sample: int | None


DATASETS = {
    "names": "first names of the 1990 US Census",
    "surnames": "surnames of the 1990 US Census",
    "dinosaurs": "genera of dinosaurs",
    "elements": "chemical elements",
    "places": "places that time zones are named after",
    "languages": "languages, each as it calls itself",
}
FORMATS = ("text", "csv", "tsv", "jsonl", "json", "parquet", "arrow")
OF_TABLES = ("header", "separator", "quotes")  # of CSV
IN_PLACE = ("parquet", "arrow")  # formats that need all of a file
OF_FILES = (*OF_TABLES, "files", "errors", "format", "encoding", "delimiter", "column", "labels")
ERRORS = ("strict", "replace", "skip")
LINE, BLANK, WHOLE = "\n", "\n\n", ""  # the delimiters with a meaning of their own
LONGEST_LINE = 1 << 28  # characters of one: a packed file of 1 MB may hold 3 GB
PARTS = 16  # of a file of which a sample is read
ASCII_LIKE = ("utf-8", "utf8", "ascii", "latin-1", "cp1252", "utf-8-sig")  # encodings in which b"\n" ends a line

_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_SUFFIXES |= {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}


class _Escaped(Instance):
    """Texts that a command line gives with escapes as in `text.py`, or by a word."""

    def __init__(self, name: str, remedy: str, words: Mapping[str, str] | None = None) -> None:
        super().__init__(str, remedy)
        self._name, self._words = name, words or {}

    def parse(self, text: str) -> str:
        try:
            return self._words[text] if text in self._words else unescape_line(text)
        except ValueError as error:
            raise TapeGPTError(
                f"{argument(self._name)} {text}: {error} is no escape: choose from \\n \\t \\r \\x00 \\u0000, and "
                "\\\\ for a backslash"
            ) from None

    def write(self, value: str) -> str:
        if value in self._words:  # the text "line", which as a word means another
            return f"\\x{ord(value[0]):02x}{value[1:]}"
        words = {text: word for word, text in self._words.items()}
        return words.get(value) or escape_line(value).replace("\t", "\\t")


class Selection(Record):
    """Which strings become documents."""

    lowercase: bool = field("convert strings to lower case", Instance(bool), default=False)
    max_length: int | None = field(
        "length of the longest strings to read, in characters", Whole(1), default=None, usual="all"
    )
    unique: bool = field("read each string once", Instance(bool), default=False)

    def select(
        self,
        values: Sequence[str | None],
        *,
        keep_blank: bool = False,
        labels: Sequence[Sequence[str | None]] = (),
    ) -> list[str]:
        """The values that are chosen, without nulls and blank ones, which with `keep_blank` are the empty string."""
        chosen = self.choose(values, labels)
        documents = [text for text in chosen if text is not None] if keep_blank else list(filter(None, chosen))
        if not self.unique:
            return documents
        return list({identity(text): text for text in documents}.values()) if labels else list(dict.fromkeys(documents))

    def choose(self, values: Sequence[str | None], labels: Sequence[Sequence[str | None]] = ()) -> list[str | None]:
        """Each of the values stripped, and in lower case if asked for; None for a null, and for what is too long.

        Labels are columns, of which each value gets its own.
        """
        chosen: list[str | None]
        try:
            chosen = list(map(str.strip, values))  # type: ignore[arg-type]  # 3 times faster than to look at each
        except TypeError:
            chosen = [value and value.strip() for value in values]
        if self.lowercase:
            chosen = [text and text.lower() for text in chosen]
        if self.max_length is not None:
            chosen = [None if text is None or len(text) > self.max_length else text for text in chosen]
        return label(chosen, labels) if labels else chosen


class Source(Selection):
    """What is read, and how. Raises `TapeGPTError` for fields that do not fit together."""

    paths: tuple[str, ...] = ()  # of files and directories, "-" for standard input
    dataset: str | None = field(f"embedded data: {', '.join(DATASETS)}", OneOf(DATASETS), default=None)
    files: str | None = field(
        "files to read in directories and zip archives, such as '*.abc'",
        Instance(str, "give a pattern of names such as *.txt", "PATTERN"),
        default=None,
        usual="all",
    )
    format: str | None = field(
        f"format of DATA: {', '.join(FORMATS)}", OneOf(FORMATS), default=None, usual="by the names of files"
    )
    column: str | None = field(
        "column of a table: name or number; in JSON a key, or a.b",
        Instance(str, "give its name, or its number as text", "NAME"),
        default=None,
        usual="the only one",
    )
    labels: Sequence[str] = ()  # of tables: columns as `column`, whose values are labels of the documents
    header: bool = field("the first row of .csv and .tsv has data; columns have numbers", Instance(bool), default=True)
    separator: str | None = field(
        "character between the cells of .csv, as ';' or '\\t'",
        _Escaped("separator", "give a character"),
        default=None,
        usual=", or ;",
    )
    quotes: bool = field("quotation marks in .csv are ordinary characters", Instance(bool), default=True)
    delimiter: str = field(
        "what separates strings: text such as '\\n---\\n', or line, blank or none",
        _Escaped("delimiter", "give the text between documents", {"line": LINE, "blank": BLANK, "none": WHOLE}),
        default=LINE,
    )
    encoding: str = field("encoding of DATA", Instance(str, "give the name of one", "NAME"), default="utf-8")
    errors: str = field(
        "invalid bytes: strict, an error; replace, by U+FFFD; skip, leave the string out",
        OneOf(ERRORS),
        default="strict",
    )
    sample: int | None = field(
        "bytes that are read, about, of larger data: evenly spaced lines, or the beginning", Whole(1), default=None
    )

    def check(self) -> None:
        """Raise `TapeGPTError` where fields do not fit together."""
        if not isinstance(self.paths, tuple | list):  # of lists, which JSON has, tuples are made
            raise TapeGPTError(
                f"paths must be a tuple of str, not {quote(self.paths)}: give several, or one in a tuple"
            )
        labels = [self.labels] if isinstance(self.labels, str) else self.labels
        self.__dict__.update(paths=tuple(self.paths), labels=tuple(labels))
        if not all(isinstance(name, str) for name in labels) or len(set(labels)) < len(labels):
            raise TapeGPTError(f"{argument('labels')} must name columns, each once, not {quote(self.labels)}")
        for path in self.paths:
            if not isinstance(path, str):
                raise TapeGPTError(f"a path to read must be a str, not {quote(path)}: give the path of a file")
        if self.paths.count(STDIN) > 1:
            raise TapeGPTError("- is given more than once: standard input can be read once")
        if not self.paths and self.dataset is None:
            raise TapeGPTError(f"there is nothing to read: give a path, or a dataset: {', '.join(DATASETS)}")
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise TapeGPTError(
                f"{argument('separator')} must be one character, not a quotation mark or the end of a line, not "
                f"{quote(self.separator)}"
            )
        if self.dataset is not None:
            self._check_dataset()

    def _check_dataset(self) -> None:
        if self.paths:
            raise TapeGPTError(
                f"the path {self.paths[0]} and {argument('dataset')} {quote(self.dataset)} exclude each other: give one"
            )
        for name in OF_FILES:
            if getattr(self, name) != getattr(Source, name):
                raise TapeGPTError(
                    f"{name} {quote(getattr(self, name))} is for files, not for the embedded {self.dataset}: leave it "
                    "out, or give the path of a file"
                )

    def options(self) -> dict[str, list[str]]:
        """The options of a command that reads these paths so, each as the words that are typed."""
        found = {}
        for name, value in self.as_dict().items():
            if name == "labels" and value:
                found[name] = [f"--labels={each}" for each in value]
            elif value != getattr(Source, name) and name not in ("paths", "labels", "sample"):  # which a budget decides
                flag = f"--{'no-' * (value is False)}{name.replace('_', '-')}"
                text = str(self.ranges[name].write(value))
                separate = [flag] if isinstance(value, bool) else [flag, text]
                found[name] = [f"{flag}={text}"] if text.startswith("-") else separate
        return found

    def absolute(self) -> Source:
        """The same whatever the current directory is."""
        return self.replace(paths=tuple(path if path == STDIN else os.path.abspath(path) for path in self.paths))

    def by_name(self) -> Source:
        """The same with the names of files alone, for whoever has them elsewhere."""
        return self.replace(paths=tuple(os.path.basename(path.rstrip("/")) or path for path in self.paths))

    @property
    def place(self) -> str:
        """What is read, in words: the data set, or the first of the paths and how many more there are."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return self.dataset or f"{named(self.paths[0])}{more}"

    @property
    def again(self) -> bool:
        """Whether it can be read more than once, as standard input and pipes cannot."""
        return not any(path == STDIN or _is_stream(path) for path in self.paths)

    def listing(self) -> list[str]:
        """The files, in order: those of directories by path, of all levels, without hidden ones and linked directories.

        Raises `TapeGPTError` for a directory that cannot be read or has no file in it.
        """
        if self.dataset is not None:
            file = f"{self.dataset}.txt{'' if self.dataset == 'names' else '.gz'}"  # to inflate names takes 0.6 ms
            return [os.path.join(os.path.dirname(os.path.abspath(__file__)), "datasets", file)]
        return [file for path in self.paths for file in self._listing(path)]

    def _listing(self, path: str) -> list[str]:
        if path == STDIN or not os.path.isdir(path):
            return [path]

        def failed(error: OSError) -> None:
            raise TapeGPTError(f"{error.filename!r}: cannot be read: {error.strerror}: leave it out") from None

        found = []
        for directory, names, files in os.walk(path, onerror=failed):  # it follows no link to a directory
            names[:] = [name for name in names if not name.startswith(".")]
            found += [os.path.join(directory, name) for name in files if not name.startswith(".") and self._wants(name)]
        found = sorted(filter(os.path.isfile, found))
        if not found:
            called = "" if self.files is None else f" called {self.files}"
            raise TapeGPTError(f"{path}: no file{called} in this directory: give one with text files in it")
        return found

    def _wants(self, path: str) -> bool:
        if self.files is None:
            return True
        from fnmatch import fnmatchcase

        return fnmatchcase(os.path.basename(path), self.files)

    def open(self, most: int | None = None) -> Iterator[tuple[str, Iterable[bytes]]]:
        """The paths of all files, those in zip files too, and the bytes of each in chunks, inflated, as they come.

        What a packed file holds may be limited to `most` bytes.
        """
        return chain.from_iterable(self._open(path, most) for path in self.listing())

    def _open(self, path: str, most: int | None = None) -> Iterator[tuple[str, Iterable[bytes]]]:
        if self.kind(path) in IN_PLACE and os.path.isfile(path) and not is_packed(path):
            with open(path, "rb") as file:  # which is read here and there
                yield path, file
            return
        yield from (each for each in open_files(path, most=most) if each[0] == path or self._wants(each[0]))

    @property
    def size(self) -> int:
        """Bytes of its files on the disk; streams have none."""
        return sum(os.path.getsize(path) for path in self.listing() if os.path.isfile(path))

    def documents(self) -> list[str]:
        """The documents of all files, as `rows` and then `select` give them.

        Raises `TapeGPTError` for what cannot be read, and where no document is left.
        """
        size = self.size
        whole = self.sample is None or size <= self.sample
        sampled = chain.from_iterable(self._sample(path, size) for path in self.listing())
        documents: list[str] = []
        for strings in self._select(self.open(MAX_CONTENT) if whole else sampled):
            documents += strings
        documents = without_gaps(documents, self.labels)
        if not documents:
            raise self.emptiness()
        return documents

    def chosen(self, rows: Rows) -> list[str | None]:
        """As `choose`, of the rows of one of its files."""
        return self.choose(rows.values, list(map(rows.column, self.labels)))

    def tables(self) -> Iterator[Rows]:
        """The rows of all files with all columns, some at a time; raises `TapeGPTError` for what cannot be read."""
        return chain.from_iterable(self.rows(path, chunks, every=True) for path, chunks in self.open())

    def batches(self, *, keep_blank: bool = False) -> Iterator[list[str]]:
        """The documents, some at a time, and lines of standard input as soon as they are there; no list is empty.

        With `keep_blank` a blank line, or cell of a table, is the empty string, so that there are as many strings as
        lines. Raises `TapeGPTError` for what cannot be read.
        """
        return self._select(self.open(), keep_blank)

    def _select(self, files: Iterable[tuple[str, Iterable[bytes]]], keep_blank: bool = False) -> Iterator[list[str]]:
        seen = set[object]()
        for path, chunks in files:
            has_blank = keep_blank and (self.kind(path) != "text" or self.delimiter == LINE)
            for rows in self.rows(path, chunks):
                labels = list(map(rows.column, self.labels))
                strings = self.select(rows.values, keep_blank=has_blank, labels=labels)
                if self.unique:
                    key = identity if labels else str
                    strings = [string for string in strings if key(string) not in seen]
                    seen.update(map(key, strings))
                if strings:
                    yield strings

    def _sample(self, path: str, size: int) -> Iterator[tuple[str, Iterable[bytes]]]:
        from io import BytesIO

        share = (self.sample or 0) * os.path.getsize(path) // size if os.path.isfile(path) else 0
        if share and not is_packed(path):
            with open(path, "rb") as file:
                yield path, [self._excerpt(path, file, share)]
            return
        inside = [(name, b"".join(chunks)) for name, chunks in self._open(path, MAX_CONTENT)]
        total = sum(len(data) for _, data in inside)
        for name, data in inside:
            yield name, [self._excerpt(name, BytesIO(data), share * len(data) // total) if share and total else data]

    def _excerpt(self, path: str, file: BinaryIO, size: int) -> bytes:
        """About so many bytes of a file, in whole documents; all of it where these cannot be told apart unread."""
        kind = self.kind(path)
        is_whole = kind in ("json", *IN_PLACE) or (kind == "text" and self.delimiter == WHOLE)
        if is_whole or self.encoding.lower() not in ASCII_LIKE:
            return file.read()
        if kind == "jsonl" or (kind == "text" and self.delimiter == LINE):
            return excerpt(file, size, PARTS)
        if kind == "text":
            beginning, found, rest = file.read(size).rpartition(self.delimiter.encode(self.encoding))
            return beginning if found else rest + file.read()
        rows = excerpt(file, size, 1)
        while self.quotes and rows.count(b'"') % 2 and (line := file.readline()):  # a quoted cell goes on
            rows += line
        return rows

    def kind(self, path: str) -> str:
        """The format of a file: the one that is chosen, or else the one that its name says."""
        return self.format or format_of(path)

    def rows(self, path: str, chunks: Iterable[bytes], every: bool = False) -> Iterator[Rows]:
        """What a file holds, some rows at a time: strings that are not yet stripped, blank ones among them.

        They may lack columns beside the one that is chosen, unless `every` column is requested.

        CR LF and CR have become LF, and a BOM is dropped. Raises `TapeGPTError` for what is not text in the encoding,
        or not of the format, or has no such column. Warns (`TapeGPTWarning`) of what is replaced or left out.
        """
        kind, place, every = self.kind(path), named(path), every or bool(self.labels)
        self._check_kind(place, kind)
        if kind in IN_PLACE:
            from tapegpt.data.arrow import read_arrow

            yield from read_arrow(place, kind, chunks, self.column, every)
            return
        faults = _Faults(self.errors)
        texts = faults.watch(decode_chunks(place, chunks, self.encoding, mark=self.errors != "strict"))
        if kind == "text":
            delimiter = with_line_feeds(self.delimiter)
            lines = (piece.removesuffix("\n").split("\n") for piece in _whole_lines(place, texts))
            found: Iterator[Rows] = map(Rows, lines if delimiter == LINE else [_pieces("".join(texts), delimiter)])
        else:
            from tapegpt.data.tables import read_rows

            pieces = texts if kind == "json" else _whole_lines(place, texts)
            found = read_rows(place, kind, pieces, self, every)
        for rows in found:
            yield faults.leave_out(rows)
        faults.tell(place, self.encoding)

    def _check_kind(self, place: str, kind: str) -> None:
        wanted = [("column", self.column)] if self.column is not None else [("labels", name) for name in self.labels]
        for name, column in wanted if kind == "text" else ():
            raise TapeGPTError(
                f"{place}: is read as text, which has no column {quote(column)}: leave {argument(name)} out, "
                f"or choose {argument('format')} from {', '.join(FORMATS[1:])}"
            )
        if kind != "text" and self.delimiter != LINE:
            rule = f"{argument('delimiter')} is for {argument('format', 'text')}"
            raise TapeGPTError(f"{place}: is read as {kind}, {rule}: give one of them")
        for name in () if kind in ("csv", "tsv") else OF_TABLES:
            if getattr(self, name) != getattr(Source, name):
                given = argument(name, getattr(self, name))
                raise TapeGPTError(f"{place}: is read as {kind}, {given} is for csv and tsv: leave it out")

    def values(self, path: str, data: bytes) -> list[str]:
        """All strings of a file's content, as `rows` gives them, nulls left out."""
        return [value for rows in self.rows(path, [data]) for value in rows.values if value is not None]

    def emptiness(self) -> TapeGPTError:
        """The error where no document is left."""
        if self.max_length is not None:
            found = f"no document of 1 to {self.max_length} characters"
            return TapeGPTError(f"{self.place}: {found}: choose another max_length")
        remedy = "write one string a line" if self.delimiter == LINE else "write some text between the delimiters"
        return TapeGPTError(f"{self.place}: no document in it: {remedy}")


# How, not what; tokens are the rule of a vocabulary.
READING = ("tokens", *[name for name in Source.fields if name not in ("paths", "dataset")])


class _Faults:
    """What of a file is not of its encoding: how many strings are left out, or bytes replaced, and where the first."""

    def __init__(self, errors: str) -> None:
        self._errors = errors
        self._count = self._line = 0

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, with a `FAULT` for each unless they are replaced."""
        lines = 1
        for text in texts:
            if self._errors != "strict" and FAULT in text:
                self._line = self._line or lines + text[: text.index(FAULT)].count("\n")
                if self._errors == "replace":
                    self._count += text.count(FAULT)
                    text = text.replace(FAULT, REPLACEMENT)  # noqa: PLW2901
            lines += text.count("\n") if self._errors != "strict" else 0
            yield text

    def leave_out(self, rows: Rows) -> Rows:
        if self._errors != "skip" or not self._line:
            return rows
        whole = [number for number, line in enumerate(map("".join, rows.cells(rows.names))) if FAULT not in line]
        self._count += len(rows.values) - len(whole)
        return rows.take(whole)

    def tell(self, place: str, encoding: str) -> None:
        if self._count:
            noun, done = ("place", "replaced by U+FFFD") if self._errors == "replace" else ("string", "left out")
            count = amount(self._count, noun)
            warn(f"{place}: is not all {encoding}: {count} {done}, the first in line {self._line}")


def format_of(path: str) -> str:
    """The format that a file's name says."""
    name = unpacked(path).lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), "text")


def _pieces(text: str, delimiter: str) -> list[str]:
    """What lies between delimiters, not yet stripped."""
    if delimiter == WHOLE:
        return [text]
    if delimiter == BLANK:  # a longer run of line ends leaves some to be stripped
        text = "\n".join([line.strip(" \t") and line for line in text.split("\n")])
    return text.split(delimiter)


def _whole_lines(place: str, texts: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that end where lines do; raises `TapeGPTError` for one that does not end."""
    held: list[str] = []  # of a line whose end is still to come
    size = 0  # of these
    for text in texts:
        lines, end, rest = text.rpartition("\n")
        if end:
            yield "".join([*held, lines, end])
            held.clear()
            size = 0
        held.append(rest)
        size += len(rest)
        if size > LONGEST_LINE:
            raise TapeGPTError(
                f"{place}: a line has more than {LONGEST_LINE:,} characters: give lines, or for text another "
                f"{argument('delimiter')}"
            )
    if last := "".join(held):
        yield last


def _is_stream(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


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
