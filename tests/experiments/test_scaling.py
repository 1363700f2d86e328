"""What more would buy: the trainings that are done, that checks predict, what is told and drawn of the law."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import tapegpt.experiments.scaling as laws
from tapegpt import Config, Corpus, TapeGPTError, cli
from tapegpt.cli.scaling import page as lines
from tapegpt.errors import DivergedError
from tapegpt.experiments import predictions
from tapegpt.experiments.population import Candidate, Cost, Field
from tapegpt.experiments.power_law import Law
from tapegpt.experiments.predictions import PARAMETERS, STEPS, STRINGS, Measured, Scaling
from tapegpt.experiments.scaling import Laboratory, scaling
from tapegpt.training.trainer import Trainer
from tapegpt.web.scaling import data, page
from tests.properties import many
from tests.web.browser import inaccessible
from tests.web.test_report import Reader

pytest_plugins = ["tests.web.browser"]

CORPUS = Corpus.dataset("names").replace(documents=Corpus.dataset("names").documents[:400], source=None)
SHAPE: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 8, "batch_size": 4, "preset": None}
STEPS_OF_ALL = 160


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Intervals are rough, but quick."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DRAWS", "DRAWS_CHECK"):
            patch.setattr(laws, name, many(12, few=3))
        yield


@pytest.fixture(scope="module")
def found(few_draws: None) -> Scaling:
    return scaling(CORPUS, budget=None, steps=STEPS_OF_ALL, threads=2, **SHAPE)


@pytest.fixture
def laboratory(found: Scaling) -> Laboratory:
    """The one that it was found in, anew."""
    return Laboratory(CORPUS, found.config, found.settings, 0.1)


def without_time(trainings: tuple[Measured, ...]) -> list[Measured]:
    return [training.replace(seconds=0.0) for training in trainings]


# --- the trainings ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_size_meets_every_share_and_length(found: Scaling) -> None:
    amounts = {training.amounts for training in found.trainings}
    assert len(found.trainings) == len(amounts) == 4 * 4 * 3 + 1
    shapes = [
        Config(n_layer, width, heads, 8) for n_layer, width, heads in ((1, 2, 1), (1, 4, 1), (1, 8, 2), (2, 8, 2))
    ]
    sizes, strings, steps = (sorted(set(axis)) for axis in zip(*amounts, strict=True))
    assert sizes == [config.num_parameters(CORPUS.vocab_size) for config in shapes]
    assert strings == [45, 90, 180, 360]
    assert steps == [10, 40, 160, 320]
    assert found.own == (sizes[2], 360, 160)
    assert len({training.seed for training in found.trainings}) == len(found.trainings)


@pytest.mark.slow
def test_threads_change_nothing(found: Scaling) -> None:
    other = scaling(CORPUS, budget=None, steps=STEPS_OF_ALL, threads=1, **SHAPE)
    assert without_time(other.trainings) == without_time(found.trainings)
    assert other.law == found.law
    assert other.laws == found.laws


@pytest.mark.slow
def test_a_loss_is_the_lowest_that_a_trainer_meets(found: Scaling) -> None:
    training = next(each for each in found.trainings if each.amounts == found.own)
    field = Field(CORPUS, 0.1, 42)
    trainer = field.trainer(Candidate(0, found.config, found.settings.replace(seed=training.seed)))
    evaluations = []
    while not trainer.is_over:
        trainer.run(16)
        evaluations.append((field.loss(trainer.model), trainer.step))
    shorter = [each.loss for each in found.trainings if each.amounts[:2] == found.own[:2] and each.steps < 160]
    assert training.loss == min(min(evaluations)[0], *shorter)
    assert training.best_step == min(evaluations)[1]


@pytest.mark.slow
def test_longer_is_never_worse(found: Scaling) -> None:
    series: dict[object, list[tuple[int, float]]] = {}
    for each in found.trainings:
        series.setdefault((each.parameters, each.strings), []).append((each.steps, each.loss))
    for losses in series.values():
        ordered = [loss for _, loss in sorted(losses)]
        assert ordered == sorted(ordered, reverse=True)


def test_shares_hold_the_smaller_ones_and_nothing_held_out(laboratory: Laboratory) -> None:
    parts = laboratory._field
    for number, share in enumerate(laws.SHARES):
        parts.give(number, share, repeat=1)
    seen = [set(parts._given[number][0].training.documents) for number in range(4)]
    assert seen[0] == set(parts.training.documents)
    assert seen[0] > seen[1] > seen[2] > seen[3]
    assert seen[0].isdisjoint(parts.held_out.documents)
    for number in range(4):
        part = parts._given[number][0].training.documents
        assert part == [document for document in parts.training.documents if document in seen[number]]
    parts.give(4, 8, repeat=2)
    assert set(parts._given[4][0].training.documents) != seen[3]


@pytest.mark.slow
def test_a_budget_shortens_trainings_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "LEAST_STEPS", 10)
    short = scaling(CORPUS, budget="500ms", steps=1_000_000, threads=2, **SHAPE)
    longest = max(training.steps for training in short.trainings)
    assert 2 * laws.LEAST_STEPS <= longest < 1_000_000
    assert short.own[STEPS] == 1_000_000
    assert any("times the longest training" in warning for warning in short.warnings)


@pytest.mark.slow
def test_a_budget_that_is_left_repeats_with_other_seeds(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laws, "REPEATS", 2)
    done: list[int] = []
    trainings = laboratory.measure(1000.0, 2, lambda count, _: done.append(count))
    assert done == list(range(1, 2 * 49 + 1))
    assert len({training.seed for training in trainings}) == 2 * 49
    assert len({training.amounts for training in trainings}) == 49


def test_the_longest_and_largest_come_first(laboratory: Laboratory) -> None:
    work = [laboratory._size(each.config) * each.settings.steps for each in laboratory._choose(1, 160, 49)]
    assert work == sorted(work, reverse=True)


def test_as_many_repeats_are_done_as_there_is_time_for(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = 0.0, list[int]()

    def repeat(candidates: list[Candidate], *_: object) -> list[Measured]:
        nonlocal now
        now += 3.0
        done.append(len(candidates))
        return []

    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr(laboratory, "_affordable", lambda budget, threads: 160)
    monkeypatch.setattr(laboratory, "_done", repeat)
    for budget, repeats in ((5.9, 1), (6.0, 2), (8.9, 2), (9.0, 3), (1e9, laws.REPEATS)):
        now, done = 0.0, []
        assert laboratory.measure(budget, 2, None) == []
        assert done == [49] * repeats


@pytest.mark.parametrize("threads", [1, 4])
def test_the_steps_of_a_budget_fill_it(laboratory: Laboratory, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own settings have 160 steps, which are enough here whatever the budget."""

    def measure(candidate: Candidate) -> Cost:
        return Cost(2e-3, 1e-5 * laboratory._size(candidate.config))

    monkeypatch.setattr(laboratory._field, "measure", measure)
    monkeypatch.setattr(laboratory, "_settings", laboratory._settings.replace(steps=100_000))

    def takes(steps: int) -> float:
        """Seconds of all threads, with 85 % of them at work."""
        wanted = laboratory._choose(0, steps, 0)
        training = sum(1e-5 * laboratory._size(each.config) * each.settings.steps for each in wanted)
        return (training + 48 * laws.EVALUATIONS * 2e-3) / (threads * laws.USED)

    for budget in (400.0, 5000.0):
        steps = laboratory._affordable(budget, threads)
        assert takes(steps) == pytest.approx(budget, rel=0.01)
    assert laboratory._affordable(1e9, threads) == 100_000
    with pytest.raises(
        TapeGPTError, match=r"a budget of 0.5 s is too short to tell anything: give \d+ s or more"
    ) as told:
        laboratory._affordable(0.5, threads)
    needed = int(re.findall(r"give (\d+) s", str(told.value))[0])
    assert laboratory._affordable(needed, threads) >= laws.LEAST_STEPS
    with pytest.raises(TapeGPTError, match="too short"):
        laboratory._affordable(needed - 1, threads)


