"""Every model of the package, in every engine: the reference's numbers, its own strings, the logs of decoding."""

from __future__ import annotations

import random
import re
from array import array
from itertools import pairwise
from operator import mul
from typing import TYPE_CHECKING

import pytest

from tapegpt import Random, TapeGPTError
from tapegpt.autograd import Tape
from tapegpt.autograd.model import Model
from tapegpt.data.tokens import Tokens
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines.base import Adam, Engine, Parameters
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.graph import exact_graph, fast_graph
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference.constraints import Constraints, Drawing
from tapegpt.inference.forward import Inference
from tapegpt.inference.sampling import Sampler
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import INTERPRETED
from tapegpt.models import NAMES, named
from tapegpt.models.bigram import Bigram
from tapegpt.models.gpt import GPT
from tapegpt.models.gru import GRU
from tapegpt.models.mlp import MLP
from tapegpt.models.modern import ModernGPT
from tapegpt.models.wavenet import WaveNet
from tests.properties import many

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.autograd.node import Node

VOCAB, BOS = 6, 5
WIDEST, *OTHERS, _ = available(host_target())


class Everything(Model):
    """Operations over positions, on inputs that have other uses, in rows that are not whole vectors."""

    block_size = 5

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("table", vocab_size, 6), tokens)
        x = x.shift(1) + x * x.shift(2).linear("w", 6) + x.shift(9)
        x = tape.rotary(x, positions, 3) + tape.rotary(x.shift(1), positions, 1) * x
        u = tape.parameter("u", 9, 3)
        h = tape.gru(tape.concatenate([x, x[:, 1:4]]), u)
        gates = h.linear("v", 9)
        h = tape.gru(gates, u) * h + h.shift(1) + gates[:, 3:6]
        h = h @ tape.parameter("m", 3, 3) + h.softmax() * h.log_softmax()
        x = x.layer_norm(tape.parameter("gain", 1, 6), tape.parameter("bias", 1, 6)).linear("f", 4, bias=True).relu()
        return tape.concatenate([h, x.linear("g", 3, bias=True)]).linear("lm_head", vocab_size, bias=True)


class Activated(Model):
    """Every activation at the end of a product, and elsewhere; one row, column or number for all."""

    block_size = 5

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("table", vocab_size, 6), tokens)
        for name in ("relu", "gelu", "silu", "tanh", "sigmoid"):
            hidden = getattr(x.linear(f"{name}_up", 19), name)()
            x = x + hidden.linear(f"{name}_down", 6)
            x = getattr(x, name)() * tape.parameter(f"{name}_gain", 1, 6, start=1.0)
        x = x + x.linear("itself", 6)
        x = (x - x.mean(1)).maximum(-0.7) / (abs(x).max(1) + 1.0) + tape.parameter("bias", 1, 6, start=0.0)
        return x.linear("lm_head", vocab_size) * tape.parameter("inverse_temperature", 1, 1, start=1.0)


OPERATIONS: list[Model] = [Everything(), Activated()]
MODELS = [
    *OPERATIONS,
    Bigram(block_size=5),
    MLP(context=3, n_embd=3, n_hidden=9, block_size=5),
    WaveNet(n_layer=2, n_embd=5, block_size=5),
    GRU(n_embd=3, n_hidden=5, block_size=5),
    GPT(n_layer=1, n_embd=6, n_head=2, block_size=5),
    ModernGPT(n_layer=1, n_embd=8, n_head=2, block_size=5),
]
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)


def parameters(model: Model, seed: int = 0, deviation: float = 0.4) -> Parameters:
    rng = random.Random(seed)
    return {
        name: array("d", [rng.gauss(0, deviation) for _ in range(rows * columns)])
        for name, (rows, columns) in model.shapes(VOCAB).items()
    }


def documents(model: Model, count: int, seed: int = 1, longest: int = 1) -> Tokens:
    """Random strings of every length that a block holds with its end, and if `longest` is 1 of one that it does not."""
    rng = random.Random(seed)
    ids, starts = array("I", [BOS]), array("q", [0])
    for number in range(count):
        ids.extend([*(rng.randrange(BOS) for _ in range((number + 2) % (model.block_size + longest))), BOS])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)


