"""Which model a command is about: its class, and its settings where it is a new one. Not here: what is done with it."""

from __future__ import annotations

from tapegpt.cli.options import pairs, parsed, settings
from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.models.trained import GPT


def class_argument(group: argparse._ActionsContainer) -> None:
    """Declare the class of a new model."""
    from tapegpt.models import NAMES

    about = f"{', '.join(NAMES)}, or a class of your own, FILE.py:CLASS [gpt]"
    group.add_argument("--model", dest="kind", metavar="NAME", help=about)


def file_argument(group: argparse._ActionsContainer) -> None:
    """Declare the class of a file's model."""
    about = "the class of MODEL, FILE.py:CLASS, where it is one of your own"
    group.add_argument("--model", dest="kind", metavar="CLASS", help=about)


def shape_arguments(group: argparse._ActionsContainer) -> None:
    """Declare the settings of gpt, which other models may have too, and `--set` for any other."""
    from tapegpt.models.gpt import Config

    settings(group, Config, *Config.fields, marked=True)
    about = "any setting of the model; more than one where it is given again"
    group.add_argument("--set", action="append", default=[], metavar="NAME=X", help=about)


def chosen(options: argparse.Namespace) -> type[Model]:
    """The class of a new model."""
    from tapegpt.models.gpt import Config

    if options.kind is None:
        return Config
    from tapegpt.models.loading import class_of

    return class_of(options.kind)


def given(options: argparse.Namespace, kind: type[Model]) -> dict[str, Any]:
    """The settings that are given; raises `TapeGPTError` for one that a model of this class has not."""
    from tapegpt.models.gpt import Config

    texts = dict(pairs("--set", options.set))
    short = {name: getattr(options, name) for name in Config.fields if getattr(options, name) is not None}
    for name in (*short, *texts):
        flag = f"--{name.replace('_', '-')}" if name in short else f"--set {name}"
        if name not in kind.fields:
            raise TapeGPTError(f"{flag}: {kind.__name__} has no such setting, it has {', '.join(kind.fields)}")
        if name in short and name in texts:
            raise TapeGPTError(f"{flag} and --set {name} exclude each other: give one")
    return short | {name: parsed("--set", name, kind.fields[name].kind, text) for name, text in texts.items()}


def loaded(options: argparse.Namespace, path: str) -> GPT:
    """The model of a file, of the class that is given."""
    from tapegpt.models.checkpoint import load

    return load(path, options.kind)
