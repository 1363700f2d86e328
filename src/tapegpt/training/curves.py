"""Losses as curves: fewer points, each the mean of some steps. Not here: drawing them."""

from __future__ import annotations

import math
from itertools import pairwise

from tapegpt.text import round_digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

POINTS = 200


def curve(losses: Sequence[float], first: int = 0) -> dict[str, Any]:
    """Losses of the steps after `first` as at most `POINTS` means, each of the steps up to and including one."""
    return thin(enumerate(losses, first + 1), POINTS)


def thin(points: Iterable[tuple[int, float]], most: int) -> dict[str, Any]:
    """Steps and losses as at most so many means, each of the steps up to and including one."""
    known = list(points)
    count = min(len(known), most)
    ends = [round(place * len(known) / count) for place in range(count + 1)] if count else []
    groups = [known[start:end] for start, end in pairwise(ends)]
    means = [round_digits(math.fsum(loss for _, loss in group) / len(group)) for group in groups]
    return {"steps": [group[-1][0] for group in groups], "mean": means}
