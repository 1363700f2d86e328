"""`tapegpt studio`: the page where every slider retrains the model."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from tapegpt.cli.data import data_arguments, source_of
from tapegpt.cli.models import load_model, own_class_argument
from tapegpt.cli.options import ArgumentParser, Namespace, option, switch
from tapegpt.errors import TapeGPTError
from tapegpt.studio import HOST, PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.data.corpus import Corpus
    from tapegpt.models.trained import GPT
    from tapegpt.studio.limits import Limits

LIMITS = ("characters", "parameters", "steps", "seconds")
COMMON = "--dataset --host --port --load --no-browser"


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.studio.limits import PORTS, Limits

    data_arguments(parser.add_argument_group("data"))
    server = parser.add_argument_group("server")
    about = f"address to listen at; anything but the loopback interface needs a token, which is printed [{HOST}]"
    option(server, "--host", "NAME", about, default=HOST)
    option(server, "--port", PORTS, "port to listen at; 0 for any free port", default=PORT)
    about = "model to start with: file written by tapegpt train -o, or directory by --run-dir"
    option(server, "--load", "MODEL", about, dest="model")
    own_class_argument(server)
    switch(server, "--no-browser", "do not open the page")
    static = parser.add_argument_group("without a server")
    about = "write the page into a directory instead, which any web server can serve; all of it runs in the browser"
    option(static, "--static-dir", "DIR", about)
    option(static, "--pyodide", "PLACE", "address of Pyodide, or a directory, which is copied [cdn.jsdelivr.net]")
    limits = parser.add_argument_group("limits for users of the page")
    for name in LIMITS:
        each = Limits.fields[name]
        option(limits, f"--max-{name}", Limits.ranges[name], f"{each.about} [{each.default:,.0f}]")


def run(options: Namespace) -> int:
    from tapegpt.studio import serve
    from tapegpt.studio.limits import Limits

    corpus, name = _data(options)
    model = load_model(options) if options.model else None
    given = {name: value for name in LIMITS if (value := getattr(options, f"max_{name}")) is not None}
    limits = Limits(**given)
    if options.pyodide and options.static_dir is None:
        raise TapeGPTError("--pyodide needs --static-dir DIR: only a page without a server uses it")
    if options.static_dir is not None:
        return _write(options, corpus, name, limits, model)
    server = serve(corpus, model, name=name, host=options.host, port=options.port, limits=limits, log=_log)
    print(f"tapegpt studio: {server.address} (Ctrl-C ends it)", flush=True)
    if sys.stdout.isatty() and not options.no_browser:
        import webbrowser

        webbrowser.open(server.address)
    with suppress(KeyboardInterrupt):  # which is how it is to end
        server.run()
    return 0


def _write(options: Namespace, corpus: Corpus, name: str, limits: Limits, model: GPT | None) -> int:
    from tapegpt.studio.static import PYODIDE, write

    write(options.static_dir, corpus, name, limits, options.pyodide or PYODIDE, model)
    print(f"try it: python -m http.server -d {options.static_dir}")
    return 0


def _data(options: Namespace) -> tuple[Corpus, str]:
    """The corpus to begin with and its name; where it came from stays unknown, unless it is an embedded data set."""
    from tapegpt.data.corpus import Corpus
    from tapegpt.data.packed import named

    source = source_of(options)
    corpus = Corpus.from_source(source, options.tokens)
    if source.dataset is not None:
        return corpus, source.dataset
    return corpus.replace(source=None), os.path.basename(named(source.paths[0]))


def _log(line: str) -> None:
    print(f"tapegpt studio: {line}", file=sys.stderr, flush=True)
