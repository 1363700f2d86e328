"""Which settings a request may have, and which the page offers, from their tables. Not here: the page's sliders."""

from __future__ import annotations

from importlib.util import find_spec

from tapegpt.data.vocabulary import GRAPHEMES, NAMED, Vocabulary
from tapegpt.inference.constraints import Drawing
from tapegpt.models.gpt import Config
from tapegpt.ranges import OneOf
from tapegpt.record import Record
from tapegpt.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.studio.limits import Limits

ENGINES = OneOf(("exact", "fast"))  # the reference is too slow to be waited for
TOKENS = [rule for rule in NAMED if rule != GRAPHEMES or find_spec("regex")]  # whatever takes no longer for any text
FIELDS = {**Config.fields, **Settings.fields, **Drawing.fields, "tokens": Vocabulary.fields["rule"]}
HELD_OUT = 0.1  # share of the strings, so that losses can be compared


class Control(Record):
    """A setting on the page: its name there, a line of help, the values to choose from, and whether it stands first."""

    label: str
    about: str
    values: list[Any]
    first: bool = False


OFFERED = {  # in the order of the page
    "temperature": Control(
        "Temperature", "Higher means more surprising strings.", [notch / 20 for notch in range(1, 41)], True
    ),
    "steps": Control(
        "Steps",
        "Number of training steps.",
        [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000],
        True,
    ),
    "n_embd": Control(
        "Width", "Numbers that describe each position.", [4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128], True
    ),
    "learning_rate": Control(
        "Learning rate",
        "How far each step moves the numbers that it learns.",
        [0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5],
        True,
    ),
    "n_head": Control("Heads", "Number of attention heads in each layer.", list(range(1, 33))),
    "n_layer": Control("Layers", "Number of transformer layers.", list(range(1, 9))),
    "block_size": Control(
        "Context", "How many characters it can look back.", [4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256]
    ),
    "validation": Control("Held out", "Share of the strings that only judge the model.", [0, 0.05, 0.1, 0.2, 0.3]),
    "seed": Control("Seed", "Another seed gives other random numbers.", []),
    "engine": Control("Engine", "exact: microgpt.py's numbers. fast: many strings per step.", list(ENGINES.values)),
    "tokens": Control("Tokens", "Unit that it reads and writes.", TOKENS),
}


def offer(limits: Limits) -> list[dict[str, Any]]:
    """The responses `Setting` of `responses.py`, in the order of the page, as far as the limits allow."""
    most = {"n_layer": limits.layers, "block_size": limits.block_size, "steps": limits.steps}
    return [
        {
            "name": name,
            **control.as_dict(),
            "kind": FIELDS[name].kind,
            "default": HELD_OUT if name == "validation" else FIELDS[name].default,
            "values": [value for value in control.values if name not in most or value <= most[name]],
        }
        for name, control in OFFERED.items()
    ]


def schema() -> dict[str, Any]:
    """The settings of a training as JSON Schema has them; the library checks them itself."""
    ranges = {**Config.ranges, **Settings.ranges, "engine": ENGINES}
    properties = {}
    for name, values in ranges.items():
        each, described = FIELDS[name], values.schema()
        if each.is_optional:
            described = {"anyOf": [described, {"type": "null"}]}
        properties[name] = {**described, "description": each.about, "default": each.default}
    return {"properties": properties, "additionalProperties": False}
