"""The operations of the fast engine: against f64, against finite differences, and rows against their neighbours.

The oracle is the model in NumPy's f64; its slopes are complex steps (Squire and Trapp, 1998), which are exact to f64.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from tapegpt import TapeGPTError
from tapegpt.autograd import Tape, check_gradients
from tapegpt.autograd.node import Node
from tapegpt.autograd.operations.attention.cached import CachedAttention
from tapegpt.autograd.operations.attention.heads import LONG, Heads
from tapegpt.autograd.operations.attention.pairs import PairedAttention
from tapegpt.autograd.operations.attention.tiles import TiledAttention
from tapegpt.autograd.operations.base import PAD, Batch, Scratch, View, padded, row_stride
from tapegpt.autograd.operations.cross_entropy import FastCrossEntropy
from tapegpt.autograd.operations.embedding import Embedding
from tapegpt.autograd.operations.linear import FastLinear
from tapegpt.autograd.operations.products import Finish, Loose, Panels, fast_products, make_panels
from tapegpt.autograd.operations.rmsnorm import FastRMSNorm
from tapegpt.autograd.walk import Laid, Run
from tapegpt.machine.host import available, host_target
from tapegpt.machine.interpreter import Interpreter
from tapegpt.machine.language import F32, Builder, F32s, Int, Pointer, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import INTERPRETED, Target
from tests.properties import is_thorough, many

Array = npt.NDArray[Any]
Documents = list[list[int]]  # token ids; each but the last predicts the next

TARGETS = available(host_target())
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
GENERATE = (Phase.explicit, Phase.reuse, Phase.generate)  # where each example is a compilation

UNITS = [target for target in TARGETS if target.name != "interpreted"]
each_unit = pytest.mark.parametrize("target", UNITS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")


@dataclass(frozen=True)
class Sizes:
    """A model of one block, all its sizes free of each other."""

    n_head: int = 2
    head_dim: int = 3
    block_size: int = 5
    width: int = 6
    hidden: int = 7
    vocab_size: int = 5
    positions: int = 12
    activation: str = "relu"
    residual: bool = True


class Model:
    """Every operation of the engine on one tape."""

    def __init__(self, sizes: Sizes, target: Target | None = None, seed: int = 0) -> None:
        self.sizes = sizes
        self.heads = heads = Heads(sizes.n_head, sizes.head_dim, sizes.block_size)
        self.tape = tape = Tape(sizes.positions, target, F32)
        self.tokens, self.places, self.ends, self.targets = map(tape.indices, ("tokens", "places", "ends", "targets"))
        self.share = tape.input("share", 1, 1)
        shapes = {
            "token": (sizes.vocab_size, sizes.width),
            "place": (sizes.block_size, sizes.width),
            "qkv": (3 * heads.columns, sizes.width),
            "out": (sizes.width, heads.columns),
            "up": (sizes.hidden, sizes.width),
            "down": (sizes.width, sizes.hidden),
            "head": (sizes.vocab_size, sizes.width),
        }
        w = {name: tape.parameter(name, *shape) for name, shape in shapes.items()}
        x0 = tape.record(Embedding(2), w["token"], self.tokens, w["place"], self.places)
        x = tape.record(FastRMSNorm(), x0)
        qkv = tape.record(FastLinear(), tape.record(FastRMSNorm(), x), w["qkv"])
        kind = TiledAttention if heads.tiled else PairedAttention
        attended = tape.record(kind(heads), qkv, self.ends)
        x1 = tape.record(FastLinear(residual=sizes.residual), attended, w["out"], *[x][: sizes.residual])
        h = tape.record(FastLinear(sizes.activation), tape.record(FastRMSNorm(), x1), w["up"])
        x2 = tape.record(FastLinear(residual=sizes.residual), h, w["down"], *[x1][: sizes.residual])
        logits = tape.record(FastLinear(), x2, w["head"])
        self.loss = tape.record(FastCrossEntropy(), logits, self.targets, self.share)
        self.parameters = w
        self.nodes = {"x0": x0, "x": x, "qkv": qkv, "attended": attended, "x1": x1, "h": h, "x2": x2, "logits": logits}
        self._initialise(random.Random(seed))

    def _initialise(self, rng: random.Random) -> None:
        columns = self.heads.columns
        used = set(self.heads.used_columns())
        for name, node in self.parameters.items():
            rows, width = node.rows, node.shape.columns
            numbers = np.array([rng.gauss(0, 0.7 / width**0.25) for _ in range(rows * width)]).reshape(rows, width)
            if name == "qkv":
                numbers[[row for row in range(rows) if row % columns not in used]] = 0
            if name == "out":
                numbers[:, [column for column in range(width) if column not in used]] = 0
            self.tape.write(node, numbers.ravel().tolist())

    def run(self, documents: Documents, share: float | None = None) -> float:
        """Forward and backward; the loss, of which each position has the same share."""
        tape, lengths = self.tape, [len(document) - 1 for document in documents]
        count = sum(lengths)
        tape.write(self.tokens, [token for document in documents for token in document[:-1]])
        tape.write(self.targets, [token for document in documents for token in document[1:]])
        tape.write(self.places, [place for length in lengths for place in range(length)])
        ends = [sum(lengths[: number + 1]) for number, length in enumerate(lengths) for _ in range(length)]
        tape.write(self.ends, ends)
        tape.write(self.share, [1 / count if share is None else share])
        loss = tape.forward(self.loss, count)[0][0]
        tape.backward(self.loss, count)
        return loss

    def values(self) -> dict[str, Array]:
        return {name: np.array(self.tape.read(node)) for name, node in self.parameters.items()}

    def gradients(self) -> dict[str, Array]:
        return {name: np.array(self.tape.gradient(node)) for name, node in self.parameters.items()}

    def rows(self, name: str, count: int) -> list[list[float]]:
        return self.tape.read(self.nodes[name])[:count]


# The oracle


def rms_norm(x: Array) -> Array:
    result: Array = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5)
    return result


def softmax(x: Array) -> Array:
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    result: Array = e / e.sum(axis=-1, keepdims=True)
    return result


def attention(qkv: Array, heads: Heads) -> Array:
    """Of one document."""
    columns, n = heads.columns, len(qkv)
    result = np.zeros((n, columns), dtype=qkv.dtype)
    for head in range(heads.n_head):
        q, key, v = (qkv[:, part * columns + head * heads.lanes :][:, : heads.head_dim] for part in range(3))
        logits = q @ key.T / heads.head_dim**0.5
        weights = softmax(np.where(np.tri(n, dtype=bool), logits, -1e30))
        result[:, head * heads.lanes : head * heads.lanes + heads.head_dim] = weights @ v
    return result


def oracle(model: Model, w: dict[str, Array], documents: Documents) -> dict[str, Array]:
    """Every node, of all documents one after the other; and the mean loss."""
    sizes, found, losses = model.sizes, [], []
    for document in documents:
        x0 = w["token"][document[:-1]] + w["place"][: len(document) - 1]
        x = rms_norm(x0)
        qkv = rms_norm(x) @ w["qkv"].T
        attended = attention(qkv, model.heads)
        x1 = attended @ w["out"].T + (x if sizes.residual else 0)
        before = rms_norm(x1) @ w["up"].T
        h = before * (before.real > 0) if sizes.activation else before
        x2 = h @ w["down"].T + (x1 if sizes.residual else 0)
        logits = x2 @ w["head"].T
        chosen = softmax(logits)[range(len(logits)), document[1:]]
        losses.append(-np.log(chosen))
        nodes = {"x0": x0, "x": x, "qkv": qkv, "attended": attended, "x1": x1, "h": h, "x2": x2, "logits": logits}
        found.append({**nodes, "before": before})
    result = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    return {**result, "loss": np.concatenate(losses).mean()}


def slope(model: Model, w: dict[str, Array], documents: Documents, name: str, direction: Array) -> float:
    """Of the loss, along a direction of one parameter."""
    moved = {**w, name: w[name] + 1e-30j * direction}
    return float(oracle(model, moved, documents)["loss"].imag * 1e30)


def near(result: Array, expected: Array, tolerance: float = 1e-5) -> bool:
    """Equal but for a share of the largest number."""
    return bool(np.abs(result - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-3))


def is_smooth(model: Model, documents: Documents) -> bool:
    """Whether no sum is so near a kink that f32 may see its other side."""
    before = oracle(model, model.values(), documents)["before"]
    return not model.sizes.activation or bool(np.abs(before).min() > 1e-6)


def check_against_the_oracle(model: Model, documents: Documents, rng: random.Random) -> None:
    loss, w = model.run(documents), model.values()
    expected = oracle(model, w, documents)
    assert loss == pytest.approx(float(expected["loss"]), rel=1e-5)
    count = len(expected["x"])
    for name in model.nodes:
        assert near(np.array(model.rows(name, count)), expected[name]), name
    used = model.heads.used_columns()
    gradients = model.gradients()
    least = 0.03 * max(float(np.abs(gradient).max()) for gradient in gradients.values())  # what cancels is not exact
    for name, gradient in gradients.items():
        shape = gradient.shape
        ones = [(rng.randrange(shape[0]), rng.randrange(shape[1])) for _ in range(4)]
        largest = np.abs(gradient).max()
        for place in ones:
            direction = np.zeros(shape)
            direction[place] = 1
            error = abs(slope(model, w, documents, name, direction) - gradient[place])
            assert error <= 3e-5 * max(largest, least), (name, place)
        for _ in range(2):
            direction = np.array([rng.gauss(0, 1) for _ in range(gradient.size)]).reshape(shape)
            if name == "qkv":  # in lanes that are not used there is no slope
                direction[[row for row in range(shape[0]) if row % model.heads.columns not in used]] = 0
            if name == "out":
                direction[:, [column for column in range(shape[1]) if column not in used]] = 0
            error = abs(slope(model, w, documents, name, direction) - float((direction * gradient).sum()))
            assert error <= 3e-5 * max(float(np.sqrt((gradient**2).sum())), least), name
        if name == "qkv":
            assert not gradient[[row for row in range(shape[0]) if row % model.heads.columns not in used]].any()


def random_documents(sizes: Sizes, rng: random.Random) -> Documents:
    """Of 1 to `block_size` positions, as many as fit."""
    documents, left = [], sizes.positions
    while left:
        length = min(rng.randint(1, sizes.block_size), left)
        documents.append([rng.randrange(sizes.vocab_size) for _ in range(length + 1)])
        left -= length
    return documents


widths = st.one_of(st.integers(3, 20), st.sampled_from([31, 32, 33, 47, 64, 70]))
shapes = st.builds(
    Sizes,
    n_head=st.integers(1, 5),
    head_dim=st.one_of(st.integers(1, 12), st.sampled_from([15, 16, 17, 31, 32, 33, 48])),
    block_size=st.one_of(st.integers(1, LONG), st.integers(LONG + 1, 70)),
    width=widths,
    hidden=widths,
    vocab_size=st.one_of(st.integers(2, 20), st.sampled_from([32, 33, 130, 300])),
    positions=st.integers(1, 90),
    activation=st.sampled_from(["relu", ""]),
    residual=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=many(4, few=2), phases=GENERATE)
@given(shapes, st.integers(0, 999))
def test_values_and_gradients_of_any_shape(sizes: Sizes, seed: int) -> None:
    rng = random.Random(seed)
    model, documents = Model(sizes, seed=seed), random_documents(sizes, rng)
    assume(is_smooth(model, documents))
    check_against_the_oracle(model, documents, rng)


SMALL = [Sizes(), Sizes(2, 3, LONG + 1, 4, 5, 4, 5)]
LARGER = [
    Sizes(4, 4, LONG, 16, 64, 27, 40, ""),
    Sizes(1, 33, 9, 33, 5, 34, 20, "", residual=False),
    Sizes(3, 17, 70, 20, 9, 3, 85, "relu"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "sizes"),
    [
        pytest.param(target, sizes, id=f"{target.name}-{target.cpu or 'host'}-{sizes.block_size}")
        for target in TARGETS
        for sizes in [*SMALL, *(LARGER if target in (UNITS if is_thorough() else UNITS[:1]) else [])]
    ],
)
def test_values_and_gradients_on_every_vector_unit(target: Target, sizes: Sizes) -> None:
    number = sizes.width
    rng = random.Random(number)
    model, documents = Model(sizes, target, seed=number), random_documents(sizes, rng)
    assert is_smooth(model, documents)
    check_against_the_oracle(model, documents, rng)


@pytest.mark.slow
@pytest.mark.parametrize("small", SMALL, ids=lambda sizes: f"{sizes.block_size}")
def test_heads_that_look_alike_have_code_of_their_own(small: Sizes) -> None:
    """As wide in memory, and in the same places: only what is used of them differs."""
    for sizes in (small, replace(small, head_dim=small.head_dim + 1)):
        model, documents = Model(sizes), random_documents(sizes, random.Random(1))
        assert model.heads.lanes == Heads(2, 4, sizes.block_size).lanes
        assert model.run(documents) == pytest.approx(float(oracle(model, model.values(), documents)["loss"]), rel=1e-5)


# Operations alone, against finite differences of themselves


def chain(kind: str, tape: Tape, x: Node, ends: Node, width: int) -> Node:
    """Logits as wide as x, by one operation or as few as possible."""
    if kind == "embedding":
        return x
    if kind == "rmsnorm":
        return tape.record(FastRMSNorm(), x)
    if kind.startswith("attention"):
        heads = Heads(2, 3, LONG if kind == "attention" else LONG + 1)
        qkv = tape.record(FastLinear(), x, tape.parameter("qkv", 3 * heads.columns, width))
        y = tape.record((TiledAttention if heads.tiled else PairedAttention)(heads), qkv, ends)
        return tape.record(FastLinear(), y, tape.parameter("out", width, heads.columns))
    h = tape.record(FastLinear(kind.removeprefix("linear").strip()), x, tape.parameter("up", 2 * width + 1, width))
    return tape.record(FastLinear(), h, tape.parameter("down", width, 2 * width + 1))


KINDS = ["embedding", "rmsnorm", "linear", "linear relu", "attention", "attention in tiles"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_operation_against_finite_differences(kind: str) -> None:
    """A step of 2^-7 is exact in f32, and its errors of rounding and of curvature are both below 1e-4."""
    rng, width, positions = random.Random(5), 5, 9
    tape = Tape(positions, None, F32)
    tokens, places, ends, targets = map(tape.indices, ("tokens", "places", "ends", "targets"))
    share = tape.input("share", 1, 1)
    table, place_table = tape.parameter("table", 6, width), tape.parameter("places", 7, width)
    x = tape.record(Embedding(2), table, tokens, place_table, places)
    loss = tape.record(FastCrossEntropy(), chain(kind, tape, x, ends, width), targets, share)
    for node in tape.parameters():
        tape.write(node, [rng.gauss(0, 0.5) for _ in range(node.rows * node.shape.columns)])
    tape.write(tokens, [rng.randrange(6) for _ in range(positions)])
    tape.write(targets, [rng.randrange(width) for _ in range(positions)])
    tape.write(places, [place % 6 for place in range(positions)])
    tape.write(ends, [min(6, positions)] * min(6, positions) + [positions] * (positions - 6))
    tape.write(share, [1 / positions])
    assert check_gradients(tape, loss, step=2.0**-7, tolerance=2e-4).error < 2e-4


# Rows and their neighbours


@cache
def wide(block_size: int, target: Target = TARGETS[0]) -> Model:
    """One compilation for all tests and examples."""
    return Model(Sizes(3, 5, block_size, 15, 33, 17, 180), target)


@pytest.mark.slow
@each_unit
@pytest.mark.parametrize("block_size", [LONG, 70])
def test_rows_do_not_depend_on_their_neighbours(target: Target, block_size: int) -> None:
    """A document alone has the bits that it has among others, wherever it lies."""
    model, rng = wide(block_size, target), random.Random(block_size)
    documents = [[rng.randrange(17) for _ in range(length + 1)] for length in (1, block_size, 7, 30, 2)]
    alone = []
    for document in documents:
        model.run([document], share=0.125)
        alone.append({name: model.rows(name, len(document) - 1) for name in model.nodes})
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [1, 1, 3]):
        chosen = [documents[number] for number in order]
        count = sum(len(document) - 1 for document in chosen)
        model.run(chosen, share=0.125)
        for name in model.nodes:
            assert model.rows(name, count) == [row for number in order for row in alone[number][name]], name


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [LONG, 70])
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=many(20))
def test_a_batchs_gradient_is_the_mean_by_position(block_size: int, lengths: list[int], seed: int) -> None:
    model, rng = wide(block_size), random.Random(seed)
    documents = [[rng.randrange(17) for _ in range(length + 1)] for length in lengths]
    loss, count = model.run(documents), sum(lengths)
    gradients = model.gradients()
    mean, total = 0.0, {name: np.zeros(gradient.shape) for name, gradient in gradients.items()}
    for document, length in zip(documents, lengths, strict=True):
        mean += model.run([document]) * length / count
        for name, gradient in model.gradients().items():
            total[name] += gradient * length / count
    assert loss == pytest.approx(mean, rel=1e-6)
    assert all(near(gradients[name], total[name], 2e-6) for name in total)


def test_later_positions_and_other_documents_change_nothing() -> None:
    model, rng = wide(LONG), random.Random(5)
    documents = [[rng.randrange(17) for _ in range(21)] for _ in range(3)]
    model.run(documents)
    before = model.rows("logits", 60)
    documents[1] = [*documents[1][:8], *[16] * 13]
    model.run(documents)
    after = model.rows("logits", 60)
    assert (after[:28], after[40:]) == (before[:28], before[40:])
    assert all(after[row] != before[row] for row in range(28, 40))


@pytest.mark.slow
def test_what_lies_behind_a_row_stays_zero() -> None:
    """The engine works on whole vectors: padding is zero in every matrix and gradient that is read so."""
    sizes = SMALL[0]
    model = Model(sizes)
    model.run(random_documents(sizes, random.Random(1)))
    tape = model.tape
    for node in [*model.parameters.values(), *(node for name, node in model.nodes.items() if name != "logits")]:
        width, columns = padded(node.shape.columns), node.shape.columns
        for offset in (tape._value_at(node), tape._gradient_at(node)):
            numbers = tape.arena.floats(4 * offset, node.rows * width, 4).tolist()
            assert not any(number for at, number in enumerate(numbers) if at % width >= columns), node


def test_shapes_that_do_not_fit_are_refused_in_one_line() -> None:
    tape = Tape(4, None, F32)
    ids, x, w = tape.indices("ids"), tape.input("x", 48), tape.parameter("w", 3, 5)
    heads = Heads(2, 3, 8)
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: tape.record(FastLinear(), x, w), "linear: x and W must have as many columns"),
        (lambda: tape.record(FastLinear(residual=True), x, tape.parameter("v", 3, 48), x), "linear: the residual must"),
        (
            lambda: tape.record(FastLinear(bias=True), x, tape.parameter("u", 3, 48), w),
            "linear: the bias must be a row",
        ),
        (lambda: tape.record(PairedAttention(heads), w, ids), "attention: needs 48 columns"),
        (lambda: tape.record(PairedAttention(heads), x, x), "attention: takes token ids, not"),
        (lambda: tape.record(TiledAttention(Heads(2, 3, 40)), x, ids), "attention in tiles: needs 96 columns"),
        (lambda: tape.record(FastCrossEntropy(), x, ids, x), "cross_entropy: needs"),
        (lambda: tape.record(Embedding(2), w, ids, x, ids), "embedding: needs"),
    ]
    for make, message in cases:
        with pytest.raises(TapeGPTError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_a_gradient_that_is_set_or_passed_on_has_one_use() -> None:
    """What would be a wrong gradient is refused where it is recorded."""
    tape = Tape(4, None, F32)
    inputs = [tape.record(FastRMSNorm(), tape.input(f"x{n}", 16)) for n in range(7)]
    ends = tape.indices("ends")
    weights = [tape.parameter(f"w{n}", 16, 16) for n in range(2)]

    def linear(x: Node, *residual: Node, activation: str = "") -> Node:
        return tape.record(FastLinear(activation, residual=bool(residual)), x, weights[0], *residual)

    def attention(node: Node) -> Node:
        return tape.record(PairedAttention(Heads(1, 5, 4), packed=False), node, *kept, ends)

    once, before, after, alone, hidden, *kept = inputs
    attention(once)
    activated = linear(hidden, activation="relu")
    with_residual = linear(tape.record(FastRMSNorm(), before), before)
    square, fixed = (tape.record(FastRMSNorm(), tape.input(name, 16, 16)) for name in ("square", "fixed"))
    matrix = tape.record(FastLinear("relu"), fixed, weights[1])
    cases: list[tuple[Node, Callable[[Node], object], str]] = [
        (once, linear, "has another use"),  # its gradient is set
        (once, lambda node: tape.record(FastRMSNorm(), node), "has another use"),
        (before, lambda node: tape.record(FastRMSNorm(), node), "has another use"),  # the residual's is passed on
        (alone, attention, "has another use"),  # and the other one came first
        (activated, lambda node: tape.record(FastRMSNorm(), node), "does not differentiate the activation"),
        (matrix, lambda node: tape.record(FastLinear(), fixed, node), "does not differentiate the activation"),
        (matrix, lambda node: tape.record(FastLinear(), node, fixed), ""),  # but of x it does
        (after, lambda node: linear(node, node), "is used beside it"),
        (alone, lambda node: linear(with_residual, node), "is used beside it"),
        (weights[1], lambda node: linear(with_residual, node), "is used beside it|the residual must"),
        (square, lambda node: tape.record(FastLinear(residual=True), fixed, node, node), "is used beside it"),
    ]
    tape.record(FastRMSNorm(), alone)  # on no way to the result
    for node, record, message in cases:
        if not message:
            record(node)
            continue
        with pytest.raises(TapeGPTError, match=message) as caught:
            record(node)
        assert f"%{node.index} " in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [5, LONG + 1])
def test_what_an_operation_keeps_is_as_much_as_it_says(block_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(Sizes(1, 3, block_size, 3, 3, 5, block_size), INTERPRETED)
    kept: dict[int, memoryview] = {}
    scratch = Run._scratch

    def apart(run: Run, node: Laid) -> Scratch:
        given = scratch(run, node)
        if not isinstance(given.kept.k, Interpreter):
            return given
        assert node.operation
        count = node.operation.kept_size(block_size, *[each.shape for each in node.inputs])
        memory = kept.setdefault(node.index, memoryview(array("f", bytes(4 * padded(count)))))
        return Scratch(given.prepared, Pointer(given.kept.k, F32, (memory, 0)))

    document = [place % 5 for place in range(block_size + 1)]
    expected = model.run([document])
    monkeypatch.setattr(Run, "_scratch", apart)
    assert model.run([document]) == expected
    assert kept


def test_a_sum_with_a_residual_beside_the_way_leaves_its_gradient() -> None:
    tape = Tape(2, None, F32)
    w, ids, share = tape.parameter("w", 16, 16), tape.indices("ids"), tape.input("share", 1, 1)
    x = tape.record(FastLinear(), tape.input("x", 16), w)
    normed = tape.record(FastRMSNorm(), x)
    loss = tape.record(FastCrossEntropy(), tape.record(FastRMSNorm(), normed), ids, share)
    tape.record(FastLinear(residual=True), tape.record(FastRMSNorm(), normed), w, x)
    for node in tape.nodes:
        if not node.operation:
            tape.write(node, [1] if node.shape.index else [0.01 * n for n in range(node.rows * node.shape.columns)])
    tape.write(share, [1.0])
    tape.forward(loss)
    tape.backward(loss)
    assert all(map(any, tape.gradient(x)))


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [5, LONG + 1])
def test_whatever_is_said_of_ends_documents_stay_in_their_place(block_size: int) -> None:
    """An end before its beginning is one position, one far away is the block's."""
    model = Model(Sizes(2, 3, block_size, positions=block_size + 3))
    count = model.sizes.positions
    model.run([[0] * (count + 1)] if count <= block_size else [[0] * (block_size + 1), [0] * (count - block_size + 1)])
    whole = model.rows("attended", count)
    for ends, expected in ((2**32 - 1, whole), (0, [whole[0]] * count)):
        model.tape.write(model.places, [t % block_size for t in range(count)] if ends else [0] * count)
        model.tape.write(model.ends, [ends] * count)
        model.tape.forward(model.loss)
        model.tape.backward(model.loss)
        assert model.rows("attended", count) == expected


