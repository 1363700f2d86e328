"""`Random` against `random.Random`: same seeds, same calls, same answers, same states."""

from __future__ import annotations

import copy
import doctest
import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import Random, rng
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import INTERPRETED
from tapegpt.mersenne import gauss, shuffle

SEEDS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(0, 50).map(lambda bits: 2 ** (32 * bits) - 1),
    st.integers(2**5000, 2**5001),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.binary().map(bytearray),
    st.booleans(),
)
REALS = st.floats(-1e6, 1e6)
WEIGHTS = st.lists(st.floats(0.001, 1e3), min_size=5, max_size=5)
CALLS = st.one_of(
    st.tuples(st.just("random"), st.just(())),
    st.tuples(st.just("getrandbits"), st.tuples(st.integers(0, 200))),
    st.tuples(st.just("randrange"), st.tuples(st.integers(1, 2**80))),
    st.tuples(st.just("randrange"), st.tuples(st.integers(-50, 50), st.integers(51, 300), st.integers(1, 40))),
    st.tuples(st.just("randrange"), st.tuples(st.integers(51, 300), st.integers(-50, 50), st.integers(-40, -1))),
    st.tuples(st.just("randint"), st.tuples(st.integers(-(2**40), 0), st.integers(0, 2**40))),
    st.tuples(st.just("uniform"), st.tuples(REALS, REALS)),
    st.tuples(st.just("gauss"), st.tuples(REALS, st.floats(0, 1e3))),
    st.tuples(st.just("choice"), st.tuples(st.text(min_size=1))),
    st.tuples(st.just("choices"), st.tuples(st.text(min_size=1))),
    st.tuples(st.just("choices"), st.tuples(st.just("abcde"), WEIGHTS)),
    st.tuples(st.just("sample"), st.integers(0, 60).map(lambda k: (range(60), k))),
    st.tuples(st.just("sample"), st.integers(0, 60).map(lambda k: (range(10**6), k))),
    st.tuples(st.just("randbytes"), st.tuples(st.integers(0, 40))),
)


@given(SEEDS, st.lists(CALLS, max_size=30), st.integers(0, 700))
def test_same_seed_same_calls_same_answers(seed: Any, calls: list[tuple[str, tuple[Any, ...]]], skip: int) -> None:
    theirs, ours = random.Random(seed), Random(seed)
    assert ours.getstate() == theirs.getstate()
    for _ in range(skip):
        assert ours.getrandbits(32) == theirs.getrandbits(32)
    for name, arguments in calls:
        assert getattr(ours, name)(*arguments) == getattr(theirs, name)(*arguments)
    assert ours.getstate() == theirs.getstate()


@given(SEEDS, st.integers(0, 1300), st.booleans())
def test_states_go_both_ways(seed: Any, calls: int, pending: bool) -> None:
    theirs = random.Random(seed)
    for _ in range(calls):
        theirs.random()
    if pending:
        theirs.gauss(0, 1)  # leaves a second value
    ours = Random(0)
    ours.setstate(theirs.getstate())
    assert [ours.gauss(0, 1) for _ in range(3)] == [theirs.gauss(0, 1) for _ in range(3)]
    theirs.setstate(ours.getstate())
    assert ours.random() == theirs.random()


@given(st.integers(), st.lists(st.integers(), max_size=60))
def test_shuffle(seed: int, items: list[int]) -> None:
    theirs, ours = list(items), list(items)
    random.Random(seed).shuffle(theirs)
    Random(seed).shuffle(ours)
    assert ours == theirs


@settings(max_examples=30)
@given(st.integers(), st.integers(rng.BULK - 2, 5000), st.integers(0, 700), st.booleans())
def test_bulk_is_the_calls_one_by_one(seed: int, count: int, skip: int, pending: bool) -> None:
    theirs, ours = random.Random(seed), Random(seed)
    for generator in (theirs, ours):
        for _ in range(skip):
            generator.random()
        if pending:
            generator.gauss(1, 2)
    assert ours.gauss_array(count, 0.5, 0.08).tolist() == [theirs.gauss(0.5, 0.08) for _ in range(count)]
    mixed, expected = [f"{i}" for i in range(count)], [f"{i}" for i in range(count)]
    ours.shuffle(mixed)
    theirs.shuffle(expected)
    assert mixed == expected
    order = list(range(count))
    theirs.shuffle(order)
    assert ours.permutation(count).tolist() == order
    assert ours.gauss() == theirs.gauss()
    assert ours.getstate() == theirs.getstate()


