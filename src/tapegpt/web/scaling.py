"""A scaling law as a page: one HTML file that needs nothing else. Not here: the law, and how it is drawn (`web/`)."""

from __future__ import annotations

from tapegpt.experiments.predictions import NAMES, PARAMETERS, STEPS, STRINGS
from tapegpt.text import round_digits
from tapegpt.web import document, facts, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from tapegpt.experiments.predictions import Scaling

    Data = dict[str, Any]

DIGITS = 6  # significant, of the numbers of a picture
TITLE = "What would improve it most"


def page(found: Scaling, footer: str = "") -> str:
    """The page as HTML, with a footer that is HTML; for the same findings it is the same."""
    return document(TITLE, "\n".join([*_body(found), footer]), data(found), "scaling")


def data(found: Scaling) -> Data:
    """What the pictures are drawn from: the law of each as [x, loss, lowest, highest], and the measured points."""
    own = found.own
    axes = []
    for axis in (STRINGS, PARAMETERS, STEPS):
        others = [other for other in (PARAMETERS, STRINGS, STEPS) if other != axis]
        alike = [each for each in found.trainings if all(each.amounts[other] == own[other] for other in others)]
        points = [(each.amounts[axis], each.loss) for each in alike]
        name = NAMES[axis]
        axes.append(_picture(name, name, found.along(axis), points, (own[axis], *found.band(own))))
    everything = [(each.seconds, each.loss) for each in found.trainings if each.strings == own[STRINGS]]
    spent, own_time = "seconds of a core, best spent", (found.seconds, *found.band(own))
    time = _picture(spent, "seconds", found.frontier(), everything, own_time)
    return {"pictures": [time, *axes]}


def _picture(by: str, unit: str, law: Iterable[Iterable[float]], points: Iterable[Any], own: Iterable[float]) -> Data:
    return {
        "title": f"Loss: nats per token, by {by}",
        "unit": unit,
        "law": [[round_digits(number, DIGITS) for number in row] for row in law],
        "points": [[round_digits(number, DIGITS) for number in point] for point in points],
        "own": [round_digits(number, DIGITS) for number in own],
    }


# --- the page ---------------------------------------------------------------------------------------------------


def _body(found: Scaling) -> Iterator[str]:
    parameters, strings, steps = found.own
    floor, (low, high) = found.floor
    best = max(found.gains[:-1], key=lambda gain: gain.gain)
    yield f"<h1>{TITLE}</h1>"
    yield (
        f"<p>A GPT of {parameters:,} parameters that learns from {strings:,} strings in {steps:,} steps reaches "
        f"{found.loss:.3f} nats per token. {best.name.capitalize()} would improve it most, by {best.gain:.3f}: "
        f"{-best.perplexity:.1%} less perplexity. No amount of all three goes below {floor:.2f} "
        f"({low:.2f} to {high:.2f}).</p>"
    )
    for warning in found.warnings:
        yield f"<p><strong>Note:</strong> {warning}.</p>"
    yield '<div data-view="time"></div>'
    yield '<div class="laws" data-view="axes"></div>'
    yield (
        "<p>A dot is a training, the circle your setting. The line is the law with its 90 % interval, dashed where "
        "nothing was measured.</p>"
    )
    yield "<h2>Twice as much</h2>"
    yield table("Losses in nats per token, by the law", ("with", *GAINS), map(_typeset, gain_rows(found)), scrolls=True)
    yield f"<p>Twice the time is best spent on {mix(found)}.</p>"
    yield "<h2>Predictions tested</h2>"
    yield table(
        "Each predicted from trainings with less of it",
        ("with", *CHECKS[:-1], "note"),
        map(_typeset, check_rows(found)),
        scrolls=True,
    )
    yield "<h2>The law</h2>"
    yield (
        "<p>loss = E + ((A / parameters<sup>a</sup>)<sup>q</sup> + (B / strings<sup>b</sup>)<sup>q</sup> + "
        "(C / steps<sup>c</sup>)<sup>q</sup>)<sup>1/q</sup></p>"
    )
    law = found.law
    constants = (law.floor, *law.coefficients, *law.exponents, law.sharpness)
    yield facts({name: f"{value:.3g}" for name, value in zip("EABCabcq", constants, strict=True)})
    yield (
        f"<p>Fitted to {len(found.trainings)} trainings, whose losses on {found.held_out:,} held-out strings differ "
        f"from it by {found.noise:.1%}. Parameters are counted without n-gram embeddings.</p>"
    )


# --- what the page and the command's lines have in common ---------------------------------------------------------

GAINS = ("loss", "gain", "90 % interval", "perplexity", "without limit")
CHECKS = ("predicted", "90 % interval", "measured", "")


def gain_rows(found: Scaling) -> Iterator[tuple[str, ...]]:
    """What twice as much of each gains, a row each."""
    for gain in found.gains:
        limit = "" if gain.limit is None else f"{gain.limit:.3f}"
        yield gain.name, f"{gain.loss:.3f}", f"{gain.gain:.3f}", span(gain.interval), f"{gain.perplexity:+.1%}", limit


def check_rows(found: Scaling) -> Iterator[tuple[str, ...]]:
    """What was predicted and then measured, a row each."""
    for check in found.checks:
        measured = f"{check.measured:.3f}"
        yield check.name, f"{check.predicted:.3f}", span(check.interval), measured, "" if check.holds else "outside"


def span(interval: tuple[float, float]) -> str:
    """An interval in digits."""
    return f"{interval[0]:.3f}..{interval[1]:.3f}"


def _typeset(cells: Iterable[str]) -> list[str]:
    """Cells as a page has them, with a true minus sign."""
    return [cell.replace("..", " to ").replace("-", "\N{MINUS SIGN}") for cell in cells]


def mix(found: Scaling) -> str:
    """How twice the time is spent best."""
    more = [after / before for after, before in zip(found.best_mix(2.0), found.own, strict=True)]
    return f"{more[PARAMETERS]:.2g} times the parameters and {more[STEPS]:.2g} times the steps"
