"""Bytes as text: encodings, errors where one does not fit, and which others do. Not here: files (`sources.py`)."""

from __future__ import annotations

import sys
from itertools import chain

from tapegpt.errors import TapeGPTError, argument
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BOM = "\ufeff"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
C1 = bytes(range(0x80, 0xA0))  # control characters of latin-1
MARKS = "‘’“”–—…"  # noqa: RUF001  # which word processors write for those of ASCII
SAMPLED = 80  # bytes, where no line is at fault
FAULT = "\udfff"  # for bytes that are not of an encoding: no character, so in no text that is
REPLACEMENT = "\ufffd"
CERTAIN = ("utf-8", "utf-16", "utf-16-le", "utf-16-be")  # encodings in which nothing else can be read
ENCODINGS = ("cp1252", "shift_jis", "gb18030", "latin-1")  # in which much can, and is the likelier, the more letters


def decode(place: str, data: bytes, encoding: str, mark: bool = False) -> str:
    """The text of bytes without its BOM; raises `EncodingError`, with the place, if they are not of the encoding.

    With `mark` those that are not are each a `FAULT` in it.
    """
    return "".join(decode_chunks(place, [data], encoding, mark, translate=False))


def check_encoding(encoding: str) -> None:
    """Raise `TapeGPTError` where no encoding of text has this name."""
    try:
        bytes(4).decode(encoding)  # text in any; of no bytes Python does not look at the name
    except (LookupError, ValueError):
        raise TapeGPTError(
            f"{argument('encoding')} {encoding!r} is not known: choose one such as utf-8, utf-16 or latin-1"
        ) from None


def _marking() -> str:
    """The name of how errors are handled that gives a `FAULT` for each."""
    from codecs import register_error

    register_error("tapegpt.fault", lambda error: (FAULT, error.end))  # type: ignore[attr-defined]  # of any codec
    return "tapegpt.fault"


def decode_chunks(
    place: str, chunks: Iterable[bytes], encoding: str, mark: bool = False, *, translate: bool = True
) -> Iterator[str]:
    """The text of bytes that come in chunks, with LF for CR LF and CR if asked; otherwise as `decode`."""
    from codecs import getincrementaldecoder
    from io import IncrementalNewlineDecoder

    check_encoding(encoding)
    errors, every = _marking() if mark else "strict", iter(chunks)
    first = next(every, b"")
    try:
        getincrementaldecoder(encoding)().decode(first[:4])
    except UnicodeDecodeError:
        pass  # in its turn
    except UnicodeError:  # UTF-16 and UTF-32 without a BOM, which at once are read in this machine's order of bytes
        encoding += f"-{sys.byteorder[0]}e"
    decoder = IncrementalNewlineDecoder(getincrementaldecoder(encoding)(errors), translate)
    size, lines, bom, before = 0, 1, BOM, b""
    for chunk in chain([first], every, [b""]):
        size += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            good = error.object[: error.start]
            held = "\r" * (decoder.getstate()[1] & 1)  # at the end of the chunk before: perhaps a LF follows
            lines += with_line_feeds(held + good.decode(error.encoding, "replace")).count("\n")
            at = size - len(error.object) + error.start
            context = before[: len(before) + len(chunk) - len(error.object)]  # what is not in its object
            data, start = context + error.object, len(context) + error.start
            raise EncodingError.at(place, encoding, data, start, at, lines) from None
        except UnicodeError as error:  # of a BOM that is missing, which says no place
            raise _mismatch(place, encoding, error) from None
        _check_width(place, chunk, text)
        lines += with_line_feeds(text).count("\n")
        before = chunk
        if text:
            yield text.removeprefix(bom)
            bom = ""


