"""Strings of any number for a command, some at a time: lines as they come, and what is not lines file by file.

Not here: which options choose them (`data.py`), and whatever has to see all of a file (`sources.py`).
"""

from __future__ import annotations

import sys

from tapegpt.errors import TapeGPTError
from tapegpt.sources import LINE, STDIN, content, decoded, format_of, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from tapegpt.sources import Source

CHUNK = 1 << 20  # bytes that are read at a time
_GZIP = b"\x1f\x8b\x08"


def batches(source: Source) -> Iterator[list[str]]:
    """The strings of a source in their order, chosen as for training; none of the lists is empty.

    Lines of standard input come as soon as they are there. Raises `TapeGPTError` for what cannot be read.
    """
    seen: set[str] = set()
    for path in source.files():
        kind = source.format or format_of(path)
        is_lines = kind == "text" and source.delimiter == LINE and source.column is None
        for values in _lines(path, source.encoding) if is_lines else _whole(source, path):
            strings = source.selected(values)
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
    yield ["".join(pieces)]


def _texts(path: str, encoding: str) -> Iterator[str]:
    """The text of a file, a chunk at a time, with LF for CR LF and CR, without a BOM."""
    from codecs import getincrementaldecoder
    from io import IncrementalNewlineDecoder

    decoded(path, b"", encoding)  # there is an encoding of this name
    decoder = IncrementalNewlineDecoder(getincrementaldecoder(encoding)(), translate=True)
    size, lines, mark = 0, 0, "\ufeff"
    for chunk in _chunks(path):
        size += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            lines += decoder.decode(error.object[: error.start] + "\n".encode(encoding), final=True).count("\n")
            at = size - len(error.object) + error.start
            raise TapeGPTError(
                f"{named(path)}: line {lines}, byte {at}: 0x{error.object[error.start]:02x} is not {encoding}: "
                "choose --encoding, for instance --encoding latin-1"
            ) from None
        lines += text.count("\n")
        if text:
            yield text.removeprefix(mark)
            mark = ""


def _chunks(path: str) -> Iterator[bytes]:
    """The bytes of a file, decompressed where they are gzip, and at the end none."""
    import zlib

    try:
        with _opened(path) as file:
            read = file.read1 if path == STDIN else file.read  # type: ignore[attr-defined]  # both kinds have it
            chunk = b" "
            while chunk:
                chunk = read(CHUNK)
                yield chunk
    except EOFError:
        raise TapeGPTError(f"{named(path)}: this gzip file ends too early, part of it is missing") from None
    except (OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TapeGPTError(f"{named(path)}: cannot be read: {reason}: leave it out") from None


def _opened(path: str) -> BinaryIO:
    if path == STDIN and sys.stdin is not None:
        file: BinaryIO = open(sys.stdin.fileno(), "rb", closefd=False)
    else:
        try:
            file = open(path, "rb")
        except (OSError, ValueError):
            content(path)  # says why it cannot be read
            raise
    if file.peek(1)...
