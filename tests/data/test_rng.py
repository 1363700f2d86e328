"""`Random` against `random.Random`: same seeds, same calls, same answers, same states."""

from __future__ import annotations

import copy
import doctest
import pickle
import random
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import Random
from tapegpt.data import rng
from tapegpt.data.mersenne import gauss, permutation
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import INTERPRETED
from tests.properties import many

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
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def calls_of(name: str, *arguments: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.tuples(st.just(name), st.tuples(*arguments), st.fixed_dictionaries(named))


CALLS = st.one_of(
    calls_of("random"),
    calls_of("getrandbits", st.integers(0, 200)),
    calls_of("randrange", st.integers(1, 2**80)),
    calls_of("randrange", st.integers(-50, 50), st.integers(51, 300), st.integers(1, 40)),
    calls_of("randrange", st.integers(51, 300), st.integers(-50, 50), st.integers(-40, -1)),
    calls_of("randint", st.integers(-(2**40), 0), st.integers(0, 2**40)),
    calls_of("uniform", REALS, REALS),
    calls_of("gauss"),
    calls_of("gauss", REALS, st.floats(0, 1e3)),
    calls_of("choice", st.text(min_size=1)),
    calls_of("choices", st.text(min_size=1)),
    calls_of("choices", st.just("abcde"), WEIGHTS, k=st.integers(0, 9)),
    calls_of("choices", st.just("abcde"), cum_weights=WEIGHTS.map(sorted), k=st.integers(0, 9)),
    calls_of("sample", st.just(range(60)), st.integers(0, 60)),
    calls_of("sample", st.just(range(10**6)), st.integers(0, 60)),
    calls_of("sample", st.just("abc"), st.integers(0, 6), counts=st.permutations([1, 2, 3])),
    calls_of("shuffle", st.lists(st.integers(), max_size=60)),
    calls_of("randbytes", st.integers(0, 40)),
    calls_of("seed", SEEDS),
)
THEIRS_TO_OURS, OURS_TO_THEIRS = "theirs to ours", "ours to theirs"


def outcome(generator: Any, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any, Any]:
    """What a call returns, what it makes of its arguments, and the state it leaves."""
    own = copy.deepcopy(arguments)
    return getattr(generator, name)(*own, **named), own, generator.getstate()


@given(SEEDS, st.integers(0, 700), st.lists(CALLS | st.sampled_from([THEIRS_TO_OURS, OURS_TO_THEIRS]), max_size=30))
def test_same_seed_same_calls_same_answers(seed: Any, skip: int, steps: list[Any]) -> None:
    theirs, ours = random.Random(seed), Random(seed)
    assert ours.getstate() == theirs.getstate()
    for _ in range(skip):
        assert ours.getrandbits(32) == theirs.getrandbits(32)
    for step in steps:
        if step == THEIRS_TO_OURS:
            state, ours = theirs.getstate(), Random(0)
            ours.setstate(state)
        elif step == OURS_TO_THEIRS:
            state, theirs = ours.getstate(), random.Random(0)
            theirs.setstate(state)
        else:
            assert outcome(ours, *step) == outcome(theirs, *step)


@given(SEEDS, st.integers(0, 1300), st.booleans())
def test_states_go_both_ways(seed: Any, calls: int, pending: bool) -> None:
    theirs = random.Random(seed)
    for _ in range(calls):
        theirs.random()
    if pending:
        theirs.gauss(0, 1)  # leaves a second value
    ours = Random(0)
    ours.gauss()  # a value that must not survive
    ours.setstate(theirs.getstate())
    assert [ours.gauss(0, 1) for _ in range(3)] == [theirs.gauss(0, 1) for _ in range(3)]
    theirs.setstate(ours.getstate())
    assert theirs.getstate() == ours.getstate()
    assert [ours.gauss(0, 1), ours.random()] == [theirs.gauss(0, 1), theirs.random()]


@settings(max_examples=many(20))
@given(st.lists(st.integers(0, 2**32 - 1), min_size=624, max_size=624), st.integers(0, 624))
def test_any_state_is_twisted_alike(words: list[int], position: int) -> None:
    theirs, ours = random.Random(), Random()
    for generator in (theirs, ours):
        generator.setstate((3, (*words, position), None))
    assert ours.getrandbits(32 * 1300) == theirs.getrandbits(32 * 1300)
    assert ours.getstate() == theirs.getstate()


@pytest.mark.parametrize("k", [0, 1, 31, 32, 33, 63, 64, 65, 32 * 624, 1_000_001])
def test_bits_at_the_borders_of_words(k: int) -> None:
    theirs, ours = random.Random(k), Random(k)
    assert ours.getrandbits(k) == theirs.getrandbits(k)
    assert ours.getstate() == theirs.getstate()


def test_the_words_are_the_state() -> None:
    ours, theirs = Random(1), random.Random(1)
    words = ours.words
    assert tuple(words) == theirs.getstate()[1]
    ours.random()
    assert tuple(words) == theirs.getstate()[1]
    ours.words = words
    assert ours.getstate() == theirs.getstate()


@given(st.integers(), st.lists(st.integers(), max_size=60))
def test_shuffle(seed: int, items: list[int]) -> None:
    theirs, ours = list(items), list(items)
    random.Random(seed).shuffle(theirs)
    Random(seed).shuffle(ours)
    assert ours == theirs


@settings(max_examples=many(30))
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


def test_bulk_without_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rng, "_kernels", rng._kernels.__wrapped__)
    monkeypatch.setenv("TAPEGPT_TARGET", "interpreted")
    theirs, ours = random.Random(8), Random(8)
    assert ours.gauss_array(1500).tolist() == [theirs.gauss(0, 1) for _ in range(1500)]
    expected = list(range(1500))
    theirs.shuffle(expected)
    assert ours.permutation(1500).tolist() == expected
    assert rng._kernels() is None


