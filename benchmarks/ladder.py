"""The package's models: the held-out loss and the time of a training step of each, compared with PyTorch.

Correct first: the first losses of the fast engine are the exact engine's, and where PyTorch is installed, PyTorch's.
All have the same training: steps, documents and their order, seed, and microgpt.py's learning rate for their width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import peer_torch
from benchmarks.fast import steps_a_sample
from benchmarks.peer_torch import BATCH_SIZE, SEED, check_close, trainers
from benchmarks.timing import Contender, cpu_seconds, figure, table, take_turns
from tapegpt import Corpus, Random
from tapegpt.autograd.model import Model
from tapegpt.data.holdout import hold_out
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam, Engine
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.models import NAMES, named
from tapegpt.models.trained import initialise
from tapegpt.settings import MAX_STEPS

RUNGS: list[tuple[str, dict[str, int]]] = [
    *((name, {}) for name in NAMES),
    ("mlp", {"n_embd": 64, "n_hidden": 256}),
    ("wavenet", {"n_embd": 64}),
    ("gru", {"n_embd": 64, "n_hidden": 128}),
    ("gpt", {"n_embd": 64}),
    ("modern", {"n_embd": 64}),
]
STEPS, HELD_OUT, RATE = 10_000, 0.1, 0.16  # learning rate times n_embd
CHECKED_STEPS, CLOSE = 20, 1e-4  # of the largest loss
HEADS = (
    "model",
    "n_embd",
    "parameters",
    "held-out, nats",
    "us per document",
    "lowest..highest",
    "PyTorch, us",
    "ratio",
)


def by_model(corpus: Corpus, rounds: int) -> str:
    """Parameters, held-out loss and CPU time a document of a training step, a line for each model."""
    torch = peer_torch.torch_module()
    if torch:
        torch.set_num_threads(1)
    rows = [[name, *_cells(torch, corpus, named(name)(**settings), rounds)] for name, settings in RUNGS]
    title = (
        f"The ladder, {STEPS:,} steps of {BATCH_SIZE} documents, {100 * HELD_OUT:.0f} % held out; CPU time of a step"
    )
    return table(title, HEADS[: len(rows[0])], rows)


def _cells(torch: Any | None, corpus: Corpus, model: Model, rounds: int) -> list[str]:
    check_against_exact(corpus, model)
    if torch:
        peer_torch.check_all(torch, corpus, model)
    loss = held_out_loss(corpus, model)
    runs = trainers(torch, corpus, model, BATCH_SIZE, Adam(steps=MAX_STEPS, learning_rate=0.001))
    ours, *others = take_turns([_per_document(run) for run in runs], rounds)
    theirs = [cell for each in others for cell in (figure(each.median), figure(each.median / ours.median))]
    size = [str(getattr(model, "n_embd", "")), f"{model.num_parameters(corpus.vocab_size):,}"]
    return [*size, f"{loss:.3f}", figure(ours.median), ours.spread, *theirs]


def _per_document(run: Callable[[int], object]) -> Contender:
    """Microseconds of CPU time a document of a step."""
    count = steps_a_sample(run)
    return Contender("", lambda: 1e6 * cpu_seconds(lambda: run(count)) / count / BATCH_SIZE)


def held_out_loss(corpus: Corpus, model: Model) -> float:
    """Nats per token, after training on the others."""
    training, validation = hold_out(corpus, HELD_OUT, SEED)
    rng = Random(SEED)
    tokens = training.windows(model.block_size)
    tokens = tokens.replace(order=rng.permutation(len(tokens)))
    engine = FastEngine(model, corpus.vocab_size, BATCH_SIZE)
    initialise(engine, model, corpus.vocab_size, rng)
    engine.train(tokens, Adam(steps=STEPS, learning_rate=RATE / getattr(model, "n_embd", 16)), 0, STEPS)
    nats, positions = engine.evaluate(validation.windows(model.block_size))
    return nats / positions


def check_against_exact(corpus: Corpus, model: Model) -> None:
    """The first losses of the fast engine, a document a step, are those of the exact one."""
    tokens = corpus.windows(model.block_size)
    fast, exact = (
        _first_losses(engine, model, corpus.vocab_size, tokens)
        for engine in (FastEngine(model, corpus.vocab_size, 1), ExactEngine(model, corpus.vocab_size))
    )
    check_close(f"{model}: losses of fast and exact", fast, exact, CLOSE)


def _first_losses(engine: Engine, model: Model, vocab_size: int, tokens: Tokens) -> list[float]:
    initialise(engine, model, vocab_size, Random(SEED))
    return engine.train(tokens, Adam(), 0, CHECKED_STEPS)
