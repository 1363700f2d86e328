"""`tapegpt generate`: a trained model speaks."""

from __future__ import annotations

from tapegpt.cli.console import notice
from tapegpt.cli.options import option, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="file written by tapegpt train -o")
    option(parser, "-n", 20, "strings to invent")
    option(parser, "--temperature", 0.5, "low is careful, high is daring")
    parser.add_argument("--seed", type=whole, metavar="N", help="of the random numbers [go on where MODEL is]")


def run(options: argparse.Namespace) -> int:
    """Print the strings, a line each."""
    from tapegpt.checkpoint import load

    model = load(options.model)
    notice(model.engine.notice)
    for text in model.stream(options.n, temperature=options.temperature, seed=options.seed):
        print(text)
    return 0
