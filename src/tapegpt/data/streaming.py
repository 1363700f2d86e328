"""Strings of any number for a command, some at a time: lines as they come, and what is not lines file by file.

Not here: which options choose them (`data.py`), and whatever has to see all of a file (`sources.py`).
"""

from __future__ import annotations

import sys
from itertools import chain

from tapegpt.data.decoding import decode_chunks
from tapegpt.data.sources import CHUNK, GZIP, LINE, STDIN, content, format_of, inflate, named
from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from io import BufferedReader

    from tapegpt.data.sources import Source


def batches(source: Source, *, keep_blank: bool = False) -> Iterator[list[str]]:
    """The strings of a source in their order, chosen as for training; none of the lists is empty.

    Lines of standard input come as soon as they are there. With `keep_blank` a blank line, or cell of a table, is the
    empty string, so that there are as many strings as lines. Raises `TapeGPTError` for what cannot be read.
    """
    seen: set[str] = set()
    for path in source.files():
        kind = source.format or format_of(path)
        is_lines = kind == "text" and source.delimiter == LINE and source.column is None
        for values in _lines(path, source.encoding) if is_lines else _whole(source, path):
            strings = source.select(values, keep_blank=keep_blank and (is_lines or kind != "text"))
            if source.unique:
                strings = [string for string in strings if string not in seen]
                seen.update(strings)
            if strings:
                yield strings


def _whole(source: Source, path: str) -> Iterator[list[str]]:
    yield source.values(path, content(path))


def _lines(path: str, encoding: str) -> Iterator[list[str]]:
    """The lines of a text, those that end in a chunk at a time."""
    pieces: list[str] = []  # of a line whose end is still to come
    for text in decode_chunks(named(path), _chunks(path), encoding):
        first, *lines = text.split("\n")
        pieces.append(first)
        if lines:
            yield ["".join(pieces), *lines[:-1]]
            pieces = lines[-1:]
    if last := "".join(pieces):  # behind the last end of a line there is no line
        yield [last]


def _chunks(path: str) -> Iterator[bytes]:
    """The bytes of a file or of standard input, decompressed where they are gzip."""
    with _open(path) as file:
        reading = iter(lambda: file.read1(CHUNK), b"")
        try:
            first = b""
            while len(first) < len(GZIP) and GZIP.startswith(first) and (more := next(reading, b"")):
                first += more  # a pipe may give byte after byte
            every = chain([first], reading)
            yield from inflate(path, every) if first.startswith(GZIP) else every
        except OSError as error:
            raise TapeGPTError(f"{named(path)!r}: cannot be read: {error.strerror}") from None


def _open(path: str) -> AbstractContextManager[BufferedReader]:
    from contextlib import nullcontext

    if path == STDIN and sys.stdin is not None:
        return nullcontext(sys.stdin.buffer)  # type: ignore[arg-type]  # it has what is used of a BufferedReader
    try:
        return open(path, "rb")
    except (OSError, ValueError):
        content(path)  # says why it cannot be read
        raise
