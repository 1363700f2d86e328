"""Operations number by number: what `Value` does, for nodes of one shape or with one row, column or number for all.

Each rule is a formula and the local gradients of its inputs, side by side, for f64 and f32. `a - b`, `a / b` and `-a`
are built from these as microgpt.py builds them: a + b * -1, a * b ** -1, a * -1.
"""

from __future__ import annotations

from tapegpt.machine.language import Builder, Int, Number, Operand, Pointer, Reals, Value, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, clear, padded
from tapegpt.operations.functions import exp_of_any, log_of_any, mul_add, power, sigmoid, tanh
from tapegpt.operations.rows import across, one_by_one, sum_of_lanes
from tapegpt.record import Record
from tapegpt.value import CUBE, GELU

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tapegpt.value import Matrix
    from tapegpt.value import Value as Scalar


class Rule(Record):
    """A formula f(a, b), and its local gradients g(a, b, y) with y = f(a, b).

    b is a number of the second input, or a plain number that is the same everywhere; some rules have no b.
    """

    name: str
    scalar: Callable[[Scalar, Any], Scalar]
    formula: Callable[[Builder, Value, Any], Value]
    locals: tuple[Callable[[Builder, Value, Any, Value], Number], ...]
    words: str = ""  # the formula; left out it is the name of a function

    def __repr__(self) -> str:
        return self.name


def one_where(k: Builder, condition: Operand, like: Value) -> Value:
    """1 where the condition holds, else 0."""
    return k.select(condition, k.constant(1, like.type, like.lanes), 0.0)


def gelu_gate(k: Builder, x: Value) -> Value:
    """What GELU multiplies x by."""
    return sigmoid(k, x * mul_add(k, x * x, CUBE, GELU))


def gated_slope(k: Builder, y: Value, gate: Value, slope: Number) -> Value:
    """Of y = x * sigmoid(u) by x: `gate` is the sigmoid, `slope` that of u."""
    return mul_add(k, y, (1.0 - gate) * slope, gate)


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "add",
            lambda a, b: a + b,
            lambda k, a, b: a + b,
            (lambda k, a, b, y: 1.0, lambda k, a, b, y: 1.0),
            "a + {b}",
        ),
        Rule("mul", lambda a, b: a * b, lambda k, a, b: a * b, (lambda k, a, b, y: b, lambda k, a, b, y: a), "a * {b}"),
        Rule(
            "maximum",
            lambda a, b: a.maximum(b),
            lambda k, a, b: k.maximum(b, a),
            (lambda k, a, b, y: 1.0 - one_where(k, a < b, a), lambda k, a, b, y: one_where(k, a < b, a)),
            "the larger of a and {b}",
        ),
        Rule(
            "pow",
            lambda a, b: a**b,
            power,
            (lambda k, a, b, y: power(k, a, b - 1) * b,),
            "a ** {b}",
        ),
        Rule("exp", lambda a, b: a.exp(), lambda k, a, b: exp_of_any(k, a), (lambda k, a, b, y: y,)),
        Rule("log", lambda a, b: a.log(), lambda k, a, b: log_of_any(k, a), (lambda k, a, b, y: 1.0 / a,)),
        Rule("sqrt", lambda a, b: a.sqrt(), lambda k, a, b: k.sqrt(a), (lambda k, a, b, y: 0.5 / y,)),
        Rule(
            "abs",
            lambda a, b: abs(a),
            lambda k, a, b: k.abs(a),
            (lambda k, a, b, y: one_where(k, a > 0.0, a) - one_where(k, a < 0.0, a),),
        ),
        Rule("tanh", lambda a, b: a.tanh(), lambda k, a, b: tanh(k, a), (lambda k, a, b, y: 1.0 - y * y,)),
        Rule("sigmoid", lambda a, b: a.sigmoid(), lambda k, a, b: sigmoid(k, a), (lambda k, a, b, y: y * (1.0 - y),)),
        Rule(
            "relu",
            lambda a, b: a.relu(),
            lambda k, a, b: k.select(a > 0.0, a, 0.0),
            (lambda k, a, b, y: one_where(k, a > 0.0, a),),
            "a where it is above 0, else 0",
        ),
        Rule(
            "silu",
            lambda a, b: a.silu(),
            lambda k, a, b: a * sigmoid(k, a),
            (lambda k, a, b, y: gated_slope(k, y, sigmoid(k, a), 1.0),),
        ),
        Rule(
            "gelu",
            lambda a, b: a.gelu(),
            lambda k, a, b: a * gelu_gate(k, a),
            (lambda k, a, b, y: gated_slope(k, y, gelu_gate(k, a), mul_add(k, a * a, 3 * CUBE, GELU)),),
        ),
    )
}


