"""A matrix of fixed size with its rows as columns. Shapes: x (R, C), result (C, R)."""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, row_stride
from tapegpt.autograd.operations.rows import accumulate
from tapegpt.autograd.value import Matrix, copy_rows
from tapegpt.machine.language import Builder, Int, Number, Reals, kernel


class Transpose(Operation):
    """`transpose(x)`."""

    name = "transpose"
    formula = "rows as columns"
    real = None
    takes = (1,)

    def shape(self, x: Shape) -> Shape:
        if x.rows is None:
            self.expect(False, "needs rows of fixed number", x)
        return Shape(x.columns, x.rows or 0)

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return copy_rows(zip(*x, strict=True))

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """y[j, i] = x[i, j]."""
        transpose(k, x.value, out.value, rows=out.columns, columns=x.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx[i, j] = or += dy[j, i]."""
        transpose(k, out.grad, x.grad, rows=x.columns, columns=out.columns, fresh=x.fresh)


def transpose(k: Builder, x: Reals, y: Reals, *, rows: int, columns: int, fresh: bool = True) -> None:
    """y (columns, rows) = or += x (rows, columns): one kernel for all sizes."""
    _transpose(k, x, y, rows, columns, row_stride(columns), row_stride(rows), fresh=fresh)


@kernel
def _transpose(
    k: Builder, x: Reals, y: Reals, rows: Int, columns: Int, x_stride: Int, y_stride: Int, *, fresh: bool
) -> None:
    """In squares; what fills none of them one by one."""
    width = k.width(x.type)
    whole, broad = rows // width * width, columns // width * width

    def put(i: Number, j: Number) -> None:
        accumulate(y, y_stride * j + i, x[x_stride * i + j], fresh=fresh)

    for i in k.range(0, whole, width):
        for j in k.range(0, broad, width):
            square = [x.vector(x_stride * (i + r) + j, width) for r in range(width)]
            for c, column in enumerate(k.transpose(square)):
                accumulate(y, y_stride * (j + c) + i, column, fresh=fresh)
        for j in k.range(broad, columns):
            for r in range(width):
                put(i + r, j)
    for i in k.range(whole, rows):
        for j in k.range(columns):
            put(i, j)
