"""Dropout: in training some numbers become zero, the others larger (Srivastava et al., 2014). Shapes: x, result (T, C).

Which ones is a hash of the operation's key, the example, the position and the column: the same in every engine, however
documents are packed, and no memory of it. `noise` (T, 1) is the example that a row is in, from 1 on; outside of
training it is 0, and every number stays as it is.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.autograd.operations.rows import accumulate, position_of, row_by_row
from tapegpt.machine.language import I32, Builder, Pointer, Value
from tapegpt.ranges import Number, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.autograd.value import Matrix

_WORD = 0xFFFFFFFF
_COLUMN = 0x9E3779B1 - 2**32  # 2^32 over the golden ratio, as `ngrams.py` has it, in 32 bits with a sign
_MIX = ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32), (16, 1))  # shifts and factors: Wellons, Hash Prospector, 2018
_CHOICES = 1 << 24


class Dropout(Operation):
    """`Dropout(p, seed, number)(x, noise)`: a share p becomes zero, the others are multiplied by 1 / (1 - p).

    Each dropout of a tape has a number, and with it masks of its own.
    """

    name = "dropout"
    formula = "zero, or larger, while training"
    real = None
    takes = (2,)
    about_rows = ("positions",)

    def __init__(self, p: float, seed: int, number: int) -> None:
        Number(0, 1, "[)").check("dropout: p", p)
        Whole().check("dropout: seed", seed)
        self.p, self.seed, self.number = p, seed, number

    def __str__(self) -> str:
        return f"{self.name} p={self.p!r}"

    def shape(self, x: Shape, noise: Shape, *_: Shape) -> Shape:
        self.expect(x.rows is None and noise.rows is None, "needs numbers for each position", x)
        return x

    def index_bounds(self, *inputs: Shape) -> list[int]:
        return [0, *[1 << 32] * (len(inputs) - 1)]

    def reference(self, inner: dict[str, Matrix], x: Matrix, noise: Matrix) -> Matrix:
        rows = enumerate(zip(x, noise, strict=True))
        masks = ((row, self.factors(int(noise.data), t, len(row))) for t, (row, (noise,)) in rows)
        return [[x * factor for x, factor in zip(row, factors, strict=True)] for row, factors in masks]

    def factors(self, example: int, position: int, columns: int) -> list[float]:
        """What the numbers of a row are multiplied by."""
        if not example:
            return [1.0] * columns
        row_key = _hash(self._key, example, position)
        return [self._factor(row_key, column) for column in range(columns)]

    def _factor(self, row_key: int, column: int) -> float:
        h = (row_key + column * _COLUMN) & _WORD
        for shift, factor in _MIX:
            h = (h ^ h >> shift) * factor & _WORD
        return 1 / (1 - self.p) if h >> 8 >= self._zeros else 0.0

    @property
    def _key(self) -> int:
        return int(_hash(self.seed & _WORD, self.number))

    @property
    def _zeros(self) -> int:
        """How many of all choices make a zero."""
        return round(self.p * _CHOICES)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *about: Slot) -> None:
        """y = x times the factors."""
        self._apply(k, out, x.value, out.value, *about, fresh=True)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *about: Slot) -> None:
        """dx = or += dy times the factors."""
        self._apply(k, out, out.grad, x.grad, *about, fresh=x.fresh)

    def _apply(self, k: Builder, out: Slot, x: Pointer, y: Pointer, noise: Slot, *positions: Slot, fresh: bool) -> None:
        """y = or += x times 0 or 1 / (1 - p); times 1 where the noise is 0."""
        lanes = k.width(x.type)
        for t, (row, result) in row_by_row(k, out, x, y):
            example = noise.value[t]
            row_key = k.convert(_hash(k.integer(self._key), example, position_of(t, *positions)), I32)
            still = example.equals(0)
            least = k.select(still, k.constant(0, I32, 0), self._zeros)
            factor = k.select(still, k.constant(1, x.type, 0), 1 / (1 - self.p))
            for c in k.range(0, padded(out.columns), lanes):
                h = row_key + _columns(k, c, lanes) * _COLUMN
                for shift, multiplier in _MIX:
                    h = (h ^ (h >> shift)) * multiplier
                accumulate(result, c, row.vector(c, lanes) * k.select((h >> 8) >= least, factor, 0.0), fresh=fresh)


def _hash(key: Any, *numbers: Any) -> Any:
    """A word for some numbers, whole ones or those of a kernel."""
    for number in numbers:
        key = ((key ^ number) * _COLUMN) & _WORD
        key = key ^ (key >> 15)
    return key


def _columns(k: Builder, first: Value, lanes: int) -> Value:
    start = k.convert(first, I32)
    return k.lane_numbers(lanes) + start if lanes > 1 else start
