"""What came of a sweep: its candidates ranked, their models and ensembles. Not here: the sweep itself (`sweep.py`)."""

from __future__ import annotations

import math

from tapegpt.errors import TapeGPTError, quote
from tapegpt.experiments.population import Field, Outcome, differences
from tapegpt.record import Record, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tapegpt.experiments.search import Plan
    from tapegpt.models.ensemble import Ensemble
    from tapegpt.models.trained import GPT


class Row(Record):
    """A candidate's place: the outcome of the last rung that it came to, the mean over that rung's seeds."""

    outcome: Outcome
    rung: int  # from 0
    by_seed: tuple[Outcome, ...]

    @property
    def steps(self) -> int:
        """Of each training in that rung."""
        return self.outcome.candidate.settings.steps


class Sweep(Record):
    """What came of a sweep, or of its part that is done: the best candidates first, by rung, then by loss."""

    rows: list[Row]
    plan: Plan
    left_out: dict[str, int]  # candidates that could not be, by reason
    baselines: dict[str, float]  # losses of simple models on the held-out strings
    field: Field
    kept: list[tuple[Outcome, GPT]]  # models of the last rung, as far as they are in memory

    @property
    def best(self) -> GPT:
        """The model of the first row, trained with its first seed; raises `TapeGPTError` where all diverged."""
        if self.rows[0].outcome.diverged:
            raise TapeGPTError(f"no training came to its end: {self.rows[0].outcome.diverged}")
        return self._model(self.rows[0].by_seed[0])

    def ensemble(self, k: int) -> Ensemble:
        """The k best models of the last rung as one; raises `TapeGPTError` where it has not as many."""
        from tapegpt.models.ensemble import Ensemble

        finals = [each for row in self.rows if row.rung == self.rows[0].rung for each in row.by_seed]
        if not 1 <= k <= len(finals):
            raise TapeGPTError(f"an ensemble has 1 to {len(finals)} models, which the last rung has, not {quote(k)}")
        return Ensemble([self._model(outcome) for outcome in sorted(finals, key=lambda outcome: outcome.loss)[:k]])

    def _model(self, outcome: Outcome) -> GPT:
        """As it was trained; again, where that was before an interruption, or elsewhere."""
        for kept, model in self.kept:
            if kept.candidate == outcome.candidate:
                return model
        model = self.field.train(outcome.candidate)[1]
        self.field.remember(model, outcome.candidate.settings)
        self.kept.append((outcome, model))
        return model

    def differences(self) -> list[str]:
        """The settings of the model and the training that the candidates differ in, but for the steps."""
        return differences(row.outcome for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """All of it but the models, as JSON has it; a loss that is infinite is None."""
        rows = []
        for rank, row in enumerate(self.rows, 1):
            found = row.outcome.as_json()
            candidate = found.pop("candidate")
            place = {"rank": rank, "number": candidate["number"], "rung": row.rung, "steps": row.steps}
            settings = {"config": candidate["config"], "settings": candidate["settings"]}
            by_seed = {each.candidate.settings.seed: each.loss for each in row.by_seed}
            rows.append({**place, **found, **settings, "by_seed": plain(by_seed)})
        return {
            "plan": str(self.plan),
            "seed": self.field.seed,
            "held_out": len(self.field.held_out),
            "left_out": self.left_out,
            "baselines": self.baselines,
            "rows": rows,
        }


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Of trainings that differ in their seed: means, and the standard error of the loss; the first one's curve."""
    first, number = outcomes[0], len(outcomes)
    losses = [outcome.loss for outcome in outcomes]
    mean = math.fsum(losses) / number
    spread = math.fsum((loss - mean) ** 2 for loss in losses) if math.isfinite(mean) else math.inf
    return first.replace(
        loss=mean,
        error=math.sqrt(spread / (number - 1) / number) if number > 1 and math.isfinite(mean) else None,
        training_loss=math.fsum(outcome.training_loss for outcome in outcomes) / number,
        seconds=math.fsum(outcome.seconds for outcome in outcomes) / number,
        diverged=next((outcome.diverged for outcome in outcomes if outcome.diverged), ""),
    )
