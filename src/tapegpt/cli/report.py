"""`tapegpt report`: a page about a model. Not here: what is on it (`report.py`)."""

from __future__ import annotations

from tapegpt.cli.console import notice
from tapegpt.cli.models import file_argument, loaded
from tapegpt.cli.options import option

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

STDOUT = "-"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from tapegpt.web.report import SAMPLES

    parser.add_argument("model", metavar="MODEL", help="file written by tapegpt train -o")
    file_argument(parser)
    about = "write the page to this file, - for standard output [report.html]"
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help=about)
    about = "training data [where it was read for training]"
    parser.add_argument("--training", nargs="+", metavar="FILE", help=about)
    about = "string that the model is watched at while it reads [the first of the data]"
    parser.add_argument("--text", metavar="STRING", help=about)
    option(parser, "--samples", SAMPLES, "strings to compare with the training data")


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    import sys

    from tapegpt.files import writable, write_file
    from tapegpt.web.report import encoded, report

    if options.output != STDOUT:
        writable(options.output)
    model = loaded(options, options.model)
    notice(model.inference.notice)
    if options.training:
        model.read_training_data(*options.training)
    content = encoded(report(model, text=options.text, samples=options.samples))
    if options.output == STDOUT:
        sys.stdout.buffer.write(content)
    else:
        write_file(options.output, content)
        print(f"open {options.output} in a browser")
    return 0
