"""Populations: each training has the bits it has alone, whatever runs beside it; shapes share their machine code."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import sweep
from tapegpt import Config, Corpus, TapeGPTError, Trainer, load, save
from tapegpt.engines.exact import ExactEngine
from tapegpt.experiments.population import Candidate, Field, Outcome, populate
from tapegpt.machine import cache, program
from tapegpt.machine.program import Program
from tapegpt.processes import cores
from tapegpt.settings import Settings
from tests.properties import many

SHAPE = Config(n_embd=8, n_head=2, block_size=8)
CORPUS = Corpus.of([a + b + c for a in "abcde" for b in "iou" for c in ("", "na", "l", "llo", "rren")])
FIELD = Field(CORPUS, 0.2, 7)
FAST = Settings(engine="fast", batch_size=4, long="window", steps=20)


def candidate(number: int = 0, strings: int | None = None, **fields: Any) -> Candidate:
    return Candidate(number, SHAPE, Settings(**{"steps": 20, **fields}), strings)


def gist(outcomes: list[Outcome]) -> list[tuple[object, ...]]:
    """All but the seconds."""
    return [tuple(value for name, value in each.as_dict().items() if name != "seconds") for each in outcomes]


@pytest.mark.parametrize("how", [Settings(steps=20), Settings(steps=15), FAST, FAST.replace(long="cut", seed=3)])
def test_a_candidate_gets_the_bits_of_a_trainer_alone(how: Settings) -> None:
    outcome, model = FIELD.train(Candidate(0, SHAPE, how))
    trainer = Trainer(FIELD.training, SHAPE, how)
    losses = trainer.run(how.steps)
    assert model.parameters == trainer.model.parameters
    assert outcome.losses["mean"] == [float(f"{loss:.4g}") for loss in losses]
    assert outcome.training_loss == math.fsum(losses[-2:]) / 2
    total, count = trainer.model.engine.evaluate(FIELD.held_out.windows(8))
    assert outcome.loss == pytest.approx(total / count, rel=1e-6)  # f32 sums in another order
    assert outcome.parameters == model.num_parameters


def test_some_held_out_strings_are_the_same_for_all_and_no_prefix_of_the_file() -> None:
    _, model = FIELD.train(candidate())
    losses = [FIELD.loss(model, strings) for strings in (3, 3, len(FIELD.held_out))]
    assert losses[0] == losses[1] != losses[2] == FIELD.loss(model)
    first = FIELD.held_out.replace(documents=FIELD.held_out.documents[:3]).windows(8)
    total, count = model.engine.evaluate(first)
    assert losses[0] != total / count


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30), st.sampled_from([0.001, 0.01, 500.0])), max_size=12),
    st.booleans(),
    st.integers(0, 3),
)
@settings(max_examples=many(12, few=5))
def test_threads_change_nothing_but_the_time(trainings: list[tuple[int, int, float]], fast: bool, keep: int) -> None:
    how = FAST if fast else Settings()
    candidates = [
        Candidate(number, SHAPE, how.replace(seed=seed, steps=steps, learning_rate=rate))
        for number, (seed, steps, rate) in enumerate(trainings)
    ]
    expected = [FIELD.train(each) for each in candidates]
    best = sorted(expected, key=lambda pair: pair[0].loss)[:keep]
    for threads in (1, 2, 3, 4):
        population = populate(FIELD, iter(candidates), threads, keep)
        assert gist(list(population)) == gist([outcome for outcome, _ in expected])
        assert gist([outcome for outcome, _ in population.kept]) == gist([outcome for outcome, _ in best])
        assert [model.parameters for _, model in population.kept] == [model.parameters for _, model in best]


def test_a_training_that_diverges_is_an_outcome_and_the_others_go_on() -> None:
    rates = (0.01, 1000.0, 0.02)
    candidates = [
        candidate(number, learning_rate=rate, init_std=100.0 if rate > 1 else 0.08) for number, rate in enumerate(rates)
    ]
    first, second, third = populate(FIELD, candidates, 2)
    assert (second.loss, second.training_loss) == (math.inf, math.inf)
    assert "not finite" in second.diverged
    assert not first.diverged
    assert not third.diverged


def test_losses_up_to_a_divergence_are_kept_and_code_is_made_once() -> None:
    wild = candidate(steps=1000, learning_rate=0.5)
    outcome, model = FIELD.train(wild)
    assert outcome.diverged
    assert outcome.losses["steps"][-1] == model.steps > 1
    assert FIELD.prepare(wild) == 0.0


def test_a_population_that_is_left_trains_no_more() -> None:
    population = populate(FIELD, (candidate(), *[candidate(steps=100_000_000)] * 5), 2)
    assert next(population).candidate == candidate()
    population.close()  # comes back although trainings of hours have begun
    assert list(population) == []


def test_what_a_candidate_cannot_be_is_told() -> None:
    impossible = Candidate(0, SHAPE.replace(n_gram=3), Settings(steps=2))
    with pytest.raises(TapeGPTError, match="n_gram needs the engine fast"):
        list(populate(FIELD, [impossible], 2))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_training_that_fails_raises_in_its_turn_and_loses_no_other(threads: int) -> None:
    impossible = Candidate(1, SHAPE.replace(n_gram=3), Settings(steps=2))
    population = populate(
        FIELD, [candidate(0), impossible, candidate(2, steps=30), impossible, candidate(4)], threads, 3
    )
    found: list[object] = []
    for _ in range(5):
        try:
            found.append(next(population).candidate.number)
        except TapeGPTError as error:
            found.append(str(error)[:6])
    assert found == [0, "n_gram", 2, "n_gram", 4]
    assert len(population.kept) == 3
    with pytest.raises(StopIteration):
        next(population)


def test_a_thread_that_cannot_start_ends_a_population(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that train come to an end; nothing hangs."""
    start, count = Thread.start, [0]

    def failing(self: Thread) -> None:
        count[0] += 1
        if count[0] == 2:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(Thread, "start", failing)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        list(populate(FIELD, [candidate(number, steps=100_000_000) for number in range(4)], 3))


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, True, "2"])
def test_threads_out_of_range_are_refused(threads: Any) -> None:
    with pytest.raises(TapeGPTError, match="threads must be a whole number from 1 to 256"):
        populate(FIELD, [], threads)


