"""A model is written once: with another activation in its forward pass everything that looks at a model follows."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tapegpt
from tapegpt.analysis.anatomy import STAGES, code
from tapegpt.analysis.attribution import attribute, verify
from tapegpt.autograd.model import Model
from tapegpt.autograd.value import softmax
from tapegpt.cli import main
from tapegpt.cli.show import STAGES as SHOWN
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference.explanation import explain, trace
from tapegpt.models.gpt import GPT
from tapegpt.models.trained import make_engine
from tapegpt.training.recording import still
from tests.studio.server import running

if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva", "nathan", "eva", "bonnie", "tobias"]
TEXT = "anna"
each_engine = pytest.mark.parametrize("engine", ["exact", "fast"])


class TanhGPT(GPT):
    """microgpt.py's GPT with tanh where it has ReLU."""

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        d = self.n_embd
        wte, wpe = tape.parameter("wte", vocab_size, d), tape.parameter("wpe", self.block_size, d)
        x = (tape.embedding(wte, tokens) + tape.embedding(wpe, positions)).rmsnorm()
        for layer in range(self.n_layer):
            h = x.rmsnorm()
            q, k, v = (h.linear(f"layer{layer}.attn_{w}", d) for w in ("wq", "wk", "wv"))
            x = tape.attention(q, k, v, self.n_head).linear(f"layer{layer}.attn_wo", d) + x
            h = x.rmsnorm().linear(f"layer{layer}.mlp_fc1", 4 * d).tanh()
            x = h.linear(f"layer{layer}.mlp_fc2", d) + x
        return x.linear("lm_head", vocab_size)


@cache
def trained(engine: str) -> tapegpt.GPT:
    """tapegpt.GPT at such a rate that the activation matters."""
    settings = {"n_embd": 8, "n_head": 2, "block_size": 8, "steps": 60, "learning_rate": 0.05}
    return tapegpt.train(NAMES, model=TanhGPT, engine=engine, **settings)  # type: ignore[arg-type]


def tokens_of(model: tapegpt.GPT, text: str) -> list[int]:
    bos = model.vocab_size - 1
    return [bos, *model.vocabulary.encode(text), bos]


def scalars(model: tapegpt.GPT) -> ReferenceEngine:
    """The same parameters, number by number."""
    engine = ReferenceEngine(model.config, model.vocab_size)
    engine.load_parameters(model.parameters)
    return engine


def evaluated(model: tapegpt.GPT, config: Model) -> float:
    """The loss of the text with the model's parameters in its engine."""
    engine = make_engine(model.engine.name, config, model.vocab_size)
    parameters = model.parameters
    engine.load_parameters({name: parameters[name] for name in config.shapes(model.vocab_size)})
    total, count = engine.evaluate(tapegpt.Corpus([TEXT], model.vocabulary).tokens())
    return total / count


@pytest.mark.slow
@each_engine
def test_scores_explanations_and_evaluations_are_the_scalars(engine: str) -> None:
    model = trained(engine)
    expected = scalars(model).loss(tokens_of(model, TEXT)).data
    assert explain(model, TEXT).loss == trace(model, TEXT, "loss").value == expected
    assert model.score([TEXT])[0].nats == pytest.approx(expected, rel=1e-5)
    assert evaluated(model, model.config) == pytest.approx(expected, rel=1e-12 if engine == "exact" else 1e-5)
    relu = GPT(**model.config.as_dict())
    assert abs(evaluated(model, relu) - expected) > 0.01  # which nothing above may be


@pytest.mark.slow
@each_engine
def test_constrained_strings_come_as_often_as_the_scalars_say(engine: str) -> None:
    model, count = trained(engine), 4000
    reference, end = scalars(model), model.vocab_size - 1
    chances = {}
    for text in map("".join, itertools.product("abo", "nv", "aeo")):
        tokens = tokens_of(model, text)
        rows = [softmax(row) for row in reference.logits(tokens)]
        chances[text] = math.prod(row[token].data for row, token in zip(rows, [*tokens[1:-1], end], strict=True))
    found = Counter(model.generate(count, seed=1, temperature=1.0, pattern="[abo][nv][aeo]", unbiased=True))
    assert set(found) <= set(chances)
    for text, chance in chances.items():
        share = chance / sum(chances.values())
        assert abs(found[text] - count * share) < 5 * math.sqrt(count * share * (1 - share)) + 1


@pytest.mark.slow
@each_engine
@pytest.mark.parametrize("stage", SHOWN)
def test_every_stage_is_shown(engine: str, stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "m.safetensors")
    tapegpt.save(trained(engine), path)
    operation = ["--op", "tanh"] if stage in ("kernels", "llvm", "asm", "wasm") else []
    assert main(["show", path, "--model", f"{__file__}:TanhGPT", "--stage", stage, *operation]) == 0
    out = capsys.readouterr().out
    if stage in ("tape", "kernels"):
        assert "tanh" in out
    assert stage != "tape" or "relu" not in out


@pytest.mark.slow
@each_engine
def test_training_again_comes_to_the_same(engine: str) -> None:
    model = trained(engine)
    attribution = attribute(model, TEXT, top=3)
    assert attribution.loss == explain(model, TEXT).loss
    assert attribution.taught[0].document == TEXT
    assert verify(model, attribution, draws=2).taught > 0  # which raises where other weights come out


@pytest.mark.slow
@each_engine
def test_the_studio_shows_it(engine: str) -> None:
    model = trained(engine)
    with running() as client:
        kept = client.studio.add_recording(still(model))
        run = client.ask("GET", f"/api/runs/{kept.id}?text={TEXT}")
        assert run["moment"]["explanation"]["loss"] == pytest.approx(explain(model, TEXT).loss, rel=1e-3)
        assert run["model"] == "test_one_forward.py:TanhGPT"
        for stage in STAGES:
            shown = client.ask("GET", f"/api/runs/{kept.id}/code?operation=tanh&stage={stage}")
            assert shown["text"] == code(model, "tanh", stage)["text"]
            assert "relu" not in shown["operations"]
