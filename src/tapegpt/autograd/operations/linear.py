"""y = x W^T: products of every row of x with every row of W, each sum in index order.

Shapes: x (T, I), W (O, I), y (T, O).
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import PAD, Operation, Scratch, Shape, Slot, View, in_f32, padded, row_stride
from tapegpt.autograd.operations.elementwise import RULES, activate
from tapegpt.autograd.operations.products import Finish, Loose, Panels, fast_products, make_panels, products
from tapegpt.autograd.operations.rows import sum_rows
from tapegpt.autograd.operations.transpose import transpose
from tapegpt.autograd.value import Matrix, linear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tapegpt.machine.language import Builder


class Linear(Operation):
    """`linear(x, W)`, or `linear(x, W, last)`: `last` (T, 1) names the column of y whose share of x's gradient is added
    last. microgpt.py adds so at the output layer, where the target's logit comes first on its graph.
    """

    name = "linear"
    formula = "sum of {n} products w * x"
    takes: tuple[int, ...] = (2, 3)
    prepares = (1,)

    def shape(self, x: Shape, w: Shape, *last: Shape) -> Shape:
        fits = x.columns == w.columns and w.rows is not None
        self.expect(fits, "x and W must have as many columns, and W rows of fixed number", x, w)
        self.expect(all(ids.rows == x.rows for ids in last), "last must have a token id for each row of x", x, *last)
        return Shape(x.rows, w.rows or 0)

    def index_bounds(self, x: Shape, w: Shape, *last: Shape) -> list[int]:
        return [0, 0, *[w.rows or 0 for _ in last]]

    def reference(self, inner: dict[str, Matrix], x: Matrix, w: Matrix, *last: Matrix) -> Matrix:
        return [linear(row, w) for row in x]

    def prepared_size(self, x: Shape, w: Shape, *last: Shape) -> int:
        return padded(w.columns) * row_stride(w.rows or 0)

    def prepare(self, k: Builder, scratch: Scratch, x: Slot, w: Slot, *last: Slot) -> None:
        """W^T."""
        transpose(k, w.value, scratch.prepared, rows=w.rows, columns=w.columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, w: Slot, *last: Slot) -> None:
        """y = x W^T."""
        turned = View(scratch.prepared, w.columns, w.rows, row_stride(w.rows))
        products(k, x.view(x.value), turned, out.view(out.value), fresh=True)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, w: Slot, *last: Slot) -> None:
        """dW = or += dy^T x and dx = or += dy W."""
        dy = out.view(out.grad)
        if w.gradient is not None:
            products(k, dy.T, x.view(x.value), w.view(w.gradient), fresh=w.fresh, reverse=True)
        if x.gradient is not None:
            targets, fresh = [ids.value + out.start for ids in last], x.fresh and x is not w
            products(k, dy, w.view(w.value), x.view(x.gradient), *targets, fresh=fresh, reverse=True)


# --- f32 ------------------------------------------------------------------------------------------------------------


@in_f32(Linear)
class FastLinear(Linear):
    """`FastLinear(...)(x, W, residual, bias)` in f32, for many rows, fused with what comes next.

    A bias (1, O) is added, and then a residual (T, O), or an activation is applied.
    Keeps the local gradients of an activation for the product after it; those of ReLU are seen from its result.
    """

    takes: tuple[int, ...] = (2,)
    unwinds = (0,)
    clears: tuple[int, ...] = (1,)
    _kept_rule, _has_bias = None, False

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

    def shape(self, x: Shape, w: Shape, *added: Shape) -> Shape:
        self.expect(x.columns == w.columns and w.rows is not None, "x and W must have as many columns", x, w)
        result = Shape(x.rows, w.rows or 0)
        residual, bias = self._apart(added)
        self.expect(bias in (None, Shape(1, result.columns)), "the bias must be a row as the result's", x, w, *added)
        self.expect(residual in (None, result), "the residual must have the result's shape", x, w, *added)
        return result

    def _apart(self, added: Sequence[Any]) -> tuple[Any, Any]:
        """Residual and bias, None where there is none."""
        return added[0] if self.passes else None, added[-1] if self._has_bias else None

    def index_bounds(self, *inputs: Shape) -> list[int]:
        return [0] * len(inputs)

    def prepared_size(self, x: Shape, w: Shape, *added: Shape) -> int:
        return padded(w.rows or 0) * w.columns

    def kept_size(self, positions: int, x: Shape, w: Shape, *added: Shape) -> int:
        local_grads = x.count(positions) * row_stride(w.rows or 0) if self._kept_rule else 0
        return local_grads + PAD * max(x.count(positions), w.rows or 0)

    def prepare(self, k: Builder, scratch: Scratch, x: Slot, w: Slot, *added: Slot) -> None:
        """W^T in panels."""
        make_panels(k, w.view(w.value), scratch.prepared, outs=w.rows)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, w: Slot, *added: Slot) -> None:
        """y = x W^T + bias + residual, or the activation of x W^T + bias."""
        residual, bias = self._apart(added)
        finish = Finish(
            "+" if residual else "" if self._kept_rule else self.activation,
            residual and residual.view(residual.value),
            bias and bias.value,
        )
        fast_products(k, x.view(x.value), Panels(scratch.prepared, w.columns), out.view(out.value), finish)
        if self._kept_rule:
            activate(k, out, scratch.kept, self._kept_rule)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, w: Slot, *added: Slot) -> None:
        """dW += dy^T x and dx = or += dy W, or times the local gradients of x's activation."""
        dy, (_, bias) = out.view(out.grad), self._apart(added)
        panel = scratch.kept + (out.extent if self._kept_rule else 0)
        if bias and bias.gradient is not None:
            sum_rows(k, out, bias.gradient)
        if w.gradient is not None:
            fast_products(k, dy.T, Loose(x.view(x.value), panel), w.view(w.gradient), Finish("+"))
        if x.gradient is not None:
            finish = Finish("" if x.fresh and x is not w else "+")
            if x.activation:
                local_grads = x.value if x.local_grads is None else x.local_grads
                finish = Finish("* relu'" if x.activation == "relu" else "*", x.view(local_grads))
            fast_products(k, dy, Loose(w.view(w.value), panel), x.view(x.gradient), finish)