def test_lines_of_the_cache_are_as_many_as_were_said() -> None:
    tape, heads = Tape(8, None, F32), Heads(1, 4, 5)
    qkv, places, lines = tape.input("qkv", 3 * heads.columns), tape.indices("places"), tape.indices("lines")
    tape.record(CachedAttention(heads, Batch(3, 5, lines=3)), qkv, places, lines)
    for node, bound in ((places, 5), (lines, 3)):
        tape.write(node, [bound - 1])
        with pytest.raises(TapeGPTError, match=f"token ids must be from 0 to {bound - 1}"):
            tape.write(node, [bound])


FAR = [-1000.0, -100.0, 100.0, 1000.0]


@each_target
def test_the_softmax_of_logits_far_from_zero(target: Target) -> None:
    """Only their differences count: the largest is looked for, and nothing else is put in its place."""
    width, rng = 21, random.Random(3)
    tape = Tape(2, target, F32)
    w, targets, share = tape.parameter("w", width, 1), tape.indices("targets"), tape.input("share", 1, 1)
    x = tape.input("x", 1)
    loss = tape.record(FastCrossEntropy(), tape.record(FastLinear(), x, w), targets, share)
    tape.write(x, [1.0, 1.0])
    tape.write(targets, [3, 20])
    tape.write(share, [0.5])
    for far in FAR:
        logits = np.array([far + rng.gauss(0, 1) for _ in range(width)], dtype=np.float32).astype(float)
        tape.write(w, logits.tolist())
        probabilities = softmax(logits)
        assert tape.forward(loss)[0][0] == pytest.approx(-np.log(probabilities[[3, 20]]).mean(), rel=1e-5)
        tape.backward(loss)
        expected = probabilities - [0.5 * (i in (3, 20)) for i in range(width)]
        assert np.array(tape.gradient(w))[:, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@each_target
@pytest.mark.parametrize("block_size", [LONG, LONG + 1])
def test_attention_to_logits_far_from_zero(target: Target, block_size: int) -> None:
    positions, heads, rng = 6, Heads(1, 4, block_size), random.Random(3)
    tape = Tape(positions, target, F32)
    qkv, ends = tape.input("qkv", 3 * heads.columns), tape.indices("ends")
    y = tape.record((TiledAttention if heads.tiled else PairedAttention)(heads), qkv, ends)
    tape.write(ends, [positions] * positions)
    for far in FAR:
        numbers = np.array([[rng.gauss(0, 1) for _ in range(3 * heads.columns)] for _ in range(positions)])
        for part in range(3):
            numbers[:, part * heads.columns + 4 : (part + 1) * heads.columns] = 0
        numbers[:, 0], numbers[:, heads.columns] = 2.0, far
        numbers = numbers.astype(np.float32).astype(float)
        tape.write(qkv, numbers.ravel().tolist())
        assert np.array(tape.forward(y)) == pytest.approx(attention(numbers, heads), abs=3e-3)


def test_ids_are_checked_by_their_own_table() -> None:
    model = Model(Sizes(vocab_size=9, block_size=5, positions=3))
    for node, bound in ((model.tokens, 9), (model.targets, 9), (model.places, 5)):
        model.tape.write(node, [bound - 1] * 3)
        with pytest.raises(TapeGPTError, match=f"token ids must be from 0 to {bound - 1}"):
            model.tape.write(node, [bound])


# The product


@dataclass(frozen=True)
class Product:
    rows: int
    count: int
    columns: int
    turned: bool  # x is (count, rows)
    finish: str = ""
    beside: bool = False  # or what stands in y
    panels: bool = False
    fixed: bool = False
    bias: bool = False


@kernel
def product_of(
    k: Builder, x: F32s, w: F32s, panels: F32s, y: F32s, beside: F32s, rows: Int, count: Int, *, shape: Product
) -> None:
    """y by the kernels, w turned where it is to be in panels; `beside` has y's shape, its row 0 is the bias."""
    height = shape.rows if shape.fixed else rows
    turned, row, width = padded(shape.rows), padded(shape.count), padded(shape.columns)
    left = View(x, count, shape.rows, turned).T if shape.turned else View(x, height, shape.count, row)
    right: View | Panels = View(w, count, shape.columns, width)
    if shape.panels:
        make_panels(k, View(w, shape.columns, shape.count, row), panels, outs=shape.columns)
        right = Panels(panels, shape.count)
    other = View(beside, height, shape.columns, width)
    finish = Finish(shape.finish, other if shape.beside else None, beside if shape.bias else None)
    fast_products(k, left, right, View(y, height, shape.columns, width), finish)


def product(shape: Product, target: Target, x: list[list[float]], w: list[list[float]], y: list[list[float]]) -> Array:
    """The product of x (rows, count) and w (count, columns), finished with y (rows, columns)."""
    row, width = padded(shape.count), padded(shape.columns)
    program = Program({"product": (product_of, {"shape": shape})}, target)
    left = flat(list(map(list, zip(*x, strict=True))), padded(shape.rows)) if shape.turned else flat(x, row)
    right = flat(list(map(list, zip(*w, strict=True))), row) if shape.panels else flat(w, width)
    panels, result, beside = array("f", bytes(4 * shape.count * width)), flat(y, width), flat(y, width)
    if shape.beside:
        result = array("f", bytes(4 * len(result)))
    places = map(address_of, (left, right, panels, result, beside))
    program.run("product", *places, shape.rows, shape.count)
    return np.array(result).reshape(shape.rows, width)[:, : shape.columns]


def flat(rows: list[list[float]], width: int) -> array[float]:
    """Rows that start on multiples of the width, zeros behind."""
    return array("f", [number for row in rows for number in row + [0.0] * (width - len(row))])


FINISHED: dict[str, Callable[[Array, Array], Array]] = {
    "": lambda total, other: total,
    "+": lambda total, other: total + other,
    "*": lambda total, other: total * other,
    "relu": lambda total, other: np.maximum(total, 0),
    "* relu'": lambda total, other: total * (other > 0),
}


@pytest.mark.slow
@each_target
@settings(max_examples=many(7, few=3), phases=GENERATE)
@given(
    st.builds(
        Product,
        rows=st.integers(1, 20),
        count=st.integers(1, 40),
        columns=st.one_of(st.integers(1, 40), st.integers(41, 500)),
        turned=st.booleans(),
        finish=st.sampled_from(sorted(FINISHED)),
        beside=st.booleans(),
        panels=st.booleans(),
        fixed=st.booleans(),
        bias=st.booleans(),
    ),
    st.integers(0, 999),
)
def test_products_of_whole_numbers_are_exact(target: Target, shape: Product, seed: int) -> None:
    if target.name == "interpreted":
        shape = replace(shape, rows=shape.rows % 9 + 1, count=shape.count % 5 + 1, columns=shape.columns % 40 + 1)
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-9, 10, (shape.rows, shape.count)), rng.integers(-9, 10, (shape.count, shape.columns))
    y = rng.integers(-9, 10, (shape.rows, shape.columns))
    result = product(shape, target, *(matrix.astype(float).tolist() for matrix in (x, w, y)))
    assert (result == FINISHED[shape.finish](x @ w + y[0] * shape.bias, y)).all()


