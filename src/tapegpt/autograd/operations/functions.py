"""Functions in registers: of f64 libm's, which are Python's, lane by lane; of f32 our own, in all lanes at once.

The greatest errors in f32 are measured over all arguments in the tests.
Source of the method: Cody and Waite, Software Manual for the Elementary Functions, 1980.
"""

from __future__ import annotations

from math import inf, nan

from tapegpt.autograd.operations import certified
from tapegpt.machine.language import F32, F64, Builder, Number, Operand, Value

LOWEST, HIGHEST = -87.0, 88.71875  # exponents that exp knows in f32
WHOLE = 1 << 24  # up to here an f32 tells odd numbers from even ones

_ROUND = 12582912.0  # 1.5 * 2^23: added, it leaves the nearest whole number in the lowest bits
_LOG2_E = 1.4426950408889634
_LN2 = (0.693359375, -2.12194440054690583e-4)  # the first ends in zeros, so that whole multiples of it are exact
_EXP = (1.0, 1.0, 0.4999923179040687, 0.16667114464881014, 0.04189011327551485, 0.008312524945794502)
_LOG = (
    1.0,
    -0.49999991606425176,
    0.33333950222089326,
    -0.25001755249499885,
    0.19962072114184626,
    -0.1657050828495372,
    0.14917973940465631,
    -0.14307520964410214,
    0.08734841104392076,
)
_SQRT_HALF = 0x3F3504F3  # its bits
_NORMAL, _LARGEST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127
_TANH = (-0.333332819422, 0.133314422036, -0.0537397155531, 0.0206390887954, -0.00570498872745)  # Cephes, tanhf.c
_SMALL = 0.625  # up to here tanh is a polynomial


def exp(k: Builder, x: Operand) -> Value:
    """e ** x; in f32 for x up to `HIGHEST`: relative error below 2.5e-7; below `LOWEST` as there; NaN stays NaN."""
    if x.type is F64:
        return certified.exp(k, k.value(x))
    value = k.maximum(k.constant(LOWEST, F32, x.lanes), x)
    shifted = k.mul_add(value, k.real32(_LOG2_E), k.real32(_ROUND))
    n = shifted - _ROUND
    r = k.mul_add(n, k.real32(-_LN2[0]), value)
    r = k.mul_add(n, k.real32(-_LN2[1]), r)
    return k.from_bits(k.bits(_polynomial(k, r, _EXP)) + (k.bits(shifted) << 23))  # n goes to the exponent


def log(k: Builder, x: Operand) -> Value:
    """Natural logarithm; in f32 of normal positive numbers: error below 2e-7 of the result or of one."""
    if x.type is F64:
        return k.log(x)
    bits = k.bits(x) + (0x3F800000 - _SQRT_HALF)
    exponent = k.convert((bits >> 23) - 127, F32)
    f = k.from_bits((bits & 0x7FFFFF) + _SQRT_HALF) - 1.0
    small = k.mul_add(exponent, k.real32(_LN2[1]), f * _polynomial(k, f, _LOG))
    return k.mul_add(exponent, k.real32(_LN2[0]), small) + (x - x)  # NaN stays NaN


def exp_of_any(k: Builder, x: Operand) -> Value:
    """e ** x for every x: in f32 as `exp`, beyond its range 0 and infinity."""
    if x.type is F64:
        return certified.exp(k, k.value(x))
    return k.select(x < LOWEST, 0.0, k.select(x > HIGHEST, inf, exp(k, x)))


def log_of_any(k: Builder, x: Operand) -> Value:
    """Natural logarithm of every x: in f32 as `log`, below the normal numbers that of 0."""
    if x.type is F64:
        return k.log(x)
    below = k.select(x < 0.0, k.constant(nan, F32, x.lanes), -inf)
    return k.select(x < _NORMAL, below, k.select(x > _LARGEST, x, log(k, x)))


def power(k: Builder, x: Operand, exponent: float) -> Value:
    """x ** exponent.

    In f32, of whole and half exponents products and a root: relative error below 8e-8 (1 + |exponent|); of others
    e ** (exponent log x): relative error below 2.5e-7 (1 + |exponent| max(1, |log x|)).
    """
    if x.type is F64:
        return certified.power(k, k.value(x), exponent)
    size = abs(exponent)
    if size <= WHOLE and size * 2 == int(size * 2):
        result = k.constant(1, F32, x.lanes) if size == int(size) else k.sqrt(x)
        square, left = k.value(x), int(size)
        while left:
            if left % 2:
                result = result * square
            square, left = square * square, left // 2
        return 1.0 / result if exponent < 0 else result
    positive = exp_of_any(k, log_of_any(k, k.abs(x)) * exponent)
    is_whole = size > WHOLE  # and even
    return positive if is_whole else k.select(x < 0.0, nan, positive)


def tanh(k: Builder, x: Operand) -> Value:
    """Hyperbolic tangent; in f32 relative error below 2.5e-7."""
    if x.type is F64:
        return k.libm("tanh", x)
    size, square = k.abs(x), x * x
    e = exp(k, size * -2.0)
    large = (1.0 - e) / (1.0 + e)
    small = k.mul_add(x * square, _polynomial(k, square, _TANH), x)
    return k.select(size < _SMALL, small, k.select(x < 0.0, -large, large))


def sigmoid(k: Builder, x: Operand) -> Value:
    """1 / (1 + e ** -x); in f32 relative error below 3e-7 from `LOWEST` on, below it as there."""
    if x.type is F64:
        e = exp(k, -k.abs(x))
        return k.select(x >= 0.0, 1.0, e) / (e + 1.0)
    return 1.0 / (exp(k, k.minimum(k.constant(-LOWEST, F32, x.lanes), -x)) + 1.0)


def mul_add(k: Builder, a: Operand, b: Number, c: Number) -> Value:
    """a * b + c; in f32 with one rounding where the target fuses it."""
    if a.type is F64:
        return a * b + c
    return k.mul_add(a, *(k.coerce(number, F32, a.lanes) for number in (b, c)))


def _polynomial(k: Builder, x: Value, coefficients: tuple[float, ...]) -> Value:
    """Sum of coefficient i times x ** i (Horner)."""
    result = k.real32(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = k.mul_add(result, x, k.real32(coefficient))
    return result
