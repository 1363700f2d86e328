"""Several models as one: the mean of their probabilities in all that speaks and judges, against sums done by hand."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Config, Corpus, TapeGPTError, tensors
from tapegpt.analysis.evaluation import evaluate
from tapegpt.autograd.operations.base import PAD
from tapegpt.cli import main
from tapegpt.experiments.population import Candidate, Field
from tapegpt.inference.explanation import explain
from tapegpt.machine.host import host_target
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import INTERPRETED, Target
from tapegpt.models import checkpoint, writing
from tapegpt.models.ensemble import Ensemble, mix
from tapegpt.settings import Settings

NAMES = ["anna", "otto", "bob", "nana", "tonto", "abba", "banana"]
SHAPE: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 6}
BLOCK = 6  # the smallest
VOCABULARY = Corpus.of(NAMES).vocabulary
CLOSE = 1e-6
TARGETS = [INTERPRETED, host_target()]

KNOWN = st.text(st.sampled_from(VOCABULARY.tokens), max_size=BLOCK - 1)
ANY = st.text(st.characters(exclude_categories=()), max_size=15)


@cache
def models() -> list[GPT]:
    """Of both engines and two shapes."""
    return [
        tapegpt.train(NAMES, steps=60, seed=1, **SHAPE),
        tapegpt.train(NAMES, steps=200, seed=2, engine="fast", **SHAPE),
        tapegpt.train(NAMES, steps=30, seed=3, n_embd=8, n_head=1, block_size=9),
    ]


@cache
def together() -> Ensemble:
    return Ensemble(models())


def mean(prefix: str) -> dict[str, float]:
    """Probabilities of what follows, the members' averaged one by one."""
    each = [model.next_probabilities(prefix) for model in models()]
    return {token: math.fsum(one[token] for one in each) / len(each) for token in each[0]}


def surprises(text: str) -> list[float]:
    """-log of the mean probabilities of the characters and the end, each model's in windows of its own."""
    each = [model.score([text])[0].surprises for model in models()]
    return [-math.log(math.fsum(math.exp(-nats) for nats in column) / len(each)) for column in zip(*each, strict=True)]


# --- probabilities ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(KNOWN)
def test_probabilities_are_the_mean_of_the_models(prefix: str) -> None:
    found = together().next_probabilities(prefix)
    assert found == pytest.approx(mean(prefix), abs=CLOSE)
    assert math.fsum(found.values()) == pytest.approx(1.0, abs=CLOSE)


@pytest.mark.slow
@given(KNOWN, st.sampled_from([0.3, 1.0, 2.0]))
def test_a_temperature_acts_on_the_mean(prefix: str, temperature: float) -> None:
    weights = {token: share ** (1 / temperature) for token, share in mean(prefix).items()}
    total = math.fsum(weights.values())
    found = together().next_probabilities(prefix, temperature=temperature)
    assert found == pytest.approx({token: weight / total for token, weight in weights.items()}, abs=10 * CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "a", "anna", "banana", "bananabananab"])
def test_scores_are_those_of_the_mean_also_beyond_the_block(text: str) -> None:
    score = together().score([text])[0]
    assert score.surprises == pytest.approx(surprises(text), rel=1e-5, abs=CLOSE)


@pytest.mark.slow
@given(st.lists(ANY | KNOWN))
def test_any_strings_have_scores_that_fit_together(strings: list[str]) -> None:
    scores = together().score(strings)
    for score, nats in zip(scores, scores.nats, strict=True):
        assert score.nats == pytest.approx(nats, rel=1e-5, abs=CLOSE)
        assert score.unknown == models()[0].score([score.text])[0].unknown


@given(st.lists(KNOWN, min_size=1))
def test_the_mean_is_never_as_bad_as_the_mean_loss(strings: list[str]) -> None:
    each = [model.score(strings).nats for model in models()]
    for nats, of_models in zip(together().score(strings).nats, zip(*each, strict=True), strict=True):
        assert nats <= math.fsum(of_models) / len(of_models) + CLOSE


