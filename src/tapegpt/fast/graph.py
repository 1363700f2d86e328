"""The GPT as the fast engine's tape: the same model as `graph.py`, on rows of many documents.

Letters: T positions of all documents, D n_embd, E columns of all heads, V vocabulary. Not here: numbers, training.
"""

from __future__ import annotations

from tapegpt.machine.language import F32
from tapegpt.operations.fast.attention import Attention, CachedAttention
from tapegpt.operations.fast.cross_entropy import CrossEntropy
from tapegpt.operations.fast.embedding import Embedding
from tapegpt.operations.fast.heads import Heads
from tapegpt.operations.fast.linear import Linear
from tapegpt.operations.fast.rmsnorm import RMSNorm
from tapegpt.operations.fast.tiled_attention import TiledAttention
from tapegpt.tape import Node, Tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.config import Config
    from tapegpt.machine.target import Target

ROWS = 256  # positions that go through the model together: enough for the tiles, few enough for the cache
SLOTS = 64  # strings that are generated side by side


class FastGraph:
    """The tape of a GPT for `positions` rows: documents one after the other, or (`cached`) the next place of strings.

    `logits` (T, V) and, of documents, `loss` (1, 1) are its outputs.
    """

    def __init__(
        self, config: Config, vocab_size: int, positions: int, target: Target | None = None, *, cached: bool = False
    ) -> None:
        self.config, self.vocab_size, self.cached = config, vocab_size, cached
        self.tape = tape = Tape(positions, target, F32)
        self.tokens, self.places = tape.indices("tokens"), tape.indices("places")
        if cached:
            self.lines = tape.indices("lines")
        else:
            self.ends, self.targets = tape.indices("ends"), tape.indices("targets")
            self.share = tape.input("share", 1, 1)
        self._parameters: dict[str, Node] = {}
        self.runs = [tape.indices(f"runs of {n}") for n in range(2, config.n_gram + 1)]
        # First in memory: it has an Adam of its own.
        self.run_table = self._matrix("wte_gram", config.gram_rows, config.n_embd) if self.runs else None
        self.heads = Heads(config.n_head, config.head_dim, config.block_size)
        d, e = config.n_embd, self.heads.columns

        token, place = self._matrix("wte", vocab_size, d), self._matrix("wpe", config.block_size, d)
        runs = [node for ids in self.runs for node in (ids, self.run_table) if node]
        embedded = tape.record(Embedding(2 + len(self.runs)), self.tokens, token, self.places, place, *runs)  # (T, D)
        x = tape.record(RMSNorm(), embedded)
        for layer in range(config.n_layer):
            qkv = self._linear(tape.record(RMSNorm(), x), f"layer{layer}.attn_wqkv", 3 * e)  # (T, 3 E)
            x = self._linear(self._attention(qkv), f"layer{layer}.attn_wo", d, residual=x)
            normed = tape.record(RMSNorm(), x)
            hidden = self._linear(normed, f"layer{layer}.mlp_fc1", 4 * d, activation="relu")  # (T, 4 D)
            x = self._linear(hidden, f"layer{layer}.mlp_fc2", d, residual=x)
        self.logits = self._linear(x, "lm_head", vocab_size)  # (T, V)
        if not cached:
            self.loss = tape.record(CrossEntropy(), self.logits, self.targets, self.share)

    def _linear(self, x: Node, name: str, outs: int, activation: str = "", residual: Node | None = None) -> Node:
        w = self._matrix(name, outs, x.shape.columns)
        added = [residual] if residual else []
        return self.tape.record(Linear(activation, residual=bool(residual)), x, w, *added)

    def _attention(self, qkv: Node) -> Node:
        if self.cached:
            return self.tape.record(CachedAttention(self.heads, self.tape.positions), qkv, self.places, self.lines)
        kind = TiledAttention if self.heads.tiled else Attention
        return self.tape.record(kind(self.heads), qkv, self.ends)

    def _matrix(self, name: str, rows: int, columns: int) -> Node:
        self._parameters[name] = self.tape.parameter(name, rows, columns)
        return self._parameters[name]

    def cells(self, name: str) -> tuple[Node, list[int], list[int]]:
        """The node that holds a parameter of `Config.shapes`, and the parameter's rows and columns in it."""
        heads = self.heads.places()
        layer, _, matrix = name.partition(".")
        if matrix in ("attn_wq", "attn_wk", "attn_wv"):
            node = self._parameters[f"{layer}.attn_wqkv"]
            part = ("attn_wq", "attn_wk", "attn_wv").index(matrix) * (self.tape.rows(node) // 3)
            return node, [part + row for row in heads], list(range(node.shape.columns))
        node = self._parameters[name]
        columns = heads if matrix == "attn_wo" else list(range(node.shape.columns))
        return node, list(range(self.tape.rows(node))), columns
