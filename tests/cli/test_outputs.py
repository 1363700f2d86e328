"""Files in and out: a run's directory as MODEL, - for standard output, training data read as it was."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

import tapegpt
from tapegpt.cli import main

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
TRAIN = ["--n-embd", "4", "--n-head", "2", "--block-size", "8", "--steps", "5", "--samples", "2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run's directory, and with a model that was trained on a column of standard input."""
    place, former, stdin = tmp_path_factory.mktemp("outputs"), os.getcwd(), sys.stdin
    os.chdir(place)
    try:
        Path("names.txt").write_text("\n".join(NAMES), encoding="utf-8")
        Path("people.csv").write_text("name,age\n" + "".join(f"{name.upper()},7\n" for name in NAMES), encoding="utf-8")
        assert main(["train", "names.txt", *TRAIN, "--run-dir", "run"]) == 0
        sys.stdin = io.TextIOWrapper(io.BytesIO(Path("people.csv").read_bytes()))
        table = ["--format", "csv", "--column", "name", "--lowercase"]
        assert main(["train", "-", *table, *TRAIN, "-o", "piped.safetensors"]) == 0
    finally:
        os.chdir(former)
        sys.stdin = stdin
    return place


@pytest.fixture(autouse=True)
def _place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "generate run -n 3 --seed 1",
        "score run names.txt",
        "calibrate run names.txt",
        "eval run names.txt --samples 5 --json",
        "explain run anna",
        "why run anna --json",
        "show run --stage text",
        "diff run run",
        "report run -o - --samples 5",
    ],
)
def test_a_directory_of_a_run_is_a_model(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    printed = []
    for model in ("run", "run/model.safetensors"):
        assert main([model if word == "run" else word for word in command.split()]) == 0
        printed.append(capfd.readouterr().out)
    assert printed[0] == printed[1]


def test_a_directory_of_a_run_is_converted() -> None:
    assert main(["convert", "run", "run.json"]) == 0
    assert tapegpt.load("run.json").parameters == tapegpt.load("run/model.safetensors").parameters
    assert main(["generate", ".", "-n", "1"]) == 2


@pytest.mark.parametrize(
    "command", ["generate run -n 30 --seed 1", "score run names.txt", "score run names.txt --json"]
)
def test_lines_go_to_a_file_or_to_standard_output(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 0
    lines = capsys.readouterr().out
    assert main([*command.split(), "-o", "-"]) == 0
    assert capsys.readouterr().out == lines
    assert main([*command.split(), "-o", "lines"]) == 0
    assert capsys.readouterr().out == ""
    assert Path("lines").read_text(encoding="utf-8") == lines


def test_a_file_of_lines_is_whole_or_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    Path("lines").write_text("old")
    assert main(["score", "run", "names.txt", "missing.txt", "-o", "lines"]) == 2
    assert "missing.txt: no such file" in capsys.readouterr().err
    assert Path("lines").read_text() == "old"
    assert not [name for name in os.listdir() if name.endswith(".tmp")]
    assert main(["generate", "run", "-o", "missing/lines"]) == 2
    assert "there is no directory" in capsys.readouterr().err


def test_metrics_on_standard_output_are_alone_there(capfd: pytest.CaptureFixture[str]) -> None:
    train = ["train", "names.txt", *TRAIN, "--validation", "0.3"]
    assert main([*train, "--metrics", "rows"]) == 0
    shown = capfd.readouterr().out
    assert main([*train, "--metrics", "-"]) == 0
    output, said = capfd.readouterr()
    assert output == Path("rows").read_text()
    assert said == shown
    assert main(["resume", "run", "--more-steps", "2", "-o", "new", "--metrics", "-"]) == 0
    output, said = capfd.readouterr()
    assert [json.loads(line)["step"] for line in output.splitlines()] == [6, 7]
    assert said.startswith("resumed after step: 5\n")


@pytest.mark.slow
def test_training_data_is_read_as_it_was_for_training(capsys: pytest.CaptureFixture[str]) -> None:
    data = tapegpt.load("piped.safetensors").data
    assert data is not None
    assert data.source is not None
    assert (data.source["paths"], data.source["column"], data.source["lowercase"]) == (["-"], "name", True)
    Path("moved.csv").write_bytes(Path("people.csv").read_bytes())
    assert main(["generate", "piped.safetensors", "--novel", "-n", "9"]) == 2
    assert "came from a program or standard input: give its file again" in capsys.readouterr().err
    for command in (["generate", "-n", "9", "--novel"], ["report", "-o", "-", "--samples", "5"]):
        name, *options = command
        assert main([name, "piped.safetensors", *options, "--training-data", "moved.csv"]) == 0
    capsys.readouterr()
    assert main(["why", "piped.safetensors", "anna", "--training-data", "moved.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["document"] for row in found["taught"]} <= set(NAMES)
    assert main(["resume", "piped.safetensors", "moved.csv", "--more-steps", "2", "-o", "new"]) == 0
    assert tapegpt.load("new").steps == 7
