"""Whatever can be recorded gives the reference's numbers; `python -m tests.autograd.graphs 10000` judges many more."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapegpt.machine.target import Target
from tests.autograd.graphs import INTERPRETERS, MATRIX, UNITS, Graph, judge
from tests.properties import many

ODD = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody makes them again."""
    monkeypatch.setenv("TAPEGPT_CACHE_DIR", "")


@settings(max_examples=many(150), suppress_health_check=ODD)
@given(st.randoms(use_true_random=False), st.sampled_from(INTERPRETERS))
def test_random_graphs_interpreted(rng: random.Random, target: Target) -> None:
    judge(rng, target)


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS, ids=lambda t: t.name)
def test_random_graphs_compiled(unit: Target) -> None:
    for seed in range(25):
        judge(random.Random(seed), unit, optimised=seed < 5)


@pytest.mark.slow
@settings(max_examples=many(5, few=2), suppress_health_check=ODD)
@given(st.randoms(use_true_random=False), st.sampled_from(INTERPRETERS))
@pytest.mark.parametrize("kind", [kind for kind in MATRIX if kind != "linear last"])
def test_an_operation_whose_inputs_have_no_other_use_equals_one_graph_of_scalars(
    kind: str, rng: random.Random, target: Target
) -> None:
    graph = Graph(rng, target).alone(kind)
    graph.run(graph.positions)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MATRIX)
def test_an_operation_adds_to_what_others_have_left(kind: str) -> None:
    for seed in range(5):
        graph = Graph(random.Random(seed), INTERPRETERS[seed % len(INTERPRETERS)]).shared(kind)
        graph.run(graph.positions)
