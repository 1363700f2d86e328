"""A model as a file of Python: the engine's own strings and probabilities, and what its commands print."""

from __future__ import annotations

import ast
import subprocess
import sys
from operator import ne
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT
from tapegpt.export.python import export
from tapegpt.models import NAMES
from tests.export.examples import HOSTILE, STRINGS, Exported, trained, untrained
from tests.export.test_c import in_order
from tests.properties import many

KINDS: list[Any] = [*[("exact", name) for name in NAMES], ("fast", "gpt"), ("fast", "gru")]
SEED = -(2**70) - 3


def module(model: GPT) -> dict[str, Any]:
    """The names of the file, which is ASCII and of Python 3.8."""
    text = export(model).decode("ascii")
    ast.parse(text, feature_version=(3, 8))
    names: dict[str, Any] = {"__name__": "exported"}
    exec(compile(text, "exported.py", "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "name"), KINDS)
def test_strings_and_probabilities_are_the_models_own(engine: Any, name: str) -> None:
    model, n = trained(engine, name), many(1000, few=30)
    own, names = Exported(model), module(model)
    for length, temperature in ((6, 0.5), (19, 3.0)):
        strings = names["generate"](n, seed=SEED, temperature=temperature, max_length=length)
        wanted = model.generate(n, seed=SEED, temperature=temperature, max_length=length)
        assert sum(map(ne, strings, wanted)) <= (0 if engine == "exact" else n // 1000)
    read = [own.read(model.vocabulary.encode(text)) for text in STRINGS]
    scores, following = names["score"](STRINGS), names["next"](STRINGS[0])
    right = [in_order(surprises) for surprises, _ in read]
    shares = dict(zip(model.vocabulary.names, read[0][1][-1], strict=True))
    if engine == "exact":
        assert (scores, following) == (right, shares)
    assert scores == pytest.approx(right, rel=1e-5)
    assert following == pytest.approx(shares, rel=1e-5)
    assert [*following.values()] == sorted(following.values(), reverse=True)
    assert all(text.startswith("bo") for text in names["generate"](5, "bo"))
    assert len(set(names["generate"](5, temperature=0))) == 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda names: names["generate"](1, "anq"), "the model does not know 'q' in 'anq'"),
        (lambda names: names["generate"](1, "anna", max_length=3), "max_length must be from 4 to 1024, not 3"),
        (lambda names: names["generate"](1, temperature=-1), "temperature must be from 0 to 1000, not -1"),
        (lambda names: names["generate"](1, seed=2**4000), "a seed has at most 64 words of 32 bits"),
        (lambda names: names["score"](["a" * 2000]), "a string may have 1024 tokens, not 2000"),
        (lambda names: names["score"](["anna"], {"sex": "f"}), "the model has no column 'sex' of labels"),
        (lambda names: names["generate"](0, labels={"sex": "f"}), "the model has no column 'sex' of labels"),
    ],
)
def test_what_cannot_be_gives_one_line(call: Any, told: str) -> None:
    names = module(trained("exact", "bigram"))
    with pytest.raises(ValueError, match=told):
        call(names)


def test_any_token_is_text() -> None:
    tokens = sorted([*HOSTILE, '"""', "\\", "\ud800", "{}"])
    names = module(untrained(tokens))
    strings = names["generate"](99, temperature=9, seed=1)
    assert {token for token in tokens if any(token in string for string in strings)} == set(tokens)
    assert set(names["next"]()) == {*tokens, ""}
    assert names["score"](["".join(tokens)])[0] > 1


def test_labels_are_given_or_drawn() -> None:
    labels = {"kind": ["f", "m"] * 4, '"*/': list("aabbaabb")}
    model = tapegpt.train([*STRINGS, "eve"], labels=labels, steps=20, n_embd=4, n_head=1, block_size=8)
    names, both = module(model), {"kind": "m", '"*/': "a"}
    assert names["score"](["anna"], both) == pytest.approx(list(model.score(["anna"], labels=both).nats), rel=1e-5)
    assert all(text.startswith("bo") for text in names["generate"](5, "bo", labels=both))
    assert len(names["generate"](5, "a", labels={"kind": "f"})) == len(names["generate"](5)) == 5
    with pytest.raises(ValueError, match="kind must be one of f, m, not 'x'"):
        names["generate"](1, labels={"kind": "x"})
    with pytest.raises(ValueError, match="kind must be one of f, m, not None"):
        names["score"](["anna"])


def test_it_is_a_program(tmp_path: Path) -> None:
    model, path = trained(), tmp_path / "names.py"
    path.write_bytes(export(model))

    def run(*arguments: str, given: str = "", code: int = 0) -> str:
        command = [sys.executable, "-W", "error", str(path), *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return str(done.stderr if code else done.stdout)

    assert run("-n", "5", "--seed", "3").splitlines() == model.generate(5, seed=3)
    [nats, text] = run("--score", given="anna\n").split()
    assert float(nats) == pytest.approx(model.score(["anna"]).nats[0], abs=1e-3)
    assert text == "anna"
    assert len(run("--next", "--prefix", "an").splitlines()) == model.vocab_size
    assert "the model does not know 'q'" in run("--prefix", "q", code=2)
