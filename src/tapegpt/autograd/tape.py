"""The tape: operations recorded once, laid out in one arena, walked forwards and backwards by machine code.

    tape = Tape()
    x = tape.parameter("x", 1, 1)
    y = (x * x + 3.0).exp()
    tape.write(x, [0.5])
    tape.forward(y)                          # [[25.79...]]
    tape.backward(y)
    tape.gradient(x)                         # [[25.79...]]: dy/dx = 2 x y

Every value and gradient has its offset before the first run. A run allocates nothing and checks no bound: what could
fail is refused when it is recorded or written. A node is a matrix of f64, on the fast engine's tapes of f32, with a
fixed number of rows or one for each position of the run. Gradients accumulate operation by
operation in the reverse of the depth-first post-order that `Value.backward` takes, and within an operation as its
scalars do (docs/exactness.md says where that is one graph's order, to the bit). Not here: the operations' mathematics,
what an engine makes of a recording (`rewrites.py`), training (`step.py`).

There are three regions of memory: `shared` by all runs (parameters, and what follows from them), the `gradients` of the
parameters, and the `work` of one run (everything else). Each thread has gradients and work of its own.
"""

from __future__ import annotations

from array import array
from math import inf, sqrt
from operator import attrgetter
from operator import index as whole

from tapegpt.autograd.node import Node, as_list, number_of
from tapegpt.autograd.operations.attention.exact import Attention
from tapegpt.autograd.operations.base import Operation, Shape, clear, padded, row_stride
from tapegpt.autograd.operations.cross_entropy import CrossEntropy
from tapegpt.autograd.operations.embedding import Embedding
from tapegpt.autograd.operations.linear import Linear
from tapegpt.autograd.places import MAX_ARENA, Extents, check_size
from tapegpt.autograd.value import post_order
from tapegpt.autograd.walk import Laid, Run
from tapegpt.errors import TapeGPTError, quote
from tapegpt.machine.language import F32, F64, Builder, Int, Kernel, Reals, Type
from tapegpt.machine.memory import Address, Memory
from tapegpt.machine.program import Program
from tapegpt.machine.target import Target
from tapegpt.processes import Local
from tapegpt.ranges import Number, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapegpt.autograd.optimizers import Optimizer
    from tapegpt.autograd.step import Step
    from tapegpt.files import Path
    from tapegpt.machine.program import Entries

SIZES = Whole(1, MAX_ARENA)
_LARGEST = (2.0 - 2.0**-23) * 2.0**127  # f32
GROUP = 64  # optimisers take so many parameters at a time


