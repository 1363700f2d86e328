"""Mean of (x - y)^2 over all numbers. Shapes: x and y (R, C), loss (1, 1)."""

from __future__ import annotations

from tapegpt.machine.language import F32, F64
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.value import total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.language import Builder, Value
    from tapegpt.value import Matrix


class MeanSquaredError(Operation):
    """`mse(x, y)`."""

    name = "mse"
    takes = (2,)

    def shape(self, *inputs: Shape) -> Shape:
        x, y = inputs[:2]
        self.expect(x == y, "needs two matrices of one shape", x, y)
        return Shape(1, 1)

    def is_causal(self, *inputs: Shape) -> bool:
        return inputs[0].rows is not None

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        pairs = zip(*inputs, strict=True)
        differences = [a - b for x, y in pairs for a, b in zip(x, y, strict=True)]
        return [[total(d * d for d in differences) * (1 / len(differences))]]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastMeanSquaredError(), ("share",)

    def _share(self, k: Builder, *inputs: Slot) -> Value:
        """What each square is multiplied by."""
        x = inputs[0]
        return k.real(1.0) / k.convert(k.integer((x.stop - x.start) * x.columns), F64)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """In f64 one number after the other, in f32 vectors of them."""
        x, y = inputs[:2]
        kind = out.value.type
        lanes = k.width(kind) if kind is F32 else 1
        squares = k.zeros(lanes, kind)
        for t in k.range(x.start, x.stop):
            for c in k.range(0, x.columns, lanes):
                at = t * padded(x.columns) + c
                difference = x.value.vector(at, lanes) - y.value.vector(at, lanes)
                squares += difference * difference
        out.value[0] = k.reduce_add(squares) * self._share(k, *inputs)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """dx = or += g (x - y) twice, g being the gradient of a square; dy the same times -1."""
        x, y = inputs[:2]
        lanes, g = k.width(out.value.type), self._share(k, *inputs) * out.grad[0]
        for slot, sign, fresh in ((x, 1.0, x.fresh), (y, -1.0, y.fresh and x is not y)):
            if slot.gradient is not None:
                for t in k.range(x.stop - 1, x.start - 1, -1):
                    for c in k.range(0, padded(x.columns), lanes):
                        at = t * padded(x.columns) + c
                        half = (x.value.vector(at, lanes) - y.value.vector(at, lanes)) * g
                        gradient = (half + half) * sign
                        before = None if fresh else slot.gradient.vector(at, lanes)
                        slot.gradient.store(at, gradient if before is None else before + gradient)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastMeanSquaredError(MeanSquaredError):
    """`FastMeanSquaredError()(x, y, share)` in f32: each row has this share (1, 1) where they are positions."""

    real = F32
    takes = (3,)

    def _share(self, k: Builder, *inputs: Slot) -> Value:
        x, _, share = inputs
        if x.shape.rows is None:
            return share.value[0] * (1 / x.columns)
        return k.real32(1 / (x.shape.rows * x.columns))
