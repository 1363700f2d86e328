"""Which documents a string is like, against distances of every pair."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from tapegpt.data.neighbours import Neighbours

STRINGS = st.lists(st.text("ab", max_size=6), min_size=1, max_size=9)


@cache
def edits(some: str, other: str) -> int:
    """Insertions, deletions and replacements that make one of the other."""
    if not some or not other:
        return len(some) + len(other)
    last = edits(some[:-1], other[:-1]) + (some[-1] != other[-1])
    return min(last, edits(some[:-1], other) + 1, edits(some, other[:-1]) + 1)


@given(STRINGS, st.text("abc", max_size=8), st.integers(0, 9))
def test_distances_are_those_of_every_pair(documents: list[str], text: str, distance: int) -> None:
    neighbours = Neighbours(documents)
    nearest = min(documents, key=lambda document: edits(text, document))
    found = neighbours.nearest(text)
    assert (found.document, found.distance) == (nearest, edits(text, nearest))
    assert neighbours.within(text, distance) == (edits(text, nearest) <= distance)
    assert len(neighbours) == len(set(documents))
