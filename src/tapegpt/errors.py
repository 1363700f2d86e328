"""The errors a user of tapegpt can cause. Not here: our own bugs, which are assertions."""

from __future__ import annotations


class TapeGPTError(Exception):
    """Input that cannot be used: one line naming the place, the rule, the value and what to do."""


class DivergedError(TapeGPTError):
    """A loss or gradient that is not finite. The parameters of the last good step are kept."""

    def __init__(self, step: int, losses: list[float]) -> None:
        super().__init__(
            f"the loss or a gradient is not finite at step {step + 1}, training stopped before it: "
            "choose a smaller --learning-rate"
        )
        self.step = step  # counted from 0
        self.losses = losses  # of the steps that were taken in the call that failed
