"""What is said of several strings, as tables of other packages. Not here: what is said."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence
    from typing import Any


class Columnar(ABC):
    """Something that is columns, a row for each string."""

    index: Sequence[object]  # where each string is in the data

    @abstractmethod
    def as_columns(self) -> dict[str, array[float] | list[str | None]]:
        """Numbers, NaN where there is none, and text by name."""

    def to_frame(self) -> Any:
        """`as_columns` as a DataFrame of pandas, with the index of the Series that was read."""
        try:
            from pandas import DataFrame  # type: ignore[import-untyped]  # it has no type hints
        except ImportError:
            raise TapeGPTError("pandas is not installed: install it, or take as_columns() or to_arrow()") from None
        return DataFrame({name: list(column) for name, column in self.as_columns().items()}, index=self.index)

    def to_arrow(self) -> Any:
        """`as_columns` as a table of pyarrow, with nulls for missing values."""
        from tapegpt.data.arrow import table_of

        return table_of(self.as_columns())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """As Arrow's PyCapsule interface has it: what polars, DuckDB and others make a table of."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)
