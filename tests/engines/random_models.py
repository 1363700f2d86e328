"""Random models through every engine: exact equals the reference, fast is close to exact, decoding to whole strings.

A model is a forward pass of any operations that `Tape` and `Node` offer, on parameters, results and what parameters
alone give, some used twice. Not here: the operations one by one (`graphs.py`), the package's models (`test_models.py`).

`python -m tests.engines.random_models 1000 [seed]` judges so many.
"""

from __future__ import annotations

import random
import sys
from array import array
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from tapegpt import Random
from tapegpt.autograd.model import Model
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam, Engine, Parameters
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.graph import fast_graph
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference.forward import Inference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape

WIDTHS = [1, 2, 3, 4, 5, 6, 8, 8, 12, 12, 15, 16, 17, 24, 33]
FUNCTIONS = ["relu", "gelu", "silu", "tanh", "sigmoid"]
E = TypeVar("E", bound=Engine)
MOVE = 1e-5  # of parameters, as a share of each: f32 may be as far from f64 as this moves a number, three times
NEAR = 1e-4  # and by this share of the largest number besides
LEAST = 1e-6  # what f32 leaves of logits that cancel


class Drawn(Model):
    """The forward pass is drawn from `seed`."""

    seed: int = 0

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        return Drawing(self, tape, tokens, positions, vocab_size).logits()


