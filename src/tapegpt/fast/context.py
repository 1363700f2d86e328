"""Which rows of the table of runs a position takes: one for each run of 2 to n_gram tokens that ends there.

A run's row is a hash of its tokens: runs of all lengths share one table of fixed size, and some share a row. Before a
document, or a window of one, every token is BOS. Not here: the rows themselves (`Embedding`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.machine.language import Builder, Pointer, Value

_MULTIPLIER = 0x9E3779B1  # 2^32 over the golden ratio (Knuth, The Art of Computer Programming 3, 6.4)


def token_before(k: Builder, tokens: Pointer, place: Value, back: int, first: int, bos: int) -> Value:
    """The token `back` places before one, BOS before the place `first`, from where on there are tokens."""
    earlier = place - back
    exists = earlier >= first
    return k.select(exists, tokens[k.select(exists, earlier, first)], bos)


def rows_of_runs(k: Builder, token_before: Callable[[int], Value], n_gram: int, gram_rows: int) -> list[Value]:
    """The row of each run; `token_before(0)` is the position's own token, 1 the one before it, and so on."""
    rows, run = [], k.integer(0)
    for back in range(n_gram):
        run = ((run ^ token_before(back)) * _MULTIPLIER) & 0xFFFFFFFF
        if back:
            rows.append((((run ^ (run >> 15)) * _MULTIPLIER & 0xFFFFFFFF) * gram_rows) >> 32)
    return rows
