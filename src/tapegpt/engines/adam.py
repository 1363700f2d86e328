"""Adam's update in machine code, bit for bit microgpt.py's (Kingma and Ba, 2015; roundings in docs/exactness.md)."""

from __future__ import annotations

from tapegpt.autograd.operations.certified import GROUP, TINY, Divisor, decay, settle, square, square_root
from tapegpt.machine.language import BOOL, F64, I64, Builder, F64s, I64s, Int, Operand, Real, Structure, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.engines.compiled import Numbers
    from tapegpt.machine.language import Number, Value

BLOCK = 8 * GROUP  # elements that stay in the first-level cache between the passes
_BETWEEN = 3 * BLOCK + BLOCK // GROUP  # numbers that the passes leave to each other
_FIRM = 2.0**-700  # a parameter from here on is the same after a step below 2^-760


def scratch_size(count: int) -> int:
    """f64 of scratch for so many parameters; at first zeros, or what `expect_tiny` has made of them."""
    return _BETWEEN + 2 * count // GROUP


class Schedule(Structure):
    """What `base.Adam` says, whose fields these are."""

    steps: Real
    learning_rate: Real
    beta1: Real
    beta2: Real
    epsilon: Real
    weight_decay: Real
    gram_decay: Real
    warmup: Real
    clip: Real


@kernel
def adam_update(
    k: Builder,
    numbers: Numbers,
    scratch: F64s,
    count: Int,
    step: Int,
    schedule: Schedule,
) -> None:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g ** 2; p -= lr (m / c1) / ((v / c2) ** 0.5 + schedule.epsilon).

    The learning rate falls to zero over all steps; c = 1 - b ** (step + 1). `count` is a multiple of `GROUP`.
    """
    beta1, beta2, epsilon = schedule.beta1, schedule.beta2, schedule.epsilon
    one, taken = k.real(1.0), k.convert(step, F64) + 1.0
    rate = schedule.learning_rate * (one - k.convert(step, F64) / schedule.steps)
    correction1, correction2 = one - k.pow(beta1, taken), one - k.pow(beta2, taken)
    may_rest = (beta1 > 0.5) & (beta2 > 0.5) & (epsilon > 2.0**-300) & (k.abs(rate) < correction1 * epsilon * 2.0**140)
    limit = k.select(may_rest, k.bits(k.real(TINY)), 0)
    divisor1, divisor2 = Divisor(k, correction1), Divisor(k, correction2)
    squares, unbiased, roots = scratch, scratch + BLOCK, scratch + 2 * BLOCK
    doubts, tiny = (scratch + 3 * BLOCK).cast(I64), (scratch + _BETWEEN).cast(I64)
    for start in k.range(0, count, BLOCK):
        rest = count - start
        groups = k.select(rest < BLOCK, rest, BLOCK) // GROUP
        pointers = (numbers.gradients, numbers.first, numbers.second, numbers.shared)
        g, m, v, p = (pointer + start for pointer in pointers)
        first = _Mean(k, m, beta1, divisor1, limit, tiny + start // GROUP)
        second = _Mean(k, v, beta2, divisor2, limit, tiny + (count + start) // GROUP)
        for group in k.range(groups):
            word = k.variable(k.integer(0))
            for index, at in _vectors(k, group):
                result, doubt = square(k, g.vector(at, k.width()))
                squares.store(at, result)
                word.set(word | (k.pack_bits(doubt) << index))
            doubts[group] = word
        settle(k, doubts, groups, g, squares, 2.0)
        for group in k.range(groups):
            word = k.variable(k.integer(0))
            for index, at, has_tiny in second.vectors(group):
                every = k.constant(1, BOOL, k.width()) if has_tiny else None
                quotient = second.update(group, at, squares.vector(at, k.width()), every)
                unbiased.store(at, quotient)
                result, doubt = square_root(k, quotient, epsilon * 2.0**-55)
                roots.store(at, result)
                word.set(word | (k.pack_bits(doubt) << index))
            doubts[group] = word
        settle(k, doubts, groups, unbiased, roots, 0.5)
        for group in k.range(groups):
            for _, at, has_tiny in first.vectors(group):
                before = p.vector(at, k.width())
                is_firm = k.abs(before) >= _FIRM if has_tiny else None
                mean = first.update(group, at, g.vector(at, k.width()), is_firm)
                p.store(at, before - mean * rate / (roots.vector(at, k.width()) + epsilon))


class _Mean:
    """A running mean of Adam, x = beta x + (1 - beta) g.

    Where g stays zero it decays to subnormal numbers, and for ever: 3 * 0.85 and 50 * 0.99 of the smallest round to
    themselves. A number below 2^-900, the `limit`, whose g is zero *rests*: it decays as an integer, and counts as zero
    in what follows from it, which changes no bit there. Groups of numbers that may have such are noted.
    """

    def __init__(self, k: Builder, mean: F64s, beta: Real, divisor: Divisor, limit: Int, tiny: I64s) -> None:
        self._k, self._mean, self._beta, self._divisor = k, mean, beta, divisor
        self._limit, self._tiny = limit, tiny

    def vectors(self, group: Operand) -> Iterator[tuple[int, Operand, bool]]:
        """The vectors of a group as `_vectors` has them, and whether they may have tiny numbers."""
        k = self._k
        has_tiny = self._tiny[group].differs(0)
        for _ in k.when(k.logical_not(has_tiny)):
            yield from ((index, at, False) for index, at in _vectors(k, group))
        for _ in k.when(has_tiny):
            self._tiny[group] = 0
            yield from ((index, at, True) for index, at in _vectors(k, group))

    def update(self, group: Operand, at: Operand, g: Value, may_rest: Value | None) -> Value:
        """Move a vector of the mean towards g; returns it without its bias. None: no lane has a tiny number."""
        k, beta = self._k, self._beta
        before = self._mean.vector(at, k.width())

        def note() -> None:
            self._tiny[group] = 1

        if may_rest is None:
            mean = before * beta + g * (1.0 - beta)
            self._mean.store(at, mean)
        else:
            size = k.bits(k.abs(before))  # which a CPU compares at full speed
            rests = (size > 0) & (size < self._limit) & g.equals(0.0) & may_rest
            mean = k.select(rests, 0.0, before) * beta + g * (1.0 - beta)
            self._mean.store(at, mean)
            for _ in k.when(k.any(rests)):
                self._mean.store(at, k.select(rests, decay(k, before, beta), mean))
                note()
        return self._divisor.into(mean, note)


def expect_tiny(k: Builder, scratch: F64s, count: Number) -> None:
    """Note all numbers as maybe tiny, as they are until an update has looked at them."""
    tiny = (scratch + _BETWEEN).cast(I64)
    for group in k.range(2 * count // GROUP):
        tiny[group] = 1


def all_finite(k: Builder, gradients: F64s, count: int) -> Operand:
    """Whether the square of every gradient is a number below infinity."""
    sums = [k.zeros(k.width()) for _ in range(4)]
    for i in k.range(0, count, 4 * k.width()):
        for index in range(4):
            g = gradients.vector(i + index * k.width(), k.width())
            sums[index] += g * g * 0.0  # 0, or NaN
    return k.logical_not(k.any((sums[0] + sums[1] + (sums[2] + sums[3])).differs(0.0)))


def _vectors(k: Builder, group: Operand) -> list[tuple[int, Operand]]:
    """The vectors of a group: the index of their first element in it, and in the block."""
    return [(index, group * GROUP + index) for index in range(0, GROUP, k.width())]  # as a loop 2 % slower
