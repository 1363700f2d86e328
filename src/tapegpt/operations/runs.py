"""Which row of a table a run of tokens takes: the last `n` up to each position. Shapes: tokens (T, 1), result (T, 1).

A run's row is a hash of its tokens: runs of all lengths may share one table of fixed size, and some share a row. Before
a document, or a window of one, every token is BOS. Not here: the rows themselves (`embedding.py`).
"""

from __future__ import annotations

from tapegpt.machine.language import U32
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot
from tapegpt.value import Value as Scalar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.machine.language import Builder, Operand, Value
    from tapegpt.value import Matrix

_MULTIPLIER = 0x9E3779B1  # 2^32 over the golden ratio (Knuth, The Art of Computer Programming 3, 6.4)
_WORD = 0xFFFFFFFF


class Runs(Operation):
    """`Runs(n, rows, bos)(tokens)`: from 0 to rows - 1."""

    name = "runs"
    formula = "row for the last tokens"
    real = None
    takes = (1,)

    def __init__(self, n: int, rows: int, bos: int) -> None:
        self.n, self.rows, self.bos = n, rows, bos

    def __str__(self) -> str:
        return f"runs n={self.n}"

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return 1 << 32

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        tokens = [int(token.data) for (token,) in inputs[0]]
        before = [self.bos] * (self.n - 1) + tokens
        return [[Scalar(self._row(before[t : t + self.n]))] for t in range(len(tokens))]

    def _row(self, tokens: list[int]) -> int:
        run = 0
        for token in reversed(tokens):
            run = ((run ^ token) * _MULTIPLIER) & _WORD
        return ((run ^ run >> 15) * _MULTIPLIER & _WORD) * self.rows >> 32

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        if batch.cached:
            return CachedRuns(self, batch), ("positions", "lines")
        return PackedRuns(self.n, self.rows, self.bos), ("positions",)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        tokens = inputs[0].value
        for t in k.range(out.start, out.stop):

            def before(back: int) -> Value:
                return k.select(t >= back, tokens[k.maximum(t - back, 0)], self.bos)

            out.value[t] = self._hashed(k, before)

    def _hashed(self, k: Builder, token_before: Callable[[int], Operand]) -> Value:
        run = k.integer(0)
        for back in range(self.n):
            run = ((run ^ token_before(back)) * _MULTIPLIER) & _WORD
        return (((run ^ (run >> 15)) * _MULTIPLIER & _WORD) * self.rows) >> 32

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        raise AssertionError("token ids have no gradient")


class PackedRuns(Runs):
    """`PackedRuns(...)(tokens, positions)`: a document begins where the position is 0."""

    takes = (2,)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        tokens, positions = (slot.value for slot in inputs)
        for t in k.range(out.start, out.stop):

            def before(back: int) -> Value:
                exists = positions[t] >= back
                return k.select(exists, tokens[k.select(exists, t - back, t)], self.bos)

            out.value[t] = self._hashed(k, before)


class CachedRuns(Runs):
    """`CachedRuns(runs, batch)(tokens, positions, lines)`: keeps the tokens of each string."""

    takes = (3,)

    def __init__(self, runs: Runs, batch: Batch) -> None:
        super().__init__(runs.n, runs.rows, runs.bos)
        self._batch = batch

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return (1 << 32, self._batch.block_size, self._batch.rows)[place]

    def kept(self, positions: int, *inputs: Shape) -> int:
        return self._batch.rows * self._batch.block_size

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        tokens, positions, lines = (slot.value for slot in inputs)
        kept = scratch.kept.cast(U32)
        for t in k.range(out.start, out.stop):
            line, place = kept + lines[t] * self._batch.block_size, positions[t]
            line[place] = tokens[t]

            def before(back: int) -> Value:
                return k.select(place >= back, line[k.maximum(place - back, 0)], self.bos)

            out.value[t] = self._hashed(k, before)
