"""Candidates that a sampler of Optuna chooses by the losses of those before. Not here: drawing at random (`search.py`).

They are requested in batches of a fixed size, and told in order: the same seed gives the same, whatever the threads.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, missing, quote
from tapegpt.experiments.search import TRIES, Space, is_logarithmic
from tapegpt.text import round_digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tapegpt.experiments.population import Candidate, Outcome

NAMES = ("tpe",)  # by which a sampler is known without Optuna
WORST = 100.0  # nats per token: what a training counts as that diverged, or cannot be; else it would be tried again


def adapt(sampler: Any, space: Space, seed: int) -> OptunaSampler | None:
    """Adapt the sampler "tpe", which gets the seed, or one of Optuna's own; None stays None.

    Raises `TapeGPTError` for anything else.
    """
    if sampler is None:
        return None
    try:
        import optuna
    except ImportError:
        raise missing("Optuna", "optuna") from None
    if sampler in NAMES:
        sampler = optuna.samplers.TPESampler(seed=seed)
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise TapeGPTError(f"sampler must be 'tpe', or a sampler of Optuna, not {quote(sampler)}")
    return OptunaSampler(sampler, space, seed)


class OptunaSampler:
    """Asks Optuna for points of a space (see `sweep.Sampler`); the seed is that of the trainings."""

    def __init__(self, sampler: Any, space: Space, seed: int) -> None:
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        self.name = type(sampler).__name__
        self._space, self._seed, self._asked = space, seed, 0
        self._trials: dict[int, Any] = {}  # of the batch, by the candidate's number
        self._distributions: dict[str, Any] = {name: CategoricalDistribution(v) for name, v in space.grid.items()}
        for name, (low, high) in space.random.items():
            log = is_logarithmic(low, high)
            if space.is_whole(name):
                self._distributions[name] = IntDistribution(int(low), int(high), log=log)
            else:
                self._distributions[name] = FloatDistribution(low, high, log=log)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it tells of every study
        try:
            self._study = optuna.create_study(sampler=sampler)
        finally:
            optuna.logging.set_verbosity(verbosity)

    def ask(self, number: int) -> list[Candidate]:
        """So many more; fewer where nothing possible comes for long."""
        found: list[Candidate] = []
        in_vain = 0
        while len(found) < number and in_vain < TRIES:
            trial = self._study.ask(fixed_distributions=self._distributions)
            candidate = self._space.candidate(self._asked, self._point(trial.params), self._seed)
            if candidate is None:
                self._study.tell(trial, WORST)
                in_vain += 1
            else:
                found.append(candidate)
                self._trials[candidate.number] = trial
                self._asked += 1
                in_vain = 0
        return found

    def _point(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """What is drawn from a range, as a leaderboard shows it."""
        point = dict(parameters)
        for name, (low, high) in self._space.random.items():
            if not self._space.is_whole(name):
                point[name] = min(max(round_digits(point[name]), low), high)
        return point

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What became of the batch, in its order; those without an outcome could not be trained."""
        losses = {outcome.candidate.number: outcome.loss for outcome in outcomes}
        for number, trial in self._trials.items():
            self._study.tell(trial, min(losses.get(number, WORST), WORST))
        self._trials.clear()
