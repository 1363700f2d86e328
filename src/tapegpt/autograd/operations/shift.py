"""Rows moved down within their document: what stood n positions before. Shapes: x and the result (T, C)."""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, View, row_stride
from tapegpt.autograd.operations.rows import position_of, put_row, row_by_row
from tapegpt.autograd.value import Matrix, Value, copy_rows
from tapegpt.machine.language import Builder
from tapegpt.ranges import Whole


class Shift(Operation):
    """`Shift(n)(x)`: row t is row t - n of x, zeros before the first."""

    name = "shift"
    formula = "row of an earlier position"
    real = None
    takes = (1,)
    about_rows = ("positions",)
    keeps_rows = True

    def __init__(self, n: int) -> None:
        Whole(1).check("shift: n", n)
        self.n = n

    def __str__(self) -> str:
        return f"shift n={self.n}"

    def shape(self, x: Shape, *_: Shape) -> Shape:
        self.expect(x.rows is None, "needs a row for each position", x)
        return x

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        before = [[Value(0.0)] * len(x[0])] * min(self.n, len(x))
        return copy_rows((before + x)[: len(x)])

    def kept_size(self, positions: int, x: Shape, *_: Shape) -> int:
        return self.batch.lines * self.batch.block_size * row_stride(x.columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *about: Slot) -> None:
        """y[t] = x[t - n]; of a string what was kept of its position - n, and x is kept."""
        for t, (row, result) in row_by_row(k, out, x.value, out.value):
            position = position_of(t, *about[:1])
            exists = position >= self.n
            if self.batch.cached:
                kept = View(scratch.kept, 0, x.columns, x.stride).at(about[1].value[t] * self.batch.block_size)
                put_row(k, kept.at(k.maximum(position - self.n, 0)).start, result, exists, x.columns)
                put_row(k, row, kept.at(position).start, position >= 0, x.columns)
            else:
                put_row(k, x.value + k.select(exists, t - self.n, t) * x.stride, result, exists, x.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *positions: Slot) -> None:
        """dx[t] = or += dy[t + n]."""
        for t, (result,) in row_by_row(k, x, x.grad):
            later = k.minimum(t + self.n, k.integer(out.stop) - 1)
            exists = (later - t).equals(self.n) & (position_of(later, *positions) >= self.n)
            put_row(k, out.grad + later * out.stride, result, exists, out.columns, fresh=x.fresh)
