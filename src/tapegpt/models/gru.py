"""A recurrent network, which remembers what it needs of all tokens before. Not here: looking back at them (`gpt.py`).

Letters: T positions, D n_embd, H n_hidden, V vocabulary.
"""

from __future__ import annotations

from tapegpt.autograd.model import Model
from tapegpt.ranges import Whole
from tapegpt.record import field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


class GRU(Model):
    """A gated recurrent unit (Cho et al., 2014) over embeddings, without biases."""

    n_embd: int = field("width of an embedding", Whole(1, 8192), default=16)
    n_hidden: int = field("width of the hidden state", Whole(1, 8192), default=32)

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        x = tape.embedding(tape.parameter("wte", vocab_size, self.n_embd), tokens).named("embedding")  # (T, D)
        gates = x.linear("gru_w", 3 * self.n_hidden)
        h = tape.gru(gates, tape.parameter("gru_u", 3 * self.n_hidden, self.n_hidden)).named("hidden")  # (T, H)
        return h.linear("lm_head", vocab_size).named("logits")
