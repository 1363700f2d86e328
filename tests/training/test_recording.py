"""Recordings: what a training went through, and that a training can be done again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Corpus, DivergedError, TapeGPTError, Trainer
from tapegpt.models.trained import GPT
from tapegpt.training.recording import record, replay, spread, still
from tests.properties import many

CORPUS = Corpus.of(["anna", "bob", "cara", "abba", "barbara", "ada", "rob", "carob", "bar", "cab"])
CONFIG = Config(n_embd=8, n_head=2, block_size=8)
TRAININGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "exact, held out": {"validation": 0.2},
    "fast": {"engine": "fast", "batch_size": 3},
    "fast, held out, patience": {"engine": "fast", "batch_size": 3, "validation": 0.2, "patience": 3},
}


def saved(trainer: Trainer, path: Path, steps: int | None = None) -> GPT:
    """The model of a training that went on to the end, or to a step, as it comes back from a file."""
    for _ in trainer.chunks([steps] if steps else []):
        if steps and trainer.step >= steps:
            break
    trainer.keep(lambda model: tapegpt.save(model, path))
    return tapegpt.load(path)


@given(st.integers(1, 5000), st.integers(1, 60))
def test_moments_lie_between_both_ends_and_are_not_many_more_than_asked_for(steps: int, count: int) -> None:
    moments = spread(steps, count)
    assert (moments[0], moments[-1]) == (0, steps)
    assert moments == sorted(set(moments))
    assert len(moments) <= count + 1 + steps.bit_length()
    assert max(later - step for step, later in pairwise(moments)) <= steps / count + 1


def test_moments_double_while_they_are_nearer_than_evenly_spaced_ones() -> None:
    assert spread(1000, 10) == [0, 1, 2, 4, 8, 16, 32, 64, *range(100, 1001, 100)]
    assert spread(64, 4) == [0, 1, 2, 4, 8, 16, 32, 48, 64]


def test_what_is_not_trained_is_recorded_and_repeated_too() -> None:
    shape = CONFIG.replace(n_gram=2, gram_rows=20, kn_share=0.3, kn_rows=64).as_dict()
    model = tapegpt.train(CORPUS, engine="fast", steps=10, **shape)
    for recording in (still(model), replay(model, [0, 10], CORPUS)):
        assert recording.at(10).parameters == model.parameters


@pytest.mark.slow
@settings(max_examples=many(30))
@given(name=st.sampled_from(list(TRAININGS)), moments=st.lists(st.integers(0, 60)) | st.integers(1, 20))
def test_recording_changes_no_number_and_each_moment_is_the_model_of_its_step(
    name: str, moments: list[int] | int
) -> None:
    def trainer() -> Trainer:
        return Trainer(CORPUS, CONFIG, steps=60, **TRAININGS[name])

    recording = record(trainer(), moments)
    whole = trainer()
    assert recording.losses == [loss for chunk in whole.chunks() for loss in chunk]
    assert recording.model.parameters == whole.model.parameters == recording.moment(recording.step).parameters
    assert list(recording.evaluations) == whole.evaluations
    steps = [moment.step for moment in recording.moments]
    if isinstance(moments, list):
        asked = {step for step in moments if step <= whole.step}
        assert steps == sorted({0, *asked, recording.step, whole.step})
    for moment in recording.moments[:: max(1, len(steps) // 3)]:
        other = trainer()
        other.run(moment.step)
        assert moment.parameters == other.model.parameters
        assert recording.at(moment.step).generate(3, seed=1) == other.model.generate(3, seed=1)


def test_a_step_without_a_moment_shows_the_one_before() -> None:
    recording = record(Trainer(CORPUS, CONFIG, steps=20), [5, 10])
    assert [recording.moment(step).step for step in (0, 4, 5, 9, 10, 19, 20)] == [0, 0, 5, 5, 10, 10, 20]


@pytest.mark.parametrize("step", [-1, 21, 1.5, "2", True])
def test_a_step_outside_the_training_is_refused(step: Any) -> None:
    recording = record(Trainer(CORPUS, CONFIG, steps=20), 4)
    with pytest.raises(TapeGPTError, match=r"step must be a whole number from 0 to 20, not"):
        recording.moment(step)


def test_models_of_moments_are_independent() -> None:
    recording = record(Trainer(CORPUS, CONFIG, steps=20), [10])
    first, last = recording.at(0), recording.at(20)
    before = first.parameters
    last.engine.load_parameters(first.parameters)
    assert first.parameters == before
    assert recording.moments[-1].parameters == recording.model.parameters != before


def test_who_watches_sees_all_losses_and_can_end_the_training() -> None:
    seen: list[float] = []

    def watch(losses: list[float]) -> bool:
        seen.extend(losses)
        return len(seen) >= 10

    recording = record(Trainer(CORPUS, CONFIG, steps=50), [10, 30], watch)
    assert recording.losses == seen
    assert [moment.step for moment in recording.moments] == [0, 10]


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(DivergedError):
        record(Trainer(CORPUS, CONFIG, steps=1000, learning_rate=1000.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TRAININGS))
@pytest.mark.parametrize("cut", [None, 25])
def test_a_training_done_again_comes_out_as_the_first(name: str, cut: int | None, tmp_path: Path) -> None:
    model = saved(Trainer(CORPUS, CONFIG, steps=60, **TRAININGS[name]), tmp_path / "m", cut)
    recording = replay(model, 5, CORPUS)
    assert recording.moments[-1].step == model.steps
    assert recording.model.parameters == model.parameters
    assert recording.settings.steps == 60


def test_the_data_are_read_again_from_where_they_came(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CORPUS.documents))
    model = saved(Trainer(Corpus.read(names), CONFIG, steps=10), tmp_path / "m")
    assert replay(model).corpus == CORPUS
    names.write_text("other\nnames\n")
    with pytest.raises(TapeGPTError, match="is not what the model was trained on"):
        replay(model)


def test_what_cannot_be_repeated_is_told_why(tmp_path: Path) -> None:
    weights = Trainer(CORPUS, CONFIG, steps=5).model
    with pytest.raises(TapeGPTError, match="weights only"):
        replay(weights)
    timed = saved(Trainer(CORPUS, CONFIG, engine="fast", budget=0.01), tmp_path / "timed")
    with pytest.raises(TapeGPTError, match="followed the clock"):
        replay(timed, corpus=CORPUS)
    model = saved(Trainer(CORPUS, CONFIG, steps=10), tmp_path / "m")
    with pytest.raises(TapeGPTError, match="is not what the model was trained on"):
        replay(model, corpus=Corpus.of(["something", "else"]))
    assert model.state
    tuned = saved(Trainer.finetune(model, CORPUS, model.state.settings), tmp_path / "tuned")
    with pytest.raises(TapeGPTError, match=r"other weights come out"):
        replay(tuned, corpus=CORPUS)


def test_a_model_as_it_is_has_one_moment() -> None:
    model = tapegpt.train(CORPUS, steps=7, n_embd=8, n_head=2, block_size=8)
    recording = still(model)
    assert [moment.step for moment in recording.moments] == [7]
    assert recording.at(7).parameters == model.parameters


def test_moments_of_a_training_done_again_are_spread_over_the_steps_taken(tmp_path: Path) -> None:
    model = saved(Trainer(CORPUS, CONFIG, steps=60), tmp_path / "m", 25)
    assert [moment.step for moment in replay(model, 5, CORPUS).moments] == spread(25, 5)
