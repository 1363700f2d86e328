"""Models that go from one Python to another as files, and what they say: both ways between this one and Pyodide."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import tapegpt
from tapegpt import GPT, Ensemble

NAMES = ["anna", "bob", "clara", "dora", "emil", "frida", "gustav", "hanna", "irma", "jan", "karl", "lena"]
KINDS = [*"fm" * 6]
SECRET = "correct horse battery staple"
SMALL: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 8, "steps": 40}
FILES = ("exact.safetensors", "exact.json", "fast.safetensors", "labels.safetensors", "ensemble.safetensors")


def write(place: Path) -> None:
    """Train models here, and write them and what they say."""
    exact = tapegpt.train(NAMES, **SMALL)
    fast = [tapegpt.train(NAMES, model=name, engine="fast", **SMALL) for name in ("gpt", "modern")]
    labels = tapegpt.train(NAMES, labels=KINDS, engine="fast", **SMALL)
    for name, model in zip(FILES, (exact, exact, fast[1], labels, Ensemble(fast)), strict=True):
        model.save(place / name)
        (place / f"{name}.said").write_text(json.dumps(said(model)))


def check(place: Path) -> None:
    """Read what another Python wrote, and see that it says the same here."""
    for name in FILES:
        model, there = tapegpt.load(place / name), json.loads((place / f"{name}.said").read_text())
        here = said(model)
        scores = zip(here.pop("scores"), there.pop("scores"), strict=True)  # sums in f32, grouped by vectors' width
        assert all(math.isclose(a, b, rel_tol=1e-5) for a, b in scores), name
        assert here == there


def said(model: GPT) -> dict[str, Any]:
    """What a model says, all but `scores` the same wherever it says it."""
    return {
        "fingerprint": model.fingerprint,
        "names": model.names_for(map(str, range(30)), secret=SECRET, novel=False),
        "strings": model.generate(20, seed=1) if model.engine.name == "exact" else [],
        "scores": [score.nats for score in model.score([*NAMES, "zzz"])],
    }
