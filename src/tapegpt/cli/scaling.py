"""`tapegpt scaling`: what twice the data, parameters or time would gain. Not here: finding it (`scaling.py`)."""

from __future__ import annotations

from tapegpt.cli.console import STDOUT, StatusLine, command_of, notice, print_report, table, write_page
from tapegpt.cli.data import corpus_of, data_arguments
from tapegpt.cli.models import class_argument, find_class, read_settings, shape_arguments
from tapegpt.cli.options import ArgumentParser, Namespace, given, option, setting_arguments, switch
from tapegpt.ranges import OneOf
from tapegpt.settings import SECONDS, SEED, SHARE, Settings
from tapegpt.web import colophon
from tapegpt.web.scaling import CHECKS, GAINS, check_rows, gain_rows, mix, span
from tapegpt.web.scaling import page as html

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.experiments.power_law import Law
    from tapegpt.experiments.predictions import Scaling

SETTINGS = ("steps", "learning_rate", "batch_size")
COMMON = "--dataset --preset --budget --threads --html --json"


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.training.presets import PRESETS

    data_arguments(parser.add_argument_group("data"))
    own = parser.add_argument_group("your setting, for which the gains are predicted")
    option(own, "--preset", OneOf(PRESETS), "what is not given", default="quick")
    class_argument(own)
    shape_arguments(own, defaults=False)
    setting_arguments(own, Settings, *SETTINGS, defaults=False)
    how = parser.add_argument_group("how it is measured")
    option(how, "--budget", SECONDS, "time for all trainings, such as 30s or 5m, compiling not included", default="60s")
    option(how, "--validation", SHARE, "share of the distinct strings to hold out", default=0.1)
    option(how, "--seed", SEED, "seed of all random numbers", default=42)
    setting_arguments(how, Settings, "threads")
    output = parser.add_argument_group("output")
    option(output, "--html", "FILE", "file for the result as a page, - for standard output")
    switch(output, "--json", "JSON, with all trainings")


def run(options: Namespace) -> int:
    from tapegpt.experiments.scaling import scaling
    from tapegpt.files import writable

    if options.html not in (None, STDOUT):
        writable(options.html)
    kind = find_class(options)
    corpus, line = corpus_of(options, options.tokens), StatusLine(quiet=options.json)
    try:
        found = scaling(
            corpus,
            budget=options.budget,
            validation=options.validation,
            seed=options.seed,
            model=kind,
            preset=options.preset,
            threads=options.threads,
            watch=lambda done, loss: line.show(f"{done:4d} trainings done | held-out loss {loss:.4f}"),
            **given(options, SETTINGS),
            **read_settings(options, kind),
        )
    finally:
        line.clear()
    print_report(found, page, options.json)
    for warning in found.warnings:
        notice(warning)
    if options.html is not None:
        footer = colophon([command_of(options.command)], corpus.source, len(corpus))
        write_page(options.html, html(found, footer))
    return 0


def page(found: Scaling) -> Iterator[str]:
    """The lines that are printed."""
    ranges = []
    amounts_of_each = zip(*[training.amounts for training in found.trainings], strict=True)
    for name, amounts in zip(("parameters", "strings", "steps"), amounts_of_each, strict=True):
        ranges.append(f"{min(amounts):,} to {max(amounts):,} {name}")
    yield f"{len(found.trainings)} trainings: {', '.join(ranges)}; {found.held_out:,} strings held out"
    yield f"in nats per token, off by {found.noise:.1%}, loss ="
    yield f"  {formula(found.law)}"
    yield ""
    parameters, strings, steps = found.own
    yield f"your setting: {parameters:,} parameters, {strings:,} strings, {steps:,} steps: {found.loss:.3f}"
    yield from table([("", *GAINS), *gain_rows(found)], "<>")
    yield f"best spent: {mix(found)}"
    floor, interval = found.floor
    yield f"limit for unlimited data, size and time: {floor:.3f}, 90 % interval {span(interval)}"
    yield ""
    yield from table([("tested, from less", *CHECKS), *check_rows(found)], "<>>><")


def formula(law: Law) -> str:
    """The law in digits."""
    names = ("parameters", "strings", "steps")
    terms = [
        f"({coefficient:.3g} / {name}^{exponent:.2f})^{law.sharpness:.2f}"
        for name, coefficient, exponent in zip(names, law.coefficients, law.exponents, strict=True)
    ]
    return f"{law.floor:.3f} + ({' + '.join(terms)})^(1 / {law.sharpness:.2f})"
