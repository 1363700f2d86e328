"""What was found about scaling: the trainings, the law, and what it says of one's own setting.

Not here: the trainings (`scaling.py`), fitting the law (`power_law.py`).
"""

from __future__ import annotations

import math

from tapegpt.experiments.power_law import Law, interval
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.settings import Settings

    Amounts = tuple[float, float, float]  # parameters, strings, steps
    Band = tuple[float, float, float, float]

PARAMETERS, STRINGS, STEPS = range(3)  # the resources
NAMES = ("parameters", "strings", "steps")
POOR = 0.02  # relative deviation of losses from the law, from which on it is said to fit poorly
EARLY = 0.9  # share of the steps: where the loss is lowest before it, later steps do harm
MIXES = [2 ** (power / 4) for power in range(-16, 13)]  # times the parameters, to spend more time on
POINTS = 40  # of a curve


class Measured(Record):
    """One training: how much it had of each resource, and what came of it."""

    parameters: int  # without n-gram embeddings, which are looked up
    strings: int  # distinct ones
    steps: int
    seed: int
    loss: float  # lowest so far on the held-out strings, that of shorter trainings alike included; nats per token
    best_step: int  # of this one
    seconds: float  # of its thread, without evaluations

    @property
    def amounts(self) -> Amounts:
        """Of the resources, in the order of the law."""
        return self.parameters, self.strings, self.steps


class Gain(Record):
    """What more of something buys at one's own setting; losses in nats per token, intervals of 90 %."""

    name: str
    amounts: Amounts
    loss: float
    gain: float  # the loss falls by so much
    interval: tuple[float, float]
    limit: float | None  # the loss with no end of it; None where it has an end

    @property
    def perplexity(self) -> float:
        """The relative change of the perplexity: -0.05 is 5 % less."""
        return math.expm1(-self.gain)


class Check(Record):
    """A training that had more of something than all that the law was fitted to for this: predicted, and measured."""

    name: str
    amounts: Amounts
    predicted: float
    interval: tuple[float, float]  # that 90 % of such measurements lie in
    measured: float

    @property
    def holds(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.interval[0] <= self.measured <= self.interval[1]


class Pace(Record):
    """Seconds of a core that a step takes, by the parameters: straight lines between logarithms."""

    measured: tuple[tuple[float, float], ...]  # (parameters, seconds a step), rising

    def a_step(self, parameters: float) -> float:
        """Seconds; beyond what was measured extrapolated."""
        pairs = [(math.log(size), math.log(seconds)) for size, seconds in self.measured]
        x = math.log(parameters)
        place = max(0, min(sum(size < x for size, _ in pairs) - 1, len(pairs) - 2))
        (x0, y0), (x1, y1) = pairs[place : place + 2]
        return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))


