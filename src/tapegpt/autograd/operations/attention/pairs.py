"""Causal multi-head self-attention over the documents of a batch, pair by pair. Shapes: q, k, v and the result (T, E).

Columns are as `heads.py` says: heads lie next to each other in the lanes of a vector, a head's sum is a few lane
permutations, and exponentials come out on every lane where they are needed. Made for short documents: the work for a
pair of positions is done once for each lane of the head; `tiles.py` is for long ones.

Letters: t looks at s <= t, both of one document; E columns of all heads; a group is the heads of one vector, or one
head of several vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tapegpt.autograd.operations.attention.heads import Heads, OverHeads, documents
from tapegpt.autograd.operations.base import Scratch, Shape, Slot, View, row_stride
from tapegpt.autograd.operations.functions import exp
from tapegpt.machine.language import F32, Builder, Number, Operand, Pointer, Value


class PairedAttention(OverHeads):
    """`PairedAttention(heads)(qkv, ends)`: `ends` (T, 1) is where the document of a position ends.

    Keeps the exponentials of each pair and the inverse of their sums.
    """

    name = "attention"

    def kept_size(self, positions: int, *inputs: Shape) -> int:
        block_size = self.heads.block_size
        pairs = positions * (block_size + 1) // 2
        return self.spare(positions) + (pairs + 3 * positions + block_size) * row_stride(self.heads.columns)

    def _kept(self, scratch: Scratch, out: Slot) -> _Kept:
        return _Kept(scratch.kept + self.spare(out.rows), out, self.heads.block_size)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y_t = sum over s of softmax(q_t k_s / sqrt(head_dim)) v_s."""
        q, keys, values = self.values(*inputs)
        y, kept, groups = out.whole(out.value), self._kept(scratch, out), Groups(k, self.heads)
        weight = k.variable(k.integer(0))

        def keep(exponential: Value) -> None:
            kept.weights.store(weight, exponential)
            weight.set(weight + groups.width)

        for first, end in documents(k, out, inputs[-1], self.heads.block_size):
            for column in groups:
                own_keys, own_values = keys.at(first, column), values.at(first, column)
                for t in k.range(first, end):
                    query = groups.load(q, t, column)
                    count = t - first + 1
                    result, inverse = groups.attend(query, own_keys, own_values, count, kept.logits, keep)
                    kept.inverses.store(t, column, inverse)
                    groups.store(y, t, column, result)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """dv_s = sum over t of w dy_t; dlogit = w (dy_t v_s - dy_t y_t), dq_t += dlogit k_s, dk_s += dlogit q_t."""
        q, keys, values = self.values(*inputs)
        dq, dkeys, dvalues = self.gradients(scratch, *inputs)
        y, dy = out.whole(out.value), out.whole(out.grad)
        kept, groups, scale = self._kept(scratch, out), Groups(k, self.heads), self.heads.head_dim**-0.5
        width = groups.width
        weights = k.variable(k.integer(0))
        for first, end in documents(k, out, inputs[-1], self.heads.block_size):
            for column in groups:
                for t in k.range(first, end):
                    inverse = kept.inverses.vector(t, column, width)
                    dsums = [part * inverse for part in groups.load(dy, t, column)]
                    kept.offsets.store(t, column, groups.product(dsums, groups.load(y, t, column)))
                    groups.store(kept.dsums, t, column, dsums)
                    groups.store(dq, t, column, [k.constant(0, F32, width)] * groups.vectors)
                for s in k.range(first, end):
                    key = [part * scale for part in groups.load(keys, s, column)]
                    value = groups.load(values, s, column)
                    dkey, dvalue = ([k.zeros(width, F32) for _ in key] for _ in range(2))
                    weight = k.variable(weights + _triangle(s - first) * width + (s - first) * width)
                    for t in k.range(s, end):
                        exponential = kept.weights.vector(weight, width)
                        weight += (t - first + 1) * width
                        dsums = groups.load(kept.dsums, t, column)
                        dweight = groups.product(dsums, value) - kept.offsets.vector(t, column, width)
                        dlogit = exponential * dweight  # logit = q_t k_s * scale, by head on all of its lanes
                        for v, query in enumerate(groups.load(q, t, column)):
                            dkey[v].accumulate(dlogit, query)
                            dvalue[v].accumulate(exponential, dsums[v])
                            c = column + v * width
                            dq.store(t, c, k.mul_add(dlogit, key[v], dq.vector(t, c, width)))
                    groups.store(dkeys, s, column, [part * scale for part in dkey])
                    groups.store(dvalues, s, column, dvalue)
                weights += _triangle(end - first) * width


class _Kept:
    """The views of what attention keeps, in one block; E columns each."""

    def __init__(self, block: Pointer, out: Slot, block_size: int) -> None:
        self.logits = block  # (S): of one position
        self.inverses = out.whole(block + block_size * out.columns)  # (T): of the sum of the exponentials
        self.dsums = out.whole(self.inverses.start + out.extent)  # (T): of the weighted sums, dy times the inverse
        self.offsets = out.whole(self.dsums.start + out.extent)  # (T): a head's sum of dsums times y
        self.weights = self.offsets.start + out.extent  # exponentials by document, group, t, s


class Groups:
    """How a row's columns are cut into groups of whole heads."""

    def __init__(self, k: Builder, heads: Heads) -> None:
        self._k, self._heads = k, heads
        self.width = k.width(F32)
        self.vectors = max(1, heads.lanes // self.width)  # of a group
        self._lanes = min(heads.lanes, self.width)

    def __iter__(self) -> Iterator[Number]:
        """First column of each group."""
        columns, step = self._heads.columns, self.vectors * self.width
        yield from self._k.range(0, columns, step) if columns // step > 2 else range(0, columns, step)

    def load(self, matrix: View, row: Number, column: Number) -> list[Value]:
        """A group's numbers of a row."""
        return [matrix.vector(row, column + v * self.width, self.width) for v in range(self.vectors)]

    def store(self, matrix: View, row: Number, column: Number, parts: Sequence[Operand]) -> None:
        """Set them."""
        for v, part in enumerate(parts):
            matrix.store(row, column + v * self.width, part)

    def product(self, a: list[Value], b: list[Value]) -> Value:
        """Of each head, on all of its lanes."""
        total = a[0] * b[0]
        for x, y in zip(a[1:], b[1:], strict=True):
            total = self._k.mul_add(x, y, total)
        return self._k.group_sum(total, self._lanes)

    def attend(
        self,
        query: list[Value],
        keys: View,
        values: View,
        count: Number,
        logits: Pointer,
        keep: Callable[[Value], None],
    ) -> tuple[list[Value], Value]:
        """What one position takes from the first `count`, and the inverse of the sum of the exponentials."""
        k, width = self._k, self.width
        scaled = [part * self._heads.head_dim**-0.5 for part in query]
        largest = k.variable(k.constant(-3e38, F32, width))
        for s in k.range(count):
            logit = self.product(scaled, self.load(keys, s, 0))
            logits.store(s * width, logit)
            largest.set(k.maximum(logit, largest))
        total, sums = k.zeros(width, F32), [k.zeros(width, F32) for _ in query]
        for s in k.range(count):
            exponential = exp(k, logits.vector(s * width, width) - largest)
            keep(exponential)
            total += exponential
            for part, value in zip(sums, self.load(values, s, 0), strict=True):
                part.accumulate(exponential, value)
        inverse = 1.0 / total
        return [part * inverse for part in sums], inverse


def _triangle(n: Value) -> Value:
    """1 + 2 + ... + n."""
    return (n * (n + 1)) >> 1
