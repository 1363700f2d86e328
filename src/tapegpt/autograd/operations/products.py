"""Matrix products, tile by tile, every sum in a register of its own.

    y[r, c] = sum over i of x[r, i] * w[i, c]

x may be seen with its rows as columns, so that y = x W^T, dx = dy W, dW = dy^T x and the products of attention are all
one kernel: `products` in f64, `fast_products` in f32. Sums run in parallel in the lanes, never inside one, and each is
added up in the order of i, in any tile: a row's bits do not depend on its neighbours. In f32, where rows of y
have few sums, each has several parts. Not here: what is multiplied (`linear.py`, `attention/tiles.py`).
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import PAD, View, padded
from tapegpt.autograd.operations.rows import blocks
from tapegpt.machine.language import F32, F64, Builder, F32s, Int, Number, Operand, Pointer, Value, Variable, kernel
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from tapegpt.machine.target import Target

    Sum = tuple[int, int, Variable]  # row, column, register


def _add_products(k: Builder, x: View, w: View, sums: list[Sum], order: Iterable[Number]) -> None:
    """Add to the sums of a tile the products of rows of x and columns of w."""
    width = k.width(w.start.type)
    rows, columns = sorted({r for r, _, _ in sums}), sorted({c for _, c, _ in sums})
    for i in order:
        loaded = {c: w.vector(i, c, width) for c in columns}
        column = x.start + i * x.step
        spread = {r: k.spread(column[r * x.stride], width) for r in rows}
        for r, c, total in sums:
            if total.type is F64:
                total += loaded[c] * spread[r]
            else:
                total.accumulate(loaded[c], spread[r])


# --- f64 ------------------------------------------------------------------------------------------------------------


@kernel
def products(k: Builder, x: View, w: View, y: View, *last: Pointer, fresh: bool, reverse: bool = False) -> None:
    """y = or += x w in f64, one product at a time, in the order of i or in `reverse`.

    With `last`, which names an i for each row, the product of this one comes last.
    """
    width = k.width()
    height, size = (1, _tile_size(k, y)[1]) if last else _tile_size(k, y)
    for column, vectors in blocks(k, padded(y.columns) // width, size, unrolled=1):
        for t, rows in row_blocks(k, y.rows, height):
            block = y.at(t, column)
            cells = [(r, v * width) for r in range(rows) for v in range(vectors)]
            sums = [(r, c, k.zeros(width) if fresh else k.variable(block.vector(r, c, width))) for r, c in cells]
            order = _order(k, w.rows, reverse, *[ids[t] for ids in last])
            _add_products(k, x.at(t), w.at(0, column), sums, order)
            for r, c, total in sums:
                block.store(r, c, total)


def _tile_size(k: Builder, y: View) -> tuple[int, int]:
    """Rows and vectors of a tile, whose sums take half of the registers; a document may have few rows."""
    half = k.target.registers // 2
    if not isinstance(y.rows, int):
        return 2, half // 2
    vectors = min(padded(y.columns) // k.width(), 4)
    return max(1, min(8, y.rows, half // vectors)), vectors


def _order(k: Builder, count: Number, reverse: bool, *last: Value) -> Iterator[Number]:
    """From 0 up to count - 1, or in `reverse` down to 0 without `last`, and then this."""
    if not reverse:
        yield from k.range(count)
        return
    for below in (*last, k.integer(-1)):
        yield from k.range(count - 1, below, -1)
        count = below
    yield from last


# --- f32 ------------------------------------------------------------------------------------------------------------

CHAINS = 4  # sums of a row that keep the multiply-adds busy: each takes four cycles


class Panels(Record):
    """A matrix by blocks of columns, each (rows, columns of the block): what a tile reads lies together."""

    start: Pointer
    rows: int


class Loose(Record):
    """A matrix whose blocks of columns a tile reads where they are, or from a copy in a panel (rows, `PAD`)."""

    matrix: View
    panel: Pointer

    @property
    def rows(self) -> Number:
        return self.matrix.rows

    def is_copied(self, columns: int) -> bool:
        """Whether a copy pays: a cache line or less from each row of a large matrix; 12 % of a step at n_embd 384."""
        rows = self.rows if isinstance(self.rows, int) else 256
        return columns <= PAD and rows * self.matrix.columns >= 1 << 15


class Finish(Record):
    """How a sum begins, with a number of a row, and ends: by a rule of `FINISHES`, given what stands beside it."""

    rule: str = ""
    other: View | None = None  # as y; None is y itself
    bias: Pointer | None = None


FINISHES: dict[str, Callable[[Builder, Value, Callable[[], Value]], Value]] = {
    "": lambda k, total, other: total,
    "+": lambda k, total, other: total + other(),
    "*": lambda k, total, other: total * other(),
    "relu": lambda k, total, other: k.maximum(total, 0.0),
    "* relu'": lambda k, total, other: k.select(other() > 0.0, total, 0.0),
}


@kernel
def fast_products(k: Builder, x: View, w: View | Panels | Loose, y: View, finish: Finish) -> None:
    """y = finish(bias + x w) in f32; code is shorter where y has rows of fixed number."""
    width = k.width(F32)
    parts = max(1, CHAINS // (padded(y.columns) // width)) if isinstance(w, Panels) else 1
    for column, vectors in column_blocks(k, y.columns):
        block, height = _block(k, w, column, vectors), tile_rows(k.target, vectors * parts)

        for first, size in row_blocks(k, y.rows, height):
            result, beside = y.at(first, column), (finish.other or y).at(first, column)
            cells = [(r, v * width) for r in range(size) for v in range(vectors)]
            sums = [(r, c, _begin(k, finish, column + c)) for r, c in cells]
            _add_in_parts(k, x.at(first), block, sums, parts)
            for r, c, total in sums:
                number = FINISHES[finish.rule](k, k.value(total), lambda: beside.vector(r, c, width))
                result.store(r, c, number)


def tile_rows(target: Target, vectors: int) -> int:
    """Rows of a tile of so many vectors: its sums take three quarters of the registers."""
    return min(12, target.registers * 3 // 4 // vectors)


def _add_in_parts(k: Builder, x: View, w: View, sums: list[Sum], parts: int) -> None:
    """Add up each sum in so many parts, which do not wait for one another: part p has each i that leaves p."""
    count = w.rows
    if parts == 1:
        _add_products(k, x, w, sums, k.range(count))
        return
    assert isinstance(count, int), "panels have rows of fixed number"
    chains = [sums, *[[(r, c, k.zeros(k.width(F32), F32)) for r, c, _ in sums] for _ in range(1, parts)]]
    whole = count // parts * parts
    for i in k.range(0, whole, parts):
        for part, chain in enumerate(chains):
            _add_products(k, x, w, chain, [i + part])
    for part in range(count - whole):
        _add_products(k, x, w, chains[part], [whole + part])
    while len(chains) > 1:
        half = len(chains) // 2
        for chain, other in zip(chains[:half], chains[half:], strict=True):
            for (_, _, total), (_, _, more) in zip(chain, other, strict=True):
                total += more
        chains = chains[:half]


def row_blocks(k: Builder, rows: Number, height: int) -> Iterator[tuple[Number, int]]:
    """Cover rows in tiles of this height, and the rest in 8, 4, 2 and 1: (first row, rows)."""
    rest: Any = rows % height
    for first in k.range(0, rows - rest, height):
        yield first, height
    for size in (8, 4, 2, 1):
        is_left = rest & size if isinstance(rest, int) else size < height and (rest & size).differs(0)
        for _ in k.when(is_left) if isinstance(is_left, Operand) else range(bool(is_left)):
            yield rows - rest % (2 * size), size


def _block(k: Builder, w: View | Panels | Loose, column: Number, vectors: int) -> View:
    """The columns of w that a tile takes."""
    columns = vectors * k.width(F32)
    if isinstance(w, Panels):
        return View(w.start + column * w.rows, w.rows, columns, columns)
    source = (w if isinstance(w, View) else w.matrix).at(0, column)
    if isinstance(w, View) or not w.is_copied(columns):
        return source
    copy = View(w.panel, w.rows, columns, columns)
    for i in k.range(w.rows):
        for c in range(0, columns, k.width(F32)):
            copy.store(i, c, source.vector(i, c, k.width(F32)))
    return copy


def _begin(k: Builder, finish: Finish, column: Number) -> Variable:
    width = k.width(F32)
    return k.zeros(width, F32) if finish.bias is None else k.variable(finish.bias.vector(column, width))


def column_blocks(k: Builder, columns: int) -> Iterator[tuple[Number, int]]:
    """Cover the vectors of a row in blocks of at most three, or two: (first column, vectors). Alike ones are a loop."""
    width = k.width(F32)
    count, most = padded(columns) // width, 3 if k.target.registers > 16 else 2
    fewer = min(-count % most, count // (most - 1))  # blocks of one vector less
    whole = (count - fewer * (most - 1)) // most
    rest = count - whole * most - fewer * (most - 1)
    first = 0  # column
    for vectors, number in ((most, whole), (most - 1, fewer), (1, rest)):
        step = vectors * width
        end = first + number * step
        for column in k.range(first, end, step) if number > 1 else range(first, end, step):
            yield column, vectors
        first = end


@kernel
def make_panels(k: Builder, w: View, panels: F32s, *, outs: int) -> None:
    """w^T (I, O) by blocks of columns; rows of w up to `outs` that it does not have count as zeros."""
    width, ins = k.width(F32), w.columns
    for column, vectors in column_blocks(k, outs):
        for v in range(vectors):
            row, panel = column + v * width, panels + (column * ins + v * width)
            end = row + width if isinstance(row, int) else padded(outs)
            whole = isinstance(w.rows, int) and end <= w.rows and ins == padded(ins)
            for i in k.range(0, padded(ins), width):
                x, y = w.at(row, i).start, panel + i * (vectors * width)
                _turn_square(k, x, w.stride, w.rows - row, y, vectors * width, ins - i, whole=whole)


@kernel
def _turn_square(
    k: Builder, x: F32s, x_stride: Int, rows: Int, y: F32s, y_stride: Int, columns: Int, *, whole: bool
) -> None:
    """y = x^T, as many rows and columns as a vector has lanes; unless x is `whole` it has fewer."""
    width = k.width(F32)
    square = [k.zeros(width, F32) for _ in range(width)]
    for r, line in enumerate(square):
        for _ in range(1) if whole else k.when(rows > r):
            line.set(x.vector(x_stride * r, width))
    for c, column in enumerate(k.transpose([k.value(line) for line in square])):
        for _ in range(1) if whole else k.when(columns > c):
            y.store(y_stride * c, column)
