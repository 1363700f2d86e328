"""Squares, square roots and quotients that are certainly what libm's pow and `/` give, mostly without either.

Powers. microgpt.py computes `g ** 2` and `v ** 0.5` with pow, which is not correctly rounded. But glibc bounds its
error (since 2.28, sysdeps/ieee754/dbl-64/e_pow.c): 0.511 ulp of the exponential, plus |y log x| times the relative
error 1.5 * 2^-68 of the logarithm, in units of 2^-53. For results from 2^-70 to 2^70 that is below 0.5 + `SLACK` ulp.
So where the exact result is nearer than 0.5 - `SLACK` ulp to the correctly rounded one, every other double is farther
away than pow may be, and pow must give the correctly rounded one. The distance comes exactly from one fused
multiply-add. The lanes in doubt, about 3 of 100, are marked, and `settle` calls pow for them. Where the bound is not
known, all are in doubt.

Quotients. `Divisor` divides by one number many times without the divider (Markstein, 1990: with the correctly rounded
reciprocal and a faithful quotient, one correction by the exact remainder gives the correctly rounded quotient).

Subnormal numbers, which cost 150 cycles an operation on many CPUs: `decay` multiplies them as integers.
"""

from __future__ import annotations

from tapegpt.machine.language import F64, Builder, Number, Operand, Pointer, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SLACK = 0.0135  # 0.011 + 70 * log(2) * 1.5 * 2^-68 / 2^-53 = 0.01322, and some for the test's own roundings
GROUP = 64  # elements whose doubts are one word

_CERTAIN = (0.5 - SLACK) * 2.0**-52  # in units of the power of two at or below the result: one ulp is 2^-52 of it
_LOWEST, _HIGHEST = (1023 - 70) << 52, (1023 + 70) << 52
_EXPONENT = 0x7FF << 52
TINY = 2.0**-900  # quotients of smaller numbers may lose the exact remainder
_MAGNITUDE, _BITS_OF_2_52 = (1 << 63) - 1, (1023 + 52) << 52


def square(k: Builder, x: Value) -> tuple[Value, Value]:
    """x ** 2, and the lanes in doubt."""
    if not k.target.certified:
        return x * x, x.equals(x) | x.differs(x)
    result = x * x
    remainder = k.fma(x, x, -result)  # exact: x * x - result
    return result, _doubt(k, result, remainder, _below_half_ulp(k, result), x.differs(0.0))


def square_root(k: Builder, x: Value, negligible: Number = 0.0) -> tuple[Value, Value]:
    """x ** 0.5 for x >= 0, and the lanes in doubt: of roots up to `negligible`, none."""
    result = k.sqrt(x)
    if not k.target.certified:
        return result, x.equals(x) | x.differs(x)
    remainder = k.fma(-result, result, x)  # exact: x - result * result, 2 * result times the distance
    bound = _below_half_ulp(k, result) * (result + result)
    return result, _doubt(k, result, remainder, bound, result > negligible)


def _below_half_ulp(k: Builder, result: Value) -> Value:
    """What the distance may be; at a power of two, below which doubles are denser, half of it."""
    return k.from_bits((k.bits(result) - 1) & _EXPONENT) * _CERTAIN


def _doubt(k: Builder, result: Value, remainder: Value, bound: Value, matters: Value) -> Value:
    """Where pow may differ, of the lanes where that matters. It does not at zero: pow(0, y) is 0 for y > 0."""
    bits = k.bits(result)
    return ((k.abs(remainder) > bound) | (bits < _LOWEST) | (bits > _HIGHEST)) & matters


def settle(k: Builder, doubts: Pointer, groups: Operand | int, x: Pointer, results: Pointer, exponent: float) -> None:
    """Replace the results in doubt by pow(x, exponent); `doubts` has a word for each `GROUP` of elements."""
    for group in k.range(groups):
        left = k.variable(doubts[group])
        for _ in k.repeat_while(lambda: left.differs(0)):
            at = group * GROUP + k.lowest_bit(left)
            results[at] = k.pow(x[at], exponent)
            left.set(left & (left - 1))


class Divisor:
    """A number from 2^-50 to 2^50 to divide vectors by."""

    def __init__(self, k: Builder, number: Operand) -> None:
        self._k, self._number = k, k.value(number)
        if k.target.fma:
            one = k.real(1.0)
            self._reciprocal = one / self._number
            self._rest = k.fma(-self._reciprocal, self._number, one) * self._reciprocal  # 1 / number - reciprocal

    def into(self, x: Value, meet_odd: Callable[[], None] = lambda: None) -> Value:
        """x / number, correctly rounded. Calls `meet_odd` where a lane needs the divider."""
        k = self._k
        number = k.spread(self._number, x.lanes)
        if not k.target.fma:
            return x / number
        reciprocal, rest = k.spread(self._reciprocal, x.lanes), k.spread(self._rest, x.lanes)
        faithful = k.fma(x, reciprocal, x * rest)
        quotient = k.variable(k.fma(k.fma(-faithful, number, x), reciprocal, faithful))
        ordinary = (k.abs(x) >= TINY) & (k.abs(x) <= 1 / TINY) | x.equals(0.0)
        for _ in k.when(k.any(k.logical_not(ordinary))):
            quotient.set(x / number)
            meet_odd()
        return k.value(quotient)


def decay(k: Builder, x: Value, factor: Operand) -> Value:
    """x * factor for |x| below 2^-900 and a factor from 0 to 1, as the CPU rounds it, on integers where x is subnormal.

    The bits of a subnormal number are a whole number, below 2^52. Its product, added to 2^52 with one rounding, is
    rounded to whole numbers, ties to even; the bits above those of 2^52 are those of the subnormal product.
    """
    if not k.target.fma:
        return x * factor
    bits = k.bits(x)
    size = bits & _MAGNITUDE
    whole = k.from_bits(size | _BITS_OF_2_52) - 2.0**52
    product = k.fma(whole, k.spread(k.value(factor), x.lanes), k.constant(2.0**52, F64, x.lanes))
    small = k.from_bits((k.bits(product) - _BITS_OF_2_52) | (bits ^ size))
    is_normal = size >= 1 << 52
    return k.select(is_normal, k.select(is_normal, x, 0.0) * factor, small)
