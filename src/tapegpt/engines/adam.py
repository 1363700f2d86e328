"""Adam's update in machine code, bit for bit microgpt.py's (Kingma and Ba, 2015; roundings in docs/exactness.md)."""

from __future__ import annotations

from tapegpt.autograd.operations.certified import GROUP, TINY, Divisor, decay, other_quotient, square, square_root
from tapegpt.machine.language import F64, I64, Builder, F64s, Int, Operand, Real, kernel
from tapegpt.machine.signature import Structure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engines.compiled import Numbers
    from tapegpt.machine.language import Number, Pointer, Value

_FIRM = 2.0**-700  # a parameter from here on is the same after a step below 2^-760
_REACH = 300  # squares that matter are from 2^-300 to 2^300, and roots have half of the exponent
_SMALL, _LARGE = 2.0 ** (60 - _REACH), 2.0 ** (_REACH - 60)  # of means of squares
_PATIENCE = 32  # steps after which tiny numbers are looked for again; only the time depends on it
_KEPT = 3 * GROUP  # words about a group: its v and p as they were, and where candidates differ


def scratch_size(count: int) -> int:
    """f64 of scratch for so many parameters; at first zeros, or what `expect_tiny` has made of them."""
    return _KEPT + count // GROUP


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
    Where the square or the root may be either of two numbers that do not give the same v and p, pow decides, and where
    the proof of `certified.py` does not hold: g below its reach matters only to a v below `_SMALL`.
    """
    update = _Update(k, numbers, scratch, step, schedule)
    for group in k.range(count // GROUP):
        for _ in k.when(update.move(group)):
            update.decide(group)


class _Update:
    """One step of Adam, by groups of numbers."""

    def __init__(self, k: Builder, numbers: Numbers, scratch: F64s, step: Int, schedule: Schedule) -> None:
        self._k, self._schedule = k, schedule
        self._pointers = (numbers.gradients, numbers.first, numbers.second, numbers.shared)
        self._saved_v, self._saved_p = scratch, scratch + GROUP
        self._differences, self._tiny = (scratch + 2 * GROUP).cast(I64), (scratch + _KEPT).cast(I64)
        beta1, beta2, epsilon = schedule.beta1, schedule.beta2, schedule.epsilon
        one, taken, width = k.real(1.0), k.convert(step, F64) + 1.0, _lanes(k)
        self._rate = rate = schedule.learning_rate * (one - k.convert(step, F64) / schedule.steps)
        self._corrections = correction1, correction2 = one - k.pow(beta1, taken), one - k.pow(beta2, taken)
        # Then a mean below `TINY` moves a parameter by less than 2^-760, and one from `_FIRM` on not at all.
        self._is_usual = (epsilon > 2.0**-90) & (k.abs(rate) < correction1 * epsilon * 2.0**140)
        self._looks = (step % _PATIENCE).equals(0) | k.logical_not(self._is_usual)
        limit = k.select((beta1 > 0.5) & (beta2 > 0.5) & self._is_usual, k.bits(k.real(TINY)), 0)
        self._first, self._second = _Mean(k, beta1, correction1, limit), _Mean(k, beta2, correction2, limit)
        least = epsilon * 2.0**-56  # of roots: smaller ones disappear in the sum with epsilon, as this one does
        constants = rate, epsilon, least * least * correction2
        self._rates, self._epsilons, self._least_v = (k.spread(k.value(x), width) for x in constants)

    def move(self, group: Int) -> Value:
        """Move a group; returns whether it may have numbers that pow has to decide."""
        k, first, second, width = self._k, self._first, self._second, _lanes(self._k)
        all_g, all_m, all_v, all_p = self._numbers(group)
        differences = k.zeros(width, I64)
        least_p, least_v, largest_v = (k.variable(k.constant(x, F64, width)) for x in (_FIRM, _SMALL, _LARGE))
        for index in () if k.target.certified else k.range(GROUP):  # calls of pow one after the other overlap
            self._saved_p[index], _ = square(k, all_g[index])
        had_tiny = self._tiny[group].differs(0)
        for has_tiny, holds in ((False, k.logical_not(had_tiny)), (True, had_tiny)):
            for _ in k.when(holds):
                for at in k.range(0, GROUP, width):
                    g, v = all_g.vector(at, width), all_v.vector(at, width)
                    m, p = all_m.vector(at, width), all_p.vector(at, width)
                    v_rests = g.equals(0.0) & second.may_rest(v) if has_tiny else None
                    m_rests = g.equals(0.0) & (k.abs(p) >= _FIRM) & first.may_rest(m) if has_tiny else None
                    either = square(k, g, _REACH) if k.target.certified else (self._saved_p.vector(at, width),) * 2
                    self._saved_v.store(at, v)
                    self._saved_p.store(at, p)
                    new_v, other_v = (second.move(v, v_rests, x) for x in either)
                    mean = second.divisor.into(k.maximum(self._least_v, new_v))
                    root, other_root, above = square_root(k, mean, _REACH // 2)
                    new_m = first.move(m, m_rests, g)
                    change = first.divisor.into(new_m) * self._rates
                    quotient = change / (root + self._epsilons)
                    new_p = other_p = p - quotient
                    if k.target.certified:
                        other_p = p - other_quotient(k, change, quotient, other_root + self._epsilons, above)
                    difference = k.bits(new_v) ^ k.bits(other_v) | k.bits(new_p) ^ k.bits(other_p)
                    self._differences.store(at, difference)
                    differences.set(differences | difference)
                    least_p.set(k.minimum(k.abs(p), least_p))
                    least_v.set(k.minimum(new_v, least_v))
                    largest_v.set(k.maximum(new_v, largest_v))
                    for pointer, new in ((all_m, new_m), (all_v, new_v), (all_p, new_p)):
                        pointer.store(at, new)
                    if m_rests is not None and v_rests is not None:
                        for _ in k.when(k.any(m_rests | v_rests)):
                            all_m.store(at, k.select(m_rests, first.decay(m), new_m))
                            all_v.store(at, k.select(v_rests, second.decay(v), new_v))
        is_odd = (least_p < _FIRM) | (least_v < _SMALL) | (largest_v > _LARGE)
        return k.any(differences.differs(0) | is_odd) | had_tiny | self._looks

    def decide(self, group: Int) -> None:
        """Move numbers of a group again, one by one, from what they were, where candidates differ or do not hold."""
        k, schedule, (correction1, correction2), width = self._k, self._schedule, self._corrections, _lanes(self._k)
        all_g, all_m, all_v, all_p = self._numbers(group)
        doubts, tiny = k.variable(k.select(self._is_usual, k.integer(0), -1)), k.variable(k.integer(0))
        for at in k.range(0, GROUP, width):
            g, m, v, p = (x.vector(at, width) for x in (all_g, all_m, all_v, self._saved_p))
            size_m, size_v = k.bits(k.abs(m)), k.bits(v)  # which a CPU compares at full speed
            is_odd = (k.abs(p) < _FIRM) & (size_m > 0) | (size_v < k.bits(k.real(_SMALL))) & g.differs(0.0)
            is_odd = is_odd | (v > _LARGE) | self._differences.vector(at, width).differs(0)
            doubts.set(doubts | (k.pack_bits(is_odd) << at))
            is_tiny = [(size > 0) & (size < k.bits(k.real(TINY))) for size in (size_m, size_v)]
            tiny.set(tiny | k.pack_bits(is_tiny[0] | is_tiny[1]))
        self._tiny[group] = tiny
        for _ in k.repeat_while(lambda: doubts.differs(0)):
            at = k.lowest_bit(doubts)
            doubts.set(doubts & (doubts - 1))
            squared = k.pow(all_g[at], 2.0)
            v = self._saved_v[at] * schedule.beta2 + squared * (1.0 - schedule.beta2)
            root = k.pow(v / correction2, 0.5)
            all_v[at] = v
            all_p[at] = self._saved_p[at] - all_m[at] / correction1 * self._rate / (root + schedule.epsilon)

    def _numbers(self, group: Int) -> list[Pointer]:
        return [pointer + group * GROUP for pointer in self._pointers]


class _Mean:
    """A running mean of Adam, x = beta x + (1 - beta) g.

    Where g stays zero it decays to subnormal numbers, and for ever: 3 * 0.85 and 50 * 0.99 of the smallest round to
    themselves. A number below `TINY`, the `limit`, whose g is zero *rests*: it decays as an integer, and counts as zero
    in what follows from it, which changes no bit there. Groups of numbers that may have such are noted.
    """

    def __init__(self, k: Builder, beta: Real, correction: Value, limit: Value) -> None:
        self._k, self.divisor = k, Divisor(k, correction, _lanes(k))
        self._beta, self._share, self._limit = (k.spread(k.value(x), _lanes(k)) for x in (beta, 1.0 - beta, limit))

    def may_rest(self, mean: Value) -> Value:
        """Which numbers rest where their g is zero."""
        size = self._k.bits(self._k.abs(mean))  # which a CPU compares at full speed
        return (size > 0) & (size < self._limit)

    def move(self, mean: Value, rests: Value | None, g: Value) -> Value:
        """What the mean becomes with this g; zero where it rests."""
        return (self._k.select(rests, 0.0, mean) if rests is not None else mean) * self._beta + g * self._share

    def decay(self, mean: Value) -> Value:
        """What the mean becomes where it rests."""
        return decay(self._k, mean, self._beta)


def _lanes(k: Builder) -> int:
    """Two vectors at a time, as 20 of the 50 operations on one wait for one another: 0.96 of a step."""
    return 2 * k.width()


def expect_tiny(k: Builder, scratch: F64s, count: Number) -> None:
    """Note all numbers as maybe tiny, as they are until an update has looked at them."""
    tiny = (scratch + _KEPT).cast(I64)
    for group in k.range(count // GROUP):
        tiny[group] = 1


def all_finite(k: Builder, gradients: F64s, count: int) -> Operand:
    """Whether the square of every gradient is a number below infinity."""
    sums = [k.zeros(k.width()) for _ in range(4)]
    for i in k.range(0, count, 4 * k.width()):
        for index in range(4):
            g = gradients.vector(i + index * k.width(), k.width())
            sums[index] += g * g * 0.0  # 0, or NaN
    return k.logical_not(k.any((sums[0] + sums[1] + (sums[2] + sums[3])).differs(0.0)))
