"""Time budgets by a clock of their own: whatever things cost, the end is kept and most of the time is training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import Config, Corpus, Trainer, train
from tapegpt.data.holdout import hold_out
from tapegpt.data.sources import Source
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines.base import Adam
from tapegpt.machine.target import AVX2, AVX512, INTERPRETED, NEON, SSE2
from tapegpt.settings import Settings
from tapegpt.training import clock
from tapegpt.training.clock import (
    EVALUATIONS,
    MOST_EVALUATIONS,
    Clock,
    layers,
    sample_for_ngrams,
    sample_held_out,
    seconds_a_position,
    weights,
    within,
)
from tapegpt.training.trainer import DECAYS
from tests.properties import many

SHAPE = Config(1, 8, 2, 6)
CORPUS = Corpus.of([f"{number:04b}" for number in range(16)])
FAST: dict[str, Any] = {"engine": "fast", "batch_size": 4, "validation": 0.3}
BUDGET = 4.0


class Spent:
    """A training whose clock goes on only where time is spent: so many seconds a step, in turn, and an evaluation.

    Of so few documents so many passes do not help, but that is of no matter here unless it is said.
    """

    def __init__(
        self, started: float, steps: Sequence[float], evaluation: float, passes: float = 1e9, **options: Any
    ) -> None:
        Trainer(CORPUS, SHAPE, **FAST)  # so that its code is there, which is compiled by another clock
        self.now, self.training, self.evaluated = 0.0, 0.0, list[float]()
        self.rates = list[float]()  # learning rates, as shares of their peak
        self.decays = list[tuple[float, float]]()  # as shares of those for a pass
        costs = cycle(steps)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.perf_counter", lambda: self.now)
            patch.setattr("tapegpt.training.trainer.passes_that_help", lambda documents: passes)
            self.run = run = Trainer(CORPUS, SHAPE, **{"budget": BUDGET, **FAST, **options})
            self.now += started

            def train(tokens: object, adam: Adam, first: int, count: int, progress: float) -> list[float]:
                took = count * next(costs)
                self.rates.append(1 - progress / adam.steps)
                self.decays.append((adam.weight_decay / DECAYS["weight_decay"], adam.gram_decay / DECAYS["gram_decay"]))
                self.training += took
                self.now += took
                run.model.engine.steps = first + count
                return [1.0] * count

            def evaluate(tokens: object) -> tuple[float, int]:
                self.now += evaluation
                self.evaluated.append(self.now)
                return 1.0, 1

            run.model.engine.train, run.model.engine.evaluate = train, evaluate  # type: ignore[method-assign,assignment]
            self.losses = [loss for losses in run.chunks() for loss in losses]
            self.is_over = run.is_over


costs = st.floats(1e-5, 0.02)


@pytest.mark.slow
@given(st.floats(0, 1.5), costs, st.lists(st.floats(0.6, 1.8), max_size=4), st.floats(1e-5, 0.06))
@settings(max_examples=many(60))
def test_the_end_is_kept_and_most_of_the_time_is_training(
    started: float, step: float, factors: list[float], evaluation: float
) -> None:
    """Also where steps take turns of different costs, which nobody can foresee."""
    spent = Spent(started, [step, *(factor * step for factor in factors)], evaluation)
    assert spent.run.step == len(spent.losses)
    assert BUDGET - 4 * step - 0.05 <= spent.now <= (1.05 * BUDGET if factors else BUDGET + 1e-9)
    assert spent.training >= 0.5 * BUDGET
    overhead = 2 * evaluation + MOST_EVALUATIONS * BUDGET  # to measure, the last, all others
    assert spent.training >= BUDGET - started - overhead - 4 * step - 0.05


@given(costs, st.floats(1e-5, 0.05))
@settings(max_examples=many(40))
def test_the_last_evaluation_is_of_the_last_step_and_in_time(step: float, evaluation: float) -> None:
    spent = Spent(0.5, [step], evaluation)
    run, (measured, *others) = spent.run, spent.evaluated
    assert run.evaluations[-1].step == run.step
    assert len(others) == len(run.evaluations)
    assert BUDGET - 2 * step - 0.05 <= others[-1] == spent.now <= BUDGET + 1e-9
    assert spent.rates[0] > 0.98
    assert spent.rates[-1] < 0.1
    wanted = min(EVALUATIONS, int(MOST_EVALUATIONS * (BUDGET - 0.5) / evaluation))
    assert wanted - 1 <= len(others) - 1 <= wanted  # which hangs on the last bit of what was measured
    gaps = [later - earlier for earlier, later in zip([measured - evaluation, *others], others, strict=False)]
    assert max(gaps) - min(gaps) <= 0.2 + 3 * (step + evaluation)  # evenly spaced, but for chunks


@pytest.mark.parametrize("started", [4.0, 4.5, 60.0])
def test_a_time_that_is_over_before_the_training_gives_one_step_and_its_loss(started: float) -> None:
    spent = Spent(started, [0.1], 0.01)
    assert spent.losses == [1.0]
    assert [evaluation.step for evaluation in spent.run.evaluations] == [1]
    assert spent.run.passes == 4 / len(spent.run.training)


@pytest.mark.parametrize("count", [0, 1, 2, 5, EVALUATIONS, 50])
def test_evaluations_are_as_many_as_their_share_pays_evenly_spaced(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last, at the end, is not among them."""
    now, took, span = 100.0, 1 / 1024, 4.0
    share = MOST_EVALUATIONS * span / (count + 0.5)  # of an evaluation

    def evaluate() -> None:
        nonlocal now
        now += share

    monkeypatch.setattr("time.perf_counter", lambda: now)
    spending = clock.Clock(span, now)
    spending.begin()
    spending.measure_evaluation(evaluate)
    due = list[float]()
    while now < 100.0 + span:
        if spending.evaluation_is_due():
            due.append(now)
        now += took
    expected = min(count, EVALUATIONS)
    assert due == pytest.approx([100 + span * (1 + place) / (expected + 1) for place in range(expected)], abs=2 * took)


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_a_budget_ends_where_more_would_be_learned_by_heart(validation: float) -> None:
    """After as many passes as help, with the learning rate at zero."""
    spent = Spent(0.5, [1e-3], 1e-3, passes=50.0, validation=validation)
    run = spent.run
    assert run.step == len(spent.losses) == -(-50 * len(run.training) // 4)
    assert 50 <= run.passes < 50.5
    assert spent.now < 1
    assert run.is_complete
    assert spent.is_over
    assert run.run(9) == []
    assert spent.rates == sorted(spent.rates, reverse=True)
    assert spent.rates[-1] < 0.3  # of the last chunk's first step
    assert [evaluation.step for evaluation in run.evaluations][-1:] == [run.step] * bool(validation)


def test_a_budget_that_affords_fewer_passes_is_used_up() -> None:
    spent = Spent(0.5, [1e-3], 1e-3, passes=2000.0)
    assert BUDGET - 0.1 <= spent.now <= BUDGET
    assert not spent.run.is_complete
    assert spent.is_over


@pytest.mark.parametrize("larger", [1, 3])
def test_a_longer_budget_decays_faster_and_a_larger_output_layer_too(
    larger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the passes it affords and the weights: else a model of many characters memorises which go together."""
    documents, size = len(hold_out(CORPUS, 0.3, 42)[0]), weights(SHAPE, CORPUS.vocab_size)
    monkeypatch.setattr("tapegpt.training.trainer.DOCUMENTS", documents)
    monkeypatch.setattr("tapegpt.training.trainer.WEIGHTS", size / larger)
    rows = larger * layers(SHAPE, CORPUS.vocab_size) / size
    for passes in (10.0, 40.0):
        spent = Spent(0.5, [1e-3], 1e-3, passes, weight_decay=None)
        assert spent.decays[-1] == pytest.approx((passes * larger, passes * max(rows, 1)), rel=0.05)


def test_the_more_documents_the_more_passes_help() -> None:
    assert [clock.passes_that_help(count) for count in (1, 800, 5000, 20_000, 2_000_000)] == [4, 4, 10, 20, 200]
    assert Trainer(CORPUS, SHAPE, **FAST, budget=1e9)._steps == -(-4 * len(hold_out(CORPUS, 0.3, 42)[0]) // 4)
    assert Trainer(CORPUS, SHAPE, **FAST, steps=99)._steps == 99  # as they are given


def test_the_schedule_ends_with_the_time_or_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning rate falls by whatever is nearer its end."""
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    time = Clock(BUDGET, 0.0)
    time.begin()
    time.took(100, 1.0)
    now = BUDGET / 4
    assert _place(time, step=0, most=1_000_000) == (400, 0.25)  # 100 steps a second, a quarter of the time
    assert _place(time, step=50, most=100) == (100, 0.5)
    assert _place(time, step=10, most=100) == (100, 0.25)


def _place(time: Clock, step: int, most: int) -> tuple[int, float]:
    """Steps of a schedule, and the share of them where a training stands."""
    adam, progress = time.schedule(Adam(), step, most)
    return adam.steps, progress / adam.steps


def test_a_resumed_schedule_goes_on_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 100.0)
    resumed = Clock(4.0, 100.0)
    resumed.spent = 1.0
    resumed.begin()
    resumed.took(1, 0.01)
    adam, progress = resumed.schedule(Adam(), 0, 10**9)
    assert (adam.steps, progress) == (400, 100.0)


def test_threads_are_as_many_as_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
    wide = Config(4, 256, 4, 16)
    assert [clock.threads_that_pay(wide, 27, batch_size) for batch_size in (1, 7, 8, 16, 1024)] == [1, 1, 2, 4, 64]
    assert [clock.threads_that_pay(SHAPE, 27, batch_size) for batch_size in (16, 1024)] == [1, 6]


def test_what_is_excluded_does_not_count() -> None:
    late, early = clock.Clock(4.0, 1e6), clock.Clock(4.0, 1e6)
    early.exclude(1.5)
    assert late.spent - early.spent == pytest.approx(1.5, abs=0.1)


def test_what_is_excluded_moves_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    time = Clock(BUDGET, now)
    time.begin()
    time.took(100, 1.0)
    now += 1.5
    time.exclude(1.5)
    assert _place(time, step=0, most=10**9) == (400, 0.0)


def test_no_more_is_spent_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    time, endless = Clock(BUDGET, now), Clock(None, now)
    for gone, spent in ((0.0, 0.0), (1.5, 1.5), (4.0, 4.0), (9.0, 4.0)):
        now = 100.0 + gone
        assert (time.spent, endless.spent) == (spent, 0.0)


def test_a_chunk_takes_its_time_or_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    time = Clock(BUDGET, now)
    assert time.affordable() == 1  # before anything is known
    time.took(128, 1.0)
    steps = []
    for left in (128.0, 6.5, 6.0, 5.5, 1.0, 0.5, -3.0):
        now = BUDGET - left / 128
        steps.append(time.affordable())
    assert steps == [6, 6, 6, 5, 1, 0, 0]


# Samples


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core with AVX-512, whatever this machine has."""
    monkeypatch.setattr("tapegpt.training.clock.host_target", lambda: AVX512)


MANY = Corpus([f"{number:06d}" for number in range(50_000)], Vocabulary.of("0123456789"))


@pytest.mark.usefixtures("core")
def test_samples_grow_with_the_budget_and_with_what_the_shape_leaves() -> None:
    def judges(budget: float, config: Config = SHAPE, threads: int = 1) -> int:
        return len(sample_held_out(MANY, config, Settings(engine="fast", budget=budget, threads=threads)))

    assert judges(1e-6) == 1
    assert 0 < judges(0.1) < judges(0.2) < judges(0.2, threads=2) < judges(10.0) == len(MANY)
    assert judges(0.2, SHAPE.replace(n_embd=64)) < judges(0.2) / 20
    cost = clock.EVALUATION_COST * seconds_a_position(SHAPE, MANY.vocab_size, 7) * 7 * judges(0.2)
    assert 0.9 * clock.ONE_EVALUATION <= cost / 0.2 <= clock.ONE_EVALUATION
    assert len(sample_for_ngrams(MANY, 0.7)) == 25_000
    assert sample_for_ngrams(MANY, 1.4) == MANY


@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=30), st.integers(1, 200))
def test_a_sample_is_evenly_spaced(documents: list[str], predictions: int) -> None:
    corpus = Corpus.of(documents)
    assert corpus.predictions == corpus.tokens().starts[-1]
    sample = corpus.sample(predictions)
    if corpus.predictions <= predictions:
        assert sample is corpus
        return
    count = len(sample)
    assert count == max(len(documents) * predictions // corpus.predictions, 1) < max(len(documents), 2)
    assert sample.documents == [documents[place * len(documents) // count] for place in range(count)]
    assert (sample.vocabulary, sample.source) == (corpus.vocabulary, None)


@pytest.mark.slow
@pytest.mark.usefixtures("core")
def test_a_budget_judges_by_the_same_strings_each_time() -> None:
    first, second = (Trainer(MANY, SHAPE, **{**FAST, "budget": 0.05}) for _ in range(2))
    assert first.held_out
    assert first.judged
    assert first.judged == second.judged != first.held_out
    assert set(first.judged.documents) < set(first.held_out.documents)
    assert len(first.counted) == 0.05 * 250_000 // 7 < len(first.training)
    by_steps = Trainer(MANY, SHAPE, **FAST, steps=5)
    assert by_steps.judged is by_steps.held_out
    assert by_steps.counted is by_steps.training
    assert first.baselines().keys() == by_steps.baselines().keys()
    assert first.baselines()["bigram"] == pytest.approx(by_steps.baselines()["bigram"], abs=0.05)


def test_a_position_takes_as_long_as_its_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(
        target: Any = AVX512, config: Config = SHAPE, vocab_size: int = 30, length: float = 7, **more: int
    ) -> float:
        monkeypatch.setattr("tapegpt.training.clock.host_target", lambda: target)
        return seconds_a_position(config, vocab_size, length, **more)

    assert takes() == 2 * takes(threads=2) == takes(AVX2) / 2 == takes(NEON) / 4 == takes(SSE2) / 8
    assert takes(INTERPRETED) > 1000 * takes()
    assert weights(Config(2, 32, 8), 100) == 2 * 12 * 32 * 32 + 3200
    assert takes(length=6) == takes(length=60)  # which windows of the block are
    assert takes(length=3) < takes() < takes(vocab_size=300) < takes(config=SHAPE.replace(n_layer=9))
    assert 1.1e-6 < takes(config=Config(1, 32, 8)) < 1.6e-6  # 1.3 us as measured


def test_a_budget_reads_a_megabyte_a_second(tmp_path: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"abcdefg\n" * 10_000)
    source = Source(paths=(str(path),))
    assert within(source, None) is within(source, 0.08) is source
    assert within(source, 0.02) == source.replace(sample=20_000)
    assert 2500 <= len(within(source, 0.02).documents()) <= 2516


def test_reading_is_part_of_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def documents() -> Iterator[str]:
        nonlocal now
        yield from CORPUS.documents
        now += 1000.0

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert train(documents(), model=SHAPE, engine="fast", batch_size=4, budget=BUDGET).steps == 1
