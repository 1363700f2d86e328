"""`--config`: TOML, a run's directory or a model's file give the options that are not typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt.cli import main, make_parser
from tapegpt.cli.config import add_config, as_toml, options_of
from tapegpt.data.corpus import Corpus
from tapegpt.models.provenance import DataRecord
from tapegpt.settings import Settings

SMALL = ["--n-embd", "4", "--n-head", "2", "--block-size", "8", "--steps", "5"]
OWN = """
from tapegpt import Model

class Plain(Model):
    width: int = 3
    is_tall: bool = True
    mood: str = "Calm"

    def forward(self, tape, tokens, positions, vocab_size):
        return tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens).named("logits")
"""


def options(*words: str) -> dict[str, object]:
    """What `train` makes of these words."""
    parser = make_parser("train")
    return vars(add_config(parser, parser.parse_args(words), list(words)))


def test_what_is_typed_counts_more(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('data = ["a.txt", "-b.txt"]\nsteps = 70\nlowercase = true\nunique = false\nset = ["n_layer=2"]\n')
    read = options("--config", str(path))
    assert (read["data"], read["steps"], read["lowercase"], read["unique"]) == (["a.txt", "-b.txt"], 70, True, False)
    assert read["set"] == ["n_layer=2"]
    typed = options("--config", str(path), "--steps", "3", "c.txt")
    assert (typed["data"], typed["steps"]) == (["c.txt"], 3)
    assert options("--config", str(path), "--budget", "2s")["steps"] is None
    assert options("--config", str(path), "--dataset", "names")["data"] == []


@given(
    st.builds(
        Settings,
        engine=st.just("fast"),
        steps=st.integers(1, 10**9),
        budget=st.none() | st.floats(1e-6, 1e9),
        learning_rate=st.floats(0, 1000, exclude_min=True),
        seed=st.integers(),
        weight_decay=st.none() | st.floats(0, 10),
        gram_decay=st.none() | st.floats(0, 10),
        validation=st.floats(0, 1, exclude_max=True),
        threads=st.none() | st.integers(1, 256),
        long=st.sampled_from(["cut", "window"]),
    )
)
def test_settings_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> None:
    from tapegpt.training.presets import resolve

    path = tmp_path_factory.getbasetemp() / "settings.toml"
    data = DataRecord.of(Corpus.of(["a"]))
    path.write_text(as_toml(options_of(tapegpt.Config(n_embd=8), "Cl|.", settings, data)))
    read = options("--config", str(path))
    known = {name: value for name, value in read.items() if name in Settings.fields and value is not None}
    expected = settings.replace(steps=Settings.steps) if settings.budget else settings
    assert resolve(known, read["preset"])[1].replace(steps=expected.steps) == expected  # type: ignore[arg-type]
    assert (read["n_embd"], read["kind"], read["tokens"]) == (8, "gpt", "Cl|.")


@pytest.mark.parametrize("source", ["run", "run/model.safetensors"])
def test_a_run_can_be_repeated(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("name;age\nANNA;1\nOTTO;2\nBOB;3\n")
    table = ["people.csv", "--column", "name", "--lowercase", "--delimiter=line"]
    assert main(["train", *table, *SMALL, "--samples", "0", "--run-dir", "run"]) == 0
    assert main(["train", "--config", source, "--samples", "0", "-o", "again.safetensors"]) == 0
    assert tapegpt.load("again.safetensors").parameters == tapegpt.load("run/model.safetensors").parameters
    capsys.readouterr()


def test_a_class_of_ones_own_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    own = ["--model", "own.py:Plain", "--set", "width=7", "--set", "is_tall=false", "--set", "mood=Odd"]
    assert main(["train", "--dataset", "names", *own, "--steps", "2", "--samples", "0", "--run-dir", "run"]) == 0
    read = options("--config", "run")
    assert read["kind"] == f"{tmp_path / 'own.py'}:Plain"
    assert read["set"] == ["width=7", "is_tall=false", "mood=Odd"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps =", "is not TOML"),
        ("\xff".encode("latin-1"), "is not TOML"),
        ("steps = 'many'", "--steps must be a whole number"),
        ("colour = 3", "there is no option 'colour' for a file: see"),
        ("help = true", "there is no option 'help'"),
        ("config = 'other.toml'", "there is no option 'config'"),
        ('" " = 3', "there is no option ' '"),
        ("[steps]\ntraining = 3", "steps must be text, a number, true, or a list of these"),
        ("steps = 2026-01-01", "steps must be text"),
        ("steps = true", "argument --steps: expected one argument"),
        (None, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    text: str | bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["train", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--config {path}" in error
    assert said in error


def test_a_model_that_is_damaged_is_not_read_as_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.safetensors"
    path.write_bytes(b"")
    assert main(["train", "--config", str(path)]) == 2
    assert "not a model of tapegpt" in capsys.readouterr().err


def test_json_and_quiet_are_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--dataset", "names", *SMALL, "--samples", "2", "--quiet"]) == 0
    quiet = capsys.readouterr().out.splitlines()
    assert main(["train", "--dataset", "names", *SMALL, "--samples", "2", "--json", "--validation", "0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(quiet) == len(found["samples"]) == 2
    assert found["held_out"] == 516
    assert found["steps"] == found["best_step"] == 5
    assert found["held_out_loss"] < found["baselines"]["uniform"]
    for pair in ("--quiet --json", "--quiet --metrics -", "--json --metrics -"):
        assert main(["train", "--dataset", "names", *SMALL, *pair.split()]) == 2
        assert "exclude each other" in capsys.readouterr().err
