"""y = x / sqrt(mean(x^2) + 1e-5), row by row (Zhang and Sennrich, 2019). Shapes: x, y (R, D).

A gain is a product of its own in f64; in f32 it is the end of the norm. So is a bias, a sum of its own.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, in_f32
from tapegpt.autograd.operations.functions import power
from tapegpt.autograd.operations.rows import Row, accumulate, dot, dot_in_lanes, product, row_by_row, sum_rows, vectors
from tapegpt.autograd.value import Matrix, rmsnorm
from tapegpt.machine.language import F32, F64, Builder, Pointer, Value

EPSILON = 1e-5


class RMSNorm(Operation):
    """`rmsnorm(x)`. Keeps of each row the mean square + 1e-5, and the scale."""

    name = "rmsnorm"
    formula = "over the root mean square of {n}"
    takes = (1,)
    keeps = 2  # numbers of each row
    gain = bias = False

    def shape(self, x: Shape, *_: Shape) -> Shape:
        return x

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return [rmsnorm(row) for row in x]

    def kept_size(self, positions: int, x: Shape, *_: Shape) -> int:
        return self.keeps * x.count(positions)

    def center(self, k: Builder, row: Pointer, kept: Pointer, columns: int) -> Row:
        """What is scaled, c: here the row itself."""
        return row

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *more: Slot) -> None:
        """y = c * scale * gain + bias with scale = (sum(c * c) / D + 1e-5) ** -0.5."""
        width = k.width(out.value.type)
        for t, (row, result) in row_by_row(k, out, x.value, out.value):
            kept = scratch.kept + t * self.keeps
            c = self.center(k, row, kept, out.columns)
            scale = self.scale(k, c, kept, out.columns)
            for at in vectors(k, out.columns, row.type):
                number = c.vector(at, width) * scale
                if self.gain:
                    number = number * more[0].value.vector(at, width)
                result.store(at, number + more[-1].value.vector(at, width) if self.bias else number)

    def scale(self, k: Builder, c: Row, kept: Pointer, columns: int) -> Value:
        """(sum(c * c) / D + 1e-5) ** -0.5; kept with what it is a root of."""
        kept[0] = mean_square = dot(k, c, c, columns) * float(columns) ** -1 + EPSILON
        kept[1] = scale = power(k, mean_square, -0.5)
        return scale

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += scale * dy, then x * g twice, for both factors of x * x; g is the gradient of sum(x * x)."""
        width = k.width()
        for t, (row, dy, result) in row_by_row(k, out, x.value, out.grad, x.grad, reverse=True):
            kept = scratch.kept + t * self.keeps
            scale, g = kept[1], self.dsquares(k, row, dy, kept, out.columns)
            for at in vectors(k, out.columns, F64):
                through_scale = row.vector(at, width) * g
                accumulate(result, at, dy.vector(at, width) * scale, fresh=x.fresh)
                result.store(at, result.vector(at, width) + through_scale + through_scale)

    def dsquares(self, k: Builder, c: Row, dy: Row, kept: Pointer, columns: int) -> Value:
        """The gradient of sum(c * c), by way of the scale."""
        # y = c * scale, scale = (sum(c * c) / D + 1e-5) ** -0.5
        dscale = dot(k, c, dy, columns, reverse=True)
        return power(k, kept[0], -1.5) * -0.5 * dscale * float(columns) ** -1


# --- f32 ------------------------------------------------------------------------------------------------------------


@in_f32(RMSNorm)
class FastRMSNorm(RMSNorm):
    """`FastRMSNorm(...)(x, gain, bias)` in f32: times a gain (1, D), plus a bias (1, D), where it has them."""

    def __init__(self, *, gain: bool = False, bias: bool = False) -> None:
        self.gain, self.bias = gain, bias
        self.takes = (1 + gain + bias,)
        self.clears = tuple(range(1, 1 + gain + bias))

    def __str__(self) -> str:
        return self.name + " * gain" * self.gain + " + bias" * self.bias

    def scale(self, k: Builder, c: Row, kept: Pointer, columns: int) -> Value:
        """The same on all lanes, where it is needed next."""
        scale = k.reciprocal_sqrt(dot_in_lanes(k, c, c, columns) * (1 / columns) + EPSILON)
        kept[1] = scale.lane(0)
        return scale

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *more: Slot) -> None:
        """dbias += dy and dgain += dy * c * scale, summed over rows; dx = or += what follows from dz = dy * gain."""
        width = k.width(F32)
        if self.bias and more[-1].gradient is not None:
            sum_rows(k, out, more[-1].gradient)
        if self.gain and more[0].gradient is not None:
            dgain = more[0].gradient
            for t, (row, dy) in row_by_row(k, out, x.value, out.grad):
                kept = scratch.kept + t * self.keeps
                c, scale = self.center(k, row, kept, out.columns), kept[1]
                for at in vectors(k, out.columns):
                    z = c.vector(at, width) * scale
                    dgain.store(at, k.mul_add(z, dy.vector(at, width), dgain.vector(at, width)))
        if x.gradient is not None:
            for t, (row, dy, dx) in row_by_row(k, out, x.value, out.grad, x.gradient):
                kept = scratch.kept + t * self.keeps
                dz = product(dy, more[0].value) if self.gain else dy
                self.row_grad(k, self.center(k, row, kept, out.columns), kept[1], dz, dx, out.columns, fresh=x.fresh)

    def row_grad(self, k: Builder, c: Row, scale: Value, dz: Row, dx: Pointer, columns: int, *, fresh: bool) -> None:
        """dx = or += scale * (dz - x * scale^2 * (x dz) / D)."""
        width = k.width(F32)
        along = k.spread(dot(k, c, dz, columns) * (scale * scale * scale) * (-1 / columns), width)
        for at in vectors(k, columns):
            accumulate(dx, at, dz.vector(at, width) * scale, fresh=fresh)
            dx.store(at, k.mul_add(c.vector(at, width), along, dx.vector(at, width)))
