"""A model as an ES module, run by Node: the engine's strings, the kernels' probabilities, and no text that harms it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from operator import ne
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT, Config
from tapegpt.export.javascript import export
from tests.export.examples import HOSTILE, STRINGS, Exported, trained, untrained
from tests.properties import many

KINDS: list[Any] = [("exact", "gpt"), ("exact", "modern"), ("exact", "mlp"), ("fast", "gpt"), ("fast", "gru")]
SEED = -(2**70) - 3
SCRIPT = """import { generate, score, next } from "./model.mjs";
const tried = (act) => { try { return act(); } catch (error) { return String(error); } };
console.log(JSON.stringify(ASKED));
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """What a script makes of a model's module, as JSON."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")

    def run(model: GPT, script: str) -> Any:
        (tmp_path / "model.mjs").write_bytes(export(model))
        (tmp_path / "script.mjs").write_text(SCRIPT.replace("ASKED", script))
        ran = subprocess.run([node, "script.mjs"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "name"), KINDS)
def test_strings_and_scores_are_the_models_own(engine: Any, name: str, run: Any) -> None:
    """In f32, sums are grouped by the vector width, so that a string may differ now and then."""
    model, n = trained(engine, name), many(10_000, few=300)
    own, vocabulary, near = Exported(model), model.vocabulary, 1e-12 if engine == "exact" else 1e-6
    strings, beyond, scores, following = run(
        model,
        f"[generate({{ n: {n}, seed: {SEED}n, temperature: 1 }}), generate({{ n: 9, seed: '{SEED}', maxLength: 19 }}), "
        f"score({json.dumps(STRINGS)}), next('an')]",
    )
    assert beyond == model.generate(9, seed=SEED, max_length=19)
    wanted = model.generate(n, seed=SEED, temperature=1)
    assert sum(map(ne, strings, wanted)) <= (0 if engine == "exact" else n // 1000)
    for text, score in zip(STRINGS, scores, strict=True):
        surprises, _ = own.read(vocabulary.encode(text))
        assert score["surprises"] == pytest.approx(surprises, rel=near, abs=near)
        assert score["nats"] == pytest.approx(sum(surprises) / len(surprises), rel=near, abs=near)
    _, rows = own.read(vocabulary.encode("an"))
    assert dict(following) == pytest.approx(dict(zip(vocabulary.names, rows[-1], strict=True)), rel=near, abs=near)
    assert following == sorted(following, key=lambda pair: -pair[1])


def test_strings_begin_with_a_prefix_and_labels(run: Any) -> None:
    labels = {"constructor": ["f", "m"] * 4, "</script>": list("aabbaabb")}
    model = tapegpt.train([*STRINGS, "eve"], labels=labels, steps=20, n_embd=4, n_head=1, block_size=8)
    found = run(
        model,
        "[generate({ n: 5, prefix: 'bo', labels: { constructor: 'm', '</script>': 'a' } }), "
        "generate({ n: 5, prefix: 'a' }), generate({ n: 5, labels: { constructor: 'f' } }), "
        "score(['anna'], { constructor: 'f', '</script>': 'a' }).length, "
        "tried(() => score(['anna'])), tried(() => generate({ labels: { constructor: 'x' } })), generate({ seed: 1 })]",
    )
    assert all(text.startswith("bo") for text in found[0])
    assert all(text.startswith("a") for text in found[1])
    assert [len(found[2]), found[3], len(found[6])] == [5, 1, 20]
    assert found[4:6] == [f"RangeError: constructor must be one of f, m, not {what}" for what in ("undefined", "x")]


def test_any_token_is_text(run: Any) -> None:
    text = "".join(HOSTILE)
    strings, [score], following, *errors = run(
        untrained(HOSTILE),
        f"[generate({{ n: 50, temperature: 9 }}), score([{json.dumps(text)}]), next(''), "
        "tried(() => score(['xyz'])), tried(() => next('é'.repeat(5000))), "
        "tried(() => generate({ seed: 2n ** 2048n })), tried(() => generate({ prefix: 'éé', maxLength: 1 })), "
        "tried(() => generate({ maxLength: 4097 })), tried(() => generate({ temperature: NaN })), "
        "tried(() => generate({ labels: { constructor: 'é' } })), tried(() => score(['é'], { constructor: 'é' }))]",
    )
    assert set(HOSTILE) == {token for token in HOSTILE if any(token in string for string in strings)}
    assert len(score["surprises"]) == len(HOSTILE) + 1
    assert {token for token, _ in following} == {*HOSTILE, ""}
    assert errors == [
        'RangeError: the model does not know "x"',
        "RangeError: a string may have 4096 tokens, not 5000",
        "RangeError: a seed of so many digits is too long",
        "RangeError: maxLength must be from 2 to 4096, not 1",
        "RangeError: maxLength must be from 0 to 4096, not 4097",
        "RangeError: temperature must be from 0 to 1000, not NaN",
        *['RangeError: the model has no column "constructor" of labels'] * 2,
    ]


def test_the_default_model_is_small() -> None:
    file = export(untrained(sorted("abcdefghijklmnopqrstuvwxyz"), Config()))
    assert len(file) < 100_000
    assert re.match(rb"// A GPT of 4,192 parameters, exported by tapegpt \d", file)
