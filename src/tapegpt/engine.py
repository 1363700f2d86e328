"""What an engine is: the arithmetic behind a GPT, whatever does it.

An engine owns the parameters, Adam's moments and nothing else: no text, no files, no random state.
Two exist: `exact.py` (compiled) and `reference.py` (scalar Python, the oracle); their numbers are equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from tapegpt.rng import Random

Parameters = dict[str, "array[float]"]  # name -> row-major float64 values, shapes from Config.shapes


class Adam(Record):
    """Adam with linear decay of the learning rate to zero over `steps` (Kingma and Ba, 2015)."""

    steps: int = 1000
    learning_rate: float = 0.01
    beta1: float = 0.85
    beta2: float = 0.99
    epsilon: float = 1e-8


class Tokens(Record):
    """Documents as one run of token ids, `BOS doc BOS doc BOS ...`.

    Document d is `ids[starts[d]]` (a BOS) up to and including `ids[starts[d + 1]]` (the next BOS).
    """

    ids: array[int]  # typecode "I"
    starts: array[int]  # typecode "q", number of documents + 1

    def __len__(self) -> int:
        return len(self.starts) - 1


class Engine(ABC):
    """Trains and samples one model. Parameters are ordered and shaped by `Config.shapes`."""

    name: str  # "exact", "reference": what --engine takes
    notice: str  # one line on what the engine has to do without, or ""

    @abstractmethod
    def parameters(self) -> Parameters:
        """A copy of the parameters."""

    @abstractmethod
    def load_parameters(self, parameters: Parameters) -> None:
        """Replace the parameters (copied); Adam's moments start again at zero."""

    @abstractmethod
    def train(self, tokens: Tokens, adam: Adam, first: int, count: int) -> list[float]:
        """Steps `first` to `first + count - 1` (step s trains document s % len(tokens)); their losses.

        Raises `DivergedError` at the first loss or gradient that is not finite: that step changes nothing. Its
        attribute `losses` lists the losses of the steps before it in this call.
        """

    @abstractmethod
    def generate(self, rng: Random, count: int, temperature: float) -> list[list[int]]:
        """`count` sequences of token ids without BOS, at most block_size long, drawn with `rng`."""
