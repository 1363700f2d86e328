"""A model as an ONNX graph in f32: `tokens` (T) in, `logits` (T, V) out, for any T up to the block.

Read off the model's recording, so that models of the user's own are exported too, made of the operations of `_FORMS`.
Each operation is here what it is in the ONNX operators of opset 20; dropout is nothing. What the logits are of is in
the file's metadata: the tokens by their ids, BOS, the block. Not here: generation, which whoever runs the graph does.
"""

from __future__ import annotations

import math
import sys
from array import array

from tapegpt.autograd.operations.attention.exact import Attention
from tapegpt.autograd.operations.columns import Columns
from tapegpt.autograd.operations.dropout import Dropout
from tapegpt.autograd.operations.elementwise import Elementwise
from tapegpt.autograd.operations.embedding import Embedding
from tapegpt.autograd.operations.gru import GRU
from tapegpt.autograd.operations.layer_norm import LayerNorm
from tapegpt.autograd.operations.linear import Linear
from tapegpt.autograd.operations.ngrams import MULTIPLIER, NGrams
from tapegpt.autograd.operations.reductions import Max, Mean, Sum
from tapegpt.autograd.operations.rmsnorm import EPSILON, RMSNorm
from tapegpt.autograd.operations.rotary import BASE, Rotary
from tapegpt.autograd.operations.shift import Shift
from tapegpt.autograd.operations.softmax import LogSoftmax, Softmax
from tapegpt.autograd.operations.transpose import Transpose
from tapegpt.errors import TapeGPTError, missing
from tapegpt.ranges import are_finite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from tapegpt.autograd.node import Node
    from tapegpt.models.trained import GPT

    Form = Callable[["Graph", Any, list[str]], str]

OPSET = 20  # the first with Gelu


