"""What is asked of the package in Pyodide alone: `test_pyodide.py` starts it there.

The C library is another, so that `exact == reference` is all that can be asked of its numbers.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Literal

import pytest

import tapegpt
from tapegpt import Config, Corpus, TapeGPTWarning, Trainer
from tapegpt.analysis.attribution import attribute
from tapegpt.machine.host import host_target
from tapegpt.machine.program import Program
from tapegpt.models.trained import make_engine
from tapegpt.training.recording import replay
from tests.data.distances import edits

NAMES = ["anna", "bob", "cara", "abba", "barbara", "ada", "rob", "carob", "bar", "cab"]
MODELS = ("gpt", "modern", "mlp", "wavenet", "gru")
SMALL: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 6}


def test_kernels_are_webassembly() -> None:
    assert sys.platform == "emscripten"
    target = host_target()
    assert (target.name, target.fma, target.certified, target.known_exp) == ("wasm", False, True, "unfused")
    assert not tapegpt.train(NAMES, steps=1, **SMALL).engine.notice


def test_the_default_model_equals_the_reference() -> None:
    """Three strings, one longer than the block: the reference takes half a second a string."""
    corpus = Corpus.of(["emma", "olivia", "a" * 20])
    exact, reference = tapegpt.train(corpus, steps=3), tapegpt.train(corpus, engine="reference", steps=3)
    assert exact.losses == reference.losses
    assert exact.parameters == reference.parameters
    assert exact.generate(3) == reference.generate(3)


@pytest.mark.parametrize("name", MODELS)
def test_models_equal_the_reference(name: str) -> None:
    shape: dict[str, Any] = {"n_embd": 4, "block_size": 4, **({"n_head": 2} if name in ("gpt", "modern") else {})}
    exact, reference = (
        tapegpt.train(NAMES, model=name, engine=each, steps=3, **shape) for each in ("exact", "reference")
    )
    assert exact.losses == reference.losses
    assert exact.parameters == reference.parameters
    assert exact.generate(5) == reference.generate(5)


def test_the_engine_fast_is_near_the_exact_one() -> None:
    exact = tapegpt.train(NAMES, steps=60, **SMALL)
    near = make_engine("fast", exact.config, exact.vocabulary.size)
    near.load_parameters(exact.parameters)
    tokens = Corpus(NAMES, exact.vocabulary).tokens()
    losses = [engine.evaluate(tokens)[0] for engine in (exact.engine, near)]
    assert math.isclose(*losses, rel_tol=1e-5)


@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_what_is_asked_of_a_model_has_answers(engine: Literal["exact", "fast"]) -> None:
    model = tapegpt.train(NAMES, steps=60, engine=engine, **SMALL)
    strings = model.generate(9, prefix="b", pattern="[a-c]+", min_length=3, novel=True, distinct=True, seed=1)
    assert len(set(strings) - set(NAMES)) == 9
    assert all(re.fullmatch("b[a-c]{2,5}", each) for each in strings)
    assert all(edits(each, name) > 2 for each in model.generate(5, novel=2, seed=1) for name in NAMES)
    odd, usual = model.score(["ooooo", "bar"])
    assert odd.nats > usual.nats
    assert model.explain("bar").targets == (*"bar", "")
    assert attribute(model, "bar", top=1).taught[0].document in NAMES
    assert replay(model, 3, Corpus.of(NAMES)).at(60).parameters == model.parameters
    assert tapegpt.loads(tapegpt.dumps(model)).generate(5, seed=2) == model.generate(5, seed=2)


def test_code_is_kept_for_the_next_model_of_its_shape() -> None:
    first, second = (tapegpt.train(NAMES, steps=1, n_embd=4, n_head=1, block_size=3) for _ in range(2))
    assert first.engine.compile_seconds > 0
    assert second.engine.compile_seconds == 0


def test_there_is_one_thread() -> None:
    with pytest.warns(TapeGPTWarning, match="no threads: one does the work of 4"):
        trainer = Trainer(Corpus.of(NAMES), Config(**SMALL), engine="fast", threads=4, steps=2)
    assert len(trainer.run(2)) == 2


def test_sweeps_train_one_model_after_the_other() -> None:
    found = tapegpt.sweep(NAMES, grid={"n_embd": (4, 8)}, steps=8, validation=0.3, n_head=2, block_size=6)
    assert len(found.rows) == 2


def test_a_module_that_does_not_link_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "wasm", lambda *_, **__: b"\0asm\1\0\0\0rubbish")
    model = tapegpt.train(NAMES, model="bigram", steps=1, block_size=5)
    assert "the kernels are interpreted" in model.engine.notice
