"""MT19937 in machine code: what `rng.Random` does, for many numbers at once.

The state is the 624 words and the position of `Random`. Not here: everything that is called rarely.
Source: Matsumoto and Nishimura, 1998; CPython's Modules/_randommodule.c and Lib/random.py.
"""

from __future__ import annotations

from math import tau

from tapegpt.machine.language import F64, Builder, F64s, Int, Pointer, Real, U32s, Value, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.program import Entries

WORDS, _SHIFT = 624, 397
_UPPER, _LOWER, _MATRIX = 0x80000000, 0x7FFFFFFF, 0x9908B0DF


@kernel
def seed(k: Builder, state: U32s, key: U32s, count: Int) -> None:
    """`init_by_array`: the state of `Random(n)`, of the 32-bit words of |n|, the lowest first and at least one."""
    i, j = k.variable(k.integer(1)), k.variable(k.integer(0))

    def stir(factor: int) -> Value:
        before = state[i - 1]
        return state[i] ^ ((before ^ (before >> 30)) * factor)

    def step() -> None:
        i.set(i + 1)
        for _ in k.when(i.equals(WORDS)):
            state[0] = state[WORDS - 1]
            i.set(k.integer(1))

    state[0] = 19650218
    for word in k.range(1, WORDS):
        before = state[word - 1]
        state[word] = (before ^ (before >> 30)) * 1812433253 + word
    for _ in k.range(k.maximum(count, WORDS)):
        state[i] = stir(1664525) + key[j] + j
        step()
        j.set(k.select(j + 1 < count, j + 1, 0))
    for _ in k.range(WORDS - 1):
        state[i] = stir(1566083941) - i
        step()
    state[0] = 0x80000000
    state[WORDS] = WORDS


@kernel
def twist(k: Builder, state: U32s) -> None:
    """The next 624 words."""

    def mix(i: Int, following: Int | int, partner: Int | int) -> None:
        joined = (state[i] & _UPPER) | (state[following] & _LOWER)
        state[i] = state[partner] ^ (joined >> 1) ^ ((joined & 1) * _MATRIX)

    for i in k.range(WORDS - _SHIFT):
        mix(i, i + 1, i + _SHIFT)
    for i in k.range(WORDS - _SHIFT, WORDS - 1):
        mix(i, i + 1, i + (_SHIFT - WORDS))
    mix(k.integer(WORDS - 1), 0, _SHIFT - 1)


def word(k: Builder, state: Pointer) -> Value:
    """The next 32 random bits."""
    for _ in k.when(state[WORDS] >= WORDS):
        twist(k, state)
        state[WORDS] = 0
    position = state[WORDS]
    state[WORDS] = position + 1
    y = state[position]
    y = y ^ (y >> 11)
    y = y ^ ((y << 7) & 0x9D2C5680)
    y = y ^ ((y << 15) & 0xEFC60000)
    return y ^ (y >> 18)


def uniform(k: Builder, state: Pointer) -> Value:
    """`random()`: a double in [0, 1) from 53 random bits."""
    high, low = word(k, state) >> 5, word(k, state) >> 6
    return (k.convert(high, F64) * 67108864.0 + k.convert(low, F64)) * 2.0**-53


@kernel
def gauss(k: Builder, state: U32s, spare: F64s, numbers: F64s, count: Int, mu: Real, sigma: Real) -> None:
    """`gauss(mu, sigma)`, count times. spare (2): whether a second value is left, and which."""
    for i in k.range(count):
        z, left = k.zeros(), spare[0]
        for _ in k.when(left.differs(0.0)):
            z.set(spare[1])
            spare[0] = 0.0
        for _ in k.when(left.equals(0.0)):
            angle = uniform(k, state) * tau
            radius = k.sqrt(k.log(k.real(1.0) - uniform(k, state)) * -2.0)
            z.set(k.libm("cos", angle) * radius)
            spare[1] = k.libm("sin", angle) * radius
            spare[0] = 1.0
        numbers[i] = z * sigma + mu


@kernel
def permutation(k: Builder, state: U32s, order: U32s, count: Int) -> None:
    """`shuffle(range(count))`: each element, from the last down, changes places with one at or below it."""
    for i in k.range(count):
        order[i] = i
    bits = k.variable(k.integer(32))
    for i in k.range(count - 1, 0, -1):
        for _ in k.repeat_while(lambda: (i + 1) < (k.integer(1) << (bits - 1))):
            bits -= 1
        other = k.variable(word(k, state) >> (32 - bits))
        for _ in k.repeat_while(lambda: other > i):
            other.set(word(k, state) >> (32 - bits))
        held = order[i]
        order[i] = order[other]
        order[other] = held


ENTRIES: Entries = {"gauss": (gauss, {}), "permutation": (permutation, {})}
