"""Rows of a table by their numbers. Shapes: table (V, D), ids (T, 1), result (T, D)."""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot
from tapegpt.autograd.operations.rows import accumulate, row_by_row, vectors
from tapegpt.autograd.value import Matrix, Value
from tapegpt.machine.language import F64, Builder


class Embedding(Operation):
    """`embedding(table, ids)`: row `ids[t]` for position t; in f32 also the sum of a row of each of several tables."""

    name = "embedding"
    real = None

    def __init__(self, tables: int = 1) -> None:
        self.formula = "row of a table" if tables == 1 else f"sum of rows of {tables} tables"
        self.takes, self.clears = (2 * tables,), tuple(range(0, 2 * tables, 2))

    def shape(self, *inputs: Shape) -> Shape:
        tables, ids = inputs[0::2], inputs[1::2]
        fits = all(table.rows is not None and table.columns == tables[0].columns for table in tables)
        self.expect(fits, "needs a table of fixed size and an index node, or some in turn, equally wide", *inputs)
        return Shape(ids[0].rows, tables[0].columns)

    def index_bounds(self, *inputs: Shape) -> list[int]:
        return [bound for table in inputs[0::2] for bound in (0, table.rows or 0)]

    def reference(self, inner: dict[str, Matrix], table: Matrix, ids: Matrix) -> Matrix:
        return [[Value(x.data, (x,), (1,)) for x in table[int(number.data)]] for (number,) in ids]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y[t] = table[ids[t]], or the sum of those of all tables."""
        width = k.width(out.value.type)
        for t, (result,) in row_by_row(k, out, out.value):
            pairs = zip(inputs[0::2], inputs[1::2], strict=True)
            first, *others = [table.value + ids.value[t] * out.stride for table, ids in pairs]
            for c in vectors(k, out.columns, out.value.type):
                numbers = first.vector(c, width)
                for row in others:
                    numbers = numbers + row.vector(c, width)
                result.store(c, numbers)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """dtable[ids[t]] += dy[t]; in f64 the last position first: a row that recurs gathers in that order."""
        kind = out.value.type
        for table, ids in zip(inputs[0::2], inputs[1::2], strict=True):
            if table.gradient is not None:
                for t, (dout,) in row_by_row(k, out, out.grad, reverse=kind is F64):
                    row = table.gradient + ids.value[t] * out.stride
                    for c in vectors(k, out.columns, kind):
                        accumulate(row, c, dout.vector(c, k.width(kind)), fresh=False)
