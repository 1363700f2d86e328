"""`tapegpt export`: a model as a file that needs nothing of this package. Not here: what is in it (`export/`)."""

from __future__ import annotations

from tapegpt.cli.models import load_model, model_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    from tapegpt.export import KINDS

    model_argument(parser, data=True)
    kinds = ", ".join(f"{ending} {what}" for ending, what in KINDS.items())
    about = f"file to write; its ending chooses the format: {kinds}"
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=about)
    about = "a page that also repeats the training, with the training data in it"
    parser.add_argument("--train", action="store_true", help=about)


def run(options: argparse.Namespace) -> int:
    from tapegpt.export import kind_of, write
    from tapegpt.files import writable

    kind_of(options.output)
    writable(options.output)
    write(load_model(options), options.output, train=options.train)
    return 0