@pytest.mark.parametrize("target", [t for t in TARGETS if not t.fma], ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [Product(9, 21, 70, turned=False), Product(11, 8, 33, turned=True)], ids=repr)
def test_a_sum_is_one_chain_in_order(target: Target, shape: Product) -> None:
    """Of products and sums in NumPy's f32, one rounding each."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(shape.rows, shape.count)).astype(np.float32)
    w = rng.normal(size=(shape.count, shape.columns)).astype(np.float32)
    total = np.zeros((shape.rows, shape.columns), np.float32)
    for i in range(shape.count):
        total += x[:, i : i + 1] * w[i]
    result = product(shape, target, x.tolist(), w.tolist(), np.zeros(total.shape).tolist())
    assert (result == total).all()


LARGE = 256  # rows and columns


@kernel
def large_products(k: Builder, x: F32s, w: F32s, panel: F32s, y: F32s, copied: F32s, rows: Int) -> None:
    """The same product where the matrix is, and from copies of its columns."""
    matrix = View(w, LARGE, LARGE, LARGE)
    for right, result in ((matrix, y), (Loose(matrix, panel), copied)):
        fast_products(k, View(x, rows, LARGE, LARGE), right, View(result, rows, LARGE, LARGE), Finish())


@pytest.mark.parametrize("target", UNITS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
def test_narrow_tiles_read_a_large_matrix_from_a_copy(target: Target) -> None:
    rng, rows = np.random.default_rng(1), 7
    x, w = (array("f", rng.normal(size=count * LARGE).tolist()) for count in (rows, LARGE))
    panel, y, copied = (array("f", bytes(4 * count * LARGE)) for count in (PAD, rows, rows))
    program = Program({"products": (large_products, {})}, target)
    program.run("products", *map(address_of, (x, w, panel, y, copied)), rows)
    assert copied == y
    assert any(y)
    assert any(panel) == (target.vector_bytes < 4 * PAD)


def test_wide_rows_are_an_odd_number_of_cache_lines_apart() -> None:
    assert [row_stride(columns) for columns in (1, 16, 17, 64, 240)] == [16, 16, 32, 64, 240]
    assert [row_stride(columns) for columns in (250, 256, 257, 272, 512)] == [272, 272, 272, 272, 528]
