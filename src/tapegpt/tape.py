"""The tape: operations recorded once, laid out in one arena, walked forwards and backwards by machine code.

    tape = Tape()
    x = tape.parameter("x", 1, 1)
    y = (x * x + 3.0).exp()
    tape.write(x, [0.5])
    tape.forward(y)                          # [[25.79...]]
    tape.backward(y)
    tape.gradient(x)                         # [[25.79...]]: dy/dx = 2 x y

Every value and gradient has its offset before the first run; nothing is allocated and no bound is checked while it
runs. A node is a matrix of f64, its rows fixed or one for each position of the run. Gradients accumulate operation by
operation in reverse, and within an operation as microgpt.py's scalars do. The fast engine records operations of its own
(`operations/fast/`), with f32 for numbers. Not here: the operations' mathematics, training.

Three regions of memory: what all runs share (parameters, and what follows from them), the gradients of the parameters,
and the work of one run (everything else). Threads have one of the second and third each.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError
from tapegpt.machine.language import F64, U32, Builder, Int, Kernel, Pointer, Reals, Type
from tapegpt.machine.memory import Memory
from tapegpt.machine.program import Program
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
    from collections.abc import Callable, Sequence

    from tapegpt.machine.language import Number
    from tapegpt.machine.memory import Address
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target

MAX_ARENA = 8 << 30  # bytes
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
        "tape",
        "value",
    )

    def __init__(
        self, tape: Tape, name: str, shape: Shape, operation: Operation | None, inputs: tuple[Node, ...]
    ) -> None:
        self.tape, self.name, self.shape, self.operation, self.inputs = tape, name, shape, operation, inputs
        self.is_parameter = False
        self.bound = 1 << 32  # token ids must be below it
        self.index = -1
        self.value = self.prepared = self.kept = -1
        self.gradient = -1  # -1: needs none

    def __add__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return self.tape.record(Elementwise("add"), self, other)
        return self.tape.record(Elementwise("shift", float(other)), self)

    def __mul__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return self.tape.record(Elementwise("mul"), self, other)
        return self.tape.record(Elementwise("scale", float(other)), self)

    def __pow__(self, exponent: float) -> Node:
        return self.tape.record(Elementwise("pow", float(exponent)), self)

    def __neg__(self) -> Node:
        return self * -1.0

    def __sub__(self, other: Node | float) -> Node:
        return self + (-other)

    def __truediv__(self, other: Node | float) -> Node:
        return self * other**-1.0

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
    """Records operations on numbers of the type `real`; `positions` is the most rows that a run can have."""

    def __init__(self, positions: int = 1, target: Target | None = None, real: Type = F64) -> None:
        if positions < 1:
            raise TapeGPTError(f"a tape needs at least 1 position, not {positions}")
        self.positions, self.real = positions, real
        self.nodes: list[Node] = []
        self._target = target
        self._arena: Memory | None = None
        self._extents: Extents | None = None
        self._programs: dict[int, Program] = {}

    # --- recording ----------------------------------------------------------------------------------------------

    def parameter(self, name: str, rows: int, columns: int) -> Node:
        """A matrix that gathers gradients."""
        node = self._append(Node(self, name, Shape(rows, columns), None, ()))
        node.is_parameter = True
        return node

    def input(self, name: str, columns: int, rows: int | None = None) -> Node:
        """Numbers from outside, without a gradient; `rows` None is one row for each position."""
        return self._append(Node(self, name, Shape(rows, columns), None, ()))

    def indices(self, name: str) -> Node:
        """A token id for each position, from outside."""
        return self._append(Node(self, name, Shape(None, 1, index=True), None, ()))

    def embedding(self, table: Node, ids: Node) -> Node:
        """Row `ids[t]` of the table for position t: (T, columns of the table)."""
        return self.record(Embedding(), table, ids)

    def position_embedding(self, table: Node) -> Node:
        """Row t of the table for position t: (T, columns of the table)."""
        if table.shape.rows is not None and table.shape.rows < self.positions:
            raise TapeGPTError(f"positions: {self.positions} positions need as many rows, not {table.shape.rows}")
        return self.record(Positions(), table)

    def linear(self, x: Node, w: Node, last: Node | None = None) -> Node:
        """x W^T: (T, rows of W). `last` names the column whose share of x's gradient is added last."""
        if w.operation:
            raise TapeGPTError(f"linear: W must be a parameter or an input, which are there before a run, not {w!r}")
        return self.record(Linear(), x, w, *([last] if last else []))

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
        """Append an operation; raises `TapeGPTError` where the shapes do not fit."""
        if any(node.tape is not self for node in inputs):
            raise TapeGPTError(f"{operation.name}: all inputs must be recorded on this tape")
        shapes = [node.shape for node in inputs]
        shape = operation.shape(*shapes)
        for place, node in enumerate(inputs):
            if node.shape.index:
                node.bound = min(node.bound, operation.index_bound(place, *shapes))
        return self._append(Node(self, "", shape, operation, inputs))

    def _append(self, node: Node) -> Node:
        if self._arena:
            raise TapeGPTError("the tape has run: record everything before the first run")
        node.index = len(self.nodes)
        self.nodes.append(node)
        return node

    # --- layout -------------------------------------------------------------------------------------------------

    def rows(self, node: Node) -> int:
        """Rows in memory."""
        return self.positions if node.shape.rows is None else node.shape.rows

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
            check_size(self.real.size * sum(self._extents.as_dict().values()))
        return self._extents

    def _planned(self) -> Extents:
        shared = work = 0
        for node in self.parameters():
            node.value = node.gradient = shared
            shared += self.extent(node)
        gradients = shared
        for node in self.nodes:
            if node.value < 0:
                node.value, work = work, work + self._extent(node)
            if not node.operation:
                continue
            shapes = [i.shape for i in node.inputs]
            node.prepared, shared = shared, shared + padded(node.operation.prepared(*shapes))
            node.kept, work = work, work + padded(node.operation.kept(self.positions, *shapes))
            if any(i.gradient >= 0 for i in node.inputs):
                heir = next((node.inputs[place] for place in node.operation.passes), None)
                if heir is None or heir.gradient < 0:
                    node.gradient, work = work, work + self._extent(node)
                else:
                    last = next(n for n in reversed(self.nodes) if any(i is heir for i in n.inputs))
                    assert last is node, "a gradient is passed on that others still add to"
                    node.gradient = heir.gradient
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
        extents = self.plan()
        return node.value if node.is_parameter else extents.shared + extents.gradients + node.value

    def _gradient_at(self, node: Node) -> int:
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

    def _needed(self, output: Node) -> list[Node]:
        """The nodes that an output depends on, in the order of recording."""
        needed = {output.index}
        for node in reversed(self.nodes[: output.index + 1]):
            if node.index in needed:
                needed.update(i.index for i in node.inputs)
        return [node for node in self.nodes if node.index in needed]

    def prepare_kernel(self, output: Node) -> Kernel:
        """`(shared)`: what depends on parameters alone, once after they change."""
        self.plan()

        def tape_prepare(k: Builder, shared: Reals) -> None:
            run = _Run(self, shared, None, shared)
            for node in self._needed(output):
                if node.operation:
                    slots = [run.slot(i) for i in node.inputs]
                    node.operation.prepare(k, run.scratch(node), *slots)

        return Kernel(tape_prepare, f"prepare.{output.index}", self.real)

    def forward_kernel(self, output: Node) -> Kernel:
        """`(shared, work, start, stop)`: the output and all before it, for the positions start to stop."""
        self.plan()

        def tape_forward(k: Builder, shared: Reals, work: Reals, start: Int, stop: Int) -> None:
            run = _Run(self, shared, None, work, start, stop)
            for node in self._needed(output):
                if node.operation:
                    out, *slots = [run.slot(i) for i in (node, *node.inputs)]
                    node.operation.forward(k, run.scratch(node), out, *slots)

        return Kernel(tape_forward, f"forward.{output.index}", self.real)

    def backward_kernel(self, output: Node, accumulate: bool = False) -> Kernel:
        """`(shared, gradients, work, stop)`: gradients of a (1, 1) output for the positions 0 to stop, in reverse.

        The gradients of the parameters are set, or added to where they `accumulate`.
        """
        self.plan()

        def tape_backward(k: Builder, shared: Reals, gradients: Reals, work: Reals, stop: Int) -> None:
            run = _Run(self, shared, gradients, work, 0, stop)
            run.gradient(output)[0] = 1.0
            run.written.add(output.index)
            if accumulate:
                run.written.update(node.index for node in self.parameters())
            for node in reversed(self._needed(output)):
                if node.operation and node.gradient >= 0 and node.index in run.written:
                    self._backward(k, run, node, node.operation)
            for node in self.nodes:  # what the output does not depend on has no slope
                if node.gradient >= 0 and node.index not in run.written:
                    clear(k, run.gradient(node), self._extent(node))

        return Kernel(tape_backward, f"backward.{output.index}", self.real)

    def _backward(self, k: Builder, run: _Run, node: Node, operation: Operation) -> None:
        for place in operation.clears:
            table = node.inputs[place]
            if table.gradient >= 0 and table.index not in run.written:
                clear(k, run.gradient(table), self._extent(table))
                run.written.add(table.index)
        views = {i: run.slot(i) for i in (node, *node.inputs)}
        out, *slots = [views[i] for i in (node, *node.inputs)]  # one view for an input used twice
        operation.backward(k, run.scratch(node), out, *slots)
        run.written.update(i.index for i in node.inputs)

    def kernels(self, node: Node, output: Node, *, accumulate: bool = False) -> dict[str, Kernel]:
        """Those of a node's operation alone, as they are on the way to an output and back.

        `prepare(shared)` where it has one, `forward(shared, work, stop)`, `backward(shared, gradients, work, stop)`.
        """
        operation = node.operation
        assert operation
        self.plan()
        after = {i.index for later in self.nodes[node.index + 1 :] for i in later.inputs}
        written = {output.index, *after, *(each.index for each in self.parameters() if accumulate)}

        def prepare(k: Builder, shared: Reals) -> None:
            run = _Run(self, shared, None, shared)
            operation.prepare(k, run.scratch(node), *[run.slot(i) for i in node.inputs])

        def forward(k: Builder, shared: Reals, work: Reals, stop: Int) -> None:
            run = _Run(self, shared, None, work, 0, stop)
            out, *slots = [run.slot(i) for i in (node, *node.inputs)]
            operation.forward(k, run.scratch(node), out, *slots)

        def backward(k: Builder, shared: Reals, gradients: Reals, work: Reals, stop: Int) -> None:
            run = _Run(self, shared, gradients, work, 0, stop)
            run.written.update(written)
            self._backward(k, run, node, operation)

        bodies: list[Callable[..., None]] = [forward, backward]
        if operation.prepared(*[i.shape for i in node.inputs]):
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
        count = self._checked(positions)
        program = self._program(output)
        shared, _, work = self.regions()
        program.run("prepare", shared)
        program.run("forward", shared, work, 0, count)
        return self.read(output)[: count if output.shape.rows is None else None]

    def backward(self, output: Node, positions: int | None = None) -> None:
        """Gradients of a (1, 1) output with respect to everything before it, after `forward`."""
        if output.shape != Shape(1, 1):
            raise TapeGPTError(f"backward needs an output of shape (1, 1), not {output.shape}: use .sum()")
        if output.gradient < 0:
            raise TapeGPTError("backward: the output depends on no parameter")
        self._program(output).run("backward", *self.regions(), self._checked(positions))

    def _checked(self, positions: int | None) -> int:
        count = self.positions if positions is None else positions
        if not 1 <= count <= self.positions:
            raise TapeGPTError(f"positions must be from 1 to {self.positions}, not {count}")
        return count

    def write(self, node: Node, numbers: Sequence[float]) -> None:
        """Set a node's numbers, row by row; token ids for an index node. Fewer rows than there are is fine."""
        columns = node.shape.columns
        if len(numbers) % columns or len(numbers) > self.rows(node) * columns:
            raise TapeGPTError(f"{node!r}: {len(numbers)} numbers do not fill rows of {columns}")
        if node.shape.index:
            words = self.arena.words(self.real.size * self._value_at(node), self.rows(node))
            for row, number in enumerate(numbers):
                if not 0 <= number < node.bound:
                    raise TapeGPTError(f"{node!r}: row {row} is {number}: token ids must be from 0 to {node.bound - 1}")
                words[row] = int(number)
            return
        for row, view in enumerate(self.views(node)[: len(numbers) // columns]):
            for column in range(columns):
                view[column] = float(numbers[row * columns + column])

    def read(self, node: Node) -> list[list[float]]:
        """A node's numbers, a list for each row."""
        return [list(row) for row in self.views(node)]

    def gradient(self, node: Node) -> list[list[float]]:
        """The gradient with respect to a node, a list for each row, after `backward`."""
        self.plan()
        if node.gradient < 0:
            raise TapeGPTError(f"{node!r} has no gradient")
        return [list(row) for row in self._views(node, self._gradient_at(node))]

    def views(self, node: Node) -> list[memoryview[float]]:
        """A node's rows in the arena, to read and write."""
        return self._views(node, self._value_at(node))

    def _views(self, node: Node, offset: int) -> list[memoryview[float]]:
        columns, size = node.shape.columns, self.real.size
        starts = [size * (offset + row * padded(columns)) for row in range(self.rows(node))]
        return [self.arena.floats(start, columns, size) for start in starts]


class _Run:
    """The regions of one run while its code is made, and which gradients have been written."""

    def __init__(
        self,
        tape: Tape,
        shared: Pointer,
        gradients: Pointer | None,
        work: Pointer,
        start: Number = 0,
        stop: Number = 0,
    ) -> None:
        self._tape, self._shared, self._gradients, self._work = tape, shared, gradients, work
        self._start, self._stop = start, stop
        self.written: set[int] = set()

    def slot(self, node: Node) -> Slot:
        value = (self._shared if node.is_parameter else self._work) + node.value
        fixed = node.shape.rows
        return Slot(
            node.shape,
            self._tape.rows(node),
            value.cast(U32) if node.shape.index else value,
            self.gradient(node) if self._gradients is not None and node.gradient >= 0 else None,
            node.index not in self.written,
            self._start if fixed is None else 0,
            self._stop if fixed is None else fixed,
            node.operation.activation if node.operation else "",
        )

    def gradient(self, node: Node) -> Pointer:
        assert self._gradients is not None
        return (self._gradients if node.is_parameter else self._work) + node.gradient

    def scratch(self, node: Node) -> Scratch:
        return Scratch(self._shared + node.prepared, self._work + node.kept)


def check_size(size: int) -> None:
    """Raise `TapeGPTError` for more bytes of memory than a model may work on."""
    if size > MAX_ARENA:
        raise TapeGPTError(
            f"the model needs {size / 2**30:.1f} GiB of memory, the limit is {MAX_ARENA >> 30} GiB: "
            "choose smaller shapes"
        )


def _grouped(count: int) -> int:
    return -(-count // GROUP) * GROUP
