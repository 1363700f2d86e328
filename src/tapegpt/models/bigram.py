"""The smallest language model: logits of the next token, looked up by the last. Not here: more context (`mlp.py`)."""

from __future__ import annotations

from tapegpt.autograd.model import Model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


class Bigram(Model):
    """A table of logits, a row for each token (Shannon, 1948); trained to the end, the log of counted pairs."""

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        return tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens).named("logits")
