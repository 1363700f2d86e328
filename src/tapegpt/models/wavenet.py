"""Convolutions that reach twice as far back in each layer. Not here: weights that depend on the tokens (`gpt.py`).

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


class WaveNet(Model):
    """Dilated causal convolutions of two positions, gated (van den Oord et al., 2016), without skip connections."""

    n_layer: int = field("layers; each sees twice as many positions as the one before", Whole(1, 13), default=4)
    n_embd: int = field("width of the residual stream", Whole(1, 8192), default=16)

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        d = self.n_embd
        x = tape.embedding(tape.parameter("wte", vocab_size, d), tokens).named("embedding")  # (T, D)
        for layer in range(self.n_layer):
            name = f"layer{layer}"
            pair = tape.concatenate([x.shift(2**layer), x]).named(f"{name}.pair")  # (T, 2 D)
            gate = pair.linear(f"{name}.gate", d).sigmoid().named(f"{name}.sigmoid")
            gated = pair.linear(f"{name}.filter", d).tanh() * gate
            x = (gated.linear(f"{name}.out", d) + x).named(f"{name}.residual")
        return x.linear("lm_head", vocab_size).named("logits")