class Drawing:
    """Records random operations: `rows` are nodes with a row for each position, `fixed` those of parameters alone."""

    def __init__(self, model: Drawn, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> None:
        self.rng, self.tape, self.block_size = random.Random(model.seed), tape, model.block_size
        self.tokens, self.positions, self.vocab_size = tokens, positions, vocab_size
        self.rows: list[Node] = []
        self.fixed: list[Node] = []
        self.width = self.rng.choice(WIDTHS)

    def logits(self) -> Node:
        rng, tape = self.rng, self.tape
        for _ in range(rng.choice([1, 1, 2, 3])):
            self.look_up()
        kinds = [
            self.function,
            self.function,
            self.pair,
            self.pair,
            self.with_row,
            self.norm,
            self.product,
            self.product,
        ]
        kinds += [
            self.residual,
            self.chain,
            self.block,
            self.matmul,
            self.shift,
            self.columns,
            self.concatenate,
            self.attention,
        ]
        kinds += [self.attend, self.rotary, self.gru, self.dropout, self.look_up, self.reduced, self.matrix]
        for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 12, 20])):
            rng.choice(kinds)()
        idle = [node for node in self.rows if not node.uses]
        x = tape.concatenate(idle) if len(idle) > 1 else (idle or self.rows[-1:])[0]
        for node in self.fixed:
            if not node.uses:
                x = x * (node.mean().tanh() + 1.0)
        tables = [w for w in tape.parameters() if (w.shape.rows, w.shape.columns) == (self.vocab_size, x.shape.columns)]
        if x.shape.columns == self.vocab_size and rng.random() < 0.3:
            y = x
        elif tables and rng.random() < 0.7:
            y = tape.linear(x, rng.choice(tables))
        else:
            y = x.linear("lm_head", self.vocab_size, bias=rng.random() < 0.3)
        return y * self.parameter(1, 1) if rng.random() < 0.2 else y

    # --- what there is ----------------------------------------------------------------------------------------------

    def parameter(self, rows: int, columns: int) -> Node:
        """A new one, or a fixed matrix of the shape that there is."""
        found = [node for node in self.fixed if (node.shape.rows, node.shape.columns) == (rows, columns)]
        if found and self.rng.random() < 0.4:
            return self.rng.choice(found)
        start = self.rng.choice([None, None, None, 1.0, 0.5])
        made = self.tape.parameter(f"p{len(self.tape.nodes)}", rows, columns, start=start)
        self.fixed.append(made)
        return made

    def some(self, width: int | None = None, but: Sequence[Node] = ()) -> Node:
        """Any rows, of a width: mostly the last that there are."""
        found = [node for node in self.rows if width in (None, node.shape.columns) and node not in but]
        if not found:
            return self.some().linear(self.name(), width or self.width)
        return self.rng.choice(found[-3:] if self.rng.random() < 0.7 else found)

    def name(self) -> str:
        return f"w{len(self.tape.nodes)}"

    def add(self, node: Node) -> None:
        """Keep a result, and some of them under a name."""
        self.rows.append(node.named(f"n{node.index}") if self.rng.random() < 0.3 and not node.name else node)

    # --- operations -------------------------------------------------------------------------------------------------

    def look_up(self) -> None:
        ids = self.rng.choice([self.tokens] * 3 + [self.positions])
        count = self.vocab_size if ids is self.tokens else self.block_size
        width = self.rng.choice([self.width] * 3 + [self.vocab_size, self.rng.choice(WIDTHS)])
        if self.rng.random() < 0.1:
            ids = self.tape.ngrams(self.tokens, self.rng.choice([1, 2, 3]), count, self.vocab_size - 1)
        looked_up = self.tape.embedding(self.parameter(count, width), ids)
        same = [node for node in self.rows if node.shape == looked_up.shape]
        self.add(looked_up + self.rng.choice(same) if same and self.rng.random() < 0.6 else looked_up)

    def function(self) -> None:
        x = self.some()
        more: list[Callable[[], Node]] = [
            *[getattr(x, name) for name in [*FUNCTIONS, "softmax", "log_softmax", "__abs__", "__neg__"]],
            lambda: x.tanh().exp(),
            lambda: -(abs(x) + 1.0).log(),
            lambda: 1.0 - (x * x + 0.5).sqrt(),
            lambda: x.maximum(0.1) * x,
            lambda: x.tanh() ** 3,
            lambda: (abs(x) + 1.0) ** -0.5,
            lambda: (1.0 / (abs(x) + 1.0)) - x / 3.0,
        ]
        self.add(self.rng.choice(more)())

    def pair(self) -> None:
        x = self.some()
        y = self.some(x.shape.columns, [x] if self.rng.random() < 0.8 else [])
        made: list[Callable[[], Node]] = [
            lambda: x + y,
            lambda: x * y,
            lambda: x - y,
            lambda: x.maximum(y),
            lambda: x / (abs(y) + 1.0),
        ]
        self.add(self.rng.choice(made)())

    def with_row(self) -> None:
        """A row, a column or a number for all, on either side."""
        x = self.some()
        shapes = [(1, x.shape.columns)] * 2 + [(1, 1)]
        other = self.parameter(*self.rng.choice(shapes))
        if self.rng.random() < 0.4:
            other = getattr(self.some(), self.rng.choice(["sum", "mean", "max"]))(1)
        operator = self.rng.choice(["+", "*", "maximum"])
        if self.rng.random() < 0.3:
            x, other = other, x
        self.add(x + other if operator == "+" else x * other if operator == "*" else x.maximum(other))

    def norm(self) -> None:
        x = self.some()
        gain = self.parameter(1, x.shape.columns) if self.rng.random() < 0.6 else None
        if self.rng.random() < 0.5:
            self.add(x.rmsnorm(gain))
        else:
            self.add(x.layer_norm(gain, self.parameter(1, x.shape.columns) if self.rng.random() < 0.5 else None))

    def product(self) -> None:
        x = self.some()
        columns = self.rng.choice([self.width, self.width, self.rng.choice(WIDTHS)])
        if self.rng.random() < 0.5:
            self.add(x.linear(self.name(), columns, bias=self.rng.random() < 0.4))
        else:
            self.add(self.tape.linear(x, self.parameter(columns, x.shape.columns)))

    def residual(self) -> None:
        """A product of what it is added to."""
        x = self.some()
        self.add(x + x.linear(self.name(), x.shape.columns, bias=self.rng.random() < 0.3))

    def chain(self) -> None:
        """Product, perhaps bias, activation, product, perhaps residual: what rules look for, and nearly that."""
        rng, x = self.rng, self.some()
        h = x.linear(self.name(), rng.choice(WIDTHS), bias=rng.random() < 0.4)
        h = getattr(h, rng.choice(FUNCTIONS))()
        if rng.random() < 0.2:
            self.add(h)
        y = h.linear(self.name(), x.shape.columns, bias=rng.random() < 0.4)
        end = rng.choice([x, x, h if h.shape == y.shape else x, self.some(y.shape.columns)])
        self.add(y if rng.random() < 0.3 else rng.choice([y + end, end + y]))

    def block(self) -> None:
        self.attention(residual=True)
        self.chain()

    def matmul(self) -> None:
        x = self.some()
        self.add(x @ self.parameter(x.shape.columns, self.rng.choice(WIDTHS)))

    def shift(self) -> None:
        self.add(self.some().shift(self.rng.choice([1, 1, 2, 7])))

    def columns(self) -> None:
        x = self.some()
        key = self.rng.choice([slice(1, None), slice(None, None, 2), slice(None, None, -1), slice(-3, None)])
        if range(x.shape.columns)[key]:
            self.add(x[:, key])

    def concatenate(self) -> None:
        self.add(self.tape.concatenate([self.some() for _ in range(self.rng.choice([1, 2, 3]))]))

    def attention(self, *, residual: bool = False) -> None:
        """Of products of one x, as a GPT has it."""
        x = self.some()
        h = x.rmsnorm() if self.rng.random() < 0.5 else x
        columns = x.shape.columns if residual else self.rng.choice(WIDTHS)
        if self.rng.random() < 0.2:
            w = self.parameter(columns, h.shape.columns)
            q, k, v = (self.tape.linear(h, w) for _ in range(3))
        else:
            q, k, v = (h.linear(f"{self.name()}.{letter}", columns, bias=self.rng.random() < 0.1) for letter in "qkv")
        y = self.attended(q, k, v)
        self.add(y.linear(self.name(), columns) + x if residual else y)

    def attend(self) -> None:
        """Of anything."""
        q = self.some()
        self.add(self.attended(q, self.some(q.shape.columns), self.some(q.shape.columns)))

    def attended(self, q: Node, k: Node, v: Node) -> Node:
        columns = q.shape.columns
        return self.tape.attention(q, k, v, self.rng.choice([n for n in range(1, columns + 1) if columns % n == 0]))

    def rotary(self) -> None:
        x = self.some()
        heads = [n for n in range(1, x.shape.columns + 1) if x.shape.columns % (2 * n) == 0]
        if heads:
            self.add(self.tape.rotary(x, self.positions, self.rng.choice(heads)))

    def gru(self) -> None:
        hidden = self.rng.choice([1, 2, 3, 5, 8, 16])
        self.add(self.tape.gru(self.some(3 * hidden), self.parameter(3 * hidden, hidden)))

    def dropout(self) -> None:
        self.add(self.some().dropout(self.rng.choice([0.0, 0.1, 0.5]), self.rng.choice([0, 1])))

    def reduced(self) -> None:
        x = self.some()
        self.add(getattr(x, self.rng.choice(["sum", "mean", "max"]))(1))

    def matrix(self) -> None:
        """Something of parameters alone."""
        rng = self.rng
        x = self.parameter(rng.choice([1, self.width, self.vocab_size]), rng.choice([1, self.width, self.vocab_size]))
        made: list[Callable[[], Node]] = [
            *[getattr(x, name) for name in ("softmax", "rmsnorm", "mean", "max")],
            lambda: x.T,
            lambda: x.T @ x,
            lambda: x.tanh() * x,
            lambda: x.sum(0),
            lambda: x.max(0),
            lambda: self.tape.concatenate([x, x]),
        ]
        self.fixed.append(rng.choice(made)())


