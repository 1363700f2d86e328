"""The space of a sweep, its plan and its reckoning, against what is written here a second time, plainly."""

from __future__ import annotations

import math
import time
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config, TapeGPTError
from tapegpt.data.rng import Random
from tapegpt.experiments import search
from tapegpt.experiments.pacing import Pacing
from tapegpt.experiments.population import Candidate, Outcome
from tapegpt.experiments.search import (
    FINALISTS,
    LEAST_STEPS,
    Plan,
    Rung,
    Space,
    draw,
    fields_of,
    halve,
    is_logarithmic,
    plan_by_steps,
    survivors,
)
from tapegpt.experiments.sweep import SweepSetup
from tapegpt.settings import Settings


def shape(candidate: Candidate) -> Any:
    """Its model, whose settings types do not know."""
    return candidate.config


def outcome(number: int, loss: float) -> Outcome:
    return Outcome(Candidate(number, Config(), Settings()), loss, None, loss, 0.1, {}, 100)


# --- the space --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.01, 0.1, -1.0]), min_size=1, max_size=3),
)
def test_a_grid_is_all_combinations_that_can_be_each_once(
    widths: list[int], heads: list[int], rates: list[float]
) -> None:
    possible = [(w, h, r) for w, h, r in product(widths, heads, rates) if w % h == 0 and r > 0]
    space = Space({"n_embd": widths, "n_head": heads, "learning_rate": rates})
    if not possible:
        assert space.candidates(1000, 42) == []
        return
    candidates = space.candidates(1000, 42)
    found = [(shape(c).n_embd, shape(c).n_head, c.settings.learning_rate) for c in candidates]
    assert found == list(dict.fromkeys(possible))
    assert [c.number for c in candidates] == list(range(len(found)))
    assert sum(space.left_out.values()) == len(widths) * len(heads) * len(rates) - len(possible)
    assert {c.settings.seed for c in candidates} == {42}


@given(st.integers(0, 2**40), st.integers(1, 30))
def test_draws_are_possible_distinct_within_their_ranges_and_the_seed_s(seed: int, trials: int) -> None:
    def candidates() -> list[Candidate]:
        ranges = {"n_embd": (16, 64), "learning_rate": (0.001, 0.1), "warmup": (0.1, 0.3)}
        return Space({"engine": ["fast"], "batch_size": [8, 16]}, ranges, options={"steps": 9}).candidates(trials, seed)

    found = candidates()
    assert found == candidates()
    assert len({(c.config, c.settings) for c in found}) == len(found) == trials
    for each in found:
        assert 16 <= shape(each).n_embd <= 64
        assert shape(each).n_embd % 4 == 0
        assert 0.001 <= each.settings.learning_rate <= 0.1
        assert 0.1 <= each.settings.warmup <= 0.3
        assert float(f"{each.settings.learning_rate:.4g}") == each.settings.learning_rate
        assert (each.settings.steps, each.settings.engine) == (9, "fast")
        assert each.settings.batch_size in (8, 16)


def test_a_range_with_few_candidates_gives_those() -> None:
    assert sorted(shape(c).n_embd for c in Space(random={"n_embd": (4, 14)}).candidates(50, 1)) == [4, 8, 12]


