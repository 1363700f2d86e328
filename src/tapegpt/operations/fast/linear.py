"""y = x W^T for many rows, with what comes next: a residual added, or an activation.

Shapes: x (T, I), W (O, I), y (T, O).

All three products, y, dx = dy W and dW = dy^T x, are sums of rank-one tiles: some rows times some vectors of columns,
every sum in a register of its own while the third index runs. One number of y is one chain of fused multiply-adds in
index order whatever tile it is in, so that a row's bits do not depend on its neighbours.
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, Int, Pointer, Value, Variable, kernel
from tapegpt.operations.base import UNROLLED, Operation, Scratch, Shape, Slot, padded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tapegpt.machine.language import Number

ROWS = 8  # of a tile


class Linear(Operation):
    """`Linear()(x, W)`, `Linear(activation="relu")(x, W)`, or `Linear()(x, W, residual)`: x W^T + residual."""

    name = "linear"

    def __init__(self, activation: str = "", residual: bool = False) -> None:
        self.activation = activation
        self.passes = (2,) if residual else ()

    def __str__(self) -> str:
        return " ".join(filter(None, [self.name, self.activation, "+ residual" if self.passes else ""]))

    def shape(self, *inputs: Shape) -> Shape:
        x, w = inputs[:2]
        self.expect(x.columns == w.columns and w.rows is not None, "x and W must have as many columns", x, w)
        result = Shape(x.rows, w.rows or 0)
        self.expect(all(other == result for other in inputs[2:]), "the residual must have the result's shape", *inputs)
        return result

    def prepared(self, *inputs: Shape) -> int:
        return padded(inputs[1].rows or 0) * inputs[1].columns

    def prepare(self, k: Builder, scratch: Scratch, *inputs: Slot) -> None:
        w = inputs[1]
        make_panels(k, w.value, scratch.prepared, outs=w.shape.rows, ins=w.columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x = inputs[0]
        finish = "add" if self.passes else self.activation
        other = inputs[2].value if self.passes else x.value
        sizes = {"ins": x.columns, "outs": out.columns}
        places = (x.value, scratch.prepared, out.value, other)
        products(k, *places, out.start, out.stop, **sizes, panels=True, finish=finish)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, w = inputs[:2]
        if w.gradient:
            weight_gradient(k, x.value, out.grad, w.gradient, out.start, out.stop, ins=x.columns, outs=out.columns)
        if x.gradient:
            assert x.fresh, "what an activation has changed is not added to"
            sizes = {"ins": out.columns, "outs": x.columns}
            places = (out.grad, w.value, x.gradient, x.value)
            products(k, *places, out.start, out.stop, **sizes, panels=False, finish=_SLOPES[x.activation])


# --- how a tile ends --------------------------------------------------------------------------------------------

_SLOPES = {"": "", "relu": "times relu'", "relu2": "times relu2'"}

_FINISH: dict[str, Callable[[Builder, Value, Callable[[], Value]], Value]] = {
    "": lambda k, total, other: total,
    "add": lambda k, total, other: total + other(),
    "relu": lambda k, total, other: k.maximum(total, 0.0),
    "relu2": lambda k, total, other: total * k.maximum(total, 0.0),
    "times relu'": lambda k, total, other: k.select(other() > 0.0, total, 0.0),
    "times relu2'": lambda k, total, other: k.sqrt(other()) * total * 2.0,  # its result is a square
}


# --- tiles ------------------------------------------------------------------------------------------------------


def column_blocks(k: Builder, columns: int) -> Iterator[tuple[Number, int]]:
    """Cover the vectors of a row in blocks of three and two: (first column, vectors). Alike ones are a loop."""
    width = k.width(F32)
    count = padded(columns) // width
    pairs = min(-count % 3, count // 2)
    threes = (count - 2 * pairs) // 3
    first = 0  # column
    for vectors, blocks in ((3, threes), (2, pairs), (1, count - 2 * pairs - 3 * threes)):
        step = vectors * width
        if blocks * vectors > UNROLLED:
            for column in k.range(first, first + blocks * step, step):
                yield column, vectors
        else:
            yield from ((column, vectors) for column in range(first, first + blocks * step, step))
        first += blocks * step


@kernel
def make_panels(k: Builder, w: F32s, panels: F32s, *, outs: int, ins: int) -> None:
    """W^T by blocks of columns, each (I, vectors of the block): what a tile reads lies together."""
    width = k.width(F32)
    for column, vectors in column_blocks(k, outs):
        for v in range(vectors):
            panel = panels + (column * ins + v * width)
            for i in k.range(0, padded(ins), width):
                square = [_row_of(k, w, column + v * width, r, i, outs, ins) for r in range(width)]
                for c, line in enumerate(k.transposed(square)):
                    for _ in k.when(k.integer(i + c) < ins):
                        panel.store((i + c) * (vectors * width), line)


def _row_of(k: Builder, w: Pointer, first: Number, r: int, i: Number, outs: int, ins: int) -> Value:
    """A vector of row first + r of W, zeros where there is no such row."""
    row = k.zeros(k.width(F32), F32)
    for _ in k.when(k.integer(first + r) < outs):
        row.set(w.vector((first + r) * padded(ins) + i, row.lanes))
    return k.value(row)


@kernel
def products(
    k: Builder,
    x: F32s,
    w: F32s,
    y: F32s,
    other: F32s,
    start: Int,
    stop: Int,
    *,
    ins: int,
    outs: int,
    panels: bool,
    finish: str,
) -> None:
    """y (T, outs) = finish(x (T, ins) times w (ins, outs), other); w by rows, or in panels."""
    whole = start + (stop - start) // ROWS * ROWS
    rest = stop - whole
    for column, vectors in column_blocks(k, outs):
        if panels:
            block, stride = w + column * ins, vectors * k.width(F32)
        else:
            block, stride = w + column, padded(outs)

        def tile(t: Number, rows: int) -> None:
            sums = _tile(k, x + t * padded(ins), block, rows, vectors, ins, stride)
            result, beside = y + t * padded(outs) + column, other + t * padded(outs) + column
            for at, total in sums:
                place = at[0] * padded(outs) + at[1] * k.width(F32)
                value = _FINISH[finish](k, k.value(total), lambda: beside.vector(place, k.width(F32)))
                result.store(place, value)

        for t in k.range(start, whole, ROWS):
            tile(t, ROWS)
        for rows in range(1, ROWS):
            for _ in k.when(rest.equals(rows)):
                tile(whole, rows)


def _tile(
    k: Builder, x: Pointer, w: Pointer, rows: int, vectors: int, ins: int, stride: int
) -> list[tuple[tuple[int, int], Variable]]:
    """The sums of some rows and vectors, by (row, vector)."""
    width = k.width(F32)
    sums = [((r, v), k.zeros(width, F32)) for r in range(rows) for v in range(vectors)]
    for i in k.range(ins):
        loaded = [w.vector(i * stride + v * width, width) for v in range(vectors)]
        spread = [k.spread(x[r * padded(ins) + i], width) for r in range(rows)]
        for (r, v), total in sums:
            total.accumulate(loaded[v], spread[r])
    return sums


@kernel
def weight_gradient(k: Builder, x: F32s, dy: F32s, dw: F32s, start: Int, stop: Int, *, ins: int, outs: int) -> None:
    """dw (outs, ins) += dy (T, outs)^T x (T, ins)."""
    width = k.width(F32)
    whole = outs // ROWS * ROWS
    for column, vectors in column_blocks(k, ins):

        def tile(out: Number, rows: int) -> None:
            result = dw + out * padded(ins) + column
            places = [(r, v, r * padded(ins) + v * width) for r in range(rows) for v in range(vectors)]
            sums = [k.zeros(width, F32) for _ in places]
            for t in k.range(start, stop):
                line = x + t * padded(ins) + column
                loaded = [line.vector(v * width, width) for v in range(vectors)]
                spread = [k.spread(dy[t * padded(outs) + out + r], width) for r in range(rows)]
                for total, (r, v, _) in zip(sums, places, strict=True):
                    total.accumulate(loaded[v], spread[r])
            for total, (_, _, at) in zip(sums, places, strict=True):
                result.store(at, result.vector(at, width) + total)

        for out in k.range(0, whole, ROWS):
            tile(out, ROWS)
        if outs % ROWS:
            tile(whole, outs % ROWS)
