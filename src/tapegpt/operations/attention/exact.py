"""Causal multi-head self-attention (Vaswani et al., 2017). Shapes: q, k, v and the result (T, D), D = heads x head_dim.

Packed, q, k and v are one matrix (T, 3 D) whose columns go head by head, [q of head 0, k of head 0, v of head 0, q of
head 1, ...]: gradients of the layer before are then one ordered sum. The rows of earlier positions are the KV cache:
forward from position t on reads what forward up to t has left.

Letters: T positions, S positions looked at, H heads, J columns of a head.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, is_whole, shown
from tapegpt.machine.language import Builder, F64s, Int, Number, Operand, Pointer, Value, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, clear, padded
from tapegpt.operations.rows import across
from tapegpt.value import Vector, softmax, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.value import Matrix


class Attention(Operation):
    """`Attention(heads)(q, k, v)`, or packed `(qkv)`. Keeps k and v transposed, the exponentials and their sums."""

    name = "attention"
    formula = "sum of {n} products w * v"
    within = {  # noqa: RUF012  # never changed
        "attn_logits": "sum of {n} products q * k, over sqrt({n})",
        "attn_weights": "softmax of {n}",
    }

    def __init__(self, n_head: int, *, packed: bool = False) -> None:
        if not is_whole(n_head) or n_head < 1:
            raise TapeGPTError(f"attention: n_head must be a whole number of at least 1, not {shown(n_head)}")
        self.n_head, self.packed = n_head, packed
        self.takes = (1,) if packed else (3,)

    def __str__(self) -> str:
        return f"attention n_head={self.n_head}"

    def shape(self, *inputs: Shape) -> Shape:
        parts = 3 if self.packed else 1
        fits = all(x == inputs[0] for x in inputs) and inputs[0].columns % (parts * self.n_head) == 0
        self.expect(
            fits and inputs[0].rows is None,
            f"needs q, k and v of {shown(self.n_head)} heads for each position",
            *inputs,
        )
        return Shape(None, inputs[0].columns // parts)

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        q, k, v = self._unpacked(inputs[0]) if self.packed else inputs
        head_dim = len(q[0]) // self.n_head
        results: Matrix = []
        for t, query in enumerate(q):
            all_logits: Vector = []
            all_weights: Vector = []
            result: Vector = []
            for start in range(0, len(query), head_dim):
                columns = range(start, start + head_dim)
                logits = [total(query[j] * key[j] for j in columns) / head_dim**0.5 for key in k[: t + 1]]
                weights = softmax(logits)
                pairs = list(zip(weights, v[: t + 1], strict=True))
                result += [total(weight * value[j] for weight, value in pairs) for j in columns]
                all_logits += logits
                all_weights += weights
            results.append(result)
            inner.setdefault("attn_logits", []).append(all_logits)
            inner.setdefault("attn_weights", []).append(all_weights)
        return results

    def _unpacked(self, qkv: Matrix) -> list[Matrix]:
        head_dim = len(qkv[0]) // 3 // self.n_head
        starts = range(0, len(qkv[0]), 3 * head_dim)
        return [
            [[x for start in starts for x in row[start + part * head_dim :][:head_dim]] for row in qkv]
            for part in range(3)
        ]

    def kept(self, positions: int, *inputs: Shape) -> int:
        head_dim = self.shape(*inputs).columns // self.n_head
        size: int = _Kept(0, self.n_head, head_dim, positions).end
        return size

    def weights_at(self, positions: int, columns: int, head: int, t: int) -> tuple[int, int]:
        """Where, in what is kept, a head's exponentials at a place begin, and where the inverse of their sum lies."""
        kept = _Kept(0, self.n_head, columns // self.n_head, positions)
        return kept.exponentials(head, t), kept.sums(head, t) + 1

    def _sizes(self, out: Slot) -> dict[str, int]:
        head_dim = out.columns // self.n_head
        parts = 3 if self.packed else 1
        steps = {"stride": padded(parts * out.columns), "head_step": parts * head_dim}
        return {"heads": self.n_head, "head_dim": head_dim, "positions": out.rows, **steps}

    def _places(self, out: Slot, pointers: list[Pointer]) -> list[Pointer]:
        """Where q, k and v begin."""
        head_dim = out.columns // self.n_head
        return [pointers[0] + part * head_dim for part in range(3)] if self.packed else pointers

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        places = self._places(out, [slot.value for slot in inputs])
        attention_forward(k, *places, out.value, scratch.kept, out.start, out.stop, **self._sizes(out))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        sizes = self._sizes(out)
        for slot in inputs:
            if slot.fresh and slot.gradient is not None:
                clear(k, slot.gradient, out.stop * sizes["stride"])
        wanted = [slot.gradient is not None for slot in inputs]
        if any(wanted):
            values = self._places(out, [slot.value for slot in inputs])
            gradients = self._places(out, [slot.value if slot.gradient is None else slot.gradient for slot in inputs])
            wanted = wanted * 3 if self.packed else wanted
            places = (*values, scratch.kept, out.grad, *gradients)
            attention_backward(k, *places, out.stop, wanted=tuple(wanted), **sizes)


class _Kept:
    """The views of what attention keeps, in one block: pointers, or offsets where that is 0."""

    def __init__(self, block: Any, heads: int, head_dim: int, positions: int) -> None:
        self.places = padded(positions)
        self.positions = positions
        self.keys = block  # (H J, S)
        self.values = self.keys + heads * head_dim * self.places  # (H J, S)
        self._exponentials = self.values + heads * head_dim * self.places  # (H, T, S)
        self._sums = self._exponentials + heads * positions * self.places  # (H, T, 2): sum and its inverse
        self.row = self._sums + 2 * heads * positions  # (2, S)
        self.end = self.row + 2 * self.places

    def exponentials(self, head: Number, t: Number) -> Any:
        """(S): e^(logit - largest logit)."""
        return self._exponentials + (head * self.positions + t) * self.places

    def sums(self, head: Number, t: Number) -> Any:
        """(2): the sum of the exponentials and its inverse."""
        return self._sums + (head * self.positions + t) * 2


@kernel
def attention_forward(
    k: Builder,
    q: F64s,
    keys: F64s,
    values: F64s,
    y: F64s,
    block: F64s,
    start: Int,
    stop: Int,
    *,
    heads: int,
    head_dim: int,
    positions: int,
    stride: int,
    head_step: int,
) -> None:
    """y_t = sum over s <= t of softmax(q_t k_s / sqrt(head_dim)) v_s."""
    kept = _Kept(block, heads, head_dim, positions)
    width = k.width()
    for s in k.range(start, stop):
        for head in k.range(heads):
            at = s * stride + head * head_step
            for j in k.range(head_dim):
                kept.keys[(head * head_dim + j) * kept.places + s] = keys[at + j]
                kept.values[(head * head_dim + j) * kept.places + s] = values[at + j]
    for t in k.range(start, stop):
        for head in k.range(heads):
            query = q + t * stride + head * head_step
            columns, logits = kept.keys + head * head_dim * kept.places, kept.exponentials(head, t)
            for s in k.range(0, t + 1, width):  # lanes beyond t hold earlier documents: never read
                total = k.zeros(width)
                for j in k.range(head_dim):
                    total += columns.vector(j * kept.places + s, width) * query[j]
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
            value = values + head * head_step
            for c, lanes in across(k, head_dim):
                mixed = k.zeros(lanes)
                for s in k.range(t + 1):
                    mixed += value.vector(s * stride + c, lanes) * (logits[s] * inverse)
                result.store(c, mixed)


@kernel
def attention_backward(
    k: Builder,
    q: F64s,
    keys: F64s,
    values: F64s,
    block: F64s,
    dy: F64s,
    dq: F64s,
    dkeys: F64s,
    dvalues: F64s,
    stop: Int,
    *,
    heads: int,
    head_dim: int,
    positions: int,
    stride: int,
    head_step: int,
    wanted: tuple[bool, ...],
) -> None:
    """Positions from last to first: k_s and v_s gather one product from each position that looked at them."""
    kept = _Kept(block, heads, head_dim, positions)
    width = k.width()
    for t in k.range(stop - 1, -1, -1):
        for head in k.range(heads):
            passed = dy + t * padded(heads * head_dim) + head * head_dim
            exponentials, sums = kept.exponentials(head, t), kept.sums(head, t)
            total, inverse = sums[0], sums[1]
            dweights, dlogits = kept.row, kept.row + kept.places
            columns = kept.values + head * head_dim * kept.places
            for s in k.range(0, t + 1, width):
                dweight = k.zeros(width)
                for j in k.range(head_dim - 1, -1, -1):
                    dweight += columns.vector(j * kept.places + s, width) * passed[j]
                dweights.store(s, dweight)
            slope = k.pow(total, -2.0) * -1.0  # of total ** -1
            dtotal = k.zeros()
            for s in k.range(t, -1, -1):
                dtotal += slope * (exponentials[s] * dweights[s])
            for s in k.range(0, t + 1, width):
                dexponential = dweights.vector(s, width) * inverse + dtotal
                dlogit = exponentials.vector(s, width) * dexponential
                dlogits.store(s, dlogit * (float(head_dim) ** 0.5) ** -1)
            at, pairs = head * head_step, ((q, dq), (keys, dkeys), (values, dvalues))
            query, key, value = (_Rows(numbers + at, gradient + at, stride) for numbers, gradient in pairs)
            _inputs(k, query, key, value, wanted, passed, exponentials, dlogits, inverse, t, head_dim)


class _Rows:
    """One head's columns of q, k or v, and of their gradients."""

    def __init__(self, value: Pointer, gradient: Pointer, stride: int) -> None:
        self._value, self._gradient, self._stride = value, gradient, stride

    def vector(self, row: Int, column: Number, lanes: int) -> Value:
        return self._value.vector(row * self._stride + column, lanes)

    def gradient(self, row: Int, column: Number, lanes: int) -> Value:
        return self._gradient.vector(row * self._stride + column, lanes)

    def store(self, row: Int, column: Number, gradient: Operand) -> None:
        self._gradient.store(row * self._stride + column, gradient)


def _inputs(
    k: Builder,
    q: _Rows,
    keys: _Rows,
    values: _Rows,
    wanted: tuple[bool, ...],
    passed: Pointer,
    exponentials: Pointer,
    dlogits: Pointer,
    inverse: Value,
    t: Int,
    head_dim: int,
) -> None:
    """Gradients of one head's q at t, and of its k and v at every s <= t."""
    for c, lanes in across(k, head_dim):
        query, out = q.vector(t, c, lanes), passed.vector(c, lanes)
        dquery = k.variable(q.gradient(t, c, lanes))
        for s in k.range(t, -1, -1):
            dquery += keys.vector(s, c, lanes) * dlogits[s]
            if wanted[1]:
                keys.store(s, c, keys.gradient(s, c, lanes) + query * dlogits[s])
            if wanted[2]:
                values.store(s, c, values.gradient(s, c, lanes) + out * (exponentials[s] * inverse))
        if wanted[0]:
            q.store(t, c, dquery)
