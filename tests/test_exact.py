"""The exact engine: == microgpt.py's published numbers, == the reference engine, on every vector unit."""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import Config, Corpus, DivergedError, Random, Trainer
from tapegpt.engine import Adam, Engine, Parameters, Tokens
from tapegpt.exact import ExactEngine
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import INTERPRETED, Target
from tapegpt.reference import ReferenceEngine

HOST = host_target()
OTHERS = [*available(HOST)[1:], INTERPRETED.replaced(vector_bytes=16, fma=True, certified=True)]


def parameters(config: Config, vocab_size: int, rng: random.Random, deviation: float = 0.3) -> Parameters:
    return {
        name: array("d", [rng.gauss(0, deviation) for _ in range(rows * columns)])
        for name, (rows, columns) in config.shapes(vocab_size).items()
    }


def documents(vocab_size: int, rng: random.Random, *lengths: int) -> Tokens:
    """Random documents of these lengths."""
    bos = vocab_size - 1
    ids, starts = array("I", [bos]), array("q", [0])
    for length in lengths:
        ids.extend([rng.randrange(bos) for _ in range(length)] + [bos])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)


def outcome(engine: Engine, start: Parameters, tokens: Tokens, steps: int) -> tuple[list[float], object, object]:
    engine.load_parameters(start)
    losses = engine.train(tokens, Adam(steps=steps), 0, steps)
    strings = engine.generate(Random(7), 3, 0.7)
    return losses, {name: values.tolist() for name, values in engine.parameters().items()}, strings


def test_the_published_run(shared: Path) -> None:
    def numbers(name: str) -> list[float]:
        return [float.fromhex(line) for line in (shared / "oracle" / name).read_text().split()]

    trainer = Trainer(Corpus.read(shared / "data" / "names.txt"), Config())
    assert trainer.run(1000) == numbers("names_default_losses.hex")
    flat = [number for values in trainer.model.parameters.values() for number in values]
    assert flat == numbers("names_default_params.hex")
    assert trainer.model.generate(20) == (shared / "oracle" / "names_default_samples.txt").read_text().split()


def test_the_run_on_the_embedded_names() -> None:
    """The same facts for a checkout that is alone; the reference engine computed them in its 200 seconds."""
    trainer = Trainer(Corpus.dataset("names"), Config())
    losses = trainer.run(1000)
    assert [loss.hex() for loss in losses[:3]] == FIRST_LOSSES
    assert losses[-1].hex() == LAST_LOSS
    flat = b"".join(values.tobytes() for values in trainer.model.parameters.values())
    assert hashlib.sha256(flat).hexdigest() == DIGEST
    assert trainer.model.generate(5) == STRINGS


FIRST_LOSSES = ["0x1.b2b63a6bce44ep+1", "0x1.a3c4d0494ed2ep+1", "0x1.967c2d4d6a894p+1"]
LAST_LOSS = "0x1.12c33f99d65a1p+1"
DIGEST = "1eafd03b71c863ab88ac7fd8d998c6b776a3b512b3feae368079a54320730efe"
STRINGS = ["shela", "marin", "selele", "lela", "arynen"]


