"""Steps of training on tapes: held to plain Python, to PyTorch, and to people who give them anything.

`python -m tests.autograd.test_step 1000` holds the fast steps of so many random graphs to the exact ones.
"""

from __future__ import annotations

import math
import pickle
import random
import signal
import sys
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import DivergedError, TapeGPTError
from tapegpt.autograd import SGD, Adam, Tape
from tapegpt.machine.target import INTERPRETED
from tapegpt.tensors import read_contents, write_contents
from tests import properties
from tests.autograd import graphs
from tests.autograd.scalars import TARGETS
from tests.test_forks import FORKS, child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.optimizers import Optimizer
    from tapegpt.autograd.step import Step
    from tapegpt.machine.target import Target

OPTIMIZERS: list[Optimizer] = [
    SGD(learning_rate=0.1),
    SGD(learning_rate=0.1, momentum=0.9, weight_decay=0.1, decay_steps=5),
    Adam(learning_rate=0.03),
    Adam(learning_rate=0.03, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.2, decay_steps=20),
]


def network(positions: int, target: Target | None = None) -> tuple[Tape, Node]:
    """Two outputs of which one is a class, from three numbers; what is not in the loss must stay as it is."""
    tape = Tape(positions, target)
    x, y, label = tape.input("x", 3), tape.input("y", 1), tape.indices("label")
    tape.parameter("idle", 2, 2)
    hidden = x.linear("hidden", 5, bias=True).tanh()
    loss = tape.mse(hidden.linear("y out", 1), y) + tape.cross_entropy(hidden.linear("label out", 4), label)
    return tape, loss


def examples(count: int, seed: int = 1) -> dict[str, Any]:
    rng = random.Random(seed)
    x = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(count)]
    return {"x": x, "y": [sum(row) for row in x], "label": [rng.randrange(4) for _ in x]}


def numbers_of(tape: Tape) -> dict[str, list[float]]:
    return {node.name: [number for row in tape.read(node) for number in row] for node in tape.parameters()}


class Reference:
    """The same steps in plain Python, gradients but for that: `forward` and `backward` of a tape like the other."""

    def __init__(self, build: Callable[[], tuple[Tape, Node]], start: Tape, optimizer: Optimizer) -> None:
        self.tape, self.loss = build()
        self.optimizer, self.steps = optimizer, 0
        for node, numbers in zip(self.tape.parameters(), numbers_of(start).values(), strict=True):
            self.tape.write(node, numbers)
        self.used = [node for node in self.tape.order(self.loss) if node.is_parameter]
        self.kept = {node: [[0.0, 0.0] for _ in numbers_of(self.tape)[node.name]] for node in self.used}

    def step(self, *batches: dict[str, Any]) -> float:
        sums = {node: [0.0] * len(self.kept[node]) for node in self.used}
        loss, rows = 0.0, [len(next(iter(batch.values()))) for batch in batches]
        for batch, count in zip(batches, rows, strict=True):
            for node in self.tape.order(self.loss):
                if node.name in batch:
                    given = batch[node.name]
                    self.tape.write(node, [n for row in given for n in row] if isinstance(given[0], list) else given)
            share = count / sum(rows)
            loss += self.tape.forward(self.loss, count)[0][0] * share
            self.tape.backward(self.loss)
            for node in self.used:
                slopes = [number for row in self.tape.gradient(node) for number in row]
                sums[node] = [a + b * share for a, b in zip(sums[node], slopes, strict=True)]
        for node in self.used:
            self.tape.write(node, [*map(self._moved, numbers_of(self.tape)[node.name], sums[node], self.kept[node])])
        self.steps += 1
        return loss

    def _moved(self, number: float, g: float, kept: list[float]) -> float:
        each = self.optimizer
        rate = each.learning_rate
        if each.decay_steps:
            rate *= max(1.0 - self.steps / each.decay_steps, 0.0)
        if isinstance(each, SGD):
            kept[0] = kept[0] * each.momentum + g
            direction = kept[0]
        else:
            assert isinstance(each, Adam)
            kept[0] = kept[0] * each.beta1 + g * (1.0 - each.beta1)
            kept[1] = kept[1] * each.beta2 + g * g * (1.0 - each.beta2)
            mean, square = (
                m / (1.0 - beta ** (self.steps + 1)) for m, beta in zip(kept, (each.beta1, each.beta2), strict=True)
            )
            direction = mean / (math.sqrt(square) + each.epsilon)
        return number * (1.0 - rate * each.weight_decay) - direction * rate


