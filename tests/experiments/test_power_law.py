"""Scaling laws: what they are; they are found again in losses made from them, and intervals hold the truth."""

from __future__ import annotations

import math
import statistics
from itertools import product
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt.data.rng import Random
from tapegpt.experiments.power_law import EXPONENT, ROBUST, Law, _Fit, _nearness, bootstrap, deviation, fit, interval
from tests.properties import many

POINTS = list(product((1e3, 4e3, 15e3, 30e3), (500.0, 1000.0, 2000.0, 4000.0), (400.0, 1500.0, 6000.0)))
FEW = list(product((1e3, 4e3, 15e3), (500.0, 1000.0, 2000.0, 4000.0), (400.0, 1500.0, 6000.0)))
LAW = Law(1.7, (2.0, 6.0, 3.0), (0.35, 0.5, 0.4), 2.0)
DRAWS, LAWS = 50, many(30, few=10)

LAWS_OF_ALL_KINDS = st.builds(
    Law,
    floor=st.floats(0.3, 2.5),
    coefficients=st.tuples(*[st.floats(1.0, 10.0)] * 3),
    exponents=st.tuples(*[st.floats(0.2, 0.8)] * 3),
    sharpness=st.floats(0.8, 5.0),
)
AMOUNTS = st.tuples(*[st.floats(1.0, 1e9)] * 3)


def noisy(law: Law, points: list[tuple[float, float, float]], noise: float, seed: int) -> list[float]:
    rng = Random(seed)
    return [law.loss(point) * math.exp(rng.gauss(0.0, noise)) for point in points]


# --- the law ----------------------------------------------------------------------------------------------------


def test_with_sharpness_1_it_is_the_sum_of_hoffmann() -> None:
    law = LAW.replace(sharpness=1.0)
    assert law.loss((100.0, 16.0, 1e5)) == pytest.approx(1.7 + 2 / 100**0.35 + 6 / 4 + 3 / 100, rel=1e-12)


def test_the_sharper_the_more_the_scarcest_decides() -> None:
    amounts = (100.0, 16.0, 1e5)
    assert LAW.replace(sharpness=50.0).loss(amounts) == pytest.approx(1.7 + 6 / 4, rel=1e-9)


@given(LAWS_OF_ALL_KINDS, AMOUNTS, st.integers(0, 2))
def test_more_of_anything_is_never_worse_and_the_floor_is_never_passed(
    law: Law, amounts: tuple[float, float, float], axis: int
) -> None:
    more, endless = ([x * f if i == axis else x for i, x in enumerate(amounts)] for f in (2.0, math.inf))
    near = 1 + 1e-12
    assert law.floor <= law.loss(endless) <= law.loss(more) * near <= law.loss(amounts) * near**2


def test_with_no_end_of_anything_the_floor_is_left() -> None:
    assert LAW.loss((math.inf, math.inf, math.inf)) == LAW.floor


# --- the fit ----------------------------------------------------------------------------------------------------


@settings(max_examples=many(25))
@given(LAWS_OF_ALL_KINDS)
def test_losses_of_a_law_give_that_law(law: Law) -> None:
    found = fit(POINTS, [law.loss(point) for point in POINTS])
    beyond = [(2 * n, 2 * d, 2 * s) for n, d, s in POINTS]
    for point in (*POINTS, *beyond):
        assert found.loss(point) == pytest.approx(law.loss(point), rel=5e-3)  # in corners what is known pulls


def test_constants_are_found_again() -> None:
    found = fit(POINTS, [LAW.loss(point) for point in POINTS])
    assert found.floor == pytest.approx(LAW.floor, rel=1e-3)
    assert found.exponents == pytest.approx(LAW.exponents, rel=1e-2)
    assert found.coefficients == pytest.approx(LAW.coefficients, rel=5e-2)
    assert found.sharpness == pytest.approx(LAW.sharpness, rel=1e-2)


def test_derivatives_are_those_of_the_loss() -> None:
    search = _Fit(POINTS, noisy(LAW, POINTS, 0.01, 1), None)
    solution, h = list(search.solution), 1e-6
    place = search.measured[5][0]
    _, slopes = search._linear(place)
    for number, slope in enumerate(slopes):
        ends = [search._loss([x + d * (i == number) for i, x in enumerate(solution)], place)[0] for d in (-h, h)]
        assert slope == pytest.approx((ends[1] - ends[0]) / (2 * h), abs=1e-6)


def test_a_few_outliers_move_the_law_little() -> None:
    losses = noisy(LAW, POINTS, 0.003, 2)
    spoilt = [loss * (1.3 if place in (3, 17, 40) else 1.0) for place, loss in enumerate(losses)]
    found = fit(POINTS, spoilt)
    assert max(abs(found.loss(point) / LAW.loss(point) - 1) for point in POINTS) < 0.01


def test_what_is_near_counts_more() -> None:
    here, there = POINTS[-1], POINTS[0]
    bent = [LAW.loss(point) * (1 + 0.02 * math.log10(point[0] / 1e3) ** 2) for point in POINTS]  # no such law
    errors = [
        [abs(fit(POINTS, bent, near).loss(point) / loss - 1) for point, loss in ((here, bent[-1]), (there, bent[0]))]
        for near in (here, there)
    ]
    assert errors[0][0] < errors[1][0]
    assert errors[1][1] < errors[0][1]


