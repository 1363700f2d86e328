"""Rows of a table by their numbers. Shapes: table (V, D), ids (T, 1), result (T, D)."""

from __future__ import annotations

from tapegpt.machine.language import F32, F64, Builder, F32s, Int, Reals, U32s, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.rows import each_row, vectors
from tapegpt.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.value import Matrix


class Embedding(Operation):
    """`embedding(table, ids)`: row `ids[t]` for position t."""

    name = "embedding"
    formula = "row of a table"
    takes: tuple[int, ...] = (2,)
    clears: tuple[int, ...] = (0,)

    def shape(self, *inputs: Shape) -> Shape:
        table, ids = inputs
        self.expect(table.rows is not None, "needs a table of fixed size and an index node", table, ids)
        return Shape(ids.rows, table.columns)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return 0 if place == 0 else inputs[0].rows or 0

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        table, ids = inputs
        return [[Value(x.data, (x,), (1,)) for x in table[int(number.data)]] for (number,) in ids]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastEmbedding(), ()

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        table, ids = inputs
        gather(k, table.value, ids.value, out.value, out.start, out.stop, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        table, ids = inputs
        if table.gradient is not None:
            scatter(k, table.gradient, ids.value, out.grad, out.start, out.stop, columns=out.columns)


@kernel
def gather(k: Builder, table: Reals, ids: U32s, y: Reals, start: Int, stop: Int, *, columns: int) -> None:
    """y[t] = table[ids[t]]."""
    width = k.width(y.type)
    for t, (result,) in each_row(k, start, stop, columns, y):
        row = table + ids[t] * padded(columns)
        for c in vectors(k, columns, y.type):
            result.store(c, row.vector(c, width))


@kernel
def scatter(k: Builder, dtable: Reals, ids: U32s, dy: Reals, start: Int, stop: Int, *, columns: int) -> None:
    """dtable[ids[t]] += dy[t]; in f64 the last position first: a row that recurs gathers in that order."""
    width = k.width(dy.type)
    for t, (passed,) in each_row(k, start, stop, columns, dy, reverse=dy.type is F64):
        row = dtable + ids[t] * padded(columns)
        for c in vectors(k, columns, dy.type):
            row.store(c, row.vector(c, width) + passed.vector(c, width))


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastEmbedding(Embedding):
    """`FastEmbedding(n)(table, ids, table, ids, ...)` in f32: the sum of a row of each of n tables, all as wide."""

    real = F32

    def __init__(self, tables: int = 1) -> None:
        self.formula = self.formula if tables == 1 else f"sum of rows of {tables} tables"
        self.takes = (2 * tables,)
        self.clears = tuple(range(0, 2 * tables, 2))

    def shape(self, *inputs: Shape) -> Shape:
        tables, ids = inputs[0::2], inputs[1::2]
        fits = all(table.rows is not None and table.columns == tables[0].columns for table in tables)
        self.expect(fits, "needs tables and index nodes in turn, the tables equally wide", *inputs)
        return Shape(ids[0].rows, tables[0].columns)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return inputs[place - 1].rows or 0 if place % 2 else 0

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        values = [slot.value for slot in inputs]
        at = {"columns": out.columns}
        if len(values) == 2:
            gather(k, *values, out.value, out.start, out.stop, **at)
            return
        gather_two(k, *values[:4], out.value, out.start, out.stop, **at)
        for table, ids in zip(values[4::2], values[5::2], strict=True):
            add_rows(k, table, ids, out.value, out.start, out.stop, **at)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        for table, ids in zip(inputs[0::2], inputs[1::2], strict=True):
            if table.gradient is not None:
                scatter(k, table.gradient, ids.value, out.grad, out.start, out.stop, columns=out.columns)


@kernel
def gather_two(
    k: Builder, table: F32s, ids: U32s, other: F32s, places: U32s, y: F32s, start: Int, stop: Int, *, columns: int
) -> None:
    """y[t] = table[ids[t]] + other[places[t]]."""
    width = k.width(F32)
    for t, (result,) in each_row(k, start, stop, columns, y):
        first, second = table + ids[t] * padded(columns), other + places[t] * padded(columns)
        for c in vectors(k, columns):
            result.store(c, first.vector(c, width) + second.vector(c, width))


@kernel
def add_rows(k: Builder, table: F32s, ids: U32s, y: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """y[t] += table[ids[t]]."""
    width = k.width(F32)
    for t, (result,) in each_row(k, start, stop, columns, y):
        row = table + ids[t] * padded(columns)
        for c in vectors(k, columns):
            result.store(c, result.vector(c, width) + row.vector(c, width))