# --- judging --------------------------------------------------------------------------------------------------------


def parameters(model: Model, vocab_size: int, seed: int, moved: float = 0.0) -> Parameters:
    """Numbers that f32 has, each moved by about such a share of it."""
    rng, other = random.Random(seed), random.Random(seed + 1)
    result = {}
    for name, (rows, columns) in model.shapes(vocab_size).items():
        drawn = array("f", [rng.gauss(0, 0.4) for _ in range(rows * columns)])
        result[name] = array("d", [number * (1 + moved * other.gauss(0, 1)) for number in drawn])
    return result


def documents(model: Model, vocab_size: int, rng: random.Random) -> Tokens:
    """Strings of any length that a block holds with its end."""
    bos = vocab_size - 1
    ids, starts = array("I", [bos]), array("q", [0])
    for _ in range(5):
        ids.extend([*(rng.randrange(bos) for _ in range(rng.randrange(model.block_size))), bos])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)


def loaded(engine: E, numbers: Parameters) -> E:
    """The engine, with these parameters."""
    engine.load_parameters(numbers)
    return engine


def first_step(engine: Engine, tokens: Tokens, document: int = 0) -> list[float]:
    """The loss, and the gradients as Adam's moments have them."""
    loss = engine.train(tokens, Adam(steps=10), document, 1)
    return [*loss, *(number for values in engine.moments().mean.values() for number in values)]


