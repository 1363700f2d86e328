"""Each row as probabilities: p = exp(x) / sum(exp(x)). Shapes: x and p (R, C)."""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, F64s, Int, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.rows import across, dot, each_row, exponentiate, fast_exponentiate, vectors
from tapegpt.value import softmax

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.value import Matrix


class Softmax(Operation):
    """`softmax(x)`. Keeps the exponentials, less the largest of their row before, and behind them their sums."""

    name = "softmax"
    takes = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return [softmax(row) for row in inputs[0]]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastSoftmax(), ()

    def kept(self, positions: int, *inputs: Shape) -> int:
        return inputs[0].count(positions) * (padded(inputs[0].columns) + 1)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        places = (inputs[0].value, scratch.kept, scratch.kept + out.rows * padded(out.columns), out.value)
        softmax_forward(k, *places, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        if x.gradient is not None:
            places = (scratch.kept, scratch.kept + out.rows * padded(out.columns), out.grad, x.gradient)
            softmax_backward(k, *places, out.start, out.stop, columns=out.columns, fresh=x.fresh)


@kernel
def softmax_forward(k: Builder, x: F64s, e: F64s, sums: F64s, p: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """p = e * sum(e) ** -1 with e = exp(x - max(x))."""
    for t, (row, exponentials, result) in each_row(k, start, stop, columns, x, e, p):
        total = exponentiate(k, row, exponentials, columns)
        sums[t] = total
        inverse = k.pow(total, -1.0)
        for c, lanes in across(k, columns):
            result.store(c, exponentials.vector(c, lanes) * inverse)


@kernel
def softmax_backward(
    k: Builder, e: F64s, sums: F64s, dp: F64s, dx: F64s, start: Int, stop: Int, *, columns: int, fresh: bool
) -> None:
    """dx = or += e * (dp * sum(e) ** -1 + dtotal); dtotal is the gradient of sum(e)."""
    for t, (exponentials, passed, result) in each_row(k, start, stop, columns, e, dp, dx, reverse=True):
        total = sums[t]
        inverse, slope, dtotal = k.pow(total, -1.0), k.pow(total, -2.0) * -1.0, k.zeros()
        for i in k.range(columns - 1, -1, -1):
            dtotal += slope * (exponentials[i] * passed[i])
        for c, lanes in across(k, columns):
            gradient = exponentials.vector(c, lanes) * (passed.vector(c, lanes) * inverse + dtotal)
            result.store(c, gradient if fresh else result.vector(c, lanes) + gradient)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastSoftmax(Softmax):
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
def fast_forward(k: Builder, x: F32s, p: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """p = e / sum(e) with e = exp(x - max(x))."""
    width = k.width(F32)
    for _, (row, result) in each_row(k, start, stop, columns, x, p):
        total, _ = fast_exponentiate(k, row, result, columns)
        inverse = k.real32(1.0) / total
        for c in vectors(k, columns):
            result.store(c, result.vector(c, width) * inverse)


@kernel
def fast_backward(k: Builder, p: F32s, dp: F32s, dx: F32s, start: Int, stop: Int, *, columns: int, fresh: bool) -> None:
    """dx = or += p * (dp - sum(p * dp))."""
    width = k.width(F32)
    for _, (row, passed, result) in each_row(k, start, stop, columns, p, dp, dx):
        mean = k.spread(dot(k, row, passed, columns), width)
        for c in vectors(k, columns):
            gradient = row.vector(c, width) * (passed.vector(c, width) - mean)
            result.store(c, gradient if fresh else result.vector(c, width) + gradient)
