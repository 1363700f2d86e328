"""Causal multi-head self-attention of the next position of each string, whose keys and values are kept. Shapes: q, k, v
and the result (T, E), see `heads.py`.

Blocks of up to `LONG` positions go pair by pair. In longer ones the lanes of a vector are positions: a head's keys are
kept as columns, and its exponentials are computed in all lanes at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from tapegpt.autograd.operations.attention.heads import Heads, OverHeads
from tapegpt.autograd.operations.attention.pairs import Groups
from tapegpt.autograd.operations.base import Batch, Scratch, Shape, Slot, View, row_stride
from tapegpt.autograd.operations.functions import exp
from tapegpt.autograd.operations.rows import vectors
from tapegpt.machine.language import F32, I32, Builder, Number, Pointer, Value

QUERIES, VECTORS = 4, 8  # positions that go together, and vectors whose sums are in registers


class CachedAttention(OverHeads):
    """`CachedAttention(heads, batch)(qkv, positions, lines)`: row t is the next position of a string of its own.

    `positions` (T, 1) has it, `lines` (T, 1) where the string's earlier keys and values are kept.
    """

    name = "cached attention"
    about = ("positions", "lines")

    def __init__(self, heads: Heads, batch: Batch, *, packed: bool = True) -> None:
        super().__init__(heads, packed=packed)
        self.batch, self._lines = batch, batch.lines

    def kept_size(self, positions: int, *inputs: Shape) -> int:
        return (1 + 2 * self._lines) * self.heads.block_size * self.heads.columns

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """As `PairedAttention`, for one position of each row's string."""
        q, keys, values = self.values(*inputs)
        positions, lines = [slot.value for slot in inputs[-2:]]
        y, groups = out.whole(out.value), Groups(k, self.heads)
        columns, block_size, logits = out.columns, self.heads.block_size, scratch.kept
        cache = View(logits + block_size * columns, self._lines * block_size, 2 * columns, 2 * columns)
        for t in k.range(out.start, out.stop):
            position, line = positions[t], cache.at(lines[t] * block_size)
            for column in groups:
                own_keys, own_values = line.at(0, column), line.at(0, columns + column)
                groups.store(own_keys, position, 0, groups.load(keys, t, column))
                groups.store(own_values, position, 0, groups.load(values, t, column))
                query = groups.load(q, t, column)
                result, _ = groups.attend(query, own_keys, own_values, position + 1, logits, lambda _: None)
                groups.store(y, t, column, result)


class CachedTiles(CachedAttention):
    """`CachedTiles(heads, batch)(qkv, positions, lines)`: the same for long blocks.

    `QUERIES` positions of one string that follow each other go together, where there are as many.
    """

    def kept_size(self, positions: int, *inputs: Shape) -> int:
        return QUERIES * self.heads.n_head * self._apart + self._lines * self._line

    @property
    def _apart(self) -> int:
        return row_stride(self.heads.block_size)

    @property
    def _line(self) -> int:
        """Size of the keys (E, S) and values (S, E) of a string."""
        return (self._apart + self.heads.block_size) * self.heads.columns

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y_t = sum over s of softmax(q_t k_s / sqrt(head_dim)) v_s."""
        q, keys, values = self.values(*inputs)
        positions, lines = [slot.value for slot in inputs[-2:]]
        y, columns, apart = out.whole(out.value), out.columns, self._apart
        at = k.variable(k.integer(out.start))
        for _ in k.repeat_while(lambda: at < out.stop):
            first, position = k.value(at), positions[at]
            line = scratch.kept + (QUERIES * self.heads.n_head * apart + lines[first] * self._line)
            own_keys = View(line, columns, apart, apart)
            own_values = View(line + columns * apart, apart, columns, columns)
            together = k.variable(k.select(first + QUERIES <= out.stop, k.integer(QUERIES), 1))
            for row in range(1, QUERIES):
                other = k.minimum(first + row, k.integer(out.stop) - 1)
                follows = positions[other].equals(position + row) & lines[other].equals(lines[first])
                together.set(k.select(follows, together, 1))
            for queries in (QUERIES, 1):
                for _ in k.when(together.equals(queries)):
                    for row in range(queries):
                        for j in k.range(columns):
                            own_keys[j, position + row] = keys[first + row, j]
                        for c in vectors(k, columns):
                            own_values.store(position + row, c, values.vector(first + row, c, k.width(F32)))
                    for column, heads in self._groups(k, queries):
                        views = q.at(first, column), own_keys.at(column), own_values.at(0, column), y.at(first, column)
                        self._attend(k, *views, scratch.kept, position, heads, queries)
            at.set(first + together)

    def _groups(self, k: Builder, queries: int) -> Iterator[tuple[Number, int]]:
        """First column of as many heads as go together, and their number."""
        lanes, n_head = self.heads.lanes, self.heads.n_head
        most = max(1, VECTORS * k.width(F32) // (lanes * queries))
        heads = next(count for count in range(min(most, n_head), 0, -1) if n_head % count == 0)
        for column in k.range(0, n_head * lanes, heads * lanes):
            yield column, heads

    def _attend(
        self,
        k: Builder,
        q: View,
        keys: View,
        values: View,
        y: View,
        logits: Pointer,
        position: Value,
        heads: int,
        queries: int,
    ) -> None:
        """What each position takes from those up to it."""
        width, lanes, scale, apart = k.width(F32), self.heads.lanes, self.heads.head_dim**-0.5, self._apart
        cells = [(row, h) for row in range(queries) for h in range(heads)]
        lines = [logits + cell * apart for cell in range(len(cells))]
        peaks = [k.variable(k.constant(-3e38, F32, width)) for _ in cells]
        last = position + (queries - 1)

        def select(s: Value, row: int, numbers: Value, other: float) -> Value:
            return k.select(k.lane_numbers(width) <= k.convert(position + row - s, I32), numbers, other)

        for s in k.range(0, last + 1, width):
            sums = [k.zeros(width, F32) for _ in cells]
            for j in k.range(self.heads.head_dim):
                loaded = [keys.vector(h * lanes + j, s, width) for h in range(heads)]
                for (row, h), total in zip(cells, sums, strict=True):
                    total.accumulate(loaded[h], k.spread(q[row, h * lanes + j], width))
            for (row, _), total, peak, line in zip(cells, sums, peaks, lines, strict=True):
                logit = select(s, row, total * scale, -3e38)
                line.store(s, logit)
                peak.set(k.maximum(logit, peak))
        largest = [k.group_max(peak, width) for peak in peaks]
        totals = [k.zeros(width, F32) for _ in cells]
        for s in k.range(0, last + 1, width):
            for (row, _), line, most, total in zip(cells, lines, largest, totals, strict=True):
                exponential = select(s, row, exp(k, line.vector(s, width) - most), 0.0)
                line.store(s, exponential)
                total += exponential
        parts = range(0, lanes, width)
        results = [[k.zeros(width, F32) for _ in parts] for _ in cells]
        for s in k.range(last + 1):
            loaded = [values.vector(s, h * lanes + c, width) for h in range(heads) for c in parts]
            for (_, h), weights, sums in zip(cells, lines, results, strict=True):
                for part, total in enumerate(sums):
                    total.accumulate(loaded[h * len(parts) + part], k.spread(weights[s], width))
        for (row, h), total, sums in zip(cells, totals, results, strict=True):
            inverse = 1.0 / k.group_sum(total, width)
            for c, result in zip(parts, sums, strict=True):
                y.store(row, h * lanes + c, result * inverse)