class Tape(Local):
    """Records operations on numbers of the type `real`; `positions` is the most rows that a run can have.

    One thread at a time may use a tape, since a run reads what another would write. Each may have its own.
    """

    def __init__(self, positions: int = 1, target: Target | None = None, real: Type = F64) -> None:
        SIZES.check("positions", positions)
        if not isinstance(target, Target | None) or real not in (F64, F32):
            raise TapeGPTError(f"a tape is for a Target and f64 or f32, not {quote(target)} and {quote(real)}")
        self.positions, self.real = positions, real
        self.nodes: list[Node] = []
        self.target = target
        self._arena: Memory | None = None
        self._extents: Extents | None = None
        self._laid: list[Laid] = []  # the nodes as they are laid out; kernels hold them, so they stay the same objects
        self._programs: dict[int, Program] = {}
        self._written: set[Node] = set()
        self.noise: Node | None = None  # (T, 1), where training differs: the example of it that a row is in, else 0
        self._computed: set[int] = set()  # nodes that are computed from the numbers that are written now,
        self._count = 0  # for so many positions
        self._differentiated = 0  # positions of the last backward

    # --- recording ----------------------------------------------------------------------------------------------

    def parameter(
        self,
        name: str,
        rows: int,
        columns: int,
        *,
        start: float | None = None,
        sparse: bool = False,
        fixed: bool = False,
    ) -> Node:
        """A matrix that has a gradient, unless it is `fixed`: written, and not trained.

        All its numbers start as `start`, by default as random numbers of a normal distribution. Of a `sparse` parameter
        a step trains only the rows that its batch looks up.
        """
        if any(name == node.name for node in self.parameters()):
            raise TapeGPTError(f"parameter {quote(name)}: there is one of this name")
        SIZES.check(f"{quote(name)}: rows", rows)
        node = self._append_named(name, rows, columns)
        node.start = None if start is None else number_of(start, node, "where it starts")
        node.is_parameter, node.sparse, node.fixed = True, sparse, fixed
        return node

    def input(self, name: str, columns: int, rows: int | None = None) -> Node:
        """Numbers that are written, without a gradient; `rows` None is one row for each position."""
        if rows is not None:
            SIZES.check(f"{quote(name)}: rows", rows)
        return self._append_named(name, rows, columns)

    def indices(self, name: str) -> Node:
        """A token id for each position, which is written."""
        return self._append_named(name, None, 1, index=True)

    def example(self) -> Node:
        """For each position the number of its example in a training, from 1 on; 0 while there is none."""
        if self.noise is None:
            self.noise = self.indices("noise")
        return self.noise

    def embedding(self, table: Node, ids: Node) -> Node:
        """Row `ids[t]` of the table for position t: (T, columns of the table)."""
        return self.record(Embedding(), table, ids)

    def ngrams(self, tokens: Node, n: int, rows: int, bos: int) -> Node:
        """For each position the row, below `rows`, of the n-gram that ends there; tokens before the first are BOS."""
        from tapegpt.autograd.operations.ngrams import NGrams

        return self.record(NGrams(n, rows, bos), tokens)

    def linear(self, x: Node, w: Node, last: Node | None = None) -> Node:
        """x W^T: (T, rows of W). `last` is the column of the result that x's gradient adds last."""
        return self.record(Linear(), x, w, *([] if last is None else [last]))

    def concatenate(self, nodes: Sequence[Node]) -> Node:
        """The columns of all nodes, one after the other: (R, sum of their columns)."""
        from tapegpt.autograd.operations.columns import Columns

        if not nodes:
            raise TapeGPTError("concatenate: needs at least one node")
        for node in nodes:
            self.check_own(node, "concatenate")
        return self.record(Columns(range(sum(node.shape.columns for node in nodes)), len(nodes)), *nodes)

    def attention(self, q: Node, k: Node, v: Node, n_head: int) -> Node:
        """Causal self-attention, (T, D) each: row t of the result mixes the rows of v up to t."""
        operation, parts = Attention(n_head), [q]
        for node in (k, v):  # a node given twice has two copies, whose gradients are added
            self.check_own(node, Attention.name)
            parts.append(node[:, :] if node in parts else node)
        return self.record(operation, *parts)

    def rotary(self, x: Node, positions: Node, n_head: int) -> Node:
        """Each head's pairs of columns turned by an angle that grows with the position: (T, D)."""
        from tapegpt.autograd.operations.rotary import Rotary

        return self.record(Rotary(n_head, self.positions), x, positions)

    def mse(self, x: Node, y: Node) -> Node:
        """Mean of (x - y)^2 over all numbers: (1, 1)."""
        from tapegpt.autograd.operations.mean_squared_error import MeanSquaredError

        return self.record(MeanSquaredError(), x, y)

    def gru(self, x: Node, u: Node) -> Node:
        """A gated recurrent unit over the rows of gates x (T, 3 D), with U (3 D, D): (T, D)."""
        from tapegpt.autograd.operations.gru import GRU

        return self.record(GRU(), x, u)

    def cross_entropy(self, logits: Node, targets: Node) -> Node:
        """Mean of -log(softmax(logits)[target]): (1, 1)."""
        return self.record(CrossEntropy(), logits, targets)

    def record(self, operation: Operation, *inputs: Node) -> Node:
        """Append an operation; raises `TapeGPTError` where the inputs do not fit."""
        shape, bounds = self._check(operation, inputs)
        result = self._append(Node(self, "", shape, operation, inputs))
        for index, (node, bound) in enumerate(zip(inputs, bounds, strict=True)):
            node.uses += 1
            node.taken |= index in (*operation.sets, *operation.passes)
            node.bound = min(node.bound, bound or node.bound)
        return result

    def _check(self, operation: Operation, inputs: tuple[Node, ...]) -> tuple[Shape, list[int]]:
        """The result's shape, and for each input the bound of its token ids, 0 for numbers."""
        if not isinstance(operation, Operation):
            raise TapeGPTError(f"a tape records an Operation, not {quote(operation)}")
        what = operation.name
        for node in inputs:
            self.check_own(node, what)
        if operation.real not in (None, self.real):
            raise TapeGPTError(f"{what}: works on {operation.real}, and this tape's numbers are {self.real}")
        self._check_size(what, operation.constants)
        takes = [count + len(operation.about) for count in operation.takes]
        if takes and len(inputs) not in takes:
            raise TapeGPTError(f"{what}: takes {' or '.join(map(str, takes))} nodes, not {len(inputs)}")
        shapes = [node.shape for node in inputs]
        try:
            shape = operation.shape(*shapes)
        except TapeGPTError as error:
            raise TapeGPTError(f"{error}: {', '.join(map(repr, inputs))}") from None
        bounds = operation.index_bounds(*shapes)
        for node, bound in zip(inputs, bounds, strict=True):
            if node.shape.index != bool(bound):
                raise TapeGPTError(f"{what}: takes {'token ids' if bound else 'numbers'}, not {node!r}")
            if bound and node.below > bound:
                known = f"and those of {node!r} are below {node.below:,}"
                raise TapeGPTError(f"{what}: has rows for ids below {bound:,}, {known}: give it more rows")
        for index, node in enumerate(inputs):
            alone = not node.is_parameter and inputs.count(node) + node.uses == 1
            if node.taken or (index in operation.sets and not alone):
                raise TapeGPTError(f"{what}: {node!r} has another use, and one of the two sets its gradient")
            if node.operation and node.operation.activation and index not in operation.unwinds:
                raise TapeGPTError(f"{what}: does not differentiate the activation of {node!r}")
        for index in operation.passes:
            self._check_passing(operation, inputs[index], inputs)
        return shape, bounds

    def _check_size(self, who: str, numbers: Sequence[float]) -> None:
        """Raise `TapeGPTError` for a number that would overflow here."""
        large = [number for number in numbers if _LARGEST < abs(number) < inf] if self.real is F32 else []
        if large:
            raise TapeGPTError(f"{who}: {large[0]!r} is too large for f32")

    def _check_passing(self, operation: Operation, node: Node, inputs: tuple[Node, ...]) -> None:
        """Raise `TapeGPTError` unless all other uses of the node come before the result, which shares its gradient."""
        before = self.order(*inputs)
        if node.is_parameter or inputs.count(node) > 1 or node.uses > sum(each.inputs.count(node) for each in before):
            raise TapeGPTError(f"{operation.name}: {node!r} is used beside it, and its gradient is passed on as it is")

    def check_own(self, node: Node, what: str) -> None:
        """Raise `TapeGPTError` unless this is a node of this tape."""
        if not isinstance(node, Node) or node.tape is not self:
            whose = f"{node!r} of another tape" if isinstance(node, Node) else quote(node)
            raise TapeGPTError(f"{what}: needs nodes recorded on this tape, not {whose}")

    def _append_named(self, name: str, rows: int | None, columns: int, *, index: bool = False) -> Node:
        if not isinstance(name, str):
            raise TapeGPTError(f"a parameter or input has a name, not {quote(name)}")
        SIZES.check(f"{quote(name)}: columns", columns)
        return self._append(Node(self, name, Shape(rows, columns, index), None, ()))

    def _append(self, node: Node) -> Node:
        if self._arena:
            what = "the tape has run" if self._count else "the tape holds numbers"
            raise TapeGPTError(f"{node.name or node.operation}: {what}: record everything before")
        node.index = len(self.nodes)
        self._extents = None
        self.nodes.append(node)
        return node

    # --- layout -------------------------------------------------------------------------------------------------

    def extent(self, node: Node) -> int:
        """Numbers of a parameter in memory, padding included."""
        self.check_own(node, "extent")
        return _round_up(node.extent)

    def parameters(self) -> list[Node]:
        """The parameters, in the order of recording."""
        return [node for node in self.nodes if node.is_parameter]

    def plan(self) -> Extents:
        """Give every node its offsets, at the first call; return the size of each region."""
        if self._extents is None:
            self._extents = self._assign_offsets()
            self._laid += [Laid() for _ in self.nodes[len(self._laid) :]]
            for node, laid in zip(self.nodes, self._laid, strict=True):
                vars(laid).update({name: getattr(node, name) for name in Laid.__annotations__})
                laid.inputs = tuple([self._laid[each.index] for each in node.inputs])
            check_size(self.real.size * sum(self._extents.as_dict().values()))
        return self._extents

    def _assign_offsets(self) -> Extents:
        shared = gradients = work = 0
        for node in sorted(self.parameters(), key=attrgetter("fixed")):
            node.value, shared = shared, shared + self.extent(node)
            if not node.fixed:
                node.gradient, gradients = node.value, shared
        for node in self.nodes:
            if not node.is_parameter:
                node.value, work = work, work + node.extent
            if not node.operation:
                continue
            shapes = [i.shape for i in node.inputs]
            prepared = padded(node.operation.prepared_size(*shapes))
            if node.is_early:
                node.prepared, shared = shared, shared + prepared
            else:
                node.prepared, work = work, work + prepared
            node.kept, work = work, work + padded(node.operation.kept_size(self.positions, *shapes))
            if owner := node.gradient_owner:
                node.gradient = owner.gradient
            elif any(i.gradient >= 0 for i in node.inputs):
                node.gradient, work = work, work + node.extent
        return Extents(_round_up(shared), gradients, _round_up(work))

    def parameter_extent(self, *, fixed: bool = False) -> int:
        """Numbers of all parameters, each padded to a multiple of `GROUP`: they are the first in their region.

        With `fixed` also those of fixed ones, which come next.
        """
        return self.plan().gradients + sum(self.extent(node) for node in self.parameters() if fixed and node.fixed)

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
        self.check_own(node, "numbers")
        extents = self.plan()
        return node.value if node.is_parameter else extents.shared + extents.gradients + node.value

    def _gradient_at(self, node: Node) -> int:
        self.check_own(node, "gradient")
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

    def order(self, *outputs: Node) -> list[Node]:
        """The nodes that outputs depend on, in depth-first post-order, as `Value.backward` sorts its numbers."""
        return post_order(outputs, attrgetter("inputs"))

    def _laid_order(self, *outputs: Node) -> list[Laid]:
        for output in outputs:
            self.check_own(output, "a kernel")
        self.plan()
        return [self._laid[node.index] for node in self.order(*outputs)]

    def prepare_kernel(self, output: Node, *, divided: bool = False) -> Kernel:
        """`(shared)`: computes what depends on parameters alone, once after they change.

        Where it is `divided`, `(shared, thread, threads)`: the part of a thread.
        """
        order = [(node, node.operation) for node in self._laid_order(output) if node.operation and node.is_early]
        by_size = sorted(order, key=lambda pair: -pair[1].prepared_size(*[i.shape for i in pair[0].inputs]))

        def tape_prepare(k: Builder, shared: Reals) -> None:
            for node, operation in order:
                Run(shared, None, shared).prepare(k, node, operation)

        def tape_prepare_part(k: Builder, shared: Reals, thread: Int, threads: Int) -> None:
            for place, (node, operation) in enumerate(by_size):
                for _ in k.when((k.integer(place) % threads).equals(thread)):
                    Run(shared, None, shared).prepare(k, node, operation)

        body: Callable[..., None] = tape_prepare_part if divided else tape_prepare
        return Kernel(body, f"prepare.{output.index}", self.real)

    def forward_kernel(self, *outputs: Node, known: Sequence[Node] = ()) -> Kernel:
        """`(shared, work, start, stop)`: computes outputs and all before them, for the positions start to stop.

        What is `known` is there already.
        """
        there = {node.index for node in known}
        order = [node for node in self._laid_order(*outputs) if node.index not in there]

        def tape_forward(k: Builder, shared: Reals, work: Reals, start: Int, stop: Int) -> None:
            run = Run(shared, None, work, start, stop)
            for node in order:
                if node.operation:
                    run.forward(k, node, node.operation)

        return Kernel(tape_forward, f"forward.{outputs[-1].index}", self.real)

    def backward_kernel(self, output: Node, accumulate: bool = False, seeded: bool = False) -> Kernel:
        """`(shared, gradients, work, stop)`: gradients of a (1, 1) output for the positions 0 to stop, in reverse.

        The gradients of the parameters are set, or added to where they `accumulate`. The output's own is 1, or what has
        been written there where it is `seeded`.
        """
        order, nodes = self._laid_order(output), self._laid

        def tape_backward(k: Builder, shared: Reals, gradients: Reals, work: Reals, stop: Int) -> None:
            run = Run(shared, gradients, work, 0, stop)
            if not seeded:
                run.gradient(order[-1])[0] = 1.0
            run.written.add(order[-1].index)
            if accumulate:
                run.written.update(node.index for node in nodes if node.is_parameter)
            for node in reversed(order):
                if node.operation and node.gradient >= 0:
                    run.backward(k, node, node.operation)
            for node in nodes:  # what the output does not depend on has no gradient
                if node.gradient >= 0 and node.index not in run.written and not node.shares_gradient:
                    clear(k, run.gradient(node), node.extent)

        return Kernel(tape_backward, f"backward.{output.index}", self.real)

    def kernels(self, node: Node, output: Node, *, accumulate: bool = False) -> dict[str, Kernel]:
        """The kernels of one node's operation, as forward and backward of an output call them.

        `prepare(shared)` where it has one, `forward(shared, work, stop)`, `backward(shared, gradients, work, stop)`.
        """
        operation = node.operation
        assert operation
        self.plan()
        laid, order = self._laid[node.index], self.order(output)
        after = {i.index for later in order[order.index(node) + 1 :] for i in later.inputs}
        written = {output.index, *after, *(each.index for each in self.parameters() if accumulate)}

        def prepare(k: Builder, shared: Reals) -> None:
            Run(shared, None, shared).prepare(k, laid, operation)

        def forward(k: Builder, shared: Reals, work: Reals, stop: Int) -> None:
            Run(shared, None, work, 0, stop).forward(k, laid, operation)

        def backward(k: Builder, shared: Reals, gradients: Reals, work: Reals, stop: Int) -> None:
            run = Run(shared, gradients, work, 0, stop)
            run.written.update(written)
            run.backward(k, laid, operation)

        bodies: list[Callable[..., None]] = [forward, backward] if node.gradient >= 0 else [forward]
        if operation.prepared_size(*[i.shape for i in node.inputs]) and node.is_early:
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
            self._programs[output.index] = Program(entries, self.target)
        return self._programs[output.index]

    def forward(self, output: Node, positions: int | None = None) -> list[list[float]]:
        """Run forward; returns the output's rows. `positions` defaults to the tape's."""
        self.check_own(output, "forward")
        count = self.positions if positions is None else positions
        Whole(1, self.positions).check("positions", count)
        program = self._program(output)
        shared, _, work = self.regions()
        if count != self._count:
            self._computed.clear()
        self._count = count
        program.run("prepare", shared)
        program.run("forward", shared, work, 0, count)
        self._computed.update(node.index for node in self.order(output))
        return self.read(output)[: output.shape.count(count)]

    def backward(self, output: Node, positions: int | None = None) -> None:
        """Gradients of a (1, 1) output with respect to everything before it, for the positions of its `forward`."""
        self.check_own(output, "backward")
        if output.shape != Shape(1, 1):
            raise TapeGPTError(f"backward needs an output of shape (1, 1), not {output!r}: use .sum()")
        self.plan()
        if output.gradient < 0:
            raise TapeGPTError(f"backward: the output {output!r} depends on no parameter")
        if output.index not in self._computed:
            raise TapeGPTError(f"backward: run forward of {output!r} first, with the numbers that are written now")
        if positions not in (None, self._count):
            raise TapeGPTError(f"backward: forward ran for {self._count} positions, not {quote(positions)}")
        self._program(output).run("backward", *self.regions(), self._count)
        self._differentiated = self._count

    def compile(
        self,
        loss: Node,
        optimizer: Optimizer,
        *,
        batches: int = 1,
        fast: bool = False,
        seed: int = 0,
        deviation: float | None = None,
    ) -> Step:
        """A step of training in machine code, which takes the mean gradient of so many batches.

        It is computed in f64, or with `fast` in f32 as in the fast engine; it then rounds the parameters to f32.
        Parameters that have not been written start as their `start`, or as random numbers of a normal distribution with
        mean 0 and, by default, a standard deviation of one over the square root of their columns.
        """
        from tapegpt.autograd.optimizers import Optimizer
        from tapegpt.autograd.step import Step

        self.check_own(loss, "compile")
        if loss.shape != Shape(1, 1):
            raise TapeGPTError(f"compile: the loss must be one number, (1, 1), not {loss!r}: use .sum() or .mean()")
        if not isinstance(optimizer, Optimizer):
            raise TapeGPTError(f"compile: the optimizer must be SGD(...) or Adam(...), not {quote(optimizer)}")
        self.plan()
        if loss.gradient < 0 or not loss.operation:
            raise TapeGPTError(f"compile: the loss {loss!r} is not computed from a parameter")
        step = Step(self, loss, optimizer, batches, fast=fast)
        self.initialise(seed, deviation)
        return step

    def initialise(self, seed: int = 0, deviation: float | None = None) -> None:
        """Write all parameters that have not been written: see `compile`."""
        from tapegpt.data.rng import Random

        Whole().check("seed", seed)
        rng = Random(seed)
        if deviation is not None:
            Number(0).check("deviation", deviation)
        for node in self.parameters():
            if node not in self._written:
                count = node.rows * node.shape.columns
                width = 1.0 / sqrt(node.shape.columns) if deviation is None else deviation
                self.write(node, rng.gauss_array(count, 0.0, width) if node.start is None else [node.start] * count)

    def save(self, path: Path) -> None:
        """Write the parameters by name, as safetensors, or as JSON if the path ends so; whole or not at all."""
        from tapegpt.autograd.saving import save

        save(self, path)

    def load(self, path: Path) -> None:
        """Read parameters that a tape of the same ones saved, or a step; `TapeGPTError` for any other file."""
        from tapegpt.autograd.saving import load

        load(self, path)

    def invalidate(self) -> None:
        """Note that parameters or inputs have changed, so that results are out of date."""
        self._computed.clear()

    def end_training(self) -> None:
        """Note that a training has used all of the memory, so that results and gradients are out of date."""
        self.invalidate()
        self._differentiated = 0
        if self.noise:  # no other run has dropout
            self._write_ids(self.noise, [0] * self.positions)

    def write(self, node: Node, numbers: Sequence[float]) -> None:
        """Set a node's numbers, row by row; token ids for an index node. A node with a row for each position may get
        only its first rows.
        """
        self.check_own(node, "write")
        if node.operation:
            raise TapeGPTError(f"write: {node!r} is computed: write to parameters and inputs")
        given = as_list(numbers, repr(node))
        columns, rows = node.shape.columns, node.rows
        if not given or len(given) % columns or len(given) > rows * columns:
            raise TapeGPTError(f"{node!r}: {len(given)} numbers do not fill rows of {columns}, {rows} at most")
        if node.shape.rows is not None and len(given) < rows * columns:
            raise TapeGPTError(f"{node!r}: {len(given)} numbers do not fill {rows} rows of {columns}")
        if node.shape.index:
            self._write_ids(node, given)
        else:
            who = repr(node)
            checked = [number_of(number, who, "number", index) for index, number in enumerate(given)]
            self._check_size(who, checked)
            for row, view in enumerate(self.views(node)[: len(given) // columns]):
                for column in range(columns):
                    view[column] = checked[row * columns + column]
        self._written.add(node)
        self.invalidate()

    def _write_ids(self, node: Node, ids: list[float]) -> None:
        self.check_ids(node, ids)
        self._words(node)[: len(ids)] = array("I", [int(number) for number in ids])

    def check_ids(self, node: Node, ids: Sequence[float]) -> None:
        """Raise `TapeGPTError` for numbers that are no token ids, or out of the node's range."""
        for row, number in enumerate(ids):
            if not _is_id(number, node.bound):
                at = f"{node!r}: row {row} is {quote(number)}"
                raise TapeGPTError(f"{at}: token ids must be from 0 to {node.bound - 1}")

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
        """A node's rows in the arena, to read and write; nothing notices a write, so run `forward` again after it."""
        start = self._value_at(node)
        if node.shape.index:
            raise TapeGPTError(f"views: {node!r} has token ids, which `write` checks")
        return self._views(node, start)

    def _words(self, node: Node) -> memoryview[int]:
        return self.arena.words(self.real.size * self._value_at(node), node.rows)

    def _views(self, node: Node, offset: int) -> list[memoryview[float]]:
        columns, size = node.shape.columns, self.real.size
        starts = [size * (offset + row * row_stride(columns)) for row in range(node.rows)]
        return [self.arena.floats(start, columns, size) for start in starts]


def _is_id(value: object, bound: int) -> bool:
    try:
        return not isinstance(value, bool) and 0 <= whole(value) < bound  # type: ignore[arg-type]  # it is asked
    except TypeError:
        return False


def _round_up(count: int) -> int:
    return -(-count // GROUP) * GROUP
