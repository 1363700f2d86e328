"""Rows of tables: CSV, TSV, JSON lines and arrays, some at a time, with one column that is read, or replaced.

Not here: files, encodings, what becomes of the values; Parquet and Arrow (`arrow.py`); writing rows (`writers.py`).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import Counter
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from math import isfinite
from operator import itemgetter

from tapegpt.data.decoding import FAULT, REPLACEMENT
from tapegpt.data.rows import TEXT, Rows
from tapegpt.errors import TapeGPTError, argument, clipped, quote, warn
from tapegpt.processes import renew_at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from json import JSONDecoder
    from typing import Any, Literal, Self

    from tapegpt.data.sources import Source

SMALL, LARGE = 1024, 1 << 15  # rows of CSV at a time: where one column counts, the others stay in the CPU's cache
_limit = renew_at_fork(allocate_lock())  # of the csv module's cells
_ABSENT = object()  # what an object holds under a key that it has not


class Written(str):
    """A number of JSON as it is written."""

    __slots__ = ()


class CellRows(Rows):
    """Rows of CSV or TSV."""

    def __init__(
        self, place: str, names: Sequence[str], rows: Sequence[list[str]], number: int, separator: str
    ) -> None:
        super().__init__(list(map(itemgetter(number), rows)))
        self._place, self._names, self._rows, self._number = place, names, rows, number
        self.separator = separator

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def column(self, name: str) -> Sequence[str | None]:
        return list(map(itemgetter(column_number(self._place, self._names, name, "labels")), self._rows))

    def _of(self, rows: Sequence[list[str]]) -> Self:
        return type(self)(self._place, self._names, rows, self._number, self.separator)

    def take(self, numbers: Sequence[int]) -> Self:
        return self._of([self._rows[number] for number in numbers])

    def replace(self, values: Sequence[str | None]) -> Self:
        place, pairs = self._number, zip(self._rows, values, strict=True)
        return self._of([row if new is None else [*row[:place], new, *row[place + 1 :]] for row, new in pairs])

    def cells(self, names: Sequence[str]) -> Iterable[Sequence[str]]:
        self.check(names)
        return self._rows


class JsonRows(Rows):
    """Values of JSON with their numbers: objects, or strings and numbers as they are written."""

    def __init__(
        self, where: str, pairs: Sequence[tuple[int, Any]], path: str | None, values: Sequence[str | None]
    ) -> None:
        super().__init__(values)
        self._where, self._pairs, self._path = where, pairs, path

    @property
    def names(self) -> Sequence[str]:
        """As `Rows.names`: all keys, in the order of the rows that first have them."""
        return list(dict.fromkeys(name for row in self.objects() for name in row))

    def column(self, name: str) -> Sequence[str | None]:
        found = [_under(row, name) if isinstance(row, dict) else _ABSENT for _, row in self._pairs]
        if found and all(value is _ABSENT for value in found):
            raise unknown_column(f"{self._where} {self._pairs[0][0]}", "key", self.names, name, "labels")
        return [None if value is _ABSENT else as_cell(value) for value in found]

    def take(self, numbers: Sequence[int]) -> Self:
        pairs, values = [self._pairs[number] for number in numbers], [self.values[number] for number in numbers]
        return type(self)(self._where, pairs, self._path, values)

    def replace(self, values: Sequence[str | None]) -> Self:
        new = zip(self._pairs, values, strict=True)
        pairs = [(number, row if value is None else _put(row, self._path, value)) for (number, row), value in new]
        return type(self)(self._where, pairs, self._path, Rows(self.values).replace(values).values)

    def check(self, names: Sequence[str]) -> None:
        """As `Rows.check`, where an object has a key that is no name of a column; it may lack some."""
        known = frozenset(names)
        for (number, _), row in zip(self._pairs, self.objects(), strict=True):
            if not row.keys() <= known:
                new = next(name for name in row if name not in known)
                raise TapeGPTError(
                    f"{self._where} {number}: has a key {quote(new)}, which the rows that decide about columns have "
                    "not: choose JSON lines for the output"
                )

    def cells(self, names: Sequence[str]) -> Iterable[Sequence[str]]:
        """As `Rows.cells`: a key that an object lacks is a null."""
        self.check(names)
        return [[as_cell(row.get(name)) for name in names] for row in self.objects()]

    def objects(self) -> Iterable[dict[str, Any]]:
        return (row if self._path is not None else {TEXT: row} for _, row in self._pairs)


def as_cell(value: Any) -> str:
    """A value of JSON or Arrow as text in a cell."""
    if isinstance(value, str):
        return value
    return "" if value is None else as_json(value) if isinstance(value, bool | dict | list) else str(value)


def as_json(value: Any) -> str:
    """A value of JSON or Arrow as JSON, with numbers as they were written; dates and the like are strings."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        encode = _string_encoder()
        return f"{{{', '.join([f'{encode(key)}: {as_json(each)}' for key, each in value.items()])}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_json, value))}]"
    if isinstance(value, float):
        return repr(value) if isfinite(value) else "null"
    return str(value) if isinstance(value, int | Written) else _string_encoder()(str(value))


