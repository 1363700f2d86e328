"""The tape: operations recorded once, laid out in one arena, walked forwards and backwards by machine code.

    tape = Tape()
    x = tape.parameter("x", 1, 1)
    y = (x * x + 3.0).exp()
    tape.write(x, [0.5])
    tape.forward(y)                          # [[25.79...]]
    tape.backward(y)
    tape.gradient(x)                         # [[25.79...]]: dy/dx = 2 x y

Every value and gradient has its offset before the first run; nothing is allocated and no bound is checked while it
runs: what could go wrong is refused where it is recorded or written. A node is a matrix of f64, its rows fixed or one
for each position of the run. Gradients accumulate operation by operation in the reverse of the depth-first post-order
that `Value.backward` takes, and within an operation as microgpt.py's scalars do (docs/exactness.md says where that is
the same to the bit). The fast engine records operations of its own (`operations/fast/`), with f32 for numbers. Not
here: the operations' mathematics, training.

Three regions of memory: what all runs share (parameters, and what follows from them), the gradients of the parameters,
and the work of one run (everything else). Threads have one of the second and third each.
"""

from __future__ import annotations

from array import array
from math import isfinite
from operator import index as whole

from tapegpt.errors import TapeGPTError, is_whole, shown
from tapegpt.machine.language import F32, F64, U32, Builder, Int, Kernel, Pointer, Reals, Type
from tapegpt.machine.memory import Memory
from tapegpt.machine.program import Program
from tapegpt.machine.target import Target
from tapegpt.operations.attention import Attention
from tapegpt.operations.base import Operation, Scratch, Shape, Slot, clear, padded
from tapegpt.operations.cross_entropy import CrossEntropy
from tapegpt.operations.elementwise import Elementwise, Sum
from tapegpt.operations.embedding import Embedding, Positions
from tapegpt.operations.linear import Linear
from tapegpt.operations.rmsnorm import RMSNorm
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tapegpt.machine.language import Number
    from tapegpt.machine.memory import Address
    from tapegpt.machine.program import Entries

MAX_ARENA = 8 << 30  # bytes
_LARGEST = (2.0 - 2.0**-23) * 2.0**127  # f32
GROUP = 64  # optimisers take so many parameters at a time


class Node:
    """A matrix on the tape: a parameter, an input, or what an operation gives. Offsets count numbers of its region."""

    __slots__ = (
        "bound",
        "gradient",
        "index",
        "inputs",
        "is_parameter",
        "kept",
        "name",
        "operation",
        "prepared",
        "shape",
        "taken",
        "tape",
        "uses",
        "value",
    )

    def __init__(
        self, tape: Tape, name: str, shape: Shape, operation: Operation | None, inputs: tuple[Node, ...]
    ) -> None:
        self.tape, self.name, self.shape, self.operation, self.inputs = tape, name, shape, operation, inputs
        self.is_parameter = False
        self.bound = 1 << 32  # token ids must be below it
        self.index = -1
        self.uses, self.taken = 0, False  # taken: one of them leaves no place for others after it
        self.value = self.prepared = self.kept = -1
        self.gradient = -1  # -1: needs none

    def __add__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return self.tape.record(Elementwise("add"), self, other)
        return self.tape.record(Elementwise("shift", _number(other, self, "what is added")), self)

    def __mul__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return self.tape.record(Elementwise("mul"), self, other)
        return self.tape.record(Elementwise("scale", _number(other, self, "a factor")), self)

    def __pow__(self, exponent: float) -> Node:
        return self.tape.record(Elementwise("pow", _number(exponent, self, "an exponent")), self)

    def __neg__(self) -> Node:
        return self * -1.0

    def __sub__(self, other: Node | float) -> Node:
        if not isinstance(other, Node):
            _number(other, self, "what is subtracted")
        return self + (-other)

    def __truediv__(self, other: Node | float) -> Node:
        if not isinstance(other, Node):
            _number(other, self, "a divisor")
        try:
            return self * other**-1.0
        except ArithmeticError:
            raise TapeGPTError(f"{self!r}: the inverse of {other!r} is beyond the largest number") from None

    def __radd__(self, other: float) -> Node:
        return self + other

    def __rsub__(self, other: float) -> Node:
        return -self + other

    def __rmul__(self, other: float) -> Node:
        return self * other

    def __rtruediv__(self, other: float) -> Node:
        return self**-1.0 * other

    def exp(self) -> Node:
        """e to the power of each number."""
        return self.tape.record(Elementwise("exp"), self)

    def log(self) -> Node:
        """Natural logarithm of each number."""
        return self.tape.record(Elementwise("log"), self)

    def relu(self) -> Node:
        """Each number where it is positive, else zero."""
        return self.tape.record(Elementwise("relu"), self)

    def sum(self) -> Node:
        """Sum of all numbers, (1, 1)."""
        return self.tape.record(Sum(), self)

    def __repr__(self) -> str:
        return f"%{self.index} {self.shape} {self.operation or self.name}"