def test_bulk_kernels_interpreted() -> None:
    program = Program({"gauss": (gauss, {}), "permutation": (permutation, {})}, INTERPRETED)
    ours, theirs = Random(5), random.Random(5)
    numbers, spare, order = array("d", bytes(8 * 401)), array("d", [0.0, 0.0]), array("I", range(300))
    words = ours.words
    program.run("gauss", address_of(words), address_of(spare), address_of(numbers), 401, 0.0, 1.0)
    assert numbers.tolist() == [theirs.gauss(0.0, 1.0) for _ in range(401)]
    assert spare.tolist() == [1.0, theirs.getstate()[2]]
    program.run("permutation", address_of(words), address_of(order), 300)
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
    ("expected", "name", "arguments", "named"),
    [
        (TypeError, "seed", ([],), {}),
        (TypeError, "seed", (1j,), {}),
        (UnicodeEncodeError, "seed", ("\ud800",), {}),
        (ValueError, "getrandbits", (-1,), {}),
        (TypeError, "getrandbits", (1.5,), {}),
        (ValueError, "randbytes", (-1,), {}),
        (ValueError, "randrange", (0,), {}),
        (ValueError, "randrange", (3, 3), {}),
        (ValueError, "randrange", (3, 9, 0), {}),
        (ValueError, "randrange", (3, 9, -1), {}),
        (TypeError, "randrange", (10, None, 2), {}),
        (ValueError, "randint", (3, 1), {}),
        (IndexError, "choice", ([],), {}),
        (IndexError, "choices", ([],), {}),
        (ValueError, "choices", ("ab", [1]), {}),
        (ValueError, "choices", ("ab", [0, 0]), {}),
        (ValueError, "choices", ("ab", [1, float("inf")]), {}),
        (TypeError, "choices", ("ab", [1, 1]), {"cum_weights": [1, 2]}),
        (TypeError, "choices", ("ab", 2), {}),
        (ValueError, "sample", (range(3), 4), {}),
        (ValueError, "sample", (range(3), -1), {}),
        (TypeError, "sample", (range(3), 2.0), {}),
        (TypeError, "sample", (range(1000), 2.0), {}),
        (TypeError, "sample", ({1, 2}, 1), {}),
        (ValueError, "sample", ("ab", 1), {"counts": [1]}),
        (ValueError, "sample", ("ab", 1), {"counts": [0, 0]}),
        (TypeError, "sample", ("ab", 1), {"counts": [1, 1.5]}),
        (TypeError, "shuffle", ("ab",), {}),
        (ValueError, "setstate", ((1, (0,) * 625, None),), {}),
        (ValueError, "setstate", ((3, (0,) * 624, None),), {}),
        (TypeError, "setstate", ((3, [0] * 625, None),), {}),
        (TypeError, "setstate", ((3, (0.5,) * 625, None),), {}),
        (OverflowError, "setstate", ((3, (-1,) * 624 + (0,), None),), {}),
        (ValueError, "setstate", ((3, (0,) * 624 + (700,), None),), {}),
        (ValueError, "setstate", ((3, (0,) * 624 + (-1,), None),), {}),
    ],
)
def test_wrong_calls_raise_the_same_errors(
    expected: type[Exception], name: str, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    theirs, ours = random.Random(1), Random(1)
    theirs.gauss()
    ours.gauss()
    before = ours.getstate()
    with pytest.raises(expected) as their_error:
        getattr(theirs, name)(*arguments, **named)
    with pytest.raises(expected) as our_error:
        getattr(ours, name)(*arguments, **named)
    assert our_error.type is their_error.type
    # A failed setstate of CPython's has changed the second value already.
    assert ours.getstate() == (before if name == "setstate" else theirs.getstate())


def test_choices_and_sample_with_options() -> None:
    theirs, ours = random.Random(9), Random(9)
    assert ours.choices("abc", cum_weights=[1, 5, 6], k=50) == theirs.choices("abc", cum_weights=[1, 5, 6], k=50)
    assert ours.sample("abc", counts=[5, 9, 2], k=12) == theirs.sample("abc", counts=[5, 9, 2], k=12)


@pytest.mark.parametrize("k", [*range(8), 21, 22, 85, 86])
def test_sample_at_the_borders_of_its_two_ways(k: int) -> None:
    theirs, ours = random.Random(k), Random(k)
    for n in (k, 21, 22, 37, 38, 85, 86, 277, 278, 1045, 1046):
        if n >= k:
            assert ours.sample(range(n), k) == theirs.sample(range(n), k)
            assert ours.getstate() == theirs.getstate()


def test_choices_by_weights_so_small_that_the_total_is_drawn() -> None:
    theirs, ours = random.Random(2), Random(2)
    drawn = ours.choices("abc", [0.0, 5e-324, 0.0], k=50)
    assert drawn == theirs.choices("abc", [0.0, 5e-324, 0.0], k=50)
    assert set(drawn) == {"b", "c"}


def test_copies_go_on_alone() -> None:
    ours = Random(3)
    ours.gauss(0, 1)
    twins = [copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))]
    expected = [ours.gauss(0, 1), ours.random()]
    for twin in twins:
        assert [twin.gauss(0, 1), twin.random()] == expected


def test_all_methods_of_cpython_are_here() -> None:
    ours, theirs = Random(6), random.Random(6)
    assert ours.betavariate(2, 3) == theirs.betavariate(2, 3)
    assert ours.triangular() == theirs.triangular()
    with pytest.raises(AttributeError, match="has no attribute 'toss'"):
        ours.toss()


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


@pytest.mark.parametrize("seed", [0.5, -0.5, -2.5, -1e300, 1e-320, float("inf"), float("-inf")])
def test_floats_of_either_sign_are_seeds(seed: float) -> None:
    assert Random(seed).getstate() == random.Random(seed).getstate()


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9))
def test_steps_of_either_sign_end_where_ranges_end(start: int, stop: int, step: int) -> None:
    if step and range(start, stop, step):
        ours, theirs = Random(7), random.Random(7)
        for _ in range(9):
            assert ours.randrange(start, stop, step) == theirs.randrange(start, stop, step)
