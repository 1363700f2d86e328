"""Rows of a table: by token id, or one for each position. Shapes: table (V, D), ids (T, 1), result (T, D)."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError
from tapegpt.machine.language import Builder, F64s, Int, Pointer, U32s, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, across, padded


class Embedding(Operation):
    """`embedding(table, ids)`: row `ids[t]` for position t."""

    name = "embedding"
    takes = (2,)
    clears = (0,)

    def shape(self, *inputs: Shape) -> Shape:
        table, ids = inputs
        self.expect(table.rows is not None, "needs a table of fixed size and an index node", table, ids)
        return Shape(ids.rows, table.columns)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return 0 if place == 0 else inputs[0].rows or 0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        table, ids = inputs
        gather(k, table.value, ids.value, out.value, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        table, ids = inputs
        if table.gradient is not None:
            scatter(k, table.gradient, ids.value, out.grad, out.start, out.stop, columns=out.columns)


class Positions(Operation):
    """`positions(table)`: row t for position t."""

    name = "positions"
    takes = (1,)
    clears = (0,)

    def __init__(self, positions: int) -> None:
        self.positions = positions

    def shape(self, *inputs: Shape) -> Shape:
        (table,) = inputs
        self.expect(table.rows is not None, "needs a table of fixed size", table)
        if (table.rows or 0) < self.positions:
            raise TapeGPTError(f"positions: {self.positions} positions need as many rows, not {table.rows}")
        return Shape(None, table.columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        assert out.rows <= self.positions
        copy_rows(k, inputs[0].value, out.value, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        if inputs[0].gradient is not None:
            add_rows(k, out.grad, inputs[0].gradient, out.start, out.stop, columns=out.columns)


@kernel
def gather(k: Builder, table: F64s, ids: U32s, y: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """y[t] = table[ids[t]]."""
    for t in k.range(start, stop):
        row, source = y + t * padded(columns), table + ids[t] * padded(columns)
        for c, lanes in across(k, columns):
            row.store(c, source.vector(c, lanes))


@kernel
def scatter(k: Builder, dtable: F64s, ids: U32s, dy: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """dtable[ids[t]] += dy[t], the last position first: a row that recurs gathers in that order."""
    for t in k.range(stop - 1, start - 1, -1):
        add(k, dtable + ids[t] * padded(columns), dy + t * padded(columns), columns)


@kernel
def copy_rows(k: Builder, x: F64s, y: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """y[t] = x[t]."""
    for t in k.range(start, stop):
        row, source = y + t * padded(columns), x + t * padded(columns)
        for c, lanes in across(k, columns):
            row.store(c, source.vector(c, lanes))


@kernel
def add_rows(k: Builder, x: F64s, y: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """y[t] += x[t]."""
    for t in k.range(start, stop):
        add(k, y + t * padded(columns), x + t * padded(columns), columns)


def add(k: Builder, y: Pointer, x: Pointer, columns: int) -> None:
    """One row: y += x."""
    for c, lanes in across(k, columns):
        y.store(c, y.vector(c, lanes) + x.vector(c, lanes))