def judge(seed: int) -> Drawn:
    """Draw a model and hold its engines to one another."""
    rng = random.Random(seed)
    model, vocab_size = Drawn(seed=seed, block_size=rng.choice([1, 2, 4, 5, 8])), rng.choice([2, 3, 6, 17])
    tokens = documents(model, vocab_size, rng)
    numbers, moved = (parameters(model, vocab_size, seed, move) for move in (0.0, MOVE))
    try:
        exact, fast = ExactEngine(model, vocab_size), FastEngine(model, vocab_size, len(tokens))
        equals_reference(loaded(exact, numbers), loaded(ReferenceEngine(model, vocab_size), numbers), tokens)
        wanted, near = mean_step(exact, tokens, numbers), mean_step(exact, tokens, moved)
        size = NEAR * max(map(abs, wanted)) + LEAST
        for came, want, other in zip(first_step(loaded(fast, numbers), tokens), wanted, near, strict=True):
            assert abs(came - want) <= 3 * abs(other - want) + size, f"f32: {came}, not {want}"
        decodes(Inference(model, vocab_size, numbers), numbers, tokens)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}\n{model.record(vocab_size).tape.show()}") from error
    return model


def equals_reference(exact: Engine, reference: Engine, tokens: Tokens) -> None:
    """Losses, parameters and strings, to the bit."""
    assert exact.evaluate(tokens) == reference.evaluate(tokens)
    assert exact.train(tokens, Adam(steps=3), 0, 3) == reference.train(tokens, Adam(steps=3), 0, 3)
    assert exact.parameters() == reference.parameters()
    for longest in (None, 2 * exact.config.block_size + 1):
        found, wanted = (list(engine.generate(Random(3), 2, 1.0, longest)) for engine in (exact, reference))
        assert found == wanted


def mean_step(engine: Engine, tokens: Tokens, numbers: Parameters) -> list[float]:
    """What a step on all documents has, from one on each."""
    count, total = tokens.starts[-1], [0.0] * (1 + sum(map(len, numbers.values())))
    for document, (start, end) in enumerate(pairwise(tokens.starts)):
        step = first_step(loaded(engine, numbers), tokens, document)
        total = [sum_ + (end - start) / count * number for sum_, number in zip(total, step, strict=True)]
    return total


def decodes(inference: Inference, numbers: Parameters, tokens: Tokens) -> None:
    """Strings token by token have the logits of whole ones, and these the scores."""
    model, vocab_size = inference.config, inference.vocab_size
    graph = fast_graph(model, vocab_size, len(tokens), cached=True)
    graph.places.write(graph.tape.arena, numbers)
    surprises = inference.surprises(tokens)
    about = {"noise": 0} if model.record(vocab_size).tape.noise else {}
    for line, (start, end) in enumerate(pairwise(tokens.starts)):
        ids = tokens.ids[start : end + 1].tolist()
        for at, logs in enumerate(inference.next_logs([ids[1:stop] for stop in range(1, len(ids))])):
            assert abs(logs[ids[at + 1]] + surprises[start + at]) <= NEAR * (1 + abs(surprises[start + at]))
            about |= {"tokens": ids[at], "positions": at, "lines": line}
            for name, number in about.items():
                graph.tape.write(graph.about(name), [number])
            (logits,) = graph.tape.forward(graph.logits, 1)
            size = NEAR * (1 + max(map(abs, [*logits, *logs])))
            found = [logit - logits[0] + logs[0] for logit in logits]
            assert all(abs(a - b) <= size for a, b in zip(found, logs, strict=True)), f"decoded {found}, not {logs}"


def main(count: int, seed: int) -> None:
    """Judge so many models."""
    operations: Counter[str] = Counter()
    for number in range(count):
        nodes = judge(seed + number).record(3).tape.nodes
        operations.update(node.operation.name for node in nodes if node.operation)
        print(f"\r{number + 1}", end="", flush=True)
    print(f" models agree, of {', '.join(f'{n} {name}' for name, n in operations.most_common())}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
