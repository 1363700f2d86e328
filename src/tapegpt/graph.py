"""A GPT recorded on a tape: the forward pass in ten lines, and where each named parameter lies.

Letters: T positions, D n_embd, H heads, V vocabulary. Not here: numbers, training.
"""

from __future__ import annotations

from tapegpt.tape import Node, Tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.config import Config
    from tapegpt.machine.target import Target


class Graph:
    """The tape of a GPT; `logits` (T, V) and `loss` (1, 1) are its outputs."""

    def __init__(self, config: Config, vocab_size: int, target: Target | None = None) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.tape = tape = Tape(config.block_size, target)
        self.tokens, self.targets = tape.indices("tokens"), tape.indices("targets")
        self._parameters: dict[str, Node] = {}
        d = config.n_embd

        x = tape.embedding(self._matrix("wte", vocab_size, d), self.tokens)  # (T, D)
        x = x + tape.position_embedding(self._matrix("wpe", config.block_size, d))
        x = tape.rmsnorm(x)
        for layer in range(config.n_layer):
            # One matrix for q, k and v, head by head: the input's gradient is then a single ordered sum.
            qkv = tape.linear(tape.rmsnorm(x), self._matrix(f"layer{layer}.attn_wqkv", 3 * d, d))  # (T, 3 D)
            heads = tape.attention(qkv, config.n_head)
            x = tape.linear(heads, self._matrix(f"layer{layer}.attn_wo", d, d)) + x
            hidden = tape.linear(tape.rmsnorm(x), self._matrix(f"layer{layer}.mlp_fc1", 4 * d, d)).relu()  # (T, 4 D)
            x = tape.linear(hidden, self._matrix(f"layer{layer}.mlp_fc2", d, 4 * d)) + x
        self.logits = tape.linear(x, self._matrix("lm_head", vocab_size, d), last=self.targets)  # (T, V)
        self.loss = tape.cross_entropy(self.logits, self.targets)

    def _matrix(self, name: str, rows: int, columns: int) -> Node:
        self._parameters[name] = self.tape.parameter(name, rows, columns)
        return self._parameters[name]

    def rows(self, name: str) -> tuple[Node, range | list[int]]:
        """The node that holds a parameter of `Config.shapes`, and the node's rows that are the parameter's."""
        if name in self._parameters:
            node = self._parameters[name]
            return node, range(self.tape.rows(node))
        layer, _, matrix = name.partition(".")
        which = ("attn_wq", "attn_wk", "attn_wv").index(matrix)
        width = self.config.head_dim
        rows = [(3 * h + which) * width + j for h in range(self.config.n_head) for j in range(width)]
        return self._parameters[f"{layer}.attn_wqkv"], rows
