"""Which model a command is about: its class, and its settings where it is a new one. Not here: what is done with it."""

from __future__ import annotations

import os

from tapegpt.cli.console import notice
from tapegpt.cli.options import flag, given, option, parse, setting_arguments, split_pairs
from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.cli.options import ArgumentParser, Group, Namespace
    from tapegpt.models.trained import GPT

MODEL = "model.safetensors"  # in the directory of a run


def class_argument(group: Group) -> None:
    """Declare the class of a new model."""
    from tapegpt.models import NAMES

    option(group, "--model", "NAME", f"{', '.join(NAMES)}, or a class of your own, FILE.py:CLASS [gpt]", dest="kind")


def model_argument(parser: ArgumentParser, *, data: bool = False) -> None:
    """Declare MODEL, the class of one's own, and where a command needs it the training data."""
    option(parser, "model", "MODEL", "file written by tapegpt train -o, or directory by --run-dir")
    own_class_argument(parser)
    if data:
        about = "training data, if they have moved [the recorded place]"
        option(parser, "--training-data", "FILE", about, nargs="+", default=[])


def own_class_argument(group: Group) -> None:
    """Declare the class of a file's model."""
    option(group, "--model", "NAME", "class of MODEL if it is your own, FILE.py:CLASS", dest="kind")


def shape_arguments(group: Group, *, defaults: bool = True) -> None:
    """Declare the settings of gpt, which other models may have too, and `--set` for any other."""
    from tapegpt.models.gpt import Config

    setting_arguments(group, Config, *Config.fields, marked=True, defaults=defaults)
    option(group, "--set", "NAME=X", "any setting of the model; may be repeated", action="append", default=[])


def find_class(options: Namespace) -> type[Model]:
    """The class of a new model."""
    from tapegpt.models.gpt import Config

    if options.kind is None:
        return Config
    from tapegpt.models.loading import class_of

    return class_of(options.kind)


def read_settings(options: Namespace, kind: type[Model]) -> dict[str, Any]:
    """The settings that are given; raises `TapeGPTError` for one that a model of this class has not."""
    from tapegpt.models.gpt import Config

    texts = dict(split_pairs("--set", options.set))
    short = given(options, Config.fields)
    for name in (*short, *texts):
        said = flag(name) if name in short else f"--set {name}"
        if name not in kind.fields:
            raise TapeGPTError(f"{said}: {kind.__name__} has no such setting, it has {', '.join(kind.fields)}")
        if name in short and name in texts:
            raise TapeGPTError(f"{said} and --set {name} exclude each other: give one")
    return short | {name: parse("--set", name, kind.fields[name].kind, text) for name, text in texts.items()}


def load_model(options: Namespace) -> GPT:
    """The MODEL of a command, with its training data where that is given."""
    from tapegpt.models.checkpoint import load

    model = load(model_file(options.model), options.kind)
    notice(model.engine.notice)
    if getattr(options, "training_data", None):
        model.read_training_data(*options.training_data)
    return model


def model_file(path: str) -> str:
    """The file of a model, which may be that of a run's directory."""
    return os.path.join(path, MODEL) if os.path.isdir(path) else path


def is_model(path: str) -> bool:
    """Whether a file is a model's, or called so: safetensors begins with a length, JSON of ours names us."""
    from tapegpt.tensors import is_json

    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(64)
            is_ours = path.endswith(".safetensors") or (head[4:8] == bytes(4) and head[8:9] == b"{")
            return is_ours or (is_json(head) and b'"tapegpt"' in head + file.read())
    except (OSError, ValueError):  # what the file is read as says it better
        return False