class Scaling(Record):
    """What was found: the trainings, the law, and what it says of one's own setting."""

    config: Model
    settings: Settings
    own: Amounts
    trainings: tuple[Measured, ...]
    law: Law
    laws: tuple[Law, ...]  # of kinds of training drawn with replacement: how uncertain the law is
    noise: float  # relative deviation of a loss from the law
    checks: tuple[Check, ...]
    pace: Pace
    held_out: int  # strings that losses were measured on

    @property
    def loss(self) -> float:
        """That the law gives for one's own setting."""
        return self.law.loss(self.own)

    @property
    def floor(self) -> tuple[float, tuple[float, float]]:
        """E, the loss that no amount of anything takes away, and its interval."""
        return self.law.floor, interval(law.floor for law in self.laws)

    @property
    def gains(self) -> tuple[Gain, ...]:
        """Twice the strings, the parameters, the steps; twice the time, spent as the law says is best."""
        doubled = {f"twice the {NAMES[axis]}": axis for axis in (STRINGS, PARAMETERS, STEPS)}
        found = [self._gain(name, _with(self.own, axis, 2 * self.own[axis]), axis) for name, axis in doubled.items()]
        return (*found, self._gain("twice the time, best spent", self.best_mix(2.0), None))

    def best_mix(self, times: float) -> Amounts:
        """Parameters and steps with the lowest loss that so many times one's own time suffices for.

        Of sizes up to twice the largest that was measured.
        """
        parameters, strings, _ = self.own
        seconds = times * self.seconds
        smallest, largest = self.pace.measured[0][0], 2 * self.pace.measured[-1][0]
        sizes = [size for mix in MIXES if smallest <= (size := parameters * mix) <= largest]
        return min(((size, strings, seconds / self.pace.a_step(size)) for size in sizes), key=self.law.loss)

    @property
    def seconds(self) -> float:
        """Of a core, that a training with one's own setting takes."""
        return self.own[STEPS] * self.pace.a_step(self.own[PARAMETERS])

    def frontier(self) -> list[Band]:
        """(seconds, loss, lowest, highest): the best that a time of one core buys with all strings, by the law."""
        shortest = min(training.seconds for training in self.trainings) / self.seconds
        return [(times * self.seconds, *self.band(self.best_mix(times))) for times in _geometric(shortest, 2.0)]

    def along(self, axis: int) -> list[tuple[float, float, float, float]]:
        """(amount, loss, lowest, highest): the law with one amount varied, the others as one's own."""
        amounts = [training.amounts[axis] for training in self.trainings]
        varied = _geometric(min(amounts), 2 * max(*amounts, self.own[axis]))
        return [(x, *self.band(_with(self.own, axis, x))) for x in varied]

    def band(self, amounts: Amounts) -> tuple[float, float, float]:
        """(loss, lowest, highest) that the law gives for these amounts."""
        return self.law.loss(amounts), *interval(law.loss(amounts) for law in self.laws)

    def _gain(self, name: str, amounts: Amounts, axis: int | None) -> Gain:
        gains = [law.loss(self.own) - law.loss(amounts) for law in self.laws]
        limit = None if axis is None else self.law.loss(_with(self.own, axis, math.inf))
        loss = self.law.loss(amounts)
        return Gain(name, amounts, loss, self.loss - loss, interval(gains), limit)

    @property
    def warnings(self) -> list[str]:
        """Why not to trust it, a line each."""
        found = []
        if self.noise > POOR:
            found.append(f"the law fits poorly: losses differ from it by {self.noise:.1%}")
        for check in self.checks:
            if not check.holds:
                apart = check.measured - check.predicted
                side = "higher" if apart > 0 else "lower"
                found.append(
                    f"{check.name}: the loss was {abs(apart):.3f} {side} than predicted, the law is rough there"
                )
        longest = max(training.steps for training in self.trainings)
        steps = self.own[STEPS]
        if steps > longest:
            found.append(f"{steps:,.0f} steps are {steps / longest:.1f} times the longest training: a budget adds more")
        own = [training for training in self.trainings if training.amounts == self.own]
        early = [training.best_step for training in own if training.best_step < EARLY * training.steps]
        if 2 * len(early) > len(own):
            found.append(
                f"the held-out loss is lowest after {sorted(early)[len(early) // 2]:,} of {steps:,} steps: "
                "train with validation, which keeps the best parameters"
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        intervals: dict[str, Any] = {
            "floor": self.floor[1],
            "exponents": [interval(exponents) for exponents in zip(*(law.exponents for law in self.laws), strict=True)],
            "sharpness": interval(law.sharpness for law in self.laws),
        }
        return {
            "config": self.config.as_dict(),
            "settings": self.settings.as_dict(),
            "own": dict(zip(NAMES, self.own, strict=True)),
            "loss": self.loss,
            "law": self.law.as_dict(),
            "intervals": intervals,
            "noise": self.noise,
            "gains": [{**gain.as_dict(), "perplexity": gain.perplexity} for gain in self.gains],
            "checks": [{**check.as_dict(), "holds": check.holds} for check in self.checks],
            "warnings": self.warnings,
            "held_out": self.held_out,
            "pace": self.pace.measured,
            "trainings": [training.as_dict() for training in self.trainings],
        }


def _geometric(low: float, high: float) -> list[float]:
    return [low * (high / low) ** (place / (POINTS - 1)) for place in range(POINTS)]


def _with(amounts: Amounts, axis: int, amount: float) -> Amounts:
    parameters, strings, steps = [amount if place == axis else each for place, each in enumerate(amounts)]
    return parameters, strings, steps
