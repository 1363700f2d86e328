"""Models that are mixed with an n-gram model: trained as without it, and in all else the mixture of both."""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt import Config, Corpus, Random, TapeGPTError
from tapegpt.autograd import SGD
from tapegpt.autograd.tape import Tape
from tapegpt.data.ngrams import make_trie
from tapegpt.data.trie import COLUMNS, Trie
from tapegpt.engines.base import Adam, Parameters
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference.explanation import explain
from tapegpt.inference.forward import Inference
from tapegpt.models.trained import initialise
from tapegpt.training.trainer import Trainer
from tests.languages import RomanNumerals

CORPUS = Corpus.of(RomanNumerals().sample(60, seed=1))
VOCAB, ROWS = CORPUS.vocab_size, 300
PLAIN = Config(n_embd=8, n_head=2, block_size=6)  # most documents are longer
MIXED = PLAIN.replace(kn_share=0.4, kn_rows=ROWS)
TOKENS = CORPUS.windows(MIXED.block_size)
COUNTS = make_trie(CORPUS, VOCAB, ROWS)
SETTINGS: Any = {"engine": "fast", "steps": 24, "batch_size": 4, "threads": 1, "validation": 0.2}


def started(config: Config) -> FastEngine:
    engine = FastEngine(config, VOCAB, 4)
    fixed: Parameters = {"kn_counts": COUNTS} if config.kn_share else {}
    initialise(engine, config, VOCAB, Random(3), 0.3, fixed)
    return engine


def mixture() -> list[float]:
    """Of each token -log of the mixture, by both models."""
    parameters = started(PLAIN).parameters()
    network = Inference(PLAIN, VOCAB, parameters).surprises(TOKENS)
    columns = [COUNTS[row * ROWS : (row + 1) * ROWS] for row in range(COLUMNS)]
    result = []
    for number in range(len(TOKENS)):
        first, last = TOKENS.starts[number : number + 2]
        for at in range(first, last):
            p = Trie.distribution(columns, TOKENS.ids[first : at + 1].tolist(), VOCAB)[TOKENS.ids[at + 1]]
            result.append(-math.log(0.6 * math.exp(-network[at]) + 0.4 * p))
    return result


@pytest.mark.slow
def test_scores_and_losses_are_those_of_the_mixture() -> None:
    engine, expected = started(MIXED), mixture()
    assert Inference(MIXED, VOCAB, engine.parameters()).surprises(TOKENS) == pytest.approx(expected, rel=1e-5)
    total, count = engine.evaluate(TOKENS)
    assert total == pytest.approx(math.fsum(expected), rel=1e-5)
    assert count == len(expected)


@pytest.mark.slow
def test_the_reference_and_the_probe_agree() -> None:
    engine, reference = started(MIXED), ReferenceEngine(MIXED, VOCAB)
    reference.load_parameters(engine.parameters())
    model = tapegpt.GPT(MIXED, CORPUS.vocabulary, Random(1), engine)
    for text in CORPUS.documents[:4]:
        document = [VOCAB - 1, *CORPUS.vocabulary.encode(text), VOCAB - 1][: MIXED.block_size + 1]
        loss = reference.loss(document)
        reference.backward()
        seen = explain(model, text)
        assert seen.loss == pytest.approx(loss.data, rel=1e-12)
        (path,) = [norms for stage, norms in seen.gradients if stage == "embedding"]
        rows = reference.stages()["embedding"]
        assert path == pytest.approx([math.hypot(*(x.grad for x in row)) for row in rows], rel=1e-9)


@pytest.mark.parametrize("threads", [1, 2])
def test_training_is_that_of_the_network_alone(threads: int) -> None:
    adam, results = Adam(steps=20, weight_decay=0.1), []
    for config in (PLAIN, MIXED):
        engine = FastEngine(config, VOCAB, 4, threads)
        engine.load_parameters(started(config).parameters())
        losses = engine.train(TOKENS, adam, 0, 20)
        results.append((losses, {name: each for name, each in engine.parameters().items() if name != "kn_counts"}))
        if config is MIXED:
            assert engine.parameters()["kn_counts"] == pytest.approx(COUNTS, rel=1e-7)
    assert results[0] == results[1]


