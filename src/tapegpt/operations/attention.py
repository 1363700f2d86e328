"""Causal multi-head self-attention (Vaswani et al., 2017). Shapes: qkv (T, 3 D), result (T, D), D = heads x head_dim.

The columns of qkv go head by head, [q of head 0, k of head 0, v of head 0, q of head 1, ...]: gradients of the layer
before are then one ordered sum. The rows of earlier positions are the KV cache: forward from position t on reads
what forward up to t has left.

Letters: T positions, S positions looked at, H heads, J columns of a head.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, is_whole, shown
from tapegpt.machine.language import Builder, F64s, Int, Pointer, Value, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, across, clear, padded


class Attention(Operation):
    """`attention(qkv)`. Keeps keys and values transposed, the exponentials and their sums."""

    name = "attention"
    takes = (1,)

    def __init__(self, n_head: int) -> None:
        if not is_whole(n_head) or n_head < 1:
            raise TapeGPTError(f"attention: n_head must be a whole number of at least 1, not {shown(n_head)}")
        self.n_head = n_head

    def __str__(self) -> str:
        return f"attention n_head={self.n_head}"

    def shape(self, *inputs: Shape) -> Shape:
        (qkv,) = inputs
        fits = qkv.rows is None and qkv.columns % (3 * self.n_head) == 0
        self.expect(fits, f"needs q, k and v of {shown(self.n_head)} heads for each position", qkv)
        return Shape(None, qkv.columns // 3)

    def kept(self, positions: int, *inputs: Shape) -> int:
        places = padded(positions)
        width = inputs[0].columns // 3
        transposed = 2 * width * places  # k and v: (H J, S) each
        exponentials = self.n_head * positions * places  # (H, T, S)
        return transposed + exponentials + 2 * self.n_head * positions + 2 * places

    def weights_at(self, positions: int, qkv: Shape, head: int, t: int) -> tuple[int, int]:
        """Where, in what is kept, a head's exponentials at a place begin, and where the inverse of their sum lies."""
        places, row = padded(positions), head * positions + t
        exponentials = 2 * (qkv.columns // 3) * places
        sums = exponentials + self.n_head * positions * places
        return exponentials + row * places, sums + 2 * row + 1

    def _sizes(self, qkv: Slot) -> dict[str, int]:
        return {"heads": self.n_head, "head_dim": qkv.columns // 3 // self.n_head, "positions": qkv.rows}

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        sizes = self._sizes(inputs[0])
        attention_forward(k, inputs[0].value, out.value, scratch.kept, out.start, out.stop, **sizes)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (qkv,) = inputs
        if qkv.gradient is not None:
            sizes = self._sizes(qkv)
            attention_backward(k, qkv.value, scratch.kept, out.grad, qkv.gradient, out.stop, fresh=qkv.fresh, **sizes)


class _Kept:
    """The views of what attention keeps, in one block."""

    def __init__(self, block: Pointer, heads: int, head_dim: int, positions: int) -> None:
        self.places = padded(positions)
        self.positions = positions
        self.keys = block  # (H J, S)
        self.values = self.keys + heads * head_dim * self.places  # (H J, S)
        self._exponentials = self.values + heads * head_dim * self.places  # (H, T, S)
        self._sums = self._exponentials + heads * positions * self.places  # (H, T, 2): sum and its inverse
        self.row = self._sums + 2 * heads * positions  # (2, S)

    def exponentials(self, head: Int, t: Int) -> Pointer:
        """(S): e^(logit - largest logit)."""
        return self._exponentials + (head * self.positions + t) * self.places

    def sums(self, head: Int, t: Int) -> Pointer:
        """(2): the sum of the exponentials and its inverse."""
        return self._sums + (head * self.positions + t) * 2


@kernel
def attention_forward(
    k: Builder, qkv: F64s, y: F64s, block: F64s, start: Int, stop: Int, *, heads: int, head_dim: int, positions: int
) -> None:
    """y_t = sum over s <= t of softmax(q_t k_s / sqrt(head_dim)) v_s."""
    kept = _Kept(block, heads, head_dim, positions)
    stride, width = padded(3 * heads * head_dim), k.width()
    for s in k.range(start, stop):
        for head in k.range(heads):
            key = qkv + s * stride + head * (3 * head_dim) + head_dim
            for j in k.range(head_dim):
                kept.keys[(head * head_dim + j) * kept.places + s] = key[j]
                kept.values[(head * head_dim + j) * kept.places + s] = key[j + head_dim]
    for t in k.range(start, stop):
        for head in k.range(heads):
            query = qkv + t * stride + head * (3 * head_dim)
            keys, logits = kept.keys + head * head_dim * kept.places, kept.exponentials(head, t)
            for s in k.range(0, t + 1, width):  # lanes beyond t hold earlier documents: never read
                total = k.zeros(width)
                for j in k.range(head_dim):
                    total += keys.vector(j * kept.places + s, width) * query[j]
                logits.store(s, total * (float(head_dim) ** 0.5) ** -1)
            largest = k.variable(logits[0])
            for s in k.range(1, t + 1):
                largest.set(k.maximum(logits[s], largest))
            total = k.zeros()
            for s in k.range(t + 1):
                exponential = k.exp(logits[s] - largest)
                logits[s] = exponential
                total += exponential
            inverse = k.pow(total, -1.0)
            kept.sums(head, t)[0] = total
            kept.sums(head, t)[1] = inverse
            result = y + t * padded(heads * head_dim) + head * head_dim
            value = qkv + head * (3 * head_dim) + 2 * head_dim
            for c, lanes in across(k, head_dim):
                mixed = k.zeros(lanes)
                for s in k.range(t + 1):
                    mixed += value.vector(s * stride + c, lanes) * (logits[s] * inverse)
                result.store(c, mixed)


@kernel
def attention_backward(
    k: Builder,
    qkv: F64s,
    block: F64s,
    dy: F64s,
    dqkv: F64s,
    stop: Int,
    *,
    heads: int,
    head_dim: int,
    positions: int,
    fresh: bool,
) -> None:
    """Positions from last to first: k_s and v_s gather one product from each position that looked at them."""
    kept = _Kept(block, heads, head_dim, positions)
    stride, width = padded(3 * heads * head_dim), k.width()
    if fresh:
        clear(k, dqkv, stop * stride)
    for t in k.range(stop - 1, -1, -1):
        for head in k.range(heads):
            passed = dy + t * padded(heads * head_dim) + head * head_dim
            exponentials, sums = kept.exponentials(head, t), kept.sums(head, t)
            total, inverse = sums[0], sums[1]
            dweights, dlogits = kept.row, kept.row + kept.places
            values = kept.values + head * head_dim * kept.places
            for s in k.range(0, t + 1, width):
                dweight = k.zeros(width)
                for j in k.range(head_dim - 1, -1, -1):
                    dweight += values.vector(j * kept.places + s, width) * passed[j]
                dweights.store(s, dweight)
            slope = k.pow(total, -2.0) * -1.0  # of total ** -1
            dtotal = k.zeros()
            for s in k.range(t, -1, -1):
                dtotal += slope * (exponentials[s] * dweights[s])
            for s in k.range(0, t + 1, width):
                dexponential = dweights.vector(s, width) * inverse + dtotal
                dlogit = exponentials.vector(s, width) * dexponential
                dlogits.store(s, dlogit * (float(head_dim) ** 0.5) ** -1)
            _inputs(
                k,
                qkv + head * (3 * head_dim),
                dqkv + head * (3 * head_dim),
                passed,
                exponentials,
                dlogits,
                inverse,
                t,
                head_dim,
                stride,
            )


def _inputs(
    k: Builder,
    qkv: Pointer,
    dqkv: Pointer,
    passed: Pointer,
    exponentials: Pointer,
    dlogits: Pointer,
    inverse: Value,
    t: Int,
    head_dim: int,
    stride: int,
) -> None:
    """Gradients of one head's q at t, and of its k and v at every s <= t."""
    for c, lanes in across(k, head_dim):
        q, key, value = c, head_dim + c, 2 * head_dim + c
        query, out = qkv.vector(t * stride + q, lanes), passed.vector(c, lanes)
        dquery = k.variable(dqkv.vector(t * stride + q, lanes))
        for s in k.range(t, -1, -1):
            at = s * stride
            dquery += qkv.vector(at + key, lanes) * dlogits[s]
            dqkv.store(at + key, dqkv.vector(at + key, lanes) + query * dlogits[s])
            dqkv.store(at + value, dqkv.vector(at + value, lanes) + out * (exponentials[s] * inverse))
        dqkv.store(t * stride + q, dquery)