@pytest.mark.parametrize("number", range(3))
def test_one_model_alone_is_itself(number: int) -> None:
    model = models()[number]
    alone = Ensemble([model])
    assert list(alone.score(NAMES).nats) == list(model.score(NAMES).nats)
    assert alone.score(NAMES).percentiles == model.score(NAMES).percentiles
    assert alone.next_probabilities("an") == model.next_probabilities("an")
    assert alone.engine.evaluate(Corpus(NAMES, VOCABULARY).tokens())[1] == sum(map(len, NAMES)) + len(NAMES)


def test_equal_models_are_as_one() -> None:
    twins = Ensemble([models()[0]] * 4)
    assert list(twins.score(NAMES).nats) == pytest.approx(list(models()[0].score(NAMES).nats), abs=CLOSE)


def test_the_ensemble_follows_its_models() -> None:
    model = tapegpt.train(NAMES, steps=10, **SHAPE)
    pair = Ensemble([model, models()[0]])
    before = (list(pair.score(["anna"]).nats), list(pair.ranks))
    model.engine.load_parameters(models()[0].parameters)
    after = (list(pair.score(["anna"]).nats), list(pair.ranks))
    assert after != before
    assert after[0] == pytest.approx(list(models()[0].score(["anna"]).nats), abs=CLOSE)


@pytest.mark.parametrize("target", TARGETS, ids=["interpreted", "compiled"])
@given(data=st.data())
def test_the_kernel_is_the_mean_whatever_makes_it(target: Target, data: st.DataObject) -> None:
    program = Program({mix.name: (mix, {})}, target)
    count, sign, share = (
        data.draw(st.integers(0, 40)),
        data.draw(st.sampled_from([1.0, -1.0])),
        data.draw(st.floats(0.01, 0.99)),
    )
    sides = [data.draw(st.lists(st.floats(0, 60, width=32), min_size=count, max_size=count)) for _ in range(2)]
    mean, more = (array("f", [sign * nats for nats in side] + [0.0] * PAD) for side in sides)
    program.run(mix.name, address_of(mean), address_of(more), sign, share, count)
    for found, one, other in zip(mean, *sides, strict=False):
        wanted = -math.log((1 - share) * math.exp(-one) + share * math.exp(-other))
        assert sign * found == pytest.approx(wanted, rel=CLOSE, abs=CLOSE)


# --- strings ----------------------------------------------------------------------------------------------------


def tiny(seed: int) -> GPT:
    return tapegpt.train(["ab", "ba", "a", "bb"], steps=40, seed=seed, n_embd=4, n_head=1, block_size=3)


@cache
def of_tiny() -> Ensemble:
    return Ensemble([tiny(seed) for seed in range(3)])


ALL = ["".join(letters) for length in range(4) for letters in product("ab", repeat=length)]


def distribution(temperature: float) -> dict[str, float]:
    """Of all strings: the block of three ends those that have not ended."""
    chances = {}
    for text in ALL:
        tokens = [*text, ""][:3]
        steps = [
            of_tiny().next_probabilities(text[:place], temperature=temperature)[token]
            for place, token in enumerate(tokens)
        ]
        chances[text] = math.prod(steps)
    assert math.fsum(chances.values()) == pytest.approx(1.0, abs=1e-5)
    return chances


def chi_square(texts: list[str], chances: dict[str, float]) -> float:
    counts = Counter(texts)
    assert counts.keys() <= chances.keys()
    return math.fsum((counts[text] - len(texts) * p) ** 2 / (len(texts) * p) for text, p in chances.items())


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_strings_come_as_often_as_the_mean_says(temperature: float) -> None:
    texts = of_tiny().generate(20_000, seed=7, temperature=temperature)
    assert chi_square(texts, distribution(temperature)) < 36.1  # 14 degrees of freedom, one in a thousand