def test_no_split_no_field() -> None:
    with pytest.raises(TapeGPTError, match="share to hold out"):
        Field(CORPUS, 0.0)


def test_a_model_that_is_kept_knows_what_it_was_trained_on(tmp_path: Path) -> None:
    for seed, source in ((7, CORPUS), (8, FIELD.training)):
        population = populate(FIELD, [candidate(seed=seed)], keep=1)
        list(population)
        ((_, model),) = population.kept
        save(model, tmp_path / "model.safetensors")
        kept = load(tmp_path / "model.safetensors")
        assert kept.data is not None
        kept.data.check_equals(source, "the data")
        assert kept.state is not None
        whole = Trainer(source, SHAPE, kept.state.settings)  # holds out the same strings itself
        assert whole.training == FIELD.training
        whole.run(20)
        assert whole.model.parameters == kept.parameters


# --- machine code that is shared --------------------------------------------------------------------------------


def shared(engine: ExactEngine) -> object:
    return engine._program._code


@pytest.mark.slow
def test_programs_that_live_together_share_their_code() -> None:
    one, other = ExactEngine(SHAPE, 27), ExactEngine(SHAPE, 27)
    assert shared(one) is shared(other)
    assert shared(one) is not shared(ExactEngine(SHAPE, 28))
    gc.collect()  # engines of other tests too
    count = len(program._shared)
    del one
    gc.collect()
    assert len(program._shared) == count  # the other one has it
    del other
    gc.collect()
    assert len(program._shared) == count - 1


@pytest.mark.slow
def test_threads_that_need_a_shape_at_once_compile_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    compiled = []
    compile_ = Program._compile

    def counted(self: Program) -> bytes:
        compiled.append(self)
        return compile_(self)

    monkeypatch.setattr(Program, "_compile", counted)
    engines: list[ExactEngine] = []
    barrier = Barrier(3)

    def make() -> None:
        barrier.wait()
        engines.append(ExactEngine(Config(n_embd=2, n_head=1, block_size=2), 3))

    threads = [Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert len({id(shared(engine)) for engine in engines}) == 1


# --- benchmarks -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmarks_show_each_number_of_threads_and_each_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TRAININGS", 10)
    monkeypatch.setattr(sweep, "MODELS", 5)
    shown = sweep.by_threads(CORPUS, 1, Settings(steps=2)) + sweep.by_memory(CORPUS)
    first = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert [cell for cell in first if cell and "-" not in cell][-3:] == ["engine", "exact", "fast"]
    assert f"{cores()} thread(s)" in first
