"""y = (x - mean(x)) / sqrt(variance(x) + 1e-5), row by row (Ba, Kiros and Hinton, 2016). Shapes: x, y (R, D).

Gain and bias are products and sums of their own in f64; in f32 they are the end of the norm.
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, F64s, Int, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot
from tapegpt.operations.rmsnorm import EPSILON
from tapegpt.operations.rows import across, each_row, present, sum_rows, total, vectors
from tapegpt.value import layer_norm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.language import Number, Value
    from tapegpt.value import Matrix


class LayerNorm(Operation):
    """`layer_norm(x)`. Keeps the mean of each row, its variance + 1e-5, and its scale."""

    name = "layer_norm"
    formula = "less the mean of {n}, over their standard deviation"
    takes = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return [layer_norm(row) for row in inputs[0]]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastLayerNorm(), ()

    def kept(self, positions: int, *inputs: Shape) -> int:
        return 3 * inputs[0].count(positions)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        layer_norm_forward(k, inputs[0].value, out.value, scratch.kept, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x = inputs[0]
        if x.gradient is not None:
            sizes = {"columns": x.columns, "fresh": x.fresh}
            layer_norm_backward(k, x.value, scratch.kept, out.grad, x.gradient, out.start, out.stop, **sizes)


@kernel
def layer_norm_forward(k: Builder, x: F64s, y: F64s, kept: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """y = c * scale with c = x - sum(x) / D and scale = (sum(c * c) / D + 1e-5) ** -0.5."""
    share = float(columns) ** -1
    for t, (row, result) in each_row(k, start, stop, columns, x, y):
        sum_of_row, squares = k.zeros(), k.zeros()
        for i in k.range(columns):
            sum_of_row += row[i]
        mean = sum_of_row * share
        for i in k.range(columns):
            centred = row[i] - mean
            squares += centred * centred
        variance = squares * share + EPSILON
        scale = k.pow(variance, -0.5)
        for place, number in enumerate((mean, variance, scale)):
            kept[3 * t + place] = number
        for c, lanes in across(k, columns):
            result.store(c, (row.vector(c, lanes) - mean) * scale)


@kernel
def layer_norm_backward(
    k: Builder, x: F64s, kept: F64s, dy: F64s, dx: F64s, start: Int, stop: Int, *, columns: int, fresh: bool
) -> None:
    """dx = or += dc, then the mean's share; dc = scale * dy, then c * g twice, g being the gradient of sum(c * c)."""
    share = float(columns) ** -1
    for t, (row, passed, result) in each_row(k, start, stop, columns, x, dy, dx, reverse=True):
        mean, variance, scale = (kept[3 * t + place] for place in range(3))
        dscale, dmean = k.zeros(), k.zeros()
        for i in k.range(columns - 1, -1, -1):
            dscale += (row[i] - mean) * passed[i]
        g = (k.pow(variance, -1.5) * -0.5 * dscale) * share

        def gradient(at: Number, lanes: int) -> Value:
            through_scale = (row.vector(at, lanes) - mean) * g
            return passed.vector(at, lanes) * scale + through_scale + through_scale

        for i in k.range(columns - 1, -1, -1):
            dmean -= gradient(i, 1)
        dsum = dmean * share
        for c, lanes in across(k, columns):
            dc = gradient(c, lanes)
            result.store(c, (dc if fresh else result.vector(c, lanes) + dc) + dsum)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastLayerNorm(LayerNorm):
    """`FastLayerNorm(...)(x, gain, bias)` in f32: times a gain (1, D), plus a bias (1, D), where it has them."""

    real = F32

    def __init__(self, *, gain: bool = False, bias: bool = False) -> None:
        self.gain, self.bias = gain, bias
        self.takes = (1 + gain + bias,)
        self.clears = tuple(range(1, 1 + gain + bias))

    def __str__(self) -> str:
        return self.name + " * gain" * self.gain + " + bias" * self.bias

    def kept(self, positions: int, *inputs: Shape) -> int:
        return 2 * inputs[0].count(positions)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, gain, bias = inputs[0], inputs[self.gain], inputs[-1]
        places = (x.value, gain.value, bias.value, out.value, scratch.kept)
        sizes = {"columns": out.columns, "has_gain": self.gain, "has_bias": self.bias}
        fast_forward(k, *places, out.start, out.stop, **sizes)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, gain, bias = inputs[0], inputs[self.gain], inputs[-1]
        ends = (out.start, out.stop)
        if self.bias and bias.gradient is not None:
            sum_rows(k, out.grad, bias.gradient, *ends, columns=out.columns)
        if self.gain and gain.gradient is not None:
            fast_gain(k, x.value, scratch.kept, out.grad, gain.gradient, *ends, columns=out.columns)
        if x.gradient is not None:
            places = (x.value, gain.value, scratch.kept, out.grad, x.gradient)
            fast_backward(k, *places, *ends, columns=out.columns, has_gain=self.gain, fresh=x.fresh)


