"""Models of tokens by each rule, from training to constraints and files, on all engines."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT, Corpus, TapeGPTError, Trainer
from tapegpt.cli import main
from tapegpt.models.writing import dumps
from tapegpt.settings import Settings
from tapegpt.web.report import repeat

SMILES = r"Cl|Br|\[[^]]+\]|."
TEXTS = {
    "words": ["the cat sat", "the dog sat down", "a cat ran to the dog", "the cats, fast", "a dog ran"],
    SMILES: ["CCl", "C[nH]CBr", "ClCCl", "CC[nH]", "BrC1CC1"],
}
SHAPE: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 8}


@cache
def trained(rule: str, engine: Any = "exact") -> GPT:
    return tapegpt.train(TEXTS[rule] * 4, tokens=rule, engine=engine, steps=40, **SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize("rule", TEXTS)
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_constraints_are_about_text(rule: str, engine: Any) -> None:
    model, text = trained(rule, engine), TEXTS[rule][1]
    vocabulary = model.vocabulary
    for prefix in (text[:2], text[:1]):
        assert all(string.startswith(prefix) for string in model.generate(20, seed=1, prefix=prefix))
    assert all(string.endswith(text[-2:]) for string in model.generate(20, seed=1, suffix=text[-2:]))
    pattern = f".*{re.escape(text[1])}.?.*"
    assert all(re.fullmatch(pattern, string) for string in model.generate(20, seed=1, pattern=pattern))
    assert not any(text[0] in string for string in model.generate(20, seed=1, avoid=[text[0]]))
    assert not set(model.generate(20, seed=1, novel=True, temperature=1.0)) & set(TEXTS[rule])
    strings = model.generate(6, seed=1, distinct=True, temperature=1.0, pattern=".+", max_length=2, top_k=3)
    assert len(set(strings)) == len(strings)
    assert all(len(vocabulary.split(string)) <= 2 for string in strings)
    assert model.generate(5, seed=3, prefix=text[:2]) == tapegpt.loads(dumps(model)).generate(
        5, seed=3, prefix=text[:2]
    )


@pytest.mark.slow
@pytest.mark.parametrize("rule", TEXTS)
def test_scores_and_explanations_are_of_tokens(rule: str) -> None:
    model, text = trained(rule), TEXTS[rule][1]
    tokens = tuple(model.vocabulary.split(text))
    strange = text.replace(tokens[1], tokens[1] + "\N{SNOWMAN}")
    scores = model.score([text, strange, ""])
    total, count = model.engine.evaluate(Corpus([text], model.vocabulary).tokens())
    assert (scores[0].tokens, scores[0].text) == (tokens, text)
    assert len(scores[0].surprises) == count == len(tokens) + 1
    assert scores[0].total == pytest.approx(total, rel=1e-5)
    assert scores[1].text == strange
    assert [scores[1].tokens[position] for position in scores[1].unknown] == sorted(scores.unknown)
    found = model.explain(text)
    assert (found.inputs, found.targets) == (("", *tokens), (*tokens, ""))
    assert found.loss * count == pytest.approx(total)
    following = model.next_probabilities(tokens[0])
    assert following.keys() == {*model.vocabulary, ""}
    assert following[tokens[1]] == pytest.approx(found.probabilities[1][model.vocabulary.encode(text)[1]], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rule", TEXTS)
def test_the_exact_engine_does_what_the_reference_does(rule: str) -> None:
    exact, reference = (
        tapegpt.train(TEXTS[rule], tokens=rule, engine=engine, steps=3, **SHAPE) for engine in ("exact", "reference")
    )
    assert exact.parameters == reference.parameters
    assert exact.generate(3, seed=1) == reference.generate(3, seed=1)


def test_files_keep_tokens_and_their_rule(tmp_path: Path) -> None:
    for rule, name in zip(TEXTS, ("m.safetensors", "m.json"), strict=True):
        model = trained(rule)
        model.save(tmp_path / name)
        loaded = tapegpt.load(tmp_path / name)
        assert (loaded.vocabulary, loaded.parameters) == (model.vocabulary, model.parameters)
    data = (tmp_path / "m.json").read_text()
    for old, new in (('"tokens": "Cl|', '"tokens": "(Cl|'), ('"Cl", ', ""), ('"Cl"', '"Br"'), ('"Cl"', '""')):
        assert old in data
        (tmp_path / "bad.json").write_text(data.replace(old, new))
        with pytest.raises(TapeGPTError, match="not a model of tapegpt"):
            tapegpt.load(tmp_path / "bad.json")


def test_a_training_by_a_rule_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data"
    path.write_text("\n".join(TEXTS[SMILES]))
    model = tapegpt.train(path, tokens=SMILES, steps=3, **SHAPE)
    command, program = repeat(model)
    assert f"--tokens={SMILES}" in shlex.split(command)
    scope: dict[str, Any] = {"tapegpt": tapegpt}
    exec(program, scope)
    assert (scope["model"].vocabulary, scope["model"].parameters) == (model.vocabulary, model.parameters)


def test_finetuning_adds_tokens() -> None:
    model = trained("words")
    corpus = Corpus.of(["a zebra ran"], tokens="words")
    tuned = Trainer.finetune(model, corpus, Settings(steps=1)).model
    assert tuned.vocabulary.tokens == tuple(sorted([*model.vocabulary, " zebra"]))
    rows = [model.parameters["wte"][8 * number : 8 * number + 8] for number in range(model.vocab_size)]
    for token, row in zip(model.vocabulary.names, rows, strict=True):
        number = tuned.vocabulary.names.index(token)
        assert tuned.parameters["wte"][8 * number : 8 * number + 8] == row
    with pytest.raises(TapeGPTError, match="are split by tokens 'characters', the model's by 'words'"):
        Trainer.finetune(model, Corpus.of(["a"]), Settings(steps=1))


def test_models_of_other_tokens_are_no_ensemble() -> None:
    characters = tapegpt.train(TEXTS["words"], steps=1, **SHAPE)
    with pytest.raises(TapeGPTError, match="differs from model 0 in the rule of tokens"):
        tapegpt.Ensemble([trained("words"), characters])


@pytest.mark.slow
def test_commands_take_the_rule_from_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").write_text("\n".join(TEXTS["words"]))
    train = ["train", "data", "--tokens", "words", "--steps", "20", "--n-embd", "8", "--block-size", "8"]
    assert main([*train, "-o", "m.json", "--samples", "2", "--validation", "0.4"]) == 0
    capsys.readouterr()
    for command in (
        ["generate", "m.json", "-n", "3", "--prefix", "the c", "--length", "2..5"],
        ["explain", "m.json", "the cat"],
        ["why", "m.json", "the cat"],
        ["eval", "m.json", "data", "--samples", "5"],
        ["train", "--config", "m.json"],
        ["report", "m.json", "-o", "m.html"],
        ["show", "m.json", "--stage", "tokens"],
        ["resume", "m.json", "data", "--more-steps", "2"],
        ["finetune", "m.json", "data", "--steps", "2"],
        ["diff", "m.json", "m.json"],
    ):
        assert main(command) == 0, command
    capsys.readouterr()
    assert main(["score", "m.json", "data", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["tokens"], len(first["surprises"])) == (["the", " cat", " sat"], 4)
    assert main(["doctor", "data", "--tokens", "words", "--block-size", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    corpus = Corpus.of(TEXTS["words"], tokens="words")
    cut = sum(length >= 4 for length in corpus.lengths())
    assert (report["tokens"], report["block"]["cut"]) == (len(corpus.vocabulary), cut)
    assert "--tokens words --block-size 7" in report["command"]
    assert main(["train", "data", "--tokens", "(", "--steps", "1"]) == 2
    assert "--tokens '(' is not a regular expression" in capsys.readouterr().err
