"""y = x W^T: products of every row of x with every row of W, each sum in index order.

Sums run side by side in the lanes, never inside one. Shapes: x (T, I), W (O, I), y (T, O).
"""

from __future__ import annotations

from tapegpt.machine.language import F32, Builder, F64s, Int, Number, Pointer, U32s, Value, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.elementwise import RULES, activate
from tapegpt.operations.products import make_panels
from tapegpt.operations.products import products as fast_products
from tapegpt.operations.rows import blocks, sum_rows
from tapegpt.operations.transpose import transpose
from tapegpt.value import linear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tapegpt.value import Matrix


class Linear(Operation):
    """`linear(x, W)`, or `linear(x, W, last)`: `last` (T, 1) names the column of y whose share of x's gradient is added
    last. microgpt.py adds so at the output layer, where the target's logit comes first on its graph.
    """

    name = "linear"
    formula = "sum of {n} products w * x"
    takes: tuple[int, ...] = (2, 3)
    prepares = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        x, w, *last = inputs
        fits = x.columns == w.columns and w.rows is not None
        self.expect(fits, "x and W must have as many columns, and W rows of fixed number", x, w)
        self.expect(all(ids.rows == x.rows for ids in last), "last must have a token id for each row of x", x, *last)
        return Shape(x.rows, w.rows or 0)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return inputs[1].rows or 0 if place == 2 else 0

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        x, w = inputs[:2]
        return [linear(row, w) for row in x]

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        return FastLinear(), ()

    def prepared(self, *inputs: Shape) -> int:
        w = inputs[1]
        return padded(w.columns) * padded(w.rows or 0)

    def prepare(self, k: Builder, scratch: Scratch, *inputs: Slot) -> None:
        w = inputs[1]
        transpose(k, w.value, scratch.prepared, rows=w.shape.rows, columns=w.columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x = inputs[0]
        products(
            k, x.value, scratch.prepared, out.value, out.start, out.stop, ins=x.columns, outs=out.columns, fresh=True
        )

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, w = inputs[:2]
        if w.gradient is not None:
            sizes = {"ins": x.columns, "outs": out.columns, "fresh": w.fresh}
            weight_gradient(k, x.value, out.grad, w.gradient, out.start, out.stop, **sizes)
        if x.gradient is not None:
            sizes = {"ins": out.columns, "outs": x.columns, "fresh": x.fresh and x is not w}
            if len(inputs) == 2:
                products(k, out.grad, w.value, x.gradient, out.start, out.stop, **sizes, reverse=True)
            else:
                products_but(k, out.grad, w.value, inputs[2].value, x.gradient, out.start, out.stop, **sizes)


@kernel
def products(
    k: Builder,
    x: F64s,
    w: F64s,
    y: F64s,
    start: Int,
    stop: Int,
    *,
    ins: int,
    outs: int,
    fresh: bool,
    reverse: bool = False,
) -> None:
    """y (T, outs) = or += x (T, ins) times w (ins, outs): w is W^T going forward, W in reverse going back."""
    pairs = start + (stop - start) // 2 * 2
    for first, vectors in blocks(k, padded(outs) // k.width(), _block(k)):
        for rows, begin, end in ((2, start, pairs), (1, pairs, stop)):
            for t in k.range(begin, end, rows):
                order = k.range(ins - 1, -1, -1) if reverse else k.range(ins)
                place = y + t * padded(outs) + first
                _tile(k, x + t * padded(ins), w + first, place, rows, vectors, order, ins, outs, fresh)


@kernel
def products_but(
    k: Builder,
    dy: F64s,
    w: F64s,
    last: U32s,
    dx: F64s,
    start: Int,
    stop: Int,
    *,
    ins: int,
    outs: int,
    fresh: bool,
) -> None:
    """dx (T, outs) = or += dy (T, ins) times w in reverse, but for the row of w that `last` names: it comes last."""
    for first, vectors in blocks(k, padded(outs) // k.width(), _block(k)):
        for t in k.range(start, stop):
            place = dx + t * padded(outs) + first
            _tile(k, dy + t * padded(ins), w + first, place, 1, vectors, _but(k, ins, last[t]), ins, outs, fresh)


def _but(k: Builder, count: int, last: Value) -> Iterator[Number]:
    """From count - 1 down to 0 without `last`, then `last`."""
    yield from k.range(count - 1, last, -1)
    yield from k.range(last - 1, -1, -1)
    yield last


def _block(k: Builder) -> int:
    """Vectors of a tile; times two rows half of the registers."""
    return 8 if k.target.registers > 16 else 4


def _tile(
    k: Builder,
    x: Pointer,
    w: Pointer,
    y: Pointer,
    rows: int,
    vectors: int,
    order: Iterable[Number],
    ins: int,
    outs: int,
    fresh: bool,
) -> None:
    """Some rows of y, some vectors of each, all sums in registers, their products in this order."""
    width = k.width()
    columns = [c * width for c in range(vectors)]
    places = [(r * padded(ins), r * padded(outs) + c, c) for r in range(rows) for c in columns]
    sums = [k.zeros(width) if fresh else k.variable(y.vector(at, width)) for _, at, _ in places]
    for i in order:
        loaded = {c: w.vector(i * padded(outs) + c, width) for c in columns}
        spread = {r: k.spread(x[r + i], width) for r in sorted({r for r, _, _ in places})}
        for total, (r, _, c) in zip(sums, places, strict=True):
            total += loaded[c] * spread[r]
    for total, (_, at, _) in zip(sums, places, strict=True):
        y.store(at, total)


@kernel
def weight_gradient(
    k: Builder, x: F64s, dy: F64s, dw: F64s, start: Int, stop: Int, *, ins: int, outs: int, fresh: bool
) -> None:
    """dw (outs, ins) = or += the products of dy (T, outs) and x (T, ins), the last position first."""
    block = min(padded(ins) // k.width(), 4)
    rows = max(1, min(8, outs, k.target.registers // 2 // block))  # half of the registers hold sums
    whole = outs // rows * rows
    for first, vectors in blocks(k, padded(ins) // k.width(), block):
        for i in k.range(0, whole, rows):
            at = i * padded(ins) + first
            _gradient_tile(k, x + first, dy + i, dw + at, start, stop, rows, vectors, ins, outs, fresh)
        for i in k.range(whole, outs):
            at = i * padded(ins) + first
            _gradient_tile(k, x + first, dy + i, dw + at, start, stop, 1, vectors, ins, outs, fresh)


def _gradient_tile(
    k: Builder,
    x: Pointer,
    dy: Pointer,
    dw: Pointer,
    start: Int,
    stop: Int,
    rows: int,
    vectors: int,
    ins: int,
    outs: int,
    fresh: bool,
) -> None:
    """Some rows of dw, some vectors of each, all sums in registers while the positions run."""
    width = k.width()
    columns = [c * width for c in range(vectors)]
    places = [(r, r * padded(ins) + c, c) for r in range(rows) for c in columns]
    sums = [k.zeros(width) if fresh else k.variable(dw.vector(at, width)) for _, at, _ in places]
    for t in k.range(stop - 1, start - 1, -1):
        loaded = {c: x.vector(t * padded(ins) + c, width) for c in columns}
        spread = [k.spread(dy[t * padded(outs) + r], width) for r in range(rows)]
        for total, (r, _, c) in zip(sums, places, strict=True):
            total += loaded[c] * spread[r]
    for total, (_, at, _) in zip(sums, places, strict=True):
        dw.store(at, total)


# --- f32 ------------------------------------------------------------------------------------------------------------


class FastLinear(Linear):
    """`FastLinear(...)(x, W, residual, bias)` in f32, for many rows, with what comes next where it is asked for.

    A bias (1, O) is added, and then a residual (T, O), or an activation is applied.
    Keeps the slopes of an activation for the product after it; those of ReLU are seen from its result.
    """

    real = F32
    unwinds = (0,)

    def __init__(self, activation: str = "", *, residual: bool = False, bias: bool = False) -> None:
        assert not (activation and residual), "a product ends in one way"
        self.activation = activation
        self._kept_rule = None if activation in ("", "relu") else RULES[activation]
        self.takes, self._has_bias = (2 + residual + bias,), bias
        self.passes = (2,) if residual else ()
        self.clears = (1, 2 + residual) if bias else (1,)

    def __str__(self) -> str:
        return (
            self.name + " + bias" * self._has_bias + " + residual" * bool(self.passes) + f" {self.activation}".rstrip()
        )

    def shape(self, *inputs: Shape) -> Shape:
        x, w = inputs[:2]
        self.expect(x.columns == w.columns and w.rows is not None, "x and W must have as many columns", x, w)
        result, others = Shape(x.rows, w.rows or 0), list(inputs[2:])
        if self._has_bias:
            self.expect(others.pop() == Shape(1, result.columns), "the bias must be a row as the result's", *inputs)
        self.expect(all(other == result for other in others), "the residual must have the result's shape", *inputs)
        return result

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return 0

    def prepared(self, *inputs: Shape) -> int:
        return padded(inputs[1].rows or 0) * inputs[1].columns

    def kept(self, positions: int, *inputs: Shape) -> int:
        x, w = inputs[:2]
        return x.count(positions) * padded(w.rows or 0) if self._kept_rule else 0

    def prepare(self, k: Builder, scratch: Scratch, *inputs: Slot) -> None:
        w = inputs[1]
        outs = w.shape.rows
        make_panels(k, w.value, scratch.prepared, outs or 0, outs=outs, ins=w.columns, stride=padded(w.columns))

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x = inputs[0]
        row, column = padded(x.columns), padded(out.columns)
        beside = inputs[2].value if self.passes else x.value
        places = (
            x.value + out.start * row,
            scratch.prepared,
            out.value + out.start * column,
            beside + out.start * column,
            inputs[-1].value,
        )
        strides = {"x_row": row, "x_step": 1, "w_step": 0, "y_row": column, "columns": out.columns}
        finish = "+ other" if self.passes else "" if self._kept_rule else self.activation
        sizes = (out.stop - out.start, x.columns)
        fast_products(k, *places, *sizes, **strides, finish=finish, has_bias=self._has_bias)
        if self._kept_rule:
            activate(k, out.value, scratch.kept, out.start, out.stop, rule=self._kept_rule, columns=out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, w = inputs[:2]
        row, column, rows = padded(x.columns), padded(out.columns), out.stop - out.start
        values, passed = x.value + out.start * row, out.grad + out.start * column
        bias = inputs[-1].gradient
        if self._has_bias and bias is not None:
            sum_rows(k, out, bias)
        if w.gradient is not None:
            strides = {"x_row": 1, "x_step": column, "w_step": row, "y_row": row, "columns": x.columns}
            places = (passed, values, w.gradient, values, values)
            fast_products(k, *places, out.columns, rows, **strides, finish="+ y", fixed_rows=out.columns)
        if x.gradient is not None:
            strides = {"x_row": column, "x_step": 1, "w_step": row, "y_row": row, "columns": x.columns}
            beside = x.value if x.slopes is None else x.slopes
            finish = "" if x.fresh and x is not w else "+ y"
            if x.activation:
                finish = "* relu'" if x.activation == "relu" else "* other"
            places = (passed, w.value, x.gradient + out.start * row, beside + out.start * row, values)
            fast_products(k, *places, rows, out.columns, **strides, finish=finish)
