"""A model beside data: each figure against a naive one, and the page and JSON that the command prints."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unicodedata import combining, east_asian_width

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Corpus, Random, TapeGPTError
from tapegpt.analysis import evaluation
from tapegpt.analysis.evaluation import EvaluationReport, evaluate
from tapegpt.cli import main
from tapegpt.cli.eval import WIDTH, page
from tapegpt.data.holdout import hold_out
from tapegpt.data.ngrams import baselines
from tapegpt.training.presets import resolve
from tapegpt.training.trainer import Trainer
from tests.data.distances import edits
from tests.properties import many

NAMES = ["anna", "otto", "bob", "nana", "tonto", "abba", "banana", "annabo", "noon", "anna"]
CONFIG, SETTINGS = resolve({"steps": 60, "n_embd": 8, "n_head": 2, "block_size": 7, "validation": 0.3})


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for this module, which is the current one."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("evaluation")
    os.chdir(path)
    yield path
    os.chdir(former)


@pytest.fixture(scope="module")
def trainer(place: Path) -> Trainer:
    """A training of a file with some strings held out, done and kept."""
    (place / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    trainer = Trainer(Corpus.read("names.txt"), CONFIG, SETTINGS)
    for _ in trainer.chunks():
        pass
    trainer.keep(lambda model: tapegpt.save(model, "m.safetensors"))
    return trainer


def forgetful(trainer: Trainer) -> GPT:
    """The model without what it was trained on."""
    return GPT(CONFIG, trainer.model.vocabulary, Random(1), trainer.model.engine)


# --- the figures ------------------------------------------------------------------------------------------------


def test_the_training_file_is_told_apart_as_the_training_did(trainer: Trainer) -> None:
    held_out = trainer.held_out
    assert held_out is not None
    report = evaluate(tapegpt.load("m.safetensors"), Corpus.read("names.txt"), samples=50)
    assert (report.strings, report.distinct, report.training) == (10, 9, len(trainer.training))
    assert {name: loss.strings for name, loss in report.losses.items()} == {
        "new": len(held_out),
        "trained on": len(trainer.training),
    }
    best = trainer.best
    assert best is not None
    assert report.losses["new"].loss == pytest.approx(best.loss, rel=1e-5)
    total, count = trainer.model.engine.evaluate(trainer.training.windows(CONFIG.block_size))
    assert report.losses["trained on"].loss == pytest.approx(total / count, rel=1e-5)
    comparison = report.comparison
    assert comparison is not None
    assert comparison.learned_from == "training data"
    assert comparison.losses == {"model": report.losses["new"].loss, **trainer.baselines()}


def test_what_was_learned_by_heart(trainer: Trainer) -> None:
    assert trainer.held_out is not None
    model = tapegpt.load("m.safetensors")
    memory = evaluate(model, Corpus.read("names.txt"), samples=200, temperature=0.7, seed=3).memory
    generated, learned = model.generate(200, temperature=0.7, seed=3), trainer.training.documents
    assert (memory.samples, memory.temperature) == (200, 0.7)
    assert memory.copies == sum(text in learned for text in generated)
    assert memory.repeated == 200 - len(set(generated))
    nearest = [min(edits(text, document) for document in learned) for text in generated]
    assert memory.distances == dict(Counter(nearest))
    assert memory.real == dict(Counter(min(edits(t, d) for d in learned) for t in trainer.held_out.documents))
    assert list(memory.distances) == sorted(memory.distances)
    others = [text for text in generated if text not in learned]
    assert [example.text for example in memory.examples] == others[: evaluation.EXAMPLES]
    some = evaluate(model, Corpus.of([*NAMES, *(f"n{'a' * number}" for number in range(20))]), samples=5).memory
    assert some.real is not None
    assert sum(some.real.values()) <= 5
    for example in memory.examples:
        assert example.nearest in learned
        assert edits(example.text, example.nearest) == example.distance > 0


def test_distributions(trainer: Trainer) -> None:
    corpus = Corpus.of(["anna", "ottobob", "a"])
    report = evaluate(trainer.model, corpus, samples=100, seed=5)
    generated = trainer.model.generate(100, temperature=1.0, seed=5)
    for distribution, of in ((report.lengths, lambda s: [str(len(t)) for t in s]), (report.characters, "".join)):
        for shares, strings in ((distribution.data, corpus.documents), (distribution.generated, generated)):
            values = of(strings)
            assert shares == {value: values.count(value) / len(values) for value in set(values)}
        every = {*distribution.data, *distribution.generated}
        more = [value for value in every if distribution.data.get(value, 0) > distribution.generated.get(value, 0)]
        # The event that tells the two apart best is that of all values which one of them has more of.
        best = sum(distribution.data[value] - distribution.generated.get(value, 0) for value in more)
        assert distribution.distance == pytest.approx(best)
        assert 0 < distribution.chance < 0.5


def test_chance_is_small_for_many_samples(trainer: Trainer) -> None:
    report = evaluate(trainer.model, Corpus.of(NAMES), samples=2000)
    assert report.lengths.chance < 0.05 < report.lengths.distance


def test_unknown_characters_are_counted_and_left_out(trainer: Trainer) -> None:
    report = evaluate(trainer.model, Corpus.of(["xaver", "anna", "bob", "öö", "ab"]), samples=5)
    assert report.losses["new"].unknown == 2
    plain = evaluate(trainer.model, Corpus.of(["anna", "bob", "ab"]), samples=5)
    assert report.losses["new"].loss == plain.losses["new"].loss
    assert report.losses["trained on"] == plain.losses["trained on"]
    nothing = evaluate(trainer.model, Corpus.of(["x"]), samples=5)
    assert (nothing.losses["new"].strings, nothing.losses["new"].loss, nothing.comparison) == (0, None, None)


def test_without_the_training_data_half_of_the_data_takes_their_place(trainer: Trainer) -> None:
    report = evaluate(forgetful(trainer), Corpus.of(NAMES), samples=100)
    assert (report.training, list(report.losses)) == (None, ["all"])
    assert "does not know what it was trained on" in str(report.reason)
    comparison, memory = report.comparison, report.memory
    assert comparison is not None
    assert comparison.learned_from == "half of the data"
    assert comparison.strings == len(hold_out(Corpus.of(NAMES), 0.5, 0)[1]) == 4
    assert list(comparison.losses) == ["model", "uniform", "unigram", "bigram", "5-gram"]
    assert comparison.losses["uniform"] == math.log(trainer.model.vocab_size)
    assert memory.real is None
    assert memory.copies == sum(text in NAMES for text in forgetful(trainer).generate(100, temperature=1.0, seed=0))
    assert evaluate(forgetful(trainer), Corpus.of(["anna", "anna"]), samples=5).comparison is None


def test_few_are_compared_where_the_training_data_are_many(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "PAIRS", 10 * len(set(trainer.training.documents)))
    memory = evaluate(tapegpt.load("m.safetensors"), Corpus.read("names.txt"), samples=200).memory
    assert memory.samples == 200
    assert sum(memory.distances.values()) == 10


def test_the_same_seed_gives_the_same_report(trainer: Trainer) -> None:
    corpus = Corpus.of(NAMES)
    assert evaluate(trainer.model, corpus, samples=30, seed=1) == evaluate(trainer.model, corpus, samples=30, seed=1)
    assert evaluate(trainer.model, corpus, samples=30, seed=1) != evaluate(trainer.model, corpus, samples=30, seed=2)


@cache
def of_odd_characters() -> tapegpt.GPT:
    with pytest.warns(tapegpt.TapeGPTWarning, match="control characters"):
        return tapegpt.train(["anna", "語語", "\x07b"], steps=5, n_embd=8, n_head=2, block_size=6)


@given(
    st.lists(st.text(st.characters(exclude_categories=()), max_size=40), min_size=1).filter(
        lambda s: "".join(s).strip()
    )
)
@settings(max_examples=many(50))
def test_any_data_have_a_page_that_fits(strings: list[str]) -> None:
    report = evaluate(of_odd_characters(), Corpus.of(strings), samples=5)
    for line in page(report):
        assert line.replace("\N{NO-BREAK SPACE}", " ").isprintable()
        assert sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in line) <= WIDTH
    json.dumps(report.as_json(), allow_nan=False)


# --- the command ------------------------------------------------------------------------------------------------


def quote(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    assert main(["eval", *arguments]) == 0
    return capsys.readouterr().out


def test_json_is_the_report(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    assert trainer.step
    options = ("--samples", "40", "--temperature", "0.8", "--seed", "7")
    found = json.loads(quote(capsys, "m.safetensors", "names.txt", "--json", *options))
    report = evaluate(tapegpt.load("m.safetensors"), Corpus.read("names.txt"), samples=40, temperature=0.8, seed=7)
    assert found == report.as_json()
    assert set(found) == set(EvaluationReport.fields)


def test_the_page_says_what_the_report_does(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    assert trainer.step
    report = evaluate(tapegpt.load("m.safetensors"), Corpus.read("names.txt"))
    text = quote(capsys, "m.safetensors", "names.txt")
    assert text.splitlines() == list(page(report))
    loss = report.losses["new"].loss
    assert loss is not None
    assert f"loss              {loss:.4f} nats per token, perplexity {math.exp(loss):.2f}, on" in text
    assert f"copies            {report.memory.copies:,}, " in text
    assert f"they differ by {report.lengths.distance:.3f}, by chance {report.lengths.chance:.3f}" in text


def test_training_data_can_be_given(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    tapegpt.save(forgetful(trainer), "bare.safetensors")
    Path("some.txt").write_text("\n".join(NAMES[:4]), encoding="utf-8")
    without = json.loads(quote(capsys, "bare.safetensors", "names.txt", "--json"))
    assert (without["training"], list(without["losses"])) == (None, ["all"])
    found = json.loads(quote(capsys, "bare.safetensors", "names.txt", "--json", "--training-data", "some.txt"))
    assert (found["training"], found["reason"]) == (4, None)
    assert (found["losses"]["trained on"]["strings"], found["losses"]["new"]["strings"]) == (5, 5)
    vocabulary = trainer.model.vocabulary
    learned, judged = Corpus(NAMES[:4], vocabulary), Corpus(NAMES[4:9], vocabulary)
    losses = found["comparison"]["losses"]
    assert {name: loss for name, loss in losses.items() if name != "model"} == baselines(
        learned, judged, len(vocabulary) + 1
    )


def test_what_cannot_be_done(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    assert trainer.step
    cases = {
        "m.safetensors": "there is nothing to compare the model with: give DATA, or --dataset NAME",
        "m.safetensors names.txt --samples 0": "--samples must be a whole number from 1 on, not 0",
        "m.safetensors names.txt --temperature -1": "--temperature must be",
        "missing names.txt": "missing: no such file",
        "m.safetensors missing": "missing: no such file",
        "m.safetensors names.txt --training-data missing": "missing: no such file",
    }
    for arguments, message in cases.items():
        assert main(["eval", *arguments.split()]) == 2
        assert capsys.readouterr().err.startswith(f"tapegpt: error: {message}")
    with pytest.raises(TapeGPTError, match="samples must be a whole number from 1 on"):
        evaluate(trainer.model, Corpus.of(NAMES), samples=2.0)  # type: ignore[arg-type]
