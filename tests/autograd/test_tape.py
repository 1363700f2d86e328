"""The tape and its operations: == `reference.Value`, against finite differences, compiled and interpreted."""

from __future__ import annotations

import itertools
import math
import operator as op
import random
from array import array
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import TapeGPTError
from tapegpt.autograd import SGD, Adam, Tape, Value, check_gradients
from tapegpt.autograd.gradient_check import GradientError
from tapegpt.autograd.operations.base import PAD
from tapegpt.autograd.operations.elementwise import Elementwise
from tapegpt.autograd.operations.reductions import Sum
from tapegpt.autograd.operations.rmsnorm import RMSNorm
from tapegpt.autograd.value import linear, rmsnorm, softmax, total
from tapegpt.machine.host import host_target
from tapegpt.machine.language import F32
from tapegpt.machine.program import Program
from tapegpt.machine.target import INTERPRETED, Target
from tests.properties import many

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.autograd.node import Node

HOST = host_target()
BOTH = pytest.mark.parametrize("target", [HOST, INTERPRETED], ids=["compiled", "interpreted"])


def expression(a: Any, b: Any) -> Any:
    """Every scalar operation, some inputs used twice."""
    c = a * b + b**3
    c = c + c + 1
    c = c + 1 + c + (-a)
    d = a * a + (b + a).relu() - c / (b * b + 2.0)
    d = d + (2.0 - d) / 3.0 + 1.0 / (a * a + 1.5) + (b * 0.1).exp() + (a * a + 0.5).log()
    return d * d


@BOTH
def test_scalar_operations_equal_those_of_value(target: Target) -> None:
    tape = Tape(target=target)
    nodes = tape.parameter("a", 1, 1), tape.parameter("b", 1, 1)
    output = expression(*nodes)
    for numbers in [(-4.0, 2.0), (0.3, -1.7), (2.5, 0.0), (-0.0, 1e-3)]:
        for node, number in zip(nodes, numbers, strict=True):
            tape.write(node, [number])
        values = Value(numbers[0]), Value(numbers[1])
        expected = expression(*values)
        expected.backward()
        assert tape.forward(output) == [[expected.data]]
        tape.backward(output)
        assert [tape.gradient(node)[0][0] for node in nodes] == pytest.approx([v.grad for v in values], rel=1e-13)


@BOTH
@pytest.mark.parametrize("columns", [1, 3, 8, 21, 70])
def test_operations_work_on_whole_matrices(target: Target, columns: int) -> None:
    tape = Tape(target=target)
    a, b = tape.parameter("a", 3, columns), tape.parameter("b", 3, columns)
    products = a * b
    output = products.sum()
    rng = random.Random(columns)
    numbers = {node: [rng.gauss(0, 1) for _ in range(3 * columns)] for node in (a, b)}
    for node in (a, b):
        tape.write(node, numbers[node])
    expected = total(Value(x) * Value(y) for x, y in zip(numbers[a], numbers[b], strict=True))
    assert tape.forward(output) == [[expected.data]]
    tape.backward(output)
    assert [x for row in tape.gradient(a) for x in row] == numbers[b]
    assert [x for row in tape.gradient(b) for x in row] == numbers[a]
    assert [x for row in tape.read(a) for x in row] == numbers[a]


def by_position(tape: Tape, table: Node) -> Node:
    """Row t of a table for position t."""
    return tape.embedding(table, tape.indices("positions"))


def number_positions(tape: Tape) -> None:
    """Write what `by_position` looks up by."""
    tape.write(next(node for node in tape.nodes if node.name == "positions"), range(tape.positions))


