"""Operations number by number, and their sum: what `reference.Value` does, for nodes of any shape.

Each rule is a formula and the local gradients of its inputs, side by side. `a - b`, `a / b` and `-a` are built from
these as microgpt.py builds them: a + b * -1, a * b ** -1, a * -1.
"""

from __future__ import annotations

from tapegpt.machine.language import Builder, F64s, Int, Operand, Value, kernel
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, across, padded
from tapegpt.record import Record
from tapegpt.value import total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.value import Matrix
    from tapegpt.value import Value as Scalar


class Rule(Record):
    """A formula f(a, b) and its local gradients; `constant` is a plain number that some formulas take."""

    name: str
    scalar: Callable[[Scalar, Scalar, float], Scalar]
    formula: Callable[[Builder, Value, Value, float], Value]
    locals: tuple[Callable[[Builder, Value, Value, float], Operand | float], ...]


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "add",
            lambda a, b, c: a + b,
            lambda k, a, b, c: a + b,
            (lambda k, a, b, c: 1.0, lambda k, a, b, c: 1.0),
        ),
        Rule("mul", lambda a, b, c: a * b, lambda k, a, b, c: a * b, (lambda k, a, b, c: b, lambda k, a, b, c: a)),
        Rule("shift", lambda a, b, c: a + c, lambda k, a, b, c: a + c, (lambda k, a, b, c: 1.0,)),
        Rule("scale", lambda a, b, c: a * c, lambda k, a, b, c: a * c, (lambda k, a, b, c: c,)),
        Rule("pow", lambda a, b, c: a**c, lambda k, a, b, c: k.pow(a, c), (lambda k, a, b, c: k.pow(a, c - 1) * c,)),
        Rule("exp", lambda a, b, c: a.exp(), lambda k, a, b, c: k.exp(a), (lambda k, a, b, c: k.exp(a),)),
        Rule("log", lambda a, b, c: a.log(), lambda k, a, b, c: k.log(a), (lambda k, a, b, c: 1.0 / a,)),
        Rule(
            "relu",
            lambda a, b, c: a.relu(),
            lambda k, a, b, c: k.select(a > 0.0, a, 0.0),
            (lambda k, a, b, c: k.select(a > 0.0, k.constant(1, a.type, a.lanes), 0.0),),
        ),
    )
}


class Elementwise(Operation):
    """One rule on nodes of one shape."""

    def __init__(self, name: str, constant: float | None = None) -> None:
        self.name, self.constant = name, constant
        self.takes = (len(RULES[name].locals),)

    def __str__(self) -> str:
        return self.name if self.constant is None else f"{self.name} {self.constant!r}"

    def shape(self, *inputs: Shape) -> Shape:
        self.expect(all(shape == inputs[0] for shape in inputs), "needs inputs of one shape", *inputs)
        return inputs[0]

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        rule, c = RULES[self.name].scalar, 0.0 if self.constant is None else self.constant
        rows = zip(inputs[0], inputs[-1], strict=True)
        return [[rule(a, b, c) for a, b in zip(first, last, strict=True)] for first, last in rows]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        a, b = inputs[0].value, inputs[-1].value
        apply(k, a, b, out.value, out.start, out.stop, **self._constants(out))

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        a, b = inputs[0].value, inputs[-1].value
        for index, slot in enumerate(inputs):
            if slot.gradient is not None:
                constants = self._constants(out)
                fresh = slot.fresh and all(earlier is not slot for earlier in inputs[:index])
                pass_back(k, a, b, out.grad, slot.gradient, out.start, out.stop, index=index, fresh=fresh, **constants)

    def _constants(self, out: Slot) -> dict[str, object]:
        return {"rule": self.name, "constant": 0.0 if self.constant is None else self.constant, "columns": out.columns}


@kernel
def apply(
    k: Builder, a: F64s, b: F64s, y: F64s, start: Int, stop: Int, *, rule: str, constant: float, columns: int
) -> None:
    """y = f(a, b)."""
    for t in k.range(start, stop):
        for offset, lanes in across(k, columns):
            at = t * padded(columns) + offset
            y.store(at, RULES[rule].formula(k, a.vector(at, lanes), b.vector(at, lanes), constant))


@kernel
def pass_back(
    k: Builder,
    a: F64s,
    b: F64s,
    dy: F64s,
    dx: F64s,
    start: Int,
    stop: Int,
    *,
    rule: str,
    constant: float,
    columns: int,
    index: int,
    fresh: bool,
) -> None:
    """dx = or += the local gradient of one input, times dy."""
    for t in k.range(start, stop):
        for offset, lanes in across(k, columns):
            at = t * padded(columns) + offset
            local = RULES[rule].locals[index](k, a.vector(at, lanes), b.vector(at, lanes), constant)
            gradient = dy.vector(at, lanes) * local
            dx.store(at, gradient if fresh else dx.vector(at, lanes) + gradient)


class Sum(Operation):
    """`sum(x)`: of all elements, row by row, in index order. Shapes: x (R, C), result (1, 1)."""

    name = "sum"
    takes = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        return Shape(1, 1)

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        return [[total(x for row in inputs[0] for x in row)]]

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        sum_forward(k, x.value, out.value, x.start, x.stop, columns=x.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        (x,) = inputs
        if x.gradient is not None:
            sum_backward(k, out.grad, x.gradient, x.start, x.stop, columns=x.columns, fresh=x.fresh)


@kernel
def sum_forward(k: Builder, x: F64s, y: F64s, start: Int, stop: Int, *, columns: int) -> None:
    """y = the sum of x."""
    total = k.zeros()
    for t in k.range(start, stop):
        for i in k.range(columns):
            total += x[t * padded(columns) + i]
    y[0] = total


@kernel
def sum_backward(k: Builder, dy: F64s, dx: F64s, start: Int, stop: Int, *, columns: int, fresh: bool) -> None:
    """dx = or += dy everywhere."""
    for t in k.range(start, stop):
        for offset, lanes in across(k, columns):
            at = t * padded(columns) + offset
            gradient = k.spread(dy[0], 0 if lanes == 1 else lanes)
            dx.store(at, gradient if fresh else dx.vector(at, lanes) + gradient)
