"""Sweeps: halving does what it says, threads and interruptions change nothing, what cannot be is told in one line."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import Corpus, TapeGPTError
from tapegpt.cli import COMMANDS, main
from tapegpt.data.rng import Random
from tapegpt.experiments.journal import HEAD, JOURNAL, Journal
from tapegpt.experiments.optuna_sampler import WORST, adapt
from tapegpt.experiments.pacing import Pacing
from tapegpt.experiments.population import Candidate, Field, Outcome, Population, populate
from tapegpt.experiments.ranking import Sweep, mean_outcome
from tapegpt.experiments.search import Space
from tapegpt.experiments.sweep import Sweeping, SweepSetup, sweep
from tapegpt.models.trained import GPT
from tapegpt.settings import MAX_STEPS
from tests.properties import many

STRINGS = [a + b + c for a in "abcde" for b in "iou" for c in ("", "na", "l", "llo", "rren")]
CORPUS = Corpus.of(STRINGS)
BASE: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 8}
SEARCH: dict[str, Any] = {**BASE, "random": {"learning_rate": (0.001, 0.5)}, "trials": 20, "steps": 300, "seeds": 2}


def gist(swept: Sweep) -> Any:
    """All that is found but the seconds."""
    found = swept.as_json()
    for row in found["rows"]:
        del row["seconds"]
    return found


@cache
def searched() -> Sweep:
    return sweep(CORPUS, **SEARCH)


# --- halving ----------------------------------------------------------------------------------------------------


def toy_loss(candidate: Candidate) -> float:
    """Worse off the best rate, better with steps, and noise of the seed and the candidate."""
    how = candidate.settings
    noise = Random(f"{candidate.number} {how.seed} {how.steps}").random()
    return abs(math.log(how.learning_rate / 0.02)) + 100 / how.steps + noise


def toy(field: Field, candidates: Iterable[Candidate], threads: int | None = None, keep: int = 0) -> Population:
    """An executor that trains nothing."""
    return Population((Outcome(each, toy_loss(each), None, 1.0, 0.1, {}, 9) for each in candidates), [])


@pytest.mark.slow
@given(st.integers(1, 150), st.integers(1, 3), st.integers(1, 5000) | st.just("x50x2 7x60 2x90x3"), st.integers(0, 9))
@settings(max_examples=many(30))
def test_halving_is_what_sorting_by_hand_gives(trials: int, seeds: int, length: int | str, seed: int) -> None:
    trials = trials if isinstance(length, int) else max(trials, 7)
    how: dict[str, Any] = {"steps": length} if isinstance(length, int) else {"plan": f"{trials}{length}"}
    ranges = {"learning_rate": (0.001, 0.5)}
    swept = sweep(CORPUS, **BASE, **how, random=ranges, trials=trials, seeds=seeds, seed=seed, executor=toy)
    rates = [row.outcome.candidate for row in sorted(swept.rows, key=lambda row: row.outcome.candidate.number)]
    alive, ranking = rates, list[int]()
    for rung in swept.plan.rungs:
        alive = alive[: rung.count]
        scored = []
        for each in alive:
            runs = [
                toy_loss(each.replace(settings=each.settings.replace(steps=rung.steps, seed=seed + place)))
                for place in range(rung.seeds)
            ]
            scored.append((statistics.fmean(runs), each.number))
        scored.sort()
        ranking = [number for _, number in scored] + [n for n in ranking if n not in {m for _, m in scored}]
        alive = [next(each for each in rates if each.number == number) for _, number in scored]
    assert [row.outcome.candidate.number for row in swept.rows] == ranking
    for row in swept.rows:
        assert row.outcome.loss == pytest.approx(statistics.fmean(each.loss for each in row.by_seed))


def test_the_last_rung_has_every_seed_its_mean_and_standard_error() -> None:
    best = searched().rows[0]
    losses = [each.loss for each in best.by_seed]
    assert [each.candidate.settings.seed for each in best.by_seed] == [42, 43]
    assert best.outcome.loss == pytest.approx(statistics.fmean(losses))
    assert best.outcome.error == pytest.approx(statistics.stdev(losses) / math.sqrt(2))
    assert searched().rows[-1].outcome.error is None
    assert str(searched().plan) == "20x100 5x300x2"


def test_a_seed_that_diverged_makes_the_mean_infinite() -> None:
    good = searched().rows[0].by_seed[0]
    mean = mean_outcome([good, good.replace(loss=math.inf, training_loss=math.inf, diverged="at step 3")])
    assert (mean.loss, mean.error, mean.diverged) == (math.inf, None, "at step 3")


def test_the_best_model_is_that_of_the_best_candidate() -> None:
    candidate = searched().rows[0].by_seed[0].candidate
    outcome, model = searched().field.train(candidate)
    assert searched().best.parameters == model.parameters
    assert searched().field.loss(searched().best) == outcome.loss == searched().rows[0].by_seed[0].loss
    # as after an interruption: no model is at hand
    elsewhere = Sweep(searched().rows, searched().plan, {}, {}, searched().field, [])
    assert elsewhere.best.parameters == model.parameters
    assert elsewhere.best.data == searched().best.data
    assert elsewhere.best is elsewhere.best  # it is trained once


def test_an_ensemble_is_of_the_best_trainings_of_the_last_rung() -> None:
    finals = sorted((each for row in searched().rows[:5] for each in row.by_seed), key=lambda outcome: outcome.loss)
    chosen = searched().ensemble(3).models
    assert [searched().field.loss(model) for model in chosen] == [outcome.loss for outcome in finals[:3]]
    for k in (0, 11):
        with pytest.raises(TapeGPTError, match=f"an ensemble has 1 to 10 models, which the last rung has, not {k}"):
            searched().ensemble(k)


def test_where_every_training_diverges_there_is_no_best_model() -> None:
    swept = sweep(CORPUS, **BASE, grid={"learning_rate": [900.0, 1000.0]}, init_std=1000.0, steps=20, seeds=1)
    assert [row.outcome.loss for row in swept.rows] == [math.inf, math.inf]
    assert json.loads(json.dumps(swept.as_json(), allow_nan=False))["rows"][0]["loss"] is None
    with pytest.raises(TapeGPTError, match="no training came to its end: "):
        _ = swept.best


def test_steps_that_are_searched_keep_their_proportions() -> None:
    swept = sweep(CORPUS, **BASE, grid={"steps": [100, 200]}, seeds=1)
    assert sorted(row.steps for row in swept.rows) == [100, 200]
    assert swept.differences() == []


def test_presets_that_are_searched_train_equally_long() -> None:
    swept = sweep(CORPUS, grid={"preset": ["quick", "good"], "n_gram": [1]}, gram_rows=16, seeds=1, executor=toy)
    assert [row.steps for row in swept.rows] == [25_000, 25_000]
    assert swept.differences() == ["n_embd", "n_head", "kn_share", "batch_size"]


def test_what_is_impossible_for_an_engine_is_left_out_and_counted() -> None:
    swept = sweep(CORPUS, **BASE, grid={"n_gram": [1, 3]}, steps=10, seeds=1)
    assert len(swept.rows) == 1
    ((reason, count),) = swept.left_out.items()
    assert reason.startswith("n_gram needs the engine fast")
    assert count == 1


# --- the same again ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_threads_change_nothing(threads: int) -> None:
    assert gist(sweep(CORPUS, **SEARCH, threads=threads)) == gist(searched())


@pytest.mark.slow
@given(st.floats(0.0, 1.0))
@settings(max_examples=many(15, few=3))
def test_a_sweep_that_was_killed_anywhere_goes_on_to_the_same(tmp_path_factory: Any, share: float) -> None:
    place = tmp_path_factory.mktemp("sweep")
    assert gist(sweep(CORPUS, **SEARCH, run_dir=place)) == gist(searched())
    journal = place / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole[: round(share * len(whole))])
    kept = journal.read_bytes().count(b"\n")
    trained = []

    def counted(field: Field, candidates: Iterable[Candidate], threads: int | None, keep: int) -> Population:
        candidates = list(candidates)
        trained.extend(candidates)
        return populate(field, candidates, threads, keep)

    resumed = sweep(CORPUS, **SEARCH, run_dir=place, executor=counted)
    assert gist(resumed) == gist(searched())
    assert len(trained) == whole.count(b"\n") - max(kept, 1)  # the first line says what is swept
    assert resumed.best.parameters == searched().best.parameters
    assert sorted(line.partition(b'"loss"')[0] for line in journal.read_bytes().splitlines()) == sorted(
        line.partition(b'"loss"')[0] for line in whole.splitlines()
    )


def test_a_journal_that_two_processes_began_is_gone_on_with(tmp_path: Path) -> None:
    sweep(CORPUS, **SEARCH, run_dir=tmp_path)
    journal = tmp_path / JOURNAL
    head, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([head, *lines[:3], head, *lines[:5]]))
    assert gist(sweep(CORPUS, **SEARCH, run_dir=tmp_path)) == gist(searched())


@pytest.mark.slow
def test_a_torn_journal_is_gone_on_with_twice(tmp_path: Path) -> None:
    """What a kill leaves of a line is gone before the next line is written, else that would be damaged too."""
    sweep(CORPUS, **SEARCH, run_dir=tmp_path)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:8]) + lines[8][:-9])

    def few(field: Field, candidates: Iterable[Candidate], threads: int | None, keep: int) -> Population:
        return populate(field, list(candidates)[:5], threads, keep)  # then it is interrupted

    with pytest.raises(RuntimeError, match="StopIteration"):
        sweep(CORPUS, **SEARCH, run_dir=tmp_path, executor=few)
    assert journal.read_bytes().startswith(b"".join(lines[:8]))
    assert journal.read_bytes().count(b"\n") == 8 + 5
    journal.write_bytes(journal.read_bytes() + b'{"key": [19')
    assert gist(sweep(CORPUS, **SEARCH, run_dir=tmp_path)) == gist(searched())
    keys = [json.loads(line)["key"] for line in journal.read_bytes().splitlines()[1:]]
    assert sorted(keys, key=str) == sorted((json.loads(line)["key"] for line in lines[1:]), key=str)


def test_a_sweep_that_goes_on_has_spent_what_it_had(tmp_path: Path) -> None:
    free = {name: value for name, value in SEARCH.items() if name != "steps"}
    sweep(CORPUS, **free, budget=1000, run_dir=tmp_path, executor=toy)
    lines = list(map(json.loads, (tmp_path / JOURNAL).read_bytes().splitlines()))
    first = next(place for place, line in enumerate(lines) if line.get("rung") == 1)
    lines[first - 1]["at"] = 999.0
    (tmp_path / JOURNAL).write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines[:first]))
    again = sweep(CORPUS, **free, budget=1000, run_dir=tmp_path, executor=toy)
    assert again.plan.rungs[1].steps == again.plan.rungs[0].steps  # no time is left for more
    after = [json.loads(line)["at"] for line in (tmp_path / JOURNAL).read_bytes().splitlines()[first:]]
    assert after
    assert min(after) > 999.0


def altered(journal: Path, place: int, **changes: Any) -> None:
    """A line of a journal with other values."""
    lines = list(map(json.loads, journal.read_bytes().splitlines()))
    lines[place].update(changes)
    journal.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"at": math.nan},
        {"at": -1.0},
        {"at": "1"},
        {"at": 10**400},
        {"loss": "low"},
        {"loss": math.nan},
        {"loss": 1e308},
        {"seconds": -1.0},
        {"seconds": None},
        {"parameters": 1.5},
        {"losses": [1]},
        {"losses": {"mean": [None]}},
        {"diverged": 1},
        {"error": math.inf},
        {"key": [0]},
        {"key": [[], [], [], []]},
        {"rung": 0, "steps": 2**63},
        {"rung": 0, "steps": 0},
        {"pace": 1},
    ],
    ids=repr,
)
def test_a_journal_whose_numbers_cannot_be_is_none(changes: dict[str, Any], tmp_path: Path) -> None:
    sweep(CORPUS, **SEARCH, run_dir=tmp_path, executor=toy)
    altered(tmp_path / JOURNAL, 3, **changes)
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(TapeGPTError, match="is no journal of a sweep"):
        sweep(CORPUS, **SEARCH, run_dir=tmp_path, executor=toy)
    assert (tmp_path / JOURNAL).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 43}, "seed"),
        ({"steps": 301}, "options"),
        ({"trials": 21}, "trials"),
        ({"random": {"learning_rate": (0.001, 0.4)}}, "random"),
    ],
)
def test_a_journal_of_another_sweep_is_left_alone(change: dict[str, Any], name: str, tmp_path: Path) -> None:
    sweep(CORPUS, **SEARCH, run_dir=tmp_path, executor=toy)
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(TapeGPTError, match=f"is of another sweep, whose {name} is ") as caught:
        sweep(CORPUS, **{**SEARCH, **change}, run_dir=tmp_path, executor=toy)
    assert "\n" not in str(caught.value)
    with pytest.raises(TapeGPTError, match="is of another sweep, whose data is "):
        sweep(Corpus.of(STRINGS[1:]), **SEARCH, run_dir=tmp_path, executor=toy)
    assert (tmp_path / JOURNAL).read_bytes() == before


@given(st.binary(min_size=1, max_size=60) | st.just(b"{}\n") | st.just(b'[1]\n{"at": 1}\n'), st.booleans())
def test_what_is_no_journal_is_told_and_left_as_it_is(tmp_path_factory: Any, noise: bytes, ended: bool) -> None:
    place = tmp_path_factory.mktemp("noise")
    content = noise + b"\n" * ended
    (place / JOURNAL).write_bytes(content)
    assume(not HEAD.startswith(content))  # which a journal is that was killed in its first line
    with pytest.raises(TapeGPTError, match="is no journal of a sweep"):
        sweep(CORPUS, **{**SEARCH, "trials": 1}, run_dir=place, executor=toy)
    assert (place / JOURNAL).read_bytes() == content


@pytest.mark.slow
def test_a_budget_makes_a_plan_that_gives_the_same_without_the_clock(tmp_path: Path) -> None:
    free = {name: value for name, value in SEARCH.items() if name != "steps"}
    timed = sweep(CORPUS, **free, budget=20, run_dir=tmp_path, executor=toy)
    assert len(timed.plan.rungs) == 2 + (timed.plan.rungs[0].count > 17)
    assert timed.plan.rungs[-1].steps >= timed.plan.rungs[0].steps >= 10
    again = sweep(CORPUS, **free, plan=str(timed.plan), executor=toy)
    assert gist(again) == gist(timed)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[:-3]))
    resumed = sweep(CORPUS, **free, budget="20s", run_dir=tmp_path, executor=toy)  # its rungs were settled before
    assert gist(resumed) == gist(timed)


def test_a_budget_beyond_all_steps_has_as_many_as_there_may_be() -> None:
    free = {name: value for name, value in SEARCH.items() if name != "steps"}
    swept = sweep(CORPUS, **free, budget=1e9, executor=toy)
    assert [(rung.count, rung.steps, rung.seeds) for rung in swept.plan.rungs] == [
        (20, MAX_STEPS, 1),
        (6, MAX_STEPS, 1),
        (2, MAX_STEPS, 2),
    ]


def test_a_turn_is_timed_until_its_steps_take_time_and_then_five(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[list[tuple[int, int]]] = []
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def slow(field: Field, candidates: Iterable[Candidate], threads: int | None, keep: int) -> Population:
        nonlocal now
        candidates = list(candidates)
        timed.append([(each.number, each.settings.steps) for each in candidates])
        now += 0.001 + 1e-5 * candidates[0].settings.steps
        return toy(field, candidates)

    free = {name: value for name, value in SEARCH.items() if name != "steps"}
    swept = sweep(CORPUS, **free, budget=30, executor=slow, threads=3)
    assert [timings[0][1] for timings in timed[:5]] == [10, 10, 40, 160, 160]
    assert [number for number, _ in timed[0]] == [0, 2, 4]
    assert [number for number, _ in timed[4]] == [*range(0, 20, 2)]
    assert swept.plan.rungs[0].steps > 1000


def test_the_clock_of_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    pacing = Pacing(100.0, now, 1)
    now = 60.0
    assert pacing.spent == 10.0
    pacing.exclude(4.0)
    assert pacing.spent == 6.0
    pacing.spent = 20.0
    assert pacing.spent == 26.0


def test_without_a_number_fifty_candidates_are_drawn() -> None:
    free = {name: value for name, value in SEARCH.items() if name != "trials"}
    assert [len(sweep(CORPUS, **free, trials=trials, executor=toy).rows) for trials in (None, 60)] == [50, 60]


# --- samplers ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sampler_of_optuna_chooses_whatever_the_threads() -> None:
    optuna = pytest.importorskip("optuna")
    space: dict[str, Any] = {**SEARCH, "grid": {"engine": ["exact"], "warmup": [0.0, 0.5]}, "trials": 30}
    named = sweep(CORPUS, **space, sampler="tpe", threads=1)
    made = sweep(CORPUS, **space, sampler=optuna.samplers.TPESampler(seed=42), threads=3)
    assert gist(named) == gist(made)
    assert len(named.rows) == 30
    assert sum(named.left_out.values()) > 0  # warm-up is the fast engine's
    rates = [row.outcome.candidate.settings.learning_rate for row in named.rows]
    assert all(0.001 <= rate <= 0.5 and float(f"{rate:.4g}") == rate for rate in rates)
    drawn = sweep(CORPUS, **{**SEARCH, "trials": 30})
    assert set(rates) != {row.outcome.candidate.settings.learning_rate for row in drawn.rows}


@pytest.mark.slow
def test_a_sweep_with_a_sampler_goes_on_too(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    whole = sweep(CORPUS, **SEARCH, sampler="tpe", run_dir=tmp_path)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[:15]))
    assert gist(sweep(CORPUS, **SEARCH, sampler="tpe", run_dir=tmp_path)) == gist(whole)


class InTurn:
    """A sampler that takes candidates in turn, and remembers what it was requested and told."""

    name = "in turn"

    def __init__(self, space: Space) -> None:
        self.ahead, self.asked, self.told = space.candidates(1000, 42), list[int](), list[list[int]]()

    def ask(self, number: int) -> list[Candidate]:
        self.asked.append(number)
        taken, self.ahead = self.ahead[:number], self.ahead[number:]
        return taken

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        self.told.append([outcome.candidate.number for outcome in outcomes])


def test_a_sampler_is_asked_for_ten_at_a_time_and_told_of_each_once() -> None:
    space = Space(random=SEARCH["random"], options={**BASE, "steps": 300})
    sampler = InTurn(space)
    sweeping = Sweeping(CORPUS, space, SweepSetup(trials=25, seeds=1), sampler, executor=toy)
    assert len(list(sweeping)) == 25 + 5
    assert sampler.asked == [10, 10, 5]
    assert sampler.told == [list(range(10)), list(range(10, 20)), list(range(20, 25))]


def test_batches_of_which_nothing_is_possible_are_passed_over_and_told_as_empty() -> None:
    space = Space({"n_gram": [2, 1]}, SEARCH["random"], options={**BASE, "steps": 300})
    sampler = InTurn(space)
    sampler.ahead = sorted(sampler.ahead[:50], key=lambda candidate: -candidate.config.as_dict()["n_gram"])
    sweeping = Sweeping(CORPUS, space, SweepSetup(trials=30, seeds=1), sampler, executor=toy)
    assert len(list(sweeping)) == 5 + 5
    assert sampler.told == [[], [], [1, 3, 5, 7, 9]]


def test_steps_that_a_sampler_may_choose_are_shares_of_the_most() -> None:
    space = Space({"steps": [100, 200, 300]}, options=BASE)
    sampler = InTurn(space)
    sampler.ahead = [each.replace(number=number) for number, each in enumerate(sampler.ahead[:1] * 10 + sampler.ahead)]
    sweeping = Sweeping(CORPUS, space, SweepSetup(trials=13, plan="13x30"), sampler, executor=toy)
    assert [outcome.candidate.settings.steps for outcome in sweeping] == [10] * 11 + [20, 30]


@pytest.mark.slow
def test_a_study_hears_of_every_candidate_and_of_what_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    optuna = pytest.importorskip("optuna")
    monkeypatch.setattr("tapegpt.experiments.optuna_sampler.TRIES", 40)
    verbosity = optuna.logging.get_verbosity()
    sampler = adapt("tpe", Space(random={"n_embd": (4, 4000)}), 1)
    assert sampler is not None
    assert optuna.logging.get_verbosity() == verbosity
    asked = [*sampler.ask(40), *sampler.ask(2)]
    assert [candidate.number for candidate in asked] == list(range(42))
    losses = zip(asked, (2.0, math.inf, 150.0), strict=False)  # and none of the others
    outcomes = [Outcome(each, loss, None, loss, 0.1, {}, 9) for each, loss in losses]
    for _ in range(2):  # what has been told is not told again
        sampler.tell(outcomes)
    told = Counter(trial.value for trial in sampler._study.trials)
    assert told == {2.0: 1, WORST: len(sampler._study.trials) - 1}
    assert len(sampler._study.trials) > 42 + 40


@pytest.mark.parametrize("sampler", ["best", 3, None.__class__])
def test_what_is_no_sampler_is_told(sampler: Any) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(TapeGPTError, match="sampler must be 'tpe', or a sampler of Optuna"):
        sweep(CORPUS, **SEARCH, sampler=sampler)


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"trials": 0}, "trials must be a whole number from 1 to 100,000, not 0"),
        ({"seeds": 0}, "seeds must be a whole number from 1 to 1,000, not 0"),
        ({"threads": 0}, "threads must be a whole number from 1 to 100,000, not 0"),
        ({"seed": 0.5}, "seed must be a whole number, not 0.5"),
        ({"budget": 5}, "steps and budget exclude each other"),
        ({"budget": 0, "steps": None}, "budget must be a number of seconds above 0, at most 1,000,000,000, not 0"),
        ({"budget": "5", "steps": None}, "a budget must be a number and a unit"),
        ({"budget": 5, "plan": "20x5", "steps": None}, "a budget makes a plan of its own"),
        ({"budget": 0.001, "steps": None}, "a budget of 0.001 s is too short for 20 candidates"),
        ({"plan": "3x5"}, "the plan begins with 3 candidates, but there are 20"),
        ({"plan": "many"}, "plan: a rung is CANDIDATESxSTEPS"),
        ({"validation": 0}, "the share to hold out must be a number above 0 and below 1, not 0"),
        ({"random": None, "grid": {"seed": [1]}}, "trials are drawn at random, and a grid is not"),
        ({"n_head": 3}, "no combination is possible: n_embd must be a multiple of n_head"),
        ({"n_gram": 2}, "no combination is possible: n_gram needs the engine fast"),
    ],
)
def test_bad_input_is_told_in_one_line(wishes: dict[str, Any], message: str) -> None:
    options = {name: value for name, value in {**SEARCH, **wishes}.items() if value is not None}
    with pytest.raises(TapeGPTError) as caught:
        sweep(CORPUS, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the command ------------------------------------------------------------------------------------------------

COMMAND = ["sweep", "--grid", "n_embd=8", "--grid", "n_head=2,3", "--grid", "block_size=8", "--seeds", "2"]
DRAWN = ["--random", "learning-rate=0.001..0.5", "--trials", "20", "--steps", "300"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strings as a file in the directory where commands run."""
    monkeypatch.setitem(COMMANDS, "sweep", "find the settings with the lowest held-out loss")
    monkeypatch.chdir(tmp_path)
    Path("input.txt").write_text("\n".join(STRINGS), encoding="utf-8")


