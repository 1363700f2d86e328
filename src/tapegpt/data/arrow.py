"""Rows of Parquet and of Arrow's files and streams, Feather among them, by pyarrow, which is imported when one is met.

Not here: files (`sources.py`), other tables (`tables.py`).
"""

from __future__ import annotations

from contextlib import contextmanager

from tapegpt.data.rows import Rows
from tapegpt.data.tables import JsonRows, as_cell, as_json, column_number
from tapegpt.errors import TapeGPTError, argument, missing, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, Self

BATCH = 1 << 16  # rows of Parquet that are read together


def load_pyarrow() -> Any:
    """The module; raises `TapeGPTError` where it is not installed."""
    try:
        import pyarrow  # type: ignore[import-untyped]  # it has no type hints
    except ImportError:
        raise missing("pyarrow, which reads and writes Parquet and Arrow,", "tables") from None
    return pyarrow


class ArrowRows(Rows):
    """Rows of an Arrow table or a batch of records, with the types of their columns."""

    def __init__(self, place: str, batch: Any, number: int) -> None:
        values: list[Any] = batch.column(number).to_pylist() if batch.num_columns else []
        for value in values:
            if value is not None and not isinstance(value, str):
                raise TapeGPTError(
                    f"{place}: column {batch.schema.names[number]} must hold strings, not {quote(value)}: choose "
                    f"another {argument('column')}"
                )
        super().__init__(values)
        self.batch, self._place, self._number = batch, place, number

    @property
    def names(self) -> Sequence[str]:
        names: list[str] = self.batch.schema.names
        return names

    def column(self, name: str) -> Sequence[str | None]:
        values = self.batch.column(column_number(self._place, self.names, name, "labels")).to_pylist()
        return [None if value is None else as_cell(value) for value in values]

    def take(self, numbers: Sequence[int]) -> Self:
        return type(self)(self._place, self.batch.take(list(numbers)), self._number)

    def replace(self, values: Sequence[str | None]) -> Self:
        pa = load_pyarrow()
        column = pa.array(Rows(self.values).replace(values).values, pa.string())
        batch = self.batch.set_column(self._number, self.names[self._number], column)
        return type(self)(self._place, batch, self._number)

    def cells(self, names: Sequence[str]) -> Iterable[Sequence[str]]:
        self.check(names)
        return zip(*[map(as_cell, column.to_pylist()) for column in self.batch.columns], strict=True)

    def objects(self) -> Iterable[dict[str, Any]]:
        found: list[dict[str, Any]] = self.batch.to_pylist()
        return found


def read_arrow(
    place: str, kind: str, chunks: Iterable[bytes], column: str | None, every: bool = False
) -> Iterator[ArrowRows]:
    """The rows of a table, some at a time: the column that is chosen, or with `every` all columns.

    The chunks may be a file. Raises `TapeGPTError` for what is not of this kind, and where there is no such column, or
    it holds something else than strings.
    """
    from io import BytesIO

    pa = load_pyarrow()
    file = chunks if hasattr(chunks, "seek") else BytesIO(b"".join(chunks))
    fault = f"{place}: is not {kind} as it should be", f"leave it out, or choose another {argument('format')}"
    with failing(*fault):
        schema, batches = _open_parquet(file) if kind == "parquet" else _open_arrow(file)
    number = column_number(place, schema.names, column)
    wanted = list(range(len(schema)))[slice(None) if every else slice(number, number + 1)]
    found = batches(wanted)
    none = pa.RecordBatch.from_pylist([], schema=pa.schema([schema.field(each) for each in wanted]))
    with failing(*fault):
        batch = next(found, none)  # a table without rows has columns
    while batch is not None:
        yield ArrowRows(place, batch, wanted.index(number) if wanted else 0)
        with failing(*fault):
            batch = next(found, None)


def _open_parquet(file: Any) -> Any:
    """The columns, and what reads some of them by their numbers."""
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]  # it has no type hints

    table = ParquetFile(file)
    names = table.schema_arrow.names

    def batches(wanted: list[int]) -> Iterator[Any]:
        columns = [names[number] for number in wanted]
        if all(names.count(name) == 1 and "." not in name for name in columns):
            return table.iter_batches(BATCH, columns=columns)  # type: ignore[no-any-return]  # it has no type hints
        return (batch.select(wanted) for batch in table.iter_batches(BATCH))  # by name there may be more than one

    return table.schema_arrow, batches


def _open_arrow(file: Any) -> Any:
    """As `_open_parquet`; a file begins with its name, a stream with the length of its schema."""
    from pyarrow import ipc

    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    reader = ipc.open_file(file) if is_file else ipc.open_stream(file)
    batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
    return reader.schema, lambda wanted: (batch.select(wanted) for batch in batches)


def batch_of(rows: Rows, schema: Any = None) -> Any:
    """Rows as a batch of records, of these types or those that their values have: text of CSV is text."""
    pa = load_pyarrow()
    if isinstance(rows, ArrowRows):
        if schema in (None, rows.batch.schema):
            return rows.batch
        return pa.record_batch(
            [column.cast(kind) for column, kind in zip(rows.batch, schema.types, strict=True)], schema
        )
    if isinstance(rows, JsonRows):
        from json import loads

        return pa.RecordBatch.from_pylist([loads(as_json(each)) for each in rows.objects()], schema=schema)
    columns = list(zip(*rows.cells(rows.names), strict=True)) or [()] * len(rows.names)
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], names=rows.names)


def table_of(columns: Mapping[str, array[float] | list[str | None]]) -> Any:
    """A table of numbers, which are arrays, and text; None and NaN are nulls."""
    pa = load_pyarrow()
    kinds = {name: pa.string() if isinstance(values, list) else pa.float64() for name, values in columns.items()}
    return pa.table({name: pa.array(values, kinds[name], from_pandas=True) for name, values in columns.items()})


@contextmanager
def failing(what: str, remedy: str) -> Iterator[None]:
    """Turn what pyarrow raises into one line, of what cannot be and what to do."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise TapeGPTError(f"{what}: {reason}: {remedy}") from None
