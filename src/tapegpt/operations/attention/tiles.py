"""Causal multi-head self-attention for long documents, in tiles of queries. Shapes: q, k, v and the result (T, E).

Logits are kept transposed, a row for each key and a lane for each query: the softmax of sixteen queries is then one
pass down the rows, without a sum across lanes, and all six products are `products.py`'s. Columns are as
`heads.py` says. What a position does not look at costs nothing but in the tile on the diagonal.

Letters: t looks at s <= t, both of one document; L lanes of a head; a tile is `QUERIES` positions t.
"""

from __future__ import annotations

from tapegpt.machine.language import F32, I32, Builder, F32s, Int, Pointer, U32s, Value, kernel
from tapegpt.operations.attention.heads import OverHeads, documents
from tapegpt.operations.base import Scratch, Shape, Slot, clear
from tapegpt.operations.functions import exp
from tapegpt.operations.products import make_panels, products

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.machine.language import Number

QUERIES = 32  # of a tile: two vectors, so that a tile of sums is eight keys times these


class TiledAttention(OverHeads):
    """`TiledAttention(heads)(qkv, ends)`: `ends` (T, 1) is where the document of a position ends. Keeps the weights."""

    name = "attention in tiles"

    def kept(self, positions: int, *inputs: Shape) -> int:
        heads = self.heads
        tiles = -(-heads.block_size // QUERIES)  # of a document
        weights = heads.n_head * positions * tiles * QUERIES
        return self.spare(positions) + heads.lanes * QUERIES + heads.block_size * QUERIES + weights

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        *matrices, ends = [slot.value for slot in inputs]
        places = (*self.places(matrices), ends, out.value, scratch.kept + self.spare(out.rows))
        tiles_forward(k, *places, out.start, out.stop, **self._sizes())

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        *matrices, ends = inputs
        values = self.places([slot.value for slot in matrices])
        gradients, kept = self.gradients(scratch.kept, matrices), scratch.kept + self.spare(out.rows)
        for each in gradients[: len(matrices)]:
            clear(k, each + out.start * self.stride, (out.stop - out.start) * self.stride)
        places = (*values, ends.value, out.grad, kept, *gradients)
        tiles_backward(k, *places, out.start, out.stop, **self._sizes())

    def _sizes(self) -> dict[str, int]:
        """What is fixed in the kernels."""
        heads = self.heads
        sizes = {"n_head": heads.n_head, "head_dim": heads.head_dim, "lanes": heads.lanes, "row": self.stride}
        return {**sizes, "columns": heads.columns, "block_size": heads.block_size}


class _Tile:
    """The queries from t on of one head: their number and what they look at."""

    def __init__(self, k: Builder, first: Value, end: Value, t: Value, column: Value, weights: Value) -> None:
        self.first, self.t, self.column = first, t, column
        self.queries = k.minimum(end - t, QUERIES)
        self.before = t - first  # keys that every query looks at
        self.keys = self.before + self.queries
        self.weights = weights  # where they are kept


def _tiles(
    k: Builder, ends: Pointer, start: Number, stop: Number, n_head: int, lanes: int, block_size: int
) -> Iterator[_Tile]:
    """All tiles, document by document, head by head."""
    weights = k.variable(k.integer(0))
    for first, end in documents(k, ends, start, stop, block_size):
        for head in k.range(n_head):
            t = k.variable(first)
            for _ in k.repeat_while(lambda: t < end):
                tile = _Tile(k, first, end, k.value(t), head * lanes, k.value(weights))
                yield tile
                weights += tile.keys * QUERIES
                t += QUERIES


@kernel
def tiles_forward(
    k: Builder,
    q: F32s,
    keys: F32s,
    values: F32s,
    ends: U32s,
    y: F32s,
    block: F32s,
    start: Int,
    stop: Int,
    *,
    n_head: int,
    head_dim: int,
    lanes: int,
    row: int,
    columns: int,
    block_size: int,
) -> None:
    """y_t = sum over s of softmax(q_t k_s / sqrt(head_dim)) v_s."""
    panel, kept = block, block + (lanes + block_size) * QUERIES  # (L, 32), and behind one for backward the weights
    for tile in _tiles(k, ends, start, stop, n_head, lanes, block_size):
        at, document = tile.t * row + tile.column, tile.first * row + tile.column
        weights = kept + tile.weights  # (keys, 32)
        make_panels(k, q + at, panel, tile.queries, outs=QUERIES, ins=lanes, stride=row)
        strides = {"x_row": row, "x_step": 1, "w_step": 0, "y_row": QUERIES, "columns": QUERIES}
        products(k, keys + document, panel, weights, keys, keys, tile.keys, lanes, **strides)
        softmax(k, weights, tile.before, tile.queries, head_dim=head_dim)
        strides = {"x_row": 1, "x_step": QUERIES, "w_step": row, "y_row": columns, "columns": lanes}
        result = y + tile.t * columns + tile.column
        products(k, weights, values + document, result, keys, keys, tile.queries, tile.keys, **strides)


@kernel
def softmax(k: Builder, weights: F32s, before: Int, queries: Int, *, head_dim: int) -> None:
    """Logits (keys, 32), a row for each key, become weights; zeros where a query does not look, or is none."""
    width = k.width(F32)
    scale: float = head_dim**-0.5
    for lane in range(0, QUERIES, width):
        lines, number = weights + lane, k.lane_numbers(width) + lane

        def logit(s: Value) -> Value:
            return lines.vector(s * QUERIES, width) * scale

        def looks(s: Value) -> Value:
            return number >= k.convert(s - before, I32)

        largest = k.variable(k.constant(-3e38, F32, width))
        for s in k.range(before):
            largest.set(k.maximum(logit(s), largest))
        for s in k.range(before, before + queries):
            largest.set(k.select(looks(s), k.maximum(logit(s), largest), largest))
        total = k.zeros(width, F32)
        for s in k.range(before):
            exponential = exp(k, logit(s) - largest)
            lines.store(s * QUERIES, exponential)
            total += exponential
        for s in k.range(before, before + queries):
            exponential = k.select(looks(s), exp(k, logit(s) - largest), 0.0)
            lines.store(s * QUERIES, exponential)
            total += exponential
        inverse = k.select(number < k.convert(queries, I32), 1.0 / total, 0.0)
        for s in k.range(before + queries):
            lines.store(s * QUERIES, lines.vector(s * QUERIES, width) * inverse)


@kernel
def tiles_backward(
    k: Builder,
    q: F32s,
    keys: F32s,
    values: F32s,
    ends: U32s,
    dy: F32s,
    block: F32s,
    dq: F32s,
    dkeys: F32s,
    dvalues: F32s,
    start: Int,
    stop: Int,
    *,
    n_head: int,
    head_dim: int,
    lanes: int,
    row: int,
    columns: int,
    block_size: int,
) -> None:
    """dv_s = sum over t of w dy_t; dlogit = w (dy_t v_s - its mean by w), passed to q_t times k_s, to k_s times q_t."""
    panel, slopes, kept = block, block + lanes * QUERIES, block + (lanes + block_size) * QUERIES
    for tile in _tiles(k, ends, start, stop, n_head, lanes, block_size):
        at, document = tile.t * row + tile.column, tile.first * row + tile.column
        passed, weights = dy + tile.t * columns + tile.column, kept + tile.weights
        make_panels(k, passed, panel, tile.queries, outs=QUERIES, ins=lanes, stride=columns)
        strides = {"x_row": row, "x_step": 1, "w_step": 0, "y_row": QUERIES, "columns": QUERIES}
        products(k, values + document, panel, slopes, keys, keys, tile.keys, lanes, **strides)
        through_softmax(k, weights, slopes, tile.keys, head_dim=head_dim)
        strides = {"x_row": 1, "x_step": QUERIES, "w_step": row, "y_row": row, "columns": lanes}
        products(k, slopes, keys + document, dq + at, keys, keys, tile.queries, tile.keys, **strides)
        strides = {"x_row": QUERIES, "x_step": 1, "y_row": row, "columns": lanes}
        sizes = (tile.keys, tile.queries)
        products(k, slopes, q + at, dkeys + document, keys, keys, *sizes, **strides, w_step=row, finish="+ y")
        products(k, weights, passed, dvalues + document, keys, keys, *sizes, **strides, w_step=columns, finish="+ y")


@kernel
def through_softmax(k: Builder, weights: F32s, slopes: F32s, keys: Int, *, head_dim: int) -> None:
    """Slopes (keys, 32) of the weights become those of the products of q and k."""
    width = k.width(F32)
    for lane in range(0, QUERIES, width):
        mean = k.zeros(width, F32)
        for s in k.range(keys):
            at = s * QUERIES + lane
            mean.accumulate(weights.vector(at, width), slopes.vector(at, width))
        for s in k.range(keys):
            at = s * QUERIES + lane
            slope = (slopes.vector(at, width) - mean) * weights.vector(at, width)
            slopes.store(at, slope * head_dim**-0.5)
