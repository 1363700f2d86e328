"""Squares and square roots that are certainly what libm's pow gives, mostly without calling it.

microgpt.py computes `g ** 2` and `v ** 0.5` with pow, which is not correctly rounded. But glibc bounds its error
(since 2.28, sysdeps/ieee754/dbl-64/e_pow.c): 0.511 ulp of the exponential, plus |y log x| times the relative error
1.5 * 2^-68 of the logarithm, in units of 2^-53. While the result lies within 2^-100 and 2^100 that is below
0.5 + `SLACK` ulp. So where the exact result is nearer than 0.5 - `SLACK` ulp to the correctly rounded one, every other
double is farther from it than pow may be, and pow must give the correctly rounded one. The distance comes exactly from
one fused multiply-add. The lanes in doubt, about 3 of 100, call pow. Where the bound is not known, all do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapegpt.machine.language import Builder, Value

if TYPE_CHECKING:
    from collections.abc import Callable

SLACK = 0.0145  # 0.011 + 100 * log(2) * 1.5 * 2^-68 / 2^-53 = 0.01418, and some for the test's own roundings
_CERTAIN = (0.5 - SLACK) * 2.0**-52  # in units of the power of two at or below the result: one ulp is 2^-52 of it
_LOWEST, _HIGHEST = (1023 - 100) << 52, (1023 + 100) << 52
_EXPONENT = 0x7FF << 52


def square(k: Builder, x: Value) -> Value:
    """pow(x, 2.0) lane by lane."""
    if not k.target.certified:
        return k.pow(x, 2.0)
    result = x * x
    remainder = k.fma(x, x, -result)  # exact: x * x - result
    return _settled(k, result, remainder, _half_ulp(k, result), x, 2.0)


def square_root(k: Builder, x: Value) -> Value:
    """pow(x, 0.5) lane by lane, for x >= 0."""
    if not k.target.certified:
        return k.pow(x, 0.5)
    result = k.sqrt(x)
    remainder = k.fma(-result, result, x)  # exact: x - result * result, 2 * result times the distance
    return _settled(k, result, remainder, _half_ulp(k, result) * (result + result), x, 0.5)


def _half_ulp(k: Builder, result: Value) -> Value:
    """Just below half an ulp of the smaller neighbour: at a power of two the doubles below are denser."""
    return k.from_bits((k.bits(result) - 1) & _EXPONENT) * _CERTAIN


def _settled(k: Builder, result: Value, remainder: Value, bound: Value, x: Value, exponent: float) -> Value:
    """The result, with the lanes in doubt taken from pow. Zero is certain: pow(0, y) is 0 for y > 0."""
    bits = k.bits(result)
    certain = (k.abs(remainder) <= bound) & (bits >= _LOWEST) & (bits <= _HIGHEST) | x.equals(0.0)
    settled = k.variable(result)
    for _ in k.when(k.any(k.negated(certain))):
        for lane in range(result.lanes):
            for _ in k.when(k.negated(certain.lane(lane))):
                settled.set(k.insert(k.value(settled), lane, k.pow(x.lane(lane), exponent)))
    return k.value(settled)
