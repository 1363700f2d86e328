"""How kernels walk matrices: row after row, along a row; and what they compute of one row.

Rows are padded with zeros, see `operations/base.py`: `vectors` includes the padding and `across` does not. Not here:
what operations do with rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tapegpt.autograd.operations.base import Slot, padded
from tapegpt.autograd.operations.functions import exp
from tapegpt.machine.language import F32, F64, I32, Builder, F64s, Int, Number, Operand, Pointer, Type, Value, kernel

UNROLLED = 8  # blocks that are written out one by one; more become a loop, or wide models would take long to compile


def row_by_row(
    k: Builder, node: Slot, *matrices: Pointer, reverse: bool = False
) -> Iterator[tuple[Int, list[Pointer]]]:
    """Row after row of matrices as wide as a node, in `reverse` the last first: (t, where row t of each begins)."""
    for t in k.range(node.stop - 1, node.start - 1, -1) if reverse else k.range(node.start, node.stop):
        yield t, [matrix + t * node.stride for matrix in matrices]


def broadcast_row(x: Slot, out: Slot, t: Number) -> Number:
    """Offset of the row of x that belongs to row t of `out`; x may have one row for all."""
    return t * x.stride if x.shape.rows == out.shape.rows else 0


def broadcast(k: Builder, matrix: Pointer, x: Slot, out: Slot, t: Number, c: Number, lanes: int) -> Value:
    """Numbers for row t of `out`, columns c and on, of a matrix as x, which may have one row or column for all."""
    row = matrix + broadcast_row(x, out, t)
    return row.vector(c, lanes) if x.columns == out.columns else k.spread(row[0], 0 if lanes == 1 else lanes)


def position_of(t: Int, *positions: Slot) -> Operand:
    """Position of a row in its document, from the node in `positions`; without it all rows are one document."""
    return positions[0].value[t] if positions else t


# --- along a row ------------------------------------------------------------------------------------------------


def vectors(k: Builder, columns: int, kind: Type = F32) -> Iterator[Number]:
    """Offset of each vector of a row, one by one, or in a loop where they are many."""
    for offset, _ in blocks(k, padded(columns) // k.width(kind), 1, kind):
        yield offset


def across(k: Builder, columns: int, kind: Type = F64) -> Iterator[tuple[Number, int]]:
    """Cover `columns` elements: (offset, lanes), whole vectors, in a loop where they are many, and then the rest."""
    width = k.width(kind)
    whole = columns // width * width
    for offset, _ in blocks(k, whole // width, 1, kind):
        yield offset, width
    for offset, lanes in k.vectors(columns - whole, kind):
        yield whole + offset, lanes


def blocks(
    k: Builder, count: int, size: int, kind: Type = F64, unrolled: int = UNROLLED
) -> Iterator[tuple[Number, int]]:
    """Cover so many vectors in blocks: (offset of the first element, vectors), more than `unrolled` in a loop."""
    step, whole = size * k.width(kind), count // size
    if whole > unrolled:
        for offset in k.range(0, whole * step, step):
            yield offset, size
    else:
        for block in range(whole):
            yield block * step, size
    if count % size:
        yield whole * step, count % size


def one_by_one(k: Builder, columns: int, kind: Type, *, reverse: bool = False) -> Iterator[tuple[Number, int]]:
    """Cover a row that is summed: (offset, lanes); in f64 one number at a time, in order."""
    if kind is F64:
        for c in k.range(columns - 1, -1, -1) if reverse else k.range(columns):
            yield c, 1
    else:
        yield from across(k, columns, kind)


def mask_columns(k: Builder, vector: Value, start: Number, columns: int, other: float) -> Value:
    """The lanes that are columns, and `other` in the lanes behind the last column."""
    is_whole = columns == padded(columns) or (isinstance(start, int) and start + vector.lanes <= columns)
    if is_whole or not vector.lanes:
        return vector
    rest = k.convert(k.integer(columns - start), I32)
    return k.select(k.lane_numbers(vector.lanes) < rest, vector, other)


# --- of a row ---------------------------------------------------------------------------------------------------


def share_of(k: Builder, count: Number, kind: Type = F64) -> Value:
    """1 / count: the weight of one number in a mean."""
    return 1.0 / k.convert(k.integer(count), kind)


def sum_of_lanes(k: Builder, x: Value) -> Value:
    """The sum of all lanes, pairwise; a scalar is its own."""
    return k.group_sum(x, x.lanes).lane(0) if x.lanes else x


class LazyRow:
    """A row that is computed where it is read."""

    def __init__(self, kind: Type, vector: Callable[[Number, int], Value]) -> None:
        self.type, self.vector = kind, vector


Row = Pointer | LazyRow


def product(a: Row, b: Row) -> Row:
    """a * b, number by number."""
    return LazyRow(a.type, lambda c, lanes: a.vector(c, lanes) * b.vector(c, lanes))


def total(k: Builder, row: Row, columns: int, *, reverse: bool = False) -> Value:
    """Sum of a row: of f64 in index order, in `reverse` the last first; of f32 lane by lane."""
    if row.type is F64:
        return total_in_order(k, row, columns, reverse=reverse)
    width = k.width(F32)
    sums = k.zeros(width, F32)
    for c in vectors(k, columns):
        sums += row.vector(c, width)
    return k.group_sum(sums, width).lane(0)


def total_in_order(k: Builder, row: Row, columns: Number, *, reverse: bool = False) -> Value:
    """Sum of a row of f64 in index order, in `reverse` the last first."""
    result = k.zeros()
    for c in k.range(columns - 1, -1, -1) if reverse else k.range(columns):
        result += row.vector(c, 1)
    return k.value(result)


def dot(k: Builder, a: Row, b: Row, columns: int, *, reverse: bool = False) -> Value:
    """Sum of the products of two rows, as `total`; of f32 with one rounding where the target fuses it."""
    if a.type is F64:
        return total(k, product(a, b), columns, reverse=reverse)
    return dot_in_lanes(k, a, b, columns).lane(0)


def dot_in_lanes(k: Builder, a: Row, b: Row, columns: int) -> Value:
    """That of f32, on all lanes of a vector."""
    width = k.width(F32)
    sums = k.zeros(width, F32)
    for c in vectors(k, columns):
        sums.accumulate(a.vector(c, width), b.vector(c, width))
    return k.group_sum(sums, width)


def exponentiate(k: Builder, row: Pointer, exponentials: Pointer, columns: Number) -> Value:
    """exponentials = exp(row - max(row)), in f64; their sum in index order."""
    less_largest(k, row, exponentials, columns)
    replace_by_exponentials(k, exponentials, 1, 0, columns)
    return total_in_order(k, exponentials, columns)


def less_largest(k: Builder, row: Pointer, result: Pointer, columns: Number) -> None:
    """result = row - max(row), in f64."""
    largest, width = largest_of(k, row, columns), k.width()
    for c in k.range(0, columns, width):
        result.store(c, row.vector(c, width) - largest)


@kernel
def replace_by_exponentials(k: Builder, x: F64s, rows: Int, stride: Int, columns: Int) -> None:
    """x = exp(x); in whole vectors, some of whose lanes are behind the last number, where that calls no function."""
    lanes = k.width() if k.target.known_exp else 1
    for r in k.range(rows):
        row = x + r * stride
        for c in k.range(0, columns, lanes):
            numbers = row.vector(c, lanes)
            if numbers.lanes:
                numbers = k.select(k.lane_numbers(lanes) < k.convert(columns - c, I32), numbers, 0.0)
            row.store(c, exp(k, numbers))


def largest_of(k: Builder, row: Pointer, columns: Number) -> Value:
    """The largest element of a row: of a fixed number of columns whole vectors at once, then their lanes."""
    if not isinstance(columns, int):
        largest = k.variable(row[0])
        for i in k.range(1, columns):
            largest.set(k.maximum(row[i], largest))
        return k.value(largest)
    whole, rest = k.variable(row.vector(0, k.vectors(columns)[0][1])), k.variable(row[0])
    for c, lanes in across(k, columns):
        if lanes == whole.lanes:
            whole.set(k.maximum(row.vector(c, lanes), whole))
        else:
            rest.set(k.maximum(k.reduce_max(row.vector(c, lanes)), rest))
    return k.maximum(k.reduce_max(whole), rest)


def fast_exponentiate(k: Builder, row: Pointer, e: Pointer, columns: int) -> tuple[Value, Value]:
    """e = exp(row - max(row)), in f32, zeros behind; their sum and the largest of the row."""
    width = k.width(F32)
    peaks = k.variable(k.constant(-3e38, F32, width))
    for c in vectors(k, columns):
        peaks.set(k.maximum(mask_columns(k, row.vector(c, width), c, columns, -3e38), peaks))
    largest = k.group_max(peaks, width)
    total = k.zeros(width, F32)
    for c in vectors(k, columns):
        exponentials = mask_columns(k, exp(k, row.vector(c, width) - largest), c, columns, 0.0)
        e.store(c, exponentials)
        total += exponentials
    return k.group_sum(total, width).lane(0), largest.lane(0)


def accumulate(row: Pointer, column: Number, gradient: Value, *, fresh: bool) -> None:
    """Set numbers of a row if they are `fresh`, else add to them."""
    lanes = gradient.lanes or 1
    row.store(column, gradient if fresh else row.vector(column, lanes) + gradient)


def put_row(k: Builder, x: Pointer, y: Pointer, exists: Operand, columns: int, *, fresh: bool = True) -> None:
    """y = or += x, or zeros unless it `exists`."""
    for c in vectors(k, columns, x.type):
        accumulate(y, c, k.select(exists, x.vector(c, k.width(x.type)), 0.0), fresh=fresh)


def sum_rows(k: Builder, node: Slot, dbias: Pointer) -> None:
    """dbias += sum over rows of the node's gradient, in f32."""
    width = k.width(F32)
    for _, (dout,) in row_by_row(k, node, node.grad):
        for c in vectors(k, node.columns):
            dbias.store(c, dbias.vector(c, width) + dout.vector(c, width))
