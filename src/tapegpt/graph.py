"""A GPT recorded on a tape: the forward pass in a few lines, its stages by name, and where each parameter lies.

Letters: T positions, D n_embd, H heads, V vocabulary. Not here: arithmetic, training.
"""

from __future__ import annotations

from array import array

from tapegpt.operations.base import padded
from tapegpt.record import Record
from tapegpt.tape import Node, Tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.config import Config
    from tapegpt.engine import Parameters
    from tapegpt.machine.memory import Memory
    from tapegpt.machine.target import Target


class Places(Record):
    """Where code finds a GPT's inputs and outputs: numbers from the begin of a run's work on."""

    tokens: int
    targets: int
    logits: int
    loss: int
    positions: int  # the most of a run


class Graph:
    """The tape of a GPT; `logits` (T, V) and `loss` (1, 1) are its outputs."""

    def __init__(self, config: Config, vocab_size: int, target: Target | None = None) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.tape = tape = Tape(config.block_size, target)
        self.tokens, self.targets = tape.indices("tokens"), tape.indices("targets")
        self._parameters: dict[str, Node] = {}
        self.stages: dict[str, Node] = {}  # what the forward pass goes through, in its order
        self.runs = [tape.indices(f"runs of {n}") for n in range(2, config.n_gram + 1)]  # rows of wte_gram
        d, stage = config.n_embd, self._stage

        x = tape.embedding(self._matrix("wte", vocab_size, d), self.tokens)  # (T, D)
        x = x + tape.position_embedding(self._matrix("wpe", config.block_size, d))
        if self.runs:
            table = self._matrix("wte_gram", config.gram_rows, d)
            for rows in self.runs:
                x = x + tape.embedding(table, rows)
        x = stage("embedding_norm", tape.rmsnorm(stage("embedding", x)))
        for layer in range(config.n_layer):
            name = f"layer{layer}"
            normed = stage(f"{name}.attn_norm", tape.rmsnorm(x))
            # One matrix for q, k and v, head by head: the input's gradient is then a single ordered sum.
            qkv = self._linear(normed, f"{name}.attn_wqkv", 3 * d)  # (T, 3 D)
            heads = stage(f"{name}.attention", tape.attention(qkv, config.n_head))
            x = stage(f"{name}.attn_residual", self._linear(heads, f"{name}.attn_wo", d) + x)
            normed = stage(f"{name}.mlp_norm", tape.rmsnorm(x))
            hidden = stage(f"{name}.mlp_relu", self._linear(normed, f"{name}.mlp_fc1", 4 * d).relu())  # (T, 4 D)
            x = stage(f"{name}.mlp_residual", self._linear(hidden, f"{name}.mlp_fc2", d) + x)
        lm_head = self._matrix("lm_head", vocab_size, d)
        self.logits = stage("logits", tape.linear(x, lm_head, last=self.targets))  # (T, V)
        self.loss = tape.cross_entropy(self.logits, self.targets)

    def _stage(self, name: str, node: Node) -> Node:
        self.stages[name] = node
        return node

    def _linear(self, x: Node, name: str, outs: int) -> Node:
        """What a matrix makes of x: the stage has the matrix's name."""
        return self._stage(name, self.tape.linear(x, self._matrix(name, outs, x.shape.columns)))

    def _matrix(self, name: str, rows: int, columns: int) -> Node:
        self._parameters[name] = self.tape.parameter(name, rows, columns)
        return self._parameters[name]

    def places(self) -> Places:
        """For kernels, which hold no more of the graph than they need: all that they hold is in their code's key."""
        self.tape.plan()
        tokens, targets, logits, loss = (node.value for node in (self.tokens, self.targets, self.logits, self.loss))
        return Places(tokens, targets, logits, loss, self.tape.positions)

    def read(self, memory: Memory, start: int = 0) -> Parameters:
        """Numbers by name from a memory laid out as the parameters are, `start` numbers after its begin."""
        result = {}
        for name, (rows, columns) in self.config.shapes(self.vocab_size).items():
            values = array("d", bytes(8 * rows * columns))
            taken = 0
            for place in self._lines(memory, start, name):
                values[taken : taken + len(place)] = array("d", place)
                taken += len(place)
            result[name] = values
        return result

    def write(self, memory: Memory, numbers: Parameters, start: int = 0) -> None:
        """Write numbers by name to a memory laid out as the parameters are, `start` numbers after its begin."""
        for name in self.config.shapes(self.vocab_size):
            values, taken = memoryview(numbers[name]), 0
            for place in self._lines(memory, start, name):
                place[:] = values[taken : taken + len(place)]
                taken += len(place)

    def _lines(self, memory: Memory, start: int, name: str) -> list[memoryview[float]]:
        """A parameter's numbers in order, as views: of its rows, or of all at once where nothing is between them."""
        node, rows = self.rows(name)
        columns = node.shape.columns
        apart, first = padded(columns), start + node.value
        if isinstance(rows, range) and columns == apart:
            return [memory.floats(8 * first, len(rows) * columns)]
        return [memory.floats(8 * (first + row * apart), columns) for row in rows]

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
