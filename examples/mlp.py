"""A multilayer perceptron on the tape: three characters in, the next one out (Bengio et al., 2003). On first names.

Each of the three places has a table of its own; the sum of their rows is the first layer. Run: python examples/mlp.py
"""

from __future__ import annotations

import math

from tapegpt import Corpus, Random, Tape, check_gradients

CONTEXT, WIDTH, BATCH, STEPS, LEARNING_RATE = 3, 24, 128, 400, 0.5

corpus = Corpus.dataset("names")
rng = Random(2)
size, bos = corpus.vocab_size, corpus.bos
code = {character: token for token, character in enumerate(corpus.vocabulary)}
examples = []  # (the last three tokens, the next one)
for document in corpus.documents:
    tokens = [bos] * CONTEXT + [code[character] for character in document] + [bos]
    examples += [(tokens[i - CONTEXT : i], tokens[i]) for i in range(CONTEXT, len(tokens))]


class MLP:
    """The graph, for batches of up to `positions` examples."""

    def __init__(self, positions: int, width: int) -> None:
        self.tape = tape = Tape(positions)
        self.places = [tape.indices(f"place {i}") for i in range(CONTEXT)]
        self.target = tape.indices("target")
        tables = [tape.parameter(f"table {i}", size, width) for i in range(CONTEXT)]
        rows = [tape.embedding(table, place) for table, place in zip(tables, self.places, strict=True)]
        hidden = tape.linear(
            tape.rmsnorm(rows[0] + rows[1] + rows[2]), tape.parameter("hidden", 2 * width, width)
        ).relu()
        self.logits = tape.linear(hidden, tape.parameter("output", size, 2 * width))
        self.loss = tape.cross_entropy(self.logits, self.target)
        for node in tape.parameters():
            deviation = 1 / math.sqrt(node.shape.columns)
            tape.write(node, [rng.gauss(0, deviation) for _ in range(tape.rows(node) * node.shape.columns)])

    def show(self, batch: list[tuple[list[int], int]]) -> None:
        """Put examples on the tape."""
        for i, place in enumerate(self.places):
            self.tape.write(place, [context[i] for context, _ in batch])
        self.tape.write(self.target, [token for _, token in batch])

    def descend(self, rate: float) -> float:
        """One step of gradient descent; the loss before it."""
        value = self.tape.forward(self.loss)[0][0]
        self.tape.backward(self.loss)
        for node in self.tape.parameters():
            moved = [
                [number - rate * slope for number, slope in zip(*pair, strict=True)]
                for pair in zip(self.tape.read(node), self.tape.gradient(node), strict=True)
            ]
            self.tape.write(node, [number for row in moved for number in row])
        return value


small = MLP(positions=2, width=4)
small.show(examples[:2])
print(f"finite differences agree to {check_gradients(small.tape, small.loss).error:.0e}")

model = MLP(BATCH, WIDTH)
total = 0.0
for step in range(STEPS):
    model.show([examples[rng.randbelow(len(examples))] for _ in range(BATCH)])
    total += model.descend(LEARNING_RATE * (1 - step / STEPS))
    if (step + 1) % 100 == 0:
        print(f"step {step + 1:3d}  mean loss {total / 100:.3f}")
        total = 0.0

for _ in range(5):
    context, name = [bos] * CONTEXT, ""
    while len(name) < 20:
        model.show([(context, 0)])
        (logits,) = model.tape.forward(model.logits, positions=1)
        token = rng.choices(range(size), [math.exp(logit) for logit in logits])[0]
        if token == bos:
            break
        name, context = name + corpus.vocabulary[token], [*context[1:], token]
    print(name)
