"""Causal multi-head self-attention over the documents of a batch, pair by pair. Shapes: q, k, v and the result (T, E).

Columns are as `heads.py` says: heads lie side by side in the lanes of a vector, a head's sum is a few lane
permutations, and exponentials come out on every lane where they are needed. Made for short documents: the work for a
pair of positions is done once for each lane of the head; `tiles.py` is for long ones.

Letters: t looks at s <= t, both of one document; E columns of all heads; a group is the heads of one vector, or one
head of several vectors.
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F32s, Int, Number, Pointer, U32s, Value, kernel
from tapegpt.operations.attention.heads import Heads, OverHeads, documents
from tapegpt.operations.functions import exp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tapegpt.operations.base import Scratch, Shape, Slot


class PairedAttention(OverHeads):
    """`PairedAttention(heads)(qkv, ends)`: `ends` (T, 1) is where the document of a position ends.

    Keeps the exponentials of each pair and the inverse of their sums.
    """

    name = "attention"

    def kept(self, positions: int, *inputs: Shape) -> int:
        block_size = self.heads.block_size
        pairs = positions * (block_size + 1) // 2
        return self.spare(positions) + (pairs + 3 * positions + block_size) * self.heads.columns

    def _sizes(self, out: Slot) -> dict[str, int]:
        return {**_sizes(self.heads, self.stride), "positions": out.rows}

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        *matrices, ends = [slot.value for slot in inputs]
        places = (*self.places(matrices), ends, out.value, scratch.kept + self.spare(out.rows))
        attention_forward(k, *places, out.start, out.stop, **self._sizes(out))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        *matrices, ends = inputs
        values = self.places([slot.value for slot in matrices])
        gradients, kept = self.gradients(scratch.kept, matrices), scratch.kept + self.spare(out.rows)
        places = (*values, ends.value, out.value, out.grad, kept, *gradients)
        attention_backward(k, *places, out.start, out.stop, **self._sizes(out))


def _sizes(heads: Heads, stride: int) -> dict[str, int]:
    """What is fixed in the kernels."""
    sizes = {"head_dim": heads.head_dim, "lanes": heads.lanes, "columns": heads.columns, "stride": stride}
    return {**sizes, "block_size": heads.block_size}


class _Kept:
    """The views of what attention keeps, in one block; E columns each."""

    def __init__(self, block: Pointer, columns: int, positions: int, block_size: int) -> None:
        self.logits = block  # (S): of one position
        self.inverses = self.logits + block_size * columns  # (T): of the sum of the exponentials
        self.passed = self.inverses + positions * columns  # (T): gradient of the result, times the inverse
        self.offsets = self.passed + positions * columns  # (T): a head's sum of passed times result
        self.weights = self.offsets + positions * columns  # exponentials by document, group, t, s


class _Groups:
    """How a row's columns are cut into groups of whole heads."""

    def __init__(self, k: Builder, lanes: int, columns: int) -> None:
        self._k, self._columns = k, columns
        self.width = k.width(F32)
        self.vectors = max(1, lanes // self.width)  # of a group
        self._lanes = min(lanes, self.width)

    def __iter__(self) -> Iterator[Number]:
        """First column of each group."""
        step = self.vectors * self.width
        if self._columns // step > 2:
            yield from self._k.range(0, self._columns, step)
        else:
            yield from range(0, self._columns, step)

    def load(self, row: Pointer, column: Number) -> list[Value]:
        return [row.vector(column + v * self.width, self.width) for v in range(self.vectors)]

    def product(self, a: list[Value], b: list[Value]) -> Value:
        """Of each head, on all of its lanes."""
        total = a[0] * b[0]
        for x, y in zip(a[1:], b[1:], strict=True):
            total = self._k.mul_add(x, y, total)
        return self._k.group_sum(total, self._lanes)


@kernel
def attention_forward(
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
    head_dim: int,
    lanes: int,
    columns: int,
    stride: int,
    positions: int,
    block_size: int,
) -> None:
    """y_t = sum over s of softmax(q_t k_s / sqrt(head_dim)) v_s."""
    kept, groups, width = _Kept(block, columns, positions, block_size), _Groups(k, lanes, columns), k.width(F32)
    weight = k.variable(k.integer(0))

    def keep(exponential: Value) -> None:
        kept.weights.store(weight, exponential)
        weight.set(weight + width)

    for first, end in documents(k, ends, start, stop, block_size):
        for column in groups:
            document = first * stride + column
            for t in k.range(first, end):
                query = groups.load(q + t * stride, column)
                places = (keys + document, values + document, stride, kept.logits)
                result, inverse = _attend(k, groups, query, *places, t - first + 1, head_dim, keep)
                kept.inverses.store(t * columns + column, inverse)
                for v, part in enumerate(result):
                    y.store(t * columns + column + v * width, part)


def _attend(
    k: Builder,
    groups: _Groups,
    query: list[Value],
    keys: Pointer,
    values: Pointer,
    stride: int,
    logits: Pointer,
    count: Number,
    head_dim: int,
    keep: Callable[[Value], None],
) -> tuple[list[Value], Value]:
    """What one position takes from the first `count`, and the inverse of the sum of the exponentials."""
    scaled = [part * head_dim**-0.5 for part in query]
    largest = k.variable(k.constant(-3e38, F32, groups.width))
    for s in k.range(count):
        logit = groups.product(scaled, groups.load(keys, s * stride))
        logits.store(s * groups.width, logit)
        largest.set(k.maximum(logit, largest))
    total, sums = k.zeros(groups.width, F32), [k.zeros(groups.width, F32) for _ in query]
    for s in k.range(count):
        exponential = exp(k, logits.vector(s * groups.width, groups.width) - largest)
        keep(exponential)
        total += exponential
        for part, value in zip(sums, groups.load(values, s * stride), strict=True):
            part.accumulate(exponential, value)
    inverse = 1.0 / total
    return [part * inverse for part in sums], inverse


@kernel
def attention_backward(
    k: Builder,
    q: F32s,
    keys: F32s,
    values: F32s,
    ends: U32s,
    y: F32s,
    dy: F32s,
    block: F32s,
    dq: F32s,
    dkeys: F32s,
    dvalues: F32s,
    start: Int,
    stop: Int,
    *,
    head_dim: int,
    lanes: int,
    columns: int,
    stride: int,
    positions: int,
    block_size: int,
) -> None:
    """dv_s = sum over t of w dy_t; dlogit = w (dy_t v_s - dy_t y_t), passed to q_t times k_s, to k_s times q_t."""
    kept, groups, width = _Kept(block, columns, positions, block_size), _Groups(k, lanes, columns), k.width(F32)
    weights = k.variable(k.integer(0))
    for first, end in documents(k, ends, start, stop, block_size):
        for column in groups:
            for t in k.range(first, end):
                inverse = kept.inverses.vector(t * columns + column, width)
                passed = [part * inverse for part in groups.load(dy + t * columns, column)]
                offset = groups.product(passed, groups.load(y + t * columns, column))
                kept.offsets.store(t * columns + column, offset)
                for v, part in enumerate(passed):
                    kept.passed.store(t * columns + column + v * width, part)
                    dq.store(t * stride + column + v * width, k.constant(0, F32, width))
            for s in k.range(first, end):
                at = s * stride + column
                key = [part * head_dim**-0.5 for part in groups.load(keys, at)]
                value = groups.load(values, at)
                dkey, dvalue = ([k.zeros(width, F32) for _ in key] for _ in range(2))
                weight = k.variable(weights + _triangle(s - first) * width + (s - first) * width)
                for t in k.range(s, end):
                    exponential = kept.weights.vector(weight, width)
                    weight += (t - first + 1) * width
                    passed = groups.load(kept.passed + t * columns, column)
                    dweight = groups.product(passed, value) - kept.offsets.vector(t * columns + column, width)
                    dlogit = exponential * dweight
                    query, dquery = q + t * stride, dq + t * stride
                    for v, part in enumerate(groups.load(query, column)):
                        dkey[v].accumulate(dlogit, part)
                        dvalue[v].accumulate(exponential, passed[v])
                        place = column + v * width
                        dquery.store(place, k.mul_add(dlogit, key[v], dquery.vector(place, width)))
                for v in range(groups.vectors):
                    dkeys.store(at + v * width, dkey[v] * head_dim**-0.5)
                    dvalues.store(at + v * width, k.value(dvalue[v]))
            weights += _triangle(end - first) * width


def _triangle(n: Value) -> Value:
    """1 + 2 + ... + n."""
    return (n * (n + 1)) >> 1


class CachedAttention(OverHeads):
    """`CachedAttention(heads, lines)(qkv, places, lines)`: row t is the next position of a string of its own.

    `places` (T, 1) is that position, `lines` (T, 1) where the string's earlier keys and values are kept.
    """

    name = "cached attention"
    ids = 2

    def __init__(self, heads: Heads, lines: int, *, packed: bool = True) -> None:
        super().__init__(heads, packed=packed)
        self._lines = lines

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return (*[0] * len(self.sets), self.heads.block_size, self._lines)[place]

    def kept(self, positions: int, *inputs: Shape) -> int:
        return (1 + 2 * self._lines) * self.heads.block_size * self.heads.columns

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        *matrices, places, lines = [slot.value for slot in inputs]
        pointers = (*self.places(matrices), places, lines, out.value, scratch.kept)
        attention_step(k, *pointers, out.start, out.stop, **_sizes(self.heads, self.stride))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        raise AssertionError("strings are not generated backwards")


@kernel
def attention_step(
    k: Builder,
    q: F32s,
    keys: F32s,
    values: F32s,
    places: U32s,
    lines: U32s,
    y: F32s,
    block: F32s,
    start: Int,
    stop: Int,
    *,
    head_dim: int,
    lanes: int,
    columns: int,
    stride: int,
    block_size: int,
) -> None:
    """As `attention_forward`, for one position of each row's string."""
    groups, width = _Groups(k, lanes, columns), k.width(F32)
    logits, cache = block, block + block_size * columns  # (S), (lines, S, 2 E)
    for t in k.range(start, stop):
        row, place = t * stride, places[t]
        lines_of = cache + lines[t] * (block_size * 2 * columns)
        for column in groups:
            own_keys, own_values = lines_of + column, lines_of + columns + column
            for source, line in ((keys, own_keys), (values, own_values)):
                for v, part in enumerate(groups.load(source + row, column)):
                    line.store(place * (2 * columns) + v * width, part)
            query = groups.load(q + row, column)
            sizes = (2 * columns, logits, place + 1, head_dim)
            result, _ = _attend(k, groups, query, own_keys, own_values, *sizes, lambda _: None)
            for v, part in enumerate(result):
                y.store(t * columns + column + v * width, part)
