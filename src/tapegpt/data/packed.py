"""Files as bytes, some at a time: as they are, or inflated where they are gzip, xz, bzip2 or zip by their first bytes.

A zip is the files in it. Not here: which files (`sources.py`), what the bytes mean (`decoding.py`, `tables.py`).
"""

from __future__ import annotations

import os
import sys
from itertools import chain

from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

STDIN = "-"
CHUNK = 1 << 20  # bytes that are read or inflated at a time
MAX_CONTENT = 4 << 30  # bytes that a packed file may become where all of it is kept: a few MB can say terabytes

_BZIP2 = tuple([b"BZh%d" % size + block for size in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")])
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_MARKS = {"gzip": (b"\x1f\x8b\x08",), "xz": (b"\xfd7zXZ\0",), "bzip2": _BZIP2, "zip": _ZIP}
SUFFIXES = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zip": "zip"}


class TooLargeError(TapeGPTError):
    """Packed data that hold more than may be."""


def named(path: str) -> str:
    """A path as messages name it."""
    return "standard input" if path == STDIN else path or quote(path)


def unpacked(path: str) -> str:
    """A path without the suffix that says how it is packed."""
    return next((path[: -len(suffix)] for suffix in SUFFIXES if path.lower().endswith(suffix)), path)


def is_hidden(path: str) -> bool:
    """Whether a file's name, or that of a directory above it, begins with a dot."""
    return any(part.startswith(".") and part.strip(".") for part in path.split("/"))


def open_files(path: str, data: bytes | None = None, most: int | None = None) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The file at a path, or the files in a zip by name: a path for each, and its bytes in chunks of at most `CHUNK`.

    With `data` these are what is at the path; "-" is standard input. Hidden files of a zip are left out. Raises
    `TapeGPTError` for what is missing or unreadable, and as they are read for what is damaged or not whole, and
    `TooLargeError` where packed data become more than `most` bytes.
    """
    chunks = _read(path) if data is None else (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))
    first = b""
    while _may_be_packed(first) and (more := next(chunks, b"")):
        first += more  # a pipe may give byte after byte
    packing = packing_of(first)
    every = chain([first], chunks)
    if packing == "zip":
        yield from _limit(_open_zip(path, every, os.path.isfile(path) and data is None), most)
    elif packing is not None:
        yield from _limit([(path, inflate(path, packing, every))], most)
    elif first and _may_be_packed(first) and unpacked(path) != path:
        raise _ends_early(path, SUFFIXES[path[len(unpacked(path)) :].lower()])
    else:
        yield path, every


def contents(path: str, data: bytes | None = None, most: int = MAX_CONTENT) -> list[tuple[str, bytes]]:
    """All that `open_files` gives; raises as it does."""
    return [(name, b"".join(chunks)) for name, chunks in open_files(path, data, most)]


def _limit(files: Iterable[tuple[str, Iterator[bytes]]], most: int | None) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The same, but not more than `most` bytes together."""
    size = 0

    def count(name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            if most is not None and size > most:
                raise TooLargeError(f"{named(name)}: this packed file holds more than {most:,} bytes: give it in parts")
            yield chunk

    return ((name, count(name, chunks)) for name, chunks in files)


def is_packed(path: str) -> bool:
    """Whether a file has to be inflated; true where it cannot be read, so that whoever reads it says why."""
    try:
        with open(path, "rb") as file:
            return packing_of(file.read(16)) is not None
    except OSError:
        return True


def packing_of(first: bytes) -> str | None:
    """How a file with these first bytes is packed; None where it is not."""
    return next((name for name, marks in _MARKS.items() if first.startswith(marks)), None)


def _may_be_packed(first: bytes) -> bool:
    """Whether bytes are too few to say."""
    return len(first) < 10 and any(
        len(first) < len(m) and m.startswith(first) for each in _MARKS.values() for m in each
    )


def _read(path: str) -> Iterator[bytes]:
    try:
        if path != STDIN:
            with open(path, "rb") as file:
                yield from iter(lambda: file.read1(CHUNK), b"")
        elif sys.stdin is None:  # closed by whoever started this
            raise ValueError("it is closed: give the path of a file")
        else:
            yield from iter(lambda: sys.stdin.buffer.read1(CHUNK), b"")  # type: ignore[union-attr]  # it is buffered
    except FileNotFoundError:
        raise TapeGPTError(f"{named(path)}: no such file: give the path of a text file, one string a line") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TapeGPTError(f"{named(path)!r}: cannot be read: {reason}") from None


# --- gzip, xz, bzip2 --------------------------------------------------------------------------------------------


def inflate(path: str, packing: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What all members of packed data hold, at most `CHUNK` bytes at a time: a few MB can say terabytes.

    Raises `TapeGPTError` for data that are damaged or not whole.
    """
    make, failures = _decompressor(packing)
    member, begun, held, place = make(), False, False, 0
    for chunk in chunks:
        rest = chunk
        while rest or held:
            try:
                piece = member.decompress(rest, CHUNK)
            except failures as error:
                raise TapeGPTError(f"{named(path)}: this {packing} file is damaged at byte {place}: {error}") from None
            if piece:
                yield piece
            begun = not member.eof
            left = getattr(member, "unconsumed_tail", b"") or member.unused_data
            held = begun and not getattr(member, "needs_input", True)  # more comes from what it has kept
            place += len(rest) - len(left)
            rest = left
            if member.eof:
                member = make()
    if begun:
        raise _ends_early(path, packing)


def _decompressor(packing: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """What makes one, for a member of the file, and what it raises."""
    if packing == "gzip":
        import zlib

        return lambda: zlib.decompressobj(wbits=31), (zlib.error,)  # 31: the gzip format
    if packing == "xz":
        import lzma

        return lzma.LZMADecompressor, (lzma.LZMAError,)
    import bz2

    return bz2.BZ2Decompressor, (OSError,)


def _ends_early(path: str, packing: str) -> TapeGPTError:
    return TapeGPTError(f"{named(path)}: this {packing} file ends too early, part of it is missing")


# --- zip --------------------------------------------------------------------------------------------------------


def _open_zip(path: str, chunks: Iterator[bytes], is_file: bool) -> Iterator[tuple[str, Iterator[bytes]]]:
    import zlib
    from io import BytesIO
    from lzma import LZMAError
    from zipfile import BadZipFile, ZipFile

    failures = (BadZipFile, zlib.error, LZMAError, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)

    def damaged(name: str, error: Exception) -> TapeGPTError:
        reason = str(error) or "it ends too early"
        return TapeGPTError(f"{named(name)}: this zip file is damaged or cannot be inflated: {reason}")

    def read(name: str, file: Any) -> Iterator[bytes]:
        while True:
            try:
                piece = file.read(CHUNK)
            except failures as error:
                raise damaged(name, error) from None
            if not piece:
                return
            yield piece

    try:
        archive = ZipFile(path if is_file else BytesIO(b"".join(chunks)))
    except failures as error:
        raise damaged(path, error) from None
    with archive:
        inside = [each for each in archive.infolist() if not each.is_dir() and not is_hidden(each.filename)]
        if not inside:
            raise TapeGPTError(f"{named(path)}: no file in this zip: give one with text files in it")
        for each in sorted(inside, key=lambda each: each.filename):
            name = f"{named(path)}/{each.filename}"
            try:
                file = archive.open(each)
            except failures as error:
                raise damaged(name, error) from None
            with file:
                yield name, read(name, file)
