"""How the budget of a sweep is spent: how many steps the time that is left suffices for.

Trainings go in turns, one on each thread; a turn takes `fixed` seconds and so many more for each step. Not here: the
plan (`search.py`).
"""

from __future__ import annotations

import math
import time

from tapegpt.experiments.search import ETA
from tapegpt.settings import MAX_STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SPARE = 0.01  # share of a budget for what comes after the last rung


class Pacing:
    """The time of a sweep and what a turn takes; without a budget it only measures."""

    def __init__(self, budget: float | None, started: float, threads: int) -> None:
        self._budget, self._started, self._threads = budget or math.inf, started, threads
        self.fixed = self.a_step = 0.0

    @property
    def spent(self) -> float:
        """Seconds of this sweep, also before an interruption."""
        return time.perf_counter() - self._started

    @spent.setter
    def spent(self, seconds: float) -> None:
        self._started -= seconds

    def exclude(self, seconds: float) -> None:
        """Do not count these."""
        self._started += seconds

    def learn(self, steps: int, seconds: float) -> None:
        """Learn that a turn of so many steps takes so long."""
        self.a_step = max(seconds - self.fixed, seconds / 2, 1e-9) / steps

    def turns(self, trainings: int) -> int:
        """In how many turns so many trainings are done."""
        return -(-trainings // self._threads)

    def affordable(self, trainings: Sequence[int]) -> int:
        """Steps of a rung, so that it and the later ones, each three times as long, fill the time that is left.

        So many trainings are in each of them. At least one step.
        """
        turns = [self.turns(each) for each in trainings]
        left = self._budget * (1 - SPARE) - self.spent - self.fixed * sum(turns)
        a_step = self.a_step * sum(each * ETA**place for place, each in enumerate(turns))
        return min(max(int(left / a_step), 1), MAX_STEPS)
