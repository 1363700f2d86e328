"""Rows of tables: CSV, TSV, JSON lines and arrays, some at a time, with one column that is read, or replaced.

Not here: files, encodings, what becomes of the values; Parquet and Arrow (`arrow.py`); writing rows (`writers.py`).
"""

from __future__ import annotations

from _thread import allocate_lock
from contextlib import contextmanager
from itertools import islice, repeat
from math import isfinite
from operator import itemgetter

from tapegpt.data.decoding import FAULT, REPLACEMENT
from tapegpt.data.rows import TEXT, Rows
from tapegpt.errors import TapeGPTError, argument, quote, warn
from tapegpt.processes import renew_at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from json import JSONDecoder
    from typing import Any, Literal, Self

_limit = renew_at_fork(allocate_lock())  # of the csv module's cells
_ABSENT = object()  # what an object holds under a key that it has not


class Written(str):
    """A number of JSON as it is written."""

    __slots__ = ()


class CellRows(Rows):
    """Rows of CSV or TSV."""

    def __init__(self, names: Sequence[str], rows: Sequence[list[str]], number: int, separator: str) -> None:
        super().__init__(list(map(itemgetter(number), rows)))
        self._names, self._rows, self._number, self.separator = names, rows, number, separator

    @property
    def names(self) -> Sequence[str]:
        """As `Rows.names`."""
        return self._names

    def take(self, numbers: Sequence[int]) -> Self:
        """As `Rows.take`."""
        return type(self)(self._names, [self._rows[number] for number in numbers], self._number, self.separator)

    def replace(self, values: Sequence[str | None]) -> Self:
        """As `Rows.replace`."""
        place, pairs = self._number, zip(self._rows, values, strict=True)
        rows = [row if new is None else [*row[:place], new, *row[place + 1 :]] for row, new in pairs]
        return type(self)(self._names, rows, place, self.separator)

    def cells(self, names: Sequence[str]) -> Iterable[Sequence[str]]:
        """As `Rows.cells`."""
        self.check(names)
        return self._rows


class JsonRows(Rows):
    """Values of JSON: objects, or strings and numbers as they are written."""

    def __init__(self, places: Sequence[str], rows: Sequence[Any], path: str | None) -> None:
        found = list(map(_chosen, places, rows, repeat(path)))
        super().__init__([None if value is _ABSENT else value for value in found])
        self.has_column = not all(value is _ABSENT for value in found)
        self._places, self._rows, self._path = places, rows, path

    @property
    def names(self) -> Sequence[str]:
        """As `Rows.names`: all keys, in the order of the rows that first have them."""
        return list(dict.fromkeys(name for row in self.objects() for name in row))

    def take(self, numbers: Sequence[int]) -> Self:
        """As `Rows.take`."""
        places, rows = ([every[number] for number in numbers] for every in (self._places, self._rows))
        return type(self)(places, rows, self._path)

    def replace(self, values: Sequence[str | None]) -> Self:
        """As `Rows.replace`."""
        pairs = zip(self._rows, values, strict=True)
        return type(self)(self._places, [_put(row, self._path, new) for row, new in pairs], self._path)

    def check(self, names: Sequence[str]) -> None:
        """As `Rows.check`, where an object has a key that is no name of a column; it may lack some."""
        for place, row in zip(self._places, self.objects(), strict=True):
            if not row.keys() <= set(names):
                new = next(name for name in row if name not in names)
                raise TapeGPTError(
                    f"{place}: has a key {quote(new)}, which the rows that decide about columns have not: choose JSON "
                    "lines for the output"
                )

    def cells(self, names: Sequence[str]) -> Iterable[Sequence[str]]:
        """As `Rows.cells`: a key that an object lacks is a null."""
        self.check(names)
        return [[as_cell(row.get(name)) for name in names] for row in self.objects()]

    def objects(self) -> Iterable[dict[str, Any]]:
        """As `Rows.objects`."""
        return self._rows if self._path is not None else ({TEXT: row} for row in self._rows)


def as_cell(value: Any) -> str:
    """A value of JSON or Arrow as text in a cell."""
    if isinstance(value, str):
        return value
    return "" if value is None else as_json(value) if isinstance(value, bool | dict | list) else str(value)


def as_json(value: Any) -> str:
    """A value of JSON or Arrow as JSON, with numbers as they were written; dates and the like are strings."""
    from json.encoder import encode_basestring

    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"{{{', '.join([f'{encode_basestring(key)}: {as_json(each)}' for key, each in value.items()])}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_json, value))}]"
    if isinstance(value, float):
        return repr(value) if isfinite(value) else "null"
    return str(value) if isinstance(value, int | Written) else encode_basestring(str(value))