@pytest.mark.slow
def test_the_leaderboard_is_aligned_and_at_most_100_columns_wide(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, *DRAWN, "-o", "best.safetensors", "--html", "page.html"]) == 0
    text, _ = capsys.readouterr()
    head, *table = text.partition("\n\n")[2].splitlines()
    assert head.split() == ["rank", "held-out", "+-", "parameters", "steps", "seconds", "learning_rate"]
    assert max(map(len, [head, *table])) <= 100
    assert sorted(line.split()[0] for line in table) == sorted(["5-gram", *map(str, range(1, 21))])
    assert len({len(line) for line in table if not line.startswith("5-gram")}) == 1
    assert "for instance because n_embd must be a multiple of n_head" in text
    assert tapegpt.load("best.safetensors").training_documents() == STRINGS
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<pre>tapegpt sweep --grid n_embd=8 " in page
    assert f"data: input.txt: {len(STRINGS)} strings" in page


def test_what_has_no_room_in_the_table_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    many = ["beta1", "beta2", "warmup", "weight_decay", "init_std", "gram_decay"]
    ranges = [part for name in many for part in ("--random", f"{name}=0.123..0.987")]
    assert main([*COMMAND[:-2], "--grid", "engine=fast", *ranges, "--trials", "3", "--steps", "9"]) == 0
    text, _ = capsys.readouterr()
    assert max(map(len, text.partition("\n\n")[2].splitlines())) <= 100
    assert "no room for " in text


