"""What a model is to those that read it: its settings, its vocabulary and the engine that holds its numbers.

Not here: generation, scores, files (`trained.py`), arithmetic (the engines).
"""

from __future__ import annotations

from tapegpt.ranges import Instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from tapegpt.autograd.model import Model
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.engines.base import Engine


class LanguageModel:
    """A model over tokens. Token t is `vocabulary[t]`; BOS comes after the last."""

    config: Model
    vocabulary: Vocabulary
    engine: Engine

    @property
    def vocab_size(self) -> int:
        """Number of tokens, with BOS."""
        return self.vocabulary.size

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return self.config.num_parameters(self.vocab_size)

    @property
    def parameters(self) -> dict[str, array[float]]:
        """A copy of the parameters by name, each row by row; their shapes are `config.shapes(vocab_size)`."""
        return self.engine.parameters()


MODEL = Instance(LanguageModel, "give what tapegpt.load(path) or tapegpt.train(data) returns", name="GPT")
