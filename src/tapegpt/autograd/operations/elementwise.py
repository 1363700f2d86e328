"""Elementwise operations: those of `Value`, on nodes of one shape or with one row, column or number for all.

Each rule is a formula and the local gradients of its inputs, for f64 and f32. `a - b`, `a / b` and `-a`
are built from these as microgpt.py builds them: a + b * -1, a * b ** -1, a * -1.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, clear
from tapegpt.autograd.operations.functions import exp_of_any, log_of_any, mul_add, power, sigmoid, tanh
from tapegpt.autograd.operations.rows import (
    accumulate,
    across,
    broadcast,
    broadcast_row,
    one_by_one,
    row_by_row,
    sum_of_lanes,
)
from tapegpt.autograd.value import CUBE, GELU, Matrix
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tapegpt.autograd.value import Value as Scalar
    from tapegpt.machine.language import Builder, Number, Operand, Pointer, Value


class Rule(Record):
    """A formula y = f(a, b) in kernels, and the local gradient of each input, g(y, a, b); in scalars it is `Value`'s.

    b is a number of the second input, or a plain number that is the same everywhere; functions have no b.
    """

    name: str  # of a method of `Value`, or with underscores around it
    formula: Callable[..., Value]
    locals: tuple[Callable[..., Number], ...]
    words: str = ""  # the formula; left out it is the name of a function

    def __repr__(self) -> str:
        return self.name

    def scalar(self, a: Scalar, *b: Scalar | float) -> Scalar:
        """The result in scalars."""
        result: Scalar = getattr(a, self.name if hasattr(a, self.name) else f"__{self.name}__")(*b)
        return result


def indicator(k: Builder, condition: Operand, like: Value) -> Value:
    """1 where the condition holds, else 0."""
    return k.select(condition, k.constant(1, like.type, like.lanes), 0.0)


def gelu_gate(k: Builder, x: Value) -> Value:
    """What GELU multiplies x by."""
    return sigmoid(k, x * mul_add(k, x * x, CUBE, GELU))


def gated_gradient(k: Builder, y: Value, gate: Value, dgate: Number) -> Value:
    """dy/dx of y = x * sigmoid(u): `gate` is the sigmoid, `dgate` is du/dx."""
    return mul_add(k, y, (1.0 - gate) * dgate, gate)


RULES = {
    rule.name: rule
    for rule in (
        Rule("add", lambda k, a, b: a + b, (lambda k, y, a, b: 1.0, lambda k, y, a, b: 1.0), "a + {b}"),
        Rule("mul", lambda k, a, b: a * b, (lambda k, y, a, b: b, lambda k, y, a, b: a), "a * {b}"),
        Rule(
            "maximum",
            lambda k, a, b: k.maximum(b, a),
            (lambda k, y, a, b: 1.0 - indicator(k, a < b, a), lambda k, y, a, b: indicator(k, a < b, a)),
            "the larger of a and {b}",
        ),
        Rule("pow", power, (lambda k, y, a, b: power(k, a, b - 1) * b,), "a ** {b}"),
        Rule("exp", exp_of_any, (lambda k, y, a: y,)),
        Rule("log", log_of_any, (lambda k, y, a: 1.0 / a,)),
        Rule("sqrt", lambda k, a: k.sqrt(a), (lambda k, y, a: 0.5 / y,)),
        Rule("abs", lambda k, a: k.abs(a), (lambda k, y, a: indicator(k, a > 0.0, a) - indicator(k, a < 0.0, a),)),
        Rule("tanh", tanh, (lambda k, y, a: 1.0 - y * y,)),
        Rule("sigmoid", sigmoid, (lambda k, y, a: y * (1.0 - y),)),
        Rule(
            "relu",
            lambda k, a: k.select(a > 0.0, a, 0.0),
            (lambda k, y, a: indicator(k, a > 0.0, a),),
            "a where it is above 0, else 0",
        ),
        Rule("silu", lambda k, a: a * sigmoid(k, a), (lambda k, y, a: gated_gradient(k, y, sigmoid(k, a), 1.0),)),
        Rule(
            "gelu",
            lambda k, a: a * gelu_gate(k, a),
            (lambda k, y, a: gated_gradient(k, y, gelu_gate(k, a), mul_add(k, a * a, 3 * CUBE, GELU)),),
        ),
    )
}


class Elementwise(Operation):
    """One rule on one or two nodes, or on one and a constant."""

    real = None

    def __init__(self, name: str, constant: float | None = None) -> None:
        self.name, self.rule = name, RULES[name]
        self.constants = () if constant is None else (constant,)
        self.takes = (len(self.rule.locals) if constant is None else 1,)
        words = self.rule.words or f"{name}(a)"
        self.formula = words.format(b="b" if constant is None else repr(constant))
        self.is_activation = constant is None and self.takes == (1,)

    def __str__(self) -> str:
        return " ".join([self.name, *map(repr, self.constants)])

    def shape(self, *inputs: Shape) -> Shape:
        rows = {shape.rows for shape in inputs}
        columns = {shape.columns for shape in inputs}
        fits = max(len(rows - {1}), len(columns - {1})) <= 1
        self.expect(fits, "needs inputs of one shape, or with one row, column or number for all", *inputs)
        return Shape(next(iter(rows - {1}), 1), max(columns))

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        rows, columns = max(map(len, inputs)), max(len(x[0]) for x in inputs)

        def number(t: int, c: int) -> Scalar:
            each = (x[t % len(x)][c % len(x[0])] for x in inputs)
            return self.rule.scalar(*each, *self.constants)

        return [[number(t, c) for c in range(columns)] for t in range(rows)]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """y = f(a, b)."""
        for t, (y,) in row_by_row(k, out, out.value):
            for c, lanes in across(k, out.columns, y.type):
                y.store(c, self.rule.formula(k, *self._numbers(k, out, inputs, t, c, lanes)))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """Differentiate by each input in turn."""
        for index, x in enumerate(inputs):
            if x.gradient is not None:
                self._pass(k, out, inputs, index)

    def _pass(self, k: Builder, out: Slot, inputs: Sequence[Slot], index: int) -> None:
        """dx = or += dy times the local gradient of one input; the last row first."""
        x, local = inputs[index], self.rule.locals[index]
        fresh = x.fresh and all(earlier is not x for earlier in inputs[:index])
        if fresh and x.shape != out.shape:
            clear(k, x.grad + x.start * x.stride, (x.stop - x.start) * x.stride)
            fresh = False
        for t, (y, dy) in row_by_row(k, out, out.value, out.grad, reverse=True):
            dx = x.grad + broadcast_row(x, out, t)
            total = None if x.columns == out.columns else k.variable(dx[0])
            whole = across(k, out.columns, dx.type)
            for c, lanes in whole if total is None else one_by_one(k, out.columns, dx.type, reverse=True):
                numbers = self._numbers(k, out, inputs, t, c, lanes)
                gradient = dy.vector(c, lanes) * local(k, y.vector(c, lanes), *numbers)
                if total is None:
                    accumulate(dx, c, gradient, fresh=fresh)
                else:
                    total += sum_of_lanes(k, gradient)
            if total is not None:
                dx[0] = total

    def _numbers(self, k: Builder, out: Slot, inputs: Sequence[Slot], t: Number, c: Number, lanes: int) -> list[Any]:
        """a and b, or a and the constant, beside some columns of a row of the result."""
        return [*(broadcast(k, x.value, x, out, t, c, lanes) for x in inputs), *self.constants]


def activate(k: Builder, out: Slot, local_grads: Pointer, rule: Rule) -> None:
    """y = f(y), and its local gradient beside it."""
    (local,) = rule.locals
    for _, (y, local_grad) in row_by_row(k, out, out.value, local_grads):
        for c, lanes in across(k, out.columns, y.type):
            x = y.vector(c, lanes)
            result = rule.formula(k, x)
            y.store(c, result)
            local_grad.store(c, k.coerce(local(k, result, x), y.type, x.lanes))