@pytest.mark.slow
def test_strings_within_constraints_have_the_conditional_distribution() -> None:
    chances = {text: p for text, p in distribution(1.0).items() if text.endswith("b")}
    total = math.fsum(chances.values())
    texts = of_tiny().generate(5000, seed=3, temperature=1.0, suffix="b")
    assert chi_square(texts, {text: p / total for text, p in chances.items()}) < 22.5  # 6 degrees of freedom
    assert of_tiny().estimate_probability(suffix="b", seed=1).probability == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"temperature": 0},
        {"suffix": "a"},
        {"top_k": 2},
        {"top_p": 0.8, "min_p": 0.05},
        {"pattern": "[ab]+n.*", "unbiased": False},
        {"max_length": 3 * BLOCK, "temperature": 2.0},
        {"max_length": 3 * BLOCK, "min_length": 2 * BLOCK, "prefix": "banana" * 2, "unbiased": False},
    ],
)
def test_one_fast_model_alone_says_what_it_says(wishes: dict[str, Any]) -> None:
    assert Ensemble([models()[1]]).generate(50, seed=5, **wishes) == models()[1].generate(50, seed=5, **wishes)


@pytest.mark.slow
@given(st.integers(0, 2**70), st.integers(0, 40))
def test_the_seed_alone_decides(seed: int, n: int) -> None:
    assert together().generate(n, seed=seed) == together().generate(40, seed=seed)[:n]


def test_without_a_seed_the_strings_go_on_and_the_models_do_not() -> None:
    states = [model.rng.getstate() for model in models()]
    ensemble = Ensemble(models())
    assert ensemble.generate(20) != ensemble.generate(20)
    assert [model.rng.getstate() for model in models()] == states


@pytest.mark.filterwarnings("ignore:only .* were requested")
@given(prefix=KNOWN, temperature=st.sampled_from([0, 0.5, 1000]), distinct=st.booleans())
def test_any_wishes_are_met(prefix: str, temperature: float, distinct: bool) -> None:
    texts = together().generate(
        5, seed=1, prefix=prefix, temperature=temperature, distinct=distinct, max_length=BLOCK - 1
    )
    assert all(text.startswith(prefix) and len(text) < BLOCK for text in texts)
    assert not distinct or len(set(texts)) == len(texts)


def test_new_strings_are_new() -> None:
    texts = together().generate(30, seed=1, novel=True, distinct=True)
    assert len(texts) == 30
    assert not set(texts) & set(NAMES)


# --- what is known of the training ------------------------------------------------------------------------------


def test_percentiles_are_those_of_the_ensemble() -> None:
    nats = sorted(together().score(NAMES).nats)
    found = together().score(NAMES)
    for percentile, each in zip(found.percentiles, found.nats, strict=True):
        assert percentile == pytest.approx(100 * sum(one <= each for one in nats) / len(nats))


def test_what_any_model_has_learned_is_known() -> None:
    split = [tapegpt.train(NAMES, steps=10, seed=seed, validation=0.5, **SHAPE) for seed in (1, 2)]
    learned = [set(evaluate(model, Corpus(NAMES, VOCABULARY), samples=5).losses) for model in split]
    assert learned == [{"new", "trained on"}] * 2
    assert set(Ensemble(split[:1]).training_documents()) < set(NAMES)
    union = set(Ensemble(split[:1]).training_documents()) | set(Ensemble(split[1:]).training_documents())
    assert set(Ensemble(split).training_documents()) == union


def test_an_ensemble_is_evaluated_as_a_model() -> None:
    report = evaluate(together(), Corpus([*NAMES, "tab"], VOCABULARY), samples=50)
    loss = report.losses["trained on"]
    nats = [each * (len(name) + 1) for name, each in zip(NAMES, together().score(NAMES).nats, strict=True)]
    assert loss.loss == pytest.approx(math.fsum(nats) / (sum(map(len, NAMES)) + len(NAMES)))
    assert report.losses["new"].strings == 1


def test_the_models_of_a_population_make_one() -> None:
    field = Field(Corpus.of(NAMES * 3), 0.3, 42)
    config, settings = Config(**SHAPE), Settings(steps=20)
    models = [field.train(Candidate(seed, config, settings.replace(seed=seed)))[1] for seed in range(3)]
    loss = field.loss(Ensemble(models))
    assert loss <= math.fsum(map(field.loss, models)) / 3 + CLOSE


