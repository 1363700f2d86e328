"""y = x / sqrt(mean(x^2) + 1e-5), row by row (Zhang and Sennrich, 2019). Shapes: x, y (T, D).

A gain is a product of its own in f64; in f32 it is the end of the norm.
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, F64s, Int, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.rows import across, dot, each_row, vectors
from tapegpt.value import rmsnorm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.language import Number, Value
    from tapegpt.value import Matrix

EPSILON = 1e-5


class RMSNorm(Operation):
    """`rmsnorm(x)`. Keeps the mean square and the scale of each row."""

    name = "rmsnorm"
    formula = "over the root mean square of {n}"
    takes = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return [rmsnorm(row) for row in inputs[0]]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastRMSNorm(), ()

    def kept(self, positions: int, *inputs: Shape) -> int:
        return 2 * padded(inputs[0].count(positions))

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        rmsnorm_forward(k, inputs[0].value, out.value, scratch.kept, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x = inputs[0]
        if x.gradient is not None:
            sizes = {"columns": x.columns, "fresh": x.fresh}
            rmsnorm_backward(k, x.value, scratch.kept, out.grad, x.gradient, out.start, out.stop, **sizes)


@kernel
def rmsnorm_forward(k: Builder, x: F64s, y: F64s, kept: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """y = x * scale with scale = (sum(x * x) / D + 1e-5) ** -0.5; kept (T, 2): the bracket and the scale."""
    for t, (row, result) in each_row(k, start, stop, columns, x, y):
        total = k.zeros()
        for i in k.range(columns):
            total += row[i] * row[i]
        mean_square = total * float(columns) ** -1 + EPSILON
        scale = k.pow(mean_square, -0.5)
        kept[2 * t] = mean_square
        kept[2 * t + 1] = scale
        for c, lanes in across(k, columns):
            result.store(c, row.vector(c, lanes) * scale)


@kernel
def rmsnorm_backward(
    k: Builder, x: F64s, kept: F64s, dy: F64s, dx: F64s, start: Int, stop: Int, *, columns: int, fresh: bool
) -> None:
    """dx = or += scale * dy, then x * g twice, for both factors of x * x; g is the gradient of sum(x * x)."""
    for t, (row, passed, result) in each_row(k, start, stop, columns, x, dy, dx, reverse=True):
        dscale = k.zeros()
        for i in k.range(columns - 1, -1, -1):
            dscale += row[i] * passed[i]
        mean_square, scale = kept[2 * t], kept[2 * t + 1]
        dmean = k.pow(mean_square, -1.5) * -0.5 * dscale
        g = dmean * float(columns) ** -1
        for c, lanes in across(k, columns):
            through_scale = row.vector(c, lanes) * g
            start = passed.vector(c, lanes) * scale
            if not fresh:
                start = result.vector(c, lanes) + start
            result.store(c, start + through_scale + through_scale)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastRMSNorm(RMSNorm):
    """`FastRMSNorm(...)(x, gain)` in f32: times a gain (1, D), where it has one. Keeps the scale of each row."""

    real = F32

    def __init__(self, *, gain: bool = False) -> None:
        self.gain = gain
        self.takes = (1 + gain,)
        self.clears = (1,) if gain else ()

    def __str__(self) -> str:
        return self.name + " * gain" * self.gain

    def kept(self, positions: int, *inputs: Shape) -> int:
        return padded(inputs[0].count(positions))

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        places = (inputs[0].value, inputs[-1].value, out.value, scratch.kept)
        fast_forward(k, *places, out.start, out.stop, columns=out.columns, has_gain=self.gain)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, gain = inputs[0], inputs[-1]
        ends = (out.start, out.stop)
        if self.gain and gain.gradient is not None:
            fast_gain(k, x.value, scratch.kept, out.grad, gain.gradient, *ends, columns=out.columns)
        if x.gradient is not None:
            places = (x.value, gain.value, scratch.kept, out.grad, x.gradient)
            fast_backward(k, *places, *ends, columns=x.columns, has_gain=self.gain, fresh=x.fresh)


@kernel
def fast_forward(
    k: Builder, x: F32s, gain: F32s, y: F32s, scales: F32s, start: Int, stop: Int, *, columns: int, has_gain: bool
) -> None:
    """y = x * scale * gain with scale = (sum(x * x) / D + 1e-5) ** -0.5."""
    width = k.width(F32)
    for t, (row, result) in each_row(k, start, stop, columns, x, y):
        mean_square = dot(k, row, row, columns) * (1 / columns) + EPSILON
        scale = k.real32(1.0) / k.sqrt(mean_square)
        scales[t] = scale
        for c in vectors(k, columns):
            number = row.vector(c, width) * scale
            result.store(c, number * gain.vector(c, width) if has_gain else number)


@kernel
def fast_backward(
    k: Builder,
    x: F32s,
    gain: F32s,
    scales: F32s,
    dy: F32s,
    dx: F32s,
    start: Int,
    stop: Int,
    *,
    columns: int,
    has_gain: bool,
    fresh: bool,
) -> None:
    """dx = or += scale * (dz - x * scale^2 * (x dz) / D) with dz = dy * gain."""
    width = k.width(F32)
    for t, (row, passed, result) in each_row(k, start, stop, columns, x, dy, dx):

        def dz(c: Number) -> Value:
            return passed.vector(c, width) * gain.vector(c, width) if has_gain else passed.vector(c, width)

        scale, products = scales[t], k.zeros(width, F32)
        for c in vectors(k, columns):
            products.accumulate(row.vector(c, width), dz(c))
        total = k.group_sum(products, width).lane(0)
        along = k.spread(total * (scale * scale * scale) * (-1 / columns), width)
        for c in vectors(k, columns):
            gradient = dz(c) * scale
            if not fresh:
                gradient = gradient + result.vector(c, width)
            result.store(c, k.mul_add(row.vector(c, width), along, gradient))


@kernel
def fast_gain(k: Builder, x: F32s, scales: F32s, dy: F32s, dgain: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """dgain += sum over rows of dy * x * scale."""
    width = k.width(F32)
    for t, (row, passed) in each_row(k, start, stop, columns, x, dy):
        scale = scales[t]
        for c in vectors(k, columns):
            normal = row.vector(c, width) * scale
            dgain.store(c, k.mul_add(normal, passed.vector(c, width), dgain.vector(c, width)))
