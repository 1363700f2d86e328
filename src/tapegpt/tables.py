"""One column of a table: CSV, TSV, JSON lines. Not here: files, encodings, what becomes of the values."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ABSENT = object()  # what an object holds under a key that it has not


def column_of(place: str, kind: str, text: str, column: str | None) -> list[str]:
    """The values of a column, not stripped; nulls, and cells that a row lacks, are left out.

    The text has line feeds only; kind is "csv", "tsv" or "jsonl". A table of one column needs no name of it, nor do
    JSON lines that are strings. The first row of the others is their header. Raises `TapeGPTError` with the place and
    line of what is not of this kind, and where there is no such column.
    """
    return _from_json(place, text, column) if kind == "jsonl" else _from_rows(place, kind, text, column)


def columns(kind: str, text: str) -> list[str]:
    """What `column_of` may be asked for: names of the header, numbers where they say nothing, keys of the first object.

    None for JSON lines that are no objects, and for what is not of this kind.
    """
    import csv
    from io import StringIO
    from json import loads

    try:
        if kind == "jsonl":
            first = loads(next(filter(str.strip, text.split("\n")), "null"))
            return list(first) if isinstance(first, dict) else []
        rows = csv.reader(StringIO(text), delimiter=_separator(kind, text), strict=True)
        header = list(map(str.strip, next(filter(None, rows), [])))
    except (ValueError, RecursionError, csv.Error):
        return []
    return [name if name and header.count(name) == 1 else str(place) for place, name in enumerate(header, 1)]


def _from_rows(place: str, kind: str, text: str, column: str | None) -> list[str]:
    import csv
    from io import StringIO

    rows = csv.reader(StringIO(text), delimiter=_separator(kind, text), strict=True)
    values = []
    try:
        header = next(filter(None, rows), [])
        number = _number(place, list(map(str.strip, header)), column)
        for row in rows:
            if any(row[len(header) :]):
                raise TapeGPTError(
                    f"{place}: line {rows.line_num} has {len(row)} cells, its header {len(header)}: "
                    'write cells with separators in them as "..."'
                )
            values += row[number : number + 1]
    except csv.Error as error:
        raise TapeGPTError(f"{place}: line {rows.line_num}: {error}: is a quotation mark not closed?") from None
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
        return TapeGPTError(f"{place}: has more than one {what}: choose with --column from {listed}")
    many = "more than one" if column in known else "no"
    return TapeGPTError(f"{place}: there is {many} {what} {shown(column)}: choose with --column from {listed}")


def _from_json(place: str, text: str, column: str | None) -> list[str]:
    from json import JSONDecoder

    # Numbers are taken as they are written; NaN is how some writers say null.
    constants = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}
    decoder = JSONDecoder(parse_int=str, parse_float=str, parse_constant=constants.__getitem__)
    values, absent, found = [], None, False
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{place}: line {number}"
        row = _parsed(where, decoder, line)
        value = _chosen(where, row, column)
        if value is _ABSENT:
            absent = absent or (where, list(row))
            continue
        found = True
        if isinstance(value, str):
            values.append(value)
        elif value is not None:
            kind = "an object" if isinstance(value, dict) else "an array" if isinstance(value, list) else "a bool"
            raise TapeGPTError(f"{where}: must be a string or a number, not {kind}: choose another --column")
    if absent and not found:
        raise _unknown(absent[0], "key", absent[1], column)
    return values


def _parsed(where: str, decoder: Any, line: str) -> Any:
    try:
        return decoder.decode(line.strip())
    except RecursionError:
        raise TapeGPTError(f"{where}: is nested too deeply: write a string, or an object with strings") from None
    except ValueError as error:
        raise TapeGPTError(f"{where}: is not JSON: {error}: write one value a line") from None


def _chosen(where: str, row: Any, column: str | None) -> Any:
    """The value of a line, `_ABSENT` for an object without it."""
    if column is None:
        if isinstance(row, dict):
            raise TapeGPTError(f"{where}: is an object: choose with --column from {', '.join(row)[:200]}")
        return row
    if not isinstance(row, dict):
        raise TapeGPTError(f"{where}: is no object, it has no key {shown(column)}: leave --column out")
    return _under(row, column)


def _under(row: dict[str, Any], path: str) -> Any:
    """The value under a key or a dotted path of keys."""
    if path in row:
        return row[path]
    key, dot, rest = path.partition(".")
    inner = row.get(key)
    return _under(inner, rest) if dot and isinstance(inner, dict) else _ABSENT
