"""The one matrix product of the fast engine: rows of sums, tile by tile, every sum in a register of its own.

    y[r, c] = finish(bias[c] + sum over i < count of x[r, i] * w[i, c])

Any of x's two strides may be the long one, so that y = x W^T, dx = dy W, dW = dy^T x and the products of attention are
all this kernel. A number of y is one chain of multiply-adds in the order of i whatever tile it is in: a row's bits do
not depend on its neighbours. Not here: what is multiplied (`linear.py`, `attention/tiles.py`).
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, Int, Pointer, Value, Variable, kernel
from tapegpt.operations.base import padded
from tapegpt.operations.rows import UNROLLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tapegpt.machine.language import Number

# How a sum ends, given what stands in y or beside it.
FINISH: dict[str, Callable[[Builder, Value, Callable[[], Value]], Value]] = {
    "": lambda k, total, other: total,
    "+ y": lambda k, total, other: total + other(),
    "+ other": lambda k, total, other: total + other(),
    "relu": lambda k, total, other: k.maximum(total, 0.0),
    "* relu'": lambda k, total, other: k.select(other() > 0.0, total, 0.0),
    "* other": lambda k, total, other: total * other(),
}


@kernel
def products(
    k: Builder,
    x: F32s,
    w: F32s,
    y: F32s,
    other: F32s,
    bias: F32s,
    rows: Int,
    count: Int,
    *,
    x_row: int,
    x_step: int,
    w_step: int,
    y_row: int,
    columns: int,
    finish: str = "",
    has_bias: bool = False,
    fixed_rows: int | None = None,
) -> None:
    """`rows` rows of y, a number that may be fixed; `other` has y's shape.

    x_row and x_step lie between x[r, i] and the next r and i, w_step between w[i] and w[i + 1]; 0 is for panels as
    `make_panels` makes them.
    """
    height = 8 if k.target.registers > 16 else 4  # times three vectors of sums: three quarters of the registers
    whole = rows // height * height
    for column, vectors in column_blocks(k, columns):
        block, step = (w + column, w_step) if w_step else (w + column * count, vectors * k.width(F32))

        def tile(first: Number, size: int) -> None:
            start = x + first * x_row
            sums = bias + column if has_bias else None
            result, beside = y + first * y_row + column, other + first * y_row + column
            for r, v, total in _tile(k, sums, start, block, size, vectors, count, x_row, x_step, step):
                at = r * y_row + v * k.width(F32)
                place = result if finish == "+ y" else beside
                result.store(at, FINISH[finish](k, k.value(total), lambda: place.vector(at, k.width(F32))))

        for first in k.range(0, whole, height):
            tile(first, height)
        for size in range(1, height) if fixed_rows is None else {fixed_rows % height} - {0}:
            for _ in k.when((rows - whole).equals(size)):
                tile(whole, size)


def _tile(
    k: Builder,
    bias: Pointer | None,
    x: Pointer,
    w: Pointer,
    rows: int,
    vectors: int,
    count: Number,
    x_row: int,
    x_step: int,
    w_step: int,
) -> list[tuple[int, int, Variable]]:
    """The sums of some rows and vectors: (row, vector, sum)."""
    width = k.width(F32)

    def begin(v: int) -> Variable:
        return k.zeros(width, F32) if bias is None else k.variable(bias.vector(v * width, width))

    sums = [(r, v, begin(v)) for r in range(rows) for v in range(vectors)]
    for i in k.range(count):
        loaded = [w.vector(i * w_step + v * width, width) for v in range(vectors)]
        column = x + i * x_step
        spread = [k.spread(column[r * x_row], width) for r in range(rows)]
        for r, v, total in sums:
            total.accumulate(loaded[v], spread[r])
    return sums


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
def make_panels(k: Builder, w: F32s, panels: F32s, rows: Int, *, outs: int, ins: int, stride: int) -> None:
    """w^T (I, O) by blocks of columns, each (I, vectors of the block): what a tile reads lies together.

    Rows of w from `rows` on count as zeros; `stride` lies between one and the next.
    """
    width = k.width(F32)
    for column, vectors in column_blocks(k, outs):
        for v in range(vectors):
            panel = panels + (column * ins + v * width)
            for i in k.range(0, padded(ins), width):
                at = column + v * width
                square = [_row_of(k, w + (at + r) * stride + i, k.integer(at + r) < rows) for r in range(width)]
                for c, line in enumerate(k.transposed(square)):
                    for _ in k.when(k.integer(i + c) < ins):
                        panel.store((i + c) * (vectors * width), line)


def _row_of(k: Builder, place: Pointer, present: Value) -> Value:
    """A vector, zeros where it is not present."""
    row = k.zeros(k.width(F32), F32)
    for _ in k.when(present):
        row.set(place.vector(0, row.lanes))
    return k.value(row)
