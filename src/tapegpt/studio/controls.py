"""Which settings a request may have, and which the page offers, from their tables. Not here: the page's sliders."""

from __future__ import annotations

from tapegpt.inference.constraints import Drawing
from tapegpt.models.gpt import Config
from tapegpt.ranges import OneOf
from tapegpt.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.studio.limits import Limits

ENGINES = OneOf(("exact", "fast"))  # the reference is too slow to be waited for
FIELDS = {**Config.fields, **Settings.fields, **Drawing.fields}
OFFERED: dict[
    str, tuple[str, list[Any]]
] = {  # by the page, in its order: what the setting is called there, and the values to choose from
    "n_embd": ("Width", [4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128]),
    "n_head": ("Heads", list(range(1, 33))),
    "n_layer": ("Layers", list(range(1, 9))),
    "block_size": ("Context", [4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256]),
    "learning_rate": ("Learning rate", [0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1]),
    "steps": ("Steps", [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]),
    "validation": ("Held out", [0, 0.05, 0.1, 0.2, 0.3]),
    "temperature": ("Temperature", [notch / 20 for notch in range(1, 41)]),
    "seed": ("Seed", []),
    "engine": ("Engine", list(ENGINES.values)),
}


def offer(limits: Limits) -> list[dict[str, Any]]:
    """The responses `Setting` of `responses.py`, in the order of the page, as far as the limits allow."""
    most = {"n_layer": limits.layers, "block_size": limits.block_size, "steps": limits.steps}
    return [
        {
            "name": name,
            "label": label,
            "about": FIELDS[name].about,
            "kind": FIELDS[name].kind,
            "default": FIELDS[name].default,
            "values": [value for value in values if name not in most or value <= most[name]],
        }
        for name, (label, values) in OFFERED.items()
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
