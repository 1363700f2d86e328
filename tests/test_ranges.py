"""Ranges of numbers, and that every number of a record has one."""

from __future__ import annotations

import math
import sys
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config, Corpus, TapeGPTError, Trainer
from tapegpt.autograd.places import MAX_ARENA
from tapegpt.engines.base import STEPS, Moments
from tapegpt.inference.constraints import Constraints, Drawing
from tapegpt.models.provenance import DataRecord, Evaluation, TrainingState
from tapegpt.ranges import LARGEST, Number, OneOf, Whole, are_finite, are_positive
from tapegpt.record import Record
from tapegpt.settings import MAX_BATCH_SIZE, MAX_THREADS, Settings

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2, 0.0, -0.0, 1.0])


@given(NUMBERS, st.sampled_from(["[]", "[)", "(]", "()"]))
def test_ends_belong_to_a_range_or_not(value: float, ends: str) -> None:
    within = 0 < value < 1 or (value == 0 and ends[0] == "[") or (value == 1 and ends[1] == "]")
    assert (value in Number(0, 1, ends)) == within
    assert (value in Whole(0, 1, ends)) == (within and isinstance(value, int))


@pytest.mark.parametrize("value", [None, True, False, "1", 1j, [1], float("nan"), float("inf"), -float("inf")])
def test_what_is_no_finite_number_is_in_no_range(value: Any) -> None:
    assert value not in Number()
    assert value not in Whole()


def test_ranges_without_an_end() -> None:
    assert 10**5000 in Whole()
    assert 10**5000 in Whole(1)
    assert 0 not in Whole(1)
    assert -sys.float_info.max in Number()
    assert sys.float_info.max == LARGEST
    assert 10**400 not in Number()  # it is no float


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (Whole(), "whole number"),
        (Whole(1), "whole number from 1 on"),
        (Whole(1, 65_536), "whole number from 1 to 65,536"),
        (Number(0, 1, "()"), "number above 0 and below 1"),
        (Number(0, 1, "[)"), "number from 0 up to but not 1"),
        (Number(0, 9, "(]", "number of seconds"), "number of seconds above 0, at most 9"),
    ],
)
def test_a_range_names_itself(numbers: Number, text: str) -> None:
    with pytest.raises(TapeGPTError, match=f"^x must be a {text}, not 'v'$"):
        numbers.check("x", "v")


ELSEWHERE: dict[type[Record], list[str]] = {  # what these check by themselves
    Drawing: ["temperature"],
    Constraints: ["novel"],
    Evaluation: ["loss"],
}


@pytest.mark.parametrize("record", [Config, Settings, Drawing, Constraints, Evaluation, TrainingState, DataRecord])
def test_every_number_of_a_record_has_a_range(record: type[Record]) -> None:
    for name, kind in record.__annotations__.items():
        if {"int", "float"} & set(kind.split(" | ")) and name not in ELSEWHERE.get(record, []):
            assert name in record.ranges
            assert isinstance(record.ranges[name], Whole) == ("float" not in kind)


def test_records_of_other_kinds_are_not_equal() -> None:
    class Other(Record):
        step: int
        loss: float

    assert Evaluation(1, 2.0) == Evaluation(1, 2.0)
    assert Evaluation(1, 2.0) != Other(1, 2.0)
    assert len({Evaluation(1, 2.0), Evaluation(1, 2.0), Other(1, 2.0)}) == 2


def test_no_product_of_numbers_in_range_leaves_64_bits() -> None:
    """Those that machine code makes: document of a step, place of a thread, of a row, of an n-gram's row."""
    most: dict[str, Any] = {
        name: getattr(numbers, "most", None) or 0 for name, numbers in {**Config.ranges, "taken": STEPS}.items()
    }
    assert 2 * most["taken"] * MAX_BATCH_SIZE < 2**63
    assert MAX_THREADS * MAX_ARENA < 2**63
    assert MAX_THREADS * MAX_BATCH_SIZE * most["block_size"] * most["n_gram"] < 2**63
    assert most["gram_rows"] * most["n_embd"] < 2**63


@pytest.mark.slow
def test_what_would_read_out_of_bounds_never_enters_machine_code() -> None:
    corpus = Corpus.of(["anna", "bob"])
    for name in ("exact", "fast"):
        trainer = Trainer(corpus, Config(1, 4, 2, 4), Settings(name, 9))
        engine, tokens = trainer.model.engine, trainer.tokens
        outside: list[tuple[Any, int]] = [(2**63 - 1, 1), (2**46, 1), (-1, 1), (0, 2**62), (0, -1), (0.5, 1)]
        for first, count in outside:
            with pytest.raises(TapeGPTError, match="must be a whole number from 0 to"):
                engine.train(tokens, trainer.adam, first, count)
        with pytest.raises(TapeGPTError, match="no document"):
            engine.train(tokens.replace(starts=tokens.starts[:1]), trainer.adam, 0, 1)
        trainer.keep(lambda _: None)
        trainer.model.steps = 2**63 - 1
        with pytest.raises(TapeGPTError, match="steps must be a whole number from 0 to"):
            Trainer.resume(trainer.model, corpus)


@pytest.mark.slow
def test_adam_goes_on_with_as_many_powers_as_it_has() -> None:
    engine = Trainer(Corpus.of(["anna"]), Config(1, 4, 2, 4), Settings("fast", 9)).model.engine
    moments = engine.moments()
    with pytest.raises(TapeGPTError, match="Adam must have 2 powers, not 1"):
        engine.load_moments(Moments(moments.mean, moments.square, (1.0,)))


def test_more_memory_than_there_may_be_is_refused_before_it_is_taken() -> None:
    with pytest.raises(TapeGPTError, match="GiB of memory, the limit is 8 GiB"):
        Trainer(Corpus.of(["anna"]), Config(1, 4, 2, 4096, 9, 16), Settings("fast", 9, batch_size=65_536, threads=256))


@given(st.lists(st.floats() | st.floats(width=32), min_size=1), st.sampled_from("df"))
def test_many_numbers_are_judged_as_one_by_one(numbers: list[float], code: str) -> None:
    try:
        many: array[float] = array(code, numbers)
    except OverflowError:
        return
    assert are_finite(many) == all(map(math.isfinite, many))
    finite = array(code, filter(math.isfinite, many))
    assert not finite or are_positive(finite) == all(number >= 0 for number in finite)


def test_what_is_compared_only_in_part_is_none_of_some_values() -> None:
    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    assert Array() not in OneOf(("exact", "fast"))
