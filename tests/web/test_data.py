"""What the pages are made of: modules as one text, and a training as data for pictures."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Corpus, TapeGPTError, Trainer, web
from tapegpt.inference.explanation import explain
from tapegpt.models.curves import POINTS, curve
from tapegpt.text import round_digits
from tapegpt.training.recording import Recording, record, still
from tapegpt.web.data import LIKELY, MAPPED, SAMPLED, Portrait, explanation_data

CORPUS = Corpus.of(["anna", "bob", "cara", "abba", "barbara", "ada", "rob", "carob", "bar", "cab"])
CONFIG = Config(n_embd=8, n_head=2, block_size=8)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record(Trainer(CORPUS, CONFIG, steps=60, validation=0.2), 6)


# --- modules ----------------------------------------------------------------------------------------------------


def test_a_bundle_has_each_module_once_and_before_who_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "page.js": 'import { b } from "./b.js";\nimport { a } from "./a.js";\nexport const page = a + b;\n',
        "b.js": 'import { a } from "./a.js";\nexport function b() {\n  return a;\n}\n',
        "a.js": "export const a = 1;\n",
    }
    monkeypatch.setattr(web, "source", files.__getitem__)
    assert web.bundle("page.js") == ("const a = 1;\nfunction b() {\n  return a;\n}\nexport const page = a + b;\n")


# --- data -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 10), max_size=3 * POINTS), st.integers(0, 1000))
def test_a_curve_keeps_the_mean_and_ends_with_the_last_step(losses: list[float], first: int) -> None:
    points = curve(losses, first)
    assert len(points["steps"]) == len(points["mean"]) == min(len(losses), POINTS)
    if losses:
        assert points["steps"][-1] == first + len(losses)
        lengths = np.diff([first, *points["steps"]])
        assert lengths.min() >= 1
        assert math.isclose(np.dot(lengths, points["mean"]) / len(losses), np.mean(losses), rel_tol=1e-3, abs_tol=1e-9)


@given(st.floats(-1e300, 1e300))
def test_rounded_numbers_are_near_and_short(number: float) -> None:
    assert math.isclose(round_digits(number), number, rel_tol=1e-3)
    assert len(repr(round_digits(number)).partition("e")[0].lstrip("-").replace(".", "").strip("0")) <= 4


@pytest.mark.slow
def test_a_run_is_json_and_tells_the_whole_training(recording: Recording) -> None:
    run = json.loads(json.dumps(Portrait(recording).run("anna", 0.5)))
    assert run["settings"]["n_embd"] == 8
    assert run["settings"]["validation"] == 0.2
    assert run["steps"] == 60
    assert run["losses"]["steps"] == list(range(1, 61))
    assert run["losses"]["mean"] == [round_digits(loss) for loss in recording.losses]
    assert run["held_out"] == [evaluation.as_dict() for evaluation in recording.evaluations]
    assert run["moments"] == [moment.step for moment in recording.moments]
    assert run["moment"]["step"] == min(recording.evaluations, key=lambda evaluation: evaluation.loss).step


def test_what_is_shown_stays_when_the_model_is_trained_on() -> None:
    trainer = Trainer(CORPUS, CONFIG, steps=20)
    trainer.run(10)
    portrait = Portrait(still(trainer.model))
    before = portrait.moment(10, "anna", 0.5)
    trainer.run(10)
    assert portrait.moment(10, "anna", 0.5) == before


@pytest.mark.slow
def test_a_moment_shows_the_model_of_its_step(recording: Recording) -> None:
    portrait = Portrait(recording)
    for step in (60, 0, 30):  # whatever has been looked at before
        model = recording.at(step)
        moment = portrait.moment(step, "bob", 0.7)
        texts = model.generate(20, seed=42, temperature=0.7)
        assert [string["text"] for string in moment["strings"]] == texts
        assert [string["known"] for string in moment["strings"]] == [text in CORPUS.documents for text in texts]
        means = model.score([string or "a" for string in texts]).nats
        for string, mean in zip(moment["strings"], means, strict=True):
            if 0 < len(string["text"]) < 8:  # of longer ones a score has the end too, in a window of its own
                assert math.isclose(string["nats"], mean, rel_tol=1e-3)
        assert moment["explanation"] == explanation_data(explain(model, "bob"))


def test_a_matrix_is_the_parameter_of_its_step(recording: Recording) -> None:
    for step in (0, 60):
        for shown in Portrait(recording).moment(step, "", 0.5)["matrices"]:
            matrix = Portrait(recording).matrix(step, shown["name"])
            values = recording.moment(step).parameters[shown["name"]]
            cells = shown.pop("cells")
            assert matrix == {**shown, "values": [round_digits(value) for value in values]}
            assert len(values) == shown["rows"] * shown["columns"]
            some = np.array(values).reshape(shown["rows"], shown["columns"])[:: -(-shown["rows"] // SAMPLED)]
            some = some[:, :: -(-shown["columns"] // SAMPLED)]
            assert np.allclose(cells, some / np.abs(some).max(), atol=0.005)
    with pytest.raises(TapeGPTError, match=r"matrix must be one of wte, wpe, .*, not 'w'"):
        Portrait(recording).matrix(0, "w")


def test_a_table_of_counts_is_no_picture() -> None:
    config = CONFIG.replace(kn_share=0.5, kn_rows=256, n_gram=2, gram_rows=64)
    portrait = Portrait(record(Trainer(CORPUS, config, engine="fast", steps=5), 2))
    run = portrait.run("bob", 0.5)
    shown = [matrix["name"] for matrix in run["moment"]["matrices"]]
    assert [name for name in config.shapes(len(CORPUS.vocabulary) + 1) if name not in shown] == ["kn_counts"]
    assert {name for operation in run["graph"] for name in operation["parameters"]} == set(shown)
    with pytest.raises(TapeGPTError, match="not 'kn_counts'"):
        portrait.matrix(5, "kn_counts")


def test_the_map_shows_the_first_two_principal_components(recording: Recording) -> None:
    table = np.array(recording.moments[-1].parameters["wte"]).reshape(-1, 8)[:-1]
    centred = table - table.mean(axis=0)
    _, _, axes = np.linalg.svd(centred)
    expected = centred @ axes[:2].T
    expected /= np.abs(expected).max()
    points = Portrait(recording).moment(60, "", 0.5)["embeddings"]
    assert [point["character"] for point in points] == list(recording.model.vocabulary)
    for column, axis in enumerate("xy"):
        found = np.array([point[axis] for point in points])
        sign = np.sign(found @ expected[:, column])
        assert np.abs(found - sign * expected[:, column]).max() < 0.02
    assert math.isclose(sum(point["share"] for point in points), 1.0, rel_tol=1e-2)


@pytest.mark.slow
def test_of_many_characters_the_frequent_ones_are_mapped() -> None:
    corpus = Corpus.of([chr(0x4E00 + number) * (1 + number % 7) for number in range(3 * MAPPED)])
    points = Portrait(record(Trainer(corpus, CONFIG, steps=1))).moment(1, "", 0.5)["embeddings"]
    assert len(points) == MAPPED
    assert min(point["share"] for point in points) >= 5 / 1200


def test_an_explanation_lists_what_is_most_likely(recording: Recording) -> None:
    model = recording.model
    data = explanation_data(explain(model, "cab"))
    assert (data["inputs"], data["targets"]) == (["", "c", "a", "b"], ["c", "a", "b", ""])
    for place, prefix in enumerate(["", "c", "ca", "cab"]):
        expected = list(model.next_probabilities(prefix).items())
        shown = data["next"][place]
        assert [token for token, _ in shown] == [token for token, _ in expected[: len(shown)]]
        assert len(shown) == min(LIKELY, model.vocab_size)
        assert math.isclose(data["target_p"][place], dict(expected)[data["targets"][place]], rel_tol=1e-3)
        assert math.isclose(data["surprises"][place], -math.log(data["target_p"][place]), rel_tol=1e-2, abs_tol=1e-3)
    assert [len(head) for layer in data["attention"] for head in layer] == [4, 4]


def test_a_model_as_it_is_can_be_looked_at() -> None:
    model = tapegpt.train(CORPUS, steps=5, n_embd=8, n_head=2, block_size=8)
    run = Portrait(still(model)).run("a", 0.5)
    assert (run["losses"], run["moments"]) == ({"steps": [], "mean": []}, [5])
    assert run["moment"]["loss"] is None
    assert not any(string["known"] for string in run["moment"]["strings"])


@pytest.mark.slow
def test_threads_may_look_at_different_moments_at_once(recording: Recording) -> None:
    portrait = Portrait(recording)
    steps = [moment.step for moment in recording.moments] * 8
    expected = {step: portrait.moment(step, "anna", 0.5) for step in set(steps)}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda step: portrait.moment(step, "anna", 0.5), steps))
    assert found == [expected[step] for step in steps]


@pytest.mark.parametrize(("step", "text"), [(61, "a"), (0, "é")])
def test_what_cannot_be_shown_is_told(step: int, text: Any, recording: Recording) -> None:
    with pytest.raises(TapeGPTError):
        Portrait(recording).moment(step, text, 0.5)
