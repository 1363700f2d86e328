"""What Python's arithmetic lacks to be that of machine code: infinity or NaN where it raises, C's whole quotients.

The interpreter computes with it. A program that is exported as Python (`python.py`) has the text of it, so it is for
CPython 3.8, and imports `math` alone.
"""

import math

inf, nan = math.inf, math.nan


def divide(a: float, b: float) -> float:
    """a / b."""
    if b:
        return a / b
    return nan if a != a or not a else math.copysign(inf, a) * math.copysign(1.0, b)


def quotient(a: int, b: int) -> int:
    """a / b rounded towards zero; `//` rounds down."""
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def remainder(a: int, b: int) -> int:
    """a - b * quotient."""
    return a - b * quotient(a, b)


def sqrt(x: float) -> float:
    """NaN below zero."""
    return math.sqrt(x) if x >= 0.0 else x if x != x else nan


def exp(x: float) -> float:
    """Infinity where it overflows."""
    try:
        return math.exp(x)
    except OverflowError:
        return inf


def log(x: float) -> float:
    """-infinity of zero, NaN below."""
    return math.log(x) if x > 0.0 or x != x else nan if x else -inf


def power(x: float, y: float) -> float:
    """The pow of C."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -inf if x < 0.0 and y % 2 == 1 else inf
    except ValueError:  # a negative base and a broken exponent, or zero and a negative one
        if x:
            return nan
        return math.copysign(inf, x) if y % 2 == 1 else inf


def sin(x: float) -> float:
    """NaN of infinity."""
    return math.sin(x) if math.isfinite(x) else nan


def cos(x: float) -> float:
    """NaN of infinity."""
    return math.cos(x) if math.isfinite(x) else nan


def to_odd(n: int) -> float:
    """An integer as a double, rounded to odd where it is not exact: rounded to f32 afterwards, it is rounded once."""
    return float(n if -(1 << 53) < n < 1 << 53 else (n >> 10 | bool(n & 1023)) << 10)


tanh = math.tanh
fabs = math.fabs
