"""The sum of a row of each of several tables, by ids of its own. Shapes: ids (T, 1), table (R, D), any R, y (T, D)."""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, Int, U32s, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.fast.rows import vectors


class Embedding(Operation):
    """`Embedding(n)(ids, table, ids, table, ...)`, n pairs, two or more."""

    name = "embedding"
    real = F32

    def __init__(self, tables: int = 2) -> None:
        self.takes = (2 * tables,)
        self.clears = tuple(range(1, 2 * tables, 2))

    def shape(self, *inputs: Shape) -> Shape:
        ids, tables = inputs[0::2], inputs[1::2]
        fits = all(table.rows is not None and table.columns == tables[0].columns for table in tables)
        self.expect(fits, "needs index nodes and tables in turn, the tables equally wide", *inputs)
        return Shape(ids[0].rows, tables[0].columns)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return 0 if place % 2 else inputs[place + 1].rows or 0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        first, more = inputs[:4], inputs[4:]
        gather(k, *[slot.value for slot in first], out.value, out.start, out.stop, columns=out.columns)
        for ids, table in zip(more[0::2], more[1::2], strict=True):
            add_rows(k, ids.value, table.value, out.value, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        for ids, table in zip(inputs[0::2], inputs[1::2], strict=True):
            if table.gradient is not None:
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
def add_rows(k: Builder, ids: U32s, table: F32s, y: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """y[t] += table[ids[t]]."""
    width = k.width(F32)
    for t in k.range(start, stop):
        row, result = table + ids[t] * padded(columns), y + t * padded(columns)
        for c in vectors(k, columns):
            result.store(c, result.vector(c, width) + row.vector(c, width))


@kernel
def scatter(k: Builder, dtable: F32s, ids: U32s, dy: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """dtable[ids[t]] += dy[t]."""
    width = k.width(F32)
    for t in k.range(start, stop):
        row, passed = dtable + ids[t] * padded(columns), dy + t * padded(columns)
        for c in vectors(k, columns):
            row.store(c, row.vector(c, width) + passed.vector(c, width))
