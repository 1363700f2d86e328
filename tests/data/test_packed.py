"""Packed files: what they hold, piece by piece, and one line where they are damaged, never something else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import TapeGPTError
from tapegpt.data import packed
from tapegpt.data.sources import Source


def zipped(data: bytes, name: str = "names.txt") -> bytes:
    return zip_of({name: data})


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zip": zipped,
}
LINES = b"".join(b"%d anna\n" % number for number in range(40))


@pytest.mark.parametrize("packing", PACK)
@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=4), chunk=st.integers(1, 50))
@settings(max_examples=30)
def test_what_is_packed_is_read(packing: str, parts: list[bytes], chunk: int) -> None:
    """In members, as other programs join them, whatever the pieces it is read in; and no matter what it is called."""
    members = [b"".join(parts)] if packing == "zip" else parts
    data = b"".join(map(PACK[packing], members))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK", chunk)
        found = packed.contents("a.txt", data)
        assert all(len(piece) <= chunk for _, pieces in packed.open_files("a.txt", data) for piece in pieces)
    assert b"".join(held for _, held in found) == b"".join(parts)


@pytest.mark.parametrize("packing", PACK)
def test_what_ends_too_early_at_any_byte_is_refused(packing: str) -> None:
    whole = PACK[packing](LINES)
    for end in range(1, len(whole)):
        with pytest.raises(TapeGPTError, match=f"^f.{packing}.*: this .* file (ends too early|is damaged)"):
            packed.contents(f"f.{packing}", whole[:end])


@pytest.mark.parametrize("packing", PACK)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=60)
def test_what_is_damaged_is_never_something_else(packing: str, place: float, flip: int) -> None:
    """Some bytes, such as a time stamp, say nothing of the content."""
    data = bytearray(PACK[packing](LINES))
    data[int(place * len(data))] ^= flip
    try:
        found = packed.contents(f"f.{packing}", bytes(data))
    except TapeGPTError as error:
        assert "\n" not in str(error)  # noqa: PT017  # it may also be whole
    else:
        assert found[0][1] in (LINES, bytes(data))  # which is no longer packed


def test_a_zip_is_the_files_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, as in a directory, each of its own format; hidden ones are left out."""
    files = {
        "b.txt": b"bob\n",
        "a/t.csv": b"name,age\nanna,5\n",
        "__x/._b.txt": b"\xff",
        ".git": b"\xff",
        "c.jsonl": b'"e"\n',
    }
    (tmp_path / "all.zip").write_bytes(zip_of(files))
    with pytest.raises(TapeGPTError, match=r"all.zip/b.txt: is read as text, which has no column"):
        Source(paths=(str(tmp_path / "all.zip"),), column="name").documents()
    csv = Source(paths=(str(tmp_path / "all.zip"),), files="*.csv", column="name")
    assert (csv.documents(), list(csv.batches())) == (["anna"], [["anna"]])
    assert Source(paths=(str(tmp_path / "all.zip"),), files="*.[tj]*").documents() == ["bob", "e"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(zip_of(files, zipfile.ZIP_LZMA))))
    assert Source(paths=("-",), files="?.txt").documents() == ["bob"]
    for empty in (zip_of({}), zip_of({".hidden": b"a"})):
        with pytest.raises(TapeGPTError, match=r"^e.zip: no file in this zip: give one"):
            packed.contents("e.zip", empty)


def test_a_zip_that_cannot_be_inflated() -> None:
    data = bytearray(zip_of({"a.txt": b"anna\n" * 99}))
    data[6] |= 1  # encrypted
    data[data.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(TapeGPTError, match=r"^a.zip/a.txt: this zip file .* encrypted"):
        packed.contents("a.zip", bytes(data))


@pytest.mark.parametrize("packing", PACK)
def test_what_would_fill_the_memory(packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"much.{packing}"
    path.write_bytes(PACK[packing](b"a" * 10_000))
    monkeypatch.setattr("tapegpt.data.sources.MAX_CONTENT", 10_000)
    assert Source(paths=(str(path),)).documents() == ["a" * 10_000]
    path.write_bytes(zip_of({"a": b"a" * 5001, "b": b"a" * 5001}) if packing == "zip" else PACK[packing](bytes(10**6)))
    with pytest.raises(TapeGPTError, match=r"this packed file holds more than 10,000 bytes"):
        Source(paths=(str(path),)).documents()


@pytest.mark.parametrize("packing", PACK)
def test_few_bytes_of_a_pipe_at_a_time(packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(1)

    for data in (PACK[packing](b"PK\nBZh\n"), b"PK\nBZh\n", b"P", b"BZ", b""):
        stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO()))
        monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": Slow(data)}))
        del stdin
        expected = b"PK\nBZh\n" if data[4:] and data[:3] != b"PK\n" else data
        assert packed.contents("-")[0][1] == expected
