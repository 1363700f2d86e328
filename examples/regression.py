"""A curve through noisy points: a line, a network, and the noise, which is the lowest possible error of both.

Draws regression.png where matplotlib is installed. Run: python examples/regression.py
"""

from __future__ import annotations

import math

from tapegpt import Random
from tapegpt.autograd import Adam, Tape

NOISE, BATCH, STEPS = 0.1, 64, 3000

rng = Random(1)


def sample(count: int) -> tuple[list[float], list[float]]:
    """Points of the curve, with noise."""
    xs = [6 * rng.random() - 3 for _ in range(count)]
    return xs, [math.sin(2 * x) + x / 2 + rng.gauss(0, NOISE) for x in xs]


def fitted(width: int) -> list[float]:
    """What a network predicts for the points held out; without hidden units it is a line."""
    tape = Tape(positions=BATCH)
    x, y = tape.input("x", 1), tape.input("y", 1)
    hidden = x.linear("hidden", width, bias=True).tanh() if width else x
    output = hidden.linear("output", 1, bias=True)
    step = tape.compile(tape.mse(output, y), Adam(learning_rate=0.02, decay_steps=STEPS))
    losses = step(x=xs, y=ys, steps=STEPS, seed=1)
    predicted = []
    for start in range(0, len(held_xs), BATCH):
        batch = held_xs[start : start + BATCH]
        tape.write(x, batch)
        predicted += [number for (number,) in tape.forward(output, positions=len(batch))]
    pairs = zip(predicted, held_ys, strict=True)
    error = math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(held_ys))
    print(f"{width:2d} hidden units  loss {losses[0]:.3f}, at last {losses[-1]:.3f}, held-out error {error:.3f}")
    return predicted


(xs, ys), (held_xs, held_ys) = sample(500), sample(500)
predictions = {width: fitted(width) for width in (0, 4, 32)}
print(f"the noise alone                                          {NOISE:.3f}")

try:
    import matplotlib.pyplot as plt  # a reader's own, if at all
except ImportError:
    pass
else:
    plt.scatter(held_xs, held_ys, s=4, color="gray", label="held out")
    for width, predicted in predictions.items():
        plt.plot(*zip(*sorted(zip(held_xs, predicted, strict=True)), strict=True), label=f"{width} hidden units")
    plt.legend()
    plt.savefig("regression.png")
