"""The smallest language model: a table that says which character follows which. Trained on first names.

Its best possible loss is known, the entropy of the pairs counted, so one can see gradient descent arrive there.
Run: python examples/bigram.py
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from tapegpt import Corpus, Random, Tape, check_gradients

BATCH = 512  # pairs that one step looks at
STEPS = 150
LEARNING_RATE = 50.0

corpus = Corpus.dataset("names")
rng = Random(1)
ids = corpus.tokens().ids.tolist()
pairs = list(pairwise(ids))
size = corpus.vocab_size

tape = Tape(positions=BATCH)
current, following = tape.indices("current"), tape.indices("following")
table = tape.parameter("table", size, size)
loss = tape.cross_entropy(tape.embedding(table, current), following)

total = 0.0
numbers = [rng.gauss(0, 0.1) for _ in range(size * size)]
for step in range(STEPS):
    batch = [pairs[rng.randbelow(len(pairs))] for _ in range(BATCH)]
    tape.write(current, [first for first, _ in batch])
    tape.write(following, [second for _, second in batch])
    tape.write(table, numbers)
    total += tape.forward(loss)[0][0]
    tape.backward(loss)
    gradient = [number for row in tape.gradient(table) for number in row]
    rate = LEARNING_RATE * (1 - step / STEPS)
    numbers = [number - rate * slope for number, slope in zip(numbers, gradient, strict=True)]
    if (step + 1) % 30 == 0:
        print(f"step {step + 1:3d}  mean loss {total / 30:.3f}")
        total = 0.0

counted, firsts = Counter(pairs), Counter(first for first, _ in pairs)
entropy = -sum(n * math.log(n / firsts[pair[0]]) for pair, n in counted.items()) / len(pairs)
print(f"counting gives     {entropy:.3f}, the least that any such table can reach")

check = Tape(positions=3)
small_ids, small_targets = check.indices("current"), check.indices("following")
small = check.parameter("table", 4, 4)
small_loss = check.cross_entropy(check.embedding(small, small_ids), small_targets)
check.write(small, [rng.gauss(0, 1) for _ in range(16)])
check.write(small_ids, [0, 2, 0])
check.write(small_targets, [1, 3, 3])
print(f"finite differences agree to {check_gradients(check, small_loss).error:.0e}")

for _ in range(5):
    name, token = "", corpus.bos
    while True:
        weights = [math.exp(number) for number in numbers[token * size : (token + 1) * size]]
        token = rng.choices(range(size), weights)[0]
        if token == corpus.bos:
            break
        name += corpus.vocabulary[token]
    print(name)
