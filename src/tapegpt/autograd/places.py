"""Where parameters lie in memory, to copy them in and out, and how much memory there is. Not here: why there."""

from __future__ import annotations

from array import array

from tapegpt.errors import TapeGPTError
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tapegpt.machine.memory import Memory


MAX_ARENA = 8 << 30  # bytes


class Extents(Record):
    """Numbers in each region, multiples of `tape.GROUP`."""

    shared: int
    gradients: int
    work: int


class Place(Record):
    """Where a parameter lies: in these rows and columns of a matrix."""

    start: int  # number of the matrix's first number
    height: int  # rows of the matrix
    apart: int  # numbers from one of its rows to the next
    rows: Sequence[int]
    columns: Sequence[int]
    fixed: bool
    is_dense: bool

    def views(
        self, matrix: memoryview[float], values: array[float]
    ) -> Iterator[tuple[memoryview[float], memoryview[float]]]:
        """The parameter's numbers row by row, and where they lie in the matrix, in pieces of equal length."""
        rows, columns, apart, width = self.rows, self.columns, self.apart, len(self.columns)
        own: memoryview[float] = memoryview(values)
        if isinstance(rows, range) and columns == range(apart):
            yield own, matrix[rows.start * apart : rows.stop * apart]
        elif isinstance(rows, range) and (width < len(rows) or columns != range(width)):
            there = matrix[rows.start * apart : rows.stop * apart]
            for place, column in enumerate(columns):
                yield own[place::width], there[column::apart]
        else:  # of all columns
            for place, row in enumerate(rows):
                yield own[place * width : (place + 1) * width], matrix[row * apart : row * apart + width]


class Places(Record):
    """Where all parameters lie, by name in the order of the recording."""

    size: int  # bytes of a number
    of: dict[str, Place]

    def read(self, memory: Memory, start: int = 0, *, trained: bool = False) -> dict[str, array[float]]:
        """A copy of numbers by name from a memory laid out as the parameters, or as the trained ones, from `start`."""
        result: dict[str, array[float]] = {}
        for name, place in self.of.items():
            if not (trained and place.fixed):
                result[name] = array(self._code, [0.0]) * (len(place.rows) * len(place.columns))
                for own, there in place.views(self._matrix(memory, start, place), result[name]):
                    own[:] = there
        return result

    def write(self, memory: Memory, numbers: dict[str, array[float]], start: int = 0) -> None:
        """Write numbers by name, rounded to the type in memory, which is laid out as the parameters are.

        Those of sparse and of fixed parameters may be left out: they stay as they are.
        """
        for name, place in self.of.items():
            if name in numbers or place.is_dense:
                values: array[float] = array(self._code, numbers[name])
                for own, there in place.views(self._matrix(memory, start, place), values):
                    there[:] = own

    @property
    def _code(self) -> str:
        return "d" if self.size == 8 else "f"

    def _matrix(self, memory: Memory, start: int, place: Place) -> memoryview[float]:
        return memory.floats(self.size * (start + place.start), place.height * place.apart, self.size)


def check_size(size: int) -> None:
    """Raise `TapeGPTError` for more bytes of memory than a model may work on."""
    if size > MAX_ARENA:
        raise TapeGPTError(
            f"the model needs {size / 2**30:.1f} GiB of memory, the limit is {MAX_ARENA >> 30} GiB: "
            "choose smaller shapes"
        )
