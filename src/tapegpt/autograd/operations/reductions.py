"""Sums, means and maxima over rows (axis 0), over columns (1) or over all numbers (None).

Shapes: x (R, C); result (1, C), (R, 1) or (1, 1). In f64 a sum runs in index order, row by row.
"""

from __future__ import annotations

from collections.abc import Callable

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot
from tapegpt.autograd.operations.rows import accumulate, across, broadcast, one_by_one, row_by_row, sum_of_lanes
from tapegpt.autograd.value import Matrix, copy_rows, total
from tapegpt.autograd.value import Value as Scalar
from tapegpt.machine.language import I64, Builder, Number, Pointer, Value, Variable


class Reduction(Operation):
    """What is common to all: shapes, and which numbers become one."""

    real = None
    takes = (1,)

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis

    def __str__(self) -> str:
        return self.name if self.axis is None else f"{self.name} axis={self.axis}"

    def shape(self, x: Shape) -> Shape:
        return Shape(x.rows if self.axis == 1 else 1, x.columns if self.axis == 0 else 1)

    def is_causal(self, x: Shape) -> bool:
        return self.axis == 1 or x.rows is not None

    def _reduce(self, x: Matrix, function: Callable[[list[Scalar]], Scalar]) -> Matrix:
        if self.axis == 0:
            return [[function(list(column)) for column in zip(*x, strict=True)]]
        return [[function(numbers)] for numbers in (x if self.axis == 1 else [[each for row in x for each in row]])]


class Sum(Reduction):
    """`Sum(axis)(x)`."""

    name = "sum"

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return self._reduce(x, total)

    def share(self, k: Builder, x: Slot) -> Number:
        """What a number counts."""
        return 1.0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """y = the sums of x, times what a number counts."""
        kind, share = x.value.type, self.share(k, x)
        if self.axis == 0:
            for c, lanes in across(k, x.columns, kind):
                sums = k.zeros(lanes, kind)
                for _, (row,) in row_by_row(k, x, x.value):
                    sums += row.vector(c, lanes)
                out.value.store(c, sums * share)
            return
        of_all = k.zeros(0, kind)
        for t, (row,) in row_by_row(k, x, x.value):
            of_row = k.zeros(0, kind) if self.axis else of_all
            for c, lanes in one_by_one(k, x.columns, kind):
                of_row += sum_of_lanes(k, row.vector(c, lanes))
            if self.axis:
                out.value[t * out.stride] = of_row * share
        if self.axis is None:
            out.value[0] = of_all * share

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += dy, times what a number counts, at every number of a sum."""
        share = self.share(k, x)
        for t, (dx,) in row_by_row(k, x, x.grad):
            for c, lanes in across(k, x.columns, dx.type):
                accumulate(dx, c, broadcast(k, out.grad, out, x, t, c, lanes) * share, fresh=x.fresh)


class Mean(Sum):
    """`Mean(axis)(x)`: the sum times 1 / n."""

    name = "mean"

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return self._reduce(x, lambda numbers: total(numbers) * (1 / len(numbers)))

    def share(self, k: Builder, x: Slot) -> Number:
        rows = x.stop - x.start
        count = {0: rows, 1: x.columns, None: rows * x.columns}[self.axis]
        return 1.0 / k.convert(k.integer(count), x.value.type)


class Max(Reduction):
    """`Max(axis)(x)` over rows or columns, the first one where several are largest. Keeps where they are."""

    name = "max"
    clears = (0,)

    def kept_size(self, positions: int, x: Shape) -> int:
        return x.count(positions) if self.axis else x.columns

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return copy_rows(self._reduce(x, max))

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """y = the largest of x, and its row or column is kept."""
        if self.axis:
            for t, (row,) in row_by_row(k, x, x.value):
                out.value[t * out.stride], scratch.kept[t] = _largest(k, row, 1, 0, x.columns, 1)
        else:
            for c, lanes in across(k, x.columns, x.value.type):
                best, where = _largest(k, x.value + c, x.stride, x.start, x.stop, lanes)
                out.value.store(c, best)
                scratch.kept.store(c, where)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx += dy where the largest are."""
        for i in k.range(x.start, x.stop) if self.axis else k.range(x.columns):
            where = k.convert(scratch.kept[i], I64)
            at, source = (i * x.stride + where, i * out.stride) if self.axis else (where * x.stride + i, i)
            accumulate(x.grad, at, out.grad[source], fresh=False)


def _largest(
    k: Builder, start: Pointer, step: int, first: Number, last: Number, lanes: int
) -> tuple[Variable, Variable]:
    """Of the numbers, or vectors of them, that lie `step` apart, from `first` to `last`; and its number."""
    best = k.variable(start.vector(first * step, lanes))
    where = k.variable(_lanes(k, first, best))
    for i in k.range(first + 1, last):
        number = start.vector(i * step, lanes)
        is_larger = number > best
        best.set(k.select(is_larger, number, best))
        where.set(k.select(is_larger, _lanes(k, i, best), where))
    return best, where


def _lanes(k: Builder, number: Number, like: Variable) -> Value:
    """A whole number in all lanes of a vector."""
    return k.spread(k.convert(k.integer(number), like.type), like.lanes)
