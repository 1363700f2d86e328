"""Strings of any number for a command, some at a time: lines as they come, and what is not lines file by file.

Not here: which options choose them (`data.py`), and whatever has to see all of a file (`sources.py`).
"""

from __future__ import annotations

import sys
from itertools import chain

from tapegpt.data.sources import (
    CHUNK,
    GZIP,
    LINE,
    STDIN,
    EncodingError,
    check_width,
    content,
    decoded,
    format_of,
    inflated,
    named,
    with_line_feeds,
)
from tapegpt.errors import TapeGPTError, argument

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
            strings = source.selected(values, keep_blank=keep_blank and (is_lines or kind != "text"))
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
    for text in _texts(path, encoding):
        first, *lines = text.split("\n")
        pieces.append(first)
        if lines:
            yield ["".join(pieces), *lines[:-1]]
            pieces = lines[-1:]
    if last := "".join(pieces):  # behind the last end of a line there is no line
        yield [last]


def _texts(path: str, encoding: str) -> Iterator[str]:
    """The text of a file, a chunk at a time, with LF for CR LF and CR, without a BOM."""
    from codecs import getincrementaldecoder
    from io import IncrementalNewlineDecoder

    decoded(path, bytes(4), encoding)  # text in any encoding: it looks whether there is one of this name
    decoder = IncrementalNewlineDecoder(getincrementaldecoder(encoding)(), translate=True)
    size, lines, mark = 0, 1, "\ufeff"
    for chunk in chain(_chunks(path), [b""]):
        size += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            good = error.object[: error.start]
            held = "\r" * (decoder.getstate()[1] & 1)  # at the end of the chunk before: perhaps a LF follows
            lines += with_line_feeds(held + good.decode(error.encoding, "replace")).count("\n")
            at = size - len(error.object) + error.start
            raise EncodingError.at(path, encoding, error.object, error.start, at, lines) from None
        except UnicodeError as error:  # of a BOM that is missing, which says no place
            raise EncodingError(
                f"{named(path)}: is not {encoding}: {error}: choose another {argument('encoding')}"
            ) from None
        check_width(path, chunk, text)
        lines += text.count("\n")
        if text:
            yield text.removeprefix(mark)
            mark = ""


def _chunks(path: str) -> Iterator[bytes]:
    """The bytes of a file or of standard input, decompressed where they are gzip."""
    with _opened(path) as file:
        reading = iter(lambda: file.read1(CHUNK), b"")
        try:
            first = b""
            while len(first) < len(GZIP) and GZIP.startswith(first) and (more := next(reading, b"")):
                first += more  # a pipe may give byte after byte
            every = chain([first], reading)
            yield from inflated(path, every) if first.startswith(GZIP) else every
        except OSError as error:
            raise TapeGPTError(f"{named(path)!r}: cannot be read: {error.strerror}") from None


def _opened(path: str) -> AbstractContextManager[BufferedReader]:
    from contextlib import nullcontext

    if path == STDIN and sys.stdin is not None:
        return nullcontext(sys.stdin.buffer)  # type: ignore[arg-type]  # it has what is used of a BufferedReader
    try:
        return open(path, "rb")
    except (OSError, ValueError):
        content(path)  # says why it cannot be read
        raise
