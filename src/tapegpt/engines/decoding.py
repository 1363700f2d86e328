"""The forward pass of strings token by token; rows that follow from a token and its position alone are looked up.

In a GPT these are the first layer's queries, keys and values. They are computed for all tokens at all positions once
the parameters have changed, where that is few numbers. Not here: what is done with the logits.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import row_stride
from tapegpt.autograd.operations.embedding import Embedding
from tapegpt.autograd.operations.rows import vectors
from tapegpt.autograd.rewrites import users_of
from tapegpt.engines.graph import fast_graph
from tapegpt.machine.language import F32, U32, Builder, F32s, Int, Kernel
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.model import Model
    from tapegpt.autograd.node import Node
    from tapegpt.engines.graph import Graph
    from tapegpt.machine.target import Target

MOST = 1 << 20  # numbers of all tables, 4 MB: they are to stay in a cache


class Table(Record):
    """Rows of a node for each token at each position."""

    value: int  # offset of the node in the work of a run
    start: int  # offset of the table in what runs share
    columns: int


class Decoding:
    """A graph for decoding, and its kernels `prepare(shared, work)` and `forward(shared, work, start, stop)`."""

    def __init__(
        self, config: Model, vocab_size: int, target: Target | None = None, lines: int = 0, has_tables: bool = True
    ) -> None:
        """For so many strings at once, with tables where they pay or without."""
        self.graph = graph = fast_graph(config, vocab_size, lines, target, cached=True)
        self.layout, extents = graph.layout(), graph.tape.plan()
        self.work, self.shared = extents.work, extents.shared  # numbers of each
        known = _known(graph)
        users = users_of(graph.tape.order(graph.logits))
        looked_up = [node for node in known if node is graph.logits or not set(users[node]) <= set(known)]
        sizes = [vocab_size * config.block_size * row_stride(node.shape.columns) for node in looked_up]
        if not has_tables or sum(sizes) > MOST or all(isinstance(node.operation, Embedding) for node in known):
            known, looked_up, sizes = [], [], []
        tables = []
        for node, size in zip(looked_up, sizes, strict=True):
            tables.append(Table(node.value, self.shared, node.shape.columns))
            self.shared += size
        self.prepare = self._prepare(looked_up, tables)
        self.forward = self._forward(known, tables)

    def _prepare(self, nodes: list[Node], tables: list[Table]) -> Kernel:
        """What follows from the parameters alone, once after they change."""
        graph, layout = self.graph, self.layout
        prepare, pairs = graph.tape.prepare_kernel(graph.logits), layout.vocab_size * layout.block_size
        compute = graph.tape.forward_kernel(*(nodes or [graph.logits]))

        def decode_prepare(k: Builder, shared: F32s, work: F32s) -> None:
            prepare(k, shared)
            tokens, positions = ((work + layout.about[name]).cast(U32) for name in ("tokens", "positions"))
            for first in k.range(0, pairs, layout.positions) if tables else ():
                rows = k.minimum(pairs - first, layout.positions)
                for t in k.range(rows):
                    tokens[t], positions[t] = (first + t) // layout.block_size, (first + t) % layout.block_size
                compute(k, shared, work, 0, rows)
                for t in k.range(rows):
                    for table in tables:
                        stride = row_stride(table.columns)
                        row, entry = work + (table.value + t * stride), shared + (table.start + (first + t) * stride)
                        for c in vectors(k, table.columns):
                            entry.store(c, row.vector(c, k.width(F32)))

        return Kernel(decode_prepare, real=F32)

    def _forward(self, known: list[Node], tables: list[Table]) -> Kernel:
        layout, rest = self.layout, self.graph.tape.forward_kernel(self.graph.logits, known=known)

        def decode(k: Builder, shared: F32s, work: F32s, start: Int, stop: Int) -> None:
            tokens, positions = ((work + layout.about[name]).cast(U32) for name in ("tokens", "positions"))
            for t in k.range(start, stop) if tables else ():
                pair = tokens[t] * layout.block_size + positions[t]
                for table in tables:
                    stride = row_stride(table.columns)
                    row, entry = work + (table.value + t * stride), shared + (table.start + pair * stride)
                    for c in vectors(k, table.columns):
                        row.store(c, entry.vector(c, k.width(F32)))
            rest(k, shared, work, start, stop)

        return Kernel(decode, real=F32)


def _known(graph: Graph) -> list[Node]:
    """The results that follow from a row's token and position; what else it depends on is kept by line."""
    given = {graph.about("tokens"), graph.about("positions"), *graph.tape.parameters()}
    for node in graph.tape.order(graph.logits):
        if node.operation and node.shape.rows is None and given.issuperset(node.inputs):
            given.add(node)
    return [node for node in graph.tape.nodes if node.operation and node in given]