def test_a_training_is_evaluated_ten_times_at_most(laboratory: Laboratory) -> None:
    (candidate, *_) = laboratory._choose(0, 160, 0)
    outcome, _ = laboratory._field.train(candidate.replace(settings=candidate.settings.replace(steps=15)))
    assert outcome.losses["steps"] == [2, 4, 6, 8, 10, 12, 14, 15]


@pytest.mark.parametrize(
    ("shape", "times", "narrow"),
    [((32, 8), 2, (16, 4)), ((12, 4), 4, (3, 1)), ((10, 5), 2, (5, 1)), ((3, 3), 4, (1, 1))],
)
def test_narrower_models_have_heads_as_wide(shape: tuple[int, int], times: int, narrow: tuple[int, int]) -> None:
    config = laws._narrow(Config(n_embd=shape[0], n_head=shape[1]), times).as_dict()
    assert (config["n_embd"], config["n_head"]) == narrow


# --- what they say ----------------------------------------------------------------------------------------------


def test_trainings_that_follow_a_law_are_predicted(found: Scaling, laboratory: Laboratory) -> None:
    law = Law(1.5, (4.0, 4.0, 3.0), (0.4, 0.4, 0.4), 1.5)
    told = laboratory.conclude([each.replace(loss=law.loss(each.amounts)) for each in found.trainings])
    assert told.noise < 1e-3
    for check in told.checks:
        assert check.predicted == pytest.approx(law.loss(check.amounts), rel=2e-3)
        assert check.measured == law.loss(check.amounts)
    for gain in told.gains:
        assert gain.gain == pytest.approx(law.loss(told.own) - law.loss(gain.amounts), abs=2e-3)
    assert not [warning for warning in told.warnings if "poor" in warning]


