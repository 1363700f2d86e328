"""y = x / sqrt(mean(x^2) + 1e-5), row by row, without gain (Zhang and Sennrich, 2019). Shapes: x, y (T, D)."""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, Int, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.fast.rows import dot, vectors
from tapegpt.operations.rmsnorm import EPSILON


class RMSNorm(Operation):
    """`RMSNorm()(x)`. Keeps the scale of each row."""

    name = "rmsnorm"
    real = F32
    takes = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def kept(self, positions: int, *inputs: Shape) -> int:
        return padded(inputs[0].count(positions))

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        rmsnorm_forward(k, inputs[0].value, out.value, scratch.kept, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x = inputs[0]
        if x.gradient is not None:
            sizes = {"columns": x.columns, "fresh": x.fresh}
            rmsnorm_backward(k, x.value, scratch.kept, out.grad, x.gradient, out.start, out.stop, **sizes)


@kernel
def rmsnorm_forward(k: Builder, x: F32s, y: F32s, scales: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """y = x * scale with scale = (sum(x * x) / D + 1e-5) ** -0.5."""
    width = k.width(F32)
    for t in k.range(start, stop):
        row, result = x + t * padded(columns), y + t * padded(columns)
        mean_square = dot(k, row, row, columns) * (1 / columns) + EPSILON
        scale = k.real32(1.0) / k.sqrt(mean_square)
        scales[t] = scale
        for c in vectors(k, columns):
            result.store(c, row.vector(c, width) * scale)


@kernel
def rmsnorm_backward(
    k: Builder, x: F32s, scales: F32s, dy: F32s, dx: F32s, start: Int, stop: Int, *, columns: int, fresh: bool
) -> None:
    """dx = or += scale * (dy - x * scale^2 * (x dy) / D)."""
    width = k.width(F32)
    for t in k.range(start, stop):
        row, passed, result = x + t * padded(columns), dy + t * padded(columns), dx + t * padded(columns)
        scale = scales[t]
        along = k.spread(dot(k, row, passed, columns) * (scale * scale * scale) * (-1 / columns), width)
        for c in vectors(k, columns):
            gradient = passed.vector(c, width) * scale
            if not fresh:
                gradient = gradient + result.vector(c, width)
            result.store(c, k.mul_add(row.vector(c, width), along, gradient))
