"""Which columns of a row a head of attention has, and which rows a document has. Not here: the arithmetic.

The queries, the keys and the values of all heads have E columns each, of which a head has `lanes`, the first `head_dim`
of them in use and the others zero. They are three matrices, or packed in one of 3 E columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from tapegpt.autograd.operations.attention.exact import Attention
from tapegpt.autograd.operations.base import PAD, Operation, Scratch, Shape, Slot, View, padded, row_stride
from tapegpt.machine.language import F32, Builder, Value
from tapegpt.record import Record

LONG = 32  # positions: documents up to here go pair by pair, longer ones in tiles, whose heads are whole vectors


class Heads(Record):
    """The heads of a model, for documents of at most `block_size` positions."""

    n_head: int
    head_dim: int
    block_size: int

    def __str__(self) -> str:
        return f"n_head={self.n_head} head_dim={self.head_dim} block_size={self.block_size}"

    @property
    def tiled(self) -> bool:
        """Whether attention goes in tiles."""
        return self.block_size > LONG

    @property
    def lanes(self) -> int:
        """Columns of a head: whole vectors, or a power of two that divides one."""
        if self.tiled or self.head_dim > PAD:
            return padded(self.head_dim)
        return 1 << (self.head_dim - 1).bit_length()

    @property
    def columns(self) -> int:
        """E: columns of all heads."""
        return padded(self.n_head * self.lanes)

    def used_columns(self) -> list[int]:
        """The columns in use, head by head."""
        return [h * self.lanes + j for h in range(self.n_head) for j in range(self.head_dim)]


class OverHeads(Operation):
    """What attention in f32 has in common: from q, k, v (T, E), or packed (T, 3 E), to the result (T, E)."""

    real = F32
    formula = Attention.formula
    about: tuple[str, ...] = ("ends",)

    def __init__(self, heads: Heads, *, packed: bool = True) -> None:
        self.heads, self.packed = heads, packed
        matrices = 1 if packed else 3
        self.takes = (matrices,)
        self.sets = tuple(range(matrices))

    def __str__(self) -> str:
        return f"{self.name} {self.heads}"

    @property
    def columns(self) -> int:
        """Columns of a matrix."""
        return self.heads.columns * (3 if self.packed else 1)

    def shape(self, *inputs: Shape) -> Shape:
        matrices = inputs[: len(self.sets)]
        fits = all(x.columns == self.columns and x.rows is None for x in matrices)
        self.expect(fits, f"needs {self.columns} columns for each position", *inputs)
        return Shape(None, self.heads.columns)

    def spare(self, rows: int) -> int:
        """Size of the memory for gradients that nothing reads: q, k or v may depend on no parameter."""
        return 0 if self.packed else rows * row_stride(self.heads.columns)

    def values(self, *inputs: Slot) -> list[View]:
        """q, k and v."""
        return self._parts([x.whole(x.value) for x in inputs[: len(self.sets)]])

    def gradients(self, scratch: Scratch, *inputs: Slot) -> list[View]:
        """The gradients of q, k and v."""
        matrices = inputs[: len(self.sets)]
        return self._parts([x.whole(scratch.kept if x.gradient is None else x.gradient) for x in matrices])

    def _parts(self, matrices: list[View]) -> list[View]:
        return [matrices[0].at(0, part * self.heads.columns) for part in range(3)] if self.packed else matrices


def documents(k: Builder, out: Slot, ends: Slot, block_size: int) -> Iterator[tuple[Value, Value]]:
    """First position and end of each document in the rows of out; `ends` says where a position's one ends.

    Each has from 1 to `block_size` positions, whatever `ends` says.
    """
    at = k.variable(k.integer(out.start))
    for _ in k.repeat_while(lambda: at < out.stop):
        first = k.value(at)
        end = k.minimum(k.minimum(k.maximum(ends.value[first], first + 1), first + block_size), out.stop)
        yield first, end
        at.set(end)
