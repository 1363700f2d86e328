"""A model laid open: one document forward and backward in f64, and every number on the way to look at.

Takes any model, and the parameters of all engines. Not here: what is made of the numbers (`explanation.py`).
"""

from __future__ import annotations

from _thread import allocate_lock
from functools import cached_property

from tapegpt.autograd.operations.attention.exact import Attention
from tapegpt.autograd.operations.base import row_stride
from tapegpt.autograd.rewrites import users_of
from tapegpt.engines.graph import exact_graph
from tapegpt.processes import renew_at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapegpt.autograd.model import Model
    from tapegpt.autograd.node import Node
    from tapegpt.engines.base import Engine, Parameters
    from tapegpt.machine.target import Target

Rows = list[list[float]]


class Probe:
    """A model of one shape to look into; T are the positions of the document that it has read last.

    Threads that share it hold its `lock` from `load` to the last number that they read.
    """

    def __init__(self, config: Model, vocab_size: int, target: Target | None = None) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.lock = renew_at_fork(allocate_lock())
        self.engine: Callable[[], Engine | None] = lambda: None  # whose parameters are loaded, as long as it lives
        self.revision = -1  # of these
        self.positions = 0  # T
        self._graph = graph = exact_graph(config, vocab_size, target)
        self._stages = graph.stages
        self._attention = [node for node in graph.tape.nodes if isinstance(node.operation, Attention)]

    @property
    def stages(self) -> list[str]:
        """What `values` and `gradients` take, in the order of the forward pass."""
        return list(self._stages)

    @cached_property
    def path(self) -> list[str]:
        """The stages whose gradients tell something new, in the order of the forward pass.

        Those of one input say little beside its own gradient, and what only an addition uses has the sum's.
        """
        recorded = self.config.record(self.vocab_size)
        users = users_of(recorded.tape.nodes)

        def is_new(node: Node) -> bool:
            added = all(user.operation and user.operation.name == "add" for user in users[node])
            mixes = sum(not each.shape.index for each in node.inputs) > 1 or any(
                each.is_parameter for each in node.inputs
            )
            return node is recorded.logits or (mixes and not added)

        on_path = {node.name for node in recorded.tape.order(recorded.logits) if node.operation and is_new(node)}
        found = {stage: location.node for stage, location in self._stages.items() if stage in on_path}
        return [stage for stage, node in found.items() if node.shape.rows is None and node.gradient >= 0]

    def load(self, parameters: Parameters) -> None:
        """Take these parameters, shaped by `Model.shapes`."""
        self._graph.places.write(self._graph.tape.arena, parameters)

    def run(self, document: Sequence[int]) -> float:
        """Read tokens, BOS first, up to the last but one or the block, then go back; the mean loss, in nats."""
        graph, tape = self._graph, self._graph.tape
        self.positions = n = min(self.config.block_size, len(document) - 1)
        tape.write(graph.about("tokens"), document[:n])
        tape.write(graph.about("targets"), document[1 : n + 1])
        tape.write(graph.about("positions"), range(n))
        ((loss,),) = tape.forward(graph.loss, n)
        tape.backward(graph.loss, n)
        return loss

    def values(self, stage: str) -> Rows:
        """A stage's numbers: (T, columns), or as many rows as it has whatever the document is."""
        location = self._stages[stage]
        return self._read(location.node.value, location.node, location.columns)

    def gradients(self, stage: str) -> Rows:
        """d loss / d stage, as `values`; raises `KeyError` for a stage that depends on no parameter."""
        location = self._stages[stage]
        if location.node.gradient < 0:
            raise KeyError(stage)
        return self._read(location.node.gradient, location.node, location.columns)

    def _read(self, offset: int, node: Node, columns: Sequence[int]) -> Rows:
        apart = row_stride(node.shape.columns)
        block = self._work(offset, node.shape.count(self.positions) * apart).tolist()
        return [[block[start + column] for column in columns] for start in range(0, len(block), apart)]

    def _work(self, offset: int, count: int) -> memoryview[float]:
        """Numbers of the tape's third region, where all is that belongs to a run."""
        tape = self._graph.tape
        extents = tape.plan()
        return tape.arena.floats(8 * (extents.shared + extents.gradients + offset), count)

    def probabilities(self) -> Rows:
        """Of each next token, those of the vocabulary and then the end: (T, V)."""
        n, apart = self._graph.tape.positions, row_stride(self.vocab_size)
        kept = self._work(self._graph.loss.kept, n * (apart + 2)).tolist()
        inverses = kept[n * apart + 1 :: 2]  # after the exponentials: of each row the sum, and the inverse of that
        starts = range(0, self.positions * apart, apart)
        return [
            [exponential * inverse for exponential in kept[start : start + self.vocab_size]]
            for start, inverse in zip(starts, inverses, strict=False)
        ]

    @property
    def layers(self) -> int:
        """How often the model attends."""
        return len(self._attention)

    def attention(self, layer: int) -> list[Rows]:
        """How much a head looks at each position up to its own, with a sum of 1: [head][t][s], s <= t."""
        node = self._attention[layer]
        assert isinstance(node.operation, Attention)
        tape = self._graph.tape
        exponentials, inverses = node.operation.weights_at(tape.positions, node.shape.columns)
        kept = self._work(node.kept, inverses.stop)

        def weights(row: int, count: int) -> list[float]:
            start, inverse = exponentials[row], kept[inverses[row]]
            return [exponential * inverse for exponential in kept[start : start + count]]

        heads = range(0, node.operation.n_head * tape.positions, tape.positions)
        return [[weights(head + t, t + 1) for t in range(self.positions)] for head in heads]
