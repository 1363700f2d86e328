"""Powers and quotients that are certainly what libm's pow and `/` give, mostly without either.

Powers. microgpt.py computes them with pow, which is not correctly rounded. But glibc bounds its error (since 2.28,
sysdeps/ieee754/dbl-64/e_pow.c): 0.511 ulp of the exponential, plus |y log x| times the relative error 1.5 * 2^-68 of
the logarithm, in units of 2^-53. For results from 2^-reach to 2^reach that is below 0.5 + `slack(reach)` ulp, and less
than one: pow gives one of the two doubles around the exact result. Here one of these is computed, and its distance from
the exact result, to many digits. Up to a distance of 0.5 - slack ulp every other double is farther away than pow may
be, and pow must give this one; beyond, it may give the other one. So the second candidate is the first plus the
distance times slightly more than one, which rounds to the first, or to the other one. Where the bound is not known, pow
is called. All of that is one text for CPUs with a fused multiply-add and without: `_short_of` is what differs.

Quotients. `Divisor` divides by one number many times without the divider (Markstein, 1990: with the correctly rounded
reciprocal and a faithful quotient, one correction by the exact remainder gives the correctly rounded quotient).

The exponential. glibc's exp (since 2.28; Szabolcs Nagy, ARM's optimized routines) is a table of 2^(i / 128), computed
here, and a polynomial. These are its operations, lane by lane, and where libm was compiled so, with the fused
multiply-adds that GCC makes of them. Where libm has other numbers (`host.exp_form`), it is called.

Subnormal numbers, which cost 150 cycles an operation on many CPUs: `decay` multiplies them as integers.
"""

from __future__ import annotations

from math import isqrt, ldexp, log

from tapegpt.machine.language import F64, Builder, Operand, Pointer, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = 64  # elements whose doubts are one word
TINY = 2.0**-900  # quotients of smaller numbers may lose the exact remainder

_MAGNITUDE, _BITS_OF_2_52 = (1 << 63) - 1, (1023 + 52) << 52


def slack(reach: int) -> float:
    """How much more than 0.5 ulp pow may err for results from 2^-reach to 2^reach, and some for roundings here."""
    return 0.011 + reach * log(2) * 1.5 * 2.0**-68 / 2.0**-53 + 0.0003


def square(k: Builder, x: Value, reach: int = 1022) -> tuple[Value, Value]:
    """Two numbers, mostly equal, one of which is x ** 2, for x of 0 and squares from 2^-reach, or 2^-900, to 2^reach.

    Smaller ones are off by less than the smallest of these.
    """
    if not k.target.certified:
        return (k.pow(x, 2.0),) * 2
    result = x * x
    return result, k.mul_add(_short_of(k, result, x, x), -_push(k, x, reach), result)


def square_root(k: Builder, x: Value, reach: int = 512) -> tuple[Value, Value, Value]:
    """Two numbers, mostly equal, one of which is x ** 0.5, and one above the inverse of both, by less than 2^-11 of it.

    For a normal x > 0, below 2^1021, and roots from 2^-reach to 2^reach.
    """
    if not k.target.certified:
        root = k.pow(x, 0.5)
        return root, root, root
    if k.target.estimates:
        twice = x + x
        half = k.reciprocal_sqrt(twice + twice)  # additions are free where multiplications are what takes longest
        near = twice * half
        error = k.fma(-near, half, k.constant(0.5, F64, x.lanes))
        near, half = k.fma(near, error, near), k.fma(half, error, half)  # Goldschmidt's step: twice as many bits
        result = k.fma(k.fma(-near, near, x), half, near)  # within 0.93 ulp
    else:
        result = k.sqrt(x)
        half = 0.5 * k.reciprocal_sqrt(x) if k.target.fma else 0.5 / result
    above = k.from_bits(k.bits(half) + ((1 << 52) + (1 << 40)))
    remainder = _short_of(k, x, result, result)  # 2 * result times the distance
    return result, k.mul_add(remainder, half * _push(k, x, reach), result), above


