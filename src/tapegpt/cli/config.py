"""`--config`: options in a file, TOML or what a model keeps of its training. Not here: what they mean (`train.py`)."""

from __future__ import annotations

import json
import os

from tapegpt.cli.models import is_model, model_file
from tapegpt.cli.options import flag
from tapegpt.errors import TapeGPTError, quote
from tapegpt.models.gpt import Config
from tapegpt.training.presets import PRESETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.cli.parser import Parser
    from tapegpt.models.provenance import DataRecord
    from tapegpt.settings import Settings

CONFIG = "config.toml"  # in the directory of a run
# Of two that exclude each other the typed one counts, not the file's.
EXCLUSIVE = (("steps", "budget"), ("budget", "steps"), ("data", "dataset"), ("dataset", "data"))


def add_config(parser: Parser, typed: argparse.Namespace, arguments: list[str]) -> argparse.Namespace:
    """The typed options, and for others those of the `--config` among them.

    Raises `TapeGPTError` with the name of the file for what cannot be used of it.
    """
    try:
        found = _read(typed.config)
        for name in found:
            if name != "data" and (name == "config" or not parser.takes(flag(name))):
                parser.error(f"there is no option {quote(name)} for a file")
        for name, other in EXCLUSIVE:
            if getattr(typed, name):
                found.pop(other, None)
        parser.set_defaults(**vars(parser.parse_args(_words(found))))
    except TapeGPTError as error:
        raise TapeGPTError(f"--config {typed.config}: {error}") from None
    return parser.parse_args(arguments)


def _read(path: str) -> dict[str, Any]:
    if os.path.isfile(inner := os.path.join(path, CONFIG)):
        path = inner
    if is_model(model_file(path)):
        from tapegpt.models.checkpoint import load

        model = load(model_file(path))
        if model.state is None or model.data is None:
            raise TapeGPTError("the model has weights only, not how they were trained: give a file that has")
        return options_of(model.config, model.vocabulary.rule, model.state.settings, model.data)
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else f"is not TOML: {error}"
        raise TapeGPTError(f"{reason}: give a file with options as in steps = 2000") from None


def _words(options: dict[str, Any]) -> list[str]:
    """What would be typed for these options."""
    words, data = list[str](), list[str]()
    for name, value in options.items():
        each = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float) for one in each):
            raise TapeGPTError(f"{name} must be text, a number, true, or a list of these, not {quote(value)}")
        if name == "data":
            data = list(map(str, each))
        elif isinstance(value, bool):
            words += [flag(name)] * value
        else:
            words += [f"{flag(name)}={one}" for one in each]
    return [*words, "--", *data]


def options_of(model: Model, tokens: str, settings: Settings, data: DataRecord) -> dict[str, Any]:
    """The options of such a training, by name: what a preset or a budget has chosen stands in numbers."""
    from tapegpt.data.sources import Source
    from tapegpt.models.loading import address

    source = Source(**data.source) if data.source else None
    options: dict[str, Any] = {"data": list(source.paths)} if source and source.paths else {}
    for each, *text in source.options().values() if source else ():
        name, _, value = each.lstrip("-").partition("=")
        options[name] = value or (text[0] if text else True)
    if source and source.labels:
        options["labels"] = list(source.labels)
    options |= {"tokens": tokens, "model": address(type(model))}
    shape = {name: value for name, value in model.as_dict().items() if value is not None}
    options |= {name: value for name, value in shape.items() if name in Config.fields}
    own = {name: value for name, value in shape.items() if name not in Config.fields}
    if own:
        options["set"] = [
            f"{name}={json.dumps(value) if isinstance(value, bool) else value}" for name, value in own.items()
        ]
    if settings.weight_decay is None:
        options["preset"] = next(iter(PRESETS))  # the only way to say so: of a preset nothing else is left open
    for name, value in settings.as_dict().items():
        if value is not None and not (name == "steps" and settings.budget):
            options[name] = settings.ranges[name].write(value)
    return options


def as_toml(options: dict[str, Any]) -> str:
    """Options as `--config` reads them."""
    from tapegpt.version import __version__

    lines = [f"# of tapegpt {__version__}; again: tapegpt train --config FILE"]
    for name, value in options.items():
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # else TOML takes what JSON does
        lines.append(f"{name.replace('-', '_')} = {text}")
    return "\n".join([*lines, ""])
