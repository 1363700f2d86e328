"""MT19937 that replicates CPython's `random.Random`, call for call and bit for bit, on 3.11 and later.

    >>> r = Random(42)
    >>> r.random(), r.getrandbits(8), r.randrange(100)
    (0.6394267984578837, 6, 94)
    >>> r.gauss(0, 1)
    -0.11131586156766246

It has a state of its own and never touches the global one. What is drawn in bulk (shuffling, initialisation, sampling)
is done in machine code on this very state (`mersenne.py`). Not here: distributions that tapegpt has no use for, and
calls from several threads at once.
Source: Matsumoto and Nishimura, 1998; CPython's Modules/_randommodule.c and Lib/random.py.
"""

from __future__ import annotations

import math
import os
import sys
from array import array
from itertools import accumulate, repeat
from operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSequence, Sequence
    from typing import TypeVar

    from tapegpt.data.mersenne import Kernels

    T = TypeVar("T")
    State = tuple[int, tuple[int, ...], float | None]

WORDS = 624
BULK = 1024  # from so many elements on, machine code pays

_VERSION = 3  # of getstate's tuple
_SHIFT = 397
_MASK = 0xFFFFFFFF
_MATRIX = 0x9908B0DF


def _lanes(start: int, stop: int, word: int) -> int:
    """A long int with `word` in its 32-bit lanes from start to stop - 1, and zeros elsewhere."""
    return int.from_bytes(bytes(4 * start) + word.to_bytes(4, "little") * (stop - start), "little")


_ONES = _lanes(0, WORDS - 1, 1)
_UPPERS = _lanes(0, WORDS - 1, 0x80000000)
_LOWERS = _lanes(0, WORDS - 1, 0x7FFFFFFF)
_OLD = WORDS - _SHIFT  # so many words have an old word as partner; each later one a word already made, _OLD before it
_FIRST = _lanes(0, _OLD, _MASK)
_SECOND = _lanes(_OLD, WORDS - 1 - _OLD, _MASK)


def _number(words: array[int]) -> int:
    """The long int with these words in its lanes."""
    if sys.byteorder == "big":
        words = words[:]
        words.byteswap()
    return int.from_bytes(words.tobytes(), "little")


def _words(number: int, count: int) -> array[int]:
    """The first `count` lanes of a long int that has no more."""
    words = array("I", number.to_bytes(4 * count, "little"))
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _seed_number(a: float | str | bytes | bytearray) -> int:
    """The non-negative int that a seed stands for."""
    if isinstance(a, str | bytes | bytearray):
        from hashlib import sha512

        data = a.encode() if isinstance(a, str) else bytes(a)
        return int.from_bytes(data + sha512(data).digest(), "big")
    if isinstance(a, int):
        return abs(a)
    if isinstance(a, float):
        return hash(a) % (1 << sys.hash_info.width)
    raise TypeError("a seed must be None, an int, float, str, bytes or bytearray")


