"""Functions of f32 vectors, in registers. The greatest errors are measured over all arguments in the tests.

Not here: libm, whose functions take one f64 at a time.
Source of the method: Cody and Waite, Software Manual for the Elementary Functions, 1980.
"""

from __future__ import annotations

from tapegpt.machine.language import F32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.language import Builder, Operand, Value

LOWEST, HIGHEST = -87.0, 88.0  # exponents that exp knows

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


def exp(k: Builder, x: Operand) -> Value:
    """e ** x for x up to `HIGHEST`: relative error below 2.5e-7; below `LOWEST` as there; NaN stays NaN."""
    value = k.maximum(k.constant(LOWEST, F32, x.lanes), x)
    shifted = k.mul_add(value, k.real32(_LOG2_E), k.real32(_ROUND))
    n = shifted - _ROUND
    r = k.mul_add(n, k.real32(-_LN2[0]), value)
    r = k.mul_add(n, k.real32(-_LN2[1]), r)
    return k.from_bits(k.bits(_polynomial(k, r, _EXP)) + (k.bits(shifted) << 23))  # n goes to the exponent


def log(k: Builder, x: Operand) -> Value:
    """Natural logarithm of normal positive numbers: error below 2e-7 of the result or of one."""
    bits = k.bits(x) + (0x3F800000 - _SQRT_HALF)
    exponent = k.convert((bits >> 23) - 127, F32)
    f = k.from_bits((bits & 0x7FFFFF) + _SQRT_HALF) - 1.0
    small = k.mul_add(exponent, k.real32(_LN2[1]), f * _polynomial(k, f, _LOG))
    return k.mul_add(exponent, k.real32(_LN2[0]), small) + (x - x)  # NaN stays NaN


def _polynomial(k: Builder, x: Value, coefficients: tuple[float, ...]) -> Value:
    """Sum of coefficient i times x ** i (Horner)."""
    result = k.real32(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = k.mul_add(result, x, k.real32(coefficient))
    return result
