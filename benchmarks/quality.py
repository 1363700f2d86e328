"""The held-out loss of each preset for a time budget of the whole command, compared with n-gram models.

Every training is a process of its own with a warm cache, one thread and another seed, which also chooses the held-out
strings. Correct first: the printed loss is the one that the exact engine finds for the same weights.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.command import Program, workplace
from benchmarks.timing import Contender, Summary, figure, table, take_turns
from tapegpt import Corpus
from tapegpt.models.trained import make_engine
from tapegpt.training.presets import PRESETS, resolve
from tapegpt.training.trainer import Trainer

BUDGETS = ("1s", "10s")
HELD_OUT = 0.1
SEEDS = 5  # at most, a round each
STEPS = 100  # of the check
LOSS, COMPARED = "held-out loss: ", "to compare: "


class Candidate:
    """A way to train: each sample is a training by the command with the next seed, and records its held-out loss."""

    def __init__(self, name: str, options: Sequence[str], folder: Path) -> None:
        self.name = name
        self.losses: list[float] = []
        self.baselines: list[dict[str, float]] = []
        self._options, self._folder = options, folder

    def sample(self) -> float:
        """Wall time in seconds."""
        return self.run(len(self.losses) + 1)

    def run(self, seed: int) -> float:
        """Wall time in seconds of the training with a seed."""
        words = ["train", *self._options, "--seed", str(seed), "--validation", str(HELD_OUT), "--samples", "0"]
        cache = {"TAPEGPT_CACHE_DIR": str(self._folder / "cache")}
        program = Program(self.name, [sys.executable, "-m", "tapegpt", *words], self._folder, cache)
        wall = program.run() / 1e3
        loss, baselines = results(program.output())
        self.losses.append(loss)
        self.baselines.append(baselines)
        return wall


def results(printed: str) -> tuple[float, dict[str, float]]:
    """The held-out loss that a command printed, and those of the baselines, in nats per token."""
    found = {
        head: line.removeprefix(head)
        for head in (LOSS, COMPARED)
        for line in printed.splitlines()
        if line.startswith(head)
    }
    assert set(found) == {LOSS, COMPARED}, f"no held-out loss in {printed!r}"
    pairs = [pair.rsplit(" ", 1) for pair in found[COMPARED].split(", ")]
    return float(found[LOSS].split()[0]), {name: float(loss) for name, loss in pairs}


def by_preset(data: str | None, budgets: Sequence[str], rounds: int, presets: Sequence[str] = tuple(PRESETS)) -> str:
    """Each preset at each budget, and the default job of the exact engine, beside the baselines."""
    with workplace(data) as folder:
        corpus = Corpus.read(data) if data else Corpus.dataset("names")
        check_printed_loss(corpus, folder)
        candidates = [
            Candidate(f"{preset}, {budget}", [*_on_one_thread(preset), "--budget", budget], folder)
            for budget in budgets
            for preset in presets
        ]
        candidates.append(Candidate("exact, 1000 steps", [], folder))
        for options in (*map(_on_one_thread, presets), []):
            Candidate("warm-up", [*options, "--steps", "1"], folder).run(1)
        contenders = [Contender(candidate.name, candidate.sample) for candidate in candidates]
        walls = take_turns(contenders, min(rounds, SEEDS))
    rows = [_row(candidate, wall) for candidate, wall in zip(candidates, walls, strict=True)]
    rows += [
        [name, "", "", f"{median(run[name] for run in candidates[0].baselines):.4f}", ""]
        for name in candidates[0].baselines[0]
    ]
    heads = ["", "wall, s", "lowest..highest, s", "held-out loss, nats per token", "lowest..highest"]
    share = f"{100 * HELD_OUT:.0f} % of the distinct strings held out"
    return table(
        f"Held-out loss by time, {len(corpus):,} documents, {share}, {len(walls[0].samples)} seeds", heads, rows
    )


def _on_one_thread(preset: str) -> list[str]:
    return ["--preset", preset, "--threads", "1"]


def check_printed_loss(corpus: Corpus, folder: Path) -> None:
    """The command prints the loss that the exact engine finds for the weights of the same training."""
    config, settings = resolve({"engine": "fast", "steps": STEPS, "threads": 1, "validation": HELD_OUT, "seed": 1})
    trainer = Trainer(corpus, config, settings)
    for _ in trainer.chunks():
        pass
    command = Candidate("check", ["--engine", "fast", "--steps", str(STEPS), "--threads", "1"], folder)
    command.run(1)
    assert trainer.held_out
    exact = make_engine("exact", config, corpus.vocab_size)
    exact.load_parameters(trainer.model.parameters)
    total, count = exact.evaluate(trainer.held_out.windows(config.block_size))
    apart = abs(command.losses[0] - total / count)
    assert apart <= 1e-4, f"the printed loss is {apart} from what the exact engine finds"


def _row(candidate: Candidate, wall: Summary) -> list[str]:
    losses = candidate.losses
    spread = f"{min(losses):.4f}..{max(losses):.4f}"
    return [candidate.name, figure(wall.median), wall.spread, f"{median(losses):.4f}", spread]
