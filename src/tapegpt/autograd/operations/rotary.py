"""Rotary positions (Su et al., 2021): pairs of columns of each head turned by an angle that grows with the position.

Products of two such rows depend on how far apart they stand. Shapes: x and the result (T, D), positions (T, 1).
"""

from __future__ import annotations

import math

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, row_stride
from tapegpt.autograd.operations.rows import row_by_row, vectors
from tapegpt.autograd.value import Matrix
from tapegpt.machine.language import F64, Builder, Value
from tapegpt.ranges import Whole

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
        Whole(1).check("rotary: n_head", n_head)
        self.n_head, self._block_size = n_head, block_size

    def __str__(self) -> str:
        return f"rotary n_head={self.n_head}"

    def shape(self, x: Shape, positions: Shape) -> Shape:
        fits = x.columns % (2 * self.n_head) == 0 and x.rows == positions.rows
        self.expect(fits, f"needs {self.n_head} heads of an even number of columns, and their positions", x, positions)
        return x

    def index_bounds(self, *inputs: Shape) -> list[int]:
        return [0, self._block_size]

    def reference(self, inner: dict[str, Matrix], x: Matrix, positions: Matrix) -> Matrix:
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

    def prepared_size(self, x: Shape, positions: Shape) -> int:
        return 2 * self._block_size * row_stride(x.columns)

    def prepare(self, k: Builder, scratch: Scratch, x: Slot, positions: Slot) -> None:
        """For each position a row of cosines, then one of sines, negative in even columns."""
        turns, head_dim = scratch.prepared, x.columns // self.n_head
        for _ in k.when(turns[0].equals(0.0)):  # the cosine of no angle, once it is there
            for position in k.range(self._block_size):
                cosines = turns + 2 * position * x.stride
                sines = cosines + x.stride
                for c in k.range(0, x.columns, 2):
                    exponent = k.convert(c % head_dim, F64) * -1.0 / head_dim
                    angle = k.convert(position, F64) * k.pow(BASE, exponent)
                    cos, sin = (k.convert(k.libm(name, angle), turns.type) for name in ("cos", "sin"))
                    cosines[c], cosines[c + 1] = cos, cos
                    sines[c], sines[c + 1] = -sin, sin

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, positions: Slot) -> None:
        """y = x * cosines + x of the pair's other column * sines."""
        lanes = k.width(x.value.type)
        for t, (row, result) in row_by_row(k, out, x.value, out.value):
            cosines = scratch.prepared + 2 * positions.value[t] * x.stride
            sines = cosines + x.stride
            for c in vectors(k, x.columns, row.type):
                numbers = row.vector(c, lanes)
                result.store(c, numbers * cosines.vector(c, lanes) + _swap_pairs(k, numbers) * sines.vector(c, lanes))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, positions: Slot) -> None:
        """dx = or += what the pair's second column passes on, then what its first does."""
        lanes = k.width(out.grad.type)
        odd, even = ([lane if lane % 2 == side else lanes + lane for lane in range(lanes)] for side in (1, 0))
        for t, (row, result) in row_by_row(k, out, out.grad, x.grad):
            cosines = scratch.prepared + 2 * positions.value[t] * x.stride
            sines = cosines + x.stride
            for c in vectors(k, x.columns, row.type):
                dout = row.vector(c, lanes)
                own, other = dout * cosines.vector(c, lanes), _swap_pairs(k, dout * sines.vector(c, lanes))
                second, first = k.shuffle(own, other, odd), k.shuffle(own, other, even)
                result.store(c, (second if x.fresh else result.vector(c, lanes) + second) + first)


def _swap_pairs(k: Builder, numbers: Value) -> Value:
    """The two columns of each pair, the other way round."""
    return k.shuffle(numbers, numbers, [lane ^ 1 for lane in range(numbers.lanes)])