def test_bulk_kernels_interpreted() -> None:
    from array import array

    program = Program({"gauss": (gauss, {}), "shuffle": (shuffle, {})}, "", INTERPRETED)
    ours, theirs = Random(5), random.Random(5)
    numbers, spare, order = array("d", bytes(8 * 401)), array("d", [0.0, 0.0]), array("I", range(300))
    program.run("gauss", address_of(ours.words), address_of(spare), address_of(numbers), 401, 0.0, 1.0)
    assert numbers.tolist() == [theirs.gauss(0.0, 1.0) for _ in range(401)]
    assert spare.tolist() == [1.0, theirs.getstate()[2]]
    program.run("shuffle", address_of(ours.words), address_of(order), 300)
    expected = list(range(300))
    theirs.shuffle(expected)
    assert order.tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 3, 1024, 1025, 2048, 40_000])
def test_shuffle_at_the_borders_of_bits(count: int) -> None:
    theirs, ours = list(range(count)), list(range(count))
    random.Random(count).shuffle(theirs)
    Random(count).shuffle(ours)
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("seed", ([],), {}),
        ("seed", (1j,), {}),
        ("getrandbits", (-1,), {}),
        ("getrandbits", (1.5,), {}),
        ("randrange", (0,), {}),
        ("randrange", (3, 3), {}),
        ("randrange", (3, 9, 0), {}),
        ("randrange", (3, 9, -1), {}),
        ("randrange", (10, None, 2), {}),
        ("randint", (3, 1), {}),
        ("choice", ([],), {}),
        ("choices", ("ab", [1]), {}),
        ("choices", ("ab", [0, 0]), {}),
        ("choices", ("ab", [1, float("inf")]), {}),
        ("choices", ("ab", [1, 1]), {"cum_weights": [1, 2]}),
        ("sample", (range(3), 4), {}),
        ("sample", (range(3), -1), {}),
        ("sample", ({1, 2}, 1), {}),
        ("sample", ("ab", 1), {"counts": [1]}),
        ("sample", ("ab", 1), {"counts": [0, 0]}),
        ("setstate", ((1, (0,) * 625, None),), {}),
        ("setstate", ((3, (0,) * 624, None),), {}),
        ("setstate", ((3, [0] * 625, None),), {}),
        ("setstate", ((3, (0,) * 624 + (700,), None),), {}),
    ],
)
def test_wrong_calls_raise_the_same_errors(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011  # whatever CPython raises
        getattr(random.Random(1), name)(*arguments, **named)
    ours = Random(1)
    before = ours.getstate()
    with pytest.raises(theirs.type):
        getattr(ours, name)(*arguments, **named)
    if name not in ("seed", "setstate"):
        assert ours.getstate() == before


def test_choices_and_sample_with_options() -> None:
    theirs, ours = random.Random(9), Random(9)
    assert ours.choices("abc", cum_weights=[1, 5, 6], k=50) == theirs.choices("abc", cum_weights=[1, 5, 6], k=50)
    assert ours.sample("abc", counts=[5, 9, 2], k=12) == theirs.sample("abc", counts=[5, 9, 2], k=12)


def test_copies_go_on_alone() -> None:
    ours = Random(3)
    ours.gauss(0, 1)
    twins = [copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))]
    expected = [ours.gauss(0, 1), ours.random()]
    for twin in twins:
        assert [twin.gauss(0, 1), twin.random()] == expected


def test_states_of_version_2() -> None:
    state = (2, tuple(word - 2**32 if word >= 2**31 else word for word in random.Random(4).getstate()[1]), None)
    theirs, ours = random.Random(), Random()
    theirs.setstate(state)
    ours.setstate(state)
    assert ours.getstate() == theirs.getstate()


def test_without_a_seed_each_is_different() -> None:
    assert Random().getstate() != Random().getstate()


def test_the_global_generator_is_left_alone() -> None:
    before = random.getstate()
    ours = Random(1)
    ours.shuffle(list(range(3000)))
    ours.gauss_array(3000)
    assert random.getstate() == before


def test_the_header_is_true() -> None:
    assert doctest.testmod(rng).failed == 0
    assert doctest.testmod(rng).attempted == 3