class Extents(Record):
    """Numbers in each region, multiples of `GROUP`."""

    shared: int
    gradients: int
    work: int


class Tape:
    """Records operations on numbers of the type `real`; `positions` is the most rows that a run can have.

    One thread at a time may use a tape: what one writes, another's run would read. Threads with a tape each are free.
    """

    def __init__(self, positions: int = 1, target: Target | None = None, real: Type = F64) -> None:
        if not is_whole(positions) or not 1 <= positions <= MAX_ARENA:
            raise TapeGPTError(f"a tape needs at least 1 position, a whole number, not {shown(positions)}")
        if not isinstance(target, Target | None) or real not in (F64, F32):
            raise TapeGPTError(f"a tape is for a Target and f64 or f32, not {shown(target)} and {shown(real)}")
        self.positions, self.real = positions, real
        self.nodes: list[Node] = []
        self._target = target
        self._arena: Memory | None = None
        self._extents: Extents | None = None
        self._laid: list[_Laid] = []  # the nodes as they are laid out; kernels hold them, so they stay the same objects
        self._programs: dict[int, Program] = {}
        self._computed: set[int] = set()  # nodes that are what the numbers written last make of them,
        self._count = 0  # for so many positions
        self._differentiated = 0  # positions of the last backward

    # --- recording ----------------------------------------------------------------------------------------------

    def parameter(self, name: str, rows: int, columns: int) -> Node:
        """A matrix that gathers gradients."""
        if any(name == node.name for node in self.parameters()):
            raise TapeGPTError(f"parameter {shown(name)}: there is one of this name")
        node = self._named(name, Shape(_size(name, "rows", rows), _size(name, "columns", columns)))
        node.is_parameter = True
        return node

    def input(self, name: str, columns: int, rows: int | None = None) -> Node:
        """Numbers from outside, without a gradient; `rows` None is one row for each position."""
        fixed = None if rows is None else _size(name, "rows", rows)
        return self._named(name, Shape(fixed, _size(name, "columns", columns)))

    def indices(self, name: str) -> Node:
        """A token id for each position, from outside."""
        return self._named(name, Shape(None, 1, index=True))

    def embedding(self, table: Node, ids: Node) -> Node:
        """Row `ids[t]` of the table for position t: (T, columns of the table)."""
        return self.record(Embedding(), table, ids)

    def position_embedding(self, table: Node) -> Node:
        """Row t of the table for position t: (T, columns of the table)."""
        return self.record(Positions(self.positions), table)

    def linear(self, x: Node, w: Node, last: Node | None = None) -> Node:
        """x W^T: (T, rows of W). `last` names the column whose share of x's gradient is added last."""
        return self.record(Linear(), x, w, *([] if last is None else [last]))

    def rmsnorm(self, x: Node) -> Node:
        """Each row divided by its root mean square."""
        return self.record(RMSNorm(), x)

    def attention(self, qkv: Node, n_head: int) -> Node:
        """Causal self-attention on (T, 3 D), the columns q, k, v of head 0, then of head 1 and so on: (T, D)."""
        return self.record(Attention(n_head), qkv)

    def cross_entropy(self, logits: Node, targets: Node) -> Node:
        """Mean of -log(softmax(logits)[target]): (1, 1)."""
        return self.record(CrossEntropy(), logits, targets)

    def record(self, operation: Operation, *inputs: Node) -> Node:
        """Append an operation; raises `TapeGPTError` where the inputs do not fit."""
        shape, bounds = self._checked(operation, inputs)
        result = self._append(Node(self, "", shape, operation, inputs))
        for place, (node, bound) in enumerate(zip(inputs, bounds, strict=True)):
            node.uses += 1
            node.taken |= place in (*operation.sets, *operation.passes)
            node.bound = min(node.bound, bound or node.bound)
        return result

    def _checked(self, operation: Operation, inputs: tuple[Node, ...]) -> tuple[Shape, list[int]]:
        """The result's shape, and what token ids in each input must be below, 0 for numbers."""
        if not isinstance(operation, Operation):
            raise TapeGPTError(f"a tape records an Operation, not {shown(operation)}")
        what = operation.name
        for node in inputs:
            self._own(node, what)
        if operation.real is not self.real:
            raise TapeGPTError(f"{what}: works on {operation.real}, and this tape's numbers are {self.real}")
        if operation.takes and len(inputs) not in operation.takes:
            raise TapeGPTError(f"{what}: takes {' or '.join(map(str, operation.takes))} nodes, not {len(inputs)}")
        shapes = [node.shape for node in inputs]
        try:
            shape = operation.shape(*shapes)
        except TapeGPTError as error:
            raise TapeGPTError(f"{error}: {', '.join(map(repr, inputs))}") from None
        bounds = [operation.index_bound(place, *shapes) for place in range(len(inputs))]
        for node, bound in zip(inputs, bounds, strict=True):
            if node.shape.index != bool(bound):
                raise TapeGPTError(f"{what}: takes {'token ids' if bound else 'numbers'}, not {node!r}")
        for place, node in enumerate(inputs):
            alone = not node.is_parameter and inputs.count(node) + node.uses == 1
            if node.taken or (place in operation.sets and not alone):
                raise TapeGPTError(f"{what}: {node!r} has another use, and one of the two sets its gradient")
            if node.operation and node.operation.activation and place not in operation.unwinds:
                raise TapeGPTError(f"{what}: does not differentiate the activation of {node!r}")
        for place in operation.passes:
            self._check_passing(operation, inputs[place], inputs)
        return shape, bounds

    def _check_passing(self, operation: Operation, node: Node, inputs: tuple[Node, ...]) -> None:
        """The result's gradient becomes the node's where all else that uses the node comes before the result."""
        before = self._order(*inputs)
        if node.is_parameter or inputs.count(node) > 1 or node.uses > sum(each.inputs.count(node) for each in before):
            raise TapeGPTError(f"{operation.name}: {node!r} is used beside it, and its gradient is passed on as it is")

    def _own(self, node: Node, what: str) -> None:
        if not isinstance(node, Node) or node.tape is not self:
            whose = f"{node!r} of another tape" if isinstance(node, Node) else shown(node)
            raise TapeGPTError(f"{what}: needs nodes recorded on this tape, not {whose}")

    def _named(self, name: str, shape: Shape) -> Node:
        if not isinstance(name, str):
            raise TapeGPTError(f"a parameter or input has a name, not {shown(name)}")
        return self._append(Node(self, name, shape, None, ()))

    def _append(self, node: Node) -> Node:
        if self._arena:
            what = "the tape has run" if self._count else "the tape holds numbers"
            raise TapeGPTError(f"{node.name or node.operation}: {what}: record everything before")
        node.index = len(self.nodes)
        self._extents = None
        self.nodes.append(node)
        return node

    # --- layout -------------------------------------------------------------------------------------------------

    def rows(self, node: Node) -> int:
        """Rows in memory."""
        self._own(node, "rows")
        return node.shape.count(self.positions)

    def extent(self, node: Node) -> int:
        """Numbers of a parameter in memory, padding included."""
        return _grouped(self._extent(node))

    def _extent(self, node: Node) -> int:
        if node.shape.index:
            return padded(-(-4 * self.rows(node) // self.real.size))
        return self.rows(node) * padded(node.shape.columns)

    def parameters(self) -> list[Node]:
        """The parameters, in the order of recording."""
        return [node for node in self.nodes if node.is_parameter]

    def plan(self) -> Extents:
        """Give every node its offsets, at the first call; the size of each region."""
        if self._extents is None:
            self._extents = self._planned()
            self._laid += [_Laid() for _ in self.nodes[len(self._laid) :]]
            for node, laid in zip(self.nodes, self._laid, strict=True):
                laid.index, laid.shape, laid.is_parameter = node.index, node.shape, node.is_parameter
                laid.operation, laid.inputs = node.operation, [self._laid[i.index] for i in node.inputs]
                laid.rows, laid.extent = self.rows(node), self._extent(node)
                laid.value, laid.gradient = node.value, node.gradient
                laid.prepared, laid.kept = node.prepared, node.kept
                laid.is_early = node.operation is not None and _is_early(node)
                laid.has_heir = _heir(node) is not None
            check_size(self.real.size * sum(self._extents.as_dict().values()))
        return self._extents

    def _planned(self) -> Extents:
        shared = work = 0
        for node in self.parameters():
            node.value = node.gradient = shared
            shared += self.extent(node)
        gradients = shared
        for node in self.nodes:
            if not node.is_parameter:
                node.value, work = work, work + self._extent(node)
            if not node.operation:
                continue
            shapes = [i.shape for i in node.inputs]
            prepared = padded(node.operation.prepared(*shapes))
            if _is_early(node):
                node.prepared, shared = shared, shared + prepared
            else:
                node.prepared, work = work, work + prepared
            node.kept, work = work, work + padded(node.operation.kept(self.positions, *shapes))
            heir = _heir(node)
            if heir:
                node.gradient = heir.gradient
            elif any(i.gradient >= 0 for i in node.inputs):
                node.gradient, work = work, work + self._extent(node)
        return Extents(_grouped(shared), gradients, _grouped(work))

    def parameter_extent(self) -> int:
        """Numbers of all parameters, each padded to a multiple of `GROUP`: they are the first in their region."""
        return self.plan().gradients

    @property
    def arena(self) -> Memory:
        """The memory of all regions, one after the other, zeroed at first use."""
        if self._arena is None:
            self._arena = Memory(self.real.size * sum(self.plan().as_dict().values()))
        return self._arena

    def regions(self) -> list[Address]:
        """Where the three regions of the arena start."""
        extents = self.plan()
        starts = (0, extents.shared, extents.shared + extents.gradients)
        return [self.arena.at(self.real.size * start) for start in starts]

    def _value_at(self, node: Node) -> int:
        """Offset of a node's numbers in the arena."""
        self._own(node, "numbers")
        extents = self.plan()
        return node.value if node.is_parameter else extents.shared + extents.gradients + node.value

    def _gradient_at(self, node: Node) -> int:
        self._own(node, "gradient")
        extents = self.plan()
        return extents.shared + node.gradient + (0 if node.is_parameter else extents.gradients)

    def show(self) -> str:
        """The recorded graph, a line each: node, shape, offsets of value and gradient, operation, inputs."""
        rows = [("node", "shape", "value", "gradient", "operation", "inputs")]
        for node in self.nodes:
            value = str(self._value_at(node))
            gradient = str(self._gradient_at(node)) if node.gradient >= 0 else "-"
            kind = "parameter" if node.is_parameter else "input"
            what = str(node.operation) if node.operation else f"{kind} {node.name}"
            inputs = " ".join(f"%{i.index}" for i in node.inputs)
            rows.append((f"%{node.index}", str(node.shape), value, gradient, what, inputs))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        size = self.real.size * sum(self.plan().as_dict().values())
        total = f"{self.positions} position{'s' if self.positions > 1 else ''} of {self.real}, {size:,} bytes"
        return "\n".join([*lines, total])

    # --- code ---------------------------------------------------------------------------------------------------

    def _order(self, *outputs: Node) -> list[Node]:
        """The nodes that outputs depend on, in depth-first post-order, as `Value.backward` sorts its numbers."""
        order: list[Node] = []
        visited: set[int] = set()
        stack = [(output, False) for output in reversed(outputs)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                order.append(node)
            elif node.index not in visited:
                visited.add(node.index)
                stack.append((node, True))
                stack.extend((i, False) for i in reversed(node.inputs))
        return order

    def _laid_order(self, output: Node) -> list[_Laid]:
        self._own(output, "a kernel")
        self.plan()
        return [self._laid[node.index] for node in self._order(output)]

    def prepare_kernel(self, output: Node) -> Kernel:
        """`(shared)`: what depends on parameters alone, once after they change."""
        order = self._laid_order(output)

        def tape_prepare(k: Builder, shared: Reals) -> None:
            run = _Run(shared, None, shared)
            for node in order:
                if node.operation and node.is_early:
                    run.prepare(k, node, node.operation)

        return Kernel(tape_prepare, f"prepare.{output.index}", self.real)

    def forward_kernel(self, output: Node) -> Kernel:
        """`(shared, work, start, stop)`: the output and all before it, for the positions start to stop."""
        order = self._laid_order(output)

        def tape_forward(k: Builder, shared: Reals, work: Reals, start: Int, stop: Int) -> None:
            run = _Run(shared, None, work, start, stop)
            for node in order:
                if node.operation:
                    run.forward(k, node, node.operation)

        return Kernel(tape_forward, f"forward.{output.index}", self.real)

    def backward_kernel(self, output: Node, accumulate: bool = False) -> Kernel:
        """`(shared, gradients, work, stop)`: gradients of a (1, 1) output for the positions 0 to stop, in reverse.

        The gradients of the parameters are set, or added to where they `accumulate`.
        """
        order, nodes = self._laid_order(output), self._laid

        def tape_backward(k: Builder, shared: Reals, gradients: Reals, work: Reals, stop: Int) -> None:
            run = _Run(shared, gradients, work, 0, stop)
            run.gradient(order[-1])[0] = 1.0
            run.written.add(order[-1].index)
            if accumulate:
                run.written.update(node.index for node in nodes if node.is_parameter)
            for node in reversed(order):
                if node.operation and node.gradient >= 0:
                    run.backward(k, node, node.operation)
            for node in nodes:  # what the output does not depend on has no slope
                if node.gradient >= 0 and node.index not in run.written and not node.has_heir:
                    clear(k, run.gradient(node), node.extent)

        return Kernel(tape_backward, f"backward.{output.index}", self.real)

    def kernels(self, node: Node, output: Node, *, accumulate: bool = False) -> dict[str, Kernel]:
        """Those of a node's operation alone, as they are on the way to an output and back.

        `prepare(shared)` where it has one, `forward(shared, work, stop)`, `backward(shared, gradients, work, stop)`.
        """
        operation = node.operation
        assert operation
        self.plan()
        laid, order = self._laid[node.index], self._order(output)
        after = {i.index for later in order[order.index(node) + 1 :] for i in later.inputs}
        written = {output.index, *after, *(each.index for each in self.parameters() if accumulate)}

        def prepare(k: Builder, shared: Reals) -> None:
            _Run(shared, None, shared).prepare(k, laid, operation)

        def forward(k: Builder, shared: Reals, work: Reals, stop: Int) -> None:
            _Run(shared, None, work, 0, stop).forward(k, laid, operation)

        def backward(k: Builder, shared: Reals, gradients: Reals, work: Reals, stop: Int) -> None:
            run = _Run(shared, gradients, work, 0, stop)
            run.written.update(written)
            run.backward(k, laid, operation)

        bodies: list[Callable[..., None]] = [forward, backward]
        if operation.prepared(*[i.shape for i in node.inputs]) and laid.is_early:
            bodies.insert(0, prepare)
        return {body.__name__: Kernel(body, f"{body.__name__}.{operation.name}", self.real) for body in bodies}

    # --- running ------------------------------------------------------------------------------------------------

    def _program(self, output: Node) -> Program:
        if output.index not in self._programs:
            entries: Entries = {
                "prepare": (self.prepare_kernel(output), {}),
                "forward": (self.forward_kernel(output), {}),
            }
            if output.gradient >= 0 and output.shape == Shape(1, 1):
                entries["backward"] = (self.backward_kernel(output), {})
            self._programs[output.index] = Program(entries, self._target)
        return self._programs[output.index]

    def forward(self, output: Node, positions: int | None = None) -> list[list[float]]:
        """Run forward; the output's rows. `positions` defaults to the tape's."""
        self._own(output, "forward")
        count = self.positions if positions is None else positions
        if not is_whole(count) or not 1 <= count <= self.positions:
            raise TapeGPTError(f"positions must be from 1 to {self.positions}, not {shown(count)}")
        program = self._program(output)
        shared, _, work = self.regions()
        if count != self._count:
            self._computed.clear()
        self._count = count
        program.run("prepare", shared)
        program.run("forward", shared, work, 0, count)
        self._computed.update(node.index for node in self._order(output))
        return self.read(output)[: output.shape.count(count)]

    def backward(self, output: Node, positions: int | None = None) -> None:
        """Gradients of a (1, 1) output with respect to everything before it, for the positions of its `forward`."""
        self._own(output, "backward")
        if output.shape != Shape(1, 1):
            raise TapeGPTError(f"backward needs an output of shape (1, 1), not {output!r}: use .sum()")
        self.plan()
        if output.gradient < 0:
            raise TapeGPTError(f"backward: the output {output!r} depends on no parameter")
        if output.index not in self._computed:
            raise TapeGPTError(f"backward: run forward of {output!r} first, with the numbers that are written now")
        if positions not in (None, self._count):
            raise TapeGPTError(f"backward: forward ran for {self._count} positions, not {shown(positions)}")
        self._program(output).run("backward", *self.regions(), self._count)
        self._differentiated = self._count

    def write(self, node: Node, numbers: Sequence[float]) -> None:
        """Set a node's numbers, row by row; token ids for an index node. Of a row for each position, the first are
        enough.
        """
        self._own(node, "write")
        if node.operation:
            raise TapeGPTError(f"write: {node!r} is computed: write to parameters and inputs")
        given = _listed(numbers, node)
        columns, rows = node.shape.columns, self.rows(node)
        if not given or len(given) % columns or len(given) > rows * columns:
            raise TapeGPTError(f"{node!r}: {len(given)} numbers do not fill rows of {columns}, {rows} at most")
        if node.shape.rows is not None and len(given) < rows * columns:
            raise TapeGPTError(f"{node!r}: {len(given)} numbers do not fill {rows} rows of {columns}")
        if node.shape.index:
            self._write_ids(node, given)
        else:
            who = repr(node)
            checked = [_number(number, who, "number", place) for place, number in enumerate(given)]
            if self.real is F32 and any(abs(number) > _LARGEST and isfinite(number) for number in checked):
                raise TapeGPTError(f"{node!r}: {max(checked, key=abs)} is too large for f32")
            for row, view in enumerate(self.views(node)[: len(given) // columns]):
                for column in range(columns):
                    view[column] = checked[row * columns + column]
        self._computed.clear()

    def _write_ids(self, node: Node, ids: list[float]) -> None:
        for row, number in enumerate(ids):
            if not _is_id(number, node.bound):
                at = f"{node!r}: row {row} is {shown(number)}"
                raise TapeGPTError(f"{at}: token ids must be from 0 to {node.bound - 1}")
        self._words(node)[: len(ids)] = array("I", [int(number) for number in ids])

    def read(self, node: Node) -> list[list[float]]:
        """A node's numbers, a list for each row."""
        if isinstance(node, Node) and node.shape.index:
            return [[number] for number in self._words(node)]
        return [list(row) for row in self.views(node)]

    def gradient(self, node: Node) -> list[list[float]]:
        """The gradient with respect to a node, a list for each row that took part, after `backward`."""
        offset = self._gradient_at(node)
        if node.gradient < 0:
            raise TapeGPTError(f"{node!r} has no gradient")
        if not self._differentiated:
            raise TapeGPTError(f"gradient of {node!r}: run backward first")
        rows = self._views(node, offset)[: node.shape.count(self._differentiated)]
        return [[number + 0.0 for number in row] for row in rows]  # sums begin with 0.0, so none of them is -0.0

    def views(self, node: Node) -> list[memoryview[float]]:
        """A node's rows in the arena, to read and write; after writing run `forward` again, none looks."""
        start = self._value_at(node)
        if node.shape.index:
            raise TapeGPTError(f"views: {node!r} has token ids, which `write` checks")
        return self._views(node, start)

    def _words(self, node: Node) -> memoryview[int]:
        return self.arena.words(self.real.size * self._value_at(node), self.rows(node))

    def _views(self, node: Node, offset: int) -> list[memoryview[float]]:
        columns, size = node.shape.columns, self.real.size
        starts = [size * (offset + row * padded(columns)) for row in range(self.rows(node))]
        return [self.arena.floats(start, columns, size) for start in starts]


class _Laid:
    """A node as it was laid out: what code is made of. Not its tape: all of it would be in the key of the code."""

    index: int
    shape: Shape
    is_parameter: bool
    operation: Operation | None
    inputs: list[_Laid]
    rows: int
    extent: int
    value: int
    gradient: int
    prepared: int
    kept: int
    is_early: bool
    has_heir: bool


class _Run:
    """The regions of one run while its code is made, and which gradients have been written."""

    def __init__(
        self,
        shared: Pointer,
        gradients: Pointer | None,
        work: Pointer,
        start: Number = 0,
        stop: Number = 0,
    ) -> None:
        self._shared, self._gradients, self._work = shared, gradients, work
        self._start, self._stop = start, stop
        self.written: set[int] = set()

    def prepare(self, k: Builder, node: _Laid, operation: Operation) -> None:
        operation.prepare(k, self._scratch(node), *[self._slot(i) for i in node.inputs])

    def forward(self, k: Builder, node: _Laid, operation: Operation) -> None:
        out, *slots = [self._slot(i) for i in (node, *node.inputs)]
        if not node.is_early:
            operation.prepare(k, self._scratch(node), *slots)
        operation.forward(k, self._scratch(node), out, *slots)

    def backward(self, k: Builder, node: _Laid, operation: Operation) -> None:
        for place in operation.clears:
            table = node.inputs[place]
            if table.gradient >= 0 and table.index not in self.written:
                clear(k, self.gradient(table), table.extent)
                self.written.add(table.index)
        views = {i.index: self._slot(i) for i in (node, *node.inputs)}
        out, *slots = [views[i.index] for i in (node, *node.inputs)]  # one view for an input used twice
        operation.backward(k, self._scratch(node), out, *slots)
        self.written.update(i.index for i in node.inputs)

    def gradient(self, node: _Laid) -> Pointer:
        assert self._gradients is not None
        return (self._gradients if node.is_parameter else self._work) + node.gradient

    def _slot(self, node: _Laid) -> Slot:
        value = (self._shared if node.is_parameter else self._work) + node.value
        fixed = node.shape.rows
        return Slot(
            node.shape,
            node.rows,
            value.cast(U32) if node.shape.index else value,
            self.gradient(node) if self._gradients is not None and node.gradient >= 0 else None,
            node.index not in self.written,
            self._start if fixed is None else 0,
            self._stop if fixed is None else fixed,
            node.operation.activation if node.operation else "",
        )

    def _scratch(self, node: _Laid) -> Scratch:
        prepared = self._shared if node.is_early else self._work
        return Scratch(prepared + node.prepared, self._work + node.kept)


def _is_early(node: Node) -> bool:
    """Whether what its operation prepares follows from parameters alone, and is not made in each run."""
    assert node.operation
    places = node.operation.prepares
    return all(i.is_parameter for place, i in enumerate(node.inputs) if places is None or place in places)


def _heir(node: Node) -> Node | None:
    """The input that the gradient is passed on to."""
    passed = [node.inputs[place] for place in node.operation.passes] if node.operation else []
    return next((i for i in passed if i.gradient >= 0), None)


def _size(name: str, what: str, count: int) -> int:
    if not is_whole(count) or not 1 <= count <= MAX_ARENA:
        raise TapeGPTError(f"{shown(name)}: {what} must be a whole number of at least 1, not {shown(count)}")
    return count


def _number(value: object, whose: object, *what: object) -> float:
    """A number as a float, of NumPy as well; an error says what it is."""
    if not isinstance(value, bool) and hasattr(value, "__float__"):
        try:
            number = float(value)
            if number == value or number != number:  # a float, or what is one exactly
                return number
        except (TypeError, ValueError, OverflowError):
            pass
    raise TapeGPTError(f"{whose}: {' '.join(map(str, what))} must be a number that a float holds, not {shown(value)}")


def _is_id(value: object, bound: int) -> bool:
    try:
        return not isinstance(value, bool) and 0 <= whole(value) < bound  # type: ignore[arg-type]  # it is asked
    except TypeError:
        return False


def _listed(numbers: Iterable[float], node: Node) -> list[float]:
    if not isinstance(numbers, str | bytes):
        try:
            return list(numbers)
        except TypeError:
            pass
    raise TapeGPTError(f"{node!r}: needs its numbers one after the other, not {shown(numbers)}")


def check_size(size: int) -> None:
    """Raise `TapeGPTError` for more bytes of memory than a model may work on."""
    if size > MAX_ARENA:
        raise TapeGPTError(
            f"the model needs {size / 2**30:.1f} GiB of memory, the limit is {MAX_ARENA >> 30} GiB: "
            "choose smaller shapes"
        )


def _grouped(count: int) -> int:
    return -(-count // GROUP) * GROUP
