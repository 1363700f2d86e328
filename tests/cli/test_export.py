"""`tapegpt export`: each ending is a file of its kind, and what cannot be gives one line and no file."""

from __future__ import annotations

from pathlib import Path

import pytest

import tapegpt
from tapegpt import TapeGPTError
from tapegpt.cli import main
from tapegpt.export import KINDS
from tests.export.examples import STRINGS, trained

BEGINS = {
    ".html": b"<!doctype html>",
    ".js": b"// A GPT",
    ".py": b"#!/usr/bin/env python3",
    ".c": b"/* A GPT",
    ".h": b"/* A GPT",
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "m.safetensors"
    tapegpt.save(trained(), path)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in BEGINS])
def test_the_ending_says_as_what(kind: str, model: str, tmp_path: Path) -> None:
    path = tmp_path / f"names{kind.upper()}"
    assert main(["export", model, "-o", str(path)]) == 0
    assert path.read_bytes().lower().startswith(BEGINS[kind].lower())
    tapegpt.export.write(tapegpt.load(model), tmp_path / f"same{kind}")
    assert (tmp_path / f"same{kind}").read_bytes() == path.read_bytes()


def test_a_graph_is_exported(model: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    assert main(["export", model, "-o", str(tmp_path / "m.onnx")]) == 0
    assert b"tapegpt" in (tmp_path / "m.onnx").read_bytes()


@pytest.mark.slow
def test_a_page_may_train_again(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(STRINGS))
    files = {name: str(tmp_path / name) for name in ("names.txt", "m", "m.html")}
    assert main(["train", files["names.txt"], "-o", files["m"], "--steps", "2", "--block-size", "6"]) == 0
    assert main(["export", files["m"], "-o", files["m.html"], "--train"]) == 0
    assert (tmp_path / "m.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("m.txt", [], "an exported file's name must end in .html, .js, .py, .c, .h, .onnx: choose one"),
        ("m", [], "must end in"),
        ("none/m.c", [], "there is no directory"),
        ("m.c", ["--train"], "--train is for pages: export to a file whose name ends in .html"),
    ],
)
def test_what_cannot_be_gives_one_line(
    name: str, options: list[str], told: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", model, "-o", str(tmp_path / name), *options]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("kind", [".html", ".js", ".py", ".c", ".h"])
def test_an_ensemble_is_not_exported(kind: str, tmp_path: Path) -> None:
    with pytest.raises(TapeGPTError, match="an ensemble cannot be exported: export each of its models"):
        tapegpt.export.write(tapegpt.Ensemble([trained(), trained()]), tmp_path / f"m{kind}")
