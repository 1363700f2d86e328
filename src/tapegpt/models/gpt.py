"""microgpt.py's GPT (Radford et al., 2019, without biases, its norms without gains). Not here: how it is trained.

Letters: T positions, D n_embd, V vocabulary.
"""

from __future__ import annotations

from tapegpt.autograd.model import Model
from tapegpt.errors import TapeGPTError, argument
from tapegpt.ranges import Whole
from tapegpt.record import field
from tapegpt.settings import SHARE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


class GPT(Model):
    """A transformer that predicts the next token; the defaults are microgpt.py's.

    Raises `TapeGPTError` when a value is not a whole number in its range, or `n_head` does not divide `n_embd`.
    """

    n_layer: int = field("transformer blocks", Whole(1, 256), default=1)
    n_embd: int = field("width of the residual stream", Whole(1, 8192), default=16)
    n_head: int = field("attention heads, which share the width evenly", Whole(1, 8192), default=4)
    block_size: int = 16
    n_gram: int = field("add embeddings of the last 2 to N tokens", Whole(1, 16), default=1, fast=1)
    gram_rows: int = field("rows of the hashed n-gram table", Whole(1, 1 << 24), default=16384, fast=16384)
    kn_share: float = field(
        "share of a Kneser-Ney n-gram model in the probabilities, not used in training", SHARE, default=0.0, fast=0.0
    )
    kn_rows: int = field("most n-grams of that model", Whole(4, 1 << 24), default=262_144, fast=262_144)

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        d = self.n_embd
        wte, wpe = tape.parameter("wte", vocab_size, d), tape.parameter("wpe", self.block_size, d)
        lm_head = tape.parameter("lm_head", vocab_size, d)
        x = tape.embedding(wte, tokens).named("tok_emb") + tape.embedding(wpe, positions).named("pos_emb")  # (T, D)
        if self.n_gram > 1:
            table = tape.parameter("wte_gram", self.gram_rows, d, start=0.0, sparse=True)
            for n in range(2, self.n_gram + 1):
                x = x + tape.embedding(table, tape.ngrams(tokens, n, self.gram_rows, vocab_size - 1))
        x = x.named("embedding").rmsnorm().named("embedding_norm")
        for layer in range(self.n_layer):
            name = f"layer{layer}"
            normed = x.rmsnorm().named(f"{name}.attn_norm")
            q, k, v = (normed.linear(f"{name}.attn_{w}", d) for w in ("wq", "wk", "wv"))
            heads = tape.attention(q, k, v, self.n_head).named(f"{name}.attention")
            x = (heads.linear(f"{name}.attn_wo", d) + x).named(f"{name}.attn_residual")
            normed = x.rmsnorm().named(f"{name}.mlp_norm")
            hidden = normed.linear(f"{name}.mlp_fc1", 4 * d).relu().named(f"{name}.mlp_relu")  # (T, 4 D)
            x = (hidden.linear(f"{name}.mlp_fc2", d) + x).named(f"{name}.mlp_residual")
        logits = tape.linear(x, lm_head)
        if self.kn_share:
            logits = logits.named("network_logits").kneser_ney("kn_counts", tokens, self.kn_share, self.kn_rows)
        return logits.named("logits")

    def check(self) -> None:
        """Raise `TapeGPTError` where `n_head` does not divide `n_embd`."""
        if self.n_embd % self.n_head:
            divisors = [d for d in range(1, self.n_embd + 1) if self.n_embd % d == 0]
            raise TapeGPTError(
                f"{argument('n_embd')} must be a multiple of {argument('n_head')}, but {self.n_embd} is no multiple of "
                f"{self.n_head}: choose {argument('n_head')} from {', '.join(map(str, divisors[:12]))}"
            )

    def in_use(self) -> dict[str, Any]:
        """Without those of n-grams where there are no n-grams, so that older readers know what they find."""
        unused = {"n_gram", "gram_rows"} if self.n_gram == 1 else set()
        if not self.kn_share:
            unused |= {"kn_share", "kn_rows"}
        return {name: value for name, value in self.as_dict().items() if name not in unused}

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def is_plain(self) -> bool:
        """Whether the model is microgpt.py's, which knows n-grams neither at its input nor at its output."""
        return self.n_gram == 1 and not self.kn_share


Config = GPT  # what it is called where its settings are meant
