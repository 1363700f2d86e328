"""The command line: `tapegpt COMMAND`, and `tapegpt` alone, which does what microgpt.py does.

A command is a module of this package: `arguments(parser)` declares its options, `run(options)` does it and gives the
exit code. Everything that can go wrong ends with one line on stderr: exit code 2 for bad input, 130 for Ctrl-C; a
reader that has left ends it without a word, 141. Not here: anything a Python user would want too.
"""

from __future__ import annotations

import gc
import os
import sys
from types import SimpleNamespace
from warnings import catch_warnings

from tapegpt.cli.console import fail, note_warnings, settle_encoding, silence
from tapegpt.cli.options import Defaults
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import OneOf
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from tapegpt.cli.parser import Parser

COMMANDS = {
    "train": "train a model and generate strings",
    "resume": "continue a training from its file",
    "finetune": "start a new training from a model's weights, on other data",
    "generate": "generate strings with a model, one per line",
    "score": "score how surprising strings are to a model",
    "classify": "predict the labels of strings, with probabilities",
    "pseudonymise": "replace the values of a column by pseudonyms",
    "calibrate": "find thresholds for score with strings known to be good",
    "eval": "compare a model with data: loss, memorisation, distributions",
    "explain": "show what a model expects at each position of a string, and why",
    "why": "find the training strings that taught a model a string",
    "show": "follow a model from its text to its machine code",
    "diff": "find where two trainings first differ",
    "report": "write a page about a model",
    "sweep": "find the settings with the lowest held-out loss",
    "scaling": "predict the gain from twice the data, size or time",
    "studio": "open the page where every slider retrains the model",
    "doctor": "examine data before training on it",
    "convert": "convert a model file to JSON, or JSON to a model file",
    "export": "write a model as one file: a page, a module or a program",
}
HELP = """usage: tapegpt [options] COMMAND ...

A character-level GPT that learns from a file of short strings and generates new ones. Without a
command: train, on ./input.txt if there is one, else on embedded first names.

commands:"""
OPTIONS = """
options:
  -h, --help   all options
  --version    show program's version number and exit"""


def run() -> NoReturn:
    """The command as a process: it ends at once, since giving the memory back piece by piece takes 5 ms."""
    gc.set_threshold(100_000)  # of objects: to look for garbage among what is imported takes 2 ms
    if _name_command(sys.argv[1:])[0] in COMMANDS:  # help and the version need no notes
        from tapegpt.machine import notes

        notes.begin()
    os._exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run a command; the exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
    settle_encoding(sys.stdout)
    with catch_warnings():
        note_warnings()
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        try:
            code = _run_command(*_name_command(arguments))
        except SystemExit:  # after a command's help, whose text may still meet a full disk
            code = 0
        sys.stdout.flush()
        return code
    except TapeGPTError as error:
        return fail(error.for_command, 2)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:  # the reader has seen enough; not all may have been done
        silence(sys.stdout)
        return 141  # what a shell gives a program that SIGPIPE ends
    except MemoryError:
        return fail("not enough memory: choose a smaller model or less data", 2)
    except UnicodeEncodeError as error:
        character, encoding = error.object[error.start], error.encoding
        return fail(f"output cannot be written: {character!r} is not {encoding}: leave PYTHONIOENCODING out", 2)
    except OSError as error:
        silence(sys.stdout)
        return fail(f"output cannot be written: {error.strerror}", 2)


def _name_command(arguments: list[str]) -> list[str]:
    """The arguments with their command: training, where there is none."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        return ["train", *arguments]
    return arguments


def _run_command(name: str, *arguments: str) -> int:
    """Run a command by its name; help and the version are requested without argparse, which costs 8 ms."""
    if name == "--version":
        print(f"tapegpt {__version__}")
    elif name in ("-h", "--help"):
        print(HELP, *(f"    {command:9}  {about}" for command, about in COMMANDS.items()), OPTIONS, sep="\n")
    else:
        OneOf(COMMANDS).check("COMMAND", name)
        options = _options(name, list(arguments))
        options.command = name, *arguments
        code: int = _module(name).run(options)
        return code
    return 0


def _module(name: str) -> Any:
    path = f"tapegpt.cli.{name}"
    __import__(path)
    return sys.modules[path]


def _options(name: str, arguments: list[str]) -> Any:
    if name == "train" and not any(text.startswith("-") for text in arguments):
        defaults = Defaults()
        _module(name).arguments(defaults)
        return SimpleNamespace(**{**defaults.values, "data": arguments})
    parser = make_parser(name)
    options = parser.parse_args(arguments)
    if getattr(options, "config", None) is None:
        return options
    from tapegpt.cli.config import add_config

    return add_config(parser, options, arguments)


def make_parser(name: str) -> Parser:
    """The parser of a command."""
    from tapegpt.cli.parser import Parser

    about, module = COMMANDS[name], _module(name)
    common = getattr(module, "COMMON", "")
    parser = Parser(common, prog=f"tapegpt {name}", description=f"{about[0].upper()}{about[1:]}.")
    module.arguments(parser)
    return parser
