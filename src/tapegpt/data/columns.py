"""One column of a table: CSV, TSV, JSON lines and arrays. Not here: files, encodings, what becomes of the values."""

from __future__ import annotations

from _thread import allocate_lock
from contextlib import contextmanager

from tapegpt.errors import TapeGPTError, argument, quote, warn
from tapegpt.processes import renew_at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from json import JSONDecoder
    from typing import Any

_limit = renew_at_fork(allocate_lock())  # of the csv module's cells
_ABSENT = object()  # what an object holds under a key that it has not


def column_of(place: str, kind: str, text: str, column: str | None, header: bool = True) -> list[str]:
    """The values of a column, not stripped; nulls, and cells that a row lacks, are left out.

    The text has line feeds only; kind is "csv", "tsv", "jsonl" or "json", an array. A table of one column needs no name
    of it, nor do strings of JSON. The first row of CSV and TSV is their header, unless it is said that there is none; a
    warning says so where the column is not chosen by its name. Raises `TapeGPTError` with the place and line of what
    is not of this kind, and where there is no such column.
    """
    if kind in ("csv", "tsv"):
        return _from_rows(place, kind, text, column, header)
    if not header:
        raise TapeGPTError(f"{place}: is read as {kind}, {argument('header', False)} is for csv and tsv: leave it out")
    return _from_json(_lines(place, text) if kind == "jsonl" else _items(place, text), column)


def columns(kind: str, text: str) -> list[str]:
    """What `column_of` takes: names of the header, numbers where they say nothing, keys of the first object.

    None for JSON that is no objects, and for what is not of this kind.
    """
    import csv

    try:
        if kind in ("jsonl", "json"):
            _, first = next(_lines("", text) if kind == "jsonl" else _items("", text), ("", None))
            return list(first) if isinstance(first, dict) else []
        with _cells_of(len(text)):
            header = list(map(str.strip, next(filter(None, _rows(kind, text)), [])))
    except (TapeGPTError, csv.Error):
        return []
    return [name if name and header.count(name) == 1 else str(place) for place, name in enumerate(header, 1)]


def _rows(kind: str, text: str) -> Any:
    """A reader of the rows, which are lists of cells."""
    import csv
    from io import StringIO

    return csv.reader(StringIO(text), delimiter=_separator(kind, text), strict=True)


@contextmanager
def _cells_of(size: int) -> Iterator[None]:
    """Let cells have so many characters: the limit of the csv module is one for all of the process."""
    import csv

    with _limit:
        former = csv.field_size_limit()
        csv.field_size_limit(max(former, min(size, 2**31 - 1)))  # a C long
        try:
            yield
        finally:
            csv.field_size_limit(former)


def _from_rows(place: str, kind: str, text: str, column: str | None, has_header: bool) -> list[str]:
    import csv

    rows, values = _rows(kind, text), list[str]()
    try:
        with _cells_of(len(text)):
            first: list[str] = next(filter(None, rows), [])
            names = list(map(str.strip, first)) if has_header else [str(number + 1) for number in range(len(first))]
            number = _number(place, names, column)
            if not has_header:
                values += first[number : number + 1]
            for row in rows:
                if any(row[len(first) :]):
                    raise TapeGPTError(
                        f"{place}: line {rows.line_num} has {len(row)} cells, its first row {len(first)}: "
                        'write cells with separators in them as "..."'
                    )
                values += row[number : number + 1]
    except csv.Error as error:
        raise TapeGPTError(f"{place}: line {rows.line_num}: {error}: is a quotation mark not closed?") from None
    if has_header and names and column != names[number]:
        warn(
            f"{place}: {quote(names[number])} in its first row is taken for the name of the column, not for a string: "
            f"choose it by {argument('column')}, or give {argument('header', False)}"
        )
    return values


