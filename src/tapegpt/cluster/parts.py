"""What the workers of a bulk read and write: pieces of files, and a file each. Not here: what becomes of the strings.

Paths are of files that all machines have at the same place, or URIs that Arrow knows, such as s3://bucket/names.txt.
A text and JSON lines are cut at line ends near multiples of `PIECE` bytes, Parquet between its row groups: a file may
be larger than any memory. What is packed, and what is not lines, cannot be cut and is read whole.
"""

from __future__ import annotations

import os
from codecs import lookup
from contextlib import contextmanager

from tapegpt.data.arrow import ArrowRows
from tapegpt.data.decoding import check_encoding
from tapegpt.data.packed import STDIN, contents, packing_of
from tapegpt.data.sources import LINE
from tapegpt.data.tables import column_number
from tapegpt.errors import TapeGPTError, argument, quote
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from tapegpt.data.sources import Source

PIECE = 4 << 20  # bytes of a text that are read together: half a million names
FORMATS = ("text", "jsonl", "parquet")  # that are read and written
LINE_FEED = b"\n"
TO_LINE_END = 1 << 16  # bytes read at a time to find one
ONE_BYTE = ("utf-8", "ascii", "iso8859-1", "cp1252")  # encodings in which the byte of a line feed is nothing else


class Piece(Record):
    """A part of a file: bytes of lines, row groups of Parquet; without a stop all of it."""

    path: str
    format: str
    start: int = 0
    stop: int | None = None


# --- reading ----------------------------------------------------------------------------------------------------


def pieces(source: Source) -> list[Piece]:
    """Of all files of a source, in order; raises `TapeGPTError` for what workers cannot read."""
    if STDIN in source.paths:
        raise TapeGPTError("ray: standard input is not on other machines: give the path of a file")
    if source.unique:
        raise TapeGPTError(f"ray: {argument('unique')} compares all strings, and a worker sees some: leave it out")
    check_encoding(source.encoding)
    return [piece for path in _files(source) for piece in _of_file(source, path)]


def strings(piece: Piece, source: Source) -> list[str]:
    """The strings of a piece, as `Source.documents` chooses them; raises `TapeGPTError` as it does."""
    if piece.format == "parquet":
        labels = [_column(piece, name) for name in source.labels]
        return source.select(_column(piece, source.column), labels=labels)
    if piece.stop is None:
        inside = contents(piece.path, _whole(piece.path))
    else:
        place = f"{piece.path} from byte {piece.start:,}" if piece.start else piece.path
        inside = [(place, _lines(piece.path, piece.start, piece.stop))]
        source = source.replace(format=piece.format)
    tables = (rows for path, data in inside for rows in source.rows(path, [data]))
    return [
        text for rows in tables for text in source.select(rows.values, labels=list(map(rows.column, source.labels)))
    ]


def _files(source: Source) -> list[str]:
    """Those of directories too, without hidden ones."""
    found = []
    for path in source.paths:
        if "://" not in path:
            found += [os.path.abspath(file) for file in source.replace(paths=(path,)).listing()]
            continue
        from pyarrow.fs import FileSelector, FileType  # type: ignore[import-untyped]  # it has no type hints

        system, place = _system(path)
        scheme = path.partition("://")[0]
        with _failing(path, "read"):
            if system.get_file_info(place).type != FileType.Directory:
                found.append(path)
                continue
            inside = system.get_file_info(FileSelector(place, recursive=True))
        files = sorted(
            each.path for each in inside if each.type == FileType.File and not each.base_name.startswith(".")
        )
        found += [f"{scheme}://{file}" for file in files]
    return found or source.listing()


def _of_file(source: Source, path: str) -> list[Piece]:
    kind = source.kind(path)
    if kind not in FORMATS:
        raise TapeGPTError(
            f"{path}: is read as {kind}, ray reads {', '.join(FORMATS)}: convert it, or leave {argument('ray')} out"
        )
    if kind == "parquet":
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no type hints

        with _failing(path, "read"), _open(path) as file:
            groups = pq.ParquetFile(file).metadata.num_row_groups
        return [Piece(path, kind, group, group + 1) for group in range(groups)]
    with _failing(path, "read"), _open(path) as file:
        size, is_packed = file.size(), packing_of(file.read(16)) is not None
    is_lines = kind == "jsonl" or (source.delimiter == LINE and source.column is None)
    if is_packed or not is_lines or lookup(source.encoding).name not in ONE_BYTE:
        return [Piece(path, kind)]
    return [Piece(path, kind, start, start + PIECE) for start in range(0, max(size, 1), PIECE)]