def test_strings_are_drawn_from_the_mixture() -> None:
    """Token by token the most probable one, from both kernels that draw strings."""
    model = tapegpt.GPT(MIXED, CORPUS.vocabulary, Random(1), started(MIXED))
    wanted = ""
    while len(wanted) < MIXED.block_size and (best := next(iter(model.next_probabilities(wanted)))):
        wanted += best
    assert len(wanted) > 1
    assert model.generate(3, temperature=0.001) == [wanted] * 3
    assert model.generate(1, temperature=0, max_length=6) == [wanted]


def test_a_table_of_any_numbers_is_read_within_its_bounds() -> None:
    engine, rng = started(MIXED), Random(5)
    for scale in (1.0, 1e3, 1e30):
        table = rng.gauss_array(COLUMNS * ROWS, 0.0, scale)
        engine.load_parameters({**engine.parameters(), "kn_counts": table})
        engine.evaluate(TOKENS)
        engine.generate(Random(1), 20, 1.0)


def test_an_empty_table_is_a_uniform_model() -> None:
    engine = started(MIXED)
    network = Inference(PLAIN, VOCAB, started(PLAIN).parameters()).surprises(TOKENS)
    engine.load_parameters({**engine.parameters(), "kn_counts": array("d", bytes(8 * COLUMNS * ROWS))})
    expected = math.fsum(-math.log(0.6 * math.exp(-each) + 0.4 / VOCAB) for each in network)
    assert engine.evaluate(TOKENS)[0] == pytest.approx(expected, rel=1e-5)


def test_a_training_counts_what_it_learns_from_and_resumes(tmp_path: Path) -> None:
    whole = Trainer(CORPUS, MIXED, **SETTINGS)
    assert whole.model.parameters["kn_counts"] == array("d", array("f", make_trie(whole.training, VOCAB, ROWS)))
    whole.run(24)
    part = Trainer(CORPUS, MIXED, **SETTINGS)
    part.run(10)
    part.evaluate()
    path = tmp_path / "model.safetensors"
    part.keep(lambda model: model.save(path))
    loaded = tapegpt.load(path)
    assert loaded.parameters == part.model.parameters
    resumed = Trainer.resume(loaded, CORPUS)
    resumed.run(14)
    assert resumed.model.parameters == whole.model.parameters


def test_finetuning_on_new_characters_counts_anew() -> None:
    model = tapegpt.train(CORPUS, model=MIXED, **SETTINGS)
    same = Trainer.finetune(model, CORPUS.replace(documents=["XX", "XI"]), Trainer(CORPUS, MIXED, **SETTINGS).settings)
    assert same.model.parameters["kn_counts"] == model.parameters["kn_counts"]
    other = Corpus.of(["ab", "ba", "XVI", "ab"])
    anew = Trainer.finetune(model, other, same.settings.replace(validation=0.0))
    expected = make_trie(anew.training, anew.model.vocab_size, ROWS)
    assert anew.model.parameters["kn_counts"] == array("d", array("f", expected))


def test_a_tape_of_ones_own_leaves_a_fixed_parameter_as_it_is() -> None:
    tape = Tape(3)
    x, tokens = tape.input("x", 3), tape.indices("tokens")
    counts = tape.parameter("counts", 1, 3, start=2.0, fixed=True)
    loss = tape.cross_entropy(x.linear("w", 3) + counts, tokens)
    step = tape.compile(loss, SGD(learning_rate=0.5, weight_decay=0.5))
    step(steps=3, x=[[1.0, 2.0, 3.0]] * 3, tokens=[0, 1, 2])
    assert tape.read(counts) == [[2.0, 2.0, 2.0]]
    with pytest.raises(TapeGPTError, match="has no gradient"):
        tape.gradient(counts)


def test_other_engines_refuse_it() -> None:
    with pytest.raises(TapeGPTError, match="kn_share needs the engine fast, not exact"):
        tapegpt.train(["ab", "ba"], kn_share=0.3)
    with pytest.raises(TapeGPTError, match=f"kn_rows must be at least {VOCAB + 3}, for single tokens, not 8"):
        tapegpt.train(CORPUS, kn_share=0.3, kn_rows=8, engine="fast", steps=1)