def with_line_feeds(text: str) -> str:
    """With LF for CR LF and CR, as Python's text mode reads it."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text  # 100 times faster without


class EncodingError(TapeGPTError):
    """Bytes that are not of the requested encoding."""

    @classmethod
    def at(cls, place: str, encoding: str, data: bytes, start: int, byte: int, line: int) -> EncodingError:
        """The error of `data[start]`, which is this byte of the file, in this line."""
        remedy = f"choose another, for instance {argument('encoding', _likely(data, encoding))}"
        remedy += f", or {argument('errors', 'skip')} for all but such strings"
        if b"\0" in data and len("\n".encode(encoding)) == 1 and not data.startswith(UTF_16_MARKS):
            remedy = f"it looks like no text, leave it out, or choose another {argument('encoding')}"
        return cls(f"{place}: line {line}, byte {byte}: 0x{data[start]:02x} is not {encoding}: {remedy}")


def _mismatch(place: str, encoding: str, error: ValueError) -> EncodingError:
    return EncodingError(f"{place}: is not {encoding!r}: {error}: choose another {argument('encoding')}")


def _likely(data: bytes, encoding: str) -> str:
    if data.startswith(UTF_16_MARKS) and encoding != "utf-16":
        return "utf-16"
    for name in ("utf-8", "cp1252"):  # of the Windows encoding only what latin-1 has controls for makes a difference
        if name != encoding and (name == "utf-8" or data.translate(None, C1) != data):
            try:
                data.decode(name)
            except UnicodeDecodeError:
                continue
            return name
    return "latin-1"


def _check_width(place: str, data: bytes, text: str) -> None:
    """Raise `EncodingError` where what was read with a byte a character looks like UTF-16 without a BOM."""
    is_narrow = 2 * len(text) > len(data)  # not UTF-16 or UTF-32 read as such
    name = _wide(data) if "\0" in text and is_narrow else None
    if name:
        raise EncodingError(
            f"{place}: looks like {name}, with NUL as every other byte: choose {argument('encoding', name)}"
        )


def _wide(data: bytes) -> str | None:
    """Which UTF-16 without a BOM bytes with NULs look like, if any.

    NULs are halves of characters: a quarter of the bytes and all on one side, but for few, as with Latin letters, or
    every line feed has one beside it. One NUL says nothing.
    """
    for name, half in (("utf-16-le", 1), ("utf-16-be", 0)):
        nuls, others = data[half::2].count(0), data[1 - half :: 2].count(0)
        ends = data[: len(data) // 2 * 2].decode(name, "replace").count("\n")
        is_latin = 4 * nuls >= len(data) and 50 * others <= nuls
        if nuls > 1 and (is_latin or ends == data.count(b"\n") > 0):
            return name
    return None


# --- encodings that fit -----------------------------------------------------------------------------------------


class Encoding(Record):
    """An encoding in which all files can be read."""

    name: str
    sample: str  # the line that is not of the requested encoding


def fitting_encodings(contents: list[tuple[str, bytes]], encoding: str) -> list[Encoding]:
    """The encodings that fit all files, where the requested one does not; raises where none does."""
    try:
        for path, data in contents:
            decode(path, data, encoding)
    except EncodingError:
        fitting = [name for name in CERTAIN if all(_fits(data, name) for _, data in contents)]
        likely = [name for name in ENCODINGS if all(_fits(data, name) for _, data in contents)]
        fitting += sorted(likely, key=lambda name: -sum(_letters(data, name) for _, data in contents))
        if not fitting:
            raise
        line = _first_fault(contents, encoding)
        return [Encoding(name, line.decode(name, "replace").strip()) for name in fitting]
    return []


def _fits(data: bytes, encoding: str) -> bool:
    marked = data.startswith(UTF_16_MARKS)
    width = _wide(data) if b"\0" in data and not marked else None
    if width or encoding in CERTAIN[2:]:
        if encoding != width:
            return False
    elif marked != (encoding == "utf-16") or (b"\0" in data and not marked):  # else what is no text would be text
        return False
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _letters(data: bytes, encoding: str) -> float:
    """The share of letters, and of the marks that are printed beside them, among what is not ASCII."""
    from collections import Counter

    counts = Counter(data.decode(encoding))
    other = sum(count for character, count in counts.items() if not character.isascii())
    likely = sum(count for each, count in counts.items() if not each.isascii() and (each.isalpha() or each in MARKS))
    return likely / max(other, 1)


def _first_fault(contents: list[tuple[str, bytes]], encoding: str) -> bytes:
    for _, data in contents:
        for line in data.split(b"\n"):
            try:
                line.decode(encoding)
            except ValueError:
                return line
    return contents[0][1][:SAMPLED]  # UTF-16 that can be read otherwise too