def read_rows(
    place: str,
    kind: str,
    pieces: Iterable[str],
    column: str | None,
    header: bool = True,
    separator: str | None = None,
    quotes: bool = True,
) -> Iterator[Rows]:
    """The rows of a table, some at a time; blank lines are none, but where there is one column.

    The pieces of text are whole lines with line feeds only; kind is "csv", "tsv", "jsonl" or "json", an array. A table
    of one column needs no name of it, nor do strings of JSON. The first row of CSV and TSV is their header, unless it
    is said that there is none; a warning says so where the column is not chosen by its name. Raises `TapeGPTError` with
    the place and line of what is not of this kind, and where there is no such column.
    """
    if kind in ("csv", "tsv"):
        yield from _read_cells(place, kind, pieces, column, header, separator, quotes)
        return
    yield from _read_json(place, _lines(place, pieces) if kind == "jsonl" else _items(place, pieces), column)


def column_names(kind: str, pieces: Iterable[str], separator: str | None = None, quotes: bool = True) -> list[str]:
    """What `read_rows` takes for a column: names, numbers where they say nothing, keys of the first object.

    None for JSON that is no objects, and for what is not of this kind.
    """
    try:
        if kind in ("jsonl", "json"):
            (_, first), *_ = next(_lines("", pieces) if kind == "jsonl" else _items("", pieces), [("", None)])
            return list(first) if isinstance(first, dict) else []
        blank, first, rest = _begin(pieces)
        header = next(_batches("", blank, first, rest, separator or _separator(kind, first), quotes), (1, [[]]))[1][0]
    except TapeGPTError:
        return []
    names = list(map(str.strip, header))
    return [name if name and names.count(name) == 1 else str(place) for place, name in enumerate(names, 1)]


# --- CSV and TSV ------------------------------------------------------------------------------------------------


def _read_cells(
    place: str,
    kind: str,
    pieces: Iterable[str],
    column: str | None,
    has_header: bool,
    separator: str | None,
    quotes: bool,
) -> Iterator[CellRows]:
    blank, beginning, rest = _begin(pieces)
    found = separator or _separator(kind, beginning)
    written = found if kind == "csv" else CellRows.separator
    batches = _batches(place, blank, beginning, rest, found, quotes)
    line, rows = next(batches, (1, []))
    first = rows[0] if rows else []
    names = [name.strip().replace(FAULT, REPLACEMENT) for name in first]
    names = names if has_header else [str(number + 1) for number in range(len(first))]
    number = column_number(place, names, column)
    if has_header and names and column != names[number]:
        warn(
            f"{place}: {quote(names[number])} in its first row is taken for the name of the column, not for a string: "
            f"choose it by {argument('column')}, or give {argument('header', False)}"
        )
    if has_header:
        line, rows = line + 1 + sum(cell.count("\n") for cell in first), rows[1:]
    yield CellRows(names, _fit(place, line, rows, len(names)), number, written)
    for line, rows in batches:
        yield CellRows(names, _fit(place, line, rows, len(names)), number, written)


def _fit(place: str, line: int, rows: list[list[str]], width: int) -> list[list[str]]:
    """Rows of as many cells as the first: blank ones behind are added or dropped."""
    if set(map(len, rows)) <= {width}:
        return rows
    for row in rows:
        line += sum(cell.count("\n") for cell in row)
        if any(row[width:]):
            raise TapeGPTError(
                f"{place}: line {line} has {len(row)} cells, its first row {width}: "
                'write cells with separators in them as "..."'
            )
        line += 1
    return [[*row[:width], *[""] * (width - len(row))] for row in rows if row or width == 1]


def _begin(pieces: Iterable[str]) -> tuple[int, str, Iterator[str]]:
    """How many blank lines there are at the beginning, the first piece behind them, and the rest."""
    blank, rest = 0, iter(pieces)
    for piece in rest:
        if first := piece.lstrip("\n"):
            return blank + len(piece) - len(first), first, rest
        blank += len(piece)
    return blank, "", rest


def _batches(
    place: str, blank: int, first: str, rest: Iterator[str], separator: str, quotes: bool
) -> Iterator[tuple[int, list[list[str]]]]:
    """The number of a batch's first line, and its rows, which are lists of cells; none of the batches is empty.

    They end where pieces do, about, so that rows come as soon as they are there.
    """
    import csv
    from io import StringIO

    waiting, come = [first], _count_lines(first)

    def fetch() -> bool:
        nonlocal come
        piece = next(rest, "")
        come += _count_lines(piece)
        waiting.append(piece)
        return bool(piece)

    def lines() -> Iterator[str]:
        while waiting or fetch():
            yield from StringIO(waiting.pop())

    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    rows = csv.reader(lines(), delimiter=separator, quoting=quoting, strict=True)
    while come > rows.line_num or fetch():  # which may take its time, so outside of the lock
        line = blank + rows.line_num + 1
        try:
            with _long_cells():
                batch = list(islice(rows, come - rows.line_num))
        except csv.Error as error:
            line = blank + rows.line_num
            raise TapeGPTError(f"{place}: line {line}: {error}: is a quotation mark not closed?") from None
        yield line, batch


