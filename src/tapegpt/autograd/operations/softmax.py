"""Each row as probabilities, p = exp(x) / sum(exp(x)), or as the logarithms of these. Shapes: x and the result (R, C).

The largest of the row is taken from all first, so that no exponential overflows and no sum is zero.
"""

from __future__ import annotations

from tapegpt.autograd.operations import rows
from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, in_f32, row_stride
from tapegpt.autograd.operations.functions import exp, log, power
from tapegpt.autograd.operations.rows import LazyRow, Row, accumulate, across, dot, mask_columns, row_by_row, vectors
from tapegpt.autograd.value import Matrix, log_softmax, softmax
from tapegpt.machine.language import F32, F64, Builder, Pointer, Value


class Softmax(Operation):
    """`softmax(x)`. Keeps the exponentials, less the largest of their row before, and behind them their sums."""

    name = "softmax"
    takes = (1,)

    def shape(self, x: Shape) -> Shape:
        return x

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return [softmax(row) for row in x]

    def kept_size(self, positions: int, x: Shape) -> int:
        return x.count(positions) * (row_stride(x.columns) + 1)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """e = exp(x - max(x)) and total = sum(e), then the result."""
        totals = scratch.kept + out.extent  # (R)
        for t, (row, e, y) in row_by_row(k, out, x.value, scratch.kept, out.value):
            total = rows.exponentiate(k, row, e, out.columns)
            totals[t] = total
            result = self.result(k, row, e, total, out.columns)
            for c, lanes in across(k, out.columns):
                y.store(c, result.vector(c, lanes))

    def result(self, k: Builder, x: Pointer, e: Pointer, total: Value, columns: int) -> Row:
        """p = e * total ** -1."""
        inverse = power(k, total, -1.0)
        return LazyRow(F64, lambda c, lanes: e.vector(c, lanes) * inverse)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += its gradient, row by row."""
        totals = scratch.kept + out.extent
        for t, (e, dout, dx) in row_by_row(k, out, scratch.kept, out.grad, x.grad, reverse=True):
            gradient = self.gradient(k, e, dout, totals[t], out.columns)
            for c, lanes in across(k, out.columns):
                accumulate(dx, c, gradient.vector(c, lanes), fresh=x.fresh)

    def gradient(self, k: Builder, e: Pointer, dp: Pointer, total: Value, columns: int) -> Row:
        """dx = e * (dp * total ** -1 + dtotal)."""
        # p = e * total ** -1
        inverse, dinverse, dtotal = power(k, total, -1.0), power(k, total, -2.0) * -1.0, k.zeros()
        for i in k.range(columns - 1, -1, -1):
            dtotal += dinverse * (e[i] * dp[i])
        return LazyRow(F64, lambda c, lanes: e.vector(c, lanes) * (dp.vector(c, lanes) * inverse + dtotal))


class LogSoftmax(Softmax):
    """`log_softmax(x)`. Keeps what `softmax` does."""

    name = "log_softmax"
    formula = "log of the softmax of {n}"

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return [log_softmax(row) for row in x]

    def result(self, k: Builder, x: Pointer, e: Pointer, total: Value, columns: int) -> Row:
        """y = (x - max(x)) - log(total)."""
        largest, log_total = rows.largest_of(k, x, columns), k.log(total)
        return LazyRow(F64, lambda c, lanes: x.vector(c, lanes) - largest - log_total)

    def gradient(self, k: Builder, e: Pointer, dy: Pointer, total: Value, columns: int) -> Row:
        """dx = dy + e * dtotal."""
        # y = (x - max(x)) - log(total)
        dlog = k.zeros()
        for i in k.range(columns - 1, -1, -1):
            dlog -= dy[i]
        dtotal = (k.real(1.0) / total) * dlog
        return LazyRow(F64, lambda c, lanes: dy.vector(c, lanes) + e.vector(c, lanes) * dtotal)


# --- f32 ------------------------------------------------------------------------------------------------------------


@in_f32(Softmax)
class FastSoftmax(Softmax):
    """The same in f32. Keeps nothing: its gradient follows from its result."""

    def kept_size(self, positions: int, x: Shape) -> int:
        return 0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """p = e / sum(e) with e = exp(x - max(x))."""
        width = k.width(F32)
        for _, (row, p) in row_by_row(k, out, x.value, out.value):
            total, _ = rows.fast_exponentiate(k, row, p, out.columns)
            inverse = k.real32(1.0) / total
            for c in vectors(k, out.columns):
                p.store(c, p.vector(c, width) * inverse)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += p * (dp - sum(p * dp))."""
        width = k.width(F32)
        for _, (p, dp, dx) in row_by_row(k, out, out.value, out.grad, x.grad):
            mean = k.spread(dot(k, p, dp, out.columns), width)
            for c in vectors(k, out.columns):
                accumulate(dx, c, p.vector(c, width) * (dp.vector(c, width) - mean), fresh=x.fresh)


@in_f32(LogSoftmax)
class FastLogSoftmax(FastSoftmax, LogSoftmax):
    """The same in f32. Keeps nothing: its gradient follows from its result."""

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """y = (x - max(x)) - log(sum(exp(x - max(x))))."""
        width = k.width(F32)
        for _, (row, y) in row_by_row(k, out, x.value, out.value):
            total, largest = rows.fast_exponentiate(k, row, y, out.columns)
            log_total = log(k, k.spread(total, width))
            for c in vectors(k, out.columns):
                y.store(c, mask_columns(k, row.vector(c, width) - largest - log_total, c, out.columns, 0.0))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += dy - exp(y) * sum(dy)."""
        width = k.width(F32)
        for _, (y, dy, dx) in row_by_row(k, out, out.value, out.grad, x.grad):
            total = k.spread(rows.total(k, dy, out.columns) * -1.0, width)
            for c in vectors(k, out.columns):
                p = mask_columns(k, exp(k, y.vector(c, width)), c, out.columns, 0.0)
                accumulate(dx, c, k.mul_add(p, total, dy.vector(c, width)), fresh=x.fresh)
