"""Chosen columns of one or more matrices, concatenated. Shapes: inputs (R, any), result (R, C)."""

from __future__ import annotations

from collections.abc import Sequence

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot
from tapegpt.autograd.operations.rows import accumulate, across, row_by_row
from tapegpt.autograd.value import Matrix, Value, copy_rows
from tapegpt.machine.language import Builder


class Columns(Operation):
    """`Columns(sources)(x, ...)`: column c is number `sources[c]` of all inputs' columns, zeros where that is -1."""

    name = "columns"
    formula = "chosen columns"
    real = None

    def __init__(self, sources: Sequence[int], inputs: int = 1) -> None:
        self.sources = tuple(sources)
        self.takes = (inputs,)
        self.clears = tuple(range(inputs))

    def shape(self, *inputs: Shape) -> Shape:
        fits = all(x.rows == inputs[0].rows for x in inputs) and not any(x.index for x in inputs)
        self.expect(fits, "needs matrices with as many rows", *inputs)
        return Shape(inputs[0].rows, len(self.sources))

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        rows = [[number for row in rows for number in row] for rows in zip(*inputs, strict=True)]
        return copy_rows([row[source] if source >= 0 else Value(0.0) for source in self.sources] for row in rows)

    def _pieces(self, inputs: Sequence[Slot]) -> list[tuple[Slot, int, int, int]]:
        """Columns that lie together: (input, first column there, first column here, how many)."""
        columns = [(x, column) for x in inputs for column in range(x.columns)]
        pieces: list[tuple[Slot, int, int, int]] = []
        for here, source in enumerate(self.sources):
            if source >= 0:
                x, there = columns[source]
                last, first, start, count = pieces[-1] if pieces else (None, 0, 0, 0)
                if x is last and there - first == here - start == count:
                    pieces[-1] = (x, first, start, count + 1)
                else:
                    pieces.append((x, there, here, 1))
        return pieces

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y[here] = x[there], piece by piece."""
        pieces = self._pieces(inputs)
        for t, (result,) in row_by_row(k, out, out.value):
            for x, there, here, count in pieces:
                row = x.value + t * x.stride
                for c, lanes in across(k, count, row.type):
                    result.store(here + c, row.vector(there + c, lanes))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """dx[there] += dy[here], the last piece first."""
        pieces = self._pieces(inputs)[::-1]
        for t, (dout,) in row_by_row(k, out, out.grad):
            for x, there, here, count in pieces:
                if x.gradient is not None:
                    row = x.gradient + t * x.stride
                    for c, lanes in across(k, count, row.type):
                        accumulate(row, there + c, dout.vector(here + c, lanes), fresh=False)
