"""Training through the Python API: microgpt.py's order of random numbers, settings, progress."""

from __future__ import annotations

import random
import unicodedata
import warnings
from array import array
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Corpus, DivergedError, TapeGPTError, TapeGPTWarning, Trainer
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.training.clock import layers
from tapegpt.training.trainer import WEIGHTS, watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
SHAPE = Config(1, 8, 2, 6)


@pytest.mark.slow
def test_random_numbers_are_drawn_in_the_order_of_microgpt() -> None:
    """With CPython's generator, the reference engine, and the documents written out by hand."""
    rng: Any = random.Random(7)  # in place of ours
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
    losses = engine.train(Tokens(ids, starts), Adam(steps=12), 0, 12)
    strings = engine.generate(rng, 4, 0.5)

    trainer = Trainer(Corpus.of(NAMES), SHAPE, steps=12, seed=7)
    assert trainer.run(12) == losses
    assert trainer.model.parameters == engine.parameters()
    assert trainer.model.generate(4) == ["".join(vocabulary[token] for token in string) for string in strings]


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 40])
def test_only_the_documents_that_are_needed_are_encoded(steps: int) -> None:
    few = Trainer(Corpus.of(NAMES), SHAPE, steps=steps)
    all_of_them = Trainer(Corpus.of(NAMES), SHAPE, steps=steps)
    order = tapegpt.Random(42).permutation(len(NAMES))
    all_of_them.tokens = Corpus.of(NAMES).tokens(order)
    assert few.run(steps) == all_of_them.run(steps)
    assert len(few.tokens) == min(steps, len(NAMES))


@given(st.lists(st.integers(0, 20), max_size=8))
def test_cuts_change_no_number(cuts: list[int]) -> None:
    whole, cut = (Trainer(Corpus.of(NAMES), SHAPE, steps=40) for _ in range(2))
    losses = whole.run(40)
    assert [loss for count in [*cuts, 40] for loss in cut.run(count)] == losses
    assert cut.model.parameters == whole.model.parameters
    assert cut.model.generate(3) == whole.model.generate(3)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "reference"])
def test_a_step_that_cannot_be_taken_changes_nothing(engine: str) -> None:
    trainer, again = (Trainer(Corpus.of(NAMES), SHAPE, learning_rate=1.0, engine=engine) for _ in range(2))
    with pytest.raises(DivergedError) as caught:
        trainer.run(1000)
    steps = len(caught.value.losses)
    assert steps > 1
    assert caught.value.step == steps == trainer.step == trainer.model.steps
    assert again.run(steps) == caught.value.losses
    assert trainer.model.parameters == again.model.parameters
    with pytest.raises(DivergedError, match=f"not finite at step {steps + 1}"):
        trainer.run(1)
    assert trainer.step == steps


@pytest.mark.slow
def test_both_engines_train_the_same() -> None:
    shape: Any = {"n_embd": 8, "n_head": 2, "block_size": 6}
    models = [tapegpt.train(NAMES, steps=3, engine=engine, **shape) for engine in ("exact", "reference")]
    assert models[0].parameters == models[1].parameters
    assert models[0].generate(3) == models[1].generate(3)


def test_chunks_end_at_the_last_step() -> None:
    trainer = Trainer(Corpus.of(NAMES), SHAPE, steps=333)
    losses: list[float] = []
    for chunk in trainer.chunks():
        losses += chunk
        assert len(losses) == trainer.step == trainer.model.steps
    assert len(losses) == 333
    assert trainer.run(5) == []
    assert list(trainer.chunks()) == []