def _lines(path: str, start: int, stop: int) -> bytes:
    """The lines that begin from start to stop - 1, behind a line feed but at the beginning of the file."""
    with _failing(path, "read"), _open(path) as file:
        before = max(start - 1, 0)
        file.seek(before)
        data: bytes = file.read(stop - before)
        begin = data.find(LINE_FEED) if start else 0
        if begin < 0 or not data:
            return b""
        pieces = [data[begin:]]
        while not pieces[-1].endswith(LINE_FEED) and (more := file.read(TO_LINE_END)):
            pieces.append(more[: more.find(LINE_FEED) + 1] or more)
    return b"".join(pieces)


def _whole(path: str) -> bytes:
    """All bytes of a file."""
    with _failing(path, "read"), _open(path) as file:
        data: bytes = file.read()
    return data


def _column(piece: Piece, column: str | None) -> Sequence[str | None]:
    """Values of the column, None for nulls."""
    import pyarrow.parquet as pq

    with _failing(piece.path, "read"), _open(piece.path) as file:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        number = column_number(piece.path, names, column)
        group = table.read_row_group(piece.start, columns=names[number : number + 1])
    return ArrowRows(piece.path, group, 0).values


# --- writing ----------------------------------------------------------------------------------------------------


def new_directory(directory: str) -> str:
    """A directory for the parts, empty or made, as all machines call it; raises `TapeGPTError` where it cannot be."""
    place = directory if "://" in directory else os.path.abspath(directory)
    system, inside = _system(place)
    from pyarrow.fs import FileSelector

    with _failing(directory, "written"):
        system.create_dir(inside, recursive=True)
        if system.get_file_info(FileSelector(inside)):
            raise TapeGPTError(f"{directory}: has files in it: choose a new directory")
    return place


def write(directory: str, number: int, of: int, kind: str, rows: Mapping[str, Sequence[Any]]) -> None:
    """A part's file, whole or not at all, the same if it is written again; raises `TapeGPTError` where it cannot be.

    The rows are columns by name, "text" last. A text has them separated by tabs, a row a line.
    """
    digits = max(5, len(str(of)))  # so that names are in order
    name = f"part-{number:0{digits}d}-of-{of:0{digits}d}.{'txt' if kind == 'text' else kind}"
    data = {"text": _as_text, "jsonl": _as_jsonl, "parquet": _as_parquet}[kind](rows)
    system, inside = _system(directory)
    temporary = f"{inside}/.{name}-{os.urandom(8).hex()}.tmp"
    with _failing(f"{directory}/{name}", "written"):
        with system.open_output_stream(temporary) as file:
            file.write(data)
        system.move(temporary, f"{inside}/{name}")


def _as_text(rows: Mapping[str, Sequence[Any]]) -> bytes:
    for text in rows["text"]:
        if "\n" in text or "\r" in text:
            raise TapeGPTError(
                f"{quote(text)} has a line break in it: choose {argument('output_format')} jsonl or parquet"
            )
    columns = [texts if name == "text" else map(_format, texts) for name, texts in rows.items()]
    lines = [*map("\t".join, zip(*columns, strict=True)), ""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _format(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def _as_jsonl(rows: Mapping[str, Sequence[Any]]) -> bytes:
    import json

    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines = [encode(dict(zip(rows, row, strict=True))) for row in zip(*rows.values(), strict=True)]
    return "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")


def _as_parquet(rows: Mapping[str, Sequence[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    fields = [(name, pa.string() if name == "text" else pa.float64()) for name in rows]
    pq.write_table(pa.table(dict(rows), schema=pa.schema(fields)), buffer)
    data: bytes = buffer.getvalue().to_pybytes()
    return data


# --- file systems -----------------------------------------------------------------------------------------------


def _system(path: str) -> tuple[Any, str]:
    """Arrow's file system for a path or URI, and the path in it."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    if "://" not in path:
        return LocalFileSystem(), path
    with _failing(path, "reached"):
        found: tuple[Any, str] = FileSystem.from_uri(path)
    return found


def _open(path: str) -> Any:
    system, inside = _system(path)
    return system.open_input_file(inside)


@contextmanager
def _failing(path: str, what: str) -> Iterator[None]:
    """Turn what file systems raise into one line."""
    try:
        yield
    except (OSError, ValueError) as error:  # of Arrow too: its errors are among these
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TapeGPTError(f"{path}: cannot be {what}: {reason}: see that all machines have it") from None
