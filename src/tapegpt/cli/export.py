"""`tapegpt export`: a model as a file that needs nothing of this package. Not here: what is in it (`export/`)."""

from __future__ import annotations

from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, option, switch


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.export import KINDS

    model_argument(parser, data=True)
    kinds = ", ".join(f"{ending} {what}" for ending, what in KINDS.items())
    option(parser, "-o, --output", "FILE", f"file to write; its ending chooses the format: {kinds}", required=True)
    switch(parser, "--train", "a page that also repeats the training, with the training data in it")


def run(options: Namespace) -> int:
    from tapegpt.export import kind_of, write
    from tapegpt.files import writable

    kind_of(options.output)
    writable(options.output)
    write(load_model(options), options.output, train=options.train)
    return 0
