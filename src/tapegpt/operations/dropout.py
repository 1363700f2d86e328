"""Some numbers zero and the others larger, while training (Srivastava et al., 2014). Shapes: x and result (T, C).

Which ones is a hash of the operation's key, the example, the position and the column: the same in every engine, however
documents are packed, and no memory of it. `noise` (T, 1) says of each row which example it is in, from 1 on; 0 is for
all but training, where every number stays as it is.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, is_number, is_whole, shown
from tapegpt.machine.language import I32, Builder, Int, Reals, U32s, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.machine.language import Value
    from tapegpt.value import Matrix

_WORD = 0xFFFFFFFF
_COLUMN = 0x9E3779B1  # 2^32 over the golden ratio, as `ngrams.py` has it
_MIX = ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1))  # shifts and factors: Wellons, Hash Prospector, 2018
_CHOICES = 1 << 24


class Dropout(Operation):
    """`Dropout(p, seed, number)(x, noise)`: a share p becomes zero, the others are multiplied by 1 / (1 - p).

    Each dropout of a tape has a number, and with it masks of its own.
    """

    name = "dropout"
    formula = "zero, or larger, while training"
    real = None
    takes = (2,)

    def __init__(self, p: float, seed: int, number: int) -> None:
        if not is_number(p) or not 0 <= p < 1:
            raise TapeGPTError(f"dropout: the share that becomes zero must be from 0 to below 1, not {shown(p)}")
        if not is_whole(seed):
            raise TapeGPTError(f"dropout: the seed must be a whole number, not {shown(seed)}")
        self.p, self.seed, self.number = p, seed, number

    def __str__(self) -> str:
        return f"{self.name} p={self.p!r}"

    def shape(self, *inputs: Shape) -> Shape:
        x, noise = inputs[:2]
        self.expect(x.rows is None and noise.rows is None, "needs numbers for each position", x)
        return x

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return 1 << 32 if place else 0

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        rows = enumerate(zip(*inputs, strict=True))
        masks = ((row, self.factors(int(noise.data), t, len(row))) for t, (row, (noise,)) in rows)
        return [[x * factor for x, factor in zip(row, factors, strict=True)] for row, factors in masks]

    def factors(self, example: int, position: int, columns: int) -> list[float]:
        """What the numbers of a row are multiplied by."""
        if not example:
            return [1.0] * columns
        row_key = _hashed(self._key, example, position)
        return [self._factor(row_key, column) for column in range(columns)]

    def _factor(self, row_key: int, column: int) -> float:
        h = (row_key + column * _COLUMN) & _WORD
        for shift, factor in _MIX:
            h = (h ^ h >> shift) * factor & _WORD
        return 1 / (1 - self.p) if h >> 8 >= self._zeros else 0.0

    @property
    def _key(self) -> int:
        return int(_hashed(self.seed & _WORD, self.number))

    @property
    def _zeros(self) -> int:
        """How many of all choices make a zero."""
        return round(self.p * _CHOICES)

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return PackedDropout(self.p, self.seed, self.number), ("positions",)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        self._apply(k, inputs[0].value, out.value, out, *inputs, adds=False)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x = inputs[0]
        if x.gradient is not None:
            self._apply(k, out.grad, x.gradient, out, *inputs, adds=not x.fresh)

    def _apply(self, k: Builder, x: Reals, y: Reals, out: Slot, *inputs: Slot, adds: bool) -> None:
        sizes = {"key": self._key, "zeros": self._zeros, "scale": 1 / (1 - self.p), "columns": out.columns}
        ends = (out.start, out.stop)
        dropout(k, x, inputs[1].value, inputs[-1].value, y, *ends, **sizes, packed=len(inputs) == 3, adds=adds)


class PackedDropout(Dropout):
    """`PackedDropout(...)(x, noise, positions)`: of rows that stand in their documents at these positions."""

    takes = (3,)


def _hashed(key: Any, *numbers: Any) -> Any:
    """A word for some numbers, whole ones or those of a kernel."""
    for number in numbers:
        key = ((key ^ number) * _COLUMN) & _WORD
        key = key ^ (key >> 15)
    return key


@kernel
def dropout(
    k: Builder,
    x: Reals,
    noise: U32s,
    positions: U32s,
    y: Reals,
    start: Int,
    stop: Int,
    *,
    key: int,
    zeros: int,
    scale: float,
    columns: int,
    packed: bool,
    adds: bool,
) -> None:
    """y = or += x times 0 or the scale; times 1 where the noise is 0."""
    lanes = k.width(x.type)
    for t in k.range(start, stop):
        example = noise[t]
        row_key = k.convert(_hashed(k.integer(key), example, positions[t] if packed else t), I32)
        still = example.equals(0)
        least = k.select(still, k.constant(0, I32, 0), zeros)
        factor = k.select(still, k.constant(1, x.type, 0), scale)
        for c in k.range(0, padded(columns), lanes):
            at = t * padded(columns) + c
            h = row_key + _columns(k, c, lanes) * _signed(_COLUMN)
            for shift, multiplier in _MIX:
                h = (h ^ (h >> shift)) * _signed(multiplier)
            number = x.vector(at, lanes) * k.select((h >> 8) >= least, factor, 0.0)
            y.store(at, y.vector(at, lanes) + number if adds else number)


def _columns(k: Builder, first: Value, lanes: int) -> Value:
    """The numbers of some columns."""
    start = k.convert(first, I32)
    return k.lane_numbers(lanes) + start if lanes > 1 else start


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