@pytest.mark.slow
def test_what_a_check_predicts_does_not_know_what_was_measured(found: Scaling, laboratory: Laboratory) -> None:
    for place, axis in enumerate((STRINGS, PARAMETERS, STEPS)):
        amounts = found.checks[place].amounts
        changed = [
            each.replace(loss=1.5 * each.loss) if each.amounts[axis] >= amounts[axis] else each
            for each in found.trainings
        ]
        check = laboratory.conclude(changed).checks[place]
        assert (check.predicted, check.interval) == (found.checks[place].predicted, found.checks[place].interval)
        assert check.measured == pytest.approx(1.5 * found.checks[place].measured)
        assert not check.holds


def test_a_training_that_was_not_predicted_is_warned_of(found: Scaling, laboratory: Laboratory) -> None:
    spoilt = [each.replace(loss=each.loss + 0.5 * (each.steps == 320)) for each in found.trainings]
    warnings = laboratory.conclude(spoilt).warnings
    assert any(warning.startswith("twice the steps: the loss was 0.") and "higher" in warning for warning in warnings)


def test_what_is_gained_is_told_by_each_law_alone(found: Scaling) -> None:
    """Laws that differ in their floor alone agree on what more would buy."""
    lifted = tuple(found.law.replace(floor=found.law.floor + place / 10) for place in range(21))
    told = found.replace(laws=lifted)
    for gain in told.gains:
        assert gain.interval == pytest.approx((gain.gain, gain.gain), abs=1e-12)
    low, high = told.floor[1]
    assert (low, high) == pytest.approx((found.law.floor + 0.1, found.law.floor + 1.9))


def test_twice_the_time_is_spent_no_worse_than_on_steps_alone(found: Scaling) -> None:
    parameters, strings, steps = found.best_mix(2.0)
    assert strings == found.own[STRINGS]
    assert steps * found.pace.a_step(parameters) == pytest.approx(2 * found.seconds)
    *_, more_steps, best = found.gains
    assert best.gain >= more_steps.gain * (1 - 1e-12)


def test_a_pace_is_met_where_it_was_measured_and_rises_between() -> None:
    pace = predictions.Pace(((100, 1.0), (400, 2.0), (1600, 8.0)))
    assert [pace.a_step(size) for size in (50, 100, 200, 400, 800, 1600, 3200)] == pytest.approx(
        [2**-0.5, 1.0, 2**0.5, 2.0, 4.0, 8.0, 16.0]
    )


