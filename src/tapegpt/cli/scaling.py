"""`tapegpt scaling`: what twice the data, parameters or time would buy. Not here: finding it (`scaling.py`)."""

from __future__ import annotations

import math
import sys

from tapegpt.cli.console import STDOUT, moves, notice, print_report, table, write_page
from tapegpt.cli.data import corpus_of, data_arguments
from tapegpt.cli.models import class_argument, find_class, read_settings, shape_arguments
from tapegpt.cli.options import option, setting_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tapegpt.experiments.power_law import Law
    from tapegpt.experiments.predictions import Scaling

COLUMNS, LINES = 72, 14  # of the plot
MEASURED, PREDICTED = "o", "."
SETTINGS = ("steps", "learning_rate", "batch_size")
COMMON = "--dataset --preset --budget --threads --html --json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from tapegpt.settings import Settings
    from tapegpt.training.presets import PRESETS

    data_arguments(parser.add_argument_group("data"))
    own = parser.add_argument_group("your setting, of which is told what more of each would buy")
    own.add_argument("--preset", choices=PRESETS, default="quick", metavar="NAME", help="what is not given [quick]")
    class_argument(own)
    shape_arguments(own, defaults=False)
    setting_arguments(own, Settings, *SETTINGS, defaults=False)
    how = parser.add_argument_group("how it is found")
    about = "time for all trainings: 30s, 5m; compiling, once for a shape, is not counted [60s]"
    how.add_argument("--budget", default="60s", metavar="TIME", help=about)
    option(how, "--validation", 0.1, "share of the distinct strings to hold out")
    option(how, "--seed", 42, "seed of all random numbers")
    setting_arguments(how, Settings, "threads")
    output = parser.add_argument_group("output")
    output.add_argument("--html", metavar="FILE", help="page to write too, - for standard output")
    output.add_argument("--json", action="store_true", help="JSON, with all trainings")


def run(options: argparse.Namespace) -> int:
    """Train, fit, tell."""
    from tapegpt.experiments.scaling import scaling
    from tapegpt.files import writable

    if options.html not in (None, STDOUT):
        writable(options.html)
    kind = find_class(options)
    named = {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    in_place = moves(sys.stdout) and not options.json

    def watch(done: int, loss: float) -> None:
        if in_place:
            print(f"\r{done:4d} trainings done | held-out loss {loss:.4f}\x1b[K", end="", flush=True)

    try:
        found = scaling(
            corpus_of(options),
            budget=options.budget,
            validation=options.validation,
            seed=options.seed,
            model=kind,
            preset=options.preset,
            threads=options.threads,
            watch=watch,
            **named,
            **read_settings(options, kind),
        )
    finally:
        print("\r\x1b[K" if in_place else "", end="", flush=True)
    print_report(found, page, options.json)
    for warning in found.warnings:
        notice(warning)
    if options.html is not None:
        from tapegpt.web.scaling import page as html

        write_page(options.html, html(found))
    return 0


def page(found: Scaling) -> Iterator[str]:
    """The lines that are printed."""
    ranges = []
    for name, amounts in zip(("parameters", "strings", "steps"), zip(*_amounts(found), strict=True), strict=True):
        ranges.append(f"{min(amounts):,} to {max(amounts):,} {name}")
    yield f"{len(found.trainings)} trainings: {', '.join(ranges)}; {found.held_out:,} strings held out"
    yield f"in nats per token, off by {found.noise:.1%}, loss ="
    yield f"  {formula(found.law)}"
    yield ""
    parameters, strings, steps = found.own
    yield f"your setting: {parameters:,} parameters, {strings:,} strings, {steps:,} steps: {found.loss:.3f}"
    rows = [("", "loss", "gain", "90 % interval", "perplexity", "without end")]
    for gain in found.gains:
        limit = "" if gain.limit is None else f"{gain.limit:.3f}"
        numbers = (f"{gain.loss:.3f}", f"{gain.gain:.3f}", _span(gain.interval), f"{gain.perplexity:+.1%}", limit)
        rows.append((gain.name, *numbers))
    yield from table(rows, "<>")
    yield f"best spent: {mix(found)}"
    floor, interval = found.floor
    yield f"however much there is of all, {floor:.3f} is left, 90 % interval {_span(interval)}"
    yield ""
    tests = [("put to the test, from less", "predicted", "90 % interval", "measured", "")]
    for check in found.checks:
        row = (check.name, f"{check.predicted:.3f}", _span(check.interval), f"{check.measured:.3f}")
        tests.append((*row, "" if check.holds else "outside"))
    yield from table(tests, "<>>><")
    yield ""
    yield f"loss by seconds of one core, all strings: {MEASURED} measured, {PREDICTED} best by the law"
    yield from _plot(found)


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}..{interval[1]:.3f}"


def formula(law: Law) -> str:
    """The law in digits."""
    names = ("parameters", "strings", "steps")
    terms = [
        f"({coefficient:.3g} / {name}^{exponent:.2f})^{law.sharpness:.2f}"
        for name, coefficient, exponent in zip(names, law.coefficients, law.exponents, strict=True)
    ]
    return f"{law.floor:.3f} + ({' + '.join(terms)})^(1 / {law.sharpness:.2f})"


def mix(found: Scaling) -> str:
    """How twice the time is spent best."""
    times = [more / own for more, own in zip(found.best_mix(2.0), found.own, strict=True)]
    return f"{times[0]:.2g} times the parameters, {times[2]:.2g} times the steps"


def _amounts(found: Scaling) -> Iterator[tuple[float, float, float]]:
    return (training.amounts for training in found.trainings)


def _plot(found: Scaling) -> Iterator[str]:
    """Losses against the logarithm of seconds."""
    law = [(math.log(seconds), loss) for seconds, loss, _, _ in found.frontier()]
    all_strings = [training for training in found.trainings if training.strings == found.own[1]]
    measured = [(math.log(training.seconds), training.loss) for training in all_strings]
    points = law + measured
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    bottom, top = min(y for _, y in points), max(y for _, y in points)
    rows = [[" "] * COLUMNS for _ in range(LINES)]
    for mark, marked in ((PREDICTED, law), (MEASURED, measured)):
        for x, y in marked:
            line = round((top - y) / max(top - bottom, 1e-9) * (LINES - 1))
            rows[line][round((x - left) / max(right - left, 1e-9) * (COLUMNS - 1))] = mark
    for place, row in enumerate(rows):
        shown = place in (0, LINES // 2, LINES - 1)
        label = f"{top - place / (LINES - 1) * (top - bottom):7.3f}" if shown else " " * 7
        yield f"{label} |{''.join(row)}".rstrip()
    first, last = f"{math.exp(left):.2g}", f"{math.exp(right):.2g} s"
    yield f"{'':7} +{'-' * COLUMNS}"
    yield f"{'':9}{first}{last.rjust(COLUMNS - len(first))}"
