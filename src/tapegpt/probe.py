"""A GPT laid open: one document forward and backward in f64, and every number on the way to look at.

Takes the parameters of all engines, those with embeddings of runs too. Not here: what is made of the numbers
(`explanation.py`).
"""

from __future__ import annotations

from _thread import allocate_lock

from tapegpt.fast.context import rows_of_runs
from tapegpt.graph import Graph
from tapegpt.machine.interpreter import Interpreter
from tapegpt.machine.target import INTERPRETED
from tapegpt.operations.attention import Attention
from tapegpt.operations.base import padded
from tapegpt.processes import renewed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.config import Config
    from tapegpt.engine import Parameters
    from tapegpt.machine.language import Value
    from tapegpt.machine.target import Target
    from tapegpt.tape import Node

Rows = list[list[float]]


class Probe:
    """A model of one shape to look into; T are the positions of the document that it has read last.

    Threads that share it hold its `lock` from `load` to the last number that they read.
    """

    def __init__(self, config: Config, vocab_size: int, target: Target | None = None) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.lock = renewed(allocate_lock())
        self.revision = -1  # of the engine whose parameters are loaded
        self.positions = 0  # T
        self._graph = graph = Graph(config, vocab_size, target)
        self._stages: dict[str, tuple[Node, Sequence[int]]] = {}
        for name, node in graph.stages.items():
            layer, dot, matrix = name.rpartition(".")
            if matrix == "attn_wqkv":
                parts = [f"{layer}{dot}{part}" for part in ("attn_wq", "attn_wk", "attn_wv")]
                self._stages.update({part: (node, graph.rows(part)[1]) for part in parts})
            else:
                self._stages[name] = (node, range(node.shape.columns))

    @property
    def stages(self) -> list[str]:
        """What `values` and `gradients` can be asked for, in the order of the forward pass."""
        return list(self._stages)

    def load(self, parameters: Parameters) -> None:
        """Take these parameters, shaped by `Config.shapes`."""
        self._graph.write(self._graph.tape.arena, parameters)

    def run(self, document: Sequence[int]) -> float:
        """Read tokens, BOS first, up to the last but one or the block, then go back; the mean loss, in nats."""
        graph, tape = self._graph, self._graph.tape
        self.positions = n = min(self.config.block_size, len(document) - 1)
        tape.write(graph.tokens, document[:n])
        tape.write(graph.targets, document[1 : n + 1])
        runs = [self._rows_of_runs(document, t) for t in range(n)] if graph.runs else []
        for node, rows in zip(graph.runs, zip(*runs, strict=True), strict=True):
            tape.write(node, rows)
        ((loss,),) = tape.forward(graph.loss, n)
        tape.backward(graph.loss, n)
        return loss

    def _rows_of_runs(self, document: Sequence[int], t: int) -> list[int]:
        k, config, bos = Interpreter(INTERPRETED), self.config, self.vocab_size - 1

        def token_before(back: int) -> Value:
            return k.integer(document[t - back] if back <= t else bos)

        return [row.data for row in rows_of_runs(k, token_before, config.n_gram, config.gram_rows)]

    def values(self, stage: str) -> Rows:
        """A stage's numbers: (T, columns)."""
        node, columns = self._stages[stage]
        return self._read(node.value, node, columns)

    def gradients(self, stage: str) -> Rows:
        """d loss / d stage: (T, columns)."""
        node, columns = self._stages[stage]
        return self._read(node.gradient, node, columns)

    def _read(self, offset: int, node: Node, columns: Sequence[int]) -> Rows:
        apart = padded(node.shape.columns)
        block = self._work(offset, self.positions * apart).tolist()
        return [[block[start + column] for column in columns] for start in range(0, len(block), apart)]

    def _work(self, offset: int, count: int) -> memoryview[float]:
        """Numbers of the tape's third region, where all is that belongs to a run."""
        tape = self._graph.tape
        extents = tape.plan()
        return tape.arena.floats(8 * (extents.shared + extents.gradients + offset), count)

    def probabilities(self) -> Rows:
        """Of each next token, those of the vocabulary and then the end: (T, V)."""
        n, apart = self._graph.tape.positions, padded(self.vocab_size)
        kept = self._work(self._graph.loss.kept, n * (apart + 2)).tolist()
        inverses = kept[n * apart + 1 :: 2]  # after the exponentials: of each row the sum, and the inverse of that
        starts = range(0, self.positions * apart, apart)
        return [
            [exponential * inverse for exponential in kept[start : start + self.vocab_size]]
            for start, inverse in zip(starts, inverses, strict=False)
        ]

    def attention(self, layer: int) -> list[Rows]:
        """How much a head looks at each position up to its own, with a sum of 1: [head][t][s], s <= t."""
        node, heads = self._graph.stages[f"layer{layer}.attention"], range(self.config.n_head)
        return [[self._weights(node, head, t) for t in range(self.positions)] for head in heads]

    def _weights(self, node: Node, head: int, t: int) -> list[float]:
        assert isinstance(node.operation, Attention)
        exponentials, inverse = node.operation.weights_at(self._graph.tape.positions, node.inputs[0].shape, head, t)
        scale = self._work(node.kept + inverse, 1)[0]
        return [exponential * scale for exponential in self._work(node.kept + exponentials, t + 1)]
