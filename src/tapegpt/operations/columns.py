"""Chosen columns of one or more matrices, side by side. Shapes: inputs (R, any), result (R, C)."""

from __future__ import annotations

from itertools import accumulate

from tapegpt.machine.language import Builder, Int, Reals, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.rows import across
from tapegpt.value import Value as Scalar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tapegpt.machine.language import Number
    from tapegpt.value import Matrix


class Columns(Operation):
    """`Columns(sources)(x, ...)`: column c is number `sources[c]` of all inputs' columns, zeros where that is -1."""

    name = "columns"
    formula = "chosen columns"
    real = None

    def __init__(self, sources: Sequence[int], inputs: int = 1) -> None:
        self._sources = tuple(sources)
        self.takes = (inputs,)
        self.clears = tuple(range(inputs))

    def shape(self, *inputs: Shape) -> Shape:
        fits = all(x.rows == inputs[0].rows for x in inputs) and not any(x.index for x in inputs)
        self.expect(fits, "needs matrices with as many rows", *inputs)
        return Shape(inputs[0].rows, len(self._sources))

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        rows = [[number for row in rows for number in row] for rows in zip(*inputs, strict=True)]
        taken = [[row[source] if source >= 0 else Scalar(0.0) for source in self._sources] for row in rows]
        return [[Scalar(x.data, (x,), (1,)) for x in row] for row in taken]

    def _pieces(self, inputs: Sequence[Slot]) -> Iterator[tuple[int, int, int, int]]:
        """Columns that lie together: (input, first column there, first column here, how many)."""
        ends = list(accumulate(slot.columns for slot in inputs))
        here = 0
        while here < len(self._sources):
            source, count = self._sources[here], 1
            if source >= 0:
                place = next(place for place, end in enumerate(ends) if source < end)
                last = min(len(self._sources) - here, ends[place] - source)
                while count < last and self._sources[here + count] == source + count:
                    count += 1
                yield place, source - ends[place] + inputs[place].columns, here, count
            here += count

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        for place, there, here, count in self._pieces(inputs):
            x = inputs[place]
            sizes = {"x_row": padded(x.columns), "y_row": padded(out.columns), "count": count, "adds": False}
            copy_columns(k, x.value + there, out.value + here, out.start, out.stop, **sizes)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        for place, there, here, count in reversed(list(self._pieces(inputs))):
            x = inputs[place]
            if x.gradient is not None:
                sizes = {"x_row": padded(out.columns), "y_row": padded(x.columns), "count": count, "adds": True}
                copy_columns(k, out.grad + here, x.gradient + there, out.start, out.stop, **sizes)


@kernel
def copy_columns(
    k: Builder, x: Reals, y: Reals, start: Int, stop: Int, *, x_row: int, y_row: int, count: int, adds: bool
) -> None:
    """y = or += x, `count` columns of each row."""
    for t in k.range(start, stop):
        for offset, lanes in across(k, count, x.type):
            at: Number = t * y_row + offset
            numbers = x.vector(t * x_row + offset, lanes)
            y.store(at, y.vector(at, lanes) + numbers if adds else numbers)
