"""Elementwise operations and reductions: the reference to the bit, f32 near it, finite differences; and `Value`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapegpt import TapeGPTError
from tapegpt.autograd import Tape, Value, check_gradients
from tapegpt.autograd.model import Model
from tapegpt.autograd.operations.base import padded
from tapegpt.engines.graph import exact_graph, fast_graph
from tapegpt.machine.language import F32
from tapegpt.machine.target import INTERPRETED
from tests.autograd import scalars
from tests.properties import many

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.autograd.node import Node
    from tapegpt.machine.target import Target

UNARY = ["exp", "tanh", "sigmoid", "relu", "silu", "gelu", "log", "sqrt", "__abs__"]
AXES = [None, 0, 1]


def unary(tape: Tape) -> Node:
    """Each rule of one input, also with constants; logarithms and roots of positive numbers."""
    a, x = tape.parameter("a", 3, 21), tape.input("x", 5)
    loss = (x * x).sum() + tape.parameter("s", 1, 1)
    for name in UNARY:
        node = a * a + 0.1 if name in ("log", "sqrt") else a
        loss = loss + (getattr(node, name)() * (a + 2.0)).sum()
    positive = a * a + 0.5
    powers = positive**2.0 + positive**-0.5 + positive**0.7 - positive**-3 + a**3
    return loss + (powers * a).sum() + (a.maximum(0.3) * a).sum() - (a.maximum(-0.2) / 3.0).sum()


def looked_up(tape: Tape, name: str, columns: int) -> Node:
    """A row for each position, with a gradient."""
    return tape.embedding(tape.parameter(name, 9, columns), tape.indices(f"rows of {name}"))


def mixed(tape: Tape, rows: int = 3, columns: int = 21) -> Node:
    """One row, column or number for all, in both places and of both kinds of rows."""
    shapes = {"whole": (rows, columns), "row": (1, columns), "column": (rows, 1), "number": (1, 1)}
    p = {name: tape.parameter(name, *shape) for name, shape in shapes.items()}
    x, y = looked_up(tape, "table", columns), looked_up(tape, "narrow", 1)
    loss = (p["row"] * p["column"]).maximum(p["number"]).sum() + (y + p["row"] / 3.0).sum() + (p["number"] * y).sum()
    for other in p.values():
        loss = loss + ((p["whole"] - other) * (other * p["whole"])).sum()
    for other in (p["row"], p["number"], y, x):
        loss = loss + (x * other).maximum(other).sum()
    return loss


def reductions(tape: Tape, rows: int = 3, columns: int = 21) -> Node:
    a = tape.parameter("a", rows, columns)
    x = looked_up(tape, "table", columns)
    loss = (a * 0.1).sum()
    for node in (a, x):
        for axis in AXES:
            for name in ("sum", "mean", "max"):
                loss = loss + (getattr(node, name)(axis) * node).sum()
    return loss


CASES = pytest.mark.parametrize("build", [unary, mixed, reductions], ids=lambda build: build.__name__)


@pytest.mark.slow
@CASES
@pytest.mark.parametrize("target", scalars.TARGETS, ids=str)
def test_numbers_and_gradients_are_the_reference_s(build: Callable[[Tape], Node], target: Target) -> None:
    scalars.same(build, 4, target)


@pytest.mark.slow
@settings(max_examples=many(5, few=2))
@given(st.sampled_from([mixed, reductions]), st.integers(1, 5), st.integers(1, 40), st.integers(1, 4))
@example(reductions, 35, 2, 35)
def test_of_any_shape(build: Callable[[Tape, int, int], Node], rows: int, columns: int, positions: int) -> None:
    scalars.same(lambda tape: build(tape, rows, columns), positions, INTERPRETED)


@pytest.mark.slow
def test_of_the_largest_numbers_the_first_has_the_gradient() -> None:
    for axis, wanted in ((None, [0, 1, 0, 0, 0, 0]), (0, [0, 1, 1, 1, 0, 0]), (1, [0, 1, 0, 1, 0, 0])):
        tape = Tape(target=INTERPRETED)
        x = tape.parameter("x", 2, 3)
        loss = x.max(axis).sum()
        tape.write(x, [1.0, 3.0, 3.0, 3.0, 2.0, 3.0])
        tape.forward(loss)
        tape.backward(loss)
        assert [slope for row in tape.gradient(x) for slope in row] == wanted


@pytest.mark.slow
@CASES
def test_gradients_against_finite_differences(build: Callable[[Tape], Node]) -> None:
    tape = scalars.recorded(build, 4)  # as above: the same code
    check_gradients(tape, tape.nodes[-1], step=1e-6, tolerance=1e-5)


@pytest.mark.slow
@CASES
@pytest.mark.parametrize("target", [scalars.TARGETS[0], INTERPRETED], ids=str)
def test_f32_is_near_and_leaves_the_padding_zero(build: Callable[[Tape], Node], target: Target) -> None:
    wide, narrow = scalars.recorded(build, 4, target), scalars.recorded(build, 4, target, F32)
    for tape in (wide, narrow):
        tape.forward(tape.nodes[-1])
        tape.backward(tape.nodes[-1])
    for of_f64, of_f32 in zip(wide.nodes, narrow.nodes, strict=True):
        pairs = [(wide.read(of_f64), narrow.read(of_f32))]
        if of_f64.gradient >= 0:
            pairs.append((wide.gradient(of_f64), narrow.gradient(of_f32)))
        for expected, rows in pairs:
            largest = max(abs(x) for row in expected for x in row)
            for row, result in zip(expected, rows, strict=True):
                assert result == pytest.approx(row, rel=1e-5, abs=3e-6 * largest), of_f64
        columns = of_f32.shape.columns
        starts = [narrow._value_at(of_f32)] * (not of_f32.shape.index)
        starts += [narrow._gradient_at(of_f32)] * (of_f32.gradient >= 0)
        for start in starts:
            memory = narrow.arena.floats(4 * start, of_f32.rows * padded(columns), 4).tolist()
            assert not any(x for place, x in enumerate(memory) if place % padded(columns) >= columns), of_f32


def test_what_does_not_fit_is_refused() -> None:
    tape = Tape(3)
    a, x = tape.parameter("a", 2, 5), tape.input("x", 5)
    bad: Any = "1"
    wrong: dict[Callable[[], Node], str] = {
        lambda: a * x: r"mul: needs inputs of one shape, or with one row, column or number for all, not \(2, 5\) and",
        lambda: a + tape.parameter("b", 2, 4): "add: needs inputs of one shape",
        lambda: a.maximum(tape.parameter("c", 3, 5)): "maximum: needs inputs of one shape",
        lambda: a.maximum(bad): "the other number must be a number that a float holds, not '1'",
        lambda: a.sum(2): r"sum of %0 \(2, 5\) a: axis must be 0, 1 or None, not 2",
        lambda: a.max(bad): "axis must be 0, 1 or None, not '1'",
    }
    for record, message in wrong.items():
        with pytest.raises(TapeGPTError, match=message):
            record()


class Pooled(Model):
    """A model that looks at later positions."""

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens)
        return x + x.mean(0)


def test_a_language_model_does_not_mix_its_positions() -> None:
    with pytest.raises(TapeGPTError, match=r"Pooled.forward: %4 \(1, 5\) mean axis=0 mixes positions.*: use axis=1"):
        Pooled().record(5)


class Hidden(Model):
    """One hidden layer."""

    activation: str = "relu"
    block_size = 4

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("table", vocab_size, 5), tokens)
        hidden: Node = getattr(x.linear("up", 21), self.activation)()
        return hidden.linear("down", vocab_size)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "sigmoid", "exp"])
def test_any_activation_ends_a_product(activation: str) -> None:
    model = Hidden(activation=activation)
    graph = fast_graph(model, 7, 4)
    assert f"linear {activation}" in graph.tape.show()
    assert activation not in [node.operation.name for node in graph.tape.nodes if node.operation]
    gradients = []
    for each in (graph, exact_graph(model, 7)):
        for name, place in each.parameters.items():
            count = len(place.rows) * len(place.columns)
            each.tape.write(place.node, [math.sin(7 * i + len(name)) for i in range(count)])
        ids = {"tokens": [6, 1, 2, 6], "targets": [1, 2, 6, 3], "positions": [0, 1, 2, 0], "ends": [3, 3, 3, 4]}
        for name, numbers in ids.items():
            if each is graph or name != "ends":
                each.tape.write(each.about(name), numbers)
        if each is graph:
            each.tape.write(each.about("share"), [0.25])
        loss = each.tape.forward(each.loss)[0][0]
        each.tape.backward(each.loss)
        found = [x for place in each.parameters.values() for row in each.tape.gradient(place.node) for x in row]
        gradients.append([loss, *found])
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-4, abs=1e-6)


# --- Value ----------------------------------------------------------------------------------------------------------

NUMBERS = [-800.0, -30.0, -2.5, -1e-9, 0.0, 1e-9, 0.7, 3.0, 800.0]


@pytest.mark.parametrize("number", NUMBERS)
def test_functions_of_values_and_their_slopes(number: float) -> None:
    formulas: dict[str, Callable[[float], float]] = {
        "tanh": math.tanh,
        "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0,
        "silu": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
        "gelu": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "__abs__": abs,
    }
    for name, formula in formulas.items():
        value = Value(number)
        result = getattr(value, name)()
        assert result.data == pytest.approx(formula(number), rel=1e-12, abs=1e-14), name
        result.backward()
        step = 1e-6 * max(1.0, abs(number))
        slope = (formula(number + step) - formula(number - step)) / (2 * step)
        if name != "__abs__" or not 0.0 < abs(number) < step:
            assert value.grad == pytest.approx(slope, rel=1e-6, abs=1e-8), name


def test_roots_of_values() -> None:
    value = Value(6.25)
    root = value.sqrt()
    root.backward()
    assert (root.data, value.grad) == (2.5, 0.2)


def test_values_are_compared_by_their_numbers() -> None:
    a, b = Value(1.0), Value(2.0)
    assert [a < b, b > a, a <= 1.0, b >= 2, a > 1, a < 0.5] == [True] * 4 + [False] * 2
    assert max(a, b) is b
    assert min(a, b, Value(1.0)) is a
    assert sorted([b, a]) == [a, b]
    assert a != Value(1.0)  # each is a node of its own
    for x, y, slopes in ((a, b, (0.0, 1.0)), (b, a, (1.0, 0.0)), (a, Value(1.0), (1.0, 0.0))):
        larger = x.maximum(y)
        assert larger.data == max(x.data, y.data)
        assert larger.local_grads == slopes
    assert a.maximum(3.0).data == 3.0
