"""A model as an ONNX graph, run by onnxruntime: the reference's logits, for every operation and any length."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession  # type: ignore[import-untyped]  # it has no type hints

from tapegpt import Config, Model, Random, TapeGPTError
from tapegpt.autograd.operations.elementwise import RULES, Elementwise
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.export.onnx import _FUNCTIONS, export
from tapegpt.models.ensemble import Ensemble
from tapegpt.models.trained import GPT, make_engine
from tests.engines.random_models import MOVE, NEAR, Drawn, parameters
from tests.export.examples import HOSTILE, untrained
from tests.models.test_models import MODELS
from tests.properties import many

if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


def session(file: bytes) -> Any:
    onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
    return InferenceSession(file, providers=["CPUExecutionProvider"])


def logits(model: GPT, ids: list[int]) -> list[list[float]]:
    assert isinstance(model.engine, ReferenceEngine)
    return [[number.data for number in row] for row in model.engine.logits([*ids, 0])]


GRAMS = Config(n_embd=6, n_head=2, block_size=7, n_gram=3, gram_rows=50)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [*MODELS, GRAMS, *(Drawn(seed=seed, block_size=6) for seed in range(many(300, few=12)))],
    ids=lambda config: f"{type(config).__name__} {getattr(config, 'seed', '')}",
)
def test_logits_are_those_of_the_reference(config: Model) -> None:
    """As near as f32 gets: as the engine fast, see `random_models.py`."""
    model, moved = (untrained(list("abcde"), config, parameters(config, 6, 0, move)) for move in (0.0, MOVE))
    runs = session(export(model))
    rng = random.Random(1)
    for length in {1, 2, config.block_size}:
        ids = [5, *(rng.randrange(5) for _ in range(length - 1))]
        (found,) = runs.run(None, {"tokens": np.array(ids)})
        assert (found.dtype, found.shape) == (np.float32, (length, 6))
        wanted, near = np.array(logits(model, ids)), np.array(logits(moved, ids))
        assert np.all(abs(found - wanted) <= 3 * abs(near - wanted) + NEAR * abs(wanted).max() + 1e-6)


def test_all_functions_have_a_form() -> None:
    assert _FUNCTIONS.keys() == RULES.keys()


def test_the_metadata_says_what_ids_mean() -> None:
    config = Config(n_embd=4, n_head=1, block_size=3)
    tokens = sorted([*HOSTILE, "\ud800"])
    model = untrained(tokens, config)
    about = session(export(model)).get_modelmeta().custom_metadata_map
    found = {name: json.loads(value) for name, value in about.items()}
    assert found == {"tokens": [*tokens, ""], "bos": 9, "block_size": 3, "rule": r"\S+", "labels": []}


class Foreign(Elementwise):
    """An operation of somebody's own."""


class Own(Model):
    """A model that has it."""

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        return tape.record(Foreign("tanh"), tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens))


class Large(Model):
    """Its logits are right in f64 alone."""

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        return (tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens) * -1e300).rmsnorm()


def test_a_number_too_large_for_f32_is_refused_in_a_line() -> None:
    with pytest.raises(TapeGPTError, match=r"^-1e\+300 is too large for f32, in which the graph computes$"):
        export(untrained(["a"], Large()))


def test_what_has_no_form_is_refused_in_a_line() -> None:
    with pytest.raises(TapeGPTError, match=r"the operation tanh has no form in ONNX: leave it out of the model"):
        export(untrained(["a"], Own()))
    model = GPT(Config(kn_share=0.5), Vocabulary(("a",)), Random(0), make_engine("fast", Config(kn_share=0.5), 2))
    with pytest.raises(TapeGPTError, match=r"the operation kneser_ney share=0\.5 has no form in ONNX"):
        export(model)
    with pytest.raises(TapeGPTError, match="export each of its models"):
        export(Ensemble([untrained(["a"])] * 2))