@pytest.mark.slow
def test_json_has_all_and_is_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for threads in ("1", "2"):
        assert main([*COMMAND, *DRAWN, "--json", "--threads", threads]) == 0
        found.append(json.loads(capsys.readouterr().out))
        for row in found[-1]["rows"]:
            del row["seconds"]
    assert found[0] == found[1]
    assert len(found[0]["rows"]) == 20
    assert main([*COMMAND, *DRAWN[:-2], "--json", "--plan", found[0]["plan"]]) == 0
    assert [row["loss"] for row in json.loads(capsys.readouterr().out)["rows"]] == [
        row["loss"] for row in found[0]["rows"]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "n_embd"], "--grid n_embd: must be NAME=VALUES, such as n_embd=16,32"),
        (["--grid", "n_layer=a"], "--grid n_layer: must be a whole number, not 'a'"),
        (["--random", "learning_rate=0.1"], "--random learning_rate=0.1: must be a range such as learning_rate=1..10"),
        (["--random", "learning_rate=x..1"], "--random learning_rate: must be a number, not 'x'"),
        (["--grid", "n_embd=4"], "--grid n_embd: is given twice"),
        (["--grid", "layers=4"], "a sweep searches in n_layer"),
        (["--ensemble", "2"], "--ensemble is about the file that is written: give -o FILE too"),
        (["--ensemble", "5", "-o", "m"], "--ensemble must be a whole number from 1 to 2, the last trainings, not 5"),
        (["-o", "./input.txt"], "--output ./input.txt is DATA too: choose another name"),
        (["--html", "input.txt"], "--html input.txt is DATA too"),
        (["--budget", "ten"], "a budget must be a number and a unit"),
        (["-o", "nowhere/best.safetensors"], "nowhere"),
        (["--run-dir", "input.txt"], "input.txt"),
    ],
)
def test_bad_options_end_with_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (err.count("\n"), out) == (1, "")