def other_quotient(k: Builder, x: Value, quotient: Value, other: Value, above: Value) -> Value:
    """x / other, or a number beyond it as seen from `quotient`, without the divider.

    The quotient is that of x by a number next to the other one, and `above` is more than the inverse of the other one,
    by 2^-50 of it or more. Both are normal, and |x| is from 2^-960.
    """
    return k.fma(k.fma(-quotient, other, x), above, quotient) if k.target.fma else x / other


def power(k: Builder, x: Value, exponent: float) -> Value:
    """x ** exponent as pow has it, which is called for few x where the exponent is one of `_EXPONENTS`."""
    if not k.target.certified or exponent not in _EXPONENTS:
        return k.pow(x, exponent)
    result, other = _EXPONENTS[exponent](k, x)
    size, largest = (k.abs(x), 2.0**400) if exponent == 2.0 else (x, 2.0**60 if exponent < 0 else 2.0**400)
    found = k.variable(result)
    for _ in k.when(k.any((size < 1 / largest) | (size > largest) | result.differs(other))):
        found.set(k.pow(x, exponent))
    return k.value(found)


def _inverse(k: Builder, x: Value, factors: int, *, is_root: bool = False) -> tuple[Value, Value]:
    """The two candidates for 1 / x ** factors, or for its root, by a step of Newton that keeps what it rounds off."""
    one, high, low = k.constant(1, F64, x.lanes), x, k.constant(0, F64, x.lanes)
    for _ in range(factors - 1):  # x ** factors = high + low, to twice as many bits
        product = high * x
        high, low = product, low * x - _short_of(k, product, high, x)
    if is_root:
        near = one / k.sqrt(high)
        squared = near * near
        error = (_short_of(k, one, squared, high) + _short_of(k, squared, near, near) * high - squared * low) * 0.5
    else:
        near = one / high
        error = _short_of(k, one, near, high) - near * low
    result = k.mul_add(near, error, near)
    return result, k.mul_add(k.mul_add(near, error, near - result), _push(k, x, 180), result)


def _short_of(k: Builder, number: Value, x: Value, y: Value) -> Value:
    """number - x * y for a number within eight ulps of the product: exact with a fused multiply-add.

    Without, less than 2^-20 ulp from it, for a product from 2^-1000 on (Dekker, 1971; proof in docs/exactness.md).
    """
    if k.target.fma:
        return k.fma(-x, y, number)
    x_high, y_high = (k.from_bits(k.bits(part) & -(1 << 27)) for part in (x, y))  # 26 of 53 bits
    x_low, y_low = x - x_high, y - y_high
    return number - x_high * y_high - x_high * y_low - y_high * x_low - x_low * y_low


def _push(k: Builder, x: Value, reach: int) -> Value:
    """Times a distance that is safe: still below half an ulp, so that added it rounds to nothing."""
    return k.constant(0.5 / (0.5 - slack(reach)), F64, x.lanes)


_EXPONENTS: dict[float, Callable[[Builder, Value], tuple[Value, Value]]] = {
    2.0: square,
    0.5: lambda k, x: square_root(k, x)[:2],
    -0.5: lambda k, x: _inverse(k, x, 1, is_root=True),
    -1.0: lambda k, x: _inverse(k, x, 1),
    -1.5: lambda k, x: _inverse(k, x, 3, is_root=True),
    -2.0: lambda k, x: _inverse(k, x, 2),
}


_STEPS = 128  # of the table, from 1 to 2
_WHOLE = 1.5 * 2.0**52  # added, it leaves the nearest whole number in the lowest bits
_LN2 = -0.005415212348111709, -1.2864023111638344e-14  # -ln 2 / 128; the first ends in zeros
_POLYNOMIAL = 0.49999999999996786, 0.16666666666665886, 0.0416666808410674, 0.008333335853059549


