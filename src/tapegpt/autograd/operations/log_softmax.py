"""The logarithms of each row's probabilities: y = x - log(sum(exp(x))). Shapes: x and y (R, C).

In scalars the largest of the row is taken from all first, so that no exponential overflows and no sum is zero.
"""

from __future__ import annotations

from tapegpt.autograd.operations.functions import exp, log
from tapegpt.autograd.operations.rows import (
    accumulate,
    across,
    exponentiate,
    fast_exponentiate,
    largest_of,
    mask_columns,
    row_by_row,
    total,
    vectors,
)
from tapegpt.autograd.operations.softmax import Softmax
from tapegpt.autograd.value import log_softmax
from tapegpt.machine.language import F32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.operations.base import Batch, Operation, Scratch, Shape, Slot
    from tapegpt.autograd.value import Matrix
    from tapegpt.machine.language import Builder


class LogSoftmax(Softmax):
    """`log_softmax(x)`. Keeps what `softmax` does."""

    name = "log_softmax"
    formula = "log of the softmax of {n}"

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return [log_softmax(row) for row in x]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastLogSoftmax(), ()

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """y = (x - max(x)) - log(sum(e)) with e = exp(x - max(x))."""
        sums = scratch.kept + out.extent
        for t, (row, e, result) in row_by_row(k, out, x.value, scratch.kept, out.value):
            total = exponentiate(k, row, e, out.columns)
            sums[t] = total
            largest, log_total = largest_of(k, row, out.columns), k.log(total)
            for c, lanes in across(k, out.columns):
                result.store(c, row.vector(c, lanes) - largest - log_total)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += dy + e * dtotal; dtotal is the gradient of sum(e)."""
        sums = scratch.kept + out.extent
        for t, (e, passed, result) in row_by_row(k, out, scratch.kept, out.grad, x.grad, reverse=True):
            dlog = k.zeros()
            for i in k.range(out.columns - 1, -1, -1):
                dlog -= passed[i]
            dtotal = (k.real(1.0) / sums[t]) * dlog
            for c, lanes in across(k, out.columns):
                accumulate(result, c, passed.vector(c, lanes) + e.vector(c, lanes) * dtotal, fresh=x.fresh)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastLogSoftmax(LogSoftmax):
    """The same in f32. Keeps nothing: its gradient follows from its result."""

    real = F32

    def kept_size(self, positions: int, x: Shape) -> int:
        return 0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """y = (x - max(x)) - log(sum(exp(x - max(x))))."""
        width = k.width(F32)
        for _, (row, result) in row_by_row(k, out, x.value, out.value):
            sum_of_row, largest = fast_exponentiate(k, row, result, out.columns)
            log_sum = log(k, k.spread(sum_of_row, width))
            for c in vectors(k, out.columns):
                result.store(c, mask_columns(k, row.vector(c, width) - largest - log_sum, c, out.columns, 0.0))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += dy - exp(y) * sum(dy)."""
        width = k.width(F32)
        for _, (row, passed, result) in row_by_row(k, out, out.value, out.grad, x.grad):
            sum_of_row = k.spread(total(k, passed, out.columns) * -1.0, width)
            for c in vectors(k, out.columns):
                probabilities = mask_columns(k, exp(k, row.vector(c, width)), c, out.columns, 0.0)
                accumulate(result, c, k.mul_add(probabilities, sum_of_row, passed.vector(c, width)), fresh=x.fresh)
