"""Products, columns, softmax, norms, dropout and losses: the reference to the bit, f32 near it, finite differences."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tapegpt import TapeGPTError
from tapegpt.autograd import check_gradients
from tapegpt.autograd.operations.columns import Columns
from tapegpt.autograd.operations.softmax import FastLogSoftmax
from tapegpt.autograd.tape import Tape
from tapegpt.machine.language import F32
from tapegpt.machine.program import Program
from tests.autograd import scalars

if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.machine.target import Target

    Build = Callable[[Tape], Node]


def weighted(tape: Tape, *results: Node) -> Node:
    """A sum of all numbers, each with a weight of its own."""
    sums = [(y * tape.input(f"weights{i}", y.shape.columns, y.shape.rows)).sum() for i, y in enumerate(results)]
    total = sums[0]
    for each in sums[1:]:
        total = total + each
    return total


def rows(tape: Tape, columns: int) -> Node:
    """A row for each position, with a gradient."""
    table = tape.parameter("table", 9, columns)
    return tape.embedding(table, tape.indices("tokens"))


def products(tape: Tape) -> Node:
    a, b = tape.parameter("a", 3, 5), tape.parameter("b", 5, 18)
    return weighted(tape, a @ b, rows(tape, 5) @ b, b.T)


def columns(tape: Tape) -> Node:
    a, b = tape.parameter("a", 2, 3), tape.parameter("b", 2, 20)
    x = rows(tape, 7)
    both = tape.concatenate([b[:, 1::7], a, a[:, ::-1], b[:, 2:19]])
    again = tape.record(Columns((0, 2, 0, 1, 0)), a)  # three gradients for a number, in an order
    return weighted(
        tape,
        again,
        both,
        tape.concatenate([both, both])[:, 20:30],
        tape.concatenate([x[:, 4:], tape.input("given", 3), x]),
        x[:, -1:],
    )


def probabilities(tape: Tape) -> Node:
    a, x = tape.parameter("a", 2, 18), rows(tape, 3)
    return weighted(tape, a.softmax(), (a * a).softmax(), x.softmax(), x)


def logs(tape: Tape) -> Node:
    a, x = tape.parameter("a", 2, 18), rows(tape, 3)
    return weighted(tape, a.log_softmax(), (a * 900.0).log_softmax(), x.log_softmax(), x)


def norms(tape: Tape) -> Node:
    a, x = tape.parameter("a", 2, 18), rows(tape, 3)
    normed = [a.layer_norm(), (a * a).layer_norm(), x.layer_norm(), a.rmsnorm(), x.rmsnorm()]
    return weighted(tape, *normed, x)


def gains(tape: Tape) -> Node:
    a, x = tape.parameter("a", 2, 18), rows(tape, 5)
    g, h = tape.parameter("g", 1, 18), tape.parameter("h", 1, 5)
    b, c = tape.parameter("b", 1, 18), tape.parameter("c", 1, 5)
    normed = [a.layer_norm(g, b), x.layer_norm(h, c), x.layer_norm(h), x.layer_norm(bias=c)]
    return weighted(tape, *normed, x.rmsnorm(h), a.rmsnorm(g), x.rmsnorm() + c)


def biases(tape: Tape) -> Node:
    x = rows(tape, 3)
    y = x.linear("w", 5, bias=True).relu().linear("v", 3, bias=True) + x
    z = y.linear("u", 18, bias=True).gelu().linear("t", 3)
    return weighted(tape, z, z.linear("s", 2, bias=True))


def losses(tape: Tape) -> Node:
    a, x = tape.parameter("a", 2, 18), rows(tape, 3)
    b = tape.parameter("b", 1, 1)
    fixed = tape.mse(a, tape.input("goal", 18, 2)) + tape.mse(b, b) + tape.mse(a * a, a)
    return tape.mse(x, tape.input("goals", 3)) + fixed * 0.7


def noise(tape: Tape) -> Node:
    x = rows(tape, 21)
    return weighted(tape, x.dropout(0.3), x.dropout(0.5, seed=9), x.dropout(0), x)


OPERATIONS: list[Build] = [products, columns, probabilities, logs, norms, losses, noise]
each_operation = pytest.mark.parametrize("build", OPERATIONS, ids=lambda build: build.__name__)


@pytest.mark.slow
@each_operation
@pytest.mark.parametrize("target", scalars.TARGETS, ids=str)
def test_numbers_and_gradients_are_the_reference_s(build: Build, target: Target) -> None:
    scalars.same(build, 4, target)


@pytest.mark.slow
@each_operation
def test_gradients_against_finite_differences(build: Build) -> None:
    tape = scalars.recorded(build, 4)  # as above: the same code
    check_gradients(tape, tape.nodes[-1], step=1e-5, tolerance=1e-5)


@pytest.mark.slow
@each_operation
@pytest.mark.parametrize("target", [scalars.TARGETS[0], scalars.TARGETS[-1]], ids=str)
def test_the_fast_engine_s_are_near(build: Build, target: Target) -> None:
    scalars.near(build, 4, target)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "operations"),
    {
        gains: {
            "layer_norm * gain + bias": 2,
            "layer_norm * gain": 1,
            "layer_norm + bias": 1,
            "rmsnorm * gain": 2,
            "rmsnorm + bias": 1,
        },
        biases: {"linear + bias relu": 1, "linear + bias + residual": 1, "linear + bias gelu": 1, "linear + bias": 1},
    }.items(),
)
def test_rows_are_the_end_of_products_and_norms(build: Build, operations: dict[str, int]) -> None:
    scalars.same(build, 4, scalars.TARGETS[0])
    names = [str(node.operation) for node in scalars.near(build, 4, scalars.TARGETS[0]).nodes]
    assert {name: names.count(name) for name in operations} == operations


TORCH: dict[str, tuple[Callable[..., Node], Callable[..., Any]]] = {  # of x (4, 6), w (6, 6), gain and bias (1, 6)
    "@": (lambda tape, x, w, g, b: x @ w, lambda torch, f, x, w, g, b: x @ w),
    "T": (lambda tape, x, w, g, b: x @ w.T, lambda torch, f, x, w, g, b: x @ w.T),
    "columns": (
        lambda tape, x, w, g, b: tape.concatenate([x[:, 1:5:2], x, x[:, -2:]]),
        lambda torch, f, x, w, g, b: torch.cat([x[:, 1:5:2], x, x[:, -2:]], 1),
    ),
    "softmax": (lambda tape, x, w, g, b: x.softmax(), lambda torch, f, x, w, g, b: f.softmax(x, 1)),
    "log_softmax": (lambda tape, x, w, g, b: x.log_softmax(), lambda torch, f, x, w, g, b: f.log_softmax(x, 1)),
    "layer_norm": (
        lambda tape, x, w, g, b: x.layer_norm(g, b),
        lambda torch, f, x, w, g, b: f.layer_norm(x, (6,), g[0], b[0], 1e-5),
    ),
    "rmsnorm": (lambda tape, x, w, g, b: x.rmsnorm(g), lambda torch, f, x, w, g, b: f.rms_norm(x, (6,), g[0], 1e-5)),
    "linear": (lambda tape, x, w, g, b: tape.linear(x, w) + b, lambda torch, f, x, w, g, b: f.linear(x, w, b[0])),
    "mse": (lambda tape, x, w, g, b: tape.mse(x, x @ w), lambda torch, f, x, w, g, b: f.mse_loss(x, x @ w)),
    "broadcasting": (
        lambda tape, x, w, g, b: (x + g) * b / (x[:, :1] * x[:, :1] + 1.5) - x * g[:, 2:3] + 2.0 / (b * b + 1.0),
        lambda torch, f, x, w, g, b: (x + g) * b / (x[:, :1] ** 2 + 1.5) - x * g[:, 2:3] + 2.0 / (b * b + 1.0),
    ),
    "activations": (
        lambda tape, x, w, g, b: x.tanh() + x.sigmoid() * x.relu() + x.gelu() - x.silu() * abs(x),
        lambda torch, f, x, w, g, b: (
            x.tanh() + x.sigmoid() * x.relu() + f.gelu(x, approximate="tanh") - f.silu(x) * x.abs()
        ),
    ),
    "functions": (
        lambda tape, x, w, g, b: (x * x + 0.1).log() + (x * x + 0.2).sqrt() ** 1.5 + x.exp() + x.maximum(g + x * 0.0),
        lambda torch, f, x, w, g, b: (
            (x * x + 0.1).log() + (x * x + 0.2).sqrt() ** 1.5 + x.exp() + torch.maximum(x, g + x * 0.0)
        ),
    ),
    "reductions": (
        lambda tape, x, w, g, b: x.sum(0) * x.mean(1) + x.max(0) * x.max(1) - x.mean() * x.sum(1) + x.max(),
        lambda torch, f, x, w, g, b: (
            x.sum(0, keepdim=True) * x.mean(1, keepdim=True)
            + x.max(0, keepdim=True).values * x.max(1, keepdim=True).values
            - x.mean() * x.sum(1, keepdim=True)
            + x.max()
        ),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), TORCH.values(), ids=TORCH)
def test_numbers_and_gradients_are_pytorch_s(ours: Callable[..., Node], theirs: Callable[..., Any]) -> None:
    torch: Any = pytest.importorskip("torch")
    shapes = {"x": (4, 6), "w": (6, 6), "g": (1, 6), "b": (1, 6)}

    def build(tape: Tape) -> Node:
        y = ours(tape, *[tape.parameter(name, *shape) for name, shape in shapes.items()])
        return (y * y).sum()

    tape = scalars.recorded(build, 1)
    output = tape.nodes[-1]
    inputs = [torch.tensor(tape.read(node), dtype=torch.float64, requires_grad=True) for node in tape.parameters()]
    wanted = (theirs(torch, torch.nn.functional, *inputs) ** 2).sum()
    wanted.backward()
    assert tape.forward(output)[0][0] == pytest.approx(wanted.item(), rel=1e-12)
    tape.backward(output)
    for node, tensor in zip(tape.parameters(), inputs, strict=True):
        gradient = tensor.grad.tolist() if tensor.grad is not None else [[0.0] * 6 for _ in range(node.rows)]
        for row, expected in zip(tape.gradient(node), gradient, strict=True):
            assert row == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_what_does_not_fit_is_refused() -> None:
    tape = Tape(3)
    a, x = tape.parameter("a", 2, 5), tape.input("x", 5)
    one: Any = 2.0
    wrong: dict[Callable[[], Node], str] = {
        lambda: a @ a: "@: needs as many rows on the right as columns on the left, not %0",
        lambda: x.T: r"transpose: needs rows of fixed number, not \(T, 5\)",
        lambda: a @ one: "@: needs nodes recorded on this tape, not 2.0",
        lambda: a[one]: r"takes at least one column of all rows, as x\[:, 0:3\], not x\[2.0\]",
        lambda: a[:, 5:]: "takes at least one column",
        lambda: a[1:, :2]: r"takes at least one column of all rows",
        lambda: a[:, ::0]: "takes at least one column",
        lambda: a[:, :"b"]: "takes at least one column",
        lambda: tape.concatenate([a, x]): "columns: needs matrices with as many rows",
        lambda: tape.concatenate([a, one]): "concatenate: needs nodes",
        lambda: x.dropout(1): "dropout: p must be a number from 0 up to but not 1, not 1",
        lambda: x.dropout(0.5, seed=one): "dropout: seed must be a whole number, not 2.0",
        lambda: a.dropout(0.5): "dropout: needs numbers for each position",
        lambda: x.rmsnorm(a): r"rmsnorm: the gain must be \(1, 5\), not %0 \(2, 5\) a",
        lambda: x.layer_norm(bias=a): r"layer_norm: the bias must be \(1, 5\), not %0",
        lambda: tape.mse(a, x): "mse: needs two matrices of one shape",
        lambda: tape.concatenate([]): "concatenate: needs at least one node",
    }
    for record, message in wrong.items():
        with pytest.raises(TapeGPTError, match=message):
            record()


@pytest.mark.slow
@pytest.mark.parametrize("target", scalars.TARGETS, ids=str)
def test_a_run_from_a_position_on_computes_its_rows_and_no_others(target: Target) -> None:
    tape = Tape(7, target)
    x = rows(tape, 6)
    hidden = (x.rmsnorm().linear("w", 18, bias=True).gelu() * 2.0).layer_norm() + tape.parameter("row", 5, 18).mean(0)
    mixed = tape.attention(hidden, hidden.softmax(), hidden.log_softmax(), 2).linear("v", 3)
    tape.rotary(tape.concatenate([mixed, x])[:, 1:5], tape.indices("positions"), 2)
    scalars.fill(tape)
    output = tape.nodes[-1]
    whole = tape.forward(output)
    computed = [node for node in tape.order(output) if node.operation and node.shape.rows is None]
    known = {node: tape.read(node) for node in computed}
    for node in computed:
        for t, row in enumerate(tape.views(node)):
            row[:] = array("d", [7.0 if t >= 3 else number for number in row])
    shared, _, work = tape.regions()
    program = Program({"forward": (tape.forward_kernel(output), {})}, target)
    program.run("forward", shared, work, 3, 5)
    for node in computed:
        assert tape.read(node) == [row if t < 5 else [7.0] * len(row) for t, row in enumerate(known[node])]
    assert tape.read(output)[3:5] == whole[3:5]


def test_the_last_column_adds_its_gradient_first() -> None:
    tape = Tape()
    x = tape.parameter("x", 1, 1, start=1.0)
    weights = tape.input("weights", 3, 1)
    loss = (tape.concatenate([x, x, x]) * weights).sum()
    tape.initialise()
    tape.write(weights, [1.0, 1e16, -1e16])
    tape.forward(loss)
    tape.backward(loss)
    assert tape.gradient(x) == [[-1e16 + 1e16 + 1.0]]


def test_the_logarithms_of_probabilities_have_zeros_behind() -> None:
    tape = Tape(real=F32)
    x = tape.parameter("x", 2, 18)
    y = tape.record(FastLogSoftmax(), x)
    loss = (y * y).sum()
    tape.initialise()
    tape.forward(loss)
    tape.backward(loss)
    for start in (tape._value_at(y), tape._gradient_at(y), tape._gradient_at(x)):
        assert not any(any(tape.arena.floats(4 * (start + row * 32 + 18), 14, 4)) for row in (0, 1))
