"""Every model of the package, in every engine: the reference's numbers, its own strings, the logs of decoding."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING

import pytest

from tapegpt import Random
from tapegpt.engine import Adam, Engine, Parameters, Tokens
from tapegpt.exact import ExactEngine
from tapegpt.fast.engine import FastEngine
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import INTERPRETED
from tapegpt.models import named
from tapegpt.models.base import Model
from tapegpt.reference import ReferenceEngine

if TYPE_CHECKING:
    from tapegpt.tape import Node, Tape

VOCAB, BOS = 6, 5
UNITS = [target for target in available(host_target()) if target.name != "interpreted"]


class Moved(Model):
    """Operations over positions, on inputs that have other uses."""

    block_size = 5

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("table", vocab_size, 6), tokens)
        y = x.shift(1) + x * x.shift(2).linear("w", 6) + x.shift(9)
        return (y.shift(1) + y).linear("lm_head", vocab_size)


SMALL: list[Model] = [Moved(), named("bigram")(block_size=5)]
OTHERS: list[Model] = []
MODELS = pytest.mark.parametrize("model", [*SMALL, *OTHERS], ids=repr)


def parameters(model: Model, seed: int = 0, deviation: float = 0.4) -> Parameters:
    rng = random.Random(seed)
    return {
        name: array("d", [rng.gauss(0, deviation) for _ in range(rows * columns)])
        for name, (rows, columns) in model.shapes(VOCAB).items()
    }


def documents(model: Model, count: int, seed: int = 1) -> Tokens:
    """Random strings of every length that a block holds, and of one that it does not."""
    rng = random.Random(seed)
    ids, starts = array("I", [BOS]), array("q", [0])
    for number in range(count):
        ids.extend([*(rng.randrange(BOS) for _ in range((number + 2) % (model.block_size + 1))), BOS])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)


def started(engine: Engine, model: Model) -> Engine:
    engine.load_parameters(parameters(model))
    return engine


@MODELS
def test_exact_equals_the_reference_at_every_vector_width(model: Model) -> None:
    tokens, adam, steps = documents(model, 4), Adam(steps=4), 4
    reference = started(ReferenceEngine(model, VOCAB), model)
    losses, random_numbers = reference.train(tokens, adam, 0, steps), Random(3)
    strings = list(reference.generate(random_numbers, 3, 1.0))
    for target in [*UNITS, *([INTERPRETED] if model in SMALL else [])]:
        exact = started(ExactEngine(model, VOCAB, target), model)
        assert exact.train(tokens, adam, 0, steps) == losses
        assert exact.parameters() == reference.parameters()
        assert exact.evaluate(tokens) == reference.evaluate(tokens)
        assert list(exact.generate(Random(3), 3, 1.0)) == strings


@MODELS
def test_fast_is_close_to_exact(model: Model) -> None:
    tokens, adam, steps = documents(model, 10), Adam(steps=10), 10
    exact = started(ExactEngine(model, VOCAB), model)
    losses = exact.train(tokens, adam, 0, steps)
    for target in UNITS:
        fast = started(FastEngine(model, VOCAB, 1, target=target), model)
        assert fast.train(tokens, adam, 0, steps) == pytest.approx(losses, rel=1e-4)


@MODELS
def test_a_batch_is_the_mean_of_its_documents(model: Model) -> None:
    """The loss of documents in one pack is that of each alone: none sees another's rows."""
    tokens = documents(model, 9)
    exact = started(ExactEngine(model, VOCAB), model)
    fast = started(FastEngine(model, VOCAB, 9), model)
    total, positions = exact.evaluate(tokens)
    assert fast.evaluate(tokens) == (pytest.approx(total, rel=1e-5), positions)
    assert fast.train(tokens, Adam(steps=1), 0, 1) == [pytest.approx(total / positions, rel=1e-5)]
