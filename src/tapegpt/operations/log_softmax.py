"""The logarithms of each row's probabilities: y = x - log(sum(exp(x))). Shapes: x and y (R, C).

In scalars the largest of the row is taken from all first, so that no exponential overflows and no sum is zero.
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, F64s, Int, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.functions import exp, log
from tapegpt.operations.rows import (
    across,
    each_row,
    exponentiate,
    fast_exponentiate,
    largest_of,
    present,
    total,
    vectors,
)
from tapegpt.value import log_softmax

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.value import Matrix


class LogSoftmax(Operation):
    """`log_softmax(x)`. Keeps the exponentials, less the largest of their row before, and behind them their sums."""

    name = "log_softmax"
    formula = "log of the softmax of {n}"
    takes = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return [log_softmax(row) for row in inputs[0]]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastLogSoftmax(), ()

    def kept(self, positions: int, *inputs: Shape) -> int:
        return inputs[0].count(positions) * (padded(inputs[0].columns) + 1)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        places = (inputs[0].value, scratch.kept, scratch.kept + out.rows * padded(out.columns), out.value)
        log_softmax_forward(k, *places, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        if x.gradient is not None:
            places = (scratch.kept, scratch.kept + out.rows * padded(out.columns), out.grad, x.gradient)
            log_softmax_backward(k, *places, out.start, out.stop, columns=out.columns, fresh=x.fresh)


@kernel
def log_softmax_forward(
    k: Builder, x: F64s, e: F64s, sums: F64s, y: F64s, start: Int, stop: Int, *, columns: int
) -> None:
    """y = (x - max(x)) - log(sum(e)) with e = exp(x - max(x))."""
    for t, (row, exponentials, result) in each_row(k, start, stop, columns, x, e, y):
        total = exponentiate(k, row, exponentials, columns)
        sums[t] = total
        largest, log_total = largest_of(k, row, columns), k.log(total)
        for c, lanes in across(k, columns):
            result.store(c, row.vector(c, lanes) - largest - log_total)


@kernel
def log_softmax_backward(
    k: Builder, e: F64s, sums: F64s, dy: F64s, dx: F64s, start: Int, stop: Int, *, columns: int, fresh: bool
) -> None:
    """dx = or += dy + e * dtotal; dtotal is the gradient of sum(e)."""
    for t, (exponentials, passed, result) in each_row(k, start, stop, columns, e, dy, dx, reverse=True):
        dlog = k.zeros()
        for i in k.range(columns - 1, -1, -1):
            dlog -= passed[i]
        dtotal = (k.real(1.0) / sums[t]) * dlog
        for c, lanes in across(k, columns):
            gradient = passed.vector(c, lanes) + exponentials.vector(c, lanes) * dtotal
            result.store(c, gradient if fresh else result.vector(c, lanes) + gradient)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastLogSoftmax(LogSoftmax):
    """The same in f32. Keeps nothing: its gradient follows from its result."""

    real = F32

    def kept(self, positions: int, *inputs: Shape) -> int:
        return 0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        fast_forward(k, inputs[0].value, out.value, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        if x.gradient is not None:
            sizes = {"columns": out.columns, "fresh": x.fresh}
            fast_backward(k, out.value, out.grad, x.gradient, out.start, out.stop, **sizes)


@kernel
def fast_forward(k: Builder, x: F32s, y: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """y = (x - max(x)) - log(sum(exp(x - max(x))))."""
    width = k.width(F32)
    for _, (row, result) in each_row(k, start, stop, columns, x, y):
        sum_of_row, largest = fast_exponentiate(k, row, result, columns)
        log_sum = log(k, k.spread(sum_of_row, width))
        for c in vectors(k, columns):
            result.store(c, present(k, row.vector(c, width) - largest - log_sum, c, columns, 0.0))


@kernel
def fast_backward(k: Builder, y: F32s, dy: F32s, dx: F32s, start: Int, stop: Int, *, columns: int, fresh: bool) -> None:
    """dx = or += dy - exp(y) * sum(dy)."""
    width = k.width(F32)
    for _, (row, passed, result) in each_row(k, start, stop, columns, y, dy, dx):
        sum_of_row = k.spread(total(k, passed, columns) * -1.0, width)
        for c in vectors(k, columns):
            probabilities = present(k, exp(k, row.vector(c, width)), c, columns, 0.0)
            gradient = k.mul_add(probabilities, sum_of_row, passed.vector(c, width))
            result.store(c, gradient if fresh else result.vector(c, width) + gradient)
