"""Losses as curves: fewer points, each the mean of some steps. Not here: drawing them on our own pages."""

from __future__ import annotations

import math
from itertools import pairwise

from tapegpt.errors import missing
from tapegpt.text import round_digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from tapegpt.models.provenance import Evaluation

POINTS = 200


def curve(losses: Sequence[float], first: int = 0) -> dict[str, Any]:
    """Losses of the steps after `first` as at most `POINTS` means, each of the steps up to and including one."""
    return thin(enumerate(losses, first + 1), POINTS)


def thin(points: Iterable[tuple[int, float]], most: int) -> dict[str, Any]:
    """Steps and losses as at most so many means, each of the steps up to and including one."""
    steps, losses = [*zip(*points, strict=True)] or ([], [])
    count = min(len(steps), most)
    ends = [round(place * len(steps) / count) for place in range(count + 1)] if count else []
    groups = [*pairwise(ends)]
    means = [round_digits(math.fsum(losses[start:end]) / (end - start)) for start, end in groups]
    return {"steps": [steps[end - 1] for _, end in groups], "mean": means}


def plot(losses: Sequence[float], first: int, evaluations: Sequence[Evaluation], axes: Any = None) -> Any:
    """Draw losses of the steps after `first`, and held-out ones, with matplotlib; the axes, new unless some are given.

    Takes the extra `notebook`. Raises `TapeGPTError` where matplotlib is not installed.
    """
    if axes is None:
        try:
            from matplotlib.pyplot import subplots
        except ImportError:
            raise missing("matplotlib", "notebook") from None
        axes = subplots()[1]
    points = curve(losses, first)
    steps, means = points["steps"], points["mean"]
    (noisy,) = axes.plot(steps, means, alpha=0.3)
    look = {"color": noisy.get_color(), "marker": "o" if len(steps) == 1 else ""}
    axes.plot(steps, _smoothed(means), **look, label="training")
    if evaluations:
        steps, held_out = zip(*[(each.step, each.loss) for each in evaluations], strict=True)
        axes.plot(steps, held_out, color=noisy.get_color(), marker=".", linestyle=":", label="held out")
    axes.set(xlabel="step", ylabel="loss, nats per token")
    axes.legend()
    return axes


def _smoothed(means: Sequence[float]) -> list[float]:
    """Means over those around each; over fewer near the beginning, where losses fall, as on the pages."""
    reaches = [min(index, len(means) // 25) for index in range(len(means))]
    near = [means[index - reach : index + reach + 1] for index, reach in enumerate(reaches)]
    return [math.fsum(losses) / len(losses) for losses in near]