def test_draws_end_after_so_many_in_vain_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quarters of these are impossible, which is no reason to stop."""
    monkeypatch.setattr(search, "TRIES", 40)
    space = Space(random={"n_embd": (4, 4000)})
    assert len(space.candidates(60, 1)) == 60
    assert sum(space.left_out.values()) > 2 * search.TRIES


def test_combinations_take_turns_in_the_draws() -> None:
    drawn = Space({"batch_size": [8, 16, 24]}, {"warmup": (0.0, 0.5)}, options={"engine": "fast"}).candidates(7, 1)
    assert [each.settings.batch_size for each in drawn] == [8, 16, 24, 8, 16, 24, 8]


def test_a_grid_may_have_as_many_combinations_as_there_may_be_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_TRIALS", 6)
    assert len(Space({"n_embd": [4, 8], "steps": [1, 2, 3]}).candidates(9, 1)) == 6
    with pytest.raises(TapeGPTError, match="the grid has 8 combinations; the limit is 6: give random ranges"):
        Space({"n_embd": [4, 8], "steps": [1, 2, 3, 4]})


def test_presets_are_searched_like_fields_and_are_what_is_not_searched() -> None:
    both = Space({"preset": ["quick", "good"]}, options={"n_embd": 24}).candidates(9, 1)
    assert [(shape(c).n_embd, shape(c).n_head, c.settings.steps) for c in both] == [(24, 8, 6000), (24, 6, 25_000)]
    one = Space({"n_embd": [16]}, preset="quick").candidates(9, 1)
    assert (shape(one[0]).n_gram, one[0].settings.engine) == (4, "fast")


@given(st.integers(0, 1000), st.integers(1, 10**6), st.integers(1, 10**6))
def test_whole_fields_get_whole_numbers_with_both_ends(seed: int, low: int, more: int) -> None:
    number = draw(Random(seed), low, low + more, whole=True)
    assert isinstance(number, int)
    assert low <= number <= low + more


def test_a_range_of_a_decade_is_drawn_by_its_logarithm() -> None:
    rng = Random(1)
    below = sum(draw(rng, 0.001, 0.1, whole=False) < 0.01 for _ in range(2000))
    assert 900 < below < 1100
    flat = sum(draw(rng, 0.02, 0.1, whole=False) < 0.06 for _ in range(2000))
    assert 900 < flat < 1100


@pytest.mark.parametrize(
    "asked", [{"grid": ["n_embd"]}, {"random": "n_embd"}, {"grid": {"engine": "fast"}}, {"grid": {"n_embd": 4}}]
)
def test_what_is_no_list_of_values_by_name_is_refused(asked: Any) -> None:
    with pytest.raises(
        TapeGPTError, match=r"(must be a Mapping, not .*: give values by name|must be several in a list)"
    ):
        Space(**asked)


@pytest.mark.parametrize(
    ("grid", "random", "options", "message"),
    [
        ({"n_layers": [1]}, {}, {}, "a sweep searches in n_layer, "),
        ({"budget": [1]}, {}, {}, "not in 'budget'"),
        ({}, {"validation": (0, 1)}, {}, "not in 'validation'"),
        ({"n_embd": []}, {}, {}, "grid n_embd: there is no value"),
        ({"n_embd": [1]}, {"n_embd": (1, 2)}, {}, "n_embd has values and a range: give one"),
        ({"n_embd": [1]}, {}, {"n_embd": 2}, "n_embd is searched and given"),
        ({}, {"engine": (1, 2)}, {}, "random engine: engine is no number"),
        ({}, {"preset": (1, 2)}, {}, "random preset: preset is no number"),
        ({}, {"n_embd": (16, 64.5)}, {}, "random n_embd: a range is two whole numbers, not"),
        ({}, {"learning_rate": (0.1, math.nan)}, {}, "a range is two numbers, not"),
        ({}, {"learning_rate": 0.1}, {}, "a range is two numbers, not 0.1"),
        ({}, {"learning_rate": (0.1, 0.1)}, {}, "a range rises, 0.1 to 0.1 does not"),
        ({"n_embd": range(1000), "n_head": range(1000)}, {}, {}, "the grid has 1,000,000 combinations"),
    ],
)
def test_what_is_no_space_is_told_in_one_line(grid: Any, random: Any, options: Any, message: str) -> None:
    with pytest.raises(TapeGPTError) as caught:
        Space(grid, random, options=options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_but_the_sweep_s_own_can_be_searched() -> None:
    everything = {**Config().as_dict(), **Settings().as_dict(), "preset": "quick"}
    fields = fields_of(Config)
    assert set(everything) - set(fields) == {"budget", "validation", "patience"}
    for name in fields:
        assert Space({name: [everything[name]]}).candidates(2, 5)


@pytest.mark.parametrize(
    "counts", [{"trials": 0}, {"seeds": -1}, {"threads": 100_001}, {"trials": True}, {"seeds": 1.0}]
)
def test_counts_out_of_range_are_refused(counts: Any) -> None:
    with pytest.raises(TapeGPTError, match=f"{next(iter(counts))} must be a whole number from 1 to"):
        SweepSetup(**counts)


# --- the plan ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 10**6), st.integers(1, 9))
def test_a_plan_ends_with_few_candidates_all_steps_and_all_seeds(trials: int, steps: int, seeds: int) -> None:
    plan = plan_by_steps(trials, steps, seeds)
    assert plan.rungs[0].count == trials
    assert plan.rungs[-1].count <= FINALISTS
    assert (plan.rungs[-1].steps, plan.rungs[-1].seeds) == (steps, seeds)
    for early, late in zip(plan.rungs, plan.rungs[1:], strict=False):
        assert early.seeds == 1
        assert early.count >= 3 * late.count
        assert early.steps in (late.steps // 3, late.steps)
        assert early.steps >= min(LEAST_STEPS, steps)
    assert Plan.parse(str(plan)) == plan


def test_a_hundred_candidates_are_halved_as_hyperband_does() -> None:
    assert str(plan_by_steps(100, 6750, 3)) == "100x250 33x750 11x2250 3x6750x3"
    assert str(plan_by_steps(100, 1000, 3)) == "100x111 33x333 5x1000x3"
    assert str(plan_by_steps(100, 200, 3)) == "100x200 5x200x3"
    assert str(plan_by_steps(4, 200, 1)) == "4x200"
    assert (halve(5), halve(6), halve(15)) == ([5], [6, 2], [15, 5])
    assert str(plan_by_steps(6, 3 * LEAST_STEPS, 1)) == "6x100 2x300"
    assert str(plan_by_steps(6, 3 * LEAST_STEPS - 1, 1)) == "6x299 2x299"


@given(st.integers(2, 200), st.integers(1, 5000))
def test_later_rungs_are_judged_by_more_strings_the_last_by_all(trials: int, held_out: int) -> None:
    plan = plan_by_steps(trials, 10**6, 1)
    counts = [plan.strings(rung, held_out) for rung in range(len(plan.rungs))]
    assert counts == sorted(counts)
    assert counts[0] >= min(held_out, 500)
    assert counts[-1] == held_out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "3x",
        "x5",
        "3x5x2x1",
        "0x5",
        "3x0",
        "-3x5",
        "3x5,2x6",
        "²x5",
        "1e3x5",
        "2x5 3x9",
        "9x9x1001",
        "900x9x900",
    ],
)
def test_what_is_no_plan_is_told_in_one_line(text: str) -> None:
    with pytest.raises(
        TapeGPTError,
        match=r"(plan: a rung is CANDIDATESxSTEPS|a plan has rungs with fewer|must be a whole number from 1 to )",
    ):
        Plan.parse(text)


@given(st.lists(st.sampled_from([1.0, 2.0, 2.5, math.inf]), min_size=1, max_size=12), st.integers(1, 12))
def test_survivors_are_those_that_fewer_are_better_than(losses: list[float], number: int) -> None:
    found = survivors([outcome(place, loss) for place, loss in enumerate(losses)], number)

    def better(place: int) -> int:
        return sum(
            loss < losses[place] or (loss == losses[place] and other < place) for other, loss in enumerate(losses)
        )

    assert {each.number for each in found} == {place for place in range(len(losses)) if better(place) < number}
    assert [losses[each.number] for each in found] == sorted(losses[each.number] for each in found)


# --- how long they take -----------------------------------------------------------------------------------------


def test_what_strings_and_steps_take_is_told_apart_by_two_turns_and_then_scaled() -> None:
    pacing = Pacing(100.0, 0.0, 2)
    pacing.compare(500, (10, 0.11), (210, 0.31))
    assert pacing.a_step == pytest.approx(1e-3)
    assert pacing.a_string == pytest.approx(0.2)  # 0.1 s is 100 steps
    pacing.learn(1000, 800, 5.0)
    assert pacing.a_step == pytest.approx(5e-3)


def test_half_of_the_longer_turn_at_least_is_for_its_steps() -> None:
    pacing = Pacing(100.0, 0.0, 2)
    pacing.compare(500, (10, 0.2), (110, 0.2))
    assert pacing.a_step == pytest.approx(1e-3)
    pacing.compare(500, (10, 0.001), (110, 0.2))
    assert pacing.a_string == 0.0


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3000)), min_size=1, max_size=4),
    st.floats(0.01, 1000.0),
    st.integers(1, 4),
)
def test_the_steps_that_are_affordable_fill_the_time_and_no_more(
    rungs: list[tuple[int, int]], seconds: float, threads: int
) -> None:
    pacing = Pacing(seconds, time.perf_counter(), threads)
    pacing.a_step, pacing.a_string = 1e-5, 0.2

    def takes(steps: int) -> float:
        turns = [(math.ceil(trainings / threads), strings) for trainings, strings in rungs]
        return 1e-5 * math.fsum(
            turn * (3**place * steps + 0.2 * strings) for place, (turn, strings) in enumerate(turns)
        )

    before = pacing.spent
    steps = pacing.affordable(rungs)
    assert steps == 1 or takes(steps) <= (seconds * 0.99 - before) * (1 + 1e-9)
    assert takes(steps + 1) > (seconds * 0.99 - pacing.spent) * (1 - 1e-9)


def test_a_rung_says_what_it_is() -> None:
    assert [str(Rung(3, 50)), str(Rung(3, 50, 2))] == ["3x50", "3x50x2"]


def test_a_range_of_a_decade_is_logarithmic() -> None:
    assert [is_logarithmic(*ends) for ends in ((1, 10), (1, 9.99), (0, 10), (-10, 10), (2, 20))] == [
        True,
        False,
        False,
        False,
        True,
    ]
