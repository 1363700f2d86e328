"""y = x W^T for many rows, with what comes next: a residual added, or an activation.

Shapes: x (T, I), W (O, I), y (T, O).
"""

from __future__ import annotations

from tapegpt.machine.language import F32
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.fast.products import make_panels, products

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.machine.language import Builder

SLOPES = {"": "", "relu": "* relu'"}  # how the gradient before an activation ends


class Linear(Operation):
    """`Linear()(x, W)`, `Linear(activation="relu")(x, W)`, or `Linear(residual=True)(x, W, y0)`: x W^T + y0."""

    name = "linear"
    real = F32
    prepares = (1,)
    clears = (1,)
    unwinds = (0,)
    sets = (0,)

    def __init__(self, activation: str = "", *, residual: bool = False) -> None:
        assert not (activation and residual), "a product ends in one way"
        self.activation = activation
        self.takes = (3,) if residual else (2,)
        self.passes = (2,) if residual else ()

    def __str__(self) -> str:
        return " ".join(filter(None, [self.name, self.activation, "+ residual" if self.passes else ""]))

    def shape(self, *inputs: Shape) -> Shape:
        x, w = inputs[:2]
        self.expect(x.columns == w.columns and w.rows is not None, "x and W must have as many columns", x, w)
        result = Shape(x.rows, w.rows or 0)
        self.expect(all(other == result for other in inputs[2:]), "the residual must have the result's shape", *inputs)
        return result

    def prepared(self, *inputs: Shape) -> int:
        return padded(inputs[1].rows or 0) * inputs[1].columns

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
        )
        strides = {"x_row": row, "x_step": 1, "w_step": 0, "y_row": column, "columns": out.columns}
        finish = "+ other" if self.passes else self.activation
        products(k, *places, out.stop - out.start, x.columns, **strides, finish=finish)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        x, w = inputs[:2]
        row, column, rows = padded(x.columns), padded(out.columns), out.stop - out.start
        values, passed = x.value + out.start * row, out.grad + out.start * column
        if w.gradient is not None:
            strides = {"x_row": 1, "x_step": column, "w_step": row, "y_row": row, "columns": x.columns}
            places = (passed, values, w.gradient, values)
            products(k, *places, out.columns, rows, **strides, finish="+ y", fixed_rows=out.columns)
        if x.gradient is not None:
            strides = {"x_row": column, "x_step": 1, "w_step": row, "y_row": row, "columns": x.columns}
            places = (passed, w.value, x.gradient + out.start * row, values)
            products(k, *places, rows, out.columns, **strides, finish=SLOPES[x.activation])