def part(data: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    return {name: [numbers[row] for row in rows] for name, numbers in data.items()}


# --- what the steps are -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("target", [TARGETS[0], INTERPRETED], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_steps_are_those_of_plain_python(optimizer: Optimizer, target: Target) -> None:
    """Twelve steps on batches of 4 of 10 rows: whole passes and what is left of them, in two calls."""
    tape, loss = network(4, target)
    step, data = tape.compile(loss, optimizer, seed=3), examples(10)
    reference = Reference(lambda: network(4), tape, optimizer)
    losses = step(**data, steps=5) + step(**data, steps=7)
    wanted = [reference.step(part(data, [(4 * i + t) % 10 for t in range(4)])) for i in range(12)]
    assert losses == wanted
    assert numbers_of(tape) == numbers_of(reference.tape)
    assert step.steps_taken == 12


def test_a_step_takes_the_mean_gradient_of_its_batches() -> None:
    tape, loss = network(4)
    step, data = tape.compile(loss, OPTIMIZERS[1], batches=4), examples(16)
    reference = Reference(lambda: network(4), tape, OPTIMIZERS[1])
    batches = [part(data, range(4 * i, 4 * i + 4)) for i in range(4)]
    assert step(**data, steps=2) == pytest.approx([reference.step(*batches) for _ in range(2)], rel=1e-14)
    for name, numbers in numbers_of(reference.tape).items():  # whose gradients are added up batch by batch
        assert numbers_of(tape)[name] == pytest.approx(numbers, rel=1e-12)


def test_the_order_is_drawn_with_a_seed() -> None:
    data, taken = examples(9), []
    for seed in (None, 1, 1, 2):
        tape, loss = network(9)
        taken.append((tape.compile(loss, OPTIMIZERS[0])(**data, seed=seed), numbers_of(tape)))
    assert taken[1] == taken[2]
    assert len({str(each) for each in taken}) == 3


def test_fewer_rows_than_positions_are_a_smaller_batch() -> None:
    for rows in (1, 3):
        tape, loss = network(64)
        step, data = tape.compile(loss, OPTIMIZERS[2]), examples(rows)
        reference = Reference(lambda: network(64), tape, OPTIMIZERS[2])
        assert step(**data, steps=3) == [reference.step(data) for _ in range(3)]


def test_a_call_is_as_good_as_many_calls() -> None:
    both = []
    for calls in (1, 6):
        tape, loss = network(4)
        step = tape.compile(loss, OPTIMIZERS[3], batches=2)
        losses = [loss for _ in range(calls) for loss in step(**examples(11), seed=5, steps=6 // calls)]
        both.append((losses, numbers_of(tape)))
    assert both[0] == both[1]


def test_the_order_goes_on_after_very_many_steps() -> None:
    tape = Tape()
    x = tape.input("x", 1)
    step = tape.compile((x * tape.parameter("w", 1, 1, start=1.0)).sum(), SGD(learning_rate=0.0))
    for taken in (0, 2**33 + 1, 2**34 + 3):
        step.steps_taken = taken
        assert step(x=[1.0, 2.0, 3.0], steps=4) == [1.0 + (taken + i) % 3 for i in range(4)]


def test_the_tape_goes_on_with_the_new_numbers() -> None:
    tape, loss = network(4)
    step, data = tape.compile(loss, OPTIMIZERS[0]), examples(4)
    (first,), (second,) = step(**data), step(**data)
    assert second < first
    assert tape.forward(loss, 4)[0][0] < second  # what the last batch was is still there
    tape.backward(loss)
    tape.gradient(tape.parameters()[1])
    step(**data)
    with pytest.raises(TapeGPTError, match="run backward first"):
        tape.gradient(tape.parameters()[1])
    with pytest.raises(TapeGPTError, match="run forward"):
        tape.backward(loss)


def test_what_a_loss_does_not_depend_on_stays() -> None:
    """Two losses on one tape, each with parameters of its own."""
    tape = Tape(4)
    x, a, b = tape.input("x", 2), tape.parameter("a", 1, 2), tape.parameter("b", 1, 2)
    first, second = ((tape.linear(x, w) ** 2).mean() for w in (a, b))
    steps = [tape.compile(loss, Adam(weight_decay=0.5)) for loss in (first, second)]
    before = numbers_of(tape)
    steps[0](x=[[1.0, 2.0]] * 4)
    assert numbers_of(tape)["b"] == before["b"]
    steps[1](x=[[1.0, 2.0]] * 4)
    assert numbers_of(tape)["b"] != before["b"]


def test_inputs_of_fixed_rows_are_the_same_for_all_batches() -> None:
    tape = Tape(2)
    x, scale = tape.input("x", 1), tape.input("scale", 1, rows=1)
    loss = tape.mse(x.linear("w", 1), x * scale)
    step = tape.compile(loss, SGD(learning_rate=0.5))
    step(x=[1.0, -1.0], scale=[3.0], steps=60)
    assert tape.read(tape.parameters()[0])[0][0] == pytest.approx(3.0)
    with pytest.raises(TapeGPTError, match=r"scale.*2 numbers do not fill 1 rows|scale: 2 numbers do not fill rows"):
        step(x=[1.0], scale=[3.0, 4.0])


def test_a_loss_of_parameters_alone_needs_no_data() -> None:
    tape = Tape()
    w = tape.parameter("w", 1, 1, start=4.0)
    losses = tape.compile(((w - 1.0) ** 2).sum(), SGD(learning_rate=0.25))(steps=30)
    assert losses[0] == 9.0
    assert tape.read(w)[0][0] == pytest.approx(1.0)


# --- in f32 -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_fast_steps_are_near_the_exact_ones(optimizer: Optimizer) -> None:
    found = []
    for fast in (False, True):
        tape, loss = network(16)
        step = tape.compile(loss, optimizer, batches=2, fast=fast, seed=3)
        found.append((step(**examples(40), steps=8, seed=1), numbers_of(tape)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    for name, numbers in found[0][1].items():
        assert found[1][1][name] == pytest.approx(numbers, rel=1e-3, abs=1e-4)
        assert name == "idle" or list(array("f", found[1][1][name])) == found[1][1][name]
    assert found[0][1]["idle"] == found[1][1]["idle"]


def language_model(positions: int) -> tuple[Tape, Node]:
    """A small GPT of its own kind, with dropout and inputs that are called as the engine calls what it fills."""
    tape = Tape(positions)
    tokens, targets, places = tape.indices("tokens"), tape.indices("ends"), tape.indices("positions")
    x = tape.embedding(tape.parameter("wte", 7, 8), tokens) + tape.embedding(tape.parameter("wpe", 9, 8), places)
    q, k, v = (x.rmsnorm().linear(f"w{name}", 8) for name in "qkv")
    x = x + tape.attention(q, k, v, 2).linear("wo", 8).dropout(0.25, seed=1)
    return tape, tape.cross_entropy((x + x.shift(1).linear("before", 8).gelu()).linear("head", 7), targets)


def documents(lengths: Sequence[int]) -> dict[str, Any]:
    rng = random.Random(2)
    ids = [rng.randrange(7) for _ in range(sum(lengths))]
    places = [place for length in lengths for place in range(length)]
    return {"tokens": ids, "ends": ids[1:] + ids[:1], "positions": places}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [OPTIMIZERS[1], OPTIMIZERS[3]], ids=str)
def test_sequences_are_packed_and_give_what_one_at_a_time_gives(optimizer: Optimizer) -> None:
    lengths, found = [5, 1, 8, 3, 9, 2, 7, 7, 1, 4, 6], []
    for fast in (False, True):
        tape, loss = language_model(9)
        step = tape.compile(loss, optimizer, batches=4, fast=fast)
        found.append((step(**documents(lengths), lengths=lengths, seed=4, steps=9), numbers_of(tape)))
        assert step.steps_taken == 9
        assert step._split(lengths, sum(lengths))[1:] == (4 if fast else 1, 4)  # at once, of each step
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    for name, numbers in found[0][1].items():
        assert found[1][1][name] == pytest.approx(numbers, rel=1e-2, abs=1e-3)


def test_rows_without_lengths_are_one_sequence_a_batch() -> None:
    found = []
    for fast in (False, True):
        tape, loss = language_model(9)
        step = tape.compile(loss, OPTIMIZERS[0], fast=fast)
        found.append(step(**documents([9, 9, 9]), steps=6))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_dropout_is_that_of_the_example() -> None:
    """The masks of a step are those of the tape with the number of the example as noise."""
    tape, loss = language_model(9)
    step, data = tape.compile(loss, OPTIMIZERS[0]), documents([9])
    other, other_loss = language_model(9)
    reference = Reference(lambda: (other, other_loss), tape, OPTIMIZERS[0])
    losses = step(**data, steps=3)
    assert losses == [reference.step({**data, "noise": range(9 * i + 1, 9 * i + 10)}) for i in range(3)]
    assert numbers_of(tape) == numbers_of(other)


@pytest.mark.slow
@pytest.mark.parametrize("positions", [5, 40])  # attention by pairs and in tiles
def test_attention_may_ask_with_an_input(positions: int) -> None:
    rows, found = [row[:2] for row in examples(positions)["x"]], []
    for fast in (False, True):
        tape = Tape(positions)
        x = tape.input("x", 2)
        keys, values = x.linear("keys", 2), x.linear("values", 2)
        last = tape.indices("last")
        mixed = tape.attention(x, keys, values, 1) + tape.attention(x, x, values, 1)
        loss = tape.linear(mixed, tape.parameter("out", 3, 2), last).exp().mean()
        step = tape.compile(loss, OPTIMIZERS[0], fast=fast)
        found.append((step(x=rows, last=[0] * positions, steps=4), numbers_of(tape)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    for name, numbers in found[0][1].items():
        assert found[1][1][name] == pytest.approx(numbers, rel=1e-3, abs=1e-4)


def shared_parts(tape: Tape) -> Node:
    """What the fast engine's rules would make one operation, but for a part that has another use."""
    x, label, ids = tape.input("x", 6), tape.indices("label"), tape.indices("ids")
    numbers = iter(range(99))

    def matrix(rows: int = 6, columns: int = 6) -> Node:
        return tape.parameter(f"p{next(numbers)}", rows, columns)

    def product(x: Node) -> Node:
        return tape.linear(x, matrix())

    wo = matrix()  # of both attentions, whose columns are spread
    results = [tape.linear(tape.attention(product(x), product(x), product(x), 2), wo) for _ in range(2)]
    queries, keys, values, w = product(x), product(x), product(x), matrix()
    results += [tape.attention(queries, keys, values, 2), keys]
    results.append(tape.attention(tape.linear(x, w), tape.linear(x, w), product(x), 2))
    results.append(tape.attention(product(x), product(x), product(results[0]), 3))
    active = product(x).tanh()
    results += [product(active), active, product(product(x).relu() + x)]
    inner = product(x)
    results += [product(inner.silu()), inner]
    normed, lone = product(x).rmsnorm(), product(x)
    results += [normed * matrix(1) + normed, lone + matrix(1) + lone, product(x).layer_norm() + matrix(1)]
    before, after = product(x), product(x)
    results += [product(before) + before, product(after) + after, after * before, product(x) + product(x)]
    table, looked_up = matrix(), tape.embedding(matrix(), ids)
    results += [tape.embedding(table, ids) + tape.embedding(table, ids), looked_up + tape.embedding(matrix(), ids)]
    logits = product(looked_up)
    fixed = tape.input("fixed", 6, rows=3)
    given = tape.input("w", 6, rows=6)
    results += [logits.exp(), tape.attention(tape.linear(x, given), product(x), product(x), 2)]
    results += [product(x) + matrix(1) * 2.0, product(x) + product(x).mean(1)]
    losses = [(each * each).mean() for each in (*results, tape.linear(fixed, matrix()) + matrix(3))]
    return sum(losses[1:], tape.cross_entropy(logits, label) + losses[0])


@pytest.mark.slow
def test_rules_leave_what_has_another_use() -> None:
    rng, found = random.Random(1), []
    data: dict[str, Any] = {
        name: [rng.gauss(0, 0.5) for _ in range(6 * n)] for name, n in (("x", 5), ("fixed", 3), ("w", 6))
    }
    for fast in (False, True):
        tape = Tape(5)
        loss = shared_parts(tape)
        step = tape.compile(loss, SGD(), fast=fast, seed=1)
        losses = step(**data, label=[5, 0, 2, 1, 4], ids=[0, 3, 3, 5, 1], steps=1)
        kept = {name: [step.numbers[place] for place in places] for name, (_, places) in step.kept().items()}
        found.append({"loss": losses, **kept})  # the first velocity is the gradient
    for name, wanted in found[0].items():
        assert found[1][name] == pytest.approx(wanted, abs=1e-4 * max(1.0, *map(abs, wanted))), name


def agree_in_f32(seed: int) -> bool:
    """Hold the loss and gradients of a random graph's fast step to those of the exact one; whether there was a step."""
    kinds, found = [kind for kind in (*graphs.KINDS, *graphs.MATRIX) if kind not in graphs.UNEVEN], []
    for fast in (False, True):
        graph = graphs.Graph(random.Random(seed), TARGETS[0], smooth=True).grow(kinds)
        tape, loss, rng, data = graph.tape, graph.output, random.Random(seed), dict[str, Any]()
        tape.plan()
        if loss.gradient < 0:
            return False
        for node in tape.order(loss):
            if not node.operation and not node.is_parameter:
                count, node.name = node.shape.rows or 7, f"input {node.index}"
                ids = [rng.randrange(min(node.bound, 9)) for _ in range(count)]
                numbers = [[rng.gauss(0, 0.5) for _ in range(node.shape.columns)] for _ in range(count)]
                data[node.name] = ids if node.shape.index else numbers
        step = tape.compile(loss, SGD(), fast=fast, seed=3, deviation=0.5)
        losses = step(**data, steps=1)
        kept = {name: [step.numbers[place] for place in places] for name, (_, places) in step.kept().items()}
        found.append({"loss": losses, **kept})  # the first velocity is the gradient
    for name, wanted in found[0].items():
        assert found[1][name] == pytest.approx(wanted, abs=5e-3 * max(1e-2, *map(abs, wanted))), (seed, name)
    return True


@pytest.mark.slow
def test_random_graphs_have_their_gradients_in_f32() -> None:
    assert sum(map(agree_in_f32, range(20))) > 8


@pytest.mark.parametrize(
    ("pool", "is_sum"),
    [
        (lambda x: (x.max(0).tanh() + x.mean(0)).mean(), False),
        (lambda x: (x * x).mean().sqrt(), False),
        (lambda x: (x - x.mean()).tanh().mean(), False),
        (lambda x: x.mean() * x.tanh().mean(), False),
        (lambda x: x.mean() ** 2, False),
        (lambda x: (x * x).mean() * 3.0 - x.mean() * x.tape.parameter("g", 1, 1, start=2.0), True),
    ],
)
def test_pooled_rows_of_sequences_are_not_mixed(pool: Callable[[Node], Node], is_sum: bool) -> None:
    lengths, found = [2, 3, 1], []
    for fast in (False, True):
        tape = Tape(6)
        step = tape.compile(pool(tape.input("x", 2).linear("w", 3)), OPTIMIZERS[0], batches=3, fast=fast)
        assert step._split(lengths, 6)[1] == (3 if fast and is_sum else 1)  # at once
        rows = examples(6)["x"]
        found.append(step(x=[row[:2] for row in rows], lengths=lengths, steps=4))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


# --- what can go wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
def test_a_step_that_diverges_changes_nothing(fast: bool) -> None:
    tape, loss = network(4)
    step, data = tape.compile(loss, SGD(learning_rate=1e30 if fast else 1e200), fast=fast), examples(8)
    tape.write(tape.parameters()[1], [1 / 3] * 15)
    before = numbers_of(tape)
    wide = {**data, "x": [[1e30 if fast else 1e300] * 3] * 8, "y": [1e30 if fast else 1e300] * 8}
    with pytest.raises(DivergedError, match=r"not finite at step 1, .*: choose a smaller learning_rate$") as caught:
        step(**wide, steps=3)
    assert (caught.value.losses, step.steps_taken, numbers_of(tape)) == ([], 0, before)
    with pytest.raises(DivergedError, match="at step 2") as caught:
        step(**data, steps=3)
    assert (len(caught.value.losses), step.steps_taken) == (1, 1)
    assert all(math.isfinite(number) for numbers in numbers_of(tape).values() for number in numbers)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.losses) == (str(caught.value), caught.value.losses)


@pytest.mark.parametrize("fast", [False, True])
def test_a_gradient_that_is_not_finite_is_not_followed(fast: bool) -> None:
    tape = Tape()
    w = tape.parameter("w", 1, 1, start=0.0)
    step = tape.compile((w**2.0).sqrt().sum(), OPTIMIZERS[0], fast=fast)
    assert tape.forward(step.loss) == [[0.0]]
    with pytest.raises(DivergedError, match="a gradient is not finite at step 1"):
        step(steps=2)
    assert tape.read(w) == [[0.0]]


def test_a_call_that_ctrl_c_ends_has_taken_whole_steps() -> None:
    tape, loss = network(4)
    step, data = tape.compile(loss, OPTIMIZERS[2]), examples(8)

    def interrupt() -> None:
        while not step.steps_taken:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        step(**data, steps=1 << 22)
    assert 0 < step.steps_taken < 1 << 22
    reached = numbers_of(tape)
    other, other_loss = network(4)
    other.compile(other_loss, OPTIMIZERS[2])(**data, steps=step.steps_taken)
    assert numbers_of(other) == reached


def test_a_step_stays_in_its_process() -> None:
    tape, loss = network(4)
    step = tape.compile(loss, OPTIMIZERS[2])
    with pytest.raises(TapeGPTError, match="Step stays in its process"):
        pickle.dumps(step)


@FORKS
def test_a_forked_child_trains_numbers_of_its_own() -> None:
    tape, loss = network(4)
    step, data = tape.compile(loss, OPTIMIZERS[2]), examples(8)
    step(**data)
    before = numbers_of(tape)

    def train() -> tuple[list[float], dict[str, list[float]], int]:
        return step(**data), numbers_of(tape), step.steps_taken

    there = child("fork", train)
    assert (numbers_of(tape), step.steps_taken) == (before, 2)
    assert train() == there


BAD_DATA = [
    ({"x": []}, "x: 0 numbers do not fill rows of 3"),
    ({"x": [1.0, 2.0]}, "x: 2 numbers do not fill rows of 3"),
    ({"x": [[1, 2, 3], [1, 2]]}, "x: row 1 has 2 numbers, not 3"),
    ({"x": [[1, 2], [1, 2, 3, 4]]}, "x: row 0 has 2 numbers, not 3"),
    ({"x": [[], []]}, "x: row 0 has 0 numbers, not 3"),
    ({"x": [[1, 2, 3], 4]}, "all of one depth"),
    ({"x": [[1, 2, 3], [4, 5, math.nan]]}, "row 1 has nan: needs finite numbers of f64"),
    ({"x": [[1, 2, 3], [4, -math.inf, 6]]}, "row 1 has -inf"),
    ({"x": [[1, 2, 3], [4, 10**400, 6]]}, r"row 1 has 1000+\.\.\.: needs finite"),
    ({"x": [["1", "2", "3"]] * 2}, "row 0 has '1'"),
    ({"x": [[1, 2, 3j]] * 2}, "row 0 has 3j"),
    ({"x": "abc"}, "needs a sequence of numbers, not 'abc'"),
    ({"x": 1.0}, r"needs a sequence of numbers, not 1\.0"),
    ({"x": None}, "needs a sequence of numbers, not None"),
    ({"x": {1: 2}}, "needs a sequence of numbers"),
    ({"x": [[1, 2, 3]]}, "as many rows: x has 1, y has 2, label has 2"),
    ({"label": [0, 4]}, "row 1 is 4: token ids must be from 0 to 3"),
    ({"label": [-1, 0]}, "row 0 is -1"),
    ({"label": [0, 1.0]}, r"row 1 is 1\.0"),
    ({"label": [0, 1 << 40]}, "row 1 is 1099511627776"),
    ({"z": [1]}, "step: 'z' is no input of the loss: give x, y, label"),
    ({"steps": 0}, "steps must be a whole number from 1"),
    ({"steps": 2.0}, "steps must be a whole number"),
    ({"seed": "one"}, "seed must be a whole number, not 'one'"),
    ({"lengths": [1]}, "the lengths add up to 1 rows, the data have 2"),
    ({"lengths": [2, 0]}, "length 1 must be a whole number from 1 to the tape's 4 positions, not 0"),
    ({"lengths": [5]}, "length 0 must .*, not 5"),
    ({"lengths": 2}, "lengths: needs a sequence"),
]


@pytest.fixture(scope="module")
def compiled() -> tuple[Tape, Step]:
    tape, loss = network(4)
    return tape, tape.compile(loss, OPTIMIZERS[0])


@pytest.mark.parametrize(("change", "message"), BAD_DATA, ids=str)
def test_data_that_do_not_fit_get_one_line(compiled: tuple[Tape, Step], change: dict[str, Any], message: str) -> None:
    tape, step = compiled
    before, taken = numbers_of(tape), step.steps_taken
    with pytest.raises(TapeGPTError, match=message) as caught:
        step(**{**examples(2), **change})
    assert "\n" not in str(caught.value)
    assert (numbers_of(tape), step.steps_taken) == (before, taken)


def test_an_input_that_is_not_given(compiled: tuple[Tape, Step]) -> None:
    with pytest.raises(TapeGPTError, match="step: 'label' is not given: give x, y, label"):
        compiled[1](x=[1, 2, 3], y=[1])


def test_numbers_whose_sum_is_too_large_are_finite() -> None:
    tape = Tape(2)
    step = tape.compile((tape.input("x", 1) * tape.parameter("w", 1, 1, start=0.0)).sum(), OPTIMIZERS[0])
    with pytest.raises(DivergedError):
        step(x=[1.7e308, 1.7e308])


def test_numbers_too_large_for_f32() -> None:
    tape, loss = network(4)
    step = tape.compile(loss, OPTIMIZERS[0], fast=True)
    with pytest.raises(TapeGPTError, match=r"row 0 has 1e\+39: needs finite numbers of f32"):
        step(**{**examples(1), "y": [1e39]})


def test_what_does_not_compile_gets_one_line() -> None:
    def refused(message: str, build: Callable[[Tape], Any], optimizer: Any = OPTIMIZERS[0], **options: Any) -> None:
        tape = Tape(2)
        with pytest.raises(TapeGPTError, match=message):
            tape.compile(build(tape), optimizer, **options)

    def usual(tape: Tape) -> Node:
        return tape.input("x", 2).linear("w", 1).mean()

    refused(r"must be one number, \(1, 1\)", lambda tape: tape.input("x", 2).linear("w", 1))
    refused("is not computed from a parameter", lambda tape: tape.input("x", 2).mean())
    refused("is not computed from a parameter", lambda tape: tape.parameter("w", 1, 1))
    refused("nodes recorded on this tape", lambda _: usual(Tape(2)))
    refused("two inputs have this name", lambda tape: tape.mse(usual(tape), tape.input("x", 1, rows=1)))
    refused("a step takes this name itself", lambda tape: tape.input("steps", 2).linear("w", 1).mean())
    refused("batches must be a whole number from 1", usual, batches=0)
    refused("deviation must be a number from 0 on", usual, deviation=-1.0)
    refused("seed must be a whole number, not None", usual, seed=None)
    refused("the optimizer must be SGD", usual, "adam")
    refused("the optimizer must be SGD", usual, Adam)
    for wrong in ({"learning_rate": -1}, {"momentum": 1.0}, {"weight_decay": math.nan}, {"decay_steps": 0}):
        with pytest.raises(TapeGPTError, match=f"{next(iter(wrong))} must be"):
            SGD(**wrong)


def test_numbers_are_taken_up_to_both_ends_of_their_range(compiled: tuple[Tape, Step]) -> None:
    tape, step = Tape(2), compiled[1]
    ids, x = tape.indices("ids"), tape.input("x", 4)
    takes: dict[Callable[[Any], object], tuple[list[float], list[float]]] = {
        lambda n: tape.ngrams(ids, n, 9, 0): ([1, 16], [0, 17]),
        lambda rows: tape.ngrams(ids, 2, rows, 0): ([1, 2**24], [0, 2**24 + 1]),
        lambda bos: tape.ngrams(ids, 2, 9, bos): ([0, 2**32 - 1], [-1, 2**32]),
        x.dropout: ([0, 1 - 2**-53], [-5e-324, 1]),
        x.shift: ([1, 2**70], [0]),
        lambda n_head: tape.rotary(x, ids, n_head): ([1, 2], [0, 4]),
        lambda deviation: tape.initialise(deviation=deviation): ([0, 1e308], [-5e-324, math.inf]),
        lambda rate: SGD(learning_rate=rate): ([0, 1e308], [-5e-324, math.inf]),
        lambda decay: SGD(weight_decay=decay): ([0, 1e308], [-5e-324, math.inf]),
        lambda steps: SGD(decay_steps=steps): ([1, 2**45], [0, 2**45 + 1]),
        lambda share: SGD(momentum=share): ([0, 1 - 2**-53], [-5e-324, 1]),
        lambda beta: Adam(beta1=beta): ([0, 1 - 2**-53], [-5e-324, 1]),
        lambda beta: Adam(beta2=beta): ([0, 1 - 2**-53], [-5e-324, 1]),
        lambda epsilon: Adam(epsilon=epsilon): ([5e-324, 1e308], [0, math.inf]),
        lambda taken: setattr(step, "steps_taken", taken): ([2**45, 0], [-1, 2**45 + 1]),
        lambda steps: step(**examples(2), steps=steps): ([1, 2], [0, 2**24 + 1]),
        lambda batches: step.tape.compile(step.loss, OPTIMIZERS[0], batches=batches): ([1, 2**16], [0, 2**16 + 1]),
    }
    for take, (inside, outside) in takes.items():
        for number in inside:
            take(number)
        for number in outside:
            with pytest.raises(TapeGPTError):
                take(number)


def test_arrays_of_all_kinds_are_read(compiled: tuple[Tape, Step]) -> None:
    tape, step = compiled
    data: dict[str, Any] = {"x": [[1, 0, 1], [0, 1, 1]], "y": [1, 0], "label": [1, 0]}
    start = numbers_of(tape)

    def after(**given: Any) -> list[float]:
        for node in tape.parameters():
            tape.write(node, start[node.name])
        return step(**given)

    wanted = after(**data)
    flat = [1, 0, 1, 0, 1, 1]
    for code in "bBhHiIqQfd":
        ids = array("I" if code in "fd" else code, data["label"])
        assert after(x=array(code, flat), y=array(code, data["y"]), label=ids) == wanted
    assert after(x=tuple(map(tuple, data["x"])), y=iter(data["y"]), label=range(1, -1, -1)) == wanted
    assert after(x=[[[1], [0], [1]], [[0], [1], [1]]], y=[[[1]], [[0]]], label=[True, False]) == wanted
    numpy: Any = pytest.importorskip("numpy")
    for kind in ("bool", "int8", "uint16", "int64", "float16", "float32", "float64"):
        ids = numpy.array(data["label"], "uint8")
        assert after(x=numpy.array(data["x"], kind), y=numpy.array(data["y"], kind)[:, None], label=ids) == wanted
    assert after(x=numpy.array(data["x"]).reshape(2, 3, 1, 1), y=data["y"], label=numpy.array([1, 0])) == wanted
    with pytest.raises(TapeGPTError, match="x: row 0 has 2 numbers, not 3"):
        after(x=numpy.ones((3, 2)), y=[1, 1], label=[1, 1])


@pytest.mark.slow
@given(st.data())
@settings(max_examples=properties.many(25))
def test_any_shape_of_data_takes_the_steps_of_plain_python(data: st.DataObject) -> None:
    rows, steps = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    tape, loss = network(5, TARGETS[0])
    step, rng = tape.compile(loss, OPTIMIZERS[0]), random.Random(rows)
    given = examples(rows, data.draw(st.integers(0, 99)))
    lengths: list[int] | None = [] if data.draw(st.booleans()) else None
    if lengths is not None:
        while sum(lengths) < rows:
            lengths.append(min(rng.randint(1, 5), rows - sum(lengths)))
    reference = Reference(lambda: network(5, TARGETS[0]), tape, OPTIMIZERS[0])
    batch = min(5, rows)
    starts = [sum(lengths[:i]) for i in range(len(lengths))] if lengths else []
    for i, loss_found in enumerate(step(**given, steps=steps, lengths=lengths)):
        if lengths:
            place = i % len(lengths)
            taken = list(range(starts[place], starts[place] + lengths[place]))
        else:
            taken = [(i * batch + t) % rows for t in range(batch)]
        assert loss_found == reference.step(part(given, taken))


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("optimizer", [OPTIMIZERS[1], OPTIMIZERS[3]], ids=str)
def test_a_step_goes_on_from_its_file_to_the_same_bits(
    tmp_path: Path, optimizer: Optimizer, fast: bool, suffix: str
) -> None:
    path, lengths = tmp_path / f"step.{suffix}", [5, 3, 9, 1]
    data: dict[str, Any] = {**documents(lengths), "lengths": lengths, "seed": 1}
    tape, loss = language_model(9)
    step = tape.compile(loss, optimizer, fast=fast)
    step(**data, steps=3)
    step.save(path)
    wanted = step(**data, steps=3), numbers_of(tape)
    other, other_loss = language_model(9)
    again = other.compile(other_loss, optimizer, fast=fast, seed=9)
    again.load(path)
    assert (again.steps_taken, again(**data, steps=3), numbers_of(other)) == (3, *wanted)
    step.load(path)
    assert (step(**data, steps=3), numbers_of(tape)) == wanted


@pytest.mark.parametrize("fast", [False, True])
def test_of_a_fixed_parameter_nothing_is_kept(tmp_path: Path, fast: bool) -> None:
    tape = Tape(4)
    x = tape.input("x", 3)
    fixed = tape.linear(x, tape.parameter("fixed", 2, 3, fixed=True, start=0.5))
    step = tape.compile((fixed + x.linear("w", 2)).tanh().mean(), OPTIMIZERS[3], fast=fast)
    assert all(node.name == "w" for node, _ in step.kept().values())
    step(x=examples(4)["x"], steps=3)
    step.save(tmp_path / "step.json")
    wanted = step(x=examples(4)["x"], steps=3), numbers_of(tape)
    step.load(tmp_path / "step.json")
    assert (step(x=examples(4)["x"], steps=3), numbers_of(tape)) == wanted
    assert wanted[1]["fixed"] == [0.5] * 6


def test_a_tape_has_the_numbers_of_its_file(tmp_path: Path, compiled: tuple[Tape, Step]) -> None:
    tape, step = compiled
    tape.save(tmp_path / "tape.safetensors")
    step.save(tmp_path / "step.json")
    for name in ("tape.safetensors", "step.json"):
        other, _ = network(4)
        other.load(tmp_path / name)
        assert numbers_of(other) == numbers_of(tape)


def test_files_that_do_not_fit_get_one_line_and_change_nothing(tmp_path: Path, compiled: tuple[Tape, Step]) -> None:
    tape, step = compiled
    before, taken = numbers_of(tape), step.steps_taken
    other = Tape()
    other.parameter("hidden", 5, 4)
    other.save(tmp_path / "other")
    small, loss = network(1)
    small.compile(loss, OPTIMIZERS[2]).save(tmp_path / "adam")
    small.save(tmp_path / "tape")
    with pytest.raises(TapeGPTError, match="steps_taken must be a whole number from 0"):
        step.steps_taken = -1
    (tmp_path / "damaged").write_bytes((tmp_path / "tape").read_bytes()[:-1] + b"!")
    (tmp_path / "text").write_text("hidden = 1")
    alike, loss = network(4)
    alike.compile(loss, OPTIMIZERS[0], seed=9).save(tmp_path / "sgd")
    kept, wrong = read_contents(tmp_path / "sgd"), ("", "-1", "1.5", str(2**45 + 1), "9" * 30)
    for place, steps in enumerate(wrong):
        write_contents(kept.replace(metadata={**kept.metadata, "steps": steps}), tmp_path / f"steps {place}")
    for load, name, message in (
        *[(step.load, f"steps {place}", "its steps are no number of steps") for place in range(len(wrong))],
        (tape.load, "other", r"other: not of this tape: idle is not there in the file, \(2, 2\) here$"),
        (other.load, "tape", r"hidden is \(5, 3\) in the file, \(5, 4\) here$"),
        (step.load, "adam", 'not of this step: its optimizer is "Adam", not "SGD"'),
        (step.load, "tape", 'its optimizer is none, not "SGD"'),
        (tape.load, "damaged", "its checksum does not hold, it is damaged"),
        (tape.load, "text", "not of this tape: it is damaged or no safetensors file"),
        (tape.load, "missing", "missing: no such file: give one that a tape or step saved"),
        (tape.load, "", "is not a regular file|No such file|no such file|directory"),
    ):
        with pytest.raises(TapeGPTError, match=message) as caught:
            load(tmp_path / name if name else tmp_path)
        assert "\n" not in str(caught.value)
    assert (numbers_of(tape), step.steps_taken) == (before, taken)
    with pytest.raises(TapeGPTError, match="there is no directory"):
        tape.save(tmp_path / "no" / "where")
    with pytest.raises(TapeGPTError, match="has no parameters to save"):
        Tape().save(tmp_path / "none")
    with pytest.raises(TapeGPTError, match="not a model of tapegpt"):
        tapegpt.load(tmp_path / "tape")
    named = Tape()
    named.parameter("__metadata__", 1, 1)
    with pytest.raises(TapeGPTError, match="cannot be saved as '__metadata__'"):
        named.save(tmp_path / "named")


def test_a_call_goes_through_all_data_once() -> None:
    tape = Tape(2)
    step = tape.compile((tape.input("x", 1) * tape.parameter("w", 1, 1)).mean(), SGD())
    assert [len(step(x=[1.0] * rows)) for rows in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]


def test_a_file_with_more_parameters_is_another_tape_s(tmp_path: Path) -> None:
    tape, _ = network(1)
    tape.save(tmp_path / "more")
    less = Tape()
    hidden = less.parameter("hidden", 5, 3, start=1.0)
    less.initialise()
    with pytest.raises(TapeGPTError, match=r"more: not of this tape: .* in the file, not there here$"):
        less.load(tmp_path / "more")
    assert less.read(hidden) == [[1.0] * 3] * 5


# --- another house ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [OPTIMIZERS[0], SGD(learning_rate=0.1, momentum=0.9), *OPTIMIZERS[2:]], ids=str)
def test_steps_are_pytorch_s(optimizer: Optimizer) -> None:
    torch: Any = pytest.importorskip("torch")
    tape, loss = network(8)
    step, data = tape.compile(loss, optimizer), examples(8)
    weights = {
        node.name: torch.tensor(tape.read(node), dtype=torch.float64, requires_grad=True) for node in tape.parameters()
    }
    del weights["idle"]
    shared: dict[str, Any] = {"lr": optimizer.learning_rate}
    peer: Any
    if isinstance(optimizer, Adam):
        betas = (optimizer.beta1, optimizer.beta2)
        decay = optimizer.weight_decay
        peer = torch.optim.AdamW(weights.values(), **shared, betas=betas, eps=optimizer.epsilon, weight_decay=decay)
    else:
        assert isinstance(optimizer, SGD)
        peer = torch.optim.SGD(weights.values(), **shared, momentum=optimizer.momentum)
    x, y = (torch.tensor(data[name], dtype=torch.float64) for name in ("x", "y"))
    label, wanted = torch.tensor(data["label"]), []
    for i in range(10):
        for group in peer.param_groups:
            group["lr"] = optimizer.learning_rate * (1 - i / (optimizer.decay_steps or math.inf))
        hidden = torch.tanh(x @ weights["hidden"].T + weights["hidden.bias"])
        error = torch.nn.functional.mse_loss((hidden @ weights["y out"].T)[:, 0], y)
        total = error + torch.nn.functional.cross_entropy(hidden @ weights["label out"].T, label)
        peer.zero_grad()
        total.backward()
        peer.step()
        wanted.append(total.item())
    assert step(**data, steps=10) == pytest.approx(wanted, rel=1e-9)
    for name, numbers in numbers_of(tape).items():
        if name != "idle":
            assert numbers == pytest.approx(weights[name].flatten().tolist(), rel=1e-7)


if __name__ == "__main__":
    print(f"{sum(map(agree_in_f32, range(int(sys.argv[1]))))} steps agree")
