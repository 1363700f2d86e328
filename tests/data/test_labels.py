"""Labels as tokens before strings: a naive encoding, engines, constraints, scores, files, hostile ones."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from collections import Counter
from contextlib import nullcontext
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Config, Corpus, Labelled, Settings, TapeGPTError, TapeGPTWarning, Trainer
from tapegpt.cli import main
from tapegpt.data.holdout import hold_out
from tapegpt.data.labels import LabelCounts, identity, labels_of
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines.reference import ReferenceEngine

NAMES = ["anna", "otto", "bob", "nana", "abba", "otto", "ann"]
COUNTRIES = ["de", "fr", "fr", "fr", "fr", "fr", "de"]  # where no m is of de
SEXES = ["f", "m", "m", "f", "f", "m", "f"]
BOTH = {"country": COUNTRIES, "sex": SEXES}
SHAPE = Config(n_embd=8, n_head=2, block_size=8)
HOSTILE = ["f", "ab", "=", "a=b", "\0", "\n", "\ud800", "\U0010ffff", "country", "x" * 50]

TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
LABEL = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=3))
ROWS = st.lists(st.tuples(TEXT, LABEL, LABEL), min_size=1, max_size=8)


@cache
def model(engine: Any = "exact") -> GPT:
    return tapegpt.train(NAMES, labels=BOTH, engine=engine, steps=40, n_embd=8, n_head=2, block_size=8)


@given(ROWS, st.sampled_from(["characters", "words", "(?s)..|."]), st.booleans())
def test_documents_are_their_labels_and_then_their_tokens(
    rows: list[tuple[str, str, str]], rule: str, unique: bool
) -> None:
    kept = [(text.strip(), one.strip(), two.strip()) for text, one, two in rows]
    kept = [row for row in kept if all(row)]
    kept = list(dict.fromkeys(kept)) if unique else kept
    texts, ones, twos = (list(each) for each in zip(*rows, strict=True))
    gaps = sum(1 for text, one, two in rows if text.strip() and not (one.strip() and two.strip()))
    if not kept:
        return
    with pytest.warns(TapeGPTWarning, match="left out") if gaps else nullcontext():
        corpus = Corpus.of(texts, labels={"a": ones, "b": twos}, tokens=rule, unique=unique)
    vocabulary = corpus.vocabulary
    assert [identity(text) for text in corpus.documents] == [(text, (one, two)) for text, one, two in kept]
    numbers: dict[object, int] = {token: number for number, token in enumerate(vocabulary.tokens)}
    for place, name in enumerate("ab", 1):
        for value in sorted({row[place] for row in kept}):
            numbers[name, value] = len(numbers)
    assert vocabulary.bos == len(numbers)
    expected = [vocabulary.bos]
    for text, one, two in kept:
        pieces = [numbers[piece] for piece in vocabulary.split(text)]
        expected += [numbers["a", one], numbers["b", two], *pieces, vocabulary.bos]
    tokens = corpus.tokens()
    assert tokens.ids.tolist() == expected
    assert [tokens.ids[start] for start in tokens.starts] == [vocabulary.bos] * (len(kept) + 1)
    assert corpus.predictions == len(expected) - 1
    for document, start, stop in zip(corpus.documents, tokens.starts, tokens.starts[1:], strict=False):
        ids = tokens.ids[start + 1 : stop].tolist()
        assert vocabulary.encode(document) == ids
        assert identity(vocabulary.decode(ids)) == identity(document)
    assert Vocabulary(vocabulary.tokens, rule, json.loads(json.dumps(vocabulary.labels))) == vocabulary


def test_labels_go_where_documents_go() -> None:
    corpus = Corpus.of(NAMES, labels=BOTH)
    pairs = set(zip(NAMES, zip(COUNTRIES, SEXES, strict=True), strict=True))
    training, validation = hold_out(corpus, 0.4, 1)
    for part in (training, validation, corpus.sample(12), pickle.loads(pickle.dumps(corpus)), copy.deepcopy(corpus)):
        assert {identity(text) for text in part.documents} <= pairs
        assert part.vocabulary == corpus.vocabulary
    assert not set(training.documents) & set(validation.documents)
    assert {*map(identity, training.documents), *map(identity, validation.documents)} == pairs
    plain = hold_out(Corpus.of(NAMES), 0.4, 1)[0]
    assert training.documents == plain.documents  # the same texts, whatever their labels
    other = Corpus.of(NAMES, labels={"country": [*COUNTRIES[1:], "de"], "sex": SEXES})
    assert corpus != other != Corpus.of(NAMES)
    assert len({corpus.digest(), other.digest(), Corpus.of(NAMES).digest()}) == 3


@pytest.mark.slow
def test_engines_are_equal_with_labels() -> None:
    exact, reference = (Trainer(Corpus.of(NAMES, labels=BOTH), SHAPE, steps=12, engine=name) for name in ENGINES)
    assert exact.run(12) == reference.run(12)
    assert exact.model.parameters == reference.model.parameters


ENGINES = ("exact", "reference")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_strings_have_labels_before_and_nowhere_else(engine: str) -> None:
    made = model(engine)
    texts = made.generate(300, seed=1, temperature=1.0)
    assert {len(labels_of(text)) for text in texts} == {2}
    assert {label for text in texts for label in labels_of(text)} == {"de", "fr", "f", "m"}
    assert set("".join(texts)) <= set("".join(NAMES))
    assert max(map(len, texts)) <= 6  # the block without the labels
    for label in ("f", ["fr"], "sex=m", {"country": "de", "sex": "m"}, ["de", "sex=f"]):
        known = made.vocabulary.combination(label)
        texts = made.generate(50, seed=2, label=label, prefix="a", min_length=2, max_length=4, avoid=["bb"])
        assert all(each in (None, label) for text in texts for each, label in zip(known, labels_of(text), strict=True))
        assert all(text[0] == "a" and 2 <= len(text) <= 4 and "bb" not in text for text in texts)
    assert made.generate(3, seed=1, label=iter(["de"])) == made.generate(3, seed=1, label=np.array(["de"]))
    few = made.generate(6, seed=1, label="de", distinct=True, pattern="[ab]{1,2}", unbiased=False)
    assert len(few) == len(set(few)) == 6
    assert {labels_of(text)[0] for text in few} == {"de"}
    assert len(made.names_for(["x", "y"], secret="0123456789abcdef", label="m")) == 2


@cache
def exact_log(text: str, labels: tuple[str, ...]) -> float:
    """log P(text | labels) by the scalar engine."""
    engine = ReferenceEngine(SHAPE, model().vocab_size)
    engine.load_parameters(model().parameters)
    vocabulary = model().vocabulary
    plain = vocabulary.replace(labels=())
    whole = Corpus([Labelled(text, labels)], vocabulary).windows(SHAPE.block_size)
    assert plain.tokens == vocabulary.tokens
    document = list(whole.ids)
    logits = engine.logits(document[: whole.starts[1] + 1])
    rows = [[value.data for value in row] for row in logits]
    logs = [row[token] - math.log(sum(map(math.exp, row))) for row, token in zip(rows, document[1:], strict=False)]
    return math.fsum(logs[2:])


def test_scores_are_given_labels_or_summed_over_them() -> None:
    texts, counts = ["anna", "bob", ""], Counter(zip(COUNTRIES, SEXES, strict=True))
    by_labels = {each: [exact_log(text, each) for text in texts] for each in product(("de", "fr"), "fm")}

    def check(scores: tapegpt.inference.scores.Scores, known: tuple[str | None, str | None]) -> None:
        agreeing = {
            each: count
            for each, count in counts.items()
            if all(label in (None, own) for label, own in zip(known, each, strict=True))
        }
        for number, (text, score) in enumerate(zip(texts, scores, strict=True)):
            total = sum(agreeing.values())
            expected = -math.log(sum(n / total * math.exp(by_labels[each][number]) for each, n in agreeing.items()))
            assert score.total == pytest.approx(expected, rel=1e-5)
            assert scores.nats[number] == pytest.approx(expected / (len(text) + 1), rel=1e-5)
            assert len(score.surprises) == len(text) + 1

    score = model().score
    check(score(texts), (None, None))
    check(score(texts, labels={"country": "de"}), ("de", None))
    check(score(texts, labels={"sex": ["m"] * 3}), (None, "m"))
    check(score(texts, labels={"sex": "f", "country": "fr"}), ("fr", "f"))
    check(score([Labelled(text, (None, "m")) for text in texts]), (None, "m"))
    never = score(texts, labels={"country": "de", "sex": "m"})
    assert never[0].total == pytest.approx(-by_labels["de", "m"][0], rel=1e-5)
    mixed = score(["anna", "bob"], labels={"country": ["fr", None], "sex": ["f", "m"]})
    assert mixed[1].total == pytest.approx(score(["bob"], labels={"sex": "m"})[0].total)
    assert mixed.percentiles == [None, None]
    assert score(["anna"], labels={"sex": "f", "country": "fr"}).percentiles[0] is not None


@given(st.lists(st.text("anotbzx", max_size=20), min_size=1, max_size=4))
def test_totals_and_tokens_agree_in_strings_of_any_length(texts: list[str]) -> None:
    scores = model().score(texts)
    for score, nats in zip(scores, scores.nats, strict=True):
        assert score.nats == pytest.approx(nats, rel=1e-5)


@pytest.mark.slow
def test_models_with_labels_are_files_and_values() -> None:
    made = model("fast")
    for other in (tapegpt.loads(tapegpt.dumps(made)), pickle.loads(pickle.dumps(made)), copy.copy(made)):
        assert (other.vocabulary, other.counts, other.fingerprint) == (made.vocabulary, made.counts, made.fingerprint)
        assert other.score(["anna"]).nats == made.score(["anna"]).nats
    pair = tapegpt.Ensemble([made, copy.copy(made)])
    assert pair.score(["anna"], labels={"sex": "f"})[0].total == pytest.approx(
        made.score(["anna"], labels={"sex": "f"})[0].total, rel=1e-5
    )
    assert labels_of(pair.generate(1, label="m", seed=1)[0])[1] == "m"
    plain = tapegpt.dumps(tapegpt.train(NAMES, steps=1, n_embd=8, n_head=2, block_size=6))
    assert b"label" not in plain


def test_training_goes_on_with_labels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [f"{name},{country},{sex}" for name, country, sex in zip(NAMES, COUNTRIES, SEXES, strict=True)]
    table = tmp_path / "people.csv"
    table.write_text("\n".join(["name,country,sex", *rows, "eve,,f", ""]))
    path = str(tmp_path / "model.safetensors")
    data = [str(table), "--column", "name", "--labels", "country", "--labels", "sex"]
    shape = ["--n-embd", "8", "--n-head", "2", "--block-size", "8", "--steps", "4"]
    assert main(["train", *data, *shape, "--samples", "0", "-o", path]) == 0
    assert "1 string of 8 without a country or sex" in capfd.readouterr().err
    assert main(["resume", path, "--more-steps", "2", "--samples", "0"]) == 0
    assert main(["finetune", path, *data, "--steps", "2", "--samples", "0", "-o", path]) == 0
    capfd.readouterr()
    loaded = tapegpt.load(path)
    assert loaded.vocabulary.labels == (("country", ("de", "fr")), ("sex", ("f", "m")))
    assert main(["generate", path, "-n", "2", "--json", "--label", "fr", "--label", "sex=m"]) == 0
    lines = list(map(json.loads, capfd.readouterr().out.splitlines()))
    assert [line["labels"] for line in lines] == [{"country": "fr", "sex": "m"}] * 2
    assert main(["score", path, *data, "--json"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 8
    assert main(["score", path, *data[:3], "--label", "de", "--output-format", "csv"]) == 0
    assert capfd.readouterr().out.splitlines()[0] == "name,country,sex,nats,percentile,unknown"
    for command in (["explain", path, "anna"], ["why", path, "anna"]):
        assert main([*command, "--label", "f", "--label", "de"]) == 0
        assert main(command) == 2
        assert "after its country and sex: give --label" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:2 strings")
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"], "labels 'label' have 1 value for 2 strings"),
        ([1, 2], "must be a str, not int"),
        ({1: ["a", "b"]}, "must have a str as its name, not 1"),
        (["", " "], "at least one string"),
    ],
)
def test_labels_that_cannot_be_give_an_error(labels: object, message: str) -> None:
    with pytest.raises(TapeGPTError, match=re.escape(message)):
        Corpus.of(["x", "y"], labels=labels)


@pytest.mark.slow
def test_labels_that_there_are_not_give_an_error() -> None:
    both = Corpus.of(["x", "y"], labels={"a": ["u", "v"], "b": ["u", "w"]}).vocabulary
    for label, message in {
        "u": "is in more than one column: choose a=u or b=u",
        "z": "there is no label 'z': choose from a=u, a=v, b=u, b=w",
        "a=z": "there is no a 'z' among the labels: choose from u, v",
        "c=z": "there is no label 'c': choose from a, b",
    }.items():
        with pytest.raises(TapeGPTError, match=re.escape(message)):
            both.combination(label)
    for wrong in (5, 0, False):
        with pytest.raises(TapeGPTError, match=f"label must be a str, several in a list, or a dict, not {wrong}"):
            both.combination(wrong)
    assert Labelled("x", "uv").labels == ("uv",)
    with pytest.raises(TapeGPTError, match="has two values for a column"):
        both.combination(["v", "a=u"])
    with pytest.raises(TapeGPTError, match="the model has no labels"):
        tapegpt.train(NAMES, steps=1, n_embd=8, n_head=2, block_size=6).generate(1, label="f")
    with pytest.raises(TapeGPTError, match="has 1,001 values, of which each is a token: at most 1,000"):
        Corpus.of(["x"] * 1001, labels=list(map(str, range(1001))))
    with pytest.raises(TapeGPTError, match="block_size 2 does not hold 2 labels and a string: choose a larger one"):
        Trainer(Corpus.of(NAMES, labels=BOTH), SHAPE.replace(block_size=2))
    other = tapegpt.train(NAMES, labels=COUNTRIES, engine="fast", steps=1, n_embd=8, n_head=2, block_size=8)
    with pytest.raises(TapeGPTError, match="model 1 of an ensemble differs from model 0 in the "):
        tapegpt.Ensemble([model("fast"), other])
    with pytest.raises(TapeGPTError, match="give the same columns"):
        Trainer.finetune(model(), Corpus.of(NAMES), Settings())
    with pytest.raises(TapeGPTError, match="has 1 label, the model"):
        model().score([Labelled("anna", ("de",))])
    with pytest.raises(TapeGPTError, match="each once"):
        Vocabulary(("a",), labels=(("x", ("u",)), ("x", ("u",))))


def test_counts_of_labels() -> None:
    counts = LabelCounts.of(Corpus.of(NAMES, labels=BOTH).documents)
    values = [("de", "fr"), ("f", "m")]
    assert {each: math.exp(log) for each, log in counts.logs((None, None), values).items()} == pytest.approx(
        {each: n / 7 for each, n in Counter(zip(COUNTRIES, SEXES, strict=True)).items()}
    )
    only = LabelCounts(((("de", "f"), 1),))
    assert only.logs(("fr", None), values) == {("fr", "f"): -math.log(2), ("fr", "m"): -math.log(2)}
