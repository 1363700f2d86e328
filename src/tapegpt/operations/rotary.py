"""Rotary positions (Su et al., 2021): pairs of columns of each head turned by an angle that grows with the position.

Products of two such rows depend on how far apart they stand. Shapes: x and the result (T, D), positions (T, 1).
"""

from __future__ import annotations

import math

from tapegpt.errors import TapeGPTError, is_whole, shown
from tapegpt.machine.language import F64, Builder, Int, Reals, U32s, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.rows import each_row, vectors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.language import Value
    from tapegpt.value import Matrix

BASE = 10000.0  # the slowest pair turns about so many times slower than the first


class Rotary(Operation):
    """`Rotary(n_head, block_size)(x, positions)`: columns i and i + 1, i even, turn by position / BASE^(i / head_dim).

    Prepares the cosines and sines of every position, once.
    """

    name = "rotary"
    formula = "turned by the position"
    real = None
    takes = (2,)
    prepares = ()

    def __init__(self, n_head: int, block_size: int) -> None:
        if not is_whole(n_head) or n_head < 1:
            raise TapeGPTError(f"rotary: n_head must be a whole number of at least 1, not {shown(n_head)}")
        self.n_head, self._block_size = n_head, block_size

    def __str__(self) -> str:
        return f"rotary n_head={self.n_head}"

    def shape(self, *inputs: Shape) -> Shape:
        x, positions = inputs
        fits = x.columns % (2 * self.n_head) == 0 and x.rows == positions.rows
        self.expect(fits, f"needs {self.n_head} heads of an even number of columns, and their positions", *inputs)
        return x

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return (0, self._block_size)[place]

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        x, positions = inputs
        head_dim = len(x[0]) // self.n_head
        result: Matrix = []
        for row, (position,) in zip(x, positions, strict=True):
            turned = []
            for c in range(0, len(row), 2):
                angle = position.data * BASE ** (-(c % head_dim) / head_dim)
                cos, sin = math.cos(angle), math.sin(angle)
                turned += [row[c] * cos + row[c + 1] * -sin, row[c + 1] * cos + row[c] * sin]
            result.append(turned)
        return result

    def prepared(self, *inputs: Shape) -> int:
        return 2 * self._block_size * padded(inputs[0].columns)

    def prepare(self, k: Builder, scratch: Scratch, *inputs: Slot) -> None:
        x = inputs[0]
        sizes = {"columns": x.columns, "head_dim": x.columns // self.n_head, "block_size": self._block_size}
        turns = scratch.prepared
        for _ in k.when(turns[0].equals(0.0)):  # the cosine of no angle, once it is there
            make_turns(k, turns, **sizes)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, positions = inputs
        places = (x.value, positions.value, scratch.prepared, out.value, out.start, out.stop)
        rotary_forward(k, *places, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, positions = inputs
        if x.gradient is not None:
            places = (out.grad, positions.value, scratch.prepared, x.gradient, out.start, out.stop)
            rotary_backward(k, *places, columns=out.columns, fresh=x.fresh)


@kernel
def make_turns(k: Builder, turns: Reals, *, columns: int, head_dim: int, block_size: int) -> None:
    """For each position a row of cosines, then one of sines, negative in even columns."""
    for position in k.range(block_size):
        cosines = turns + 2 * position * padded(columns)
        sines = cosines + padded(columns)
        for c in k.range(0, columns, 2):
            exponent = k.convert(c % head_dim, F64) * -1.0 / head_dim
            angle = k.convert(position, F64) * k.pow(BASE, exponent)
            cos, sin = (k.convert(k.libm(name, angle), turns.type) for name in ("cos", "sin"))
            cosines[c], cosines[c + 1] = cos, cos
            sines[c], sines[c + 1] = -sin, sin


@kernel
def rotary_forward(
    k: Builder, x: Reals, positions: U32s, turns: Reals, y: Reals, start: Int, stop: Int, *, columns: int
) -> None:
    """y = x * cosines + x of the pair's other column * sines."""
    for t, (row, result) in each_row(k, start, stop, columns, x, y):
        cosines = turns + 2 * positions[t] * padded(columns)
        for c in vectors(k, columns, x.type):
            lanes = k.width(x.type)
            numbers = row.vector(c, lanes)
            sines = cosines + padded(columns)
            result.store(c, numbers * cosines.vector(c, lanes) + _swapped(k, numbers) * sines.vector(c, lanes))


@kernel
def rotary_backward(
    k: Builder,
    dy: Reals,
    positions: U32s,
    turns: Reals,
    dx: Reals,
    start: Int,
    stop: Int,
    *,
    columns: int,
    fresh: bool,
) -> None:
    """dx = or += what the pair's second column passes on, then what its first does."""
    for t, (row, result) in each_row(k, start, stop, columns, dy, dx):
        cosines = turns + 2 * positions[t] * padded(columns)
        for c in vectors(k, columns, dy.type):
            lanes = k.width(dy.type)
            passed = row.vector(c, lanes)
            own = passed * cosines.vector(c, lanes)
            other = _swapped(k, passed * (cosines + padded(columns)).vector(c, lanes))
            second = k.shuffle(own, other, [lane if lane % 2 else lanes + lane for lane in range(lanes)])
            first = k.shuffle(own, other, [lanes + lane if lane % 2 else lane for lane in range(lanes)])
            result.store(c, (second if fresh else result.vector(c, lanes) + second) + first)


def _swapped(k: Builder, numbers: Value) -> Value:
    """The two columns of each pair, the other way round."""
    return k.shuffle(numbers, numbers, [lane ^ 1 for lane in range(numbers.lanes)])