def test_ctrl_c_shows_what_there_is_and_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Field.train

    def interrupted(self: Field, candidate: Candidate, stopped: Callable[[], bool] = bool) -> tuple[Outcome, GPT]:
        if candidate.settings.steps > 50:  # the second rung has begun, which would take hours
            os.kill(os.getpid(), signal.SIGINT)
        return train(self, candidate, stopped)

    monkeypatch.setattr(Field, "train", interrupted)
    command = [*COMMAND, "--random", "learning_rate=0.001..0.5", "--trials", "9", "--run-dir", "run", "--threads", "1"]
    journal = Path("run", JOURNAL)
    for _ in range(2):  # the same again
        assert main([*command, "--plan", "9x50 3x100000000"]) == 130
        out, err = capsys.readouterr()
        assert err.endswith(
            "tapegpt: error: interrupted in rung 2 of 2, 0 trainings into it; the same command continues from here\n"
        )
        assert len([line for line in out.splitlines() if line.split()[:1] and line.split()[0].isdigit()]) == 9
        assert journal.read_bytes().count(b"\n") == 10
    assert main([*command, "--plan", "9x50 3x60"]) == 2
    assert "is of another sweep, whose plan is " in capsys.readouterr().err


@pytest.mark.parametrize("line", [1, 7, 20, 25])
def test_an_interruption_shows_all_that_the_journal_has(
    line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Journal.write, []

    def interrupted(self: Journal, record: dict[str, Any]) -> None:
        write(self, record)
        written.append(record)
        if len(written) == line:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "write", interrupted)
    space = Space(random=SEARCH["random"], options={**BASE, "steps": 300})
    sweeping = Sweeping(CORPUS, space, SweepSetup(trials=20, seeds=2), run_dir=tmp_path, executor=toy)
    with pytest.raises(KeyboardInterrupt):
        list(sweeping)
    assert sum(len(row.by_seed) for row in sweeping.so_far().rows if row.rung == sweeping.rung) == sweeping.done
    assert sweeping.done == (line if line <= 20 else line - 20)
