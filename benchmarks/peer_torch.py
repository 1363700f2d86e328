"""PyTorch as a peer: the same model on padded batches, on one thread of the CPU, where PyTorch is installed.

Correct first: loss and gradients of a batch of documents of different lengths, and the losses of the first steps of
training, are those of tapegpt. PyTorch runs eagerly, with its fused attention, normalisation, cross-entropy and Adam.
"""

from __future__ import annotations

import importlib
import importlib.util
from array import array
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

from benchmarks.fast import DEEP, steps_a_sample
from benchmarks.timing import Contender, figure, seconds, table, take_turns
from benchmarks.torch_models import IGNORED, TorchModel
from tapegpt import Config, Corpus, Random
from tapegpt.autograd.model import Model
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam, Parameters
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.graph import fast_graph
from tapegpt.models.trained import initialise
from tapegpt.settings import MAX_STEPS

SHAPES = (Config(), Config(n_embd=64), DEEP)
BATCH_SIZE, SEED = 16, 42
RELATIVE = 1e-4  # of a matrix's largest gradient, or of a loss
IN_F64 = 1e-9  # of the largest number
IN_TRAINING = 1e-5  # of the largest loss; one of Adam's constants in another place comes to more
CHECKED_STEPS = 5  # later roundings have grown: wide models in f32 are then as far from PyTorch's own f64
ABSENT = "PyTorch is not installed here, so that there is no peer to time: pip install -e '.[peers]'\n"


def torch_module() -> Any | None:
    """PyTorch, which has types of its own for the rest of the world; None where it is not installed."""
    return importlib.import_module("torch") if importlib.util.find_spec("torch") else None


class TorchTrainer:
    """Trains a `TorchModel` as `FastEngine` does, its batches padded to their longest document."""

    def __init__(self, torch: Any, model: TorchModel, tokens: Tokens, adam: Adam, batch_size: int) -> None:
        assert tokens.order
        self._torch, self._model, self._adam, self._batch_size = torch, model, adam, batch_size
        self._documents = len(tokens.order)
        places = range(self._documents + batch_size)  # beyond the last comes the first again: a batch is a slice
        order = [tokens.order[place % self._documents] for place in places]
        ids, targets = padded_batch(tokens, order, model.config.block_size)
        self._ids, self._targets = torch.tensor(ids), torch.tensor(targets)
        self._lengths = [sum(target != IGNORED for target in line) for line in targets]
        moments = {"betas": (adam.beta1, adam.beta2), "eps": adam.epsilon}
        self._optimiser = torch.optim.Adam(model.weights.values(), lr=adam.learning_rate, **moments, fused=True)
        self._step = 0

    def run(self, count: int) -> list[float]:
        """So many more steps; their losses."""
        losses = [self._one() for _ in range(count)]
        return list(self._torch.stack(losses).tolist())

    def _one(self) -> Any:
        first = self._step * self._batch_size % self._documents
        batch = slice(first, first + self._batch_size)
        longest = max(self._lengths[batch])
        loss = self._model.loss(self._ids[batch, :longest], self._targets[batch, :longest])
        loss.backward()
        for group in self._optimiser.param_groups:
            group["lr"] = self._adam.learning_rate * (1 - self._step / self._adam.steps)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._step += 1
        return loss.detach()


def padded_batch(tokens: Tokens, documents: Sequence[int], block_size: int) -> tuple[list[list[int]], list[list[int]]]:
    """Ids and targets of documents, a line each, as wide as the longest."""
    lines = [tokens.ids[tokens.starts[number] : tokens.starts[number + 1] + 1].tolist() for number in documents]
    width = min(max(map(len, lines)) - 1, block_size)
    ids = [(line[:-1] + [0] * width)[:width] for line in lines]
    return ids, [(line[1:] + [IGNORED] * width)[:width] for line in lines]


# --- equal first ------------------------------------------------------------------------------------------------


def tape_gradients(
    config: Model, vocab_size: int, parameters: Parameters, tokens: Tokens
) -> tuple[float, dict[str, list[list[float]]]]:
    """Loss and gradients of all documents, at most block_size long, as one batch on the fast engine's tape."""
    lengths = [end - start for start, end in pairwise(tokens.starts)]
    graph = fast_graph(config, vocab_size, sum(lengths))
    tape = graph.tape
    graph.places.write(tape.arena, parameters)
    about: dict[str, Sequence[float]] = {
        "tokens": tokens.ids[:-1],
        "targets": tokens.ids[1:],
        "positions": [place for length in lengths for place in range(length)],
        "ends": [end for length, end in zip(lengths, tokens.starts[1:], strict=True) for _ in range(length)],
        "share": [1 / sum(lengths)],
    }
    for name, numbers in about.items():
        tape.write(graph.about(name), numbers)
    loss = tape.forward(graph.loss)[0][0]
    tape.backward(graph.loss)
    found = graph.places.read(tape.arena, tape.plan().shared)
    shapes = config.shapes(vocab_size)
    return loss, {
        name: [found[name][at : at + n].tolist() for at in range(0, m * n, n)] for name, (m, n) in shapes.items()
    }


