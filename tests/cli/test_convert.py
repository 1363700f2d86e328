"""Model files as JSON and back, bit for bit, and the weights of microgpt.py's users."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Random, TapeGPTError, tensors
from tapegpt.cli import main
from tapegpt.data.corpus import Corpus
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.models.trained import GPT, initialise, make_engine
from tapegpt.training.trainer import Trainer

NAMES = ["anna", "otto", "bob", "hannah"]


def kept(engine: str, place: Path) -> Path:
    """A file of a training that can go on."""
    trainer = Trainer(Corpus.of(NAMES), Config(1, 4, 2, 5), engine=engine, steps=9, validation=0.3)
    trainer.run(5)
    trainer.evaluate()
    trainer.run(2)
    path = place / engine
    trainer.keep(lambda model: tapegpt.save(model, path))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_json_and_back_is_the_same_file(engine: str, tmp_path: Path) -> None:
    path = kept(engine, tmp_path)
    assert main(["convert", str(path), str(tmp_path / "m.json")]) == 0
    assert main(["convert", str(tmp_path / "m.json"), str(tmp_path / "m.safetensors")]) == 0
    files = [path, tmp_path / "m.safetensors", tmp_path / "m.json"]
    first, *others = map(tensors.read_contents, files)
    assert others == [first, first]
    fields = json.loads((tmp_path / "m.json").read_text())
    assert fields["state_dict"]["lm_head"][2][3] == tapegpt.load(path).parameters["lm_head"][2 * 4 + 3]
    assert fields["config"]["n_embd"] == 4
    assert tapegpt.load(tmp_path / "m.json").generate(5, seed=1) == tapegpt.load(path).generate(5, seed=1)


def test_weights_only_leaves_out_training_and_data(tmp_path: Path) -> None:
    path = kept("exact", tmp_path)
    assert main(["convert", "--weights-only", str(path), str(tmp_path / "m.safetensors")]) == 0
    model = tapegpt.load(tmp_path / "m.safetensors")
    assert (model.state, model.data) == (None, None)
    assert model.parameters == tapegpt.load(path).parameters
    assert set(tensors.read_contents(tmp_path / "m.safetensors").tensors) == set(model.parameters)


def state_dict(n_layer: int = 1, n_embd: int = 4, block_size: int = 5, vocab_size: int = 4) -> dict[str, Any]:
    """What microgpt.py's `state_dict` is as JSON: `{name: [[p.data for p in row] for row in matrix]}`."""
    numbers = random.Random(3)
    shapes = Config(n_layer, n_embd, 2, block_size).shapes(vocab_size)
    return {
        name: [[numbers.gauss(0, 0.5) for _ in range(columns)] for _ in range(rows)]
        for name, (rows, columns) in shapes.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrap", "options"),
    [
        (lambda state: state, ["--vocabulary", "cab"]),
        (lambda state: state, ["--vocabulary", "abcabc"]),
        (lambda state: {"state_dict": state, "uchars": ["a", "b", "c"]}, []),
        (lambda state: {"state_dict": state, "vocabulary": "abc"}, []),
        (lambda state: state, ["--training-data", "data.txt"]),
    ],
)
def test_a_state_dict_of_microgpt_speaks_as_it_does_there(
    wrap: Any, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.txt").write_text("ab\nca\n")
    state = state_dict(n_layer=2)
    Path("state.json").write_text(json.dumps(wrap(state)))
    assert main(["convert", "state.json", "m.safetensors", "--n-head", "2", *options]) == 0
    oracle = make_engine("reference", Config(2, 4, 2, 5), 4)
    oracle.load_parameters({name: [p for row in rows for p in row] for name, rows in state.items()})  # type: ignore[misc]
    strings = GPT(Config(2, 4, 2, 5), Vocabulary.of("abc"), Random(42), oracle).generate(5, temperature=0.5)
    assert tapegpt.load("m.safetensors").generate(5, temperature=0.5) == strings


BAD: list[tuple[Any, list[str], str]] = [
    ([], [], "it is no object"),
    ({"wte": [[1.0]]}, [], "it has no wte, wpe and lm_head"),
    (state_dict(), [], "it does not say its 3 characters: give --vocabulary, or --training-data"),
    (state_dict(vocab_size=27), [], "give --vocabulary abcdefghijklmnopqrstuvwxyz, if these are names"),
    (state_dict(), ["--vocabulary", "ab"], "it has 3 characters, the vocabulary 2"),
    (state_dict(), ["--vocabulary", "abc", "--n-head", "3"], "--n-embd must be a multiple of --n-head"),
    (state_dict(), ["--vocabulary", "abc", "--training-data", "x"], "exclude each other"),
    ({**state_dict(), "wte": [[1.0, 2.0], [1.0]]}, ["--vocabulary", "abc"], "row 1 of a matrix has 1 numbers"),
    ({**state_dict(), "wte": [[float("nan")] * 4] * 4}, ["--vocabulary", "abc"], "no finite number"),
    ({**state_dict(), "wte": [["1"] * 4] * 4}, ["--vocabulary", "abc"], "no finite number"),
    ({**state_dict(), "wte": [[True] * 4] * 4}, ["--vocabulary", "abc"], "no finite number"),
    ({**state_dict(), "wpe": [[1.0] * 3] * 5}, ["--vocabulary", "abc"], "wpe must have the shape (5, 4), not (5, 3)"),
    ({**state_dict(), "more": [[1.0]]}, ["--vocabulary", "abc"], "it has more too"),
    ({n: m for n, m in state_dict().items() if "wq" not in n}, ["--vocabulary", "abc"], "layer0.attn_wq must have"),
    ({**state_dict(), "wpe": 5}, ["--vocabulary", "abc"], "its wte and wpe must be matrices"),
    ({**state_dict(), "lm_head": 5}, ["--vocabulary", "abc"], "lm_head must have the shape (4, 4), not None"),
]


@pytest.mark.parametrize(("fields", "options", "message"), BAD)
def test_what_is_no_state_dict_is_refused_in_one_line(
    fields: Any, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "state.json"
    source.write_text(json.dumps(fields))
    assert main(["convert", str(source), str(tmp_path / "m.json"), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    "content", [b'{"tapegpt": ', b'{"tapegpt": "1"}', b'{"a":' * 50_000, b'{"wte": [', b"{}", b"{"]
)
def test_hostile_json_is_refused_in_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    for command in (
        ["convert", str(tmp_path / "x.json"), str(tmp_path / "y.json")],
        ["generate", str(tmp_path / "x.json")],
    ):
        assert main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_name_that_says_no_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(kept("exact", tmp_path)), str(tmp_path / "m.bin")]) == 2
    assert "must end in .json or .safetensors" in capsys.readouterr().err


VALUES = st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.lists(st.floats()), max_size=3)


@pytest.mark.slow
@given(field=st.sampled_from(["type", "state_dict", "format", "engine", "tapegpt", "more"]), value=VALUES)
def test_what_json_has_beside_the_metadata_may_be_anything(
    field: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.getbasetemp() / "fields"
    if not place.exists():
        place.mkdir()
        tapegpt.save(tapegpt.load(kept("exact", place)), place / "m.json")
    fields = json.loads((place / "m.json").read_text())
    changed = place / "changed.json"
    changed.write_text(json.dumps({**fields, field: value}))
    try:
        strings = tapegpt.load(changed).generate(1)
    except TapeGPTError:
        return
    assert isinstance(strings[0], str)


@pytest.mark.slow
def test_initial_parameters_survive_json_bit_for_bit(tmp_path: Path) -> None:
    engine = make_engine("exact", Config(1, 4, 2, 5), 4)
    initialise(engine, Config(1, 4, 2, 5), 4, Random(1), 1e-300)
    model = GPT(Config(1, 4, 2, 5), Vocabulary.of("abc"), Random(1), engine)
    tapegpt.save(model, tmp_path / "m.json")
    assert tapegpt.load(tmp_path / "m.json").parameters == model.parameters
