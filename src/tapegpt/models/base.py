"""What a model is before it has numbers: a record of its settings, with a forward pass.

    class Bigram(Model):
        def forward(self, tape, tokens, positions, vocab_size):
            return tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens)

The forward pass is written once. It is recorded on a tape, and all that tapegpt does with a model follows from the
recording: names and shapes of the parameters, training, generation, scores, explanations. Not here: what the engines
make of it (`graph.py`).
"""

from __future__ import annotations

from functools import lru_cache

from tapegpt.errors import TapeGPTError, shown
from tapegpt.ranges import Whole
from tapegpt.record import Record
from tapegpt.tape import Node, Tape

MAX_PARAMETERS = 100_000_000  # beyond this the scalar order of the exact engine takes hours a step


class Model(Record):
    """The settings of a model and its forward pass; subclasses add settings with their defaults.

    Raises `TapeGPTError` for settings out of range.
    """

    block_size: int = 16  # longest document that is seen whole, in tokens

    ranges = {"block_size": Whole(1, 8192)}  # noqa: RUF012  # never changed

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits of the next token, (T, vocab_size), from token ids and their places in the document, (T, 1) each."""
        raise NotImplementedError

    def recorded(self, vocab_size: int) -> Recorded:
        """The forward pass and the loss on a tape; raises `TapeGPTError` for a forward pass that cannot be used."""
        return _recorded(self, vocab_size)

    def parameters(self, vocab_size: int) -> list[Node]:
        """The parameters, in the order of the recording, which is that of their initialisation."""
        return self.recorded(vocab_size).tape.parameters()

    def shapes(self, vocab_size: int) -> dict[str, tuple[int, int]]:
        """Rows and columns of the parameters by name."""
        return {node.name: (node.shape.rows or 0, node.shape.columns) for node in self.parameters(vocab_size)}

    def num_parameters(self, vocab_size: int) -> int:
        """Number of parameters; raises `TapeGPTError` above `MAX_PARAMETERS`."""
        count = sum(rows * columns for rows, columns in self.shapes(vocab_size).values())
        if count > MAX_PARAMETERS:
            settings = ", ".join(f"{name} {value}" for name, value in self.as_dict().items())
            raise TapeGPTError(
                f"{settings} and {vocab_size:,} tokens make {count:,} parameters; the limit is {MAX_PARAMETERS:,}: "
                "choose a smaller model"
            )
        return count

    @property
    def has_sparse(self) -> bool:
        """Whether some parameters are trained by the rows that are looked up, which the fast engine alone does."""
        return any(node.sparse for node in self.parameters(2))


class Recorded(Record):
    """A model's forward pass and loss, operation by operation, as every engine begins with it."""

    tape: Tape
    tokens: Node
    positions: Node
    targets: Node
    logits: Node  # (T, V)
    loss: Node  # (1, 1)


@lru_cache(maxsize=64)
def _recorded(model: Model, vocab_size: int) -> Recorded:
    tape = Tape(model.block_size)
    tokens, positions = tape.indices("tokens"), tape.indices("positions")
    logits = model.forward(tape, tokens, positions, vocab_size)
    who = f"{type(model).__name__}.forward"
    if not isinstance(logits, Node) or logits.tape is not tape:
        raise TapeGPTError(f"{who}: must return logits, a node of its tape, not {shown(logits)}")
    if (logits.shape.rows, logits.shape.columns) != (None, vocab_size):
        raise TapeGPTError(f"{who}: must return logits (T, {vocab_size}), one for each token, not {logits!r}")
    for node in tape.order(logits):
        if node.operation and not node.operation.is_causal(*[each.shape for each in node.inputs]):
            raise TapeGPTError(f"{who}: {node!r} mixes positions, and none may see later ones: use axis=1")
    targets = tape.indices("targets")
    return Recorded(tape, tokens, positions, targets, logits, tape.cross_entropy(logits, targets))
