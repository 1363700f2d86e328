"""Mean of (x - y)^2 over all numbers. Shapes: x and y (R, C), loss (1, 1)."""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot
from tapegpt.autograd.operations.rows import accumulate, row_by_row, share_of, vectors
from tapegpt.autograd.value import Matrix, total
from tapegpt.machine.language import F32, Builder


class MeanSquaredError(Operation):
    """`mse(x, y)`."""

    name = "mse"
    real = None
    takes = (2,)

    def shape(self, x: Shape, y: Shape) -> Shape:
        self.expect(x == y, "needs two matrices of one shape", x, y)
        return Shape(1, 1)

    def is_causal(self, x: Shape, y: Shape) -> bool:
        return x.rows is not None

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        pairs = zip(*inputs, strict=True)
        differences = [a - b for x, y in pairs for a, b in zip(x, y, strict=True)]
        return [[total(d * d for d in differences) * (1 / len(differences))]]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, y: Slot) -> None:
        """loss = (1 / n) * the sum of (x - y)^2: in f64 one number after the other, in f32 vectors of them."""
        kind = out.value.type
        lanes = k.width(kind) if kind is F32 else 1
        squares = k.zeros(lanes, kind)
        for _, (a, b) in row_by_row(k, x, x.value, y.value):
            for c in k.range(0, x.columns, lanes):
                difference = a.vector(c, lanes) - b.vector(c, lanes)
                squares += difference * difference
        out.value[0] = k.reduce_add(squares) * share_of(k, (x.stop - x.start) * x.columns, kind)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, y: Slot) -> None:
        """dx = or += g (x - y) twice, g being the gradient of a square; dy the same times -1, zero where x is y."""
        kind = out.value.type
        g = share_of(k, (x.stop - x.start) * x.columns, kind) * out.grad[0]
        for node, sign, fresh in ((x, 1.0, x.fresh), (y, -1.0, y.fresh)):
            if node.gradient is not None:
                for _, (a, b, result) in row_by_row(k, x, x.value, y.value, node.gradient, reverse=True):
                    for c in vectors(k, x.columns, kind):
                        half = (a.vector(c, k.width(kind)) - b.vector(c, k.width(kind))) * g
                        accumulate(result, c, (half + half) * sign, fresh=fresh)