def layers(tape: Tape, vocabulary: int, width: int, heads: int) -> tuple[Node, Node, Node]:
    """Every operation of the GPT, in another order."""
    tokens, targets = tape.indices("tokens"), tape.indices("targets")
    table = tape.parameter("table", vocabulary, width)
    x = tape.embedding(table, tokens) + by_position(tape, tape.parameter("places", tape.positions, width))
    q, k, v = (x.rmsnorm().linear(name, width) for name in "qkv")
    x = tape.attention(q, k, v, heads) + x
    x = tape.linear(x, tape.parameter("w", 2 * width + 1, width)).exp()
    logits = tape.linear(x, tape.parameter("head", vocabulary, 2 * width + 1), last=targets)
    return tokens, targets, tape.cross_entropy(logits, targets)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("positions", "width", "heads", "target"),
    [(1, 4, 1, HOST), (3, 6, 2, HOST), (9, 10, 5, HOST), (2, many(6, few=2), 2, INTERPRETED)],
    ids=["one position", "three", "nine", "interpreted"],
)
def test_gradients_against_finite_differences(positions: int, width: int, heads: int, target: Target) -> None:
    tape = Tape(positions, target)
    tokens, targets, loss = layers(tape, 5, width, heads)
    rng = random.Random(positions)
    for node in tape.parameters():
        tape.write(node, [rng.gauss(0, 0.4) for _ in range(node.rows * node.shape.columns)])
    number_positions(tape)
    for used in sorted({1, positions}):
        tape.write(tokens, [rng.randrange(5) for _ in range(used)])
        tape.write(targets, [rng.randrange(5) for _ in range(used)])
        assert check_gradients(tape, loss, positions=used, step=1e-5, tolerance=1e-7).error < 1e-7
        if target is INTERPRETED:
            break


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "number", "error"),  # relative to the larger one, but for small ones
    [(1.001, 0.5, 0.001 / 1.001), (0.25, 0.5, 0.75), (3.0, 0.01, 0.04), (math.nan, 0.5, math.nan)],
)
def test_a_wrong_gradient_is_found(factor: float, number: float, error: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapegpt.autograd.operations import elementwise

    right = elementwise.RULES["exp"]
    wrong = elementwise.Rule("exp", right.formula, (lambda k, y, a: y * factor,))
    monkeypatch.setitem(elementwise.RULES, "exp", wrong)
    monkeypatch.setenv("TAPEGPT_CACHE_DIR", "")  # the key does not see the change
    tape = Tape()
    x = tape.parameter("x", 1, 2)
    loss = (x * x).exp().sum()
    tape.write(x, [-0.001, number])
    slope = 2 * number * math.exp(number**2) * factor
    with pytest.raises(GradientError, match=f"gradient of x at row 0, column 1: {str(slope)[:5]}"):
        check_gradients(tape, loss)
    assert tape.read(x) == [[-0.001, number]]
    if error == error:
        assert check_gradients(tape, loss, tolerance=1.0).error == pytest.approx(error, rel=1e-3)


@pytest.mark.slow
@settings(max_examples=many(15, few=5))
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_linear_rmsnorm_softmax_equal_the_reference(ins: int, outs: int, rows: int, seed: int) -> None:
    rng = random.Random(seed)
    tape = Tape(rows)
    x, w = tape.parameter("x", rows, ins), tape.parameter("w", outs, ins)
    targets = tape.indices("targets")
    y = (x + 0.0).rmsnorm()
    logits = tape.linear(by_position(tape, y), w, last=targets)
    loss = tape.cross_entropy(logits, targets)
    numbers = [[rng.gauss(0, 1) for _ in range(ins)] for _ in range(rows)]
    weights = [[rng.gauss(0, 1) for _ in range(ins)] for _ in range(outs)]
    chosen = [rng.randrange(outs) for _ in range(rows)]
    tape.write(x, [number for row in numbers for number in row])
    tape.write(w, [number for row in weights for number in row])
    tape.write(targets, chosen)
    number_positions(tape)
    x_values = [[Value(number) for number in row] for row in numbers]
    w_values = [[Value(number) for number in row] for row in weights]
    losses = [
        -softmax(linear(rmsnorm(row), w_values))[target].log() for row, target in zip(x_values, chosen, strict=True)
    ]
    expected = (1 / rows) * total(losses)
    expected.backward()
    assert tape.forward(loss) == [[expected.data]]
    tape.backward(loss)
    assert tape.gradient(w) == [[value.grad for value in row] for row in w_values]
    assert tape.gradient(x) == [[value.grad for value in row] for row in x_values]


def test_attention_is_causal_and_its_rows_are_the_cache() -> None:
    tape = Tape(6)
    q, k, v = (tape.input(name, 4) for name in "qkv")
    y = tape.attention(q, k, v, 2)
    rng = random.Random(0)
    numbers = [rng.gauss(0, 1) for _ in range(24)]
    for node in (q, k, v):
        tape.write(node, numbers)
    whole = tape.forward(y)
    for node in (q, k, v):
        tape.write(node, numbers[:12] + [9.0] * 12)  # later positions change nothing before them
    assert tape.forward(y)[:3] == whole[:3]
    assert tape.forward(y, 2) == whole[:2]


def test_show_names_nodes_shapes_offsets_and_inputs() -> None:
    tape = Tape(4)
    ids = tape.indices("ids")
    table = tape.parameter("table", 3, 5)
    y = (tape.embedding(table, ids) * 2.0).sum()
    lines = tape.show().splitlines()
    assert [line.split()[0] for line in lines] == ["node", "%0", "%1", "%2", "%3", "%4", "4"]
    assert lines[1].split() == ["%0", "(T,", "1)", "u32", "128", "-", "input", "ids"]
    assert lines[2].split() == ["%1", "(3,", "5)", "0", "64", "parameter", "table"]
    assert lines[3].split()[1:3] == ["(T,", "5)"]
    assert lines[3].split()[-3:] == ["embedding", "%1", "%0"]
    assert "mul 2.0" in lines[4]
    assert y.shape.rows == 1
    places = sorted((tape._value_at(n), n.rows * 16) for n in tape.nodes if not n.shape.index)
    assert all(start + extent <= following for (start, extent), (following, _) in itertools.pairwise(places))


def test_arena_has_no_overlap() -> None:
    tape = Tape(7)
    layers(tape, 11, 12, 3)
    tape.parameter("more", 3, 5).softmax().rmsnorm().max(1)  # keep numbers that fill no rows
    extents = tape.plan()
    taken: set[int] = set()
    for node in tape.nodes:
        extent = node.extent
        for start in (tape._value_at(node), tape._gradient_at(node) if node.gradient >= 0 else -1):
            if start >= 0:
                cells = set(range(start, start + extent))
                assert not cells & taken
                assert start % PAD == 0
                taken |= cells
    assert max(taken) < extents.shared + extents.gradients + extents.work


def test_bad_graphs_are_refused_in_one_line() -> None:
    tape = Tape(4)
    a, b = tape.parameter("a", 2, 3), tape.parameter("b", 2, 4)
    ids = tape.indices("ids")

    def three(columns: int, rows: int | None = None) -> tuple[Node, Node, Node]:
        return tape.input("x", columns, rows), tape.input("y", columns, rows), tape.input("z", columns, rows)

    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: a + b, "add: needs inputs of one shape"),
        (lambda: tape.linear(a, b), "linear: x and W must have as many columns"),
        (lambda: tape.embedding(ids, a), "embedding: needs a table"),
        (lambda: tape.attention(*three(7), 2), "attention: needs q, k and v of 2 heads"),
        (lambda: tape.cross_entropy(a, ids), "cross_entropy: needs as many"),
        (lambda: tape.linear(a, a, last=ids), "linear: last must have a token id for each row of x"),
        (lambda: tape.attention(*three(6, 2), 2), "for each position"),
        (lambda: Tape(0), "positions must be a whole number from 1 to 8,589,934,592, not 0"),
        (lambda: Tape().linear(a, a), "recorded on this tape"),
        (lambda: tape.forward(a.sum(), 9), "from 1 to 4, not 9"),
    ]
    for make, message in cases:
        with pytest.raises(TapeGPTError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_misuse_of_a_tape_that_runs() -> None:
    tape = Tape()
    x, constant = tape.parameter("x", 1, 2), tape.input("constant", 2, rows=1)
    loss, unrelated = (x * constant).sum(), constant.sum()
    tape.write(constant, [1.0, 2.0])
    tape.forward(loss)
    with pytest.raises(TapeGPTError, match="has run"):
        _ = x + x
    with pytest.raises(TapeGPTError, match=r"needs an output of shape \(1, 1\)"):
        tape.backward(x)
    with pytest.raises(TapeGPTError, match="depends on no parameter"):
        tape.backward(unrelated)
    with pytest.raises(TapeGPTError, match="has no gradient"):
        tape.gradient(constant)
    with pytest.raises(TapeGPTError, match="3 numbers do not fill"):
        tape.write(x, [1.0, 2.0, 3.0])
    huge = Tape()
    huge.parameter("w", 1 << 20, 1 << 12)
    with pytest.raises(TapeGPTError, match="the limit is"):
        huge.plan()


def test_special_numbers_pass_through() -> None:
    tape = Tape()
    x = tape.parameter("x", 1, 4)
    y = x.log() + x**-1.0
    tape.write(x, [0.0, math.inf, -1.0, 4.0])
    (row,) = tape.forward(y)
    assert math.isnan(row[0])
    assert row[1] == math.inf
    assert math.isnan(row[2])
    assert row[3] == math.log(4.0) + 0.25


@pytest.mark.parametrize("bad", [False, True])
def test_true_and_false_are_no_numbers(bad: Any) -> None:
    tape = Tape(2)
    x, ids, p = tape.input("x", 6), tape.indices("ids"), tape.parameter("p", 2, 1)
    loss, trained = p.sum(), Tape(2)
    step = trained.compile(trained.parameter("p", 1, 1) ** 2, SGD())
    makers: list[Callable[[], object]] = [
        *[lambda axis=axis: getattr(x, axis)(bad) for axis in ("sum", "mean", "max")],
        *[lambda name=name: SGD(**{name: bad}) for name in SGD.fields],
        *[lambda name=name: Adam(**{name: bad}) for name in Adam.fields],
        lambda: tape.parameter("q", 1, 1, start=bad),
        lambda: tape.rotary(x, ids, bad),
        lambda: tape.ngrams(ids, bad, 9, 1),
        lambda: tape.ngrams(ids, 2, bad, 1),
        lambda: tape.ngrams(ids, 2, 9, bad),
        lambda: x.dropout(bad),
        lambda: x.dropout(0.5, bad),
        lambda: x.shift(bad),
        lambda: x.maximum(bad),
        lambda: tape.write(p, [1.0, bad]),
        lambda: tape.write(ids, [bad, 1]),
        lambda: tape.compile(loss, SGD(), batches=bad),
        lambda: tape.compile(loss, SGD(), seed=bad),
        lambda: tape.compile(loss, SGD(), deviation=bad),
        lambda: step(steps=bad),
        lambda: step(seed=bad),
        lambda: step(lengths=[bad]),
    ]
    for make in makers:
        with pytest.raises(TapeGPTError, match=f"(not|is) {bad}") as caught:
            make()
        assert "\n" not in str(caught.value)


def test_token_ids_are_checked_where_they_come_in() -> None:
    tape = Tape(3)
    ids, targets = tape.indices("ids"), tape.indices("targets")
    loss = tape.cross_entropy(tape.embedding(tape.parameter("table", 4, 5), ids), targets)
    for node, bound in ((ids, 4), (targets, 5)):
        tape.write(node, [0, bound - 1, 1])
        for wrong in (-1, bound, 2**32):
            with pytest.raises(TapeGPTError, match=f"row 1 is {wrong}: token ids must be from 0 to {bound - 1}"):
                tape.write(node, [0, wrong])
    tape.forward(loss)


def test_backward_leaves_no_gradient_of_another_output() -> None:
    tape = Tape()
    a, b = tape.parameter("a", 1, 2), tape.parameter("b", 1, 2)
    first, second = (a * b).sum(), (b * b).sum()
    for node in (a, b):
        tape.write(node, [3.0, 5.0])
    for output, of_a, of_b in ((first, [3.0, 5.0], [3.0, 5.0]), (second, [0.0, 0.0], [6.0, 10.0])):
        tape.forward(output)
        tape.backward(output)
        assert (tape.gradient(a), tape.gradient(b), tape.gradient(output)) == ([of_a], [of_b], [[1.0]])
        check_gradients(tape, output)


@BOTH
def test_the_matrix_of_a_product_may_be_anything_with_rows(target: Target) -> None:
    tape = Tape(2, target)
    x, w = tape.parameter("x", 1, 2), tape.input("w", 2, rows=3)
    by_input, by_result = tape.linear(x, w), tape.linear(x, w * 2.0 + 1.0)
    gram = tape.linear(x, x).sum()
    tape.write(x, [1.0, 2.0])
    tape.write(w, [1, 2, 3, 4, 5, 6])
    assert tape.forward(by_input) == [[5.0, 11.0, 17.0]]
    assert tape.forward(by_result) == [[13.0, 25.0, 37.0]]
    tape.write(w, [1, 0, 0, 1, 1, 1])
    assert tape.forward(by_input) == [[1.0, 2.0, 3.0]]
    assert tape.forward(gram) == [[5.0]]
    tape.backward(gram)
    assert tape.gradient(x) == [[2.0, 4.0]]


def test_a_row_of_weights_that_is_not_finite_spoils_no_other_share() -> None:
    """Its share of the gradient comes last, and nothing of it before."""
    tape = Tape(2)
    ids, table = tape.indices("ids"), tape.parameter("table", 2, 1)
    w = tape.input("w", 1, rows=3)
    loss = tape.linear(by_position(tape, table), w, last=ids).sum()
    tape.write(w, [2.0, math.inf, 3.0])
    number_positions(tape)
    tape.write(ids, [1, 0])
    tape.forward(loss)
    tape.backward(loss)
    assert tape.gradient(table) == [[math.inf], [math.inf]]


@BOTH
def test_zero_has_a_sign(target: Target) -> None:
    tape = Tape(target=target)
    x = tape.parameter("x", 1, 1)
    low, high = x * -0.0, x * 0.0
    results = [low, high + -0.0, low + -0.0, low + 0, low - 0.0, low - 0]
    inverse = 1.0 / results[0]
    loss = (x * 0.0).sum() * -0.0
    tape.write(x, [2.0])
    signs = [math.copysign(1.0, tape.forward(result)[0][0]) for result in results]
    value = Value(2.0)
    less, more = value * -0.0, value * 0.0
    wanted = [less, more + -0.0, less + -0.0, less + 0, less - 0.0, less - 0]
    assert signs == [math.copysign(1.0, each.data) for each in wanted] == [-1, 1, -1, 1, -1, 1]
    assert tape.forward(inverse) == [[-math.inf]]
    tape.forward(loss)
    tape.backward(loss)
    assert math.copysign(1.0, tape.gradient(x)[0][0]) == 1.0  # a sum that begins with 0.0


BAD = [True, 2.5, "3", None, math.nan, 0, -1, 10**400, [1]]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_sizes_are_whole_numbers_of_at_least_one(bad: Any) -> None:
    tape = Tape(2)
    x, y, z = (tape.input(name, 6) for name in "xyz")
    makers: dict[str, Callable[[], object]] = {
        "positions must be a whole number": lambda: Tape(bad),
        "'p': rows": lambda: tape.parameter("p", bad, 3),
        "'p': columns": lambda: tape.parameter("p", 3, bad),
        "'i': columns": lambda: tape.input("i", bad),
        "attention": lambda: tape.attention(x, y, z, bad),
        "positions must be": lambda: tape.forward(x, bad),
    }
    if bad is not None:
        makers["'i': rows"] = lambda: tape.input("i", 3, bad)
    else:
        del makers["positions must be"]
    for message, make in makers.items():
        with pytest.raises(TapeGPTError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
    assert tape.nodes == [x, y, z]


def test_what_is_no_number_is_refused_where_it_is_recorded() -> None:
    tape = Tape()
    x, ids = tape.parameter("x", 1, 1), tape.indices("ids")
    for bad in (True, "2", None, [1.0], 10**400, 2**53 + 1, 1j):
        one: Any = bad
        binary: list[Callable[[Any, Any], Any]] = [op.add, op.mul, op.sub, op.truediv, op.pow]
        binary += [lambda a, b: b + a, lambda a, b: b * a, lambda a, b: b / a, lambda a, b: b - a]
        for calculate in binary:
            with pytest.raises(TapeGPTError, match=r"%\d+ \(1, 1\).* must be a number"):
                calculate(x, one)
    for divisor in (0, -0.0, 5e-324):
        with pytest.raises(TapeGPTError, match=r"%0 .*the inverse of"):
            _ = x / divisor
    with pytest.raises(TapeGPTError, match="an exponent must be a number"):
        _ = x**x  # type: ignore[operator]
    with pytest.raises(TapeGPTError, match="there is one of this name"):
        tape.parameter("x", 1, 1)
    with pytest.raises(TapeGPTError, match="has a name, not 3"):
        tape.parameter(3, 1, 1)  # type: ignore[arg-type]
    unary: list[Callable[[Any], object]] = [
        lambda n: tape.record(RMSNorm(), n),
        lambda n: tape.linear(x, n),
        lambda n: tape.linear(n, x),
    ]
    unary += [lambda n: tape.attention(n, x, x, 1), lambda n: tape.embedding(n, ids)]
    unary += [lambda n: tape.cross_entropy(n, ids), lambda n: tape.record(Sum(), n), lambda n: tape.linear(x, x, n)]
    for record in unary:
        for wrong in (3.0, "x", Tape().parameter("x", 1, 1)):
            with pytest.raises(TapeGPTError, match="recorded on this tape"):
                record(wrong)
    with pytest.raises(TapeGPTError, match=r"add: takes 2 nodes, not 1"):
        tape.record(Elementwise("add"), x)
    with pytest.raises(TapeGPTError, match=r"takes numbers, not %1 \(T, 1\) u32 ids"):
        ids.rmsnorm()
    with pytest.raises(TapeGPTError, match=r"takes token ids, not %\d+ \(T, 1\) numbers"):
        tape.embedding(x, tape.input("numbers", 1))
    with pytest.raises(TapeGPTError, match="a tape records an Operation, not 'sum'"):
        tape.record("sum", x)  # type: ignore[arg-type]
    with pytest.raises(TapeGPTError, match="f32"):
        Tape(real=F32).parameter("x", 1, 1).rmsnorm()


def test_another_tapes_nodes_are_refused_everywhere() -> None:
    tape, other = Tape(2), Tape(2)
    x, theirs = tape.parameter("x", 1, 1), other.parameter("theirs", 1, 1)
    tape.write(x, [2.0])
    calls: list[Callable[[Node], object]] = [tape.forward, tape.backward, tape.read, tape.gradient, tape.views]
    calls += [lambda node: tape.write(node, [9.0]), tape.extent, lambda node: x + node]
    calls += [lambda node: check_gradients(tape, node)]
    for call in calls:
        with pytest.raises(TapeGPTError, match=r"recorded on this tape, not %0 \(1, 1\) theirs of another tape"):
            call(theirs)
    assert tape.read(x) == [[2.0]]


def test_write_takes_whole_rows_of_numbers_and_checks_them_first() -> None:
    tape = Tape(3)
    x, rows, ids = tape.parameter("x", 2, 2), tape.input("rows", 2), tape.indices("ids")
    y = x * 2.0
    tape.write(x, [1, 2.5, 3, 4])
    tape.write(rows, array("d", [1.0, 2.0]))
    wrong: list[tuple[Node, Any, str]] = [
        (x, [], "0 numbers do not fill"),
        (x, [1.0, 2.0], "2 numbers do not fill 2 rows of 2"),
        (x, [1.0] * 6, "6 numbers do not fill"),
        (rows, [1.0] * 8, "8 numbers do not fill"),
        (rows, [], "0 numbers do not fill"),
        (rows, [1.0] * 3, "3 numbers do not fill rows of 2"),
        (x, None, "needs a sequence of numbers"),
        (x, "1234", "needs a sequence of numbers"),
        (x, [9.0, 9.0, 9.0, "9"], "number 3 must be a number"),
        (x, [9.0, 9.0, 9.0, True], "number 3 must be a number"),
        (x, [[9.0, 9.0], [9.0, 9.0]], "2 numbers do not fill"),
        (ids, [0, 1.0], "row 1 is 1.0: token ids"),
        (ids, [0, True], "row 1 is True: token ids"),
        (ids, [0, None], "row 1 is None: token ids"),
        (ids, "12", "needs a sequence of numbers"),
        (y, [1.0] * 4, "is computed"),
    ]
    for node, numbers, message in wrong:
        with pytest.raises(TapeGPTError, match=message) as caught:
            tape.write(node, numbers)
        assert f"%{node.index} " in str(caught.value)
    assert tape.read(x) == [[1.0, 2.5], [3.0, 4.0]]
    tape.write(ids, [2**32 - 1, 7])
    assert tape.read(ids) == [[2**32 - 1], [7], [0]]
    with pytest.raises(TapeGPTError, match="token ids, which `write` checks"):
        tape.views(ids)
    single = Tape(1, None, F32)
    z = single.parameter("z", 1, 2)
    with pytest.raises(TapeGPTError, match="1e\\+300 is too large for f32"):
        single.write(z, [1e300, 1.0])
    for record in (z.__mul__, z.__pow__, z.maximum):
        with pytest.raises(TapeGPTError, match="1e\\+300 is too large for f32"):
            record(-1e300)
    single.write(z, [math.inf, 0.5])
    assert single.read(z) == [[math.inf, 0.5]]


def test_recording_ends_with_the_first_number_and_may_go_on_after_a_look() -> None:
    tape = Tape()
    x = tape.parameter("x", 1, 2)
    assert "x" in tape.show()
    y = (x * x).sum()
    tape.plan()
    z = y * 2.0
    tape.write(x, [1.0, 2.0])
    with pytest.raises(TapeGPTError, match="mul: the tape holds numbers: record everything before"):
        _ = x * x
    assert tape.forward(z) == [[10.0]]
    with pytest.raises(TapeGPTError, match="p: the tape has run: record everything before"):
        tape.parameter("p", 1, 1)


def test_backward_follows_a_forward_of_the_same_numbers_and_positions() -> None:
    tape = Tape(3)
    table, rows = tape.parameter("table", 3, 1), tape.input("rows", 1)
    looked_up = by_position(tape, table)
    part = (looked_up * rows).sum()
    whole = part * part
    tape.write(table, [1.0, 2.0, 3.0])
    tape.write(rows, [1.0, 1.0, 1.0])
    number_positions(tape)
    with pytest.raises(TapeGPTError, match=r"run forward of %5 \(1, 1\) sum first"):
        tape.backward(part)
    tape.forward(whole, 2)
    with pytest.raises(TapeGPTError, match="run backward first"):
        tape.gradient(table)
    with pytest.raises(TapeGPTError, match="forward ran for 2 positions, not 3"):
        tape.backward(whole, 3)
    tape.backward(part)  # on the way to the whole
    assert tape.gradient(table) == [[1.0], [1.0], [0.0]]
    assert tape.gradient(looked_up) == [[1.0], [1.0]]
    tape.backward(whole, 2)
    assert tape.gradient(table) == [[6.0], [6.0], [0.0]]
    tape.forward(part, 3)
    assert len(tape.gradient(looked_up)) == 2  # of the last backward
    with pytest.raises(TapeGPTError, match="run forward of"):
        tape.backward(whole)
    tape.write(rows, [2.0])
    with pytest.raises(TapeGPTError, match="run forward of"):
        tape.backward(part)


def test_gradients_accumulate_as_the_scalar_graph_is_sorted() -> None:
    """Not in the order of recording: here `a` is recorded first and visited last."""
    tape = Tape()
    x = tape.parameter("x", 1, 1)
    a, b, c = x * 0.1, x * 1e17, x * -1e17
    y = (c + b) + a
    value = Value(1.0)
    of_a, of_b, of_c = value * 0.1, value * 1e17, value * -1e17
    expected = (of_c + of_b) + of_a
    expected.backward()
    tape.write(x, [1.0])
    tape.forward(y)
    tape.backward(y)
    assert tape.gradient(x) == [[value.grad]] == [[0.0]]


def test_finite_differences_need_a_step() -> None:
    tape = Tape()
    loss = tape.parameter("x", 1, 1).sum()
    for bad in (0, -1.0, math.nan, math.inf, "1", True):
        with pytest.raises(TapeGPTError, match="step and tolerance must be above 0"):
            check_gradients(tape, loss, step=bad)  # type: ignore[arg-type]
        with pytest.raises(TapeGPTError, match="step and tolerance must be above 0"):
            check_gradients(tape, loss, tolerance=bad)  # type: ignore[arg-type]


def test_a_layer_has_a_bias_that_begins_at_zero() -> None:
    tape = Tape()
    y = tape.input("x", 3).linear("w", 2, bias=True)
    tape.initialise(seed=1)
    w, bias = tape.parameters()
    assert (w.name, bias.name, y.name) == ("w", "w.bias", "w")
    assert tape.read(bias) == [[0.0, 0.0]]
    assert all(number for row in tape.read(w) for number in row)
    same = Tape()
    given = same.parameter("given", 1, 1)
    same.parameter("w", 2, 3)
    same.write(given, [5.0])
    same.initialise(seed=1, deviation=0.0)
    assert [same.read(node) for node in same.parameters()] == [[[5.0]], [[0.0] * 3] * 2]
    same.initialise(seed=2)
    assert same.read(same.parameters()[1]) == [[0.0] * 3] * 2


@pytest.mark.parametrize("rows", [(3, 5), (5, 3)])
def test_token_ids_are_below_the_smallest_table_that_they_look_up(rows: tuple[int, int]) -> None:
    tape = Tape(2)
    ids = tape.indices("ids")
    for name, count in zip("ab", rows, strict=True):
        tape.embedding(tape.parameter(name, count, 4), ids)
    tape.write(ids, [2, 0])
    with pytest.raises(TapeGPTError, match="token ids must be from 0 to 2"):
        tape.write(ids, [0, 3])


def test_a_kernel_finds_its_numbers_where_more_was_recorded_after_it() -> None:
    tape = Tape()
    x = tape.parameter("x", 1, 1)
    y = x * x
    kernel = tape.forward_kernel(y)
    tape.parameter("w", 1, 1)
    z = x + 1.0
    tape.write(x, [3.0])
    assert tape.forward(z) == [[4.0]]
    shared, _, work = tape.regions()
    Program({"forward": (kernel, {})}).run("forward", shared, work, 0, 1)
    assert tape.read(y) == [[9.0]]


def test_only_what_prepares_something_has_a_kernel_for_it() -> None:
    tape = Tape(2)
    w = tape.parameter("w", 3, 3)
    square = w * w
    product = tape.linear(tape.input("x", 3), w)
    loss = (product @ square).sum()
    assert list(tape.kernels(square, loss)) == ["forward", "backward"]
    assert list(tape.kernels(product, loss)) == ["prepare", "forward", "backward"]


def test_a_kernel_is_for_a_node_of_its_tape() -> None:
    other = Tape().parameter("x", 1, 1) * 2.0
    for make in (Tape.prepare_kernel, Tape.forward_kernel, Tape.backward_kernel):
        with pytest.raises(TapeGPTError, match="a kernel: needs nodes recorded on this tape"):
            make(Tape(), other)