def heads_of(width: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.sampled_from([(width, heads) for heads in range(1, width + 1) if width % heads == 0])


@settings(max_examples=10)
@given(
    st.integers(1, 3), st.integers(4, 18).flatmap(heads_of), st.integers(2, 12), st.integers(2, 30), st.integers(0, 999)
)
def test_equals_the_reference(layers: int, width: tuple[int, int], block: int, vocab_size: int, seed: int) -> None:
    config = Config(layers, width[0], width[1], block)
    rng = random.Random(seed)
    start = parameters(config, vocab_size, rng)
    tokens = documents(vocab_size, rng, 1, rng.randrange(1, block + 1), block + 3)
    exact = outcome(ExactEngine(config, vocab_size), start, tokens, 3)
    assert exact == outcome(ReferenceEngine(config, vocab_size), start, tokens, 3)


@pytest.mark.parametrize(
    ("config", "length"), [(Config(1, 12, 3, 32), 40), (Config(1, 48, 4, 3), 2), (Config(1, 33, 11, 2), 5)], ids=repr
)
def test_equals_the_reference_where_loops_are_long(config: Config, length: int) -> None:
    rng = random.Random(1)
    start, tokens = parameters(config, 70, rng), documents(70, rng, length)
    exact, reference = ExactEngine(config, 70), ReferenceEngine(config, 70)
    for engine in (exact, reference):
        engine.load_parameters(start)
    adam = Adam(steps=2)
    assert exact.train(tokens, adam, 0, 2) == reference.train(tokens, adam, 0, 2)
    assert exact.parameters() == reference.parameters()


@pytest.mark.parametrize("target", OTHERS, ids=lambda t: f"{t.name}-{8 * t.vector_bytes}-{t.certified}")
@pytest.mark.parametrize("config", [Config(1, 8, 2, 4), Config(2, 10, 2, 9)], ids=repr)
def test_every_vector_unit_gives_the_same_bits(target: Target, config: Config) -> None:
    rng = random.Random(2)
    steps = 2 if target.name == "interpreted" else 30
    block = config.block_size
    start, tokens = parameters(config, 11, rng), documents(11, rng, 1, block - 1, block, block + 3)
    assert outcome(ExactEngine(config, 11, target), start, tokens, steps) == outcome(
        ExactEngine(config, 11), start, tokens, steps
    )


@pytest.mark.parametrize("text", [["a"], ["aaaaaaaaaaaaaaaaaaaaaaaa", "a"], ["żółw", "🐢 черепаха", "亀", "e\u0301"]])
def test_odd_corpora(text: list[str]) -> None:
    corpus = Corpus.of(text)
    runs = [Trainer(corpus, Config(1, 4, 2, 6), steps=5, engine=engine) for engine in ("exact", "reference")]
    assert runs[0].run(5) == runs[1].run(5)
    assert runs[0].model.parameters == runs[1].model.parameters
    assert runs[0].model.generate(4) == runs[1].model.generate(4)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_chunks_change_nothing(cuts: list[int]) -> None:
    steps = sum(cuts)
    corpus = Corpus.of(["anna", "otto", "bob"])
    whole, cut = (Trainer(corpus, Config(1, 8, 2, 8), steps=steps) for _ in range(2))
    assert whole.run(steps) == [loss for count in cuts for loss in cut.run(count)]
    assert whole.model.parameters == cut.model.parameters


def test_divergence_keeps_the_last_good_parameters() -> None:
    corpus = Corpus.of(["anna", "otto", "bob"])

    def run(count: int) -> Trainer:
        trainer = Trainer(corpus, Config(1, 8, 2, 8), steps=50, learning_rate=1000.0)
        trainer.run(count)
        return trainer

    with pytest.raises(DivergedError) as caught:
        run(50)
    good = run(caught.value.step)
    before = good.model.parameters
    assert all(math.isfinite(number) for values in before.values() for number in values)
    with pytest.raises(DivergedError, match="choose a smaller --learning-rate") as again:
        good.run(50)
    assert again.value.losses == []
    assert good.model.parameters == before
    assert good.step == again.value.step == caught.value.step


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    config, rng = Config(1, 4, 1, 4), random.Random(0)
    start, tokens = parameters(config, 3, rng), documents(3, rng, 3)
    start["lm_head"] = array("d", [number * 1e160 for number in start["lm_head"]])
    start["layer0.mlp_fc2"] = array("d", bytes(8 * 64))
    for engine in (ExactEngine(config, 3), ReferenceEngine(config, 3)):
        engine.load_parameters(start)
        with pytest.raises(DivergedError):
            engine.train(tokens, Adam(), 0, 1)
        assert engine.parameters() == start