def test_the_pace_is_that_of_the_longest_training_of_a_size_the_fastest_of_equals(found: Scaling) -> None:
    one = found.trainings[0]
    kinds = [(100, 10, 9.0), (100, 40, 8.0), (100, 40, 4.0), (50, 40, 2.0)]
    trainings = [one.replace(parameters=size, steps=steps, seconds=took) for size, steps, took in kinds]
    assert laws._pace(trainings).measured == ((50, 2.0 / 40), (100, 4.0 / 40))


def test_curves_of_the_law_reach_from_the_least_to_twice_the_most(found: Scaling) -> None:
    for axis in (PARAMETERS, STRINGS, STEPS):
        amounts = [training.amounts[axis] for training in found.trainings]
        curve = found.along(axis)
        assert [curve[0][0], curve[-1][0]] == pytest.approx([min(amounts), 2 * max(amounts)])
        assert [loss for _, loss, *_ in curve] == sorted((loss for _, loss, *_ in curve), reverse=True)
    frontier = found.frontier()
    ends = [min(training.seconds for training in found.trainings), 2 * found.seconds]
    assert [frontier[0][0], frontier[-1][0]] == pytest.approx(ends)
    assert all(low <= high for _, _, low, high in frontier)


def test_a_law_that_is_off_by_two_percent_fits_poorly(found: Scaling) -> None:
    poor = [found.replace(noise=noise, checks=()).warnings[:1] for noise in (0.02, 0.0201)]
    assert poor[1] == ["the law fits poorly: losses differ from it by 2.0%"] != poor[0]


def test_longest_trainings_that_only_guess_show_no_law(found: Scaling, laboratory: Laboratory) -> None:
    guessing = math.log(CORPUS.vocab_size)
    for loss, seen in ((guessing, False), (math.nextafter(guessing, 0.0), True)):
        trainings = [each.replace(loss=loss) if each.amounts == found.own else each for each in found.trainings]
        with nullcontext() if seen else pytest.raises(TapeGPTError, match="no better than guessing"):
            laboratory.conclude(trainings)


def test_a_check_takes_the_mean_and_as_wide_an_interval_as_the_law_is_off(
    found: Scaling, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laws, "bootstrap", lambda *_: [found.law] * 400)
    monkeypatch.setattr(laws, "deviation", lambda *_: 0.05)
    own = next(each for each in found.trainings if each.amounts == found.own)
    check = laboratory.conclude([*found.trainings, own.replace(loss=own.loss + 0.2)]).checks[0]
    assert check.measured == pytest.approx(own.loss + 0.1)
    low, high = (end / found.law.loss(check.amounts) for end in check.interval)
    assert (low, high) == pytest.approx((math.exp(-1.645 * 0.05), math.exp(1.645 * 0.05)), abs=0.02)