def started(engine: Engine, model: Model) -> Engine:
    engine.load_parameters(parameters(model))
    return engine


@pytest.mark.slow
@each_model
def test_exact_equals_the_reference(model: Model) -> None:
    tokens, adam, steps = documents(model, 4), Adam(steps=4), many(4, few=2)
    reference = started(ReferenceEngine(model, VOCAB), model)
    losses, random_numbers = reference.train(tokens, adam, 0, steps), Random(3)
    longest = 3 * model.block_size
    strings = list(reference.generate(random_numbers, 3, 1.0, longest))
    found = reference.evaluate(tokens)
    for target in [WIDEST, *OTHERS, INTERPRETED] if model in OPERATIONS else [WIDEST]:
        exact = started(ExactEngine(model, VOCAB, target), model)
        assert exact.train(tokens, adam, 0, steps) == losses
        assert exact.parameters() == reference.parameters()
        assert exact.evaluate(tokens) == found
        assert list(exact.generate(Random(3), 3, 1.0, longest)) == strings


@pytest.mark.slow
@each_model
def test_fast_is_close_to_exact(model: Model) -> None:
    tokens, adam, steps = documents(model, 10), Adam(steps=10, epsilon=1e-4), 10  # so large that f32 decides no sign
    exact = started(ExactEngine(model, VOCAB), model)
    losses = exact.train(tokens, adam, 0, steps)
    for target in [WIDEST, *OTHERS[-1:]] if model in OPERATIONS else [WIDEST]:
        fast = started(FastEngine(model, VOCAB, 1, target=target), model)
        assert fast.train(tokens, adam, 0, steps) == pytest.approx(losses, rel=1e-4)


@pytest.mark.slow
@each_model
def test_a_batch_is_the_mean_of_its_documents(model: Model) -> None:
    """Loss and gradients of documents in one pack are those of each alone: none sees another's rows."""
    tokens, adam = documents(model, 9), Adam(steps=10)
    exact = started(ExactEngine(model, VOCAB), model)
    fast = started(FastEngine(model, VOCAB, 9), model)
    total, positions = exact.evaluate(tokens)
    assert fast.evaluate(tokens) == pytest.approx((total, positions), rel=1e-5)
    assert fast.train(tokens, adam, 0, 1) == [pytest.approx(total / positions, rel=1e-5)]
    means = {name: [0.0] * len(values) for name, values in exact.parameters().items()}
    for document, (start, end) in enumerate(pairwise(tokens.starts)):
        started(exact, model).train(tokens, adam, document, 1)
        share = min(end - start, model.block_size) / positions
        for name, values in exact.moments().mean.items():
            means[name] = [mean + share * value for mean, value in zip(means[name], values, strict=True)]
    for name, values in fast.moments().mean.items():
        assert values.tolist() == pytest.approx(means[name], rel=1e-4, abs=1e-6), name


@pytest.mark.slow
@each_model
def test_decoding_gives_the_logits_of_the_whole_string(model: Model) -> None:
    """Strings on lines of their own, that begin at different times, and on a line that another has left."""
    packed, decoding = fast_graph(model, VOCAB), fast_graph(model, VOCAB, 4, cached=True)
    rng, length = random.Random(4), model.block_size
    strings = [[BOS, *(rng.randrange(BOS) for _ in range(length - 1))] for _ in range(3)]
    expected = []
    for graph in (packed, decoding):
        graph.places.write(graph.tape.arena, parameters(model))
    for string in strings:
        for name, numbers in {"tokens": string, "positions": range(length), "ends": [length] * length}.items():
            packed.tape.write(packed.about(name), list(numbers))
        expected.append(packed.tape.forward(packed.logits, length))
    place = {number: -number for number in range(3)}  # each begins one step later
    for _ in range(length + 2):
        rows = [number for number in (2, 0, 1) if 0 <= place[number] < length]
        tokens = [strings[number][place[number]] for number in rows]
        for name, numbers in {"tokens": tokens, "positions": [place[n] for n in rows], "lines": rows}.items():
            decoding.tape.write(decoding.about(name), numbers)
        for number, logits in zip(rows, decoding.tape.forward(decoding.logits, len(rows)), strict=True):
            assert logits == pytest.approx(expected[number][place[number]], rel=1e-5, abs=1e-5)
        place = {number: at + 1 for number, at in place.items()}


