"""A row of one table by token id, plus a row of another by place.

Shapes: tables (V, D) and (S, D), ids (T, 1) each, y (T, D).
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, Int, U32s, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.fast.rows import vectors


class Embedding(Operation):
    """`Embedding()(tokens, token_table, places, place_table)`."""

    name = "embedding"
    clears = (1, 3)

    def shape(self, *inputs: Shape) -> Shape:
        tokens, table, places, other = inputs
        fits = tokens.index and places.index and table.rows is not None and table.columns == other.columns
        self.expect(fits, "needs an index node and a table, twice, the tables as wide", *inputs)
        return Shape(tokens.rows, table.columns)

    def index_bound(self, *inputs: Shape) -> int:
        return min(inputs[1].rows or 0, inputs[3].rows or 0)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        places = [slot.value for slot in inputs]
        gather(k, *places, out.value, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        for ids, table in (inputs[:2], inputs[2:]):
            if table.gradient:
                scatter(k, table.gradient, ids.value, out.grad, out.start, out.stop, columns=out.columns)


@kernel
def gather(
    k: Builder, ids: U32s, table: F32s, places: U32s, other: F32s, y: F32s, start: Int, stop: Int, *, columns: int
) -> None:
    """y[t] = table[ids[t]] + other[places[t]]."""
    width = k.width(F32)
    for t in k.range(start, stop):
        first, second = table + ids[t] * padded(columns), other + places[t] * padded(columns)
        for c in vectors(k, columns):
            (y + t * padded(columns)).store(c, first.vector(c, width) + second.vector(c, width))


@kernel
def scatter(k: Builder, dtable: F32s, ids: U32s, dy: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """dtable[ids[t]] += dy[t]."""
    width = k.width(F32)
    for t in k.range(start, stop):
        row, passed = dtable + ids[t] * padded(columns), dy + t * padded(columns)
        for c in vectors(k, columns):
            row.store(c, row.vector(c, width) + passed.vector(c, width))
