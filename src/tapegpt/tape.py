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
operation in reverse, and within an operation as microgpt.py's scalars do. Not here: the operations' mathematics
(`operations/`), training.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError
from tapegpt.machine.language import U32, Builder, F64s, Int, Kernel, Pointer
from tapegpt.machine.memory import Memory
from tapegpt.machine.program import Program
from tapegpt.operations.attention import Attention
from tapegpt.operations.base import Operation, Shape, Slot, clear, padded
from tapegpt.operations.cross_entropy import CrossEntropy
from tapegpt.operations.elementwise import Elementwise, Sum
from tapegpt.operations.embedding import Embedding, Positions
from tapegpt.operations.linear import Linear
from tapegpt.operations.rmsnorm import RMSNorm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.machine.language import Number
    from tapegpt.machine.memory import Address
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target

MAX_ARENA = 8 << 30  # bytes


class Node:
    """A matrix on the tape: a parameter, an input, or what an operation gives. Offsets count f64 of the arena."""

    __slots__ = (
        "bound",
        "gradient",
        "index",
        "inputs",
        "is_parameter",
        "name",
        "operation",
        "scratch",
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
        self.value = self.scratch = -1
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


class Tape:
    """Records operations; `positions` is the most rows that a run can have."""

    def __init__(self, positions: int = 1, target: Target | None = None) -> None:
        if positions < 1:
            raise TapeGPTError(f"a tape needs at least 1 position, not {positions}")
        self.positions = positions
        self.nodes: list[Node] = []
        self._target = target
        self._arena: Memory | None = None
        self._size = 0
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
        for node in inputs:
            if node.shape.index:
                node.bound = min(node.bound, operation.index_bound(*shapes))
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

    def _extent(self, node: Node) -> int:
        if node.shape.index:
            return padded(-(-self.rows(node) // 2))
        return self.rows(node) * padded(node.shape.columns)

    def parameters(self) -> list[Node]:
        """The parameters, in the order of recording."""
        return [node for node in self.nodes if node.is_parameter]

    def plan(self) -> int:
        """Give every node its offsets; the arena's size in f64. First the parameters, then their gradients."""
        if self._size:
            return self._size
        size = 0
        parameters = self.parameters()
        for node in parameters:
            node.value, size = size, size + self._extent(node)
        size = self.parameter_extent()
        for node in parameters:
            node.gradient, size = size, size + self._extent(node)
        size = 2 * self.parameter_extent()
        for node in self.nodes:
            if node.value < 0:
                node.value, size = size, size + self._extent(node)
            if node.operation:
                shapes = [i.shape for i in node.inputs]
                node.scratch, size = size, size + padded(node.operation.scratch(self.positions, *shapes))
                if any(i.gradient >= 0 for i in node.inputs):
                    node.gradient, size = size, size + self._extent(node)
        if 8 * size > MAX_ARENA:
            raise TapeGPTError(
                f"the model needs {8 * size / 2**30:.1f} GiB of memory, the limit is {MAX_ARENA >> 30} GiB: "
                "choose smaller shapes"
            )
        self._size = size
        return size

    def parameter_extent(self) -> int:
        """f64 of all parameters, a multiple of 64: they are the first in the arena, their gradients the next."""
        return -(-sum(self._extent(node) for node in self.parameters()) // 64) * 64

    @property
    def arena(self) -> Memory:
        """The memory of all nodes, zeroed at first use."""
        if self._arena is None:
            self._arena = Memory(8 * self.plan())
        return self._arena

    def show(self) -> str:
        """The recorded graph, a line each: node, shape, offsets of value and gradient, operation, inputs."""
        self.plan()
        rows = [("node", "shape", "value", "gradient", "operation", "inputs")]
        for node in self.nodes:
            gradient = str(node.gradient) if node.gradient >= 0 else "-"
            kind = "parameter" if node.is_parameter else "input"
            what = str(node.operation) if node.operation else f"{kind} {node.name}"
            inputs = " ".join(f"%{i.index}" for i in node.inputs)
            rows.append((f"%{node.index}", str(node.shape), str(node.value), gradient, what, inputs))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        total = f"{self.positions} position{'s' if self.positions > 1 else ''}, {8 * self._size:,} bytes"
        return "\n".join([*lines, total])

    # --- code ---------------------------------------------------------------------------------------------------

    def _needed(self, output: Node) -> list[Node]:
        """The nodes that an output depends on, in the order of recording."""
        needed = {output.index}
        for node in reversed(self.nodes[: output.index + 1]):
            if node.index in needed:
                needed.update(i.index for i in node.inputs)
        return [node for node in self.nodes if node.index in needed]

    def _slot(self, node: Node, arena: Pointer, start: Number, stop: Number, written: set[int] | None) -> Slot:
        value = (arena.cast(U32) + 2 * node.value) if node.shape.index else arena + node.value
        gradient = arena + node.gradient if node.gradient >= 0 and written is not None else None
        fresh = written is not None and node.index not in written
        fixed = node.shape.rows
        bounds = (start, stop) if fixed is None else (0, fixed)
        return Slot(node.shape, self.rows(node), value, gradient, fresh, *bounds)

    def prepare_kernel(self, output: Node) -> Kernel:
        """`(arena)`: what depends on parameters alone, once after they change."""
        self.plan()

        def tape_prepare(k: Builder, arena: F64s) -> None:
            for node in self._needed(output):
                if node.operation:
                    slots = [self._slot(i, arena, 0, 0, None) for i in node.inputs]
                    node.operation.prepare(k, arena + node.scratch, *slots)

        return Kernel(tape_prepare, f"prepare.{output.index}")

    def forward_kernel(self, output: Node) -> Kernel:
        """`(arena, start, stop)`: the output and all before it, for the positions start to stop."""
        self.plan()

        def tape_forward(k: Builder, arena: F64s, start: Int, stop: Int) -> None:
            for node in self._needed(output):
                if node.operation:
                    out, *slots = [self._slot(i, arena, start, stop, None) for i in (node, *node.inputs)]
                    node.operation.forward(k, arena + node.scratch, out, *slots)

        return Kernel(tape_forward, f"forward.{output.index}")

    def backward_kernel(self, output: Node) -> Kernel:
        """`(arena, stop)`: gradients of a (1, 1) output for the positions 0 to stop, operations in reverse."""
        self.plan()

        def tape_backward(k: Builder, arena: F64s, stop: Int) -> None:
            (arena + output.gradient)[0] = 1.0
            written = {output.index}
            nodes = self._needed(output)
            for node in reversed(nodes):
                if not node.operation or node.gradient < 0 or node.index not in written:
                    continue
                for place in node.operation.clears:
                    table = node.inputs[place]
                    if table.gradient >= 0 and table.index not in written:
                        clear(k, arena + table.gradient, self._extent(table))
                        written.add(table.index)
                views = {i: self._slot(i, arena, 0, stop, written) for i in (node, *node.inputs)}
                out, *slots = [views[i] for i in (node, *node.inputs)]  # one view for an input used twice
                node.operation.backward(k, arena + node.scratch, out, *slots)
                written.update(i.index for i in node.inputs)
            for node in self.nodes:  # what the output does not depend on has no slope
                if node.gradient >= 0 and node.index not in written:
                    clear(k, arena + node.gradient, self._extent(node))

        return Kernel(tape_backward, f"backward.{output.index}")

    # --- running ------------------------------------------------------------------------------------------------

    def _program(self, output: Node) -> Program:
        if output.index not in self._programs:
            entries: Entries = {
                "prepare": (self.prepare_kernel(output), {}),
                "forward": (self.forward_kernel(output), {}),
            }
            if output.gradient >= 0 and output.shape == Shape(1, 1):
                entries["backward"] = (self.backward_kernel(output), {})
            signature = f"{self.show()}\n{output!r}"
            self._programs[output.index] = Program(entries, signature, self._target)
        return self._programs[output.index]

    def forward(self, output: Node, positions: int | None = None) -> list[list[float]]:
        """Run forward; the output's rows. `positions` defaults to the tape's."""
        count = self._checked(positions)
        program = self._program(output)
        program.run("prepare", self._start())
        program.run("forward", self._start(), 0, count)
        return self.read(output)[: count if output.shape.rows is None else None]

    def backward(self, output: Node, positions: int | None = None) -> None:
        """Gradients of a (1, 1) output with respect to everything before it, after `forward`."""
        if output.shape != Shape(1, 1):
            raise TapeGPTError(f"backward needs an output of shape (1, 1), not {output.shape}: use .sum()")
        if output.gradient < 0:
            raise TapeGPTError("backward: the output depends on no parameter")
        self._program(output).run("backward", self._start(), self._checked(positions))

    def _checked(self, positions: int | None) -> int:
        count = self.positions if positions is None else positions
        if not 1 <= count <= self.positions:
            raise TapeGPTError(f"positions must be from 1 to {self.positions}, not {count}")
        return count

    def _start(self) -> Address:
        return self.arena.at(0)

    def write(self, node: Node, numbers: Sequence[float]) -> None:
        """Set a node's numbers, row by row; token ids for an index node. Fewer rows than there are is fine."""
        columns = node.shape.columns
        if len(numbers) % columns or len(numbers) > self.rows(node) * columns:
            raise TapeGPTError(f"{node!r}: {len(numbers)} numbers do not fill rows of {columns}")
        arena = self.arena
        if node.shape.index:
            words = arena.words(8 * node.value, self.rows(node))
            for row, number in enumerate(numbers):
                if not 0 <= number < node.bound:
                    raise TapeGPTError(f"{node!r}: row {row} is {number}: token ids must be from 0 to {node.bound - 1}")
                words[row] = int(number)
            return
        for row in range(len(numbers) // columns):
            view = arena.floats(8 * (node.value + row * padded(columns)), columns)
            for column in range(columns):
                view[column] = float(numbers[row * columns + column])

    def read(self, node: Node) -> list[list[float]]:
        """A node's numbers, a list for each row."""
        arena = self.arena
        return self._rows(arena, node, node.value)

    def gradient(self, node: Node) -> list[list[float]]:
        """The gradient with respect to a node, a list for each row, after `backward`."""
        arena = self.arena
        if node.gradient < 0:
            raise TapeGPTError(f"{node!r} has no gradient")
        return self._rows(arena, node, node.gradient)

    def _rows(self, arena: Memory, node: Node, offset: int) -> list[list[float]]:
        columns = node.shape.columns
        starts = [8 * (offset + row * padded(columns)) for row in range(self.rows(node))]
        return [list(arena.floats(start, columns)) for start in starts]
