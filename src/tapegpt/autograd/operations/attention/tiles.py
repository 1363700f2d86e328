"""Causal multi-head self-attention for long documents, in tiles of queries. Shapes: q, k, v and the result (T, E).

Logits are kept transposed, a row for each key and a lane for each query: the softmax of sixteen queries is then one
pass down the rows, without a sum across lanes, and all six products are `products.py`'s. Columns are as
`heads.py` says. Pairs that a position may not look at cost nothing, except in the tile on the diagonal.

Letters: t looks at s <= t of the same document; L lanes of a head; a tile is `QUERIES` positions t.
"""

from __future__ import annotations

from collections.abc import Iterator

from tapegpt.autograd.operations.attention.heads import OverHeads, documents
from tapegpt.autograd.operations.base import Scratch, Shape, Slot, View, clear
from tapegpt.autograd.operations.functions import exp
from tapegpt.autograd.operations.products import Finish, Panels, fast_products, make_panels
from tapegpt.machine.language import F32, I32, Builder, Int, Number, Value, kernel
from tapegpt.record import Record

QUERIES = 32  # of a tile: two vectors, so that a tile of sums is eight keys times these


class TiledAttention(OverHeads):
    """`TiledAttention(heads)(qkv, ends)`: `ends` (T, 1) is where the document of a position ends. Keeps the weights."""

    name = "attention in tiles"

    def kept_size(self, positions: int, *inputs: Shape) -> int:
        heads = self.heads
        tiles = -(-heads.block_size // QUERIES)  # of a document
        weights = heads.n_head * positions * tiles * QUERIES
        return self.spare(positions) + (heads.lanes + heads.block_size) * QUERIES + weights

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y_t = sum over s of softmax(q_t k_s / sqrt(head_dim)) v_s."""
        q, keys, values = self.values(*inputs)
        y = out.whole(out.value)
        for tile in self._tiles(k, scratch, out, inputs[-1]):
            make_panels(k, tile.queries_of(q), tile.panel.start, outs=QUERIES)
            fast_products(k, tile.keys_of(keys), tile.panel, tile.weights, Finish())
            softmax(k, tile.weights, tile.queries, head_dim=self.heads.head_dim)
            fast_products(k, tile.weights.T, tile.keys_of(values), tile.queries_of(y), Finish())

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """dv_s = sum over t of w dy_t; dlogit = w (dy_t v_s - mean by w); dq_t += dlogit k_s, dk_s += dlogit q_t."""
        q, keys, values = self.values(*inputs)
        dq, dkeys, dvalues = self.gradients(scratch, *inputs)
        for each in (dq,) if self.packed else (dq, dkeys, dvalues):
            clear(k, each.at(out.start).start, (out.stop - out.start) * each.stride)
        dy = out.whole(out.grad)
        for tile in self._tiles(k, scratch, out, inputs[-1]):
            dout, queries, gradients = tile.queries_of(dy), tile.queries_of(q), tile.gradients
            make_panels(k, dout, tile.panel.start, outs=QUERIES)
            fast_products(k, tile.keys_of(values), tile.panel, gradients, Finish())
            through_softmax(k, tile.weights, gradients, head_dim=self.heads.head_dim)
            fast_products(k, gradients.T, tile.keys_of(keys), tile.queries_of(dq), Finish())
            fast_products(k, gradients, queries, tile.keys_of(dkeys), Finish("+"))
            fast_products(k, tile.weights, dout, tile.keys_of(dvalues), Finish("+"))

    def _tiles(self, k: Builder, scratch: Scratch, out: Slot, ends: Slot) -> Iterator[_Tile]:
        """All tiles, document by document, head by head."""
        heads, kept = self.heads, k.variable(k.integer(0))
        panel = scratch.kept + self.spare(out.rows)
        gradients = panel + heads.lanes * QUERIES
        weights = gradients + heads.block_size * QUERIES
        for first, end in documents(k, out, ends, heads.block_size):
            for head in k.range(heads.n_head):
                t = k.variable(first)
                for _ in k.repeat_while(lambda: t < end):
                    queries = k.minimum(end - t, QUERIES)
                    keys = t - first + queries
                    yield _Tile(
                        first,
                        k.value(t),
                        head * heads.lanes,
                        Panels(panel, heads.lanes),
                        View(gradients, keys, QUERIES, QUERIES),
                        View(weights + kept, keys, QUERIES, QUERIES),
                        queries,
                    )
                    kept += keys * QUERIES
                    t += QUERIES


class _Tile(Record):
    """The queries from t on of one head, and the keys that they look at: those of the document up to the last query."""

    first: Value  # position of the document
    t: Value
    column: Value  # of the head
    panel: Panels  # (L, 32): of one row for each query
    gradients: View  # (keys, 32)
    weights: View  # (keys, 32)
    queries: Value  # how many

    def queries_of(self, matrix: View) -> View:
        """Their part of a matrix (T, E)."""
        lanes = self.panel.rows
        return View(matrix.at(self.t, self.column).start, self.queries, lanes, matrix.stride)

    def keys_of(self, matrix: View) -> View:
        """The keys' part of a matrix (T, E)."""
        lanes = self.panel.rows
        return View(matrix.at(self.first, self.column).start, self.weights.rows, lanes, matrix.stride)


@kernel
def softmax(k: Builder, weights: View, queries: Int, *, head_dim: int) -> None:
    """Logits (keys, 32), a row for each key, become weights; zeros where a query does not look, or is none."""
    width, keys = k.width(F32), weights.rows
    before = keys - queries  # what every query looks at
    scale: float = head_dim**-0.5
    for lane in range(0, QUERIES, width):
        number = k.lane_numbers(width) + lane

        def logit(s: Value) -> Value:
            return weights.vector(s, lane, width) * scale

        def where_it_looks(s: Value, x: Value, other: Number) -> Value:
            return k.select(number >= k.convert(s - before, I32), x, other)

        largest, total = k.variable(k.constant(-3e38, F32, width)), k.zeros(width, F32)
        parts = ((0, before, lambda s, x, other: x), (before, keys, where_it_looks))
        for start, stop, masked in parts:
            for s in k.range(start, stop):
                largest.set(masked(s, k.maximum(logit(s), largest), largest))
        for start, stop, masked in parts:
            for s in k.range(start, stop):
                exponential = masked(s, exp(k, logit(s) - largest), 0.0)
                weights.store(s, lane, exponential)
                total += exponential
        inverse = k.select(number < k.convert(queries, I32), 1.0 / total, 0.0)
        for s in k.range(keys):
            weights.store(s, lane, weights.vector(s, lane, width) * inverse)


@kernel
def through_softmax(k: Builder, weights: View, gradients: View, *, head_dim: int) -> None:
    """Gradients (keys, 32) of the weights become those of the products of q and k."""
    width = k.width(F32)
    for lane in range(0, QUERIES, width):
        mean = k.zeros(width, F32)
        for s in k.range(weights.rows):
            mean.accumulate(weights.vector(s, lane, width), gradients.vector(s, lane, width))
        for s in k.range(weights.rows):
            gradient = (gradients.vector(s, lane, width) - mean) * weights.vector(s, lane, width)
            gradients.store(s, lane, gradient * head_dim**-0.5)
