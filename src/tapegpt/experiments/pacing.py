"""What trainings of a sweep cost, how many steps a budget allows, how it is spent. Not here: the plan (`search.py`)."""

from __future__ import annotations

import math
import time

from tapegpt.experiments.search import ETA
from tapegpt.settings import MAX_STEPS
from tapegpt.training.clock import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tapegpt.autograd.model import Model
    from tapegpt.experiments.population import Candidate, Cost

    Shape = tuple[str, Model, int, int | None]  # what decides about the cost

SPARE = 0.01  # share of a budget for what comes after the last rung


class Costs:
    """Seconds of a core that trainings take: measured of some shapes, predicted of the others."""

    def __init__(self, vocab_size: int, held_out: int) -> None:
        self._vocab_size, self._held_out = vocab_size, held_out
        self._known: dict[Shape, Cost] = {}

    def learn(self, candidate: Candidate, cost: Cost) -> None:
        """Learn what was measured of a shape."""
        self._known[_shape(candidate)] = cost

    def whole(self, candidate: Candidate) -> float:
        """Seconds of all its steps, and those that do not depend on them."""
        return self.fixed(candidate) + candidate.settings.steps * self.a_step(candidate)

    def fixed(self, candidate: Candidate) -> float:
        """Seconds that do not depend on the steps."""
        cost = self._cost(candidate)
        share = 1.0 if candidate.strings is None else candidate.strings / self._held_out
        return cost.making + cost.evaluating * share

    def a_step(self, candidate: Candidate) -> float:
        """Seconds a step."""
        return self._cost(candidate).a_step

    def _cost(self, candidate: Candidate) -> Cost:
        """As measured, else as the measured shape that is most like it, by the work."""
        shape = _shape(candidate)
        if shape in self._known:
            return self._known[shape]
        alike = [other for other in self._known if other[0] == shape[0]] or list(self._known)
        work = self._work(shape)
        nearest = min(alike, key=lambda other: abs(math.log(self._work(other) / work)))
        cost = self._known[nearest]
        return cost.replaced(a_step=cost.a_step * work / self._work(nearest))

    def work(self, candidate: Candidate) -> int:
        """Multiply-adds of a step for each character of a string, about."""
        return self._work(_shape(candidate))

    def _work(self, shape: Shape) -> int:
        _, model, batch_size, _ = shape
        return batch_size * work(model, self._vocab_size)


def _shape(candidate: Candidate) -> Shape:
    settings = candidate.settings
    return settings.engine, candidate.config, settings.batch_size, settings.threads


def makespan(seconds: Iterable[float], threads: int) -> float:
    """How long threads take that do these in their order, each the next when it is free."""
    from heapq import heapify, heapreplace

    free = [0.0] * threads
    heapify(free)
    for each in seconds:
        heapreplace(free, free[0] + each)
    return max(free)


def affordable(
    costs: Costs, rung: Sequence[Candidate], later: Sequence[tuple[int, int]], seconds: float, threads: int
) -> int:
    """Steps of a rung, so that it and the later ones (candidates, seeds), each three times as long, take these seconds.

    What the later ones will be is not known: they count as these do on average. At least one step.
    """
    fixed = makespan(map(costs.fixed, rung), threads)
    a_step = makespan(map(costs.a_step, rung), threads)
    mean_fixed = math.fsum(map(costs.fixed, rung)) / len(rung)
    mean_step = math.fsum(map(costs.a_step, rung)) / len(rung)
    for place, (number, seeds) in enumerate(later, 1):
        turns = -(-number * seeds // threads)
        fixed += turns * mean_fixed
        a_step += turns * mean_step * ETA**place
    return min(max(int((seconds - fixed) / a_step), 1), MAX_STEPS)


class SweepClock:
    """How a budget is spent; without one it only measures."""

    def __init__(self, budget: float | None, started: float) -> None:
        self._budget, self._started, self._factor = budget or math.inf, started, 1.0

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

    def left(self) -> float:
        """Seconds that trainings may be predicted to take."""
        return (self._budget * (1 - SPARE) - self.spent) / self._factor

    def learn(self, predicted: float, took: float) -> None:
        """Learn how long it takes that was predicted to take so many seconds."""
        if predicted:
            self._factor = took / predicted