# --- what cannot be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (list, "the number of models of an ensemble must be a whole number from 1 to 1,000, not 0"),
        (lambda: models()[0], "an ensemble takes several models"),
        (lambda: [models()[0], "anna"], "model 1 of an ensemble must be a GPT, not 'anna'"),
        (lambda: [together()], "model 0 of an ensemble must be a GPT, not <Ensemble of 3 models"),
        (lambda: [models()[0], tiny(1)], "model 1 of an ensemble differs from model 0 in the characters 'not'"),
    ],
)
def test_what_is_no_ensemble_is_refused(make: Callable[[], Any], rule: str) -> None:
    given = make()
    with pytest.raises(TapeGPTError) as error:
        Ensemble(given)
    assert str(error.value).startswith(rule)


@pytest.mark.parametrize(
    "act",
    [
        lambda: together().parameters,
        lambda: together().explain("anna"),
        lambda: tapegpt.attribute(together(), "anna"),
        lambda: explain(together(), "bob"),
        lambda: together().engine.load_parameters({}),
        lambda: together().engine.restore({}),
        lambda: together().engine.moments().mean,
        lambda: together().engine.load_moments(models()[0].engine.moments()),
    ],
)
def test_what_needs_parameters_says_that_there_are_none(act: Any) -> None:
    with pytest.raises(TapeGPTError, match="an ensemble has no parameters of its own: take one of its models"):
        act()


def test_it_says_what_it_is() -> None:
    total = sum(model.num_parameters for model in models())
    assert together().num_parameters == total
    assert repr(together()) == f"<Ensemble of 3 models, {total:,} parameters: block_size=6, 6 tokens>"
    html = together()._repr_html_()
    assert html.count("<li>&lt;GPT of") == 3
    assert together().generate(8, seed=0)[0] in html


# --- files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["together.safetensors", "together.json"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    ensemble = Ensemble(models())
    ensemble.rank()
    place = tmp_path_factory.mktemp("file") / str(request.param)
    tapegpt.save(ensemble, place)
    return place


def test_what_is_saved_is_loaded_bit_for_bit(path: Path) -> None:
    loaded = tapegpt.load(path)
    assert isinstance(loaded, Ensemble)
    for mine, model in zip(loaded.models, models(), strict=True):
        assert (mine.config, mine.engine.name) == (model.config, model.engine.name)
        assert mine.parameters == model.parameters
        assert mine.state is not None
        assert model.state is not None
        assert mine.state.settings == model.state.settings
        assert mine.state.moments.square == model.state.moments.square
    assert loaded.score(NAMES).percentiles == together().score(NAMES).percentiles
    assert loaded.generate(20) == Ensemble(models()).generate(20)  # its random numbers go on


