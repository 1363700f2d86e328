"""Causal multi-head self-attention (Vaswani et al., 2017). Shapes: q, k, v and the result (T, D), D = heads x head_dim.

Packed, q, k and v are one matrix (T, 3 D) whose columns go head by head, [q of head 0, k of head 0, v of head 0, q of
head 1, ...]: gradients of the layer before are then one ordered sum. The rows of earlier positions are the KV cache:
forward from position t on reads what forward up to t has left.

Letters: T positions, S positions looked at, H heads, J columns of a head.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, View, clear, padded, row_stride
from tapegpt.autograd.operations.functions import power
from tapegpt.autograd.operations.rows import across, less_largest, replace_by_exponentials, total_in_order
from tapegpt.autograd.value import Matrix, Vector, softmax, total
from tapegpt.errors import quote
from tapegpt.ranges import Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tapegpt.machine.language import Builder, Number, Pointer


class Attention(Operation):
    """`Attention(heads)(q, k, v)`, or packed `(qkv)`. Keeps k and v transposed, the exponentials and their sums."""

    name = "attention"
    formula = "sum of {n} products w * v"
    within = {  # noqa: RUF012  # never changed
        "attn_logits": "sum of {n} products q * k, over sqrt({n})",
        "attn_weights": "softmax of {n}",
    }

    def __init__(self, n_head: int, *, packed: bool = False) -> None:
        Whole(1).check("attention: n_head", n_head)
        self.n_head, self.packed = n_head, packed
        self.takes = (1,) if packed else (3,)

    def __str__(self) -> str:
        return f"attention n_head={self.n_head}"

    def shape(self, *inputs: Shape) -> Shape:
        parts = 3 if self.packed else 1
        fits = all(x == inputs[0] for x in inputs) and inputs[0].columns % (parts * self.n_head) == 0
        self.expect(
            fits and inputs[0].rows is None,
            f"needs q, k and v of {quote(self.n_head)} heads for each position",
            *inputs,
        )
        return Shape(None, inputs[0].columns // parts)

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        q, k, v = inputs  # which no model records packed
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

    def kept_size(self, positions: int, *inputs: Shape) -> int:
        size: int = self._kept(0, positions, self.shape(*inputs).columns).end
        return size

    def weights_at(self, positions: int, columns: int) -> tuple[range, range]:
        """Offsets in what is kept, head by head and in each by position: exponentials, and the inverse of their sum."""
        kept = self._kept(0, positions, columns)
        rows: list[Any] = [kept.exponentials, kept.sums]
        starts = [range(view.start, view.start + view.rows * view.stride, view.stride) for view in rows]
        return starts[0], range(starts[1].start + 1, starts[1].stop + 1, starts[1].step)

    def _kept(self, block: Any, positions: int, columns: int) -> _Kept:
        return _Kept(block, self.n_head, columns // self.n_head, positions)

    def _parts(self, out: Slot, matrices: Sequence[Pointer | None], head: Number) -> list[Any]:
        """A head's q, k and v in the inputs, or in matrices like these; None where there is none."""
        head_dim, parts = out.columns // self.n_head, 3 if self.packed else 1
        stride, first = row_stride(parts * out.columns), head * (parts * head_dim)
        views: list[Any] = [
            None if start is None else View(start + first, out.rows, head_dim, stride) for start in matrices
        ]
        return [views[0].at(0, part * head_dim) for part in range(3)] if self.packed else views

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y_t = sum over s <= t of softmax(q_t k_s / sqrt(head_dim)) v_s."""
        kept = self._kept(scratch.kept, out.rows, out.columns)
        head_dim, width = out.columns // self.n_head, k.width()
        matrices = [slot.value for slot in inputs]
        for s in k.range(out.start, out.stop):
            for head in k.range(self.n_head):
                _, keys, values = self._parts(out, matrices, head)
                for j in k.range(head_dim):
                    kept.keys[head * head_dim + j, s] = keys[s, j]
                    kept.values[head * head_dim + j, s] = values[s, j]
        for t in k.range(out.start, out.stop):
            first = kept.exponentials.at(t).start  # head by head what does not wait for what, 2 % of a step
            for head in k.range(self.n_head):
                q, _, _ = self._parts(out, matrices, head)
                row = head * out.rows + t
                query, columns, logits = q.at(t).start, kept.keys.at(head * head_dim), kept.exponentials.at(row).start
                for s in k.range(0, t + 1, width):  # lanes beyond t hold earlier documents: never read
                    product = k.zeros(width)
                    for j in k.range(head_dim):
                        product += columns.vector(j, s, width) * query[j]
                    logits.store(s, product * (float(head_dim) ** 0.5) ** -1)
                less_largest(k, logits, logits, t + 1)
            replace_by_exponentials(k, first, self.n_head, out.rows * kept.exponentials.stride, t + 1)
            for head in k.range(self.n_head):
                row = head * out.rows + t
                kept.sums[row, 0] = sum_of_row = total_in_order(k, kept.exponentials.at(row).start, t + 1)
                kept.sums[row, 1] = power(k, sum_of_row, -1.0)
            for head in k.range(self.n_head):
                _, _, values = self._parts(out, matrices, head)
                row = head * out.rows + t
                exponentials, inverse = kept.exponentials.at(row).start, kept.sums[row, 1]
                for c, lanes in across(k, head_dim):
                    mixed = k.zeros(lanes)
                    for s in k.range(t + 1):
                        mixed += values.vector(s, c, lanes) * (exponentials[s] * inverse)
                    out.whole(out.value).store(t, head * head_dim + c, mixed)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """Positions from last to first: k_s and v_s gather one product from each position that looked at them."""
        kept = self._kept(scratch.kept, out.rows, out.columns)
        head_dim, width = out.columns // self.n_head, k.width()
        scale = (float(head_dim) ** 0.5) ** -1
        for slot in inputs:
            if slot.fresh and slot.gradient is not None:
                clear(k, slot.gradient, out.stop * slot.stride)
        for t in k.range(out.stop - 1, -1, -1):
            for head in k.range(self.n_head):
                q, keys, _ = self._parts(out, [slot.value for slot in inputs], head)
                dq, dkeys, dvalues = self._parts(out, [slot.gradient for slot in inputs], head)
                row, dout = head * out.rows + t, out.whole(out.grad).at(t, head * head_dim).start
                exponentials, total, inverse = kept.exponentials.at(row).start, kept.sums[row, 0], kept.sums[row, 1]
                columns = kept.values.at(head * head_dim)
                # y_t = sum over s of weight_s * v_s
                for s in k.range(0, t + 1, width):
                    dweight = k.zeros(width)
                    for j in k.range(head_dim - 1, -1, -1):
                        dweight += columns.vector(j, s, width) * dout[j]
                    kept.dweights.store(s, dweight)
                # weight_s = e_s * total ** -1, total = sum over s of e_s
                dinverse = power(k, total, -2.0) * -1.0
                dtotal = k.zeros()
                for s in k.range(t, -1, -1):
                    dtotal += dinverse * (exponentials[s] * kept.dweights[s])
                for s in k.range(0, t + 1, width):
                    dexponential = kept.dweights.vector(s, width) * inverse + dtotal
                    # e_s = exp(logit_s - largest), logit_s = q_t k_s * scale
                    kept.dlogits.store(s, exponentials.vector(s, width) * dexponential * scale)
                for c, lanes in across(k, head_dim):
                    query, dy = q.vector(t, c, lanes), dout.vector(c, lanes)
                    dquery = k.variable((dq or q).vector(t, c, lanes))
                    for s in k.range(t, -1, -1):
                        dlogit = kept.dlogits[s]
                        dquery += keys.vector(s, c, lanes) * dlogit
                        if dkeys:
                            dkeys.store(s, c, dkeys.vector(s, c, lanes) + query * dlogit)
                        if dvalues:
                            weight = exponentials[s] * inverse
                            dvalues.store(s, c, dvalues.vector(s, c, lanes) + dy * weight)
                    if dq:
                        dq.store(t, c, dquery)


class _Kept:
    """The views of what attention keeps, in one block: pointers, or offsets where that is 0."""

    def __init__(self, block: Any, n_head: int, head_dim: int, positions: int) -> None:
        columns, rows, stride = n_head * head_dim, n_head * positions, padded(positions)
        self.keys = View(block, columns, positions, stride)  # (H J, S)
        self.values = self.keys.at(columns)  # (H J, S)
        self.exponentials = self.values.at(columns).replace(rows=rows)  # (H T, S): e^(logit - largest logit)
        self.sums = View(self.exponentials.at(rows).start, rows, 2, 2)  # (H T, 2): of these, and its inverse
        self.dweights = self.sums.at(rows).start  # (S)
        self.dlogits = self.dweights + stride  # (S)
        self.end: Any = self.dlogits + stride
