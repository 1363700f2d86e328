"""A model on an engine's tape: its inputs and outputs, and where each parameter and stage lies.

`exact_graph` is for the exact engine, `fast_graph` for the rows of the fast one. Not here: the forward pass
(`models/`), how it becomes a tape (`rewrites.py`), training.
"""

from __future__ import annotations

from functools import cached_property

from tapegpt.autograd.operations.base import Batch, row_stride
from tapegpt.autograd.operations.embedding import Embedding
from tapegpt.autograd.packing import Packer
from tapegpt.autograd.places import Place, Places
from tapegpt.autograd.rewrites import EXACT, ROWS, Rewriting
from tapegpt.autograd.tape import Tape
from tapegpt.machine.language import F32, Builder, Kernel, Number, Operand, Pointer, Value
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tapegpt.autograd.model import Model
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.rewrites import Rule
    from tapegpt.engines.compiled import Documents
    from tapegpt.machine.target import Target

SLOTS = 64  # strings that are generated in a batch


def exact_graph(model: Model, vocab_size: int, target: Target | None = None) -> Graph:
    """The tape of a model in f64, for one document."""
    return Graph(model, vocab_size, Tape(model.block_size, target), EXACT, None)


def fast_graph(
    model: Model, vocab_size: int, rows: int = 0, target: Target | None = None, *, cached: bool = False
) -> Graph:
    """The tape of a model in f32, for documents one after the other, or (`cached`) the next token of strings."""
    from tapegpt.autograd.fast_rewrites import FAST

    lines = (rows or SLOTS) if cached else 0
    rows = rows or (ROWS if cached else max(model.block_size, ROWS))
    return Graph(model, vocab_size, Tape(rows, target, F32), FAST, Batch(rows, model.block_size, lines))


class Layout(Record):
    """What kernels know of a graph: its sizes, and the offsets of its nodes in the work of a run."""

    positions: int  # rows of a run, at most
    lines: int  # strings that are generated at once, 0 where there is no cache
    block_size: int
    vocab_size: int
    about: dict[str, int]  # nodes about the rows, by name
    logits: int
    loss: int  # -1 where there is none
    looked_up: tuple[int, ...]  # ids by which the rows of the sparse parameter are chosen
    sparse_columns: int


class Graph:
    """The tape of a model; its outputs are `logits` (T, V) and, except for decoding, `loss` (1, 1)."""

    def __init__(self, model: Model, vocab_size: int, tape: Tape, rules: Sequence[Rule], batch: Batch | None) -> None:
        self.block_size, self.vocab_size, self.tape = model.block_size, vocab_size, tape
        self._lines = batch.lines if batch else 0
        recorded = model.record(vocab_size)
        cached = batch is not None and batch.cached
        names = ["tokens", "positions", *(["lines"] if cached else ["targets", *(["ends"] if batch else [])])]
        if recorded.tape.noise:
            names.append("noise")
        about = {name: tape.indices(name) for name in names}
        if batch and not cached:
            about["share"] = tape.input("share", 1, 1)
        outputs = [recorded.logits] if cached else [recorded.logits, recorded.loss]
        self._about, self._has_loss = about, not cached
        rewriting = Rewriting(recorded.tape, outputs, tape, rules, about, batch)
        self.logits = rewriting.input(recorded.logits)
        if not cached:
            self.loss = rewriting.input(recorded.loss)
        self.names = [node.name for node in recorded.tape.parameters()]  # in the order of the recording
        self.parameters, self.stages, self.units = rewriting.parameters, rewriting.stages, rewriting.units
        self.sparse = next((node for node in tape.parameters() if node.sparse), None)
        self.looked_up = _ids(tape, self.sparse)

    def about(self, name: str) -> Node:
        """A node about the rows: tokens, positions, targets, ends, share, lines or noise."""
        return self._about[name]

    def layout(self) -> Layout:
        """Where the nodes lie."""
        self.tape.plan()
        return Layout(
            self.tape.positions,
            self._lines,
            self.block_size,
            self.vocab_size,
            {name: node.value for name, node in self._about.items()},
            self.logits.value,
            self.loss.value if self._has_loss else -1,
            tuple(node.value for node in self.looked_up),
            self.sparse.shape.columns if self.sparse else 0,
        )

    @cached_property
    def prepare(self) -> Kernel:
        """The loss's `Tape.prepare_kernel`: one for all that call it, so that the key of the code is found sooner."""
        return self.tape.prepare_kernel(self.loss)

    @cached_property
    def forward(self) -> Kernel:
        """The loss's `Tape.forward_kernel`."""
        return self.tape.forward_kernel(self.loss)

    @cached_property
    def places(self) -> Places:
        """Where the parameters lie."""
        self.tape.plan()
        places = {}
        for name in self.names:
            node, rows, columns = (getattr(self.parameters[name], field) for field in ("node", "rows", "columns"))
            matrix = (node.value, node.shape.rows or 0, row_stride(node.shape.columns))
            places[name] = Place(*matrix, rows, columns, node.fixed, node.is_dense)
        return Places(self.tape.real.size, places)


def _ids(tape: Tape, table: Node | None) -> list[Node]:
    """The nodes of ids by which embeddings look up rows of a table."""
    embeddings = [node.inputs for node in tape.nodes if isinstance(node.operation, Embedding)]
    pairs = [pair for inputs in embeddings for pair in zip(inputs[0::2], inputs[1::2], strict=True)]
    return [ids for looked_in, ids in pairs if looked_in is table]


# --- what goes in -----------------------------------------------------------------------------------------------------


class DocumentPacker(Packer):
    """Documents, cut to the block; number i is document `number_of(i)`."""

    def __init__(
        self,
        k: Builder,
        layout: Layout,
        work: Pointer,
        documents: Documents,
        number_of: Callable[[Operand], Operand] = lambda example: example,
    ) -> None:
        super().__init__(k, work, layout.positions, layout.about)
        self._documents, self._block, self._number_of = documents, layout.block_size, number_of

    def length(self, example: Operand) -> Value:
        """Positions of a document."""
        number = self._k.value(self._number_of(example))
        starts = self._documents.starts
        return self._k.minimum(starts[number + 1] - starts[number], self._block)

    def begin(self, example: Operand, first: Operand, end: Value) -> Callable[[Value], Mapping[str, Number]]:
        """Its tokens, and those that follow."""
        ids = self._documents.ids
        start = self._documents.starts[self._number_of(example)] - first
        return lambda row: {"tokens": ids[start + row], "targets": ids[start + row + 1]}