def _separator(kind: str, text: str) -> str:
    """Tab; comma; or the semicolon of spreadsheets, where a decimal point is a comma."""
    header = text.lstrip("\n").partition("\n")[0]
    if kind == "tsv":
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _number(place: str, header: list[str], column: str | None) -> int:
    """Place of the column in a row, from 0."""
    if column is None and len(header) < 2:  # none: an empty file
        return 0
    if column is not None and header.count(column) == 1:
        return header.index(column)
    numbers = [str(number) for number in range(1, len(header) + 1)]
    if column in numbers and column not in header:
        return numbers.index(column)
    raise _unknown(place, "column", header, column)


def _unknown(place: str, what: str, known: list[str], column: str | None) -> TapeGPTError:
    listed = ", ".join(known)
    listed = listed if len(listed) <= 200 else f"{listed[:197]}..."
    if column is None:
        return TapeGPTError(f"{place}: has more than one {what}: choose {argument('column')} from {listed}")
    many = "more than one" if column in known else "no"
    return TapeGPTError(f"{place}: there is {many} {what} {quote(column)}: choose {argument('column')} from {listed}")


def _from_json(rows: Iterable[tuple[str, Any]], column: str | None) -> list[str]:
    values, absent, found = [], None, False
    for where, row in rows:
        value = _chosen(where, row, column)
        if value is _ABSENT:
            absent = absent or (where, list(row))
            continue
        found = True
        if isinstance(value, str):
            values.append(value)
        elif value is not None:
            raise TapeGPTError(
                f"{where}: must be a string or a number, not {_kind(value)}: choose another {argument('column')}"
            )
    if absent and not found:
        raise _unknown(absent[0], "key", absent[1], column)
    return values


def _lines(place: str, text: str) -> Iterator[tuple[str, Any]]:
    """Where each value of JSON lines stands, and what it is."""
    decoder = _decoder()
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{place}: line {number}"
            yield where, _parse(where, decoder, line, "write one value a line")


def _items(place: str, text: str) -> Iterator[tuple[str, Any]]:
    """Where each value of a JSON array stands, and what it is."""
    advice = f"give {argument('format', 'jsonl')} for a value a line, or {argument('format', 'text')}"
    values = _parse(place, _decoder(), text, advice) if text.strip() else []
    if not isinstance(values, list):
        raise TapeGPTError(f"{place}: must be an array of strings or of objects, not {_kind(values)}: write it as one")
    for number, value in enumerate(values, 1):
        yield f"{place}: value {number}", value


def _kind(value: Any) -> str:
    """What a value of JSON is called; numbers are left as they are written."""
    names = {dict: "an object", list: "an array", bool: "a bool", str: "a string"}
    return names.get(type(value), "null")


def _decoder() -> JSONDecoder:
    """One that takes numbers as they are written; NaN is how some writers say null."""
    from json import JSONDecoder

    constants = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}
    return JSONDecoder(parse_int=str, parse_float=str, parse_constant=constants.__getitem__)


def _parse(where: str, decoder: JSONDecoder, text: str, advice: str) -> Any:
    try:
        return decoder.decode(text.strip())
    except RecursionError:
        raise TapeGPTError(f"{where}: is nested too deeply: write strings, or objects with strings") from None
    except ValueError as error:
        raise TapeGPTError(f"{where}: is not JSON: {error}: {advice}") from None


def _chosen(where: str, row: Any, column: str | None) -> Any:
    """The value of a line, `_ABSENT` for an object without it."""
    if column is None:
        if isinstance(row, dict):
            raise TapeGPTError(f"{where}: is an object: choose {argument('column')} from {', '.join(row)[:200]}")
        return row
    if not isinstance(row, dict):
        raise TapeGPTError(f"{where}: is no object, it has no key {quote(column)}: leave {argument('column')} out")
    return _under(row, column)


def _under(row: dict[str, Any], path: str) -> Any:
    """The value under a key or a dotted path of keys."""
    if path in row:
        return row[path]
    key, dot, rest = path.partition(".")
    inner = row.get(key)
    return _under(inner, rest) if dot and isinstance(inner, dict) else _ABSENT
