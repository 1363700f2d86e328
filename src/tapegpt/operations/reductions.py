"""Sums, means and maxima over rows (axis 0), over columns (1) or over all numbers (None).

Shapes: x (R, C); result (1, C), (R, 1) or (1, 1). In f64 a sum runs in index order, row by row.
"""

from __future__ import annotations

from tapegpt.machine.language import I64, Builder, Int, Number, Pointer, Reals, Value, Variable, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, clear, padded
from tapegpt.operations.rows import across, one_by_one, sum_of_lanes
from tapegpt.value import Value as Scalar
from tapegpt.value import total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.machine.language import Type
    from tapegpt.value import Matrix


class Reduction(Operation):
    """What is common to all: shapes, and which numbers become one."""

    real = None
    takes = (1,)

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis

    def __str__(self) -> str:
        return self.name if self.axis is None else f"{self.name} axis={self.axis}"

    def shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        return Shape(x.rows if self.axis == 1 else 1, x.columns if self.axis == 0 else 1)

    def is_causal(self, *inputs: Shape) -> bool:
        return self.axis == 1 or inputs[0].rows is not None

    def _reduced(self, x: Matrix, function: Callable[[list[Scalar]], Scalar]) -> Matrix:
        if self.axis == 0:
            return [[function(list(column)) for column in zip(*x, strict=True)]]
        return [[function(numbers)] for numbers in (x if self.axis == 1 else [[each for row in x for each in row]])]


class Sum(Reduction):
    """`Sum(axis)(x)`."""

    name = "sum"

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return self._reduced(inputs[0], total)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        sum_forward(k, x.value, out.value, x.start, x.stop, columns=x.columns, axis=self.axis, name=self.name)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        if x.gradient is not None:
            constants = {"columns": x.columns, "axis": self.axis, "name": self.name, "fresh": x.fresh}
            sum_backward(k, out.grad, x.gradient, x.start, x.stop, **constants)


class Mean(Sum):
    """`Mean(axis)(x)`: the sum times 1 / n."""

    name = "mean"

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return self._reduced(inputs[0], lambda numbers: total(numbers) * (1 / len(numbers)))


def _share(k: Builder, kind: Type, name: str, axis: int | None, rows: Number, columns: int) -> Number:
    """What a number counts in its sum or mean."""
    count = {0: rows, 1: columns, None: rows * columns}[axis]
    return 1.0 / k.convert(k.integer(count), kind) if name == "mean" else 1.0


@kernel
def sum_forward(
    k: Builder, x: Reals, y: Reals, start: Int, stop: Int, *, columns: int, axis: int | None, name: str
) -> None:
    """y = the sums of x, or the means."""
    kind, row = x.type, padded(columns)
    share = _share(k, kind, name, axis, stop - start, columns)
    if axis == 0:
        for c, lanes in across(k, columns, kind):
            sums = k.zeros(lanes, kind)
            for t in k.range(start, stop):
                sums += x.vector(t * row + c, lanes)
            y.store(c, sums * share)
        return

    def add_row(sums: Variable, t: Number) -> None:
        for c, lanes in one_by_one(k, columns, kind):
            sums += sum_of_lanes(k, x.vector(t * row + c, lanes))

    if axis == 1:
        for t in k.range(start, stop):
            of_row = k.zeros(0, kind)
            add_row(of_row, t)
            y[t * padded(1)] = of_row * share
    else:
        of_all = k.zeros(0, kind)
        for t in k.range(start, stop):
            add_row(of_all, t)
        y[0] = of_all * share


@kernel
def sum_backward(
    k: Builder, dy: Reals, dx: Reals, start: Int, stop: Int, *, columns: int, axis: int | None, name: str, fresh: bool
) -> None:
    """dx = or += dy, or its share, at every number of a sum."""
    share = _share(k, dx.type, name, axis, stop - start, columns)
    for t in k.range(start, stop):
        for c, lanes in across(k, columns, dx.type):
            at = t * padded(columns) + c
            passed = dy.vector(c, lanes) if axis == 0 else dy[t * padded(1) if axis else 0]
            gradient = k.spread(passed * share, 0 if lanes == 1 else lanes)
            dx.store(at, gradient if fresh else dx.vector(at, lanes) + gradient)


class Max(Reduction):
    """`Max(axis)(x)` over rows or columns, the first one where several are largest. Keeps where they are."""

    name = "max"

    def kept(self, positions: int, *inputs: Shape) -> int:
        (x,) = inputs
        return x.count(positions) if self.axis else x.columns

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        largest = self._reduced(inputs[0], max)
        return [[Scalar(x.data, (x,), (1,)) for x in row] for row in largest]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        max_forward(k, x.value, out.value, scratch.kept, x.start, x.stop, columns=x.columns, axis=self.axis)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        if x.gradient is not None:
            if x.fresh:
                clear(k, x.gradient + x.start * padded(x.columns), (x.stop - x.start) * padded(x.columns))
            max_backward(k, scratch.kept, out.grad, x.gradient, x.start, x.stop, columns=x.columns, axis=self.axis)


@kernel
def max_forward(k: Builder, x: Reals, y: Reals, kept: Reals, start: Int, stop: Int, *, columns: int, axis: int) -> None:
    """y = the largest of x, `kept` its row or column."""
    kind, row = x.type, padded(columns)

    def largest(place: Pointer, step: int, first: Number, last: Number, lanes: int) -> tuple[Variable, Variable]:
        """Of the numbers, or vectors of them, that lie so far apart; and their number."""
        best = k.variable(place.vector(first * step, lanes))
        where = k.variable(_lanes(k, first, best))
        for i in k.range(first + 1, last):
            number = place.vector(i * step, lanes)
            is_larger = number > best
            best.set(k.select(is_larger, number, best))
            where.set(k.select(is_larger, _lanes(k, i, best), where))
        return best, where

    if axis:
        for t in k.range(start, stop):
            y[t * padded(1)], kept[t] = largest(x + t * row, 1, 0, columns, 1)
    else:
        for c, lanes in across(k, columns, kind):
            best, where = largest(x + c, row, start, stop, lanes)
            y.store(c, best)
            kept.store(c, where)


def _lanes(k: Builder, number: Number, like: Variable) -> Value:
    """A whole number in all lanes of a vector."""
    return k.spread(k.convert(k.integer(number), like.type), like.lanes)


@kernel
def max_backward(
    k: Builder, kept: Reals, dy: Reals, dx: Reals, start: Int, stop: Int, *, columns: int, axis: int
) -> None:
    """dx += dy where the largest are."""
    row = padded(columns)
    for i in k.range(start, stop) if axis else k.range(columns):
        where = k.convert(kept[i], I64)
        at, passed = (i * row + where, dy[i * padded(1)]) if axis else (where * row + i, dy[i])
        dx[at] = dx[at] + passed
