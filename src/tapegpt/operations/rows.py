"""Walking over a row by whole vectors. Rows are padded with zeros, see `operations/base.py`."""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, Int, kernel
from tapegpt.operations.base import UNROLLED, padded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.machine.language import Number, Operand, Pointer, Type, Value


def vectors(k: Builder, columns: int, kind: Type = F32) -> Iterator[Number]:
    """Offset of each vector of a row, one by one, or in a loop where they are many."""
    width = k.width(kind)
    if padded(columns) // width > UNROLLED:
        yield from k.range(0, padded(columns), width)
    else:
        yield from range(0, padded(columns), width)


def dot(k: Builder, a: Pointer, b: Pointer, columns: int) -> Value:
    """Sum of the products of two rows of f32."""
    width = k.width(F32)
    total = k.zeros(width, F32)
    for c in vectors(k, columns):
        total.accumulate(a.vector(c, width), b.vector(c, width))
    return k.group_sum(total, width).lane(0)


def total(k: Builder, row: Pointer, columns: int) -> Value:
    """Sum of a row."""
    width = k.width(F32)
    sums = k.zeros(width, F32)
    for c in vectors(k, columns):
        sums += row.vector(c, width)
    return k.group_sum(sums, width).lane(0)


def put_row(k: Builder, x: Pointer, y: Pointer, exists: Operand, columns: int, *, adds: bool = False) -> None:
    """y = or += x, zeros where there is none."""
    width = k.width(x.type)
    for c in vectors(k, columns, x.type):
        numbers = k.select(exists, x.vector(c, width), 0.0)
        y.store(c, y.vector(c, width) + numbers if adds else numbers)


@kernel
def sum_rows(k: Builder, dy: F32s, dbias: F32s, start: Int, stop: Int, *, columns: int) -> None:
    """dbias += sum over rows of dy."""
    width = k.width(F32)
    for t in k.range(start, stop):
        for c in vectors(k, columns):
            dbias.store(c, dbias.vector(c, width) + (dy + t * padded(columns)).vector(c, width))
