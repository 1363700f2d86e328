"""A page about many trainings, as one HTML file that needs nothing else: what was searched, how they learned, a table.

All that there is to read stands in the HTML; `web/leaderboard.js` draws pictures from the data beside it. For the same
outcomes the page is the same. Not here: the trainings (`population.py`), which of them continue (`sweep.py`).
"""

from __future__ import annotations

import math
from html import escape

from tapegpt.errors import TapeGPTError
from tapegpt.experiments.population import differences
from tapegpt.models.curves import thin
from tapegpt.record import plain
from tapegpt.text import amount, round_digits
from tapegpt.web import compared, document, said, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tapegpt.experiments.population import Outcome

    Data = dict[str, Any]

MOST = 500  # candidates that are shown
POINTS = 40  # of each curve, so that noise is averaged out
LOSS, ERROR, STEPS = "held-out", "\N{PLUS-MINUS SIGN}", "steps"
FIGURES = (LOSS, ERROR, "training", "seconds")  # columns of numbers with four digits behind the point


def page(outcomes: Sequence[Outcome], baselines: Mapping[str, float] | None = None, footer: str = "") -> str:
    """The page as HTML: outcomes from the best to the worst, and losses of simple models on the same strings.

    Of many outcomes the first 500 are shown; the footer is HTML. Raises `TapeGPTError` where there is none.
    """
    if not outcomes:
        raise TapeGPTError("a leaderboard shows trainings, and there is none: let the sweep run longer")
    shown = outcomes[:MOST]
    searched = differences(shown)
    columns = _columns(shown, searched)
    steps = [STEPS] if len(set(columns[STEPS])) > 1 else []
    names = list(columns)
    data = {
        "columns": [{"name": name, "values": values} for name, values in columns.items()],
        "axes": [names.index(name) for name in (*searched, *steps, LOSS)],
        "curves": [_thin(outcome.losses) for outcome in shown],
        "baselines": dict(baselines or {}),
    }
    title = f"A sweep of {amount(len(outcomes), 'training')}"
    lines = [
        f"<h1>{title}</h1>",
        f"<p>{escape(_summary(outcomes, searched, baselines or {}))}</p>",
        '<section><h2>What was searched</h2><div data-view="parallel"></div></section>',
        '<section><h2>How they learned</h2><div data-view="curves"></div></section>',
        "<section><h2>All of them</h2>",
        _table(columns, len(outcomes)),
        "</section>",
        footer,
    ]
    return document(title, "\n".join(lines), data, "leaderboard")


# --- what there is to tell --------------------------------------------------------------------------------------


def _columns(outcomes: Sequence[Outcome], searched: Sequence[str]) -> dict[str, list[Any]]:
    """The table, column by column; None where a loss is no number."""
    tables = [outcome.candidate.chosen() for outcome in outcomes]
    errors = [outcome.error for outcome in outcomes]
    return {
        "rank": list(range(1, len(outcomes) + 1)),
        LOSS: [plain(outcome.loss) for outcome in outcomes],
        **({ERROR: errors} if any(error is not None for error in errors) else {}),
        "training": [plain(outcome.training_loss) for outcome in outcomes],
        **{name: [table[name] for table in tables] for name in searched},
        "parameters": [outcome.parameters for outcome in outcomes],
        STEPS: [table[STEPS] for table in tables],
        "seconds": [round_digits(outcome.seconds) for outcome in outcomes],
    }


def _thin(losses: Data) -> Data:
    """A curve of fewer points; what is no number stays out."""
    points = [point for point in zip(losses["steps"], losses["mean"], strict=True) if math.isfinite(point[1])]
    return thin(points, POINTS)


def _summary(outcomes: Sequence[Outcome], searched: Sequence[str], baselines: Mapping[str, float]) -> str:
    best = outcomes[0]
    if best.diverged:
        return f"None of them finished: {best.diverged}."
    error = "" if best.error is None else f" \N{PLUS-MINUS SIGN} {best.error:.4f}"
    text = f"The best one costs {best.loss:.4f}{error} nats per token of strings that none of them has seen"
    if searched:
        text += ": " + ", ".join(f"{name} {said(best.candidate.chosen()[name])}" for name in searched)
    text += "."
    if baselines:
        text += f" To compare, {compared(baselines)}."
    diverged = sum(bool(outcome.diverged) for outcome in outcomes)
    return f"{text} Of all, {diverged:,} diverged." if diverged else text


# --- the page ---------------------------------------------------------------------------------------------------


def _table(columns: Mapping[str, Sequence[Any]], total: int) -> str:
    rows = [
        [escape(_cell(name, value)) for name, value in zip(columns, row, strict=True)]
        for row in zip(*columns.values(), strict=True)
    ]
    shown = table("Losses in nats per token, time in seconds of one core", columns, rows, scrolls=True)
    return shown if total <= MOST else f"{shown}\n<p>And {total - MOST:,} more, which are worse.</p>"


def _cell(name: str, value: Any) -> str:
    if name not in FIGURES:
        return said(value)
    if value is None:
        return "" if name == ERROR else "diverged"
    return f"{value:.4f}" if value < 1000 else f"{value:,.0f}"
