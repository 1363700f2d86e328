"""Dropout in the engines: the same masks in all of them, while they train and never else."""

from __future__ import annotations

from array import array
from itertools import pairwise
from operator import mul

import pytest

from tapegpt import Random
from tapegpt.autograd import SGD
from tapegpt.autograd.model import Model
from tapegpt.autograd.node import Node
from tapegpt.autograd.operations.dropout import Dropout
from tapegpt.autograd.tape import Tape
from tapegpt.engines.base import Adam
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference.forward import Inference
from tests.models.test_models import VOCAB, documents, parameters, started


class Noisy(Model):
    """Dropout of what is looked up and of a hidden layer."""

    block_size: int = 5
    p: float = 0.3

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("table", vocab_size, 6), tokens).dropout(self.p)
        hidden = x.linear("w", 20, bias=True).relu().dropout(self.p, seed=7)
        return (hidden.linear("v", 6) + x).layer_norm().linear("lm_head", vocab_size)


MODEL = Noisy()
TOKENS = documents(MODEL, 8)


@pytest.mark.slow
def test_exact_equals_the_reference() -> None:
    exact, reference = started(ExactEngine(MODEL, VOCAB), MODEL), started(ReferenceEngine(MODEL, VOCAB), MODEL)
    adam = Adam(steps=9)
    assert exact.train(TOKENS, adam, 0, 9) == reference.train(TOKENS, adam, 0, 9)
    assert exact.parameters() == reference.parameters()
    assert exact.evaluate(TOKENS) == reference.evaluate(TOKENS)
    assert list(exact.generate(Random(3), 3, 1.0)) == list(reference.generate(Random(3), 3, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_has_the_masks_of_its_examples_one_by_one(threads: int) -> None:
    still = Adam(steps=8, learning_rate=0.0)
    losses = started(ExactEngine(MODEL, VOCAB), MODEL).train(TOKENS, still, 0, 8)
    lengths = [min(MODEL.block_size, end - start) for start, end in pairwise(TOKENS.starts)]
    fast = started(FastEngine(MODEL, VOCAB, 4, threads), MODEL)
    expected = [sum(map(mul, losses[at : at + 4], lengths[at : at + 4])) / sum(lengths[at : at + 4]) for at in (0, 4)]
    assert fast.train(TOKENS, still, 0, 2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_there_is_none_but_while_training() -> None:
    plain = Noisy(p=0.0)
    wanted = started(ExactEngine(plain, VOCAB), plain).evaluate(TOKENS)
    for engine in (started(ExactEngine(MODEL, VOCAB), MODEL), started(FastEngine(MODEL, VOCAB, 4), MODEL)):
        strings = list(engine.generate(Random(3), 30, 1.0))
        engine.train(TOKENS, Adam(steps=8, learning_rate=0.0), 0, 2)  # leaves noise in its memory
        assert list(engine.generate(Random(3), 30, 1.0)) == strings
        assert engine.evaluate(TOKENS) == pytest.approx(wanted, rel=1e-5)
    whole = documents(MODEL, 8, longest=0)
    total, _ = started(ExactEngine(plain, VOCAB), plain).evaluate(whole)
    assert sum(Inference(MODEL, VOCAB, parameters(MODEL)).totals(whole)) == pytest.approx(total, rel=1e-5)


def test_a_step_has_masks_of_its_own_and_leaves_none() -> None:
    tape = Tape(4)
    x = tape.input("x", 8)
    loss = tape.mse(x.dropout(0.5).linear("w", 3), tape.input("y", 3))
    step = tape.compile(loss, SGD(learning_rate=0.0))
    tape.write(tape.parameters()[0], [1.0] * 24)
    losses = step(steps=5, x=[[1.0] * 8] * 4, y=[[0.0] * 3] * 4)
    assert len(set(losses)) == 5
    tape.write(x, [1.0] * 32)
    assert tape.forward(loss) == [[64.0]]


def test_each_dropout_of_a_tape_has_masks_of_its_own() -> None:
    x = Tape(4).input("x", 64)
    operations = [x.dropout(0.5).operation for _ in range(3)]
    masks = [each.factors(1, 0, 64) for each in operations if isinstance(each, Dropout)]
    assert len({tuple(mask) for mask in masks}) == 3


def test_masks_are_those_of_chance() -> None:
    """Their share of zeros, and how often two masks agree that differ in one of what they depend on."""
    count = 1 << 14

    def mask(seed: int = 0, number: int = 0, example: int = 1, position: int = 0) -> array[int]:
        numbers = Dropout(0.3, seed, number).factors(example, position, count)
        assert set(numbers) == {0.0, 1 / 0.7}
        return array("b", [number == 0 for number in numbers])

    first = mask()
    for other in (mask(seed=1), mask(number=1), mask(example=2), mask(position=1)):
        assert sum(other) / count == pytest.approx(0.3, abs=0.02)
        assert sum(map(mul, first, other)) / count == pytest.approx(0.09, abs=0.02)
