"""How the budget of a sweep is spent: how many steps the time that is left suffices for.

Trainings go in turns, one on each thread. A turn takes `a_step` seconds for each step, and judging by one held-out
string takes as long as `a_string` steps, however large the model. Not here: the plan (`search.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from tapegpt.experiments.search import ETA
from tapegpt.settings import MAX_STEPS

SPARE = 0.01  # share of a budget for what comes after the last rung
LEAST = 1e-9  # seconds of a turn


class Pacing:
    """The time of a sweep and what a turn takes; without a budget it only measures."""

    def __init__(self, budget: float | None, started: float, threads: int) -> None:
        self._budget, self._started, self._threads = budget or math.inf, started, threads
        self.a_step = self.a_string = 0.0

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

    def compare(self, strings: int, short: tuple[int, float], long: tuple[int, float]) -> None:
        """Learn from the steps and the seconds of two turns, both judged by so many strings."""
        (few, least), (many, most) = short, long
        self.a_step = max(most - least, most / 2, LEAST) / (many - few)  # the long one is half steps at least
        self.a_string = max(least / self.a_step - few, 0.0) / strings

    def learn(self, strings: int, steps: int, seconds: float) -> None:
        """Learn that a turn takes so long."""
        self.a_step = max(seconds, LEAST) / (steps + self.a_string * strings)

    def turns(self, trainings: int) -> int:
        """In how many turns so many trainings are done."""
        return -(-trainings // self._threads)

    def affordable(self, rungs: Sequence[tuple[int, int]]) -> int:
        """Steps of a rung, so that it and the later ones, each three times as long, fill the time that is left.

        Each has so many trainings, which are judged by so many strings. At least one step.
        """
        left = (self._budget * (1 - SPARE) - self.spent) / self.a_step
        left -= self.a_string * sum(self.turns(trainings) * strings for trainings, strings in rungs)
        shares = sum(self.turns(trainings) * ETA**place for place, (trainings, _) in enumerate(rungs))
        return min(max(int(left / shares), 1), MAX_STEPS)