def exp(k: Builder, x: Value) -> Value:
    """e ** x as libm has it, which is called for |x| from 512."""
    if not k.target.known_exp:
        return k.exp(x)
    inverse, shift, high, low, c2, c3, c4, c5 = (
        k.constant(number, F64, x.lanes) for number in (_STEPS / log(2), _WHOLE, *_LN2, *_POLYNOMIAL)
    )

    def mul_add(a: Value, b: Value, c: Value) -> Value:
        return k.fma(a, b, c) if k.target.known_exp == "fused" else a * b + c

    shifted = mul_add(inverse, x, shift)
    whole, number = shifted - shift, k.bits(shifted)
    rest = mul_add(whole, low, mul_add(whole, high, x))
    place = number & (_STEPS - 1)
    power, tail = (_look_up(k, k.table(column, F64), place) for column in _exp_table())
    scale = k.from_bits(k.bits(power) + ((number - place) << 45))
    squared = rest * rest
    first = mul_add(squared, mul_add(rest, c3, c2), tail + rest)
    found = k.variable(mul_add(scale, mul_add(squared * squared, mul_add(rest, c5, c4), first), scale))
    for _ in k.when(k.any(k.logical_not(k.abs(x) < 512.0))):
        found.set(k.exp(x))
    return k.value(found)


def _exp_table() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """2^(i / 128), and what is left of it, as a share of that."""
    bits, extra = 180, 128
    root, power = 2 << bits, 1 << bits
    for _ in range(_STEPS.bit_length() - 1):
        root = isqrt(root << bits)
    powers, tails = [], []
    for _ in range(_STEPS):
        nearest = (power + (1 << extra - 1)) >> extra
        powers.append(ldexp(nearest, extra - bits))
        tails.append((power - (nearest << extra)) / (nearest << extra))
        power = power * root >> bits
    return tuple(powers), tuple(tails)


def _look_up(k: Builder, table: Pointer, places: Value) -> Value:
    """An element of a table for each lane."""
    if not places.lanes:
        return table[places]
    found = k.constant(0, F64, places.lanes)
    for lane in range(places.lanes):
        found = k.insert(found, lane, table[places.lane(lane)])
    return found


class Divisor:
    """A number from 2^-50 to 2^50 to divide vectors of so many lanes by."""

    def __init__(self, k: Builder, number: Operand, lanes: int) -> None:
        self._k, self._is_one, self._number = k, number.equals(1.0), k.spread(k.value(number), lanes)
        if k.target.fma:
            one = k.constant(1, F64, lanes)
            self._reciprocal = one / self._number
            self._rest = k.fma(-self._reciprocal, self._number, one) * self._reciprocal  # 1 / number - reciprocal

    def into(self, x: Value) -> Value:
        """x / number, correctly rounded, for x of 0 or from `TINY` and a quotient below infinity."""
        k, quotient = self._k, self._k.variable(x)
        for _ in k.when(k.logical_not(self._is_one)):  # as Adam's corrections are after some hundred steps
            if k.target.fma:
                faithful = k.fma(x, self._reciprocal, x * self._rest)
                quotient.set(k.fma(k.fma(-faithful, self._number, x), self._reciprocal, faithful))
            else:
                quotient.set(x / self._number)
        return k.value(quotient)


def decay(k: Builder, x: Value, factor: Value) -> Value:
    """x * factor for |x| below 2^-900 and a factor from 0 to 1, as the CPU rounds it, on integers where x is subnormal.

    The bits of a subnormal number are a whole number, below 2^52. Its product, added to 2^52 with one rounding, is
    rounded to whole numbers, ties to even; the bits above those of 2^52 are those of the subnormal product.
    """
    if not k.target.fma:
        return x * factor
    bits = k.bits(x)
    size = bits & _MAGNITUDE
    whole = k.from_bits(size | _BITS_OF_2_52) - 2.0**52
    product = k.fma(whole, factor, k.constant(2.0**52, F64, x.lanes))
    small = k.from_bits((k.bits(product) - _BITS_OF_2_52) | (bits ^ size))
    is_normal = size >= 1 << 52
    return k.select(is_normal, k.select(is_normal, x, 0.0) * factor, small)
