"""CPython's `random.Random`, with what is drawn in bulk done in machine code, from the same state to the same state.

    >>> r = Random(42)
    >>> r.random(), r.getrandbits(8), r.randrange(100)
    (0.6394267984578837, 6, 94)
    >>> r.gauss(0, 1)
    -0.11131586156766246

It has a state of its own and never touches the global one. Not here: the kernels (`mersenne.py`), and calls from
several threads at once.
"""

from __future__ import annotations

import math
import sys
from array import array
from functools import cache

from tapegpt.machine.memory import address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableSequence
    from random import Random as Base
    from typing import Any, Self

    from tapegpt.machine.program import Entries, Program
    from tapegpt.machine.target import Target

    State = tuple[int, tuple[int, ...], float | None]
else:
    from _random import Random as Base  # its part in C: importing all of `random` takes 4 ms

GOLDEN = 0x9E3779B97F4A7C15  # the step of streams: 2**64 over the golden ratio, odd
BULK = 1024  # from so many elements on, machine code pays
_VERSION = 3  # of getstate's tuple


class Random(Base):
    """A random number generator with all methods of `random.Random`. One thread at a time may use it."""

    gauss_next: float | None  # the second number of a pair, by CPython's name

    def __new__(cls, *_: object) -> Self:
        """Without the seed, which `__init__` takes."""
        return super().__new__(cls, 0)  # type: ignore[call-arg]  # it takes a seed

    def __init__(self, seed: float | str | bytes | bytearray | None = None) -> None:
        self.seed(seed)

    def __getattr__(self, name: str) -> Any:
        """The methods of `random.Random` that are called too rarely to import it at once."""
        from random import Random as Whole

        return getattr(Whole, name).__get__(self)

    # --- state --------------------------------------------------------------------------------------------------

    def seed(self, a: float | str | bytes | bytearray | None = None) -> None:  # type: ignore[override]  # no version
        """Start anew as `random.Random.seed` does; raises `TypeError` for what is no seed."""
        if a is None or isinstance(a, int):
            super().seed(a)
        else:
            from random import Random as Whole

            self.setstate(Whole(a).getstate())
        self.gauss_next = None

    def getstate(self) -> State:  # type: ignore[override]  # as CPython's subclass
        """The state as `random.Random.getstate` gives it, and `random.Random.setstate` takes it."""
        return _VERSION, super().getstate(), self.gauss_next

    def setstate(self, state: State) -> None:  # type: ignore[override]  # as CPython's subclass
        """Continue from a state of this class or of `random.Random`.

        Raises `ValueError`, `TypeError` or `OverflowError` for anything else, and changes nothing then.
        """
        version, words, gauss_next = state
        if version != _VERSION:
            raise ValueError(f"state has version {version!r}, not {_VERSION}")
        super().setstate(words)
        self.gauss_next = gauss_next

    def __reduce__(self) -> tuple[type[Random], tuple[()], State]:
        return type(self), (), self.getstate()

    __setstate__ = setstate

    @property
    def words(self) -> array[int]:
        """The 624 words of the state and the position in them, for machine code; set what it makes of them."""
        return array("I", super().getstate())

    @words.setter
    def words(self, words: array[int]) -> None:
        super().setstate(tuple(words))

    # --- drawing ------------------------------------------------------------------------------------------------

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """A normally distributed number (Box and Muller, 1958); the second of each pair is kept for the next call."""
        z = self.gauss_next
        self.gauss_next = None
        if z is None:
            angle = self.random() * math.tau
            radius = math.sqrt(-2.0 * math.log(1.0 - self.random()))
            z = math.cos(angle) * radius
            self.gauss_next = math.sin(angle) * radius
        return mu + z * sigma

    def gauss_array(self, count: int, mu: float = 0.0, sigma: float = 1.0) -> array[float]:
        """`count` calls of `gauss` at once."""
        kernels = _kernels() if count >= BULK else None
        if not kernels:
            return array("d", [self.gauss(mu, sigma) for _ in range(count)])
        numbers, words = array("d", bytes(8 * count)), self.words
        spare = array("d", [0.0, 0.0] if self.gauss_next is None else [1.0, self.gauss_next])
        places = (address_of(words), address_of(spare), address_of(numbers))
        kernels.run("gauss", *places, count, float(mu), float(sigma))
        self.words, self.gauss_next = words, spare[1] if spare[0] else None
        return numbers

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Bring the elements into random order, in place."""
        if isinstance(x, list) and len(x) >= BULK:
            x[:] = [x[i] for i in self.permutation(len(x))]
            return
        for i in range(len(x) - 1, 0, -1):
            bits = (i + 1).bit_length()
            j = self.getrandbits(bits)
            while j > i:
                j = self.getrandbits(bits)
            x[i], x[j] = x[j], x[i]

    def permutation(self, count: int) -> array[int]:
        """The numbers from 0 to count - 1, shuffled as `shuffle` does."""
        kernels = _kernels() if count >= BULK else None
        if not kernels:
            order = array("I", range(count))
            self.shuffle(order)
        else:
            order, words = array("I", bytes(4 * count)), self.words
            kernels.run("permutation", address_of(words), address_of(order), count)
            self.words = words
        return order

    def streams(self, count: int) -> array[int]:
        """Seeds of `count` further streams of random numbers: where each starts, and its odd step, of 64 bits each."""
        words = array("I", self.getrandbits(64 * count).to_bytes(8 * count, "little"))
        if sys.byteorder == "little":
            words[0::2], words[1::2] = words[1::2], words[0::2]  # the first of two is the upper half
        else:
            words.byteswap()
        streams = array("Q", [GOLDEN]) * (2 * count)
        streams[0::2] = array("Q", words.tobytes())
        return streams


def _build(_: Target) -> tuple[None, Entries]:
    from tapegpt.data.mersenne import ENTRIES

    return None, ENTRIES


@cache
def _kernels() -> Program | None:
    """Machine code; None where kernels are interpreted, which takes longer than call by call."""
    from tapegpt.machine.program import load

    _, program = load(_build)
    return program if program.compiled else None
