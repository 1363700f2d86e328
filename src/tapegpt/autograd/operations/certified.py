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
"""

from __future__ import annotations

from tapegpt.machine.language import Builder, Operand, Pointer, Value

SLACK = 0.0135  # 0.011 + 70 * log(2) * 1.5 * 2^-68 / 2^-53 = 0.01322, and some for the test's own roundings
GROUP = 64  # elements whose doubts are one word

_CERTAIN = (0.5 - SLACK) * 2.0**-52  # in units of the power of two at or below the result: one ulp is 2^-52 of it
_LOWEST, _HIGHEST = (1023 - 70) << 52, (1023 + 70) << 52
_EXPONENT = 0x7FF << 52
_TINY = 2.0**-900  # quotients of smaller numbers may lose the exact remainder


def square(k: Builder, x: Value) -> tuple[Value, Value]:
    """x ** 2, and the lanes in doubt."""
    if not k.target.certified:
        return x * x, x.equals(x) | x.differs(x)
    result = x * x
    remainder = k.fma(x, x, -result)  # exact: x * x - result
    return result, _doubt(k, result, remainder, _below_half_ulp(k, result), x)


def square_root(k: Builder, x: Value) -> tuple[Value, Value]:
    """x ** 0.5 for x >= 0, and the lanes in doubt."""
    result = k.sqrt(x)
    if not k.target.certified:
        return result, x.equals(x) | x.differs(x)
    remainder = k.fma(-result, result, x)  # exact: x - result * result, 2 * result times the distance
    return result, _doubt(k, result, remainder, _below_half_ulp(k, result) * (result + result), x)


def _below_half_ulp(k: Builder, result: Value) -> Value:
    """What the distance may be; at a power of two, below which doubles are denser, half of it."""
    return k.from_bits((k.bits(result) - 1) & _EXPONENT) * _CERTAIN


def _doubt(k: Builder, result: Value, remainder: Value, bound: Value, x: Value) -> Value:
    """Where pow may differ. Zero is certain: pow(0, y) is 0 for y > 0."""
    bits = k.bits(result)
    return ((k.abs(remainder) > bound) | (bits < _LOWEST) | (bits > _HIGHEST)) & x.differs(0.0)


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

    def into(self, x: Value) -> Value:
        """x / number, correctly rounded."""
        k = self._k
        number = k.spread(self._number, x.lanes)
        if not k.target.fma:
            return x / number
        reciprocal, rest = k.spread(self._reciprocal, x.lanes), k.spread(self._rest, x.lanes)
        faithful = k.fma(x, reciprocal, x * rest)
        quotient = k.variable(k.fma(k.fma(-faithful, number, x), reciprocal, faithful))
        ordinary = (k.abs(x) >= _TINY) & (k.abs(x) <= 1 / _TINY) | x.equals(0.0)
        for _ in k.when(k.any(k.logical_not(ordinary))):
            quotient.set(x / number)
        return k.value(quotient)