@cache
def _string_encoder() -> Callable[[str], str]:
    from json.encoder import encode_basestring

    return encode_basestring


def read_rows(place: str, kind: str, pieces: Iterable[str], source: Source, every: bool) -> Iterator[Rows]:
    """The rows of a table, some at a time, or without `every` column the values of the one that the source chooses.

    Blank lines are no rows, but where there is one column. The pieces of text are whole lines with line feeds only;
    kind is "csv", "tsv", "jsonl" or "json", an array. A table of one column needs no name of it, nor do strings of
    JSON. The first row of CSV and TSV is their header, unless it is said that there is none; a warning says so where
    the column is not chosen by its name. Raises `TapeGPTError` with the place and line of what is not of this kind, and
    where there is no such column.
    """
    if kind in ("csv", "tsv"):
        yield from _read_cells(place, kind, pieces, source, every)
    elif kind == "jsonl":
        yield from _read_json(f"{place}: line", _lines(place, pieces), source.column, every)
    else:
        yield from _read_json(f"{place}: value", _items(place, pieces), source.column, every)


def column_names(kind: str, pieces: Iterable[str]) -> list[str]:
    """What `read_rows` takes for a column: names, numbers where they say nothing, keys of the first object.

    None for JSON that is no objects, and for what is not of this kind.
    """
    try:
        if kind in ("jsonl", "json"):
            found = _lines("", pieces) if kind == "jsonl" else _items("", pieces)
            _, value = next(chain.from_iterable(found), (0, None))
            return list(value) if isinstance(value, dict) else []
        blank, first, rest = _begin(pieces)
        batches = _batches("", blank, first, rest, _separator(kind, first), True, 1)
        _, (header,), _ = next(batches, (1, [[]], False))
    except TapeGPTError:
        return []
    return _choices(list(map(str.strip, header)))


def _choices(names: Sequence[str]) -> list[str]:
    """What columns can be chosen by: names, and numbers where these say nothing."""
    counts = Counter(names)
    return [name if name and counts[name] == 1 else str(place) for place, name in enumerate(names, 1)]


# --- CSV and TSV ------------------------------------------------------------------------------------------------


