"""The exact engine: microgpt.py's doubles from machine code, one document a step, every sum in the reference's order.

Not here: its kernels (`exact_kernels.py`), text, files.
"""

from __future__ import annotations

from array import array

from tapegpt.engines.compiled import CompiledEngine, Documents, Generation, check_losses
from tapegpt.machine.memory import Memory, address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.model import Model
    from tapegpt.data.rng import Random
    from tapegpt.data.tokens import Strings, Tokens
    from tapegpt.engines.base import Adam
    from tapegpt.engines.compiled import Plan
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target


class ExactEngine(CompiledEngine):
    """Trains and samples one model in machine code (see `base.Engine`)."""

    name = "exact"

    def __init__(self, config: Model, vocab_size: int, target: Target | None = None) -> None:
        super().__init__(config, vocab_size, target)
        self._scratch = Memory(8 * self._plan.sizes["scratch"])

    @staticmethod
    def _build(model: Model, vocab_size: int, target: Target) -> tuple[Plan, Entries]:
        from tapegpt.engines.exact_kernels import build

        return build(model, vocab_size, target)

    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]:
        assert (tokens.order, progress) == (None, None), "documents and schedule are microgpt.py's"
        losses, memory = array("d", bytes(8 * count)), (self._work.at(0), self._scratch.at(0))
        steps = self._steps(len(tokens), first, losses)
        self._program.run("train", self._numbers(), *memory, Documents.arguments(tokens), adam.as_dict(), steps)
        return check_losses(losses, first)

    def _decode(self, rng: Random, strings: Strings, temperature: float) -> None:
        weights, words = array("d", bytes(8 * self._plan.sizes["weights"])), rng.words
        memory = (self._shared.at(0), self._work.at(0), address_of(weights), address_of(words))
        self._program.run("prepare", self._shared.at(0))
        self._program.run("generate", *memory, Generation.arguments(strings), temperature)
        rng.words = words
