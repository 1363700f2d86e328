"""A text instead of strings: held-out loss after equal CPU time of one core, beside nanoGPT's architecture in PyTorch.

The text is Python's own reference of its language, as `help()` shows it: 465,000 characters of prose, of which the last
tenth is held out. Both read it in windows of 64 characters, 12 a step, with 4 layers of width 128, as nanoGPT's README
proposes for a CPU: LayerNorm, GELU, tied weights and AdamW with a warm-up and a cosine there, our GPT with and without
n-gram embeddings here. Correct first: before its training each has the loss of chance.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from time import process_time
from typing import Any

from benchmarks.peer_torch import ABSENT, torch_module
from benchmarks.timing import table
from benchmarks.torch_models import attention
from tapegpt import Config, Corpus, Random
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.models.trained import initialise
from tapegpt.settings import seconds

BUDGETS = ("20s", "60s")
SHAPE = {"block_size": 64, "n_layer": 4, "n_embd": 128, "n_head": 4}
BATCH_SIZE, STD, SEED, CHUNK = 12, 0.02, 1, 10
OURS = {"learning_rate": 0.003, "beta1": 0.9, "weight_decay": 0.1, "gram_decay": 0.15, "clip": 1.0, "warmup": 0.05}
RATES, LEAST, WARMUP = (0.001, 0.003), 0.1, 100  # learning rates: nanoGPT's and ours; the last one's share; steps
HELD_OUT = 0.1

Run = tuple[int, float]  # steps, held-out loss


def by_time(budgets: Sequence[str] = BUDGETS, shape: dict[str, int] | None = None) -> str:
    """Steps and held-out losses of all contenders after each of these CPU times."""
    sizes, torch = shape or SHAPE, torch_module()
    text = "\n\n".join(topics[name] for name in sorted(topics))
    corpus = Corpus.of([text])
    cut = round((1 - HELD_OUT) * len(text))
    training, held_out = (windows(corpus, part, sizes["block_size"]) for part in (text[:cut], text[cut:]))

    def fast(n_gram: int) -> Callable[[float], Run]:
        return lambda time: ours(Config(n_gram=n_gram, **sizes), corpus.vocab_size, training, held_out, time)

    def nano(rate: float) -> Callable[[float], Run]:
        return lambda time: NanoGPT(torch, sizes, corpus.vocab_size, rate).run(training, held_out, time)

    contenders = {"tapegpt": fast(1), "tapegpt, n-gram embeddings": fast(4)}
    if torch:
        contenders |= {f"nanoGPT in PyTorch, learning rate {rate}": nano(rate) for rate in RATES}
    rows = []
    for name, run in contenders.items():
        found = [run(seconds(budget)) for budget in budgets]
        rows.append([name, *[cell for steps, loss in found for cell in (f"{steps:,}", f"{loss:.3f}")]])
    heads = ["", *[head for budget in budgets for head in (f"{budget}: steps", "held-out loss, nats per character")]]
    return table("A text after equal CPU time of one core", heads, rows) + ("" if torch else ABSENT)


def windows(corpus: Corpus, text: str, block_size: int) -> Tokens:
    """Whole windows of a text, each of which begins with the last character of the one before."""
    ids = array("I", corpus.vocabulary.encode(text))
    count = (len(ids) - 1) // block_size
    return Tokens(ids[: count * block_size + 1], array("q", range(0, count * block_size + 1, block_size)))


def ours(config: Config, vocab_size: int, training: Tokens, held_out: Tokens, time: float) -> Run:
    """The fast engine."""
    rng = Random(SEED)
    engine = FastEngine(config, vocab_size, BATCH_SIZE)
    tokens = training.replace(order=rng.permutation(len(training)))
    initialise(engine, config, vocab_size, rng, STD)
    check_chance(engine.evaluate(held_out), vocab_size)
    start, taken, total = process_time(), 0, CHUNK
    while (gone := (process_time() - start) / time) < 1:
        engine.train(tokens, Adam(steps=total, **OURS), taken, CHUNK, gone * total)
        taken += CHUNK
        total = max(taken, round(taken * time / (process_time() - start)))
    loss, count = engine.evaluate(held_out)
    return taken, loss / count


def check_chance(evaluation: tuple[float, int], vocab_size: int) -> None:
    """A model that has learned nothing knows nothing; with tied weights it expects a character again."""
    total, count = evaluation
    assert abs(total / count - math.log(vocab_size)) < 0.3, f"{total / count} nats is not the loss of chance"


class NanoGPT:
    """nanoGPT's architecture and training in PyTorch, without biases."""

    def __init__(self, torch: Any, shape: dict[str, int], vocab_size: int, rate: float) -> None:
        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        self._torch, self._shape, self._vocab_size, self._rate = torch, shape, vocab_size, rate
        d, layers = shape["n_embd"], shape["n_layer"]
        sizes: dict[str, tuple[int, ...]] = {"wte": (vocab_size, d), "wpe": (shape["block_size"], d), "norm": (d,)}
        for layer in range(layers):
            own: dict[str, tuple[int, ...]] = {
                "norm1": (d,),
                "qkv": (3 * d, d),
                "proj": (d, d),
                "norm2": (d,),
                "fc": (4 * d, d),
                "out": (d, 4 * d),
            }
            sizes |= {f"{layer}.{name}": size for name, size in own.items()}
        self.weights = {name: self._start(name, size) for name, size in sizes.items()}
        parts = [[w for w in self.weights.values() if (w.dim() > 1) == is_matrix] for is_matrix in (True, False)]
        decays = [{"params": part, "weight_decay": decay} for part, decay in zip(parts, (0.1, 0.0), strict=True)]
        self._optimiser = torch.optim.AdamW(decays, lr=rate, betas=(0.9, 0.99), fused=True)

    def _start(self, name: str, size: tuple[int, ...]) -> Any:
        if len(size) == 1:
            return self._torch.ones(size, requires_grad=True)
        is_last = name.endswith(("proj", "out"))  # of a residual
        deviation = STD / math.sqrt(2 * self._shape["n_layer"]) if is_last else STD
        return (self._torch.randn(size) * deviation).requires_grad_()

    def loss(self, ids: Any, targets: Any) -> Any:
        """Mean over all positions; ids and targets (B, T)."""
        f, w = self._torch.nn.functional, self.weights
        x = f.embedding(ids, w["wte"]) + w["wpe"]
        for layer in range(self._shape["n_layer"]):
            q, k, v = f.linear(self._normed(x, f"{layer}.norm1"), w[f"{layer}.qkv"]).chunk(3, 2)
            x = x + f.linear(attention(self._torch, q, k, v, self._shape["n_head"]), w[f"{layer}.proj"])
            hidden = f.gelu(f.linear(self._normed(x, f"{layer}.norm2"), w[f"{layer}.fc"]))
            x = x + f.linear(hidden, w[f"{layer}.out"])
        return f.cross_entropy(f.linear(self._normed(x, "norm"), w["wte"]).flatten(0, 1), targets.flatten())

    def _normed(self, x: Any, name: str) -> Any:
        return self._torch.nn.functional.layer_norm(x, x.shape[-1:], self.weights[name])

    def run(self, training: Tokens, held_out: Tokens, time: float) -> Run:
        """Train, on windows from anywhere in the text."""
        torch, block = self._torch, self._shape["block_size"]
        ids = torch.tensor(training.ids.tolist())
        check_chance(self._evaluate(held_out), self._vocab_size)
        start, taken = process_time(), 0
        while (gone := (process_time() - start) / time) < 1:
            falling = LEAST + (1 - LEAST) * (1 + math.cos(math.pi * gone)) / 2
            for group in self._optimiser.param_groups:
                group["lr"] = self._rate * (taken + 1) / WARMUP if taken < WARMUP else self._rate * falling
            starts = torch.randint(len(ids) - block, (BATCH_SIZE,))
            batch = torch.stack([ids[at : at + block + 1] for at in starts])
            loss = self.loss(batch[:, :-1], batch[:, 1:])
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
            self._optimiser.step()
            taken += 1
        total, count = self._evaluate(held_out)
        return taken, total / count

    def _evaluate(self, held_out: Tokens) -> tuple[float, int]:
        ids = self._torch.tensor(held_out.ids.tolist())
        with self._torch.no_grad():
            inputs, targets = (each.view(len(held_out), -1) for each in (ids[:-1], ids[1:]))
            return self.loss(inputs, targets).item() * targets.numel(), targets.numel()
