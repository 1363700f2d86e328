"""The shape of a GPT. Not here: how it is trained (`trainer.py`)."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError
from tapegpt.ranges import Whole
from tapegpt.record import Record

RANGES = {
    "n_layer": Whole(1, 256),
    **dict.fromkeys(("n_embd", "n_head", "block_size"), Whole(1, 8192)),
    "n_gram": Whole(1, 16),
    "gram_rows": Whole(1, 1 << 24),
}
MAX_PARAMETERS = 100_000_000  # beyond this the scalar order of the exact engine takes hours a step


class Config(Record):
    """The shape of the model; the defaults are microgpt.py's.

    Raises `TapeGPTError` when a value is not a whole number in its range, or `n_head` does not
    divide `n_embd`.
    """

    n_layer: int = 1  # transformer blocks
    n_embd: int = 16  # width of the residual stream
    n_head: int = 4  # attention heads, each n_embd / n_head wide
    block_size: int = 16  # longest document that is seen whole, in tokens
    n_gram: int = 1  # runs of 2 to so many tokens have embeddings too, added to that of the last token
    gram_rows: int = 16384  # embeddings of runs, shared by what hashes alike

    ranges = RANGES

    def check(self) -> None:
        """Raise `TapeGPTError` where a field is out of range, or `n_head` does not divide `n_embd`."""
        super().check()
        if self.n_embd % self.n_head:
            divisors = [d for d in range(1, self.n_embd + 1) if self.n_embd % d == 0]
            raise TapeGPTError(
                f"n_embd must be a multiple of n_head, but {self.n_embd} is no multiple of {self.n_head}: "
                f"choose n_head from {', '.join(map(str, divisors[:12]))}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def is_plain(self) -> bool:
        """Whether the model is microgpt.py's, whose input is the embeddings of the token and the position alone."""
        return self.n_gram == 1

    def shapes(self, vocab_size: int) -> dict[str, tuple[int, int]]:
        """Parameter matrices by name, (out, in), in microgpt.py's order of initialisation."""
        shapes = {
            "wte": (vocab_size, self.n_embd),
            "wpe": (self.block_size, self.n_embd),
            "lm_head": (vocab_size, self.n_embd),
        }
        for layer in range(self.n_layer):
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
                shapes[f"layer{layer}.{name}"] = (self.n_embd, self.n_embd)
            shapes[f"layer{layer}.mlp_fc1"] = (4 * self.n_embd, self.n_embd)
            shapes[f"layer{layer}.mlp_fc2"] = (self.n_embd, 4 * self.n_embd)
        if self.n_gram > 1:
            shapes["wte_gram"] = (self.gram_rows, self.n_embd)
        return shapes

    def num_parameters(self, vocab_size: int) -> int:
        """Number of parameters; raises `TapeGPTError` above `MAX_PARAMETERS`."""
        count = sum(rows * columns for rows, columns in self.shapes(vocab_size).values())
        if count > MAX_PARAMETERS:
            raise TapeGPTError(
                f"n_layer {self.n_layer}, n_embd {self.n_embd}, block_size {self.block_size} and {vocab_size:,} "
                f"tokens make {count:,} parameters; the limit is {MAX_PARAMETERS:,}: choose a smaller n_embd or n_layer"
            )
        return count
