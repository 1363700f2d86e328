"""Whether a budget keeps its time, and a longer one gives a lower loss: five different corpora, the whole command.

Every training is a process of its own with a warm cache and one thread. Nothing is asserted: the machine may be busy.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import Program
from benchmarks.corpora import CORPORA
from benchmarks.timing import table
from tapegpt import Corpus
from tapegpt.settings import seconds
from tapegpt.training.presets import PRESETS, resolve

BUDGETS = ("1s", "2s", "5s", "10s", "20s", "30s", "60s")
BLOCKS = {"molecules": 64, "code": 64, "paragraphs": 128}  # 16 for the others
OPTIONS = ("--validation", "0.1", "--threads", "1", "--samples", "0", "--seed", "1")


def by_corpus(budgets: Sequence[str], corpora: Sequence[str] = tuple(CORPORA)) -> str:
    """Of each corpus and budget the preset that is chosen, steps, held-out loss, and the wall time over the budget."""
    rows = []
    for name in corpora:
        corpus, block_size = CORPORA[name](), BLOCKS.get(name, 16)
        shapes = [resolve({"block_size": block_size}, preset)[0] for preset in PRESETS]
        presets = {
            str(shape.num_parameters(corpus.vocab_size)): preset for preset, shape in zip(PRESETS, shapes, strict=True)
        }
        with tempfile.TemporaryDirectory() as folder:
            rows += _rows(name, corpus, ["--block-size", str(block_size)], presets, budgets, Path(folder))
    heads = ["", "budget", "preset", "steps", "held-out loss, nats per token", "wall / budget"]
    return table("What a budget becomes, a tenth of the strings held out, one thread, seed 1", heads, rows)


def _rows(
    name: str,
    corpus: Corpus,
    shape: Sequence[str],
    presets: dict[str, str],
    budgets: Sequence[str],
    folder: Path,
) -> list[list[str]]:
    (folder / "input.txt").write_text("\n".join(corpus.documents), encoding="utf-8")
    cache = {"TAPEGPT_CACHE_DIR": str(folder / "cache")}

    def program(*words: str) -> Program:
        return Program(name, [sys.executable, "-m", "tapegpt", "train", *shape, *OPTIONS, *words], folder, cache)

    for preset in PRESETS:
        program("--preset", preset, "--steps", "1").run()  # its code is kept
    rows = []
    for budget in budgets:
        run = program("--budget", budget)
        run.run()  # a sample may have a vocabulary of its own, and so code
        wall = run.run() / 1e3
        printed = run.output()
        found = {
            about: re.search(pattern, printed, re.MULTILINE)
            for about, pattern in (
                ("parameters", r"^num params: (\d+)$"),
                ("steps", r"^step +(\d+) \|"),
                ("loss", r"^held-out loss: ([\d.]+) "),
            )
        }
        parameters, steps, loss = (each[1] if each else "" for each in found.values())
        nearest = min(presets, key=lambda size: abs(int(size) - int(parameters)))  # a sample may lack some characters
        rows.append([name, budget, presets[nearest], f"{int(steps):,}", loss, f"{wall / seconds(budget):.3f}"])
    return rows
