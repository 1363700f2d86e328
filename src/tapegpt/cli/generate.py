"""`tapegpt generate`: a trained model speaks, within constraints."""

from __future__ import annotations

import sys

from tapegpt.cli.cluster import bulk_arguments, check_bulk
from tapegpt.cli.console import notice
from tapegpt.cli.models import file_argument, loaded
from tapegpt.cli.options import number, option, whole
from tapegpt.errors import TapeGPTError
from tapegpt.text import json_line, line_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from tapegpt.inference.constraints import GenerateOptions
    from tapegpt.models.trained import GPT

BATCH = 256  # strings that are scored at a time for --json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from argparse import BooleanOptionalAction

    parser.add_argument("model", metavar="MODEL", help="file written by tapegpt train -o")
    file_argument(parser)
    option(parser, "-n", 20, "strings to invent")
    about = "of the random numbers; within constraints strings depend on the kind of CPU too [go on where MODEL is]"
    parser.add_argument("--seed", type=whole, metavar="N", help=about)
    parser.add_argument("--json", action="store_true", help="each string with its log-probabilities, as JSON lines")
    drawing = parser.add_argument_group("how characters are drawn")
    option(drawing, "--temperature", 0.5, "low is careful, high is daring, 0 the most probable character")
    drawing.add_argument("--top-k", type=whole, metavar="N", help="from the N most probable characters [all]")
    about = "from the most probable that together have this probability [1.0]"
    drawing.add_argument("--top-p", type=number, metavar="X", help=about)
    about = "from those at least so probable, as a share of the most probable one's [0.0]"
    drawing.add_argument("--min-p", type=number, metavar="X", help=about)
    constraints = parser.add_argument_group("constraints, which every string meets")
    constraints.add_argument("--prefix", metavar="TEXT", help="how strings begin")
    constraints.add_argument("--suffix", metavar="TEXT", help="how they end")
    constraints.add_argument("--pattern", metavar="REGEX", help="what the whole string matches, in Python's syntax")
    constraints.add_argument("--min-length", type=whole, metavar="N", help="fewest characters [0]")
    constraints.add_argument("--max-length", type=whole, metavar="N", help="most characters [the block]")
    about = "file of words, one a line, that occur nowhere in a string, in letters of either case"
    constraints.add_argument("--avoid", metavar="FILE", help=about)
    constraints.add_argument("--unique", action="store_true", help="no string twice")
    about = "none of the training data's strings, or with K none within K edits of one"
    constraints.add_argument("--novel", nargs="?", type=whole, const=0, metavar="K", help=about)
    about = "training data for --novel [where it was read for training]"
    constraints.add_argument("--training", nargs="+", metavar="FILE", help=about)
    about = "from the model's own distribution given the constraints, or token by token [where it can be]"
    constraints.add_argument("--unbiased", action=BooleanOptionalAction, help=about)
    about = "say first how probable it is that the model meets them by itself, at --temperature"
    constraints.add_argument("--probability", action="store_true", help=about)
    parser.epilog = (
        "A line holds one string. Those of a model that knows ends of lines or other control characters have escapes "
        "for them, such as \\n, and \\\\ for a backslash, so that they can be read back; so has --json."
    )
    bulk_arguments(parser.add_argument_group("many, on many machines"), "text")


def run(options: argparse.Namespace) -> int:
    """Print the strings, a line each; whatever else is to be said goes to stderr."""
    from tapegpt.inference.constraints import split_options

    if options.n < 0:
        raise TapeGPTError(f"-n must be a whole number from 0 on, not {options.n}")
    check_bulk(options, ("json", "probability"))
    wishes = _wishes(options)
    split_options(wishes)  # refused before the model is read
    model = loaded(options, options.model)
    notice(model.engine.notice)
    if options.training:
        model.read_training_data(*options.training)
    if options.ray is not None:
        from tapegpt.cli.cluster import generate

        return generate(options, model, wishes)
    if options.probability:
        estimate = model.estimate_probability(**{**wishes, "temperature": options.temperature})
        notice(f"probability of the constraints: {estimate.probability:.4g} ± {estimate.error:.2g}")
    _print(model, model.stream(n=options.n, seed=options.seed, **wishes), options.json)
    return 0


def _wishes(options: argparse.Namespace) -> GenerateOptions:
    """What is asked for; what is not is left to the defaults."""
    names = ["temperature", "top_k", "top_p", "min_p"]
    names += ["prefix", "suffix", "pattern", "min_length", "max_length", "unbiased"]
    wishes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.unique:
        wishes["unique"] = True
    if options.novel is not None:
        wishes["novel"] = options.novel or True
    if options.avoid is not None:
        wishes["avoid"] = _words(options.avoid)
    return wishes  # type: ignore[return-value]  # argparse has checked the types


def _words(path: str) -> list[str]:
    """The lines of a file, of which there may be none."""
    from tapegpt.data.sources import Source, content

    source = Source(paths=(path,))
    return [word for file in source.files() for word in source.selected(source.values(file, content(file)))]


def _print(model: GPT, strings: Iterable[str], as_json: bool) -> None:
    if not as_json:
        write, on_a_line = sys.stdout.write, line_writer(model.vocabulary)
        for text in strings:
            write(f"{on_a_line(text)}\n")
        return
    from itertools import islice

    remaining = iter(strings)
    while batch := list(islice(remaining, BATCH)):
        for score in model.score(batch):
            logs = [round(-nats, 6) for nats in score.surprises]
            line = {"text": score.text, "log_probability": round(-score.total, 6), "log_probabilities": logs}
            print(json_line(line))