@pytest.mark.slow
def test_early_ends_are_warned_of(found: Scaling, laboratory: Laboratory) -> None:
    early = [each.replace(best_step=each.steps // 4) for each in found.trainings]
    assert any("lowest after 40 of 160 steps" in warning for warning in laboratory.conclude(early).warnings)
    late = [each.replace(best_step=each.steps) for each in found.trainings]
    assert not any("lowest after" in warning for warning in laboratory.conclude(late).warnings)


def test_half_of_the_trainings_that_end_early_are_no_warning(found: Scaling) -> None:
    own = next(each for each in found.trainings if each.amounts == found.own)
    early, late = own.replace(best_step=1), own.replace(best_step=own.steps)
    for trainings, warned in (((early, late), False), ((early, early, late), True)):
        told = found.replace(trainings=trainings).warnings
        assert any("lowest after" in warning for warning in told) == warned


def test_a_check_holds_up_to_both_ends_of_its_interval() -> None:
    check = predictions.Check("twice the strings", (1.0, 2.0, 3.0), 1.5, (1.0, 2.0), 0.0)
    measured = (0.99, 1.0, 1.5, 2.0, 2.01)
    assert [check.replace(measured=loss).holds for loss in measured] == [False, True, True, True, False]


def test_sizes_up_to_twice_the_largest_that_was_measured_are_tried(found: Scaling) -> None:
    bigger = found.replace(law=found.law.replace(coefficients=(1e9, 1.0, 1.0)))  # parameters are all that matters
    largest = bigger.pace.measured[-1][0]
    assert largest < bigger.best_mix(2.0)[PARAMETERS] <= 2 * largest


# --- what cannot be ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget must be a number of seconds above 0, at most 1,000,000,000, not 0"),
        ({"budget": "soon"}, "a budget must be a number and a unit"),
        ({"budget": "1ms"}, "too short to tell anything: give"),
        ({"steps": 100}, "160 steps or more, not 100"),
        ({"n_embd": 2}, "n_embd must be 4 or more"),
        ({"validation": 0.9}, "100 distinct strings to train on, not 40"),
        ({"learning_rate": 900.0}, "no better than guessing"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_what_cannot_be_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TapeGPTError, match=message):
        scaling(CORPUS, **{"budget": None, "steps": STEPS_OF_ALL, "threads": 2, **SHAPE, **options})


def test_a_training_that_diverges_is_left_out(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(trainer: Trainer, count: int) -> list[float]:
        raise DivergedError(trainer.step, [])

    (candidate,) = [each for each in laboratory._choose(0, 160, 0) if each.settings.steps == 320]
    monkeypatch.setattr(Trainer, "run", diverging)
    outcome, _ = laboratory._field.train(candidate)
    assert outcome.loss == math.inf
    assert "not finite at step 1" in outcome.diverged
    assert list(laboratory._done([candidate], 1, None)) == []


# --- told and drawn ---------------------------------------------------------------------------------------------


def test_the_lines_fit_and_say_what_was_found(found: Scaling) -> None:
    text = list(lines(found))
    assert max(map(len, text)) <= 120
    said = "\n".join(text)
    assert f"{found.own[STRINGS]:,} strings, 160 steps: {found.loss:.3f}" in said
    for gain in found.gains:
        assert f"{gain.loss:.3f}" in said


def test_the_json_is_whole_and_finite(found: Scaling) -> None:
    fields = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert [gain["gain"] for gain in fields["gains"]] == [gain.gain for gain in found.gains]
    assert len(fields["trainings"]) == len(found.trainings)
    assert math.isclose(fields["gains"][0]["perplexity"], math.exp(-found.gains[0].gain) - 1)


def test_the_page_says_what_was_found_and_is_whole_in_itself(found: Scaling) -> None:
    reader = Reader(page(found))
    assert f"{found.loss:.3f} nats per token" in reader.text
    for check in found.checks:
        assert f"{check.name} {check.predicted:.3f}" in reader.text
    assert reader.links == []
    assert reader.data == json.loads(json.dumps(data(found)))


def test_a_browser_draws_the_law_and_what_was_measured(found: Scaling, page: Any, tmp_path: Path) -> None:
    from tapegpt.web.scaling import page as html

    (tmp_path / "page.html").write_text(html(found), encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    pictures = data(found)["pictures"]
    assert page.locator(".tg-law").count() == len(pictures) == 4
    assert page.locator(".tg-measured").count() == sum(len(picture["points"]) for picture in pictures)
    assert page.locator(".tg-yours").count() == 4
    assert inaccessible(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator(".tg-law").first.get_by_role("img").get_attribute("aria-label")


@pytest.mark.slow
def test_the_command_prints_json_and_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.txt").write_text("\n".join(CORPUS.documents), encoding="utf-8")
    words = ["scaling", str(tmp_path / "names.txt"), "--budget", "1s", "--steps", "160", "--n-embd", "8", "--n-head"]
    words += ["2", "--n-gram", "1", "--kn-share", "0", "--block-size", "8", "--batch-size", "4", "--threads", "2"]
    assert cli.main([*words, "--json", "--html", str(tmp_path / "page.html")]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["own"] == {"parameters": fields["own"]["parameters"], "strings": 360, "steps": 160}
    reader = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert reader.data["pictures"]
    assert "made tapegpt scaling names.txt --budget 1s" in reader.text
    assert f"data: names.txt: {len(CORPUS.documents)} strings" in reader.text
    assert str(tmp_path) not in reader.text


@pytest.mark.slow
def test_a_page_that_cannot_be_written_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scaling", "none.txt", "--html", str(tmp_path / "none" / "page.html")]) == 2
    assert "there is no directory" in capsys.readouterr().err