def check_gradients(torch: Any, config: Model, vocab_size: int, parameters: Parameters, tokens: Tokens) -> None:
    """Loss and gradients of a batch on our tape are PyTorch's in f64, within `RELATIVE`."""
    loss, ours = tape_gradients(config, vocab_size, parameters, tokens)
    model = TorchModel(torch, config, vocab_size, parameters, torch.float64)
    batch = padded_batch(tokens, range(len(tokens)), config.block_size)
    theirs_loss = model.loss(*map(torch.tensor, batch))
    theirs_loss.backward()
    check_close(f"{config}: the losses", [loss], [theirs_loss.item()])
    for name, theirs in model.by_name(lambda weight: weight.grad).items():
        check_close(f"{config}: gradients of {name}", list(chain(*ours[name])), list(chain(*theirs)))


def check_close(what: str, ours: Sequence[float], theirs: Sequence[float], relative: float = RELATIVE) -> None:
    """All gaps are within a share of the largest number."""
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    largest = max(map(abs, theirs))
    assert all(gap <= relative * largest for gap in apart), f"{what} are {max(apart)} apart, the largest is {largest}"


def check_all(torch: Any, corpus: Corpus, config: Model) -> None:
    """Gradients of the first batch, and the first losses of training, are PyTorch's."""
    engine = FastEngine(config, corpus.vocab_size, BATCH_SIZE)
    initialise(engine, config, corpus.vocab_size, Random(SEED))
    batch = batch_of(corpus.windows(config.block_size), BATCH_SIZE)
    check_gradients(torch, config, corpus.vocab_size, engine.parameters(), batch)
    check_training(torch, corpus, config)


def batch_of(tokens: Tokens, count: int) -> Tokens:
    """The first `count` documents."""
    ends = tokens.starts[: count + 1]
    return Tokens(tokens.ids[: ends[-1] + 1], ends)


def check_training(torch: Any, corpus: Corpus, config: Model, steps: int = CHECKED_STEPS) -> None:
    """The losses of the first steps of training are PyTorch's, within `IN_TRAINING`."""
    adam = Adam(steps=1000, learning_rate=0.16 / getattr(config, "n_embd", 16))  # microgpt.py's, for its width
    ours, theirs = trainers(torch, corpus, config, BATCH_SIZE, adam)
    check_close(f"{config}: losses of training", ours(steps), theirs(steps), IN_TRAINING)


def check_exact(torch: Any, config: Model, vocab_size: int, parameters: Parameters, tokens: Tokens, steps: int) -> None:
    """The losses of so many steps of the exact engine, and what they make of the parameters, are PyTorch's in f64."""
    adam = Adam(steps=steps)
    engine = ExactEngine(config, vocab_size)
    engine.load_parameters(parameters)
    model = TorchModel(torch, config, vocab_size, parameters, torch.float64)
    trainer = TorchTrainer(torch, model, tokens.replace(order=array("I", range(len(tokens)))), adam, 1)
    check_close(f"{config}: losses in f64", engine.train(tokens, adam, 0, steps), trainer.run(steps), IN_F64)
    for name, theirs in model.by_name(lambda weight: weight).items():
        check_close(f"{config}: {name} in f64", engine.parameters()[name], list(chain(*theirs)), IN_F64)


def trainers(
    torch: Any | None, corpus: Corpus, config: Model, batch_size: int, adam: Adam
) -> list[Callable[[int], list[float]]]:
    """Ours and, where there is one, PyTorch's training from the same parameters, on the same documents in one order."""
    rng = Random(SEED)
    tokens = corpus.windows(config.block_size)
    tokens = tokens.replace(order=rng.permutation(len(tokens)))
    engine = FastEngine(config, corpus.vocab_size, batch_size)
    initialise(engine, config, corpus.vocab_size, rng)
    taken = 0

    def ours(count: int) -> list[float]:
        nonlocal taken
        taken += count
        return engine.train(tokens, adam, taken - count, count)

    if torch is None:
        return [ours]
    model = TorchModel(torch, config, corpus.vocab_size, engine.parameters())
    return [ours, TorchTrainer(torch, model, tokens, adam, batch_size).run]


# --- then timed -------------------------------------------------------------------------------------------------


def against_torch(corpus: Corpus, rounds: int) -> str:
    """Microseconds a document of the fast engine and of PyTorch, which take turns, for each of `SHAPES`."""
    torch = torch_module()
    if torch is None:
        return ABSENT
    torch.set_num_threads(1)
    rows = [_timed(torch, corpus, config, rounds) for config in SHAPES]
    heads = ["n_embd", "n_layer", "tapegpt, us", "lowest..highest, us", "PyTorch, us", "lowest..highest, us", "ratio"]
    title = f"A document of a training step, {BATCH_SIZE} a step, one thread, PyTorch {torch.__version__}"
    return table(title, heads, rows)


def _timed(torch: Any, corpus: Corpus, config: Config, rounds: int) -> list[str]:
    check_all(torch, corpus, config)
    runs = trainers(torch, corpus, config, BATCH_SIZE, Adam(steps=MAX_STEPS, learning_rate=0.001))
    ours, theirs = take_turns([_per_document(run) for run in runs], rounds)
    cells = [cell for summary in (ours, theirs) for cell in (figure(summary.median), summary.spread)]
    return [str(config.n_embd), str(config.n_layer), *cells, figure(theirs.median / ours.median)]


def _per_document(run: Callable[[int], object]) -> Contender:
    """Microseconds a document of a step."""
    count = steps_a_sample(run)
    return Contender("", lambda: 1e6 * seconds(lambda: run(count)) / count / BATCH_SIZE)
