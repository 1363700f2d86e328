"""Mean over positions of -log(softmax(logits)[target]). Shapes: logits (T, V), targets (T, 1), loss (1, 1)."""

from __future__ import annotations

from tapegpt.machine.language import F32, F64, I32, Builder, F32s, F64s, Int, Pointer, U32s, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.functions import log
from tapegpt.operations.rows import across, each_row, exponentiate, fast_exponentiate, vectors
from tapegpt.value import softmax, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.value import Matrix


class CrossEntropy(Operation):
    """`cross_entropy(logits, targets)`. Keeps the exponentials, their sums and the inverses of these."""

    name = "cross_entropy"
    formula = "mean of {n} surprises"
    within = {"probability": "softmax of {n}", "surprise": "minus the log"}  # noqa: RUF012  # never changed
    takes = (2,)

    def shape(self, *inputs: Shape) -> Shape:
        logits, targets = inputs
        self.expect(logits.rows == targets.rows, "needs as many index targets as rows of logits", logits, targets)
        return Shape(1, 1)

    def is_causal(self, *inputs: Shape) -> bool:
        return False

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return inputs[0].columns if place == 1 else 0

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        logits, targets = inputs[:2]
        inner["probability"] = [softmax(row) for row in logits]
        inner["surprise"] = [
            [-row[int(target.data)].log()] for row, (target,) in zip(inner["probability"], targets, strict=True)
        ]
        return [[(1 / len(logits)) * total(surprise for (surprise,) in inner["surprise"])]]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastCrossEntropy(), ("share",)

    def kept(self, positions: int, *inputs: Shape) -> int:
        return inputs[0].count(positions) * (padded(inputs[0].columns) + 2)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        logits, targets = inputs
        kept = (scratch.kept, self._sums(scratch.kept, logits))
        cross_entropy_forward(
            k, logits.value, targets.value, *kept, out.value, logits.start, logits.stop, columns=logits.columns
        )

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        logits, targets = inputs
        if logits.gradient is not None:
            sizes = {"columns": logits.columns, "fresh": logits.fresh}
            kept = (scratch.kept, self._sums(scratch.kept, logits))
            ends = (logits.start, logits.stop)
            cross_entropy_backward(k, targets.value, *kept, out.grad, logits.gradient, *ends, **sizes)

    def _sums(self, kept: Pointer, logits: Slot) -> Pointer:
        return kept + logits.rows * padded(logits.columns)


@kernel
def cross_entropy_forward(
    k: Builder, x: F64s, targets: U32s, e: F64s, sums: F64s, loss: F64s, start: Int, stop: Int, *, columns: int
) -> None:
    """loss = (1 / n) * the sum over positions, in order, of -log(e_target / sum(e)), e = exp(x - max(x))."""
    losses = k.zeros()
    for t, (row, exponentials) in each_row(k, start, stop, columns, x, e):
        total = exponentiate(k, row, exponentials, columns)
        inverse = k.pow(total, -1.0)
        sums[2 * t] = total
        sums[2 * t + 1] = inverse
        losses += k.log(exponentials[targets[t]] * inverse) * -1.0
    loss[0] = losses * (k.real(1.0) / k.convert(stop - start, F64))


@kernel
def cross_entropy_backward(
    k: Builder,
    targets: U32s,
    e: F64s,
    sums: F64s,
    dloss: F64s,
    dx: F64s,
    start: Int,
    stop: Int,
    *,
    columns: int,
    fresh: bool,
) -> None:
    """dx_i = or += e_i * de_i; de_i is the sum's share, and for the target its own as well."""
    share = (k.real(1.0) / k.convert(stop - start, F64)) * dloss[0]
    for t, (exponentials, result) in each_row(k, start, stop, columns, e, dx, reverse=True):
        total, inverse, target = sums[2 * t], sums[2 * t + 1], targets[t]
        probability = exponentials[target] * inverse
        dprobability = (k.real(1.0) / probability) * (share * -1.0)
        dtotal = (k.pow(total, -2.0) * -1.0) * (exponentials[target] * dprobability)
        own = exponentials[target] * (dprobability * inverse + dtotal)
        if not fresh:
            own = result[target] + own
        for c, lanes in across(k, columns):
            gradient = exponentials.vector(c, lanes) * dtotal
            result.store(c, gradient if fresh else result.vector(c, lanes) + gradient)
        result[target] = own


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastCrossEntropy(CrossEntropy):
    """`FastCrossEntropy()(logits, targets, share)` in f32: the sum of all positions times the share (1, 1)."""

    real = F32
    takes = (3,)
    sets = (0,)

    def shape(self, *inputs: Shape) -> Shape:
        logits, targets, share = inputs
        fits = logits.rows == targets.rows and (share.rows, share.columns) == (1, 1)
        self.expect(fits, "needs as many index targets as rows of logits, and one number", *inputs)
        return Shape(1, 1)

    def kept(self, positions: int, *inputs: Shape) -> int:
        rows = inputs[0].count(positions)
        return rows * padded(inputs[0].columns) + 2 * padded(rows)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        logits, targets, share = inputs
        places = (logits.value, targets.value, share.value, *self._views(scratch, logits), out.value)
        fast_forward(k, *places, logits.start, logits.stop, columns=logits.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        logits, targets, share = inputs
        if logits.gradient is not None:
            exponentials, sums, _ = self._views(scratch, logits)
            places = (targets.value, share.value, exponentials, sums, out.grad, logits.gradient)
            fast_backward(k, *places, logits.start, logits.stop, columns=logits.columns)

    def _views(self, scratch: Scratch, logits: Slot) -> tuple[Pointer, Pointer, Pointer]:
        """Exponentials (T, V), their sums (T), and the largest logit less that of the target (T)."""
        sums = scratch.kept + logits.rows * padded(logits.columns)
        return scratch.kept, sums, sums + padded(logits.rows)


@kernel
def fast_forward(
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
    for t, (row, exponentials) in each_row(k, start, stop, columns, x, e):
        total, largest = fast_exponentiate(k, row, exponentials, columns)
        sums[t] = total
        gaps[t] = largest - row[targets[t]]
    losses = k.zeros(width, F32)
    for t in k.range(start, stop, width):
        present = k.lane_numbers(width) < k.convert(stop - t, I32)
        losses += k.select(present, log(k, sums.vector(t, width)) + gaps.vector(t, width), 0.0)
    loss[0] = k.group_sum(losses, width).lane(0) * share[0]


@kernel
def fast_backward(
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
    for t, (exponentials, result) in each_row(k, start, stop, columns, e, dx):
        factor = weight / sums[t]
        for c in vectors(k, columns):
            result.store(c, exponentials.vector(c, width) * factor)
        result[targets[t]] = result[targets[t]] - weight