@kernel
def fast_forward(
    k: Builder,
    x: F32s,
    gain: F32s,
    bias: F32s,
    y: F32s,
    kept: F32s,
    start: Int,
    stop: Int,
    *,
    columns: int,
    has_gain: bool,
    has_bias: bool,
) -> None:
    """y = c * scale * gain + bias with c = x - mean(x) and scale = (mean(c * c) + 1e-5) ** -0.5."""
    width = k.width(F32)
    for t, (row, result) in each_row(k, start, stop, columns, x, y):
        mean = total(k, row, columns) * (1 / columns)
        squares = k.zeros(width, F32)
        for c in vectors(k, columns):
            centred = present(k, row.vector(c, width) - mean, c, columns, 0.0)
            squares.accumulate(centred, centred)
        variance = k.group_sum(squares, width).lane(0) * (1 / columns) + EPSILON
        scale = k.real32(1.0) / k.sqrt(variance)
        kept[2 * t], kept[2 * t + 1] = mean, scale
        for c in vectors(k, columns):
            number = present(k, (row.vector(c, width) - mean) * scale, c, columns, 0.0)
            if has_gain:
                number = number * gain.vector(c, width)
            result.store(c, number + bias.vector(c, width) if has_bias else number)


@kernel
def fast_backward(
    k: Builder,
    x: F32s,
    gain: F32s,
    kept: F32s,
    dy: F32s,
    dx: F32s,
    start: Int,
    stop: Int,
    *,
    columns: int,
    has_gain: bool,
    fresh: bool,
) -> None:
    """dx = or += scale * (dz - mean(dz) - z * mean(z * dz)) with z = c * scale and dz = dy * gain."""
    width = k.width(F32)
    for t, (row, passed, result) in each_row(k, start, stop, columns, x, dy, dx):
        mean, scale = kept[2 * t], kept[2 * t + 1]

        def dz(c: Number) -> Value:
            return passed.vector(c, width) * gain.vector(c, width) if has_gain else passed.vector(c, width)

        sums, along = k.zeros(width, F32), k.zeros(width, F32)
        for c in vectors(k, columns):
            sums += dz(c)
            along.accumulate(row.vector(c, width) - mean, dz(c))
        dmean = k.group_sum(sums, width) * (-1 / columns)
        slope = k.group_sum(along, width) * (scale * scale * (-1 / columns))
        for c in vectors(k, columns):
            gradient = k.mul_add(row.vector(c, width) - mean, slope, dz(c) + dmean) * scale
            gradient = present(k, gradient, c, columns, 0.0)
            result.store(c, gradient if fresh else gradient + result.vector(c, width))


@kernel
def fast_gain(k: Builder, x: F32s, kept: F32s, dy: F32s, dgain: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """dgain += sum over rows of dy * c * scale."""
    width = k.width(F32)
    for t, (row, passed) in each_row(k, start, stop, columns, x, dy):
        mean, scale = kept[2 * t], kept[2 * t + 1]
        for c in vectors(k, columns):
            normal = (row.vector(c, width) - mean) * scale
            dgain.store(c, k.mul_add(normal, passed.vector(c, width), dgain.vector(c, width)))
