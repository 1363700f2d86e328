"""Rows of a table, one column of which is read, or replaced; strings are a table of one column.

Not here: how they are read (`tables.py`, `arrow.py`) and written (`writers.py`).
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Self

OUTPUT_FORMATS = ("text", "csv", "tsv", "jsonl", "parquet")  # in which commands write rows
TEXT = "text"  # the name of the only column, where strings have none


class Rows:
    """Some rows of a table, with the values of the column that is chosen; here of strings, which are their only column.

    None is a null, or a value that a row lacks.
    """

    separator = ","  # of cells, as CSV is written

    def __init__(self, values: Sequence[str | None]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> Sequence[str]:
        """The names of the columns."""
        return [TEXT]

    def column(self, name: str) -> Sequence[str | None]:
        """The values of another column as text; raises `TapeGPTError` where there is none of this name."""
        raise TapeGPTError(f"strings have no column {name}: give a table")

    def take(self, numbers: Sequence[int]) -> Self:
        """Some of the rows, by their numbers."""
        return type(self)([self.values[number] for number in numbers])

    def replace(self, values: Sequence[str | None]) -> Self:
        """The rows with other values in the column; None leaves what is there."""
        return type(self)([old if new is None else new for old, new in zip(self.values, values, strict=True)])

    def cells(self, names: Sequence[str]) -> Iterable[Sequence[str]]:
        """The rows as text: the cells of the columns with these names, "" for a null.

        Raises `TapeGPTError` where the rows have other columns.
        """
        self.check(names)
        return [("" if value is None else value,) for value in self.values]

    def check(self, names: Sequence[str]) -> None:
        """Raise `TapeGPTError` where the columns have other names."""
        if self.names != names:
            raise TapeGPTError(
                f"columns {', '.join(names)[:100]} and {', '.join(self.names)[:100]} make no table together: write one "
                "file after the other"
            )

    def objects(self) -> Iterable[dict[str, Any]]:
        """The rows as JSON has them: values by the names of their columns."""
        names = self.names
        return (dict(zip(names, cells, strict=True)) for cells in self.cells(names))