@pytest.mark.slow
@each_model
def test_what_is_only_read_scores_and_keeps_to_constraints(model: Model) -> None:
    inference = Inference(model, VOCAB, parameters(model))
    tokens = documents(model, 6, longest=0)
    total, _ = started(ExactEngine(model, VOCAB), model).evaluate(tokens)
    constraints = Constraints(pattern="[ab]c?[de]*", min_length=2)
    for _ in range(2):  # generation leaves nothing to scores, nor they to it
        assert sum(inference.totals(tokens)) == pytest.approx(total, rel=1e-5)
        sampler = Sampler(inference, Vocabulary.of("abcde"), constraints, Drawing(temperature=1.0), None, Random(5))
        strings = list(sampler.strings(20))
        assert len(strings) == 20
        assert all(re.fullmatch(r"[ab]c?[de]*", string) and len(string) >= 2 for string in strings)


@pytest.mark.slow
@each_model
def test_gradients_are_those_of_finite_differences(model: Model) -> None:
    """Along a random direction through all parameters."""
    graph, numbers, rng = exact_graph(model, VOCAB), parameters(model), random.Random(6)
    memory, gradients = graph.tape.arena, graph.tape.plan().shared
    way = {name: [rng.gauss(0, 1) for _ in values] for name, values in numbers.items()}
    for name, ids in {"tokens": [5, 1, 2, 1], "positions": range(4), "targets": [1, 2, 1, 5]}.items():
        graph.tape.write(graph.about(name), list(ids))

    def loss(distance: float) -> float:
        moved = {
            name: array("d", [number + distance * step for number, step in zip(values, way[name], strict=True)])
            for name, values in numbers.items()
        }
        graph.places.write(memory, moved)
        return graph.tape.forward(graph.loss, 4)[0][0]

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    loss(0.0)
    graph.tape.backward(graph.loss)
    found = graph.places.read(memory, gradients)
    assert slope == pytest.approx(sum(sum(map(mul, found[name], way[name])) for name in way), rel=1e-6)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda tape, x, w, positions: x.shift(0), "shift: n must be a whole number from 1 on, not 0"),
        (lambda tape, x, w, positions: w.shift(1), "shift: needs a row for each position, not (2, 6): "),
        (lambda tape, x, w, positions: tape.rotary(x, positions, 2), "rotary: needs 2 heads of an even number of col"),
        (
            lambda tape, x, w, positions: tape.rotary(x, positions, 0),
            "rotary: n_head must be a whole number from 1 on",
        ),
        (lambda tape, x, w, positions: tape.rotary(x, x, 3), "rotary: takes token ids, not %2 (T, 6) embedding"),
        (lambda tape, x, w, positions: tape.gru(x, w), "gru: needs x (T, 3 D) and U (3 D, D), not (T, 6) and (2, 6): "),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(record: Callable[..., Node], message: str) -> None:
    tape = Tape(4)
    positions = tape.indices("positions")
    x = tape.embedding(tape.parameter("table", 4, 6), positions)
    with pytest.raises(TapeGPTError, match=f"^{re.escape(message)}[^\n]*$"):
        record(tape, x, tape.parameter("w", 2, 6), positions)


def test_heads_of_an_odd_number_of_columns_have_no_rotary_positions() -> None:
    with pytest.raises(TapeGPTError, match=r"n_embd 12 over n_head 4 must be an even number.*a multiple of 8"):
        ModernGPT(n_embd=12)


def test_every_model_has_a_name() -> None:
    assert [named(name) for name in NAMES] == [type(model) for model in MODELS[len(OPERATIONS) :]]


def test_a_name_that_is_none_says_which_there_are() -> None:
    with pytest.raises(
        TapeGPTError, match=f"model 'lstm': there is none of this name: choose one of {', '.join(NAMES)}"
    ):
        named("lstm")