def export(model: GPT) -> bytes:
    """The ONNX file; raises `TapeGPTError` where the package onnx is missing, and for an operation unknown here."""
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise missing("onnx", "onnx") from None
    if model.models:
        raise TapeGPTError("an ensemble is no single graph: export each of its models")
    recorded = model.config.record(model.vocab_size)
    graph = Graph(helper)
    names = {recorded.tokens: "tokens", recorded.positions: graph.positions}
    for node in recorded.tape.order(recorded.logits):
        if node.is_parameter:
            names[node] = graph.numbers(model.parameters[node.name], node.shape.rows or 0, node.shape.columns)
        elif node.operation:
            names[node] = _form(node)(graph, node, [names[each] for each in node.inputs if each in names])
    graph.add("Identity", names[recorded.logits], name="logits")
    made = helper.make_graph(
        graph.nodes,
        type(model.config).__name__,
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["T"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["T", model.vocab_size])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    oldest = helper.find_min_ir_version_for(opsets)
    file = helper.make_model(made, opset_imports=opsets, ir_version=oldest, producer_name="tapegpt")
    helper.set_model_props(file, _metadata(model))
    written: bytes = file.SerializeToString()
    return written


def _metadata(model: GPT) -> dict[str, str]:
    from json import dumps

    vocabulary = model.vocabulary
    about = {
        "tokens": vocabulary.names,
        "bos": vocabulary.bos,
        "block_size": model.config.block_size,
        "rule": vocabulary.rule,
        "labels": vocabulary.labels,
    }
    return {name: dumps(value) for name, value in about.items()}


class Graph:
    """Operators and constants of a graph, which are numbered; each method returns a name."""

    def __init__(self, helper: Any) -> None:
        self._helper = helper
        self._made: dict[tuple[Any, ...], str] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """An operator's result."""
        name = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def numbers(self, values: Iterable[float], *shape: int) -> str:
        """A constant in f32; raises `TapeGPTError` for a number that overflows there."""
        given = array("d", values)
        single = array("f", given)
        if are_finite(given) and not are_finite(single):
            raise TapeGPTError(f"{max(given, key=abs)!r} is too large for f32, in which the graph computes")
        return self._constant("f", single, shape)

    def whole(self, *values: int) -> str:
        """A row of whole numbers."""
        return self._constant("q", values, (len(values),))

    def _constant(self, kind: str, values: Iterable[float], shape: tuple[int, ...]) -> str:
        given: array[Any] = array(kind, values)
        if sys.byteorder == "big":
            given.byteswap()
        key = (kind, shape, given.tobytes())
        if key not in self._made:
            self._made[key] = f"constant{len(self.constants)}"
            type_ = {"f": 1, "q": 7}[kind]  # FLOAT and INT64 of the format
            self.constants.append(self._helper.make_tensor(self._made[key], type_, shape, key[2], raw=True))
        return self._made[key]

    def once(self, what: str, make: Callable[[], str]) -> str:
        """What several operations share."""
        if (what,) not in self._made:
            self._made[what,] = make()
        return self._made[what,]

    @property
    def positions(self) -> str:
        """0 to T - 1, (T)."""

        def count() -> str:
            length = self.add("Squeeze", self.add("Shape", "tokens"))
            return self.add("Range", self._constant("q", [0], ()), length, self._constant("q", [1], ()))

        return self.once("positions", count)

    @property
    def mask(self) -> str:
        """0 where position t may look at s, -infinity where it may not, (T, T)."""

        def compare() -> str:
            rows, columns = (self.add("Unsqueeze", self.positions, self.whole(axis)) for axis in (1, 0))
            visible = self.add("GreaterOrEqual", rows, columns)
            return self.add("Where", visible, self.numbers([0.0]), self.numbers([-math.inf]))

        return self.once("mask", compare)

    def gather(self, x: str, indices: Sequence[int], axis: int) -> str:
        """Chosen rows or columns."""
        return self.add("Gather", x, self.whole(*indices), axis=axis)


# --- operations -----------------------------------------------------------------------------------------------------


def _form(node: Node) -> Form:
    form = _FORMS.get(type(node.operation))
    if form is None:
        raise TapeGPTError(f"{node!r}: the operation {node.operation} has no form in ONNX: leave it out of the model")
    return form


def _elementwise(graph: Graph, node: Node, inputs: list[str]) -> str:
    operation: Any = node.operation
    name, constants = operation.name, [graph.numbers([each]) for each in operation.constants]
    if name == "silu":
        return graph.add("Mul", inputs[0], graph.add("Sigmoid", inputs[0]))
    attributes = {"approximate": "tanh"} if name == "gelu" else {}
    return graph.add(_FUNCTIONS[name], *inputs, *constants, **attributes)


_FUNCTIONS = {
    "add": "Add",
    "mul": "Mul",
    "maximum": "Max",
    "pow": "Pow",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "silu": "",
    "gelu": "Gelu",
}


def _attention(graph: Graph, node: Node, inputs: list[str]) -> str:
    operation: Any = node.operation
    heads, columns = operation.n_head, node.shape.columns
    apart = graph.whole(-1, heads, columns // heads)

    def turned(x: str, *order: int) -> str:
        return graph.add("Transpose", graph.add("Reshape", x, apart), perm=order)

    q, k, v = turned(inputs[0], 1, 0, 2), turned(inputs[1], 1, 2, 0), turned(inputs[2], 1, 0, 2)
    scaled = graph.add("Mul", graph.add("MatMul", q, k), graph.numbers([(columns // heads) ** -0.5]))  # (H, T, T)
    weights = graph.add("Softmax", graph.add("Add", scaled, graph.mask), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, v), perm=[1, 0, 2])
    return graph.add("Reshape", mixed, graph.whole(-1, columns))


def _rmsnorm(graph: Graph, node: Node, inputs: list[str]) -> str:
    (x,) = inputs
    mean_square = graph.add("ReduceMean", graph.add("Mul", x, x), graph.whole(1))
    return graph.add("Div", x, graph.add("Sqrt", graph.add("Add", mean_square, graph.numbers([EPSILON]))))


def _layer_norm(graph: Graph, node: Node, inputs: list[str]) -> str:
    (x,) = inputs
    return _rmsnorm(graph, node, [graph.add("Sub", x, graph.add("ReduceMean", x, graph.whole(1)))])


def _columns(graph: Graph, node: Node, inputs: list[str]) -> str:
    operation: Any = node.operation
    every = graph.add("Concat", *inputs, axis=1) if len(inputs) > 1 else inputs[0]
    width = sum(each.shape.columns for each in node.inputs)
    return every if operation.sources == tuple(range(width)) else graph.gather(every, operation.sources, 1)


def _shift(graph: Graph, node: Node, inputs: list[str]) -> str:
    operation: Any = node.operation
    zeros = graph.numbers(array("f", bytes(4 * operation.n * node.shape.columns)), operation.n, node.shape.columns)
    return graph.add("Slice", graph.add("Concat", zeros, *inputs, axis=0), graph.whole(0), graph.whole(-operation.n))


def _reduction(graph: Graph, node: Node, inputs: list[str]) -> str:
    operation: Any = node.operation
    axes = [0, 1] if operation.axis is None else [operation.axis]
    return graph.add(f"Reduce{operation.name.capitalize()}", *inputs, graph.whole(*axes))


def _rotary(graph: Graph, node: Node, inputs: list[str]) -> str:
    operation: Any = node.operation
    x, positions = inputs
    columns, block = node.shape.columns, node.tape.positions
    head_dim = columns // operation.n_head
    angles = [t * BASE ** (-(c % head_dim // 2 * 2) / head_dim) for t in range(block) for c in range(columns)]
    cosines = graph.numbers(map(math.cos, angles), block, columns)
    signed = (math.sin(angle) * (1 if number % 2 else -1) for number, angle in enumerate(angles))  # columns are even
    sines = graph.numbers(signed, block, columns)
    others = graph.gather(x, [column ^ 1 for column in range(columns)], 1)
    turned = [
        graph.add("Mul", part, graph.add("Gather", table, positions)) for part, table in ((x, cosines), (others, sines))
    ]
    return graph.add("Add", *turned)


def _gru(graph: Graph, node: Node, inputs: list[str]) -> str:
    """ONNX has the gates as z, r, n, and multiplies inputs by weights: here those only change places."""
    columns = node.shape.columns
    order = [(gate * columns + c) for gate in (1, 0, 2) for c in range(columns)]
    swap = [float(here == there) for here in order for there in range(3 * columns)]
    x = graph.add("Unsqueeze", inputs[0], graph.whole(1))  # (T, 1, 3 D)
    u = graph.add("Unsqueeze", graph.gather(inputs[1], order, 0), graph.whole(0))  # (1, 3 D, D)
    w = graph.numbers(swap, 1, 3 * columns, 3 * columns)
    rows = graph.add("GRU", x, w, u, hidden_size=columns, linear_before_reset=1)  # (T, 1, 1, D)
    return graph.add("Squeeze", rows, graph.whole(1, 2))


def _ngrams(graph: Graph, node: Node, inputs: list[str]) -> str:
    """The hash of `ngrams.py` in words of 32 bits, whose products are taken by halves: in 64 they would overflow."""
    operation: Any = node.operation
    word, half = (graph.whole(1 << bits) for bits in (32, 16))
    high, low = (graph.whole(part) for part in divmod(MULTIPLIER, 1 << 16))

    def mixed(x: str, y: str) -> str:
        number = graph.add("BitwiseXor", x, y)
        upper = graph.add("Mul", graph.add("Mod", graph.add("Mul", number, high), half), half)
        return graph.add("Mod", graph.add("Add", upper, graph.add("Mul", number, low)), word)

    before = graph.whole(*[operation.bos] * (operation.n - 1))
    tokens = graph.add("Concat", before, *inputs, axis=0) if operation.n > 1 else inputs[0]
    ngram = graph.whole(0)
    for back in range(operation.n):
        ends = [graph.whole(operation.n - 1 - back), graph.whole(-back if back else sys.maxsize)]
        ngram = mixed(graph.add("Slice", tokens, *ends), ngram)
    ngram = mixed(ngram, graph.add("Div", ngram, graph.whole(1 << 15)))
    return graph.add("Div", graph.add("Mul", ngram, graph.whole(operation.rows)), word)


_FORMS: dict[type[object], Form] = {
    Attention: _attention,
    Columns: _columns,
    Dropout: lambda graph, node, inputs: inputs[0],
    Elementwise: _elementwise,
    Embedding: lambda graph, node, inputs: graph.add("Gather", *inputs),
    GRU: _gru,
    LayerNorm: _layer_norm,
    Linear: lambda graph, node, inputs: graph.add("Gemm", *inputs[:2], transB=1),
    LogSoftmax: lambda graph, node, inputs: graph.add("LogSoftmax", *inputs, axis=1),
    Max: _reduction,
    Mean: _reduction,
    NGrams: _ngrams,
    RMSNorm: _rmsnorm,
    Rotary: _rotary,
    Shift: _shift,
    Softmax: lambda graph, node, inputs: graph.add("Softmax", *inputs, axis=1),
    Sum: _reduction,
    Transpose: lambda graph, node, inputs: graph.add("Transpose", *inputs),
}
