"""Rows moved down within their document: what stood n positions before. Shapes: x and the result (T, C)."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, is_whole, shown
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.rows import put_row
from tapegpt.value import Value as Scalar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.machine.language import Builder, Operand
    from tapegpt.value import Matrix


class Shift(Operation):
    """`Shift(n)(x)`: row t is row t - n of x, zeros before the first."""

    name = "shift"
    formula = "row of an earlier position"
    real = None
    takes: tuple[int, ...] = (1,)

    def __init__(self, n: int) -> None:
        if not is_whole(n) or n < 1:
            raise TapeGPTError(f"shift: rows move by a whole number of at least 1, not {shown(n)}")
        self.n = n

    def __str__(self) -> str:
        return f"shift n={self.n}"

    def shape(self, *inputs: Shape) -> Shape:
        self.expect(inputs[0].rows is None, "needs a row for each position", inputs[0])
        return inputs[0]

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        (x,) = inputs
        rows = (x[t - self.n] if t >= self.n else [Scalar(0.0) for _ in row] for t, row in enumerate(x))
        return [[Scalar(number.data, (number,), (1,)) for number in row] for row in rows]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        if batch.cached:
            return CachedShift(self.n, batch), ("positions", "lines")
        return PackedShift(self.n), ("positions",)

    def position(self, inputs: Sequence[Slot], t: Operand) -> Operand:
        """Where a row stands in its document."""
        return t

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y[t] = x[t - n]."""
        row = padded(out.columns)
        for t in k.range(out.start, out.stop):
            exists = self.position(inputs, t) >= self.n
            earlier = k.select(exists, t - self.n, t)
            put_row(k, inputs[0].value + earlier * row, out.value + t * row, exists, out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """dx[t] = or += dy[t + n]."""
        x, row = inputs[0], padded(out.columns)
        if x.gradient is not None:
            for t in k.range(out.start, out.stop):
                later = k.minimum(t + self.n, k.integer(out.stop) - 1)
                exists = (later - t).equals(self.n) & (self.position(inputs, later) >= self.n)
                put_row(k, out.grad + later * row, x.gradient + t * row, exists, out.columns, adds=not x.fresh)


class PackedShift(Shift):
    """`PackedShift(n)(x, positions)`."""

    takes = (2,)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return (0, 1 << 32)[place]

    def position(self, inputs: Sequence[Slot], t: Operand) -> Operand:
        return inputs[1].value[t]


class CachedShift(Shift):
    """`CachedShift(n, batch)(x, positions, lines)`: keeps the last n rows of each string, in a ring."""

    takes = (3,)

    def __init__(self, n: int, batch: Batch) -> None:
        super().__init__(n)
        self._batch, self._ring = batch, min(n, batch.block_size)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return (0, self._batch.block_size, self._batch.rows)[place]

    def kept(self, positions: int, *inputs: Shape) -> int:
        return self._batch.rows * self._ring * padded(inputs[0].columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, positions, lines = (slot.value for slot in inputs)
        row = padded(out.columns)
        for t in k.range(out.start, out.stop):
            kept = scratch.kept + (lines[t] * self._ring + positions[t] % self._ring) * row
            put_row(k, kept, out.value + t * row, positions[t] >= self.n, out.columns)
            put_row(k, x + t * row, kept, positions[t] >= 0, out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        raise AssertionError("strings are not generated backwards")