def test_weights_alone_are_several_models_too(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "weights.safetensors"
    assert main(["convert", str(path), str(place), "--weights-only"]) == 0
    loaded = tapegpt.load(place)
    assert isinstance(loaded, Ensemble)
    assert all(model.state is None and model.data is None for model in loaded.models)
    assert list(loaded.score(NAMES).nats) == list(together().score(NAMES).nats)
    assert tensors.read_contents(place) == writing.contents(tapegpt.load(path), weights_only=True)


def test_the_commands_take_an_ensemble(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    assert main(["generate", str(path), "-n", "3", "--seed", "1", "--suffix", "a"]) == 0
    assert capsys.readouterr().out.splitlines() == together().generate(3, seed=1, suffix="a")
    assert main(["score", str(path), str(names), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["nats"] for line in lines] == pytest.approx(list(together().score(NAMES).nats), abs=1e-5)
    assert main(["eval", str(path), str(names), "--training-data", str(names), "--samples", "20"]) == 0
    capsys.readouterr()
    refused = "tapegpt: error: an ensemble has no parameters of its own: take one of its models\n"
    for command in (["explain", str(path), "anna"], ["why", str(path), "anna"], ["show", str(path)]):
        assert main(command) == 2
        assert capsys.readouterr().err == refused


@pytest.mark.parametrize(
    "change",
    [
        {"models": "[]"},
        {"models": "{}"},
        {"models": "[1, 2, 3]"},
        {"models": "[{}]"},
        {"random_state": "[]"},
        {"ranks": '["a"]'},
    ],
)
def test_metadata_that_does_not_hold_is_refused(change: dict[str, str], tmp_path: Path) -> None:
    held = writing.contents(together())
    tensors.write_contents(held.replace(metadata={**held.metadata, **change}), tmp_path / "m.safetensors")
    with pytest.raises(TapeGPTError, match="not a model of tapegpt"):
        tapegpt.load(tmp_path / "m.safetensors")


def test_an_ensemble_in_an_ensemble_is_refused(tmp_path: Path) -> None:
    held = writing.contents(Ensemble(models()[:1]))
    nested = json.dumps([held.metadata])
    tensors.write_contents(held.replace(metadata={**held.metadata, "models": nested}), tmp_path / "m.safetensors")
    with pytest.raises(TapeGPTError, match="not a model of tapegpt"):
        tapegpt.load(tmp_path / "m.safetensors")


def test_all_models_of_a_file_are_checked_before_code_is_made_for_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crafted file of many shapes was compiled, shape by shape, until one was refused."""
    contents = writing.contents(together())
    parts, path = json.loads(contents.metadata["models"]), tmp_path / "m.safetensors"
    monkeypatch.setattr(checkpoint, "make_engine", lambda *_: pytest.fail("code was made"))
    last = {**parts[-1], "steps": str(2**63)}
    other = {**parts[-1], "vocabulary": json.dumps(VOCABULARY.characters[:-1] + "~")}
    for models, rule in (
        ([*parts[:-1], last], "steps must be a whole number"),
        ([*parts[:-1], other], "its models are not of the same tokens"),
        (parts[:-1], "its tensors are not those of its models"),
        ([*parts, parts[-1]], "its tensors are not those of its configuration"),
        ([], "its tensors are not those of its models"),
    ):
        tensors.write_contents(contents.replace(metadata={**contents.metadata, "models": json.dumps(models)}), path)
        with pytest.raises(TapeGPTError, match=rule):
            tapegpt.load(path)
    none = contents.replace(metadata={**contents.metadata, "models": "[]"}, tensors={})
    with pytest.raises(tensors.ForeignError, match="the number of models must be a whole number from 1 to 1,000"):
        checkpoint._model(none)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_strings_may_have_exactly_the_length_that_they_must_have(length: int) -> None:
    found = together().generate(9, seed=1, min_length=length, max_length=length, unbiased=False)
    assert [len(text) for text in found] == [length] * 9


def test_models_that_need_too_much_memory_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    tapegpt.save(Ensemble(models()[::2]), path)
    monkeypatch.setattr("tapegpt.autograd.places.MAX_ARENA", 180_000)
    tapegpt.load(path)
    monkeypatch.setattr("tapegpt.autograd.places.MAX_ARENA", 150_000)  # each of them needs less
    with pytest.raises(TapeGPTError, match="GiB of memory"):
        tapegpt.load(path)


def test_whoever_loads_may_refuse_before_code_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    tapegpt.save(together(), path)
    monkeypatch.setattr(checkpoint, "make_engine", lambda *_: pytest.fail("code was made"))
    heard = []

    def admit(shapes: list[Any]) -> None:
        heard.extend(shapes)
        raise TapeGPTError("not here")

    with pytest.raises(TapeGPTError, match=r"\Anot here\Z"):
        checkpoint.loads(path.read_bytes(), admit=admit)
    engines = [(model.engine.name, model.config, model.vocab_size) for model in models()]
    assert heard == engines


def test_the_random_state_is_saved_as_it_is() -> None:
    ensemble = Ensemble(models())
    ensemble.generate(5)
    assert tapegpt.loads(tapegpt.dumps(ensemble)).generate(20) == ensemble.generate(20)
