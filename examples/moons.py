"""Two moons that no straight line separates, and a network that does: micrograd's demo, trained by a compiled step.

Draws moons.png where matplotlib is installed. Run: python examples/moons.py
"""

from __future__ import annotations

import math

from tapegpt import Random
from tapegpt.autograd import SGD, Tape

COUNT, STEPS = 200, 500

rng = Random(1)
points, labels = [], []
for i in range(COUNT):
    angle, side = math.pi * rng.random(), 1 if i % 2 else -1
    x, y = (math.cos(angle), math.sin(angle)) if side == 1 else (1 - math.cos(angle), 0.5 - math.sin(angle))
    points.append((x + rng.gauss(0, 0.1), y + rng.gauss(0, 0.1)))
    labels.append(side)

tape = Tape(positions=COUNT)
point, label = tape.input("point", 2), tape.input("label", 1)
hidden = point.linear("hidden 1", 16, bias=True).relu().linear("hidden 2", 16, bias=True).relu()
score = hidden.linear("score", 1, bias=True)
loss = (1.0 - label * score).relu().mean()  # hinge: a score should be on its side of zero, by 1 at least

step = tape.compile(loss, SGD(learning_rate=0.3, momentum=0.9, weight_decay=1e-4, decay_steps=STEPS), seed=1)
losses = step(point=points, label=labels, steps=STEPS)
for i in (0, 9, 49, 99, STEPS - 1):
    print(f"step {i + 1:3d}  loss {losses[i]:.4f}")


def scores(given: list[tuple[float, float]]) -> list[float]:
    """Of up to COUNT points."""
    tape.write(point, [number for each in given for number in each])
    return [number for (number,) in tape.forward(score, positions=len(given))]


right = sum(found * side > 0 for found, side in zip(scores(points), labels, strict=True))
print(f"accuracy {right / COUNT:.1%}\n")

xs, ys = [-1.5 + 0.05 * i for i in range(81)], [1.4 - 0.1 * i for i in range(25)]
plane = [scores([(x, y) for x in xs]) for y in ys]
for row in plane:
    print("".join(["o" if number > 0 else "." for number in row]))

try:
    import matplotlib.pyplot as plt  # a reader's own, if at all
except ImportError:
    pass
else:
    plt.contourf(xs, ys, plane, levels=20, cmap="RdBu")
    plt.contour(xs, ys, plane, levels=[0], colors="black")
    across, up = zip(*points, strict=True)
    plt.scatter(across, up, c=labels, cmap="RdBu", edgecolors="black")
    plt.savefig("moons.png")
