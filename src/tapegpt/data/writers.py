"""Tables as they are written: CSV, TSV, JSON lines, Parquet, some rows at a time, with more columns behind.

Not here: reading them (`tables.py`, `arrow.py`), files (`files.py`).
"""

from __future__ import annotations

from contextlib import contextmanager

from tapegpt.data.tables import as_json
from tapegpt.errors import TapeGPTError, argument, quote, warn
from tapegpt.text import escape_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO, Literal

    from tapegpt.data.rows import Rows
    from tapegpt.data.sources import Source

    Added = Mapping[str, array[float] | list[str | None]]
    Write = Callable[[Rows, Added], None]


@contextmanager
def table_writer(file: BinaryIO, kind: str, source: Source) -> Iterator[Write]:
    """What writes rows of a source to a file, with more columns: arrays of numbers, NaN for none, or lists of text.

    CSV has the header, the separator and the quotation marks that were read; numbers as text have six digits. A column
    whose name the table has already gets another, of which it warns. Raises `TapeGPTError` for rows that are no table
    together.
    """
    begin: Callable[..., Any] = {"jsonl": _json_writer, "parquet": _parquet_writer}.get(kind, _cell_writer)
    with begin(file, kind, source) as write:
        names: dict[str, str] = {}

        def write_rows(rows: Rows, added: Added) -> None:
            taken = rows.names
            if kind == "jsonl" and len(set(taken)) < len(taken):
                twice = next(name for name in taken if taken.count(name) > 1)
                raise TapeGPTError(
                    f"the table has several columns {quote(twice)}, of which JSON would keep one: rename them, or "
                    "choose another format for the output"
                )
            if not names:
                names.update({name: _free(name, taken) for name in added})
            if taken_now := set(names.values()).intersection(taken):
                raise TapeGPTError(f"the table has a column {taken_now.pop()} later on: rename it")
            write(rows, {names[name]: column for name, column in added.items()})

        yield write_rows


def _free(name: str, taken: Sequence[str]) -> str:
    if name not in taken:
        return name
    free = next(new for number in range(2, len(taken) + 3) if (new := f"{name}_{number}") not in taken)
    warn(f"the table has a column {quote(name)}: what is added is called {free}")
    return free


@contextmanager
def _cell_writer(file: BinaryIO, kind: str, source: Source) -> Iterator[Write]:
    import csv
    from io import StringIO

    names: list[str] = []
    separator = "\t" if kind == "tsv" else source.separator

    def write(rows: Rows, added: Added) -> None:
        cells = zip(*zip(*rows.cells(names or rows.names), strict=True), *map(_texts, added.values()), strict=True)
        table = list(cells)
        if not names:
            names.extend(rows.names)
            if source.header and names:
                table.insert(0, (*names, *added))
        file.write(_encode(table, separator or rows.separator))

    def _encode(table: list[tuple[str, ...]], separator: str) -> bytes:
        text = ""
        quoting: tuple[Literal[0, 1, 3], ...] = (
            (csv.QUOTE_MINIMAL, csv.QUOTE_ALL) if source.quotes else (csv.QUOTE_NONE,)
        )
        mark = '"' if source.quotes else None
        for each in quoting:
            stream = StringIO(newline="")
            try:
                writer = csv.writer(stream, delimiter=separator, quotechar=mark, quoting=each, lineterminator="\n")
                writer.writerows(table)
            except csv.Error:
                raise TapeGPTError(
                    f"a cell has the separator or the end of a line in it: leave {argument('quotes', False)} out, or "
                    "choose another format"
                ) from None
            text = stream.getvalue()
            if "\r" not in text:  # which is not quoted by itself
                break
        return text.encode("utf-8", "backslashreplace")

    yield write


@contextmanager
def _json_writer(file: BinaryIO, kind: str, source: Source) -> Iterator[Write]:
    def write(rows: Rows, added: Added) -> None:
        keys = [as_json(name) for name in added]
        columns = [_json_texts(column) for column in added.values()]
        lines = []
        for row, *values in zip(rows.objects(), *columns, strict=True):
            more = [f"{key}: {value}" for key, value in zip(keys, values, strict=True)]
            inside = as_json(row)[1:-1]
            lines.append(escape_json(f"{{{', '.join([inside, *more] if inside else more)}}}"))
        file.write("\n".join([*lines, ""]).encode())

    yield write


@contextmanager
def _parquet_writer(file: BinaryIO, kind: str, source: Source) -> Iterator[Write]:
    from tapegpt.data.arrow import batch_of, failing, load_pyarrow, table_of

    pa = load_pyarrow()
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]  # it has no type hints

    writer: Any = None
    schema: Any = None

    def write(rows: Rows, added: Added) -> None:
        nonlocal writer, schema
        with failing("the rows make no table of Parquet", "choose another format for the output"):
            if schema is None:
                found = batch_of(rows).schema
                fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in found]
                schema = pa.schema(fields)
            rows.check(schema.names)
            batch = batch_of(rows, schema)
            for name, column in zip(added, table_of(added).columns, strict=True):
                batch = batch.append_column(name, column.combine_chunks())
        if writer is None:
            writer = ParquetWriter(file, batch.schema)
        writer.write_batch(batch)

    yield write
    if writer is None:  # no row has come
        writer = ParquetWriter(file, pa.schema([]))
    writer.close()


def _texts(column: array[float] | list[str | None]) -> Sequence[str]:
    """Cells: text as it is, numbers of six digits, nothing for None and NaN."""
    if isinstance(column, list):
        return [text or "" for text in column]
    texts = ("%.6g\n" * len(column) % tuple(column)).split("\n")[:-1]  # 3 times faster than one by one
    return ["" if text == "nan" else text for text in texts] if "nan" in texts else texts


def _json_texts(column: array[float] | list[str | None]) -> Sequence[str]:
    if isinstance(column, list):
        return list(map(as_json, column))
    return [text or "null" for text in _texts(column)]
