"""Logits mixed with an n-gram model: the logs of (1 - share) softmax(x) + share p. Shapes: x, result (T, V).

p is the interpolated Kneser-Ney model of `data/ngrams.py`, whose table holds what it has counted. Its distributions are
made from the shortest context to the longest that it knows: p(t | h) = s(ht) + r(h) p(t | h'). While training, which
`noise` tells as in `dropout.py`, x stays as it is: the model knows the training documents, and nothing would be left to
learn of them. Not here: counting.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, row_stride
from tapegpt.autograd.operations.functions import exp, log
from tapegpt.autograd.operations.rows import (
    LazyRow,
    Row,
    accumulate,
    dot,
    exponentiate,
    fast_exponentiate,
    mask_columns,
    row_by_row,
    vectors,
)
from tapegpt.autograd.value import softmax
from tapegpt.data.trie import COLUMNS, SPARE, Trie
from tapegpt.machine.language import F64, U32, Builder, Int, Pointer, Value
from tapegpt.ranges import Number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.autograd.value import Matrix, Vector

_WORDS = 8  # for the contexts of a position


class KneserNey(Operation):
    """`KneserNey(share)(x, tokens, table, noise)`. Keeps softmax(x). All rows are one document."""

    name = "kneser_ney"
    formula = "log of a mixture of the softmax of {n} and an n-gram model"
    real = None
    takes = (4,)
    about_rows = ("positions",)
    keeps_rows = True

    def __init__(self, share: float) -> None:
        Number(0, 1, "[)").check("kneser_ney: share", share)
        self.share = share

    def __str__(self) -> str:
        return f"{self.name} share={self.share!r}"

    def shape(self, x: Shape, tokens: Shape, table: Shape, noise: Shape, *_: Shape) -> Shape:
        fits = x.rows is None and table.rows == COLUMNS and table.columns > SPARE
        self.expect(fits, f"needs logits, and a table of {COLUMNS} rows with more than {SPARE} columns", x, table)
        return x

    def index_bounds(self, *inputs: Shape) -> list[int]:
        return [0, inputs[0].columns, 0, 1 << 32, *super().index_bounds(*inputs)[4:]]

    def reference(self, inner: dict[str, Matrix], x: Matrix, tokens: Matrix, table: Matrix, noise: Matrix) -> Matrix:
        columns = [[number.data for number in row] for row in table]
        ids = [int(token.data) for (token,) in tokens]
        return [
            row if int(number.data) else self._mixed(row, Trie.distribution(columns, ids[: t + 1], len(row)))
            for t, (row, (number,)) in enumerate(zip(x, noise, strict=True))
        ]

    def _mixed(self, row: Vector, distribution: Sequence[float]) -> Vector:
        pairs = zip(softmax(row), distribution, strict=True)
        return [(s * (1 - self.share) + p * self.share).log() for s, p in pairs]

    def kept_size(self, positions: int, x: Shape, *_: Shape) -> int:
        return positions * row_stride(x.columns) + (self.batch.lines * self.batch.block_size or positions) * _WORDS

    def forward(
        self, k: Builder, scratch: Scratch, out: Slot, x: Slot, tokens: Slot, table: Slot, noise: Slot, *about: Slot
    ) -> None:
        """y = log((1 - share) s + share p) with s = softmax(x); y = x while training."""
        trie, kind, columns = Trie(k, table.value, table.stride), out.value.type, out.columns
        width = k.width(kind)
        for t, (row, s, y) in row_by_row(k, out, x.value, scratch.kept, out.value):
            is_training = noise.value[t].differs(0)
            for _ in k.when(is_training):
                for c in vectors(k, columns, kind):
                    y.store(c, row.vector(c, width))
            for _ in k.when(k.logical_not(is_training)):
                trie.distribute(y, columns, self._contexts(k, trie, scratch.kept + out.extent, tokens, t, *about))
                inverse = 1.0 / _exponentiate(k, row, s, columns)
                for c in vectors(k, columns, kind):
                    s.store(c, mask_columns(k, s.vector(c, width) * inverse, c, columns, 0.0))
                    mixed = s.vector(c, width) * (1 - self.share) + y.vector(c, width) * self.share
                    y.store(c, mask_columns(k, log(k, mixed), c, columns, 0.0))

    def _contexts(
        self, k: Builder, trie: Trie, kept: Pointer, tokens: Slot, t: Int, positions: Slot | None = None, *lines: Slot
    ) -> Pointer:
        """The contexts after the token of a row, kept for the next position of its document."""
        position = positions.value[t] if positions else t
        place = lines[0].value[t] * self.batch.block_size + position if lines else t
        contexts = kept.cast(U32) + place * _WORDS
        for _ in k.when(position.equals(0)):
            trie.begin(contexts, tokens.value[t])
        for _ in k.when(position > 0):
            trie.advance(contexts + -_WORDS, contexts, tokens.value[t])
        return contexts

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, *inputs: Slot) -> None:
        """dx = or += dy r - s sum(dy r) with r = (1 - share) s / exp(y); dy while training."""
        kind, noise, columns = out.value.type, inputs[2], out.columns
        width = k.width(kind)
        for t, (y, s, dout, dx) in row_by_row(k, out, out.value, scratch.kept, out.grad, x.grad):
            is_training = noise.value[t].differs(0)
            for _ in k.when(is_training):
                for c in vectors(k, columns, kind):
                    accumulate(dx, c, dout.vector(c, width), fresh=x.fresh)
            for _ in k.when(k.logical_not(is_training)):
                ratio = self._ratio(k, s, y)
                total = dot(k, dout, ratio, columns)
                for c in vectors(k, columns, kind):
                    gradient = dout.vector(c, width) * ratio.vector(c, width) - s.vector(c, width) * total
                    accumulate(dx, c, gradient, fresh=x.fresh)

    def _ratio(self, k: Builder, s: Pointer, y: Pointer) -> Row:
        """The share of the softmax in each probability of the mixture."""
        return LazyRow(y.type, lambda c, lanes: s.vector(c, lanes) * (1 - self.share) / exp(k, y.vector(c, lanes)))


def _exponentiate(k: Builder, row: Pointer, e: Pointer, columns: int) -> Value:
    """e = exp(row - max(row)); their sum."""
    if row.type is F64:
        return exponentiate(k, row, e, columns)
    return fast_exponentiate(k, row, e, columns)[0]
