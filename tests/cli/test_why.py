"""`tapegpt why`: what it prints, as text and as JSON, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tapegpt
from tapegpt.analysis.attribution import attribute, verify
from tapegpt.cli import main

NAMES = ["anna", "otto", "bob", "nana", "tonto", "abba", "banana", "annabo", "noon", "b", "toto", "🐢b\n界"]


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with models, which is the current one."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("why")
    os.chdir(path)
    (path / "names.txt").write_text("\n".join(NAMES[:-1]), encoding="utf-8")
    shape = {"n_embd": 4, "n_head": 2, "block_size": 4}
    model = tapegpt.train("names.txt", steps=8, **shape)  # type: ignore[arg-type]
    tapegpt.save(model, "m.safetensors")
    tapegpt.save(model, "weights.safetensors", weights_only=True)
    tapegpt.save(tapegpt.train("names.txt", steps=1, **shape), "one.safetensors")  # type: ignore[arg-type]
    tapegpt.save(tapegpt.train(NAMES, steps=8, **shape), "strings.safetensors")  # type: ignore[arg-type]
    (path / "names.jsonl").write_text("\n".join(map(json.dumps, NAMES)), encoding="utf-8")
    tapegpt.save(tapegpt.train("names.jsonl", steps=60, **shape), "long.safetensors")  # type: ignore[arg-type]
    yield path
    os.chdir(former)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(["why", *arguments]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.mark.slow
def test_it_lists_what_taught_and_what_hindered(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "m.safetensors", "ann", "--top", "2")
    found = attribute(tapegpt.load("m.safetensors"), "ann", top=2)
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == f"ann: {found.loss:.3f} nats per token"
    assert lines[2] == "what taught it most, of 8 strings that it was trained on"
    for line, each in zip((*lines[4:6], *lines[9:11]), (*found.taught, *found.hindered), strict=True):
        influence, bar, step, document = line.split()
        assert (float(influence), document) == (round(each.influence, 2), each.document)
        assert step == str(each.steps[0])
        assert set(bar) == {"#"}
    longest = max(found.taught + found.hindered, key=lambda each: abs(each.influence))
    assert next(line for line in lines if line.endswith(longest.document)).count("#") == 30


def test_json_holds_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "m.safetensors", "ann", "--top", "3", "--verify", "--json")
    model = tapegpt.load("m.safetensors")
    found = attribute(model, "ann", top=3)
    fields = json.loads(out)
    assert fields.pop("verification") == verify(model, found).as_json()
    for name in ("taught", "hindered"):
        listed = [{**each.as_dict(), "steps": list(each.steps)} for each in getattr(found, name)]
        assert fields.pop(name) == listed
    assert fields == {name: getattr(found, name) for name in ("text", "loss", "documents", "seen")}


def test_verify_shows_both_changes(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "m.safetensors", "ann", "--top", "1", "--verify")
    model = tapegpt.load("m.safetensors")
    verification = verify(model, attribute(model, "ann", top=1))
    deviation = f"{verification.deviation:.4f}"
    assert out.splitlines()[-2:] == [
        f"trained again without the 1 string that taught it most: {verification.taught:+.4f} nats per token",
        f"without 1 string at random, 20 draws: {verification.mean:+.4f}, standard deviation {deviation}",
    ]


def test_strings_without_a_place_in_the_training_are_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "m.safetensors", "ann", "--all", "--top", "11")
    assert "what would teach it most, of 11 strings, trained on or not" in out
    assert out.count(" never  ") == 3


def test_weights_alone_need_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "weights.safetensors", "ann", "--training-data", "names.txt")
    assert "the model does not say how it was trained: these are all strings" in err
    listed = [
        line.split()[0::3] for line in printed(capsys, "m.safetensors", "ann", "--all")[0].splitlines() if "#" in line
    ]
    assert [line.split()[0::3] for line in out.splitlines() if "#" in line] == listed
    assert out.count(" unknown  ") == len(listed)
    assert main(["why", "weights.safetensors", "ann"]) == 2
    assert "does not know what it was trained on: give its training data" in capsys.readouterr().err


@pytest.mark.slow
def test_any_string_is_shown_in_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "long.safetensors", "🐢b\n界🐢", "--top", "12")
    assert "the model sees 4 characters of 5, the rest is left out" in err
    assert out.startswith("🐢b\\n界: ")
    assert "5 of them  🐢b\\n界" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m.safetensors", ""], "text must be a str of at least one character, not ''"),
        (["m.safetensors", "änn"], "text 'änn': the model does not know 'ä': leave that out"),
        (["m.safetensors", "ann", "--top", "0"], "--top must be a whole number from 1 on, not 0"),
        (["one.safetensors", "ann", "--verify"], "of 1 documents cannot be left out and compared with others"),
        (["m.safetensors", "ann", "--all", "--verify"], "--all and --verify exclude each other"),
        (["m.safetensors", "ann", "--training-data", "weights.safetensors"], "is not utf-8"),
        (["m.safetensors", "ann", "--training-data", "none.txt"], "no such file"),
        (["m.safetensors", "ann", "--training-data", "others.txt"], "the data is not what the model was trained on"),
        (["strings.safetensors", "b"], "the training data came from a program or standard input"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("others.txt").write_text("anna\notto\n", encoding="utf-8")
    assert main(["why", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