def test_chunks_grow_with_the_speed_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which a step takes 1 ms: at most four times as many steps, until a chunk takes 50 ms."""
    trainer = Trainer(Corpus.of(NAMES), SHAPE, steps=200)
    monkeypatch.setattr("time.perf_counter", lambda: (trainer.step + 0.5) / 1000)
    assert [len(chunk) for chunk in trainer.chunks()][:3] == [1, 4, 16]
    again = Trainer(Corpus.of(NAMES), SHAPE, steps=400)
    monkeypatch.setattr("time.perf_counter", lambda: again.step / 1024)
    assert {len(chunk) for chunk in list(again.chunks())[3:-1]} == {51}


def test_all_forms_of_data_train_the_same(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES))
    settings: dict[str, Any] = {"steps": 5, "n_embd": 8, "n_head": 2, "block_size": 6}
    models = [tapegpt.train(data, **settings) for data in (path, str(path), Corpus.of(NAMES), NAMES, iter(NAMES))]
    assert all(model.parameters == models[0].parameters for model in models)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"steps": 10**10}, "steps must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"learning_rate": float("inf")}, "learning_rate must be"),
        ({"learning_rate": 10**400}, "learning_rate must be"),
        ({"learning_rate": True}, "learning_rate must be"),
        ({"learning_rate": "0.1"}, "learning_rate must be"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"engine": "fastest"}, "engine must be one of exact, fast, reference"),
        ({"n_head": 3}, "n_embd must be a multiple of n_head"),
        ({"n_embd": 8192, "n_head": 1}, "the limit is"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TapeGPTError, match=message) as caught:
        tapegpt.train(NAMES, **settings)
    assert "\n" not in str(caught.value)


def test_counts_out_of_range() -> None:
    trainer = Trainer(Corpus.of(NAMES), SHAPE, steps=5)
    wrong: list[Any] = [-1, 1.0, True, "1"]
    for count in wrong:
        with pytest.raises(TapeGPTError, match="count must be a whole number from 0 on, not"):
            trainer.run(count)
    assert trainer.run(0) == []
    assert len(trainer.run(10**30)) == 5


def test_the_library_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = random.getstate()
    tapegpt.train(NAMES, steps=3).generate(2)
    assert capsys.readouterr() == ("", "")
    assert random.getstate() == before


@pytest.mark.slow
def test_data_is_read_as_is_said(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,name\n1,Anna\n2,Bob\n3,Bob\n")
    shape: dict[str, Any] = {"n_embd": 4, "n_head": 2, "block_size": 5, "steps": 3}
    model = tapegpt.train(tmp_path / "people.csv", column="name", lowercase=True, unique=True, **shape)
    assert model.documents == ["anna", "bob"]
    assert tapegpt.train(["Anna", "Bob"], lowercase=True, **shape).vocabulary.characters == "abno"
    for data in (["Anna"], Corpus.of(["Anna"])):
        with pytest.raises(TapeGPTError, match="column says how data is read: give a path, or leave it out"):
            tapegpt.train(data, column="name", **shape)
    with pytest.raises(TapeGPTError, match="lowercase says how data is read: give a path, or leave it out"):
        tapegpt.train(Corpus.of(["Anna"]), lowercase=True, **shape)


@pytest.mark.slow
def test_documents_that_are_cut_are_counted() -> None:
    """Those that a block does not hold with their end; the engine fast learns from all windows, or was told to cut."""
    documents, shape = ["ab", "abc", "abcd", "abcdefgh"], {"n_embd": 4, "n_head": 1, "steps": 2}
    with pytest.warns(TapeGPTWarning, match="^2 of 4 documents are cut, block_size 4 .* one of up to 9,") as caught:
        tapegpt.train(documents, block_size=4, **shape)  # type: ignore[arg-type]
    assert [each.filename for each in caught] == [__file__]
    with pytest.warns(TapeGPTWarning, match=r"^1 of 1 documents are cut, block_size 4 .* one of up to 5,"):
        tapegpt.train(["abcd"], block_size=4, **shape)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tapegpt.train(documents, block_size=9, **shape)  # type: ignore[arg-type]
        tapegpt.train(documents, block_size=4, engine="fast", **shape)  # type: ignore[arg-type]
        tapegpt.train(documents, block_size=4, engine="fast", long="cut", **shape)  # type: ignore[arg-type]


@given(st.binary() | st.text("ab\0\n\x1b\x85\u202e").map(str.encode), st.sampled_from(["utf-8", "latin-1", "cp1252"]))
def test_no_control_character_of_any_file_is_learnt_without_a_word(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, encoding: str
) -> None:
    """What can be read gives documents without them, or a training on these says so before its first step."""
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    try:
        corpus = Corpus.read(path, encoding=encoding)
    except TapeGPTError:
        return
    trainer = Trainer(corpus, Config(1, 4, 1, 64), steps=1, engine="reference")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch(trainer, [], [])
    controls = [c for c in corpus.vocabulary if unicodedata.category(c) in ("Cc", "Zl", "Zp") and c not in "\t\n"]
    said = any("control characters" in str(each.message) for each in caught)
    assert said or not controls
    assert controls or "\u202e" in corpus.vocabulary or "\ufeff" in corpus.vocabulary or not said


def test_a_rule_that_matches_nothing_is_told() -> None:
    trainer = Trainer(tapegpt.Corpus.of(["ab cd"], tokens="word"), Config(1, 4, 1, 8), steps=1, engine="reference")
    with pytest.warns(
        TapeGPTWarning, match=r"^by tokens 'word' every token is one character: choose from characters, "
    ):
        watch(trainer, [], [])


@pytest.mark.slow
def test_control_characters_in_documents_are_named() -> None:
    shape = {"n_embd": 4, "n_head": 1, "steps": 1}
    with pytest.warns(TapeGPTWarning, match=r"^the documents have control characters, '\\x00\\x92': "):
        tapegpt.train(["a\0b", "c\x92", "d\te\nf"], **shape)  # type: ignore[arg-type]
    tapegpt.train(["d\te\nf", "\u200d"], **shape)  # type: ignore[arg-type]


@pytest.mark.slow
def test_decays_grow_with_the_passes_through_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that are seen often are memorised unless the weights fade; few, or by more weights, sooner."""
    pairs = [a + b for a in "abcdefgh" for b in "iouxy"]

    def untrained(_: str, config: Config, vocab_size: int, *__: int) -> SimpleNamespace:
        return SimpleNamespace(config=config, vocab_size=vocab_size, compile_seconds=0.0)

    monkeypatch.setattr("tapegpt.training.trainer.make_engine", untrained)
    monkeypatch.setattr("tapegpt.training.trainer.initialise", lambda *_: None)  # no model is trained

    def decays(n_embd: int, steps: int = 20, n_layer: int = 1, documents: Sequence[str] = pairs) -> tuple[float, float]:
        config = Config(n_layer, n_embd, 2, 4)
        trainer = Trainer(Corpus.of(documents), config, engine="fast", batch_size=8, steps=steps, weight_decay=None)
        adam = trainer.decaying(trainer.adam)
        return adam.weight_decay / 0.0075, adam.gram_decay / 0.15

    many = [chr(0x4E00 + 2 * place) + chr(0x4E01 + 2 * place) for place in range(40)]
    assert layers(Config(1, 48, 2, 4), 81) == WEIGHTS
    monkeypatch.setattr("tapegpt.training.trainer.DOCUMENTS", 40)
    assert decays(24) == decays(36) == (4, 4)  # 160 of 40 documents
    assert decays(96) == pytest.approx((4 * (4 + 14 / 288), 16))
    assert decays(48, n_layer=3) == pytest.approx((4 * (3 + 14 / 576), 12))
    assert decays(48, documents=many) == pytest.approx((4 * (1 + 81 / 576), 4))  # the output layer
    assert decays(24, 800) == (160, 160)
    monkeypatch.setattr("tapegpt.training.trainer.DOCUMENTS", 80)
    assert decays(36) == (8, 8)
    assert decays(480) == (160, 160)


def test_a_model_knows_all_documents_also_those_held_out() -> None:
    trainer = Trainer(Corpus.of(NAMES), Config(1, 8, 2, 6), steps=1, validation=0.3)
    assert trainer.model.documents == trainer.corpus.documents
