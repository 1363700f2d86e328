"""What takes several strings takes lists, iterators and columns, and refuses what would be gone through otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

import tapegpt
from tapegpt import TapeGPTError
from tapegpt.data.strings import strings_of, values_of


@cache
def trained() -> tapegpt.GPT:
    return tapegpt.train(["anna", "bob", "eve"], n_embd=4, n_head=1, block_size=8, steps=2)


TAKERS: dict[str, Callable[[Any], object]] = {
    "documents": tapegpt.Corpus.of,
    "strings": lambda strings: trained().score(strings),
    "avoid": lambda words: trained().generate(1, avoid=words, seed=1),
    "keys": lambda keys: trained().names_for(keys, secret="0" * 16, novel=False),
}
ALIASES = {"train": tapegpt.train, "calibrate": lambda strings: trained().calibrate(strings)}


def tables() -> list[object]:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    return [pandas.DataFrame({"anna": ["x"], "bob": ["y"]}), pyarrow.table({"anna": ["x"]})]


@pytest.mark.parametrize(("name", "take"), TAKERS.items(), ids=TAKERS)
def test_what_is_not_several_strings(name: str, take: Callable[[Any], object]) -> None:
    wrong = [b"anna", bytearray(b"anna"), {"anna": 1}, 5, None, *tables()]
    for values in wrong if name == "documents" else ["anna", *wrong]:
        with pytest.raises(TapeGPTError, match=f"^{name} must be several strings, not .*: give (a list|one of its)"):
            take(values)
    nulls = [] if name == "strings" else [["anna", None]]  # which have missing scores
    for values in (["anna", 5], *nulls, ["anna", ["bob"]], iter(["anna", b"bob"])):
        with pytest.raises(TapeGPTError, match=f"^{name.removesuffix('s')} 1 must be a str, not "):
            take(values)


@pytest.mark.parametrize("take", ALIASES.values(), ids=ALIASES)
def test_those_that_take_the_same(take: Callable[[Any], object]) -> None:
    for values in ({"anna": 1}, *tables()):
        with pytest.raises(TapeGPTError, match=r"must be several strings, not a \w+: give"):
            take(values)


def test_forms_of_several_strings() -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    numpy, names = pytest.importorskip("numpy"), ["anna", "bob"]
    every = (names, tuple(names), dict.fromkeys(names).keys(), iter(names), pandas.Series(names), numpy.array(names))
    for values in (*every, pyarrow.array(names), pyarrow.chunked_array([names]), list(pyarrow.array(names))):
        assert strings_of(values, "strings") == names


def test_nulls_of_a_column_are_left_out_where_asked_only() -> None:
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(["anna", None, float("nan"), pandas.NA, "bob"], dtype=object)
    assert strings_of(column, "documents", drop_nulls=True) == ["anna", "bob"]
    with pytest.raises(TapeGPTError, match=r"^string 1 must be a str"):
        strings_of(column, "strings")
    for values in (column, list(column)):  # scores stay beside their strings
        assert values_of(values, "strings") == ["anna", None, None, None, "bob"]
    with pytest.raises(TapeGPTError, match=r"^string 4 must be a str, not int: 5$"):
        values_of([*column[:4], 5], "strings")  # type: ignore[list-item]
    with pytest.raises(TapeGPTError, match=r"^document 1 must be a str"):  # a list has no nulls
        strings_of(list(column), "documents", drop_nulls=True)
