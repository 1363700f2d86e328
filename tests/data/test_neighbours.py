"""Which documents a string is like, against distances of every pair."""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt.data.neighbours import Neighbours
from tapegpt.machine.host import VARIABLE, host_target
from tests.data.distances import edits

SHORT = st.lists(st.text("ab", max_size=6), min_size=1, max_size=9)
LONG = st.lists(
    st.integers(0, 200).flatmap(lambda size: st.text("ab🐢", min_size=size, max_size=size)), min_size=1, max_size=3
)


@pytest.mark.parametrize("target", [host_target().name, "interpreted"])
@given(SHORT, st.text("abc", max_size=8), st.integers(0, 9))
def test_distances_are_those_of_every_pair(target: str, documents: list[str], text: str, distance: int) -> None:
    nearest = min(documents, key=lambda document: edits(text, document))
    with patch.dict(os.environ, {VARIABLE: target}):
        neighbours = Neighbours(documents)
        found, is_near = neighbours.nearest(text), neighbours.within(text, distance)
    assert (found.document, found.distance) == (nearest, edits(text, nearest))
    assert is_near == (edits(text, nearest) <= distance)
    assert len(neighbours) == len(set(documents))


@given(SHORT, st.text("abc", max_size=8), st.integers(0, 4))
def test_no_string_is_further_than_the_farthest(documents: list[str], text: str, more: int) -> None:
    nearest, farthest = min(edits(text, each) for each in documents), Neighbours(documents).farthest(len(text) + more)
    assert nearest <= farthest
    assert farthest == min(edits("x" * (len(text) + more), each) for each in documents)


@given(LONG, st.integers(0, 200), st.data())
def test_strings_may_be_longer_than_a_word_of_rows(documents: list[str], size: int, data: st.DataObject) -> None:
    text = data.draw(st.text("ab", min_size=size, max_size=size))
    distances = [edits(text, document) for document in documents]
    found, nearest = Neighbours(documents).nearest(text), min(distances)
    assert (found.document, found.distance) == (documents[distances.index(nearest)], nearest)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 127, 128, 129, 200])
def test_rows_at_the_borders_of_words(size: int) -> None:
    text = "ab" * size
    for other in (text[:size], "a" * size, "b" + text[:size], text[: size // 2] + "c" + text[size // 2 : size], ""):
        assert Neighbours([other]).nearest(text[:size]).distance == edits(text[:size], other)
        assert Neighbours([text[:size]]).nearest(other).distance == edits(text[:size], other)


def test_characters_may_be_any_number_of_any_kind() -> None:
    every = "".join(map(chr, range(0x1000, 0x11000)))  # surrogates are among them
    documents = [every, every[::-1], "\ud800\udfff", "\0"]
    assert Neighbours(documents).nearest("\0x").document == "\0"
    assert Neighbours(documents).nearest("\ud800x\udfff").distance == 1
