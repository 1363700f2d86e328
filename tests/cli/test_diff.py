"""`tapegpt diff`: what it prints of runs that part, as text and as JSON, and its exit codes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt.analysis.diff import compare
from tapegpt.cli import main

NAMES = ["anna", "otto", "bob", "nana", "tonto", "abba", "noon", "b", "toto"]
STEPS = 30
SHAPE: dict[str, Any] = {"n_embd": 4, "n_head": 2, "block_size": 4, "steps": STEPS}


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with runs, which is the current one."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("diff")
    os.chdir(path)
    (path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    losses: list[float] = []
    model = tapegpt.train("names.txt", callbacks=[lambda trainer, more: losses.extend(more)], **SHAPE)
    tapegpt.save(model, "a.safetensors")
    tapegpt.save(model, "a.json")
    tapegpt.save(model, "weights.safetensors", weights_only=True)
    tapegpt.save(tapegpt.train("names.txt", seed=1, **SHAPE), "seed.safetensors")
    tapegpt.save(tapegpt.train("names.txt", **{**SHAPE, "n_embd": 6}), "wide.safetensors")
    (path / "a.hex").write_text("\n".join(map(float.hex, losses)), encoding="utf-8")
    losses[9] += 0.5
    printed = [f"step {step:4d} / {STEPS} | loss {loss:.4f}" for step, loss in enumerate(losses, 1)]
    (path / "moved.txt").write_text("\n".join(printed), encoding="utf-8")
    yield path
    os.chdir(former)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["a.safetensors", "a.json", "a.hex"])
def test_the_same_run_in_any_form_is_no_difference(other: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "a.safetensors", other]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "no difference"
    assert "all are equal" in captured.out
    assert captured.err == ""


def test_losses_that_part_are_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "moved.txt", "a.hex"]) == 1
    out = capsys.readouterr().out
    a, b = (line.split() for line in out.splitlines()[2:4])
    own = float.fromhex(Path("a.hex").read_text(encoding="utf-8").splitlines()[9])
    assert out.splitlines()[:2] == [
        f"losses        {STEPS} steps in common, to 4 decimals; the last are {STEPS} and {STEPS}",
        "              equal up to step 9, different at step 10:",
    ]
    assert a == [f"{own + 0.5:.4f}".rstrip("0"), float(f"{own + 0.5:.4f}").hex()]
    assert b == [repr(own), own.hex()]
    assert "0.5 apart" in out
    assert main(["diff", "moved.txt", "a.hex", "--tolerance", "0.5"]) == 0


def test_models_that_part_are_shown_from_settings_to_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "a.safetensors", "seed.safetensors"]) == 1
    out = capsys.readouterr().out
    assert "settings      seed: 42 and 1" in out
    count = tapegpt.load("a.safetensors").num_parameters
    assert f"parameters    part before the first step, where {count} differ, first wte[0, 0]:" in out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("#")] == ["1", "2", "5", "10", "20", "30"]
    assert re.search(r"^ {14}wte +0\.0%  ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 100
    assert main(["diff", "a.safetensors", "wide.safetensors"]) == 1
    assert "shapes (6, 4) and (6, 6)" in capsys.readouterr().out


def test_json_holds_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "a.safetensors", "seed.safetensors", "--json"]) == 1
    fields = json.loads(capsys.readouterr().out)
    found = compare(tapegpt.load("a.safetensors"), tapegpt.load("seed.safetensors"))
    assert fields.pop("equal") is False
    assert fields == found.as_json()
    assert fields["parting"]["cell"]["name"] == "wte"


def test_weights_alone_are_compared_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "a.safetensors", "weights.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "trainings     not compared: B: the training cannot be repeated: the file holds weights only" in out
    assert main(["diff", "weights.safetensors", "a.hex"]) == 2
    assert "the training cannot be repeated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.txt", "a.hex"], "none.txt: no such file"),
        (["names.txt", "a.hex"], "names.txt: line 1 is no loss: 'anna'"),
        (["a.hex", "cut.safetensors"], "cut.safetensors: not a model of tapegpt"),
        (["a.hex", "a.hex", "--tolerance", "-1"], "--tolerance must be a number from 0 on, not -1.0"),
        (["a.hex"], "the following arguments are required: B"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cut.safetensors").write_bytes(Path("a.safetensors").read_bytes()[:500])
    assert main(["diff", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