class Elementwise(Operation):
    """One rule on one or two nodes, or on one and a constant."""

    real = None

    def __init__(self, name: str, constant: float | None = None) -> None:
        self.name, self.constant = name, constant
        self._rule = rule = RULES[name]
        self.takes = (len(rule.locals) if constant is None else 1,)
        words = rule.words or f"{name}(a)"
        self.formula = words.format(b="b" if constant is None else repr(constant))
        self.is_activation = constant is None and self.takes == (1,)

    def __str__(self) -> str:
        return self.name if self.constant is None else f"{self.name} {self.constant!r}"

    def shape(self, *inputs: Shape) -> Shape:
        rows = {shape.rows for shape in inputs}
        columns = {shape.columns for shape in inputs}
        fits = max(len(rows - {1}), len(columns - {1})) <= 1
        self.expect(fits, "needs inputs of one shape, or with one row, column or number for all", *inputs)
        return Shape(next(iter(rows - {1}), 1), max(columns))

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        scalar, constant = self._rule.scalar, self.constant
        a, b = inputs[0], inputs[-1]
        rows, columns = max(len(a), len(b)), max(len(a[0]), len(b[0]))

        def at(matrix: Matrix, t: int, c: int) -> Scalar:
            row = matrix[t % len(matrix)]
            return row[c % len(row)]

        return [
            [scalar(at(a, t, c), at(b, t, c) if constant is None else constant) for c in range(columns)]
            for t in range(rows)
        ]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        a, b = inputs[0], inputs[-1]
        apply(k, a.value, b.value, out.value, out.start, out.stop, **self._constants(out, a, b))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        a, b = inputs[0], inputs[-1]
        for index, x in enumerate(inputs):
            if x.gradient is not None:
                fresh = x.fresh and all(earlier is not x for earlier in inputs[:index])
                walk = _walk(x, out)
                if fresh and walk != _walk(out, out):
                    place = x.gradient + x.start * padded(x.columns)
                    clear(k, place, (x.stop - x.start) * padded(x.columns))
                    fresh = False
                places = (a.value, b.value, out.value, out.grad, x.gradient)
                sizes = {"index": index, "walk": walk, "fresh": fresh}
                pass_back(k, *places, out.start, out.stop, **sizes, **self._constants(out, a, b))

    def _constants(self, out: Slot, *inputs: Slot) -> dict[str, object]:
        walks = [_walk(x, out) for x in inputs]
        return {"rule": self._rule, "constant": self.constant, "columns": out.columns, "walks": walks}


def _walk(x: Slot, out: Slot) -> tuple[int, bool]:
    """How an input lies beside the result: from row to row, 0 if it has one for all; whether it has all columns."""
    return padded(x.columns) if x.shape.rows == out.shape.rows else 0, x.columns == out.columns


def _load(place: Pointer, k: Builder, walk: tuple[int, bool], t: Number, c: Number, lanes: int) -> Value:
    row, is_whole = walk
    if is_whole:
        return place.vector(t * row + c, lanes)
    return k.spread(place[t * row], 0 if lanes == 1 else lanes)


@kernel
def apply(
    k: Builder,
    a: Reals,
    b: Reals,
    y: Reals,
    start: Int,
    stop: Int,
    *,
    rule: Rule,
    constant: float | None,
    columns: int,
    walks: list[tuple[int, bool]],
) -> None:
    """y = f(a, b)."""
    for t in k.range(start, stop):
        for c, lanes in across(k, columns, y.type):
            first = _load(a, k, walks[0], t, c, lanes)
            second = _load(b, k, walks[1], t, c, lanes) if constant is None else constant
            y.store(t * padded(columns) + c, rule.formula(k, first, second))


@kernel
def pass_back(
    k: Builder,
    a: Reals,
    b: Reals,
    y: Reals,
    dy: Reals,
    dx: Reals,
    start: Int,
    stop: Int,
    *,
    rule: Rule,
    constant: float | None,
    columns: int,
    walks: list[tuple[int, bool]],
    index: int,
    walk: tuple[int, bool],
    fresh: bool,
) -> None:
    """dx = or += the local gradient of one input, times dy; the last row first."""
    row, is_whole = walk
    for t in k.range(stop - 1, start - 1, -1):
        total = None if is_whole else k.variable(dx[t * row])
        for c, lanes in across(k, columns, dx.type) if is_whole else one_by_one(k, columns, dx.type, reverse=True):
            first = _load(a, k, walks[0], t, c, lanes)
            second = _load(b, k, walks[1], t, c, lanes) if constant is None else constant
            at = t * padded(columns) + c
            gradient = dy.vector(at, lanes) * rule.locals[index](k, first, second, y.vector(at, lanes))
            if total is not None:
                total += sum_of_lanes(k, gradient)
            else:
                place = t * row + c
                dx.store(place, gradient if fresh else dx.vector(place, lanes) + gradient)
        if total is not None:
            dx[t * row] = total


@kernel
def activate(k: Builder, y: Reals, slopes: Reals, start: Int, stop: Int, *, rule: Rule, columns: int) -> None:
    """y = f(y), and its slopes beside it."""
    formula, (local,) = rule.formula, rule.locals
    for t in k.range(start, stop):
        for c, lanes in across(k, columns, y.type):
            at = t * padded(columns) + c
            x = y.vector(at, lanes)
            result = formula(k, x, 0.0)
            y.store(at, result)
            slopes.store(at, k.shaped(local(k, x, 0.0, result), y.type, x.lanes))
