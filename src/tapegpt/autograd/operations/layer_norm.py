"""y = (x - mean(x)) / sqrt(variance(x) + 1e-5), row by row (Ba, Kiros and Hinton, 2016). Shapes: x, y (R, D).

It is the root mean square norm of c = x - mean(x), gain and bias included.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Scratch, Slot, in_f32
from tapegpt.autograd.operations.rmsnorm import FastRMSNorm, RMSNorm
from tapegpt.autograd.operations.rows import LazyRow, Row, accumulate, dot, mask_columns, row_by_row, total, vectors
from tapegpt.autograd.value import Matrix, layer_norm
from tapegpt.machine.language import F32, F64, Builder, Number, Pointer, Value


class LayerNorm(RMSNorm):
    """`layer_norm(x)`. Keeps of each row the variance + 1e-5, the scale and the mean."""

    name = "layer_norm"
    formula = "less the mean of {n}, over their standard deviation"
    keeps = 3

    def reference(self, inner: dict[str, Matrix], x: Matrix) -> Matrix:
        return [layer_norm(row) for row in x]

    def center(self, k: Builder, row: Pointer, kept: Pointer, columns: int) -> Row:
        """c = x - mean(x), and zeros behind."""
        mean = kept[2]
        return LazyRow(row.type, lambda at, lanes: mask_columns(k, row.vector(at, lanes) - mean, at, columns, 0.0))

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *more: Slot) -> None:
        """The mean of each row, sum(x) / D; then y, see `RMSNorm.forward`."""
        for t, (row,) in row_by_row(k, out, x.value):
            scratch.kept[t * self.keeps + 2] = total(k, row, out.columns) * float(out.columns) ** -1
        super().forward(k, scratch, out, x, *more)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot) -> None:
        """dx = or += dc, then the mean's share; dc = scale * dy, then c * g twice, see `RMSNorm.backward`."""
        width = k.width()
        for t, (row, dy, result) in row_by_row(k, out, x.value, out.grad, x.grad, reverse=True):
            kept = scratch.kept + t * self.keeps
            c = self.center(k, row, kept, out.columns)
            scale, g = kept[1], self.dsquares(k, c, dy, kept, out.columns)

            def dc(at: Number, lanes: int) -> Value:
                through_scale = c.vector(at, lanes) * g
                return dy.vector(at, lanes) * scale + through_scale + through_scale

            dmean = total(k, LazyRow(F64, dc), out.columns, reverse=True) * -1.0
            dsum = dmean * float(out.columns) ** -1
            for at in vectors(k, out.columns, F64):
                accumulate(result, at, dc(at, width), fresh=x.fresh)
                result.store(at, mask_columns(k, result.vector(at, width) + dsum, at, out.columns, 0.0))


# --- f32 ------------------------------------------------------------------------------------------------------------


@in_f32(LayerNorm)
class FastLayerNorm(FastRMSNorm, LayerNorm):
    """`FastLayerNorm(...)(x, gain, bias)` in f32: times a gain (1, D), plus a bias (1, D), where it has them."""

    def row_grad(self, k: Builder, c: Row, scale: Value, dz: Row, dx: Pointer, columns: int, *, fresh: bool) -> None:
        """dx = or += scale * (dz - mean(dz) - z * mean(z * dz)) with z = c * scale."""
        width = k.width(F32)
        dmean = k.spread(total(k, dz, columns) * (-1 / columns), width)
        along = k.spread(dot(k, c, dz, columns) * (scale * scale * (-1 / columns)), width)
        for at in vectors(k, columns):
            gradient = k.mul_add(c.vector(at, width), along, dz.vector(at, width) + dmean) * scale
            accumulate(dx, at, mask_columns(k, gradient, at, columns, 0.0), fresh=fresh)