def _count_lines(text: str) -> int:
    return text.count("\n") + (text[-1:] not in ("", "\n"))


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be of any length: the limit of the csv module is one for all of the process."""
    import csv

    with _limit:
        former = csv.field_size_limit(2**31 - 1)  # a C long
        try:
            yield
        finally:
            csv.field_size_limit(former)


def _separator(kind: str, text: str) -> str:
    """Tab; comma; or the semicolon of spreadsheets, where a decimal point is a comma."""
    header = text.partition("\n")[0]
    if kind == "tsv":
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def column_number(place: str, header: list[str], column: str | None) -> int:
    """Place of the column in a row, from 0."""
    if column is None and len(header) < 2:  # none: an empty file
        return 0
    if column is not None and header.count(column) == 1:
        return header.index(column)
    numbers = [str(number) for number in range(1, len(header) + 1)]
    if column in numbers and column not in header:
        return numbers.index(column)
    raise unknown_column(place, "column", header, column)


def unknown_column(place: str, what: str, known: Sequence[str], column: str | None) -> TapeGPTError:
    """The error of a column that there is not, or of several with none chosen."""
    listed = ", ".join(known)
    listed = listed if len(listed) <= 200 else f"{listed[:197]}..."
    if column is None:
        return TapeGPTError(f"{place}: has more than one {what}: choose {argument('column')} from {listed}")
    many = "more than one" if column in known else "no"
    return TapeGPTError(f"{place}: there is {many} {what} {quote(column)}: choose {argument('column')} from {listed}")


# --- JSON -------------------------------------------------------------------------------------------------------


def _read_json(place: str, batches: Iterable[list[tuple[str, Any]]], column: str | None) -> Iterator[JsonRows]:
    absent, found = None, False
    for batch in batches:
        rows = JsonRows([where for where, _ in batch], [row for _, row in batch], column)
        found = found or rows.has_column
        absent = absent or (batch[0][0], list(rows.names))
        yield rows
    if absent and not found:
        raise unknown_column(absent[0], "key", absent[1], column)


def _lines(place: str, pieces: Iterable[str]) -> Iterator[list[tuple[str, Any]]]:
    """Where each value of JSON lines stands, and what it is."""
    decoder, number = _decoder(), 0
    for piece in pieces:
        batch = []
        for number, line in enumerate(piece.removesuffix("\n").split("\n"), number + 1):  # noqa: B020
            if line.strip():
                where = f"{place}: line {number}"
                batch.append((where, _parse(where, decoder, line, "write one value a line")))
        if batch:
            yield batch


def _items(place: str, pieces: Iterable[str]) -> Iterator[list[tuple[str, Any]]]:
    """Where each value of a JSON array stands, and what it is."""
    text = "".join(pieces)
    advice = f"give {argument('format', 'jsonl')} for a value a line, or {argument('format', 'text')}"
    values = _parse(place, _decoder(), text, advice) if text.strip() else []
    if not isinstance(values, list):
        raise TapeGPTError(f"{place}: must be an array of strings or of objects, not {_kind(values)}: write it as one")
    if values:
        yield [(f"{place}: value {number}", value) for number, value in enumerate(values, 1)]


def _kind(value: Any) -> str:
    """What a value of JSON is called; numbers are left as they are written."""
    names = {dict: "an object", list: "an array", bool: "a bool", str: "a string", Written: "a string"}
    return names.get(type(value), "null")


def _decoder() -> JSONDecoder:
    """One that takes numbers as they are written; NaN is how some writers say null."""
    from json import JSONDecoder

    constants = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}
    return JSONDecoder(parse_int=Written, parse_float=Written, parse_constant=constants.__getitem__)


def _parse(where: str, decoder: JSONDecoder, text: str, advice: str) -> Any:
    try:
        return decoder.decode(text.strip())
    except RecursionError:
        raise TapeGPTError(f"{where}: is nested too deeply: write strings, or objects with strings") from None
    except ValueError as error:
        raise TapeGPTError(f"{where}: is not JSON: {error}: {advice}") from None


def _chosen(where: str, row: Any, column: str | None) -> Any:
    """The value of a line, `_ABSENT` for an object without it; raises `TapeGPTError` for what is no string."""
    if column is None:
        if isinstance(row, dict):
            raise TapeGPTError(f"{where}: is an object: choose {argument('column')} from {', '.join(row)[:200]}")
        value = row
    elif not isinstance(row, dict):
        raise TapeGPTError(f"{where}: is no object, it has no key {quote(column)}: leave {argument('column')} out")
    else:
        value = _under(row, column)
    if value is None or value is _ABSENT or isinstance(value, str):
        return value
    raise TapeGPTError(
        f"{where}: must be a string or a number, not {_kind(value)}: choose another {argument('column')}"
    )


def _under(row: dict[str, Any], path: str) -> Any:
    """The value under a key or a dotted path of keys."""
    if path in row:
        return row[path]
    key, dot, rest = path.partition(".")
    inner = row.get(key)
    return _under(inner, rest) if dot and isinstance(inner, dict) else _ABSENT


def _put(row: Any, path: str | None, value: str | None) -> Any:
    """The row with another value, unless it is None, where `_under` finds one."""
    if value is None:
        return row
    if path is None:
        return value
    if path in row:
        return {**row, path: value}
    key, _, rest = path.partition(".")
    return {**row, key: _put(row[key], rest, value)}
