"""A multilayer perceptron on the tape predicts a character of a name from the three before it (Bengio et al., 2003).

Run: python examples/mlp.py
"""

from __future__ import annotations

import math

from tapegpt import Corpus, Random
from tapegpt.autograd import Adam, Tape

CONTEXT, WIDTH, HIDDEN, BATCH, STEPS = 3, 16, 128, 128, 4000

corpus = Corpus.dataset("names")
size, bos = corpus.vocab_size, corpus.vocabulary.bos
rows = []  # three tokens and the next one
for document in corpus.documents:
    tokens = [bos] * CONTEXT + [*corpus.vocabulary.encode(document)] + [bos]
    rows += [tokens[i - CONTEXT : i + 1] for i in range(CONTEXT, len(tokens))]
Random(1).shuffle(rows)
held_out, training = rows[: len(rows) // 10], rows[len(rows) // 10 :]

tape = Tape(positions=BATCH)
*context, target = [tape.indices(name) for name in ("third_last", "second_last", "last", "target")]
table = tape.parameter("characters", size, WIDTH)
characters = tape.concatenate([tape.embedding(table, token) for token in context])
logits = characters.linear("hidden", HIDDEN, bias=True).tanh().linear("output", size, bias=True)
loss = tape.cross_entropy(logits, target)

step = tape.compile(loss, Adam(learning_rate=0.01, decay_steps=STEPS), fast=True)
third, second, last, following = zip(*training, strict=True)
losses = step(third_last=third, second_last=second, last=last, target=following, steps=STEPS)
for end in range(1000, STEPS + 1, 1000):
    print(f"step {end:4d}  mean loss {sum(losses[end - 1000 : end]) / 1000:.3f}")

total = 0.0
for start in range(0, len(held_out), BATCH):
    batch = held_out[start : start + BATCH]
    for node, column in zip((*context, target), zip(*batch, strict=True), strict=True):
        tape.write(node, column)
    total += tape.forward(loss, positions=len(batch))[0][0] * len(batch)
print(f"held out   mean loss {total / len(held_out):.3f}")

rng = Random(2)
for _ in range(5):
    tokens = [bos] * CONTEXT
    while len(tokens) == CONTEXT or tokens[-1] != bos:
        for node, token in zip(context, tokens[-CONTEXT:], strict=True):
            tape.write(node, [token])
        (numbers,) = tape.forward(logits, positions=1)
        tokens.append(rng.choices(range(size), [math.exp(number) for number in numbers])[0])
    print("".join(corpus.vocabulary[token] for token in tokens[CONTEXT:-1]))
