"""`tapegpt generate`: strings of a trained model, within constraints."""

from __future__ import annotations

import sys

from tapegpt.cli.cluster import FORMATS, bulk_arguments, check_bulk, write_parts
from tapegpt.cli.console import notice, output, watched
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import given, label_argument, option, output_argument, setting_arguments, switch
from tapegpt.data.labels import labels_of
from tapegpt.errors import TapeGPTError, quote
from tapegpt.inference.constraints import Constraints, Drawing, split_options
from tapegpt.ranges import OneOf, Whole
from tapegpt.settings import SEED
from tapegpt.text import json_line, line_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tapegpt.cli.options import ArgumentParser, Group, Namespace
    from tapegpt.inference.constraints import GenerateOptions, StringOptions
    from tapegpt.models.trained import GPT

BATCH = 256  # strings that are scored at a time for --json
COMMON = "-n --seed --output --json --temperature --prefix --suffix --pattern --length --distinct --novel"


def arguments(parser: ArgumentParser) -> None:
    from argparse import BooleanOptionalAction

    model_argument(parser, data=True)
    option(parser, "-n", Whole(0), "number of strings", default=20)
    about = "seed of the random numbers; with constraints the strings also depend on the kind of CPU"
    option(parser, "--seed", SEED, f"{about} [continue MODEL's random state]")
    output_argument(parser, "strings")
    switch(parser, "--json", "JSON lines, with the log-probabilities of each string")
    switch(parser, "--print0", "unescaped strings, each followed by NUL, for xargs -0")
    constraints = string_arguments(parser)
    switch(constraints, "--distinct", "no string twice", default=None)
    about = "no string of the training data, or with N none within N edits of one"
    option(constraints, "--novel", Whole(0), about, nargs="?", const=True)
    about = "the model's own distribution given the constraints, or token by token [where possible]"
    constraints.add_argument("--unbiased", action=BooleanOptionalAction, help=about)
    about = "note how probable it is that a string without constraints meets them, at --temperature"
    switch(constraints, "--probability", about)
    parser.epilog = (
        "A line holds one string. If the model knows control characters, such as line ends, they are written as "
        "escapes such as \\n, and a backslash as \\\\; --print0 writes strings unescaped. Beyond the block, each "
        "character follows at least half a block."
    )
    bulk = parser.add_argument_group("many strings, on many machines")
    bulk_arguments(bulk)
    option(bulk, "--output-format", OneOf(FORMATS), f"with --ray: {', '.join(FORMATS)} [text]")


def string_arguments(parser: ArgumentParser, *, defaults: bool = True) -> Group:
    """Declare how strings are drawn, and what each is like: the group of constraints, for more of them."""
    setting_arguments(parser.add_argument_group("how tokens are drawn"), Drawing, *Drawing.fields, defaults=defaults)
    constraints = parser.add_argument_group("constraints, which every string meets")
    option(constraints, "--prefix", "TEXT", "beginning of strings")
    option(constraints, "--suffix", "TEXT", "end of strings")
    option(constraints, "--pattern", "REGEX", "pattern of the whole string, in Python's syntax")
    label_argument(constraints, "strings")
    about = "number of characters, or tokens, also beyond the block: 8, 4..8, 4.., ..8 [up to the block]"
    option(constraints, "--length", "X..Y", about)
    option(constraints, "--avoid", "FILE", "file of words, one per line, that no string contains, ignoring case")
    return constraints


def run(options: Namespace) -> int:
    check_bulk(options, ("output", "json", "print0", "probability"), ("output_format",))
    if options.json and options.print0:
        raise TapeGPTError("--json and --print0 exclude each other: give one of them")
    chosen = given(options, ["distinct", "novel", "unbiased"])
    wanted: GenerateOptions = {**string_options(options), **chosen}  # type: ignore[typeddict-item]  # argparse has checked the types
    split_options(wanted)  # refused before the model is read
    model = load_model(options)
    if options.print0 and "\0" in model.vocabulary.characters:
        raise TapeGPTError(f"{options.model}: its strings have NUL in them, which is to end them: give --json instead")
    if options.ray is not None:
        from tapegpt.cluster import generate

        return write_parts(options, generate, model, options.n, seed=options.seed, **wanted)
    if options.probability:
        wanted.setdefault("temperature", Drawing.temperature)
        estimate = model.estimate_probability(**wanted)
        notice(f"probability of the constraints: {estimate.probability:.4g} ± {estimate.error:.2g}")
    with output(options.output):
        strings = model.stream(n=options.n, seed=options.seed, **wanted)
        shown = watched(strings, "string", lambda _: 1, options.n)
        if options.json:
            _print_json(model, shown)
        else:
            show, end = (str, "\0") if options.print0 else (line_writer(model.vocabulary.characters), "\n")
            write = sys.stdout.write
            for text in shown:
                write(f"{show(text)}{end}")
    return 0


def string_options(options: Namespace) -> StringOptions:
    """Those of `string_arguments` that are given."""
    wanted = given(options, (*Drawing.fields, "prefix", "suffix", "pattern", "label"))
    if options.length is not None:
        wanted |= _lengths(options.length)
    if options.avoid is not None:
        from tapegpt.data.sources import Source

        wanted["avoid"] = [word for words in Source(paths=(options.avoid,)).batches() for word in words]
    return wanted  # type: ignore[return-value]  # argparse has checked the types


def _lengths(text: str) -> dict[str, int]:
    least, dots, most = text.partition("..")
    ends = {"min_length": least, "max_length": most if dots else least}
    try:
        found = {name: int(end) for name, end in ends.items() if end}
    except ValueError:
        raise TapeGPTError(f"--length must be a range such as 4..8, 4.., ..8 or 8, not {quote(text)}") from None
    for name, end in found.items():
        Constraints.ranges[name].check("--length", end)
    return found


def _print_json(model: GPT, strings: Iterable[str]) -> None:
    from itertools import islice

    remaining = iter(strings)
    while batch := list(islice(remaining, BATCH)):
        for text, score in zip(batch, model.score(batch), strict=True):
            logs = [round(-nats, 6) for nats in score.surprises]
            line = {"text": score.text, "log_probability": round(-score.total, 6), "log_probabilities": logs}
            if columns := model.vocabulary.columns:
                line["labels"] = dict(zip(columns, labels_of(text), strict=True))
            print(json_line(line))
