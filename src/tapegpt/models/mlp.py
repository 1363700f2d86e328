"""A multilayer perceptron that sees the last few tokens side by side. Not here: a context of any length (`gru.py`).

Letters: T positions, D n_embd, V vocabulary.
"""

from __future__ import annotations

from tapegpt.autograd.model import Model
from tapegpt.ranges import Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


class MLP(Model):
    """The neural probabilistic language model (Bengio et al., 2003), without biases and direct connections."""

    context: int = 3  # tokens that the next one is predicted from
    n_embd: int = 16  # width of an embedding
    n_hidden: int = 64  # width of the hidden layer

    ranges = {  # noqa: RUF012  # never changed
        **Model.ranges,
        "context": Whole(1, 256),
        "n_embd": Whole(1, 8192),
        "n_hidden": Whole(1, 65536),
    }

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("wte", vocab_size, self.n_embd), tokens).named("embedding")  # (T, D)
        last = tape.concatenate([x, *[x.shift(n) for n in range(1, self.context)]]).named("context")
        hidden = last.linear("hidden", self.n_hidden).tanh().named("tanh")
        return hidden.linear("lm_head", vocab_size).named("logits")
