"""A matrix of fixed size with its rows as columns. Shapes: x (R, C), result (C, R)."""

from __future__ import annotations

from tapegpt.machine.language import Builder, Reals, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.value import Value as Scalar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.language import Number
    from tapegpt.value import Matrix


class Transpose(Operation):
    """`transpose(x)`."""

    name = "transpose"
    formula = "rows as columns"
    real = None
    takes = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if x.rows is None:
            self.expect(False, "needs rows of fixed number", x)
        return Shape(x.columns, x.rows or 0)

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return [[Scalar(x.data, (x,), (1,)) for x in column] for column in zip(*inputs[0], strict=True)]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        transpose(k, x.value, out.value, rows=out.columns, columns=x.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        if x.gradient is not None:
            transpose(k, out.grad, x.gradient, rows=x.columns, columns=out.columns, adds=not x.fresh)


@kernel
def transpose(k: Builder, x: Reals, y: Reals, *, rows: int, columns: int, adds: bool = False) -> None:
    """y (columns, rows) = or += x (rows, columns), in squares; what fills none of them one by one."""
    width = k.width(x.type)
    whole, broad = rows // width * width, columns // width * width

    def put(i: Number, j: Number) -> None:
        at = j * padded(rows) + i
        number = x[i * padded(columns) + j]
        y[at] = y[at] + number if adds else number

    for i in k.range(0, whole, width):
        for j in k.range(0, broad, width):
            square = [x.vector((i + r) * padded(columns) + j, width) for r in range(width)]
            for c, column in enumerate(k.transposed(square)):
                at = (j + c) * padded(rows) + i
                y.store(at, y.vector(at, width) + column if adds else column)
        for j in k.range(broad, columns):
            for r in range(width):
                put(i + r, j)
    for i in k.range(whole, rows):
        for j in k.range(columns):
            put(i, j)
