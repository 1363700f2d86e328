"""Optimizers of a compiled step: each says what it keeps of a parameter, and how a vector of numbers moves.

The language models have an Adam of their own (`adam.py`, `fast/adam.py`), whose roundings or threads matter.
"""

from __future__ import annotations

from abc import abstractmethod

from tapegpt.machine.language import F64, Builder, Operand, Value
from tapegpt.ranges import Number, Whole
from tapegpt.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import ClassVar


SHARE = Number(0, 1, "[)")


class Optimizer(Record):
    """How parameters move against their gradients.

    The learning rate stays as it is, or falls in a line to zero over `decay_steps`. Raises `TapeGPTError` for numbers
    out of range.
    """

    learning_rate: float = field("", Number(0), default=0.01)
    weight_decay: float = field(
        "share of each parameter that a step of learning rate 1 subtracts", Number(0), default=0.0
    )
    decay_steps: int | None = field("", Whole(1, 1 << 45), default=None)
    kept: ClassVar[tuple[str, ...]] = ()  # what is remembered of each parameter
    own: ClassVar[tuple[str, ...]] = ()  # fields that its machine code reads

    def settings(self) -> list[float]:
        """What machine code reads: learning rate, weight decay, steps of the learning rate's fall or 0, its own."""
        numbers = (self.learning_rate, self.weight_decay, self.decay_steps or 0)
        return [*map(float, numbers), *[float(getattr(self, name)) for name in self.own]]

    @staticmethod
    def constants(k: Builder, own: Sequence[Value], step: Value) -> Sequence[Value]:
        """What is the same for all parameters in a step, counted from 1: f64."""
        return own

    @staticmethod
    @abstractmethod
    def move(k: Builder, constants: Sequence[Value], g: Value, kept: list[Value]) -> Value:
        """Where a vector of parameters goes with learning rate 1 by its gradient g; `kept` becomes what is kept."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v = momentum v + g; p -= learning rate v (Polyak, 1964)."""

    momentum: float = field("", SHARE, default=0.0)

    kept = ("velocity",)
    own = ("momentum",)

    @staticmethod
    def move(k: Builder, constants: Sequence[Value], g: Value, kept: list[Value]) -> Value:
        """See `Optimizer.move`."""
        kept[0] = kept[0] * constants[0] + g
        return kept[0]


class Adam(Optimizer):
    """Adam, its weight decay decoupled: AdamW (Kingma and Ba, 2015; Loshchilov and Hutter, 2019)."""

    beta1: float = field("", SHARE, default=0.9)
    beta2: float = field("", SHARE, default=0.999)
    epsilon: float = field("", Number(0, ends="(]"), default=1e-8)

    kept = ("mean", "square")
    own = ("beta1", "beta2", "epsilon")

    @staticmethod
    def constants(k: Builder, own: Sequence[Value], step: Value) -> Sequence[Value]:
        """The betas, epsilon, 1 less the betas, and 1 less their powers."""
        return [*own, *[1.0 - beta for beta in own[:2]], *[1.0 - k.pow(beta, step) for beta in own[:2]]]

    @staticmethod
    def move(k: Builder, constants: Sequence[Value], g: Value, kept: list[Value]) -> Value:
        """See `Optimizer.move`."""
        beta1, beta2, epsilon, rest1, rest2, correction1, correction2 = constants
        kept[0] = kept[0] * beta1 + g * rest1
        kept[1] = kept[1] * beta2 + g * g * rest2
        return (kept[0] / correction1) / (k.sqrt(kept[1] / correction2) + epsilon)


def rate_at(k: Builder, settings: Sequence[Value], step: Operand) -> Value:
    """The learning rate of a step, counted from 0: f64."""
    rate, _, steps = settings
    left = k.maximum(1.0 - k.convert(step, F64) / k.maximum(steps, 1.0), 0.0)
    return k.select(steps > 0.0, rate * left, rate)
