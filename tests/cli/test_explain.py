"""`tapegpt explain`: what it prints, as text and as JSON, and what it refuses."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt.cli import main
from tapegpt.cli.explain import HEIGHTS, page
from tapegpt.inference.explanation import Explanation, explain, stages, trace
from tapegpt.text import columns
from tests.properties import many

NAMES = ["anna", "otto", "bob", "nana", "a b", "🐢b\n界", "éa\u0301"]
VOCABULARY = "".join(sorted(set("".join(NAMES))))


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with models, which is the current one."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("explain")
    os.chdir(path)
    shape = {"n_layer": 2, "n_embd": 4, "n_head": 2, "block_size": 4}
    tapegpt.save(tapegpt.train(NAMES, steps=20, **shape), "m.safetensors")  # type: ignore[arg-type]
    yield path
    os.chdir(former)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[str], str]:
    assert main(["explain", "m.safetensors", *arguments]) == 0
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err


@pytest.mark.slow
def test_each_place_says_what_came_and_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    lines, err = printed(capsys, "bob", "--top", "3")
    found = explain(tapegpt.load("m.safetensors"), "bob")
    assert err == ""
    assert lines[0].startswith(f"bob: {found.loss:.3f} nats per token, perplexity ")
    for line, target, row, nats in zip(lines[3:7], "bob⏎", found.probabilities, found.surprises, strict=True):
        came, share, surprise, bar, *likely = line.split()
        tokens = [*VOCABULARY.replace(" ", "␣"), "⏎"]
        ranked = sorted(tokens, key=lambda token: -row[tokens.index(token)])
        assert (came, float(surprise)) == (target, round(nats, 2))
        assert abs(float(share.rstrip("%")) / 100 - row[tokens.index(target)]) < 0.006
        assert abs(len(bar) - 3 * nats) <= 1
        assert [name for name in likely if not name.endswith("%")] == [
            repr(n)[1:-1] if n == "\n" else n for n in ranked[:3]
        ]


def test_a_model_without_attention_has_no_grids(capsys: pytest.CaptureFixture[str]) -> None:
    tapegpt.save(tapegpt.train(NAMES, model="bigram", steps=2, block_size=4), "bigram.safetensors")
    assert main(["explain", "bigram.safetensors", "bob"]) == 0
    out = capsys.readouterr().out
    assert "look" not in out
    assert out.splitlines()[-1].startswith("logits ")
    assert main(["explain", "bigram.safetensors", "bob", "--trace", "logits[1, 0]"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "row of a table"


def test_each_head_has_a_grid_and_each_stage_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, "bob")
    found = explain(tapegpt.load("m.safetensors"), "bob")
    for layer in range(2):
        at = lines.index(f"layer {layer}  head 0    head 1")
        assert lines[at + 1].split() == ["•bob", "•bob"]
        for t, name in enumerate("•bob"):
            cells = ["".join(HEIGHTS[round(8 * w**0.5)] for w in head[t]) for head in found.attention[layer]]
            assert lines[at + 2 + t].split() == [name, cells[0], name, cells[1]]
    stages_shown = [line.split()[0] for line in lines[-len(found.gradients) :]]
    assert stages_shown == [stage for stage, _ in found.gradients]


@settings(max_examples=many(50))
@given(text=st.text(VOCABULARY, max_size=4))
def test_a_page_is_aligned_and_fits(text: str) -> None:
    model = tapegpt.load("m.safetensors")
    lines = list(page(explain(model, text), 5))
    width = [sum(map(columns, line)) for line in lines]
    assert max(width[1:]) <= 100
    at = next(number for number, line in enumerate(lines) if line.endswith("most probable"))
    assert len(set(width[at + 1 : at + 2 + min(len(text), 3)])) == 1
    assert len({sum(map(columns, line)) for line in lines[-17:]}) == 1


def test_long_texts_leave_out_what_does_not_fit() -> None:
    n = 120
    row = [0.5, 0.5]
    gradients = [("logits", [0.1] * n)]
    long = Explanation("a" * n, ("", *"a" * (n - 1)), ("a",) * n, ("a", ""), [row] * n, [0.7] * n, [[]], gradients, 0.7)
    lines = list(page(long, 5))
    assert max(map(len, lines[1:])) <= 100
    assert "where heads look: 120 positions are too wide for a page, --json has them" in lines
    assert lines[-1].split() == ["logits", "1.10"]


def test_several_strings_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (printed(capsys, text)[0] for text in ("bob", ""))
    assert second[0].startswith("the empty string: ")
    assert printed(capsys, "bob", "")[0] == [*first, "", *second]


def test_a_long_string_is_cut_and_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines, err = printed(capsys, "bobanna", "ann")
    assert err == "tapegpt: note: the model sees 4 characters of 7, the rest is left out\n"
    assert lines[0].startswith("boba: ")


def test_colours_are_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, _ = printed(capsys, "bob")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    coloured, _ = printed(capsys, "bob")
    assert [re.sub(r"\x1b\[[\d;]+m", "", line) for line in coloured] == plain
    assert coloured[0].startswith("\x1b[1mbob\x1b[0m: ")
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed(capsys, "bob")[0] == plain


def test_json_has_all_numbers_of_a_string_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, "bob", "🐢b\n", "--json")
    model = tapegpt.load("m.safetensors")
    for line, text in zip(lines, ("bob", "🐢b\n"), strict=True):
        assert json.loads(line) == json.loads(json.dumps(explain(model, text).as_dict()))


def test_a_trace_shows_products_and_below_them_what_they_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, "bob", "--trace", "layer0.attn_wo[2,1]", "--depth", "2")
    found = trace(tapegpt.load("m.safetensors"), "bob", "layer0.attn_wo[2,1]", 2)
    assert lines[0] == f"layer0.attn_wo[2,1] = {found.value:.6g}, gradient {found.gradient:.6g}"
    assert lines[1] == "sum of 4 products w * x, w = layer0.attn_wo.weight, x = layer0.attention"
    assert lines[2].split() == ["value", "value", "w", "*", "x", "gradient", "of", "w", "of", "x"]
    for column, (line, (w, x)) in enumerate(zip(lines[3:7], found.terms, strict=True)):
        numbers = [f"{number:.4g}" for number in (w.value, x.value, w.value * x.value, w.gradient, x.gradient)]
        first, second, product, *gradients = numbers
        expected = [f"w[1,{column}]", first, "*", f"x[2,{column}]", second, "=", product, *gradients]
        assert line.replace("=", " = ").split() == expected
    assert lines[8].startswith("    layer0.attention[2,0] = ")
    assert lines[9] == "    sum of 3 products w * v, w = layer0.attn_weights, v = layer0.attn_wv"


def test_a_trace_shows_local_gradients_and_characters(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, "bob", "--trace", "probability[1,3]")
    found = trace(tapegpt.load("m.safetensors"), "bob", "probability[1,3]")
    assert lines[0].startswith("probability[1,3] b = ")
    assert lines[1:3] == [f"softmax of {len(VOCABULARY) + 1}", lines[2]]
    for line, each in zip(lines[3:], found.inputs, strict=True):
        name, character, *numbers = line.split()
        token = int(name.rstrip("]").partition(",")[2])
        assert name == each.name
        assert character == {"\n": "\\n", " ": "␣"}.get((*VOCABULARY, "⏎")[token], (*VOCABULARY, "⏎")[token])
        assert numbers == [f"{number:.5g}" for number in (each.value, each.local_gradient, each.gradient)]


def test_a_parameter_has_no_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, "bob", "--trace", "wte[3,2]")
    assert lines[0].startswith("wte[3,2] b = ")
    assert lines[1:] == ["parameter"]


def test_a_trace_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, "bob", "--trace", "loss", "--json")
    found = trace(tapegpt.load("m.safetensors"), "bob", "loss")
    inputs = [{**each.as_dict(), "inputs": []} for each in found.inputs]
    assert [json.loads(line) for line in lines] == [{**found.as_dict(), "inputs": inputs}]


def test_the_list_names_all_that_can_be_traced(capsys: pytest.CaptureFixture[str]) -> None:
    shapes = stages(tapegpt.load("m.safetensors"), "bob")
    lines, _ = printed(capsys, "bob", "--trace", "list")
    assert [line.split(maxsplit=1)[0] for line in lines] == list(shapes)
    assert "layer1.attn_weights         4 x 2 x 4" in lines
    assert "loss                        one number" in lines
    assert json.loads(printed(capsys, "bob", "--trace", "list", "--json")[0][0]) == {
        name: list(shape) for name, shape in shapes.items()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bob", "--top", "0"], "--top must be a whole number from 1 on, not 0"),
        (["xyz"], "text 'xyz': the model does not know 'xyz': leave that out"),
        (["bob", "--trace", "lost"], "there is no number 'lost': --trace list names all there are"),
        (["bob", "--trace", "loss", "--depth", "0"], "--depth must be a whole number from 1 on, not 0"),
        (["bob", "--depth", "2"], "--depth needs --trace: give the name of a number"),
    ],
)
def test_what_it_refuses_takes_a_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["explain", "m.safetensors", *arguments]) == 2
    assert capsys.readouterr() == ("", f"tapegpt: error: {message}\n")
