"""Share of each position times -log(softmax(logits)[target]), summed.

Shapes: logits (T, V), targets (T, 1), share (1, 1), loss (1, 1).
"""

from __future__ import annotations

from tapegpt.machine.language import F32, I32, Builder, F32s, Int, Number, Pointer, U32s, Value, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.fast.functions import exp, log
from tapegpt.operations.fast.rows import vectors


class CrossEntropy(Operation):
    """`CrossEntropy()(logits, targets, share)`. Keeps the exponentials and their sums."""

    name = "cross_entropy"
    real = F32
    takes = (3,)
    sets = (0,)

    def shape(self, *inputs: Shape) -> Shape:
        logits, targets, share = inputs
        fits = logits.rows == targets.rows and (share.rows, share.columns) == (1, 1)
        self.expect(fits, "needs as many index targets as rows of logits, and one number", *inputs)
        return Shape(1, 1)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return inputs[0].columns if place == 1 else 0

    def kept(self, positions: int, *inputs: Shape) -> int:
        rows = inputs[0].count(positions)
        return rows * padded(inputs[0].columns) + 2 * padded(rows)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        logits, targets, share = inputs
        places = (logits.value, targets.value, share.value, *self._kept(scratch, logits), out.value)
        cross_entropy_forward(k, *places, logits.start, logits.stop, columns=logits.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        logits, targets, share = inputs
        if logits.gradient is not None:
            exponentials, sums, _ = self._kept(scratch, logits)
            places = (targets.value, share.value, exponentials, sums, out.grad, logits.gradient)
            cross_entropy_backward(k, *places, logits.start, logits.stop, columns=logits.columns)

    def _kept(self, scratch: Scratch, logits: Slot) -> tuple[Pointer, Pointer, Pointer]:
        """Exponentials (T, V), their sums (T), and the largest logit less that of the target (T)."""
        sums = scratch.kept + logits.rows * padded(logits.columns)
        return scratch.kept, sums, sums + padded(logits.rows)


@kernel
def cross_entropy_forward(
    k: Builder,
    x: F32s,
    targets: U32s,
    share: F32s,
    e: F32s,
    sums: F32s,
    gaps: F32s,
    loss: F32s,
    start: Int,
    stop: Int,
    *,
    columns: int,
) -> None:
    """loss = share * the sum of log(sum(e)) + max(x) - x_target, e = exp(x - max(x))."""
    width = k.width(F32)
    for t in k.range(start, stop):
        row = x + t * padded(columns)
        total, largest = exponentiate(k, row, e + t * padded(columns), columns)
        sums[t] = total
        gaps[t] = largest - row[targets[t]]
    losses = k.zeros(width, F32)
    for t in k.range(start, stop, width):
        present = k.lane_numbers(width) < k.convert(stop - t, I32)
        losses += k.select(present, log(k, sums.vector(t, width)) + gaps.vector(t, width), 0.0)
    loss[0] = k.group_sum(losses, width).lane(0) * share[0]


def exponentiate(k: Builder, row: Pointer, e: Pointer, columns: int) -> tuple[Value, Value]:
    """e = exp(row - max(row)), zeros behind; their sum and the largest of the row."""
    width = k.width(F32)
    peaks = k.variable(k.constant(-3e38, F32, width))
    for c in vectors(k, columns):
        peaks.set(k.maximum(_present(k, row.vector(c, width), c, columns, -3e38), peaks))
    largest = k.group_max(peaks, width)
    total = k.zeros(width, F32)
    for c in vectors(k, columns):
        exponentials = _present(k, exp(k, row.vector(c, width) - largest), c, columns, 0.0)
        e.store(c, exponentials)
        total += exponentials
    return k.group_sum(total, width).lane(0), largest.lane(0)


def _present(k: Builder, vector: Value, start: Number, columns: int, other: float) -> Value:
    """The lanes that are columns; another number on those behind the last."""
    if isinstance(start, int) and start + vector.lanes <= columns:
        return vector
    rest = k.convert(k.integer(columns - start), I32)
    return k.select(k.lane_numbers(vector.lanes) < rest, vector, other)


@kernel
def cross_entropy_backward(
    k: Builder,
    targets: U32s,
    share: F32s,
    e: F32s,
    sums: F32s,
    dloss: F32s,
    dx: F32s,
    start: Int,
    stop: Int,
    *,
    columns: int,
) -> None:
    """dx = share * (e / sum(e)), less the share itself at the target."""
    width = k.width(F32)
    weight = share[0] * dloss[0]
    for t in k.range(start, stop):
        result = dx + t * padded(columns)
        factor = weight / sums[t]
        for c in vectors(k, columns):
            result.store(c, (e + t * padded(columns)).vector(c, width) * factor)
        result[targets[t]] = result[targets[t]] - weight