class Random:
    """A random number generator; `seed` as for `random.Random`. One thread at a time may use it."""

    def __init__(self, seed: float | str | bytes | bytearray | None = None) -> None:
        self.words = array("I", bytes(4 * (WORDS + 1)))  # the state and, last, the position in it; never another array
        self.seed(seed)

    # --- state --------------------------------------------------------------------------------------------------

    def seed(self, a: float | str | bytes | bytearray | None = None) -> None:
        """Start anew from an int (its magnitude), a float (its hash), text or bytes, or from the system's entropy.

        Raises `TypeError` for anything else.
        """
        if a is None:
            key = array("I", os.urandom(4 * WORDS))
        else:
            number = _seed_number(a)
            key = _words(number, max(1, (number.bit_length() + 31) // 32))
        self._start(key)
        self._gauss_next: float | None = None

    def _start(self, key: array[int]) -> None:
        """`init_by_array`."""
        last = 19650218
        state = [last]
        for i in range(1, WORDS):
            last = (1812433253 * (last ^ last >> 30) + i) & _MASK
            state.append(last)
        i, last = 1, state[0]
        for step in range(max(WORDS, len(key))):
            j = step % len(key)
            last = state[i] = ((state[i] ^ (last ^ last >> 30) * 1664525) + key[j] + j) & _MASK
            i += 1
            if i == WORDS:
                state[0], i = last, 1
        for _ in range(WORDS - 1):
            last = state[i] = ((state[i] ^ (last ^ last >> 30) * 1566083941) - i) & _MASK
            i += 1
            if i == WORDS:
                state[0], i = last, 1
        state[0] = 0x80000000
        self.words[:] = array("I", [*state, WORDS])

    def getstate(self) -> State:
        """The state as `random.Random.getstate` gives it, and `random.Random.setstate` takes it."""
        return _VERSION, tuple(self.words), self._gauss_next

    def setstate(self, state: State) -> None:
        """Go on from a state of this class or of `random.Random`.

        Raises `ValueError`, `TypeError` or `OverflowError` for anything else, and changes nothing then.
        """
        version, words, gauss_next = state
        if version not in (2, _VERSION):
            raise ValueError(f"state has version {version!r}, not {_VERSION}")
        if not isinstance(words, tuple):
            raise TypeError("state vector must be a tuple")
        if len(words) != WORDS + 1:
            raise ValueError("state vector is the wrong size")
        if not 0 <= words[-1] <= WORDS:
            raise ValueError("invalid state")
        if version != _VERSION:
            words = tuple(word & _MASK for word in words)  # version 2 has them with a sign
        self.words[:] = array("I", words)
        self._gauss_next = gauss_next

    def __getstate__(self) -> State:
        return self.getstate()

    def __setstate__(self, state: State) -> None:
        self.words = array("I", bytes(4 * (WORDS + 1)))
        self.setstate(state)

    # --- bits ---------------------------------------------------------------------------------------------------

    def _word(self) -> int:
        """The next 32 bits."""
        words = self.words
        position = words[WORDS]
        if position >= WORDS:
            self._twist()
            position = 0
        y = words[position]
        words[WORDS] = position + 1
        y ^= y >> 11
        y ^= y << 7 & 0x9D2C5680
        y ^= y << 15 & 0xEFC60000
        return y ^ y >> 18

    def _twist(self) -> None:
        """The next 624 words, all at once in the lanes of a long int: 8 us, against 167 one by one."""
        words = self.words
        old = _number(words[:WORDS])
        joined = old & _UPPERS | old >> 32 & _LOWERS
        new = joined >> 1 & _LOWERS ^ (joined & _ONES) * _MATRIX ^ old >> 32 * _SHIFT
        for partners in (_FIRST, _SECOND):
            new ^= (new & partners) << 32 * _OLD
        words[: WORDS - 1] = _words(new, WORDS - 1)
        # The last word is joined with the first of the new ones.
        joined = words[WORDS - 1] & 0x80000000 | words[0] & 0x7FFFFFFF
        words[WORDS - 1] = words[_SHIFT - 1] ^ joined >> 1 ^ (joined & 1) * _MATRIX

    def random(self) -> float:
        """The next number in [0, 1), with 53 random bits."""
        high, low = self._word() >> 5, self._word() >> 6
        return (high * 67108864 + low) * 2.0**-53

    def getrandbits(self, k: int) -> int:
        """An int of k random bits; raises `ValueError` for negative k."""
        k = index(k)
        if k < 0:
            raise ValueError("number of bits must be non-negative")
        if k <= 32:
            return self._word() >> 32 - k if k else 0
        words = array("I", [self._word() for _ in range((k + 31) // 32)])
        words[-1] >>= -k % 32
        return _number(words)

    def randbytes(self, n: int) -> bytes:
        """n random bytes."""
        return self.getrandbits(n * 8).to_bytes(n, "little")

    # --- integers -----------------------------------------------------------------------------------------------

    def randbelow(self, n: int) -> int:
        """An int in [0, n): as many bits as n has, drawn until they are below it. Raises `ValueError` unless n > 0."""
        if n <= 0:
            raise ValueError(f"randbelow({n}): the bound must be positive")
        k = n.bit_length()
        number = self.getrandbits(k)
        while number >= n:
            number = self.getrandbits(k)
        return number

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """An element of `range(start, stop, step)`; raises `ValueError` where that is empty."""
        first = index(start)
        if stop is None:
            if step != 1:
                raise TypeError("Missing a non-None stop argument")
            first, last = 0, first
        else:
            last = index(stop)
        width = index(step)
        if not width:
            raise ValueError("zero step for randrange()")
        choices = range(first, last, width)
        if not choices:
            raise ValueError(f"empty range for randrange({start}, {stop}, {step})")
        # Not len(choices), which cannot exceed the size of memory.
        count = (last - first + width - (1 if width > 0 else -1)) // width
        return first + width * self.randbelow(count)

    def randint(self, a: int, b: int) -> int:
        """An int from a to b, both included."""
        return self.randrange(a, b + 1)

    # --- sequences ----------------------------------------------------------------------------------------------

    def choice(self, seq: Sequence[T]) -> T:
        """An element; raises `IndexError` for an empty sequence."""
        if not len(seq):
            raise IndexError("Cannot choose from an empty sequence")
        return seq[self.randbelow(len(seq))]

    def shuffle(self, x: MutableSequence[T]) -> None:
        """Bring the elements into random order, in place."""
        if isinstance(x, list) and BULK <= len(x) <= _MASK:
            x[:] = [x[i] for i in self.permutation(len(x))]
            return
        for i in range(len(x) - 1, 0, -1):
            j = self.randbelow(i + 1)
            x[i], x[j] = x[j], x[i]

    def sample(self, population: Sequence[T], k: int, *, counts: Iterable[int] | None = None) -> list[T]:
        """k elements at different positions, in the order of drawing; raises `ValueError` where there are fewer."""
        from collections.abc import Sequence as AnySequence

        if not isinstance(population, AnySequence):
            raise TypeError("Population must be a sequence.  For dicts or sets, use sorted(d).")
        n = len(population)
        if counts is not None:
            from bisect import bisect

            cum_counts = list(accumulate(counts))
            if len(cum_counts) != n:
                raise ValueError("The number of counts does not match the population")
            total = cum_counts.pop() if cum_counts else 0
            if not isinstance(total, int):
                raise TypeError("Counts must be integers")
            if total <= 0:
                raise ValueError("Total of counts must be greater than zero")
            return [population[bisect(cum_counts, s)] for s in self.sample(range(total), k)]
        if not 0 <= k <= n:
            raise ValueError("Sample larger than population or is negative")
        k = index(k)
        # CPython's choice between a list and a set, whichever it reckons smaller.
        size = 21 + (4 ** math.ceil(math.log(k * 3, 4)) if k > 5 else 0)
        if n <= size:
            return self._sample_from_pool(list(population), k)
        chosen: dict[int, T] = {}
        while len(chosen) < k:
            j = self.randbelow(n)
            if j not in chosen:
                chosen[j] = population[j]
        return list(chosen.values())

    def _sample_from_pool(self, pool: list[T], k: int) -> list[T]:
        result, n = [], len(pool)
        for left in range(n, n - k, -1):
            j = self.randbelow(left)
            result.append(pool[j])
            pool[j] = pool[left - 1]
        return result

    def choices(
        self,
        population: Sequence[T],
        weights: Iterable[float] | None = None,
        *,
        cum_weights: Sequence[float] | None = None,
        k: int = 1,
    ) -> list[T]:
        """k elements drawn with replacement, by weights or running sums of weights.

        Raises `ValueError` where these do not match the population, or their total is not positive and finite.
        """
        from bisect import bisect

        n = len(population)
        if cum_weights is None:
            if weights is None:
                return [population[math.floor(self.random() * (n + 0.0))] for _ in repeat(None, k)]
            cum_weights = list(accumulate(weights))
        elif weights is not None:
            raise TypeError("Cannot specify both weights and cumulative weights")
        if len(cum_weights) != n:
            raise ValueError("The number of weights does not match the population")
        total = cum_weights[-1] + 0.0
        if total <= 0.0:
            raise ValueError("Total of weights must be greater than zero")
        if not math.isfinite(total):
            raise ValueError("Total of weights must be finite")
        return [population[bisect(cum_weights, self.random() * total, 0, n - 1)] for _ in repeat(None, k)]

    # --- reals --------------------------------------------------------------------------------------------------

    def uniform(self, a: float, b: float) -> float:
        """A number from a to b."""
        return a + (b - a) * self.random()

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """A normally distributed number (Box and Muller, 1958); the second of each pair is kept for the next call."""
        z = self._gauss_next
        self._gauss_next = None
        if z is None:
            angle = self.random() * math.tau
            radius = math.sqrt(-2.0 * math.log(1.0 - self.random()))
            z = math.cos(angle) * radius
            self._gauss_next = math.sin(angle) * radius
        return mu + z * sigma

    # --- in bulk ------------------------------------------------------------------------------------------------

    def gauss_array(self, count: int, mu: float = 0.0, sigma: float = 1.0) -> array[float]:
        """`count` calls of `gauss` at once."""
        kernels = _kernels(count)
        if kernels is None:
            return array("d", [self.gauss(mu, sigma) for _ in range(count)])
        numbers = array("d", bytes(8 * count))
        spare = array("d", [0.0, 0.0] if self._gauss_next is None else [1.0, self._gauss_next])
        kernels.gauss(self.words, spare, numbers, float(mu), float(sigma))
        self._gauss_next = spare[1] if spare[0] else None
        return numbers

    def permutation(self, count: int) -> array[int]:
        """The numbers from 0 to count - 1, shuffled as `shuffle` does."""
        kernels = _kernels(count)
        if kernels is None:
            order = array("I", range(count))
            self.shuffle(order)
        else:
            order = array("I", bytes(4 * count))
            kernels.permutation(self.words, order)
        return order


def _kernels(count: int) -> Kernels | None:
    """Machine code for so many elements, where it pays and can be made."""
    if count < BULK:
        return None
    from tapegpt.data.mersenne import kernels

    return kernels()
