"""Adam's update in machine code, bit for bit microgpt.py's (Kingma and Ba, 2015; roundings in docs/exactness.md)."""

from __future__ import annotations

from tapegpt.autograd.operations.certified import GROUP, Divisor, settle, square, square_root
from tapegpt.machine.language import F64, I64, Builder, F64s, Int, Operand, Real, Structure, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.engines.compiled import Numbers

BLOCK = 8 * GROUP  # elements that stay in the first-level cache between the passes
SCRATCH = 3 * BLOCK + BLOCK // GROUP  # f64 of scratch


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
    beta1, beta2 = schedule.beta1, schedule.beta2
    one, taken = k.real(1.0), k.convert(step, F64) + 1.0
    rate = schedule.learning_rate * (one - k.convert(step, F64) / schedule.steps)
    divisor1, divisor2 = Divisor(k, one - k.pow(beta1, taken)), Divisor(k, one - k.pow(beta2, taken))
    squares, unbiased, roots = scratch, scratch + BLOCK, scratch + 2 * BLOCK
    doubts = (scratch + 3 * BLOCK).cast(I64)
    for start in k.range(0, count, BLOCK):
        rest = count - start
        groups = k.select(rest < BLOCK, rest, BLOCK) // GROUP
        pointers = (numbers.gradients, numbers.first, numbers.second, numbers.shared)
        g, m, v, p = (pointer + start for pointer in pointers)
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
            for index, at in _vectors(k, group):
                moment = v.vector(at, k.width()) * beta2 + squares.vector(at, k.width()) * (one - beta2)
                v.store(at, moment)
                quotient = divisor2.into(moment)
                unbiased.store(at, quotient)
                result, doubt = square_root(k, quotient)
                roots.store(at, result)
                word.set(word | (k.pack_bits(doubt) << index))
            doubts[group] = word
        settle(k, doubts, groups, unbiased, roots, 0.5)
        for group in k.range(groups):
            for _, at in _vectors(k, group):
                moment = m.vector(at, k.width()) * beta1 + g.vector(at, k.width()) * (one - beta1)
                m.store(at, moment)
                step = divisor1.into(moment) * rate / (roots.vector(at, k.width()) + schedule.epsilon)
                p.store(at, p.vector(at, k.width()) - step)


def all_finite(k: Builder, gradients: F64s, count: int) -> Operand:
    """Whether the square of every gradient is a number below infinity."""
    sums = [k.zeros(k.width()) for _ in range(4)]
    for i in k.range(0, count, 4 * k.width()):
        for index in range(4):
            g = gradients.vector(i + index * k.width(), k.width())
            sums[index] += g * g * 0.0  # 0, or NaN
    return k.logical_not(k.any((sums[0] + sums[1] + (sums[2] + sums[3])).differs(0.0)))


def _vectors(k: Builder, group: Operand) -> Iterator[tuple[Operand, Operand]]:
    """The vectors of a group: the index of their first element in it, and in the block."""
    for index in k.range(0, GROUP, k.width()):
        yield index, group * GROUP + index
