"""Which documents a string is like, against distances of every pair."""

from __future__ import annotations

import sys
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt.data.neighbours import Neighbours
from tests.data.distances import edits

STRINGS = st.lists(st.text("ab", max_size=6), min_size=1, max_size=9)


@pytest.mark.parametrize("library", [True, False])
@given(STRINGS, st.text("abc", max_size=8), st.integers(0, 9))
def test_distances_are_those_of_every_pair(library: bool, documents: list[str], text: str, distance: int) -> None:
    neighbours = Neighbours(documents)
    nearest = min(documents, key=lambda document: edits(text, document))
    with patch.dict(sys.modules, {} if library else {"rapidfuzz.distance": None}):
        found, is_near = neighbours.nearest(text), neighbours.within(text, distance)
    assert (found.document, found.distance) == (nearest, edits(text, nearest))
    assert is_near == (edits(text, nearest) <= distance)
    assert len(neighbours) == len(set(documents))
