"""A multilayer perceptron that sees the last few tokens at once. Not here: a context of any length (`gru.py`).

Letters: T positions, D n_embd, V vocabulary.
"""

from __future__ import annotations

from tapegpt.autograd.model import Model
from tapegpt.ranges import Whole
from tapegpt.record import field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


class MLP(Model):
    """The neural probabilistic language model (Bengio et al., 2003), without biases and direct connections."""

    context: int = field("tokens that the next one is predicted from", Whole(1, 256), default=3)
    n_embd: int = field("width of an embedding", Whole(1, 8192), default=16)
    n_hidden: int = field("width of the hidden layer", Whole(1, 65536), default=64)

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("wte", vocab_size, self.n_embd), tokens).named("embedding")  # (T, D)
        last = tape.concatenate([x, *[x.shift(n) for n in range(1, self.context)]]).named("context")
        hidden = last.linear("hidden", self.n_hidden).tanh().named("tanh")
        return hidden.linear("lm_head", vocab_size).named("logits")
