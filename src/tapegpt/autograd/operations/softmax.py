"""Each row as probabilities: p = exp(x) / sum(exp(x)). Shapes: x and p (R, C)."""

from __future__ import annotations

from tapegpt.autograd.operations.base import Batch, Operation, Scratch, Shape, Slot, pad
from tapegpt.autograd.operations.rows import (
    accumulate,
    across,
    dot,
    exponentiate,
    fast_exponentiate,
    row_by_row,
    vectors,
)
from tapegpt.autograd.value import softmax
from tapegpt.machine.language import F32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.value import Matrix
    from tapegpt.machine.language import Builder


class Softmax(Operation):
    """`softmax(x)`. Keeps the exponentials, less the largest of their row before, and behind them their sums."""

    name = "softmax"
    takes = (1,)

    def shape(self, x: Shape) -> Shape:
        return x

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return [softmax(row) for row in x]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastSoftmax(), ()

    def kept_size(self, positions: int, x: Shape) -> int:
        return x.count(positions) * (pad(x.columns) + 1)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """p = e * sum(e) ** -1 with e = exp(x - max(x))."""
        sums = scratch.kept + out.extent
        for t, (row, e, result) in row_by_row(k, out, x.value, scratch.kept, out.value):
            total = exponentiate(k, row, e, out.columns)
            sums[t] = total
            inverse = k.pow(total, -1.0)
            for c, lanes in across(k, out.columns):
                result.store(c, e.vector(c, lanes) * inverse)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += e * (dp * sum(e) ** -1 + dtotal); dtotal is the gradient of sum(e)."""
        sums = scratch.kept + out.extent
        for t, (e, passed, result) in row_by_row(k, out, scratch.kept, out.grad, x.grad, reverse=True):
            total = sums[t]
            inverse, slope, dtotal = k.pow(total, -1.0), k.pow(total, -2.0) * -1.0, k.zeros()
            for i in k.range(out.columns - 1, -1, -1):
                dtotal += slope * (e[i] * passed[i])
            for c, lanes in across(k, out.columns):
                accumulate(result, c, e.vector(c, lanes) * (passed.vector(c, lanes) * inverse + dtotal), fresh=x.fresh)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastSoftmax(Softmax):
    """The same in f32. Keeps nothing: its gradient follows from its result."""

    real = F32

    def kept_size(self, positions: int, x: Shape) -> int:
        return 0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """p = e / sum(e) with e = exp(x - max(x))."""
        width = k.width(F32)
        for _, (row, result) in row_by_row(k, out, x.value, out.value):
            total, _ = fast_exponentiate(k, row, result, out.columns)
            inverse = k.real32(1.0) / total
            for c in vectors(k, out.columns):
                result.store(c, result.vector(c, width) * inverse)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += p * (dp - sum(p * dp))."""
        width = k.width(F32)
        for _, (p, passed, result) in row_by_row(k, out, out.value, out.grad, x.grad):
            mean = k.spread(dot(k, p, passed, out.columns), width)
            for c in vectors(k, out.columns):
                accumulate(result, c, p.vector(c, width) * (passed.vector(c, width) - mean), fresh=x.fresh)
