"""Training through the Python API: microgpt.py's order of random numbers, settings, progress."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, Any

import pytest

import tapegpt
from tapegpt import Config, Corpus, TapeGPTError, Trainer
from tapegpt.engine import Adam
from tapegpt.reference import ReferenceEngine

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
SHAPE = Config(1, 8, 2, 6)


def test_random_numbers_are_drawn_in_the_order_of_microgpt() -> None:
    """With CPython's generator, the reference engine, and the documents written out by hand."""
    rng = random.Random(7)
    documents = list(NAMES)
    rng.shuffle(documents)
    vocabulary = sorted(set("".join(documents)))
    bos = len(vocabulary)
    engine = ReferenceEngine(SHAPE, bos + 1)
    engine.load_parameters(
        {
            name: array("d", [rng.gauss(0, 0.08) for _ in range(rows * columns)])
            for name, (rows, columns) in SHAPE.shapes(bos + 1).items()
        }
    )
    ids, starts = array("I", [bos]), array("q", [0])
    for document in documents:
        ids.extend([*map(vocabulary.index, document), bos])
        starts.append(len(ids) - 1)
    losses = engine.train(tapegpt.engine.Tokens(ids, starts), Adam(steps=12), 0, 12)
    strings = engine.generate(rng, 4, 0.5)  # type: ignore[arg-type]  # CPython's generator in place of ours

    trainer = Trainer(Corpus.of(NAMES), SHAPE, steps=12, seed=7)
    assert trainer.run(12) == losses
    assert trainer.model.parameters == engine.parameters()
    assert trainer.model.generate(4) == ["".join(vocabulary[token] for token in string) for string in strings]


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 40])
def test_only_the_documents_that_are_needed_are_encoded(steps: int) -> None:
    few = Trainer(Corpus.of(NAMES), SHAPE, steps=steps)
    all_of_them = Trainer(Corpus.of(NAMES), SHAPE, steps=steps)
    order = tapegpt.Random(42).permutation(len(NAMES))
    all_of_them._tokens = Corpus.of(NAMES).tokens(order)
    assert few.run(steps) == all_of_them.run(steps)
    assert len(few._tokens) == min(steps, len(NAMES))


def test_chunks_end_at_the_last_step() -> None:
    trainer = Trainer(Corpus.of(NAMES), SHAPE, steps=333)
    losses: list[float] = []
    for chunk in trainer.chunks():
        losses += chunk
        assert len(losses) == trainer.step == trainer.model.steps
    assert len(losses) == 333
    assert trainer.run(5) == []
    assert list(trainer.chunks()) == []


def test_all_forms_of_data_train_the_same(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES))
    settings: dict[str, Any] = {"steps": 5, "n_embd": 8, "n_head": 2, "block_size": 6}
    models = [tapegpt.train(data, **settings) for data in (path, str(path), Corpus.of(NAMES), NAMES, iter(NAMES))]
    assert all(model.parameters == models[0].parameters for model in models)


def test_progress_covers_every_step_once() -> None:
    seen: list[tuple[int, int]] = []
    model = tapegpt.train(NAMES, steps=200, on_progress=lambda step, losses: seen.append((step, len(losses))))
    total = 0
    for step, count in seen:
        total += count
        assert step == total
    assert total == model.steps == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"steps": 10**10}, "steps must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"learning_rate": "0.1"}, "learning_rate must be"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"engine": "fastest"}, "engine must be one of exact, reference"),
        ({"n_head": 3}, "n_embd must be a multiple of n_head"),
        ({"n_embd": 8192, "n_head": 1}, "the limit is"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TapeGPTError, match=message) as caught:
        tapegpt.train(NAMES, **settings)
    assert "\n" not in str(caught.value)


def test_the_library_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = random.getstate()
    tapegpt.train(NAMES, steps=3).generate(2)
    assert capsys.readouterr() == ("", "")
    assert random.getstate() == before
