"""An autoencoder of eight patterns with three hidden units, which learns a binary code (Ackley et al., 1985).

Draws autoencoder.png where matplotlib is installed. Run: python examples/autoencoder.py
"""

from __future__ import annotations

from tapegpt.autograd import Adam, Tape

SIZE, CODE, STEPS = 8, 3, 2000

tape = Tape(positions=SIZE)
x, label = tape.input("x", SIZE), tape.indices("label")
code = x.linear("encoder", CODE, bias=True).sigmoid()
logits = code.linear("decoder", SIZE, bias=True)
loss = tape.cross_entropy(logits, label)

patterns = [[float(i == j) for j in range(SIZE)] for i in range(SIZE)]  # one of eight is 1
step = tape.compile(loss, Adam(learning_rate=0.05, weight_decay=1e-3), seed=1)
losses = step(x=patterns, label=range(SIZE), steps=STEPS)
for i in (0, 99, 499, STEPS - 1):
    print(f"step {i + 1:4d}  loss {losses[i]:.4f}")

tape.write(x, [number for pattern in patterns for number in pattern])
codes, outputs = tape.forward(code), tape.forward(logits)


def drawn(number: float) -> str:
    """A pixel."""
    return "#" if number else "."


print("\npattern   code                  output")
for pattern, numbers, output in zip(patterns, codes, outputs, strict=True):
    shown = " ".join([f"{number:.2f}" for number in numbers])
    bits, back = "".join([f"{number:.0f}" for number in numbers]), [number == max(output) for number in output]
    print(f"{''.join(map(drawn, pattern))}  {shown} = {bits}  {''.join(map(drawn, back))}")
print(f"{len({tuple(map(round, numbers)) for numbers in codes})} of {SIZE} codes are different")

try:
    import matplotlib.pyplot as plt  # a reader's own, if at all
except ImportError:
    pass
else:
    plt.imshow(codes, cmap="gray")
    plt.xlabel("unit")
    plt.ylabel("pattern")
    plt.savefig("autoencoder.png")
