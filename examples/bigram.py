"""The smallest language model: a table that says which character follows which. Trained on first names.

Its lowest possible loss is known, the entropy of the counted pairs, so you can see gradient descent reach it.
Run: python examples/bigram.py
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from tapegpt import Corpus, Random
from tapegpt.autograd import SGD, Tape, check_gradients

BATCH = 512  # pairs of one step
STEPS = 150

corpus = Corpus.dataset("names")
ids = corpus.tokens().ids.tolist()
size = corpus.vocab_size

tape = Tape(positions=BATCH)
current, following = tape.indices("current"), tape.indices("following")
table = tape.parameter("table", size, size)
loss = tape.cross_entropy(tape.embedding(table, current), following)

step = tape.compile(loss, SGD(learning_rate=50.0, decay_steps=STEPS), deviation=0.1)
tape.write(current, ids[:9])
tape.write(following, ids[1:10])
print(f"finite differences agree to {check_gradients(tape, loss, positions=9).error:.0e}")
losses = step(current=ids[:-1], following=ids[1:], steps=STEPS, seed=1)
for end in range(30, STEPS + 1, 30):
    print(f"step {end:3d}  mean loss {sum(losses[end - 30 : end]) / 30:.3f}")

pairs = Counter(pairwise(ids))
firsts = Counter(ids[:-1])
entropy = -sum(n * math.log(n / firsts[pair[0]]) for pair, n in pairs.items()) / len(ids[1:])
print(f"counting gives     {entropy:.3f}, the least that any such table can reach")

rng = Random(1)
logits = tape.read(table)
for _ in range(5):
    name, token = "", corpus.vocabulary.bos
    while True:
        token = rng.choices(range(size), [math.exp(number) for number in logits[token]])[0]
        if token == corpus.vocabulary.bos:
            break
        name += corpus.vocabulary[token]
    print(name)
