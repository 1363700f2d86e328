"""Adam in f32 with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019), and its schedule."""

from __future__ import annotations

from tapegpt.autograd.operations.base import row_stride
from tapegpt.autograd.operations.rows import vectors
from tapegpt.machine.language import F32, F64, Builder, F32s, F64s, Int, Operand, Real, U32s, Value, kernel
from tapegpt.machine.signature import Structure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engines.adam import Schedule
    from tapegpt.engines.compiled import Numbers
    from tapegpt.machine.language import Number

SMALLEST = 1e-36  # keeps the root of zero a number
DECAY_EVERY = 8  # steps: n-gram embeddings decay all at once, which takes longer than a step's own rows


def rate_at(k: Builder, schedule: Schedule, step: Operand) -> Value:
    """The learning rate: up to its peak over the share `warmup` of all steps, then down to zero, both in a line."""
    progress, warmup = step / schedule.steps, schedule.warmup
    rising = k.select(warmup > 0.0, progress / k.maximum(warmup, 1e-30), 1.0)
    falling = (1.0 - progress) / (1.0 - warmup)
    return schedule.learning_rate * k.maximum(k.minimum(rising, falling), 0.0)


@kernel
def gather_gradients(
    k: Builder, gradients: F32s, start: Int, stop: Int, threads: Int, squares: F64s, *, extent: int
) -> None:
    """Add up the threads' gradients into those of the first, zero the others; squares[0] is the sum of squares."""
    width = k.width(F32)
    for thread in k.range(1, threads):
        others = gradients + thread * extent
        for i in k.range(start, stop, width):
            gradients.store(i, gradients.vector(i, width) + others.vector(i, width))
            others.store(i, k.constant(0, F32, width))
    sums = [k.zeros(width, F32) for _ in range(4)]
    for i in k.range(start, stop, 4 * width):
        for index, total in enumerate(sums):
            g = gradients.vector(i + index * width, width)
            total.accumulate(g, g)
    squares[0] = k.convert(k.group_sum(sums[0] + sums[1] + (sums[2] + sums[3]), width).lane(0), F64)


class Move(Structure):
    """A step: its learning rate, the factor of the gradients, and the powers of the betas."""

    rate: Real
    scale: Real
    power1: Real
    power2: Real


class _Step:
    """One step of Adam: its constants, and the update of a vector."""

    def __init__(self, k: Builder, numbers: Numbers, schedule: Schedule, move: Move, decay: Number) -> None:
        self._k = k
        self._parameters, self._first, self._second = numbers.shared, numbers.first, numbers.second
        beta1, beta2, rate, scale = schedule.beta1, schedule.beta2, move.rate, move.scale
        correction1, correction2 = 1.0 - move.power1, 1.0 - move.power2
        self._step = k.convert(rate / correction1 * k.sqrt(correction2) * -1.0, F32)
        self._beside = k.convert(schedule.epsilon * k.sqrt(correction2), F32)
        self._keep = k.convert(1.0 - rate * decay, F32)
        self._old1, self._new1 = k.convert(beta1, F32), k.convert((1.0 - beta1) * scale, F32)
        self._old2, self._new2 = k.convert(beta2, F32), k.convert((1.0 - beta2) * scale * scale, F32)

    def update(self, i: Number, g: Value) -> None:
        """Move the parameters at i along the gradient g."""
        k, width = self._k, g.lanes
        p = self._parameters.vector(i, width)
        m = k.mul_add(self._first.vector(i, width), self._old1, g * self._new1)
        v = k.mul_add(self._second.vector(i, width), self._old2, g * g * self._new2)
        root = v * k.reciprocal_sqrt(v + SMALLEST)  # leaves the divider to the quotient: 20 % of Adam's time
        ratio = m / (root + self._beside)
        self._first.store(i, m)
        self._second.store(i, v)
        self._parameters.store(i, k.mul_add(ratio, self._step, p * self._keep))


@kernel
def adamw(k: Builder, numbers: Numbers, start: Int, stop: Int, schedule: Schedule, move: Move) -> None:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= rate (m / c1 / (sqrt(v / c2) + epsilon) + decay p).

    g is the gradient times a scale, and zero afterwards; c1 and c2 are 1 less the powers of b1 and b2.
    """
    width, gradients = k.width(F32), numbers.gradients
    step = _Step(k, numbers, schedule, move, schedule.weight_decay)
    for i in k.range(start, stop, width):
        step.update(i, gradients.vector(i, width))
        gradients.store(i, k.constant(0, F32, width))


@kernel
def adamw_rows(
    k: Builder,
    numbers: Numbers,
    rows: U32s,
    count: Int,
    thread: Int,
    threads: Int,
    schedule: Schedule,
    move: Move,
    *,
    columns: int,
    extent: int,
) -> None:
    """`adamw` without decay for some rows of a table, those of this thread; a row may be listed more than once.

    Where the gradient is zero nothing moves, so that rows without a position in the batch need not be looked at.
    Gradients are the first thread's, those of the others `extent` apart.
    """
    width = k.width(F32)
    step = _Step(k, numbers, schedule, move, 0.0)
    for i in k.range(count):
        row, is_mine = rows[i], k.variable(k.integer(1))
        for _ in k.when(threads > 1):
            is_mine.set(k.select((row % threads).equals(thread), k.integer(1), 0))
        for _ in k.when(is_mine.equals(1)):
            for c in vectors(k, columns):
                at = row * row_stride(columns) + c
                total = k.zeros(width, F32)
                for other in k.range(threads):
                    others = numbers.gradients + other * extent
                    total += others.vector(at, width)
                    others.store(at, k.constant(0, F32, width))
                for _ in k.when(k.any(total.differs(0.0))):
                    step.update(at, k.value(total))


@kernel
def decay_rows(k: Builder, tables: F32s, start: Int, stop: Int, factor: Real) -> None:
    """Multiply all numbers by the factor."""
    width, keep = k.width(F32), k.convert(factor, F32)
    for i in k.range(start, stop, width):
        tables.store(i, tables.vector(i, width) * keep)
