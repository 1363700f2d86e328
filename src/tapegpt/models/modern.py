"""A GPT as models of today are: what changed since GPT-2, in one class. Not here: microgpt.py's own (`gpt.py`).

Letters: T positions, D n_embd, V vocabulary.
"""

from __future__ import annotations

from tapegpt.autograd.model import Model
from tapegpt.errors import TapeGPTError, argument
from tapegpt.ranges import Whole
from tapegpt.record import field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


class ModernGPT(Model):
    """A transformer as Llama (Touvron et al., 2023) has it: rotary positions, SwiGLU, norms with gains; tied weights.

    Raises `TapeGPTError` when `n_head` does not divide `n_embd` into heads of an even number of columns.
    """

    n_layer: int = field("transformer blocks", Whole(1, 256), default=1)
    n_embd: int = field("width of the residual stream", Whole(1, 8192), default=16)
    n_head: int = field("attention heads, which share the width evenly", Whole(1, 8192), default=4)

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        d, hidden = self.n_embd, 8 * self.n_embd // 3  # three matrices of 8/3 D hold as much as two of 4 D
        wte = tape.parameter("wte", vocab_size, d)
        x = tape.embedding(wte, tokens).named("embedding")  # (T, D)
        for layer in range(self.n_layer):
            name = f"layer{layer}"
            normed = x.rmsnorm(tape.parameter(f"{name}.attn_gain", 1, d, start=1.0)).named(f"{name}.attn_norm")
            q, k, v = (normed.linear(f"{name}.attn_{w}", d) for w in ("wq", "wk", "wv"))
            q, k = (tape.rotary(each, positions, self.n_head) for each in (q, k))
            heads = tape.attention(q, k, v, self.n_head).named(f"{name}.attention")
            x = (heads.linear(f"{name}.attn_wo", d) + x).named(f"{name}.attn_residual")
            normed = x.rmsnorm(tape.parameter(f"{name}.mlp_gain", 1, d, start=1.0)).named(f"{name}.mlp_norm")
            gate = normed.linear(f"{name}.mlp_gate", hidden).silu().named(f"{name}.mlp_silu")
            gated = gate * normed.linear(f"{name}.mlp_up", hidden)
            x = (gated.linear(f"{name}.mlp_down", d) + x).named(f"{name}.mlp_residual")
        return tape.linear(x.rmsnorm(tape.parameter("gain", 1, d, start=1.0)).named("norm"), wte).named("logits")

    def check(self) -> None:
        """Raise `TapeGPTError` where a head would have an odd number of columns."""
        if self.n_embd % (2 * self.n_head):
            raise TapeGPTError(
                f"{argument('n_embd')} {self.n_embd} over {argument('n_head')} {self.n_head} must be an even number, "
                f"for rotary positions: choose a multiple of {2 * self.n_head}"
            )
