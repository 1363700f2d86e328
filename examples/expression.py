"""A scalar expression on the tape: its value, its gradients, and the graph that was recorded.

The expression is that of micrograd's README. Run: python examples/expression.py
"""

from __future__ import annotations

from tapegpt.autograd import Tape, check_gradients

tape = Tape()
a = tape.parameter("a", 1, 1)
b = tape.parameter("b", 1, 1)
c = a + b
d = a * b + b**3
c = c + c + 1
c = c + 1 + c + (-a)
d = d + d * 2 + (b + a).relu()
d = d + 3 * d + (b - a).relu()
e = c - d
f = e**2
g = f / 2.0
g = g + 10.0 / f

tape.write(a, [-4.0])
tape.write(b, [2.0])
value = tape.forward(g)[0][0]
tape.backward(g)

print(tape.show())
print()
print(f"g     = {value:.4f}")
print(f"dg/da = {tape.gradient(a)[0][0]:.4f}")
print(f"dg/db = {tape.gradient(b)[0][0]:.4f}")
print(f"finite differences agree to {check_gradients(tape, g, step=1e-4).error:.0e}")
