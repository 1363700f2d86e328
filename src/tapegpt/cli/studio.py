"""`tapegpt studio`: the page where every slider retrains the model."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from tapegpt.cli.data import data_arguments, source_of
from tapegpt.cli.models import model_file, own_class_argument
from tapegpt.cli.options import number, option, whole
from tapegpt.errors import TapeGPTError
from tapegpt.studio import HOST, PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from tapegpt.data.corpus import Corpus
    from tapegpt.models.trained import GPT
    from tapegpt.studio.limits import Limits

COMMON = "--dataset --host --port --load --no-browser"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from tapegpt.studio.limits import Limits

    data_arguments(parser.add_argument_group("data"))
    server = parser.add_argument_group("server")
    about = f"address to listen at; any but this machine's own needs a token, which is printed [{HOST}]"
    server.add_argument("--host", default=HOST, metavar="NAME", help=about)
    option(server, "--port", PORT, "port to listen at, 0 for a free one")
    about = "model to begin with: file written by tapegpt train -o, or directory by --run-dir"
    server.add_argument("--load", metavar="MODEL", help=about)
    own_class_argument(server)
    server.add_argument("--no-browser", action="store_true", help="only the server, without opening the page")
    limits = parser.add_argument_group("limits, for whoever uses the page")
    for name, kind, about in (
        ("characters", whole, "of the data"),
        ("parameters", whole, "of a model"),
        ("steps", whole, "of a training"),
        ("seconds", number, "of a training"),
    ):
        most = f"most {name} {about} [{getattr(Limits, name):,.0f}]"
        limits.add_argument(f"--max-{name}", type=kind, metavar="N" if kind is whole else "X", help=most)


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from tapegpt.studio import serve

    corpus, name = _data(options)
    model = _load(model_file(options.load), options.kind) if options.load else None
    limits = _limits(options)
    server = serve(corpus, model, name=name, host=options.host, port=options.port, limits=limits, log=_log)
    address = server.address
    print(f"tapegpt studio: {address} (Ctrl-C ends it)", flush=True)
    if sys.stdout.isatty() and not options.no_browser:
        import webbrowser

        webbrowser.open(address)
    with suppress(KeyboardInterrupt):  # which is how it is to end
        server.run()
    return 0


def _data(options: argparse.Namespace) -> tuple[Corpus, str]:
    """The corpus to begin with and its name; where it came from stays unknown, unless it is an embedded data set."""
    from tapegpt.data.corpus import Corpus
    from tapegpt.data.sources import named

    source = source_of(options)
    corpus = Corpus.from_source(source)
    if source.dataset is not None:
        return corpus, source.dataset
    return corpus.replaced(source=None), os.path.basename(named(source.paths[0]))


def _limits(options: argparse.Namespace) -> Limits:
    from tapegpt.studio.limits import Limits

    given = {name: getattr(options, f"max_{name}") for name in ("characters", "parameters", "steps", "seconds")}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _load(path: str, kind: str | None) -> GPT:
    """A model to begin with."""
    from tapegpt.models.checkpoint import load
    from tapegpt.studio.studio import single

    model = load(path, kind)
    if model.models:
        raise TapeGPTError(single(path, len(model.models)))
    return model


def _log(line: str) -> None:
    print(f"tapegpt studio: {line}", file=sys.stderr, flush=True)
