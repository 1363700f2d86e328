"""`tapegpt report`: a page about a model. Not here: what is on it (`report.py`)."""

from __future__ import annotations

from tapegpt.cli.console import STDOUT, write_page
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, option, output_argument
from tapegpt.ranges import Whole


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.web.report import SAMPLES

    model_argument(parser, data=True)
    output_argument(parser, "page", "report.html")
    option(parser, "--text", "TEXT", "string that the page explains [the first of the data]")
    about = "number of strings to generate, to compare with the training data"
    option(parser, "--samples", Whole(1), about, default=SAMPLES)


def run(options: Namespace) -> int:
    from tapegpt.files import writable
    from tapegpt.web.report import report

    if options.output != STDOUT:
        writable(options.output)
    write_page(options.output, report(load_model(options), text=options.text, samples=options.samples))
    if options.output != STDOUT:
        print(f"open {options.output} in a browser")
    return 0