@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_the_deviation_is_the_noise(noise: float) -> None:
    losses = noisy(LAW, POINTS, noise, 3)
    assert deviation(fit(POINTS, losses), POINTS, losses) == pytest.approx(noise, rel=0.5)


# --- how uncertain it is ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth = LAW.replace(sharpness=1.5)
    last = FEW[-1]

    def told(law: Law) -> list[float]:
        gains = [law.loss(last) - law.loss([x * (1 + (i == axis)) for i, x in enumerate(last)]) for axis in range(3)]
        return [law.floor, *law.exponents, *gains]

    hits = [0] * len(told(truth))
    for seed in range(DRAWS):
        laws = [told(law) for law in bootstrap(FEW, noisy(truth, FEW, 0.005, seed), LAWS, seed, last)]
        for number, (values, value) in enumerate(zip(zip(*laws, strict=True), told(truth), strict=True)):
            low, high = interval(values)
            hits[number] += low <= value <= high
    shares = [hit / DRAWS for hit in hits]
    assert min(shares) >= 0.8  # three standard deviations of a count of 50 at 0.9 are 0.13
    assert sum(shares) / len(shares) <= 0.97


def test_draws_are_those_of_the_seed() -> None:
    losses = noisy(LAW, FEW, 0.01, 4)
    assert bootstrap(FEW, losses, 3, seed=1) == bootstrap(FEW, losses, 3, seed=1) != bootstrap(FEW, losses, 3, seed=2)


def test_an_interval_leaves_5_percent_out_at_each_end() -> None:
    assert interval(range(101)) == (5, 95)
    assert interval([1.0]) == (1.0, 1.0)
    assert [interval(range(count)) for count in (10, 20, 30, 200)] == [(0, 9), (1, 18), (1, 28), (10, 189)]


# --- its constants ----------------------------------------------------------------------------------------------


def test_the_deviation_of_normal_residuals_is_their_standard_deviation() -> None:
    """The median of |z| times 1.4826 (Hampel, 1974), whatever a third of the losses do far out."""
    points = [POINTS[0]] * 3001
    quantiles = [NormalDist().inv_cdf((place + 0.5) / len(points)) for place in range(len(points))]
    losses = [LAW.loss(POINTS[0]) * math.exp(0.03 * z) for z in quantiles]
    freedom = math.sqrt(len(points) / (len(points) - 8))
    assert deviation(LAW, points, losses) == pytest.approx(0.03 * freedom, rel=1e-3)
    far = [loss * 100 if abs(z) > 1 else loss for loss, z in zip(losses, quantiles, strict=True)]
    assert deviation(LAW, points, far) == pytest.approx(0.03 * freedom, rel=1e-3)


def test_what_was_not_measured_is_as_uncertain_as_it_was_known_beforehand() -> None:
    """One amount of one resource says nothing of its exponent: what is known of it is drawn anew for each law."""
    points = [(n, 1000.0, s) for n, _, s in POINTS]
    laws = bootstrap(points, [LAW.loss(point) for point in points], 200, 0)
    measured, unmeasured = ([math.log(law.exponents[axis]) for law in laws] for axis in (0, 1))
    assert statistics.stdev(unmeasured) == pytest.approx(EXPONENT[1], rel=0.2)
    assert statistics.fmean(unmeasured) == pytest.approx(EXPONENT[0], abs=0.2)
    assert statistics.stdev(measured) < EXPONENT[1] / 2


def test_a_weight_is_halved_by_two_doublings() -> None:
    weights = _nearness([(1, 1, 1), (4, 1, 1), (2, 1, 0.5), (0.25, 1, 1), (16, 1, 1)], (1, 1, 1))
    assert [weight / weights[0] for weight in weights] == pytest.approx([1, 1 / 2, 1 / 2, 1 / 2, 1 / 4])
    assert sum(weights) == pytest.approx(5)


def test_the_cost_of_a_residual_goes_on_where_it_is_no_longer_squared() -> None:
    search = _Fit(POINTS, noisy(LAW, POINTS, 0.01, 1), None)
    search.weights = [1.0] + [0.0] * (len(POINTS) - 1)
    place, (found,) = search.measured[0]
    residual = abs(search._loss(search.solution, place)[0] - found)
    costs = []
    for size in (ROBUST - 1e-9, ROBUST + 1e-9, 1, 4):
        search.noise = residual / size
        costs.append(search._cost(search.solution))
    assert costs[0] == pytest.approx(costs[1], abs=1e-6)
    assert costs[3] - costs[2] == pytest.approx(2 * (4 - 2 / 2) - 1 / 2)


def test_as_many_points_are_drawn_as_there_are_degrees_of_freedom(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    def again(self: _Fit, weights: list[float], start: list[float], noise: float, rng: Random) -> Law:
        drawn.append(sum(weights))
        return LAW

    monkeypatch.setattr(_Fit, "again", again)
    bootstrap(FEW, noisy(LAW, FEW, 0.01, 4), 3, seed=1)
    assert drawn == [len(FEW) - 8.0] * 3
