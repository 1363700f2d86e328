"""Mean over positions of -log(softmax(logits)[target]). Shapes: logits (T, V), targets (T, 1), loss (1, 1)."""

from __future__ import annotations

from tapegpt.machine.language import F32, F64, I32, Builder, F32s, F64s, Int, Number, Pointer, U32s, Value, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, across, padded
from tapegpt.operations.functions import exp, log
from tapegpt.operations.rows import vectors
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
    for t in k.range(start, stop):
        row, exponentials = x + t * padded(columns), e + t * padded(columns)
        total = exponentiate(k, row, exponentials, columns)
        inverse = k.pow(total, -1.0)
        sums[2 * t] = total
        sums[2 * t + 1] = inverse
        losses += k.log(exponentials[targets[t]] * inverse) * -1.0
    loss[0] = losses * (k.real(1.0) / k.convert(stop - start, F64))


def exponentiate(k: Builder, row: Pointer, exponentials: Pointer, columns: int) -> Value:
    """exponentials = exp(row - max(row)); their sum in index order."""
    largest = largest_of(k, row, columns)
    total = k.zeros()
    for i in k.range(columns):
        exponential = k.exp(row[i] - largest)
        exponentials[i] = exponential
        total += exponential
    return k.value(total)


def largest_of(k: Builder, row: Pointer, columns: int) -> Value:
    """The largest element of a row: whole vectors side by side, then their lanes."""
    whole, rest = k.variable(row.vector(0, k.vectors(columns)[0][1])), k.variable(row[0])
    for c, lanes in across(k, columns):
        if lanes == whole.lanes:
            whole.set(k.maximum(row.vector(c, lanes), whole))
        else:
            rest.set(k.maximum(k.reduce_max(row.vector(c, lanes)), rest))
    return k.maximum(k.reduce_max(whole), rest)


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
    for t in k.range(stop - 1, start - 1, -1):
        exponentials, result = e + t * padded(columns), dx + t * padded(columns)
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
    for t in k.range(start, stop):
        row = x + t * padded(columns)
        total, largest = fast_exponentiate(k, row, e + t * padded(columns), columns)
        sums[t] = total
        gaps[t] = largest - row[targets[t]]
    losses = k.zeros(width, F32)
    for t in k.range(start, stop, width):
        present = k.lane_numbers(width) < k.convert(stop - t, I32)
        losses += k.select(present, log(k, sums.vector(t, width)) + gaps.vector(t, width), 0.0)
    loss[0] = k.group_sum(losses, width).lane(0) * share[0]


def fast_exponentiate(k: Builder, row: Pointer, e: Pointer, columns: int) -> tuple[Value, Value]:
    """e = exp(row - max(row)), zeros behind; their sum and the largest of the row."""
    width = k.width(F32)
    peaks = k.variable(k.constant(-3e38, F32, width))
    for c in vectors(k, columns):
        peaks.set(k.maximum(present(k, row.vector(c, width), c, columns, -3e38), peaks))
    largest = k.group_max(peaks, width)
    total = k.zeros(width, F32)
    for c in vectors(k, columns):
        exponentials = present(k, exp(k, row.vector(c, width) - largest), c, columns, 0.0)
        e.store(c, exponentials)
        total += exponentials
    return k.group_sum(total, width).lane(0), largest.lane(0)


def present(k: Builder, vector: Value, start: Number, columns: int, other: float) -> Value:
    """The lanes that are columns; another number on those behind the last."""
    if isinstance(start, int) and start + vector.lanes <= columns:
        return vector
    rest = k.convert(k.integer(columns - start), I32)
    return k.select(k.lane_numbers(vector.lanes) < rest, vector, other)


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
    for t in k.range(start, stop):
        result = dx + t * padded(columns)
        factor = weight / sums[t]
        for c in vectors(k, columns):
            result.store(c, (e + t * padded(columns)).vector(c, width) * factor)
        result[targets[t]] = result[targets[t]] - weight
