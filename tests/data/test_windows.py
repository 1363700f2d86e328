"""Where windows lie: each token is read anew once, behind half a block."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from tapegpt.data.tokens import Tokens
from tapegpt.data.windows import Windows, overlap, window_start


@given(st.lists(st.integers(1, 40), max_size=6), st.integers(1, 12))
def test_each_token_is_read_anew_once_behind_half_a_block(lengths: list[int], block: int) -> None:
    bounds = array("q", accumulate(lengths, initial=0))
    found = Windows.of(Tokens(array("I", bytes(4 * (bounds[-1] + 1))), bounds), block)
    assert (found.starts[0], found.starts[-1], len(found.begins) >= len(found)) == (0, bounds[-1], True)
    for start, end in pairwise(bounds):
        for place in range(start, end):
            window = bisect_right(found.starts, place) - 1
            begin, first, stop = found.begins[window], found.starts[window], found.starts[window + 1]
            assert begin == start + window_start(place - start, block)
            assert first - begin == (overlap(block) if begin > start else 0)
            assert stop - begin <= block
            assert stop - begin == block or stop == end
            assert place - begin >= min(place - start, block // 2)
            assert stop - begin <= 2 * (stop - first) or stop == end


@given(st.lists(st.integers(1, 40), max_size=6), st.integers(1, 12))
def test_numbers_of_documents_are_those_of_their_windows_but_of_long_ones(lengths: list[int], block: int) -> None:
    bounds = array("q", accumulate(lengths, initial=0))
    found = Windows.of(Tokens(array("I", bytes(4 * (bounds[-1] + 1))), bounds), block)
    long = [float(lengths[place]) for place, _ in found.several]
    assert long == [size for size in lengths if size > block]
    alone = array("d", [stop - start for start, stop in pairwise(found.starts)])
    assert found.documents(alone, long) == array("d", lengths)