def _read_cells(place: str, kind: str, pieces: Iterable[str], source: Source, every: bool) -> Iterator[Rows]:
    blank, beginning, rest = _begin(pieces)
    separator = source.separator or _separator(kind, beginning)
    written = separator if kind == "csv" else CellRows.separator
    batches = _batches(place, blank, beginning, rest, separator, source.quotes, LARGE if every else SMALL)
    line, rows, more = next(batches, (1, [], False))
    first = rows[0] if rows else []
    names = [name.strip().replace(FAULT, REPLACEMENT) for name in first]
    names = names if source.header else [str(number + 1) for number in range(len(first))]
    number = column_number(place, names, source.column)
    if source.header and names and source.column != names[number]:
        warn(
            f"{place}: {quote(names[number])} in its first row is taken for the name of the column, not for a string: "
            f"choose it by {argument('column')}, or give {argument('header', False)}"
        )
    if source.header:
        line, rows = line + 1 + sum(cell.count("\n") for cell in first), rows[1:]
    values: list[str] = []
    for line, rows, more in chain([(line, rows, more)], batches):  # noqa: B020
        cells = _fit(place, line, rows, len(names))
        if every:
            yield CellRows(place, names, cells, number, written)
            continue
        values += map(itemgetter(number), cells)
        if not more:
            yield Rows(values)
            values = []


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
    place: str, blank: int, first: str, rest: Iterator[str], separator: str, quotes: bool, most: int
) -> Iterator[tuple[int, list[list[str]], bool]]:
    """The number of a batch's first line, its rows, and whether more of them are there already.

    Rows are lists of cells, at most so many; they come as soon as they are there. No batch is empty.
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

    def texts() -> Iterator[StringIO]:
        while waiting or fetch():
            yield StringIO(waiting.pop())

    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    rows = csv.reader(chain.from_iterable(texts()), delimiter=separator, quoting=quoting, strict=True)
    while come > rows.line_num or fetch():  # which may take its time, so outside of the lock
        line = blank + rows.line_num + 1
        try:
            with _long_cells():
                batch = list(islice(rows, min(come - rows.line_num, most)))
        except csv.Error as error:
            line = blank + rows.line_num
            raise TapeGPTError(f"{place}: line {line}: {error}: is a quotation mark not closed?") from None
        yield line, batch, come > rows.line_num


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


def column_number(place: str, header: Sequence[str], column: str | None, option: str = "column") -> int:
    """Place of the column that an option names in a row, from 0."""
    if not header or (column is None and len(header) == 1):  # none: an empty file
        return 0
    if column is not None and header.count(column) == 1:
        return header.index(column)
    numbers = [str(number) for number in range(1, len(header) + 1)]
    if column in numbers and column not in header:
        return numbers.index(column)
    raise unknown_column(place, "column", header, column, option)


def unknown_column(
    place: str, what: str, known: Sequence[str], column: str | None, option: str = "column"
) -> TapeGPTError:
    """The error of a column that there is not, or of several with none chosen."""
    listed = clipped(", ".join(_choices(known)))
    if column is None:
        return TapeGPTError(f"{place}: has more than one {what}: choose {argument('column')} from {listed}")
    many = "more than one" if column in known else "no"
    return TapeGPTError(f"{place}: there is {many} {what} {quote(column)}: choose {argument(option)} from {listed}")


# --- JSON -------------------------------------------------------------------------------------------------------


def _read_json(
    where: str, batches: Iterable[Iterator[tuple[int, Any]]], column: str | None, every: bool
) -> Iterator[Rows]:
    first, found = None, False
    for batch in batches:
        pair = next(batch, None)
        if pair is None:
            continue
        first = first or pair
        pairs: Iterable[tuple[int, Any]] = chain([pair], batch)
        pairs = list(pairs) if every else pairs  # else each is let go as its value is known: 1.5 times as fast
        chosen = _values(where, pairs, column)
        found = found or any(value is not _ABSENT for value in chosen)
        values = [None if value is _ABSENT else value for value in chosen]
        yield JsonRows(where, pairs, column, values) if isinstance(pairs, list) else Rows(values)
    if first and not found:
        raise unknown_column(f"{where} {first[0]}", "key", list(first[1]), column)


def _lines(place: str, pieces: Iterable[str]) -> Iterator[Iterator[tuple[int, Any]]]:
    """The number of each line of JSON lines, and its value, which is parsed when it is requested."""
    decoder, begin = _decoder(), 1
    for piece in pieces:
        lines = piece.removesuffix("\n").split("\n")
        yield (
            (number, _parse(f"{place}: line {number}", decoder, line, "write one value a line"))
            for number, line in enumerate(lines, begin)
            if line.strip()
        )
        begin += len(lines)


def _items(place: str, pieces: Iterable[str]) -> Iterator[Iterator[tuple[int, Any]]]:
    text = "".join(pieces)
    advice = f"give {argument('format', 'jsonl')} for a value a line, or {argument('format', 'text')}"
    values = _parse(place, _decoder(), text, advice) if text.strip() else []
    if not isinstance(values, list):
        raise TapeGPTError(f"{place}: must be an array of strings or of objects, not {_kind(values)}: write it as one")
    yield enumerate(values, 1)


def _values(where: str, pairs: Iterable[tuple[int, Any]], column: str | None) -> list[Any]:
    """The value of each row, `_ABSENT` for an object without it; raises `TapeGPTError` for what is no string."""
    values = []
    for number, row in pairs:
        try:
            values.append(_chosen(row, column))
        except TapeGPTError as error:
            raise TapeGPTError(f"{where} {number}: {error}") from None
    return values


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


def _chosen(row: Any, column: str | None) -> Any:
    if column is None:
        if isinstance(row, dict):
            raise TapeGPTError(f"is an object: choose {argument('column')} from {', '.join(row)[:200]}")
        value = row
    elif not isinstance(row, dict):
        raise TapeGPTError(f"is no object, it has no key {quote(column)}: leave {argument('column')} out")
    else:
        value = _under(row, column)
    if value is None or value is _ABSENT or isinstance(value, str):
        return value
    raise TapeGPTError(f"must be a string or a number, not {_kind(value)}: choose another {argument('column')}")


def _under(row: dict[str, Any], path: str) -> Any:
    """The value under a key or a dotted path of keys."""
    if path in row:
        return row[path]
    key, dot, rest = path.partition(".")
    inner = row.get(key)
    return _under(inner, rest) if dot and isinstance(inner, dict) else _ABSENT


def _put(row: Any, path: str | None, value: str) -> Any:
    if path is None:
        return value
    key, _, rest = path.partition(".")
    if path in row or not isinstance(row.get(key), dict):
        return {**row, path: value}
    return {**row, key: _put(row[key], rest, value)}
