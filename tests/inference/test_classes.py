"""Labels that strings probably have: against Bayes' rule by the scalar engine, and the command as typed."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

import tapegpt
from tapegpt import Corpus, Labelled, TapeGPTError, Trainer
from tapegpt.cli import main
from tapegpt.inference import classes
from tapegpt.inference.classes import LEAST_T, MOST_T, _least, temperature
from tests.data.test_labels import BOTH, COUNTRIES, NAMES, SEXES, SHAPE, exact_log, model

COUNTS = Counter(zip(COUNTRIES, SEXES, strict=True))
TEXTS = ["anna", "bob", "tto", "a"]


def posterior(text: str, heat: float = 1.0) -> dict[tuple[str, ...], float]:
    weights = {each: n * math.exp(exact_log(text, each) / heat) for each, n in COUNTS.items()}
    return {each: weight / sum(weights.values()) for each, weight in weights.items()}


@pytest.mark.slow
@pytest.mark.parametrize("cells", [1, 7, 1 << 20])
def test_probabilities_are_those_of_bayes(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "CELLS", cells)
    found = model().classify([TEXTS[0], None, *TEXTS[1:]])
    assert (found.labels[1], list(found)[1]) == (None, {})
    assert math.isnan(found.probabilities[1])
    rows = [*zip(found.labels, found.probabilities, found, strict=True)]
    del rows[1]
    for text, (labels, share, every) in zip(TEXTS, rows, strict=True):
        assert every == pytest.approx(posterior(text), rel=1e-4)
        assert list(every.values()) == sorted(every.values(), reverse=True)
        assert (labels, share) == next(iter(every.items()))
    for place, name in enumerate(BOTH):
        for text, every in zip(TEXTS, model().classify(TEXTS, by=name), strict=True):
            sums = Counter[str]()
            for each, share in posterior(text).items():
                sums[each[place]] += share  # type: ignore[assignment]  # numbers may be floats
            assert every == pytest.approx({(label,): share for label, share in sums.items()}, rel=1e-4)
    (every,) = model().classify(["anna"], by="country", label={"sex": "m"})
    only = {each: share for each, share in posterior("anna").items() if each[1] == "m"}
    assert every == pytest.approx({each[:1]: share / sum(only.values()) for each, share in only.items()}, rel=1e-4)
    assert model().classify([Labelled("bob", ("de", "f"))]).labels == model().classify(["bob"]).labels


@pytest.mark.slow
def test_the_temperature_is_the_best_for_what_was_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made, counts = model(), model().counts
    assert counts is not None
    documents = Corpus.of(NAMES, labels=BOTH).documents

    def nats(heat: float) -> float:
        return -sum(
            math.log(posterior(text, heat)[labels])
            for text, labels in zip(NAMES, zip(COUNTRIES, SEXES, strict=True), strict=True)
        )

    monkeypatch.setattr(classes, "STEPS", 30)
    fitted = temperature(made.inference, made.vocabulary, counts, documents)
    others = [min(max(fitted * factor, LEAST_T), MOST_T) for factor in (0.5, 0.9, 1.1, 2.0)]
    assert nats(fitted) <= min(map(nats, others)) + 1e-4
    assert temperature(made.inference, made.vocabulary, counts, [Labelled("a", ("de", "m"))]) == 1.0  # never seen
    assert _least(lambda x: (x - 0.3) ** 2, -2.0, 2.0) == pytest.approx(0.3, abs=1e-4)
    trainer = Trainer(Corpus.of(NAMES, labels=BOTH), SHAPE, steps=4, validation=0.4)
    list(trainer.chunks())
    assert trainer.model.counts != counts
    kept = tapegpt.loads(tapegpt.dumps(trainer.model))
    assert kept.counts == trainer.model.counts
    assert kept.classify(TEXTS).probabilities == trainer.model.classify(TEXTS).probabilities


def test_classes_are_columns() -> None:
    columns = model().classify(["anna", None]).as_columns()
    assert list(columns) == ["predicted_country", "predicted_sex", "probability"]
    assert columns["predicted_sex"][1] is None
    assert repr(model().classify([], by="sex")) == "<Classes of 0 strings by sex>"


def test_the_command_says_labels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, table = str(tmp_path / "model.safetensors"), tmp_path / "people.csv"
    model().save(path)
    table.write_text("name,country\nanna,de\n,fr\nbob,fr\notto,\n")
    data = [str(table), "--column", "name", "--by", "country"]
    (best,) = model().classify(["bob"], by="country").labels
    assert best is not None
    assert main(["classify", path, *data, "--output-format", "csv", "--labels", "country"]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[0] == "name,country,predicted_country,probability"
    assert lines[2] == ",fr,,"
    assert lines[3].startswith(f"bob,fr,{best[0]},0.")
    assert "of 2 labels are right; log loss" in err
    assert main(["classify", path, *data[:3]]) == 0
    text = capfd.readouterr().out.splitlines()
    assert text[0].split()[1:] == [*(model().classify(["anna"]).labels[0] or ()), "anna"]
    assert main(["classify", path, *data, "--json", "--label", "m"]) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[0])["labels"][0].keys() == {"country", "probability"}


def test_how_sure_it_is_is_fitted_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made, path = tapegpt.loads(tapegpt.dumps(model())), str(tmp_path / "m.safetensors")
    assert made.counts is not None
    fitted = temperature(made.inference, made.vocabulary, made.counts, Corpus.of(NAMES, labels=BOTH).documents)
    assert made.calibrate_labels(NAMES, BOTH) == fitted == made.counts.temperature
    tapegpt.save(model(), path)
    rows = [",".join(each) for each in zip(NAMES, COUNTRIES, SEXES, strict=True)]
    (tmp_path / "good.csv").write_text("\n".join(["name,country,sex", *rows]), encoding="utf-8")
    read = ["calibrate", path, str(tmp_path / "good.csv"), "--column", "name", "--labels", "country", "--labels", "sex"]
    assert main([*read, "-o", path]) == 0
    again = tapegpt.load(path)
    assert again.counts == made.counts
    assert again.fingerprint != model().fingerprint
    capfd.readouterr()
    assert main(read) == 2
    assert capfd.readouterr().err.endswith("are for each other, to write how sure of labels a model is: give both\n")


def test_what_cannot_be_told_gives_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TapeGPTError, match="by 'age': the model's labels are country, sex: choose one of them"):
        model().classify([], by="age")
    plain = tapegpt.train(NAMES, steps=1, n_embd=8, n_head=2, block_size=6)
    for strings in (NAMES, []):
        with pytest.raises(TapeGPTError, match=r"no string has all its labels, .*: give strings with labels"):
            model().calibrate_labels(strings)
    with pytest.raises(TapeGPTError, match="the model has no labels to choose from: train one with labels"):
        plain.classify([])
    path = str(tmp_path / "model.safetensors")
    plain.save(path)
    assert main(["classify", path]) == 2
    assert capfd.readouterr().err.endswith("train one with --labels\n")
    assert main(["classify", path, "--json", "--output-format", "csv"]) == 2
