"""`tapegpt show`: each stage says what it is, the survey adds up, and what cannot be shown is a line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt.analysis.anatomy import Anatomy
from tapegpt.cli import main
from tapegpt.cli.show import STAGES

NAMES = ["anna", "otto", "bob", "natan", "aviva", "b", "banana"]
SHAPE = {"n_layer": 1, "n_embd": 6, "n_head": 3, "block_size": 5}
NEW = [*(f"--{name.replace('_', '-')}={value}" for name, value in SHAPE.items()), "names.txt"]
VOCABULARY = tapegpt.Corpus.of(NAMES).vocabulary


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with data and models, which is the current one."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("show")
    os.chdir(path)
    (path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    model = tapegpt.train("names.txt", steps=2, **SHAPE)  # type: ignore[arg-type]
    tapegpt.save(model, "m.safetensors")
    fast = tapegpt.train(NAMES, steps=2, engine="fast", n_gram=2, gram_rows=5, **SHAPE)  # type: ignore[arg-type]
    tapegpt.save(fast, "fast.json")
    yield path
    os.chdir(former)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(["show", *arguments]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["show", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


# --- stages -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_text_shows_documents_lengths_and_characters(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "--stage", "text", *NEW)
    assert err == ""
    assert out.splitlines() == [
        "7 documents; the first, as they come:",
        *[f"  {name}" for name in NAMES],
        "characters of a document: 1 to 6, median 4",
        "block_size 5, which 1 of them exceed",
        "7 characters: a b i n o t v",
        "8 tokens: these, and BOS, which stands before and after every document",
    ]


@pytest.mark.slow
def test_tokens_shows_inputs_beside_targets(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "--stage", "tokens", *NEW)
    assert [line.split() for line in out.splitlines()[2:-1]] == [
        ["0", "BOS", "7", "o", "4"],
        ["1", "o", "4", "t", "5"],
        ["2", "t", "5", "t", "5"],
        ["3", "t", "5", "o", "4"],
        ["4", "o", "4", "BOS", "7"],
    ]


def test_labels_are_shown_beside_the_tokens(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,sex\nab,f\n", encoding="utf-8")
    out, _ = printed(capsys, str(tmp_path / "t.csv"), "--column", "name", "--labels", "sex", "--stage", "tokens")
    lines = out.splitlines()
    assert lines[0] == "the document sex=f ab, split by the rule characters:"
    assert [line.split()[1] for line in lines[2:6]] == ["BOS", "sex=f", "a", "b"]


def test_tokens_ends_with_the_block(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("abcdefgh", encoding="utf-8")
    out, _ = printed(capsys, "--stage", "tokens", "--block-size", "3", str(path))
    assert [line.split()[3] for line in out.splitlines()[2:-1]] == ["a", "b", "c"]


def test_tape_marks_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    anatomy = Anatomy(tapegpt.Config(**SHAPE), len(VOCABULARY) + 1)
    assert printed(capsys, "--stage", "tape", *NEW) == (anatomy.lines() + "\n", "")
    out, err = printed(capsys, "--stage", "tape", "--op", "linear 3", *NEW)
    assert out == anatomy.lines(anatomy.find("linear 3")) + "\n"
    assert err == "tapegpt: note: linear 3 of 5: for another, --op 'linear 1', or its line, --op %11\n"


@pytest.mark.slow
def test_gradient_goes_from_the_loss_to_the_embeddings(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "--stage", "gradient", "m.safetensors")
    lines = out.splitlines()
    total, count = tapegpt.load("m.safetensors").engine.evaluate(tapegpt.Corpus(["otto"], VOCABULARY).tokens())
    assert lines[0] == f"otto, 5 positions: loss {total / count:.4f} nats per token"
    numbers = [int(line.split()[0][1:]) for line in lines[2:]]
    assert numbers == sorted(numbers, reverse=True)
    assert lines[2].split()[1] == "1"
    for name in ("wte", "wpe", "lm_head", "layer0.attn_wqkv", "layer0.attn_wo", "layer0.mlp_fc1", "layer0.mlp_fc2"):
        assert len(re.findall(rf"  {name} [\d.e-]+$", out, re.MULTILINE)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "listing"), [("kernels", "python"), ("llvm", "llvm"), ("asm", "asm"), ("wasm", "wasm")]
)
def test_a_listing_is_of_the_operation_asked_for(capsys: pytest.CaptureFixture[str], stage: str, listing: str) -> None:
    anatomy = Anatomy(tapegpt.Config(**SHAPE), len(VOCABULARY) + 1)
    for name in ("attention", "relu", "%12", "adam"):
        out, err = printed(capsys, "--stage", stage, "--op", name, *NEW)
        assert out == anatomy.listing(anatomy.find(name), listing) + "\n"
        assert err == ""
    assert printed(capsys, "--stage", stage, *NEW)[0] == anatomy.listing(anatomy.find("attention"), listing) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["m.safetensors", "fast.json"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_a_model_is_shown(capsys: pytest.CaptureFixture[str], source: str, stage: str) -> None:
    out, _ = printed(capsys, source, "--stage", stage)
    assert len(out.splitlines()) > 5


def test_an_operation_without_a_stage_is_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "--op", "linear", *NEW)
    lines = out.splitlines()
    assert lines[0] == "linear 1: linear(%9, layer0.attn_wqkv), line %11 of the tape"
    stages = [re.findall(r"^5 positions: (\w+) [\d,]+ ns; ", line) for line in lines[1:-1]]
    assert stages == [["prepare"], ["forward"], ["backward"]]


# --- the survey -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("source", [NEW, ["m.safetensors"], ["fast.json"]])
def test_the_survey_names_all_stages_and_adds_up(capsys: pytest.CaptureFixture[str], source: list[str]) -> None:
    out, _ = printed(capsys, *source)
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(STAGES)] == list(STAGES)
    start = next(place for place, line in enumerate(lines) if line.lstrip().startswith("forward"))
    end = next(place for place, line in enumerate(lines) if line.startswith("sum"))
    table = [[int(cell.replace(",", "")) for cell in line.split()[-10:-2]] for line in lines[start + 1 : end + 1]]
    *rows, total = [row[2:] for row in table]
    assert [sum(column) for column in zip(*rows, strict=True)] == total
    assert sum(total) > 0
    assert lines[end + 1].startswith("whole step")


@pytest.mark.slow
def test_operations_that_are_alike_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    deep = [argument.replace("n-layer=1", "n-layer=2") for argument in NEW]
    tables = [
        [line for line in printed(capsys, *arguments)[0].splitlines() if " x " in line] for arguments in (NEW, deep)
    ]
    assert [len(table) for table in tables] == [2, 8]
    assert [line.partition(" x ")[2].split()[0] for line in tables[1]] == ["5", "5", "2", "2", "2", "2", "2", "2"]


# --- models and what is no model --------------------------------------------------------------------------------


def test_a_model_whose_data_is_gone_shows_strings_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "fast.json", "--stage", "text")
    own = tapegpt.load("fast.json").generate(10, seed=0, min_length=1)
    assert out.splitlines()[1:11] == [f"  {text}" for text in own]
    assert err.endswith(": strings of its own stand for the data\n")
    assert printed(capsys, "fast.json", "--stage", "tape")[1] == ""


def test_a_model_keeps_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--n-embd=8", "--engine=fast", "--dataset=names", "--unique", "--max-length=3"):
        error = refused(capsys, "m.safetensors", option)
        assert error.startswith(f"tapegpt: error: {option.partition('=')[0]} is not about a model as it is")


@given(st.binary(max_size=80) | st.sampled_from((b"\x10\0\0\0\0\0\0\0{", b'{"tapegpt": 1}', b"[1, 2]", b"{\n")))
def test_any_file_is_shown_or_refused(content: bytes) -> None:
    Path("any").write_bytes(content)
    assert main(["show", "--stage", "text", "any"]) in (0, 2)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--op", "softmax"], "operation must be one of embedding, add"),
        (["--op", "linear 6"], "operation must be one of linear 1 to linear 5, a line of the tape"),
        (["--op", "relu", "--stage", "tokens"], "--op is about the stages tape, kernels, llvm, asm, wasm, not tokens"),
        (["--stage", "source"], "--stage must be one of text, tokens"),
        (["--n-gram", "2"], "--n-gram needs the engine fast, not exact"),
        (["--n-embd", "7"], "--n-embd must be a multiple of --n-head"),
    ],
)
def test_what_cannot_be_shown_is_a_line(capsys: pytest.CaptureFixture[str], arguments: list[str], error: str) -> None:
    assert refused(capsys, *arguments, "names.txt").startswith(f"tapegpt: error: {error}")


def test_a_file_that_is_not_there_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere: no such file" in refused(capsys, "nowhere")
