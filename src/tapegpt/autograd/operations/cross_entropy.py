"""Mean over positions of -log(softmax(logits)[target]). Shapes: logits (T, V), targets (T, 1), loss (1, 1)."""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, in_f32, padded, row_stride
from tapegpt.autograd.operations.functions import log, power
from tapegpt.autograd.operations.rows import (
    accumulate,
    across,
    fast_exponentiate,
    less_largest,
    replace_by_exponentials,
    row_by_row,
    share_of,
    total_in_order,
    vectors,
)
from tapegpt.autograd.value import Matrix, softmax, total
from tapegpt.machine.language import F32, I32, Builder


class CrossEntropy(Operation):
    """`cross_entropy(logits, targets)`. Keeps the exponentials, their sums and the inverses of these."""

    name = "cross_entropy"
    formula = "mean of {n} surprises"
    within = {"probability": "softmax of {n}", "surprise": "minus the log"}  # noqa: RUF012  # never changed
    takes = (2,)

    def shape(self, logits: Shape, targets: Shape, *_: Shape) -> Shape:
        self.expect(logits.rows == targets.rows, "needs as many index targets as rows of logits", logits, targets)
        return Shape(1, 1)

    def is_causal(self, *inputs: Shape) -> bool:
        return False

    def index_bounds(self, logits: Shape, *_: Shape) -> list[int]:
        return [0, logits.columns, *[0] * len(self.about)]

    def reference(self, inner: dict[str, Matrix], logits: Matrix, targets: Matrix) -> Matrix:
        inner["probability"] = [softmax(row) for row in logits]
        inner["surprise"] = [
            [-row[int(target.data)].log()] for row, (target,) in zip(inner["probability"], targets, strict=True)
        ]
        return [[(1 / len(logits)) * total(surprise for (surprise,) in inner["surprise"])]]

    def kept_size(self, positions: int, logits: Shape, *_: Shape) -> int:
        return logits.count(positions) * (row_stride(logits.columns) + 2)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, logits: Slot, targets: Slot, *_: Slot) -> None:
        """loss = (1 / n) * the sum over positions, in order, of -log(e_target / sum(e)), e = exp(x - max(x))."""
        sums, losses = scratch.kept + logits.extent, k.zeros()
        for _t, (row, e) in row_by_row(k, logits, logits.value, scratch.kept):
            less_largest(k, row, e, logits.columns)
        first = scratch.kept + logits.start * logits.stride
        replace_by_exponentials(k, first, logits.stop - logits.start, logits.stride, logits.columns)
        for t, (e,) in row_by_row(k, logits, scratch.kept):
            sums[2 * t] = total = total_in_order(k, e, logits.columns)
            sums[2 * t + 1] = inverse = power(k, total, -1.0)
            losses += k.log(e[targets.value[t]] * inverse) * -1.0
        out.value[0] = losses * share_of(k, logits.stop - logits.start)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, logits: Slot, targets: Slot, *_: Slot) -> None:
        """dx_i = or += e_i * de_i; de_i is the sum's share, and for the target its own as well."""
        sums = scratch.kept + logits.extent
        share = share_of(k, logits.stop - logits.start) * out.grad[0]
        for t, (e, result) in row_by_row(k, logits, scratch.kept, logits.grad, reverse=True):
            total, inverse, target = sums[2 * t], sums[2 * t + 1], targets.value[t]
            # loss = share * sum of -log(probability), probability = e[target] * inverse
            dprobability = (k.real(1.0) / (e[target] * inverse)) * (share * -1.0)
            # inverse = total ** -1, total = sum(e)
            dtotal = (power(k, total, -2.0) * -1.0) * (e[target] * dprobability)
            # e = exp(x - max(x))
            own = e[target] * (dprobability * inverse + dtotal)
            if not logits.fresh:
                own = result[target] + own
            for c, lanes in across(k, logits.columns):
                accumulate(result, c, e.vector(c, lanes) * dtotal, fresh=logits.fresh)
            result[target] = own


# --- f32 ------------------------------------------------------------------------------------------------------------


@in_f32(CrossEntropy)
class FastCrossEntropy(CrossEntropy):
    """`FastCrossEntropy()(logits, targets, share)` in f32: the sum of all positions times the share (1, 1).

    Keeps the exponentials, their sums, and the largest logit less that of the target.
    """

    about = ("share",)
    sets = (0,)

    def shape(self, logits: Shape, targets: Shape, *share: Shape) -> Shape:
        fits = logits.rows == targets.rows and share[0] == Shape(1, 1)
        self.expect(fits, "needs as many index targets as rows of logits, and one number", logits, targets, *share)
        return Shape(1, 1)

    def kept_size(self, positions: int, logits: Shape, *_: Shape) -> int:
        rows = logits.count(positions)
        return rows * row_stride(logits.columns) + 2 * padded(rows)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, logits: Slot, targets: Slot, *share: Slot) -> None:
        """loss = share * the sum of log(sum(e)) + max(x) - x_target, e = exp(x - max(x))."""
        sums, width = scratch.kept + logits.extent, k.width(F32)
        gaps, losses = sums + padded(logits.rows), k.zeros(width, F32)
        for t, (row, e) in row_by_row(k, logits, logits.value, scratch.kept):
            sums[t], largest = fast_exponentiate(k, row, e, logits.columns)
            gaps[t] = largest - row[targets.value[t]]
        for t in k.range(logits.start, logits.stop, width):
            exists = k.lane_numbers(width) < k.convert(logits.stop - t, I32)
            losses += k.select(exists, log(k, sums.vector(t, width)) + gaps.vector(t, width), 0.0)
        out.value[0] = k.group_sum(losses, width).lane(0) * share[0].value[0]

    def backward(self, k: Builder, scratch: Scratch, out: Slot, logits: Slot, targets: Slot, *share: Slot) -> None:
        """dx = share * (e / sum(e)), less the share itself at the target."""
        sums, weight = scratch.kept + logits.extent, share[0].value[0] * out.grad[0]
        for t, (e, result) in row_by_row(k, logits, scratch.kept, logits.grad):
            factor = weight / sums[t]
            for c in vectors(k, logits.columns):
                result.store(c, e.vector(c, k.width(F32)) * factor)
            result[targets.value[t]] = result[targets.value[t]] - weight
