"""Mean over positions of -log(softmax(logits)[target]). Shapes: logits (T, V), targets (T, 1), loss (1, 1)."""

from __future__ import annotations

from tapegpt.machine.language import F64, Builder, F64s, Int, Pointer, U32s, Value, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, across, padded


class CrossEntropy(Operation):
    """`cross_entropy(logits, targets)`. Keeps the exponentials, their sums and the inverses of these."""

    name = "cross_entropy"
    takes = (2,)

    def shape(self, *inputs: Shape) -> Shape:
        logits, targets = inputs
        self.expect(logits.rows == targets.rows, "needs as many index targets as rows of logits", logits, targets)
        return Shape(1, 1)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return 0 if place == 0 else inputs[0].columns

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
