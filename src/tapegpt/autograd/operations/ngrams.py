"""The row of a table for the n-gram that ends at each position. Shapes: tokens (T, 1), result (T, 1).

It is a hash of the n tokens: n-grams of all lengths may share one table of fixed size, and some share a row. Before a
document, or a window of one, every token is BOS. Not here: the rows themselves (`embedding.py`).
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot
from tapegpt.autograd.operations.rows import position_of
from tapegpt.autograd.value import Value as Scalar
from tapegpt.machine.language import U32, Builder, Value
from tapegpt.ranges import Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from tapegpt.autograd.value import Matrix

MULTIPLIER = 0x9E3779B1  # 2^32 over the golden ratio (Knuth, The Art of Computer Programming 3, 6.4)
_WORD = 0xFFFFFFFF
LENGTHS, ROWS, IDS = Whole(1, 16), Whole(1, 1 << 24), Whole(0, _WORD)


class NGrams(Operation):
    """`NGrams(n, rows, bos)(tokens)`: from 0 to rows - 1. All rows are one document."""

    name = "ngrams"
    formula = "row for the last tokens"
    real = None
    takes = (1,)
    about_rows = ("positions",)
    keeps_rows = True

    def __init__(self, n: int, rows: int, bos: int) -> None:
        for name, value, numbers in (("n", n, LENGTHS), ("rows", rows, ROWS), ("bos", bos, IDS)):
            numbers.check(f"ngrams: {name}", value)
        self.n, self.rows, self.bos = n, rows, bos
        self.below = rows

    def __str__(self) -> str:
        return f"ngrams n={self.n}"

    def shape(self, tokens: Shape, *_: Shape) -> Shape:
        return tokens

    def index_bounds(self, *inputs: Shape) -> list[int]:
        return [1 << 32, *super().index_bounds(*inputs)[1:]]

    def reference(self, inner: dict[str, Matrix], tokens: Matrix) -> Matrix:
        ids = [self.bos] * (self.n - 1) + [int(token.data) for (token,) in tokens]
        return [[Scalar(self._row(reversed(ids[t : t + self.n])))] for t in range(len(tokens))]

    def _row(self, tokens: Iterable[Any]) -> Any:
        """The row for n tokens, the last first: whole numbers, or those of a kernel."""
        ngram: Any = 0
        for token in tokens:
            ngram = (token ^ ngram) * MULTIPLIER & _WORD
        return ((ngram ^ (ngram >> 15)) * MULTIPLIER & _WORD) * self.rows >> 32

    def kept_size(self, positions: int, *_: Shape) -> int:
        return self.batch.lines * self.batch.block_size

    def forward(self, k: Builder, scratch: Scratch, out: Slot, tokens: Slot, *about: Slot) -> None:
        """y[t] = the row for tokens[t], tokens[t - 1], ...; the tokens of a string that is generated are kept."""
        for t in k.range(out.start, out.stop):
            position = position_of(t, *about[:1])
            if self.batch.cached:
                line = scratch.kept.cast(U32) + about[1].value[t] * self.batch.block_size
                line[position] = tokens.value[t]

            def before(back: int) -> Value:
                exists = position >= back
                if self.batch.cached:
                    return k.select(exists, line[k.maximum(position - back, 0)], self.bos)
                return k.select(exists, tokens.value[k.select(exists, t - back, t)], self.bos)

            out.value[t] = self._row(map(before, range(self.n)))
