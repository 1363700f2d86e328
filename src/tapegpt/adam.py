"""Adam's update in machine code, bit for bit microgpt.py's (Kingma and Ba, 2015; roundings in docs/exactness.md)."""

from __future__ import annotations

from tapegpt.machine.language import F64s, Builder, Int, Real, kernel
from tapegpt.operations.certified import square, square_root


@kernel
def adam_update(
    k: Builder,
    parameters: F64s,
    gradients: F64s,
    first: F64s,
    second: F64s,
    count: Int,
    learning_rate: Real,
    beta1: Real,
    beta2: Real,
    correction1: Real,
    correction2: Real,
    epsilon: Real,
) -> None:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g ** 2; p -= lr * (m / c1) / ((v / c2) ** 0.5 + epsilon)."""
    width = k.width()
    one = k.real(1.0)
    for i in k.range(0, count, width):
        g = gradients.vector(i, width)
        m = first.vector(i, width) * beta1 + g * (one - beta1)
        v = second.vector(i, width) * beta2 + square(k, g) * (one - beta2)
        first.store(i, m)
        second.store(i, v)
        step = (m / correction1) * learning_rate / (square_root(k, v / correction2) + epsilon)
        parameters.store(i, parameters.vector(i, width) - step)
