"""What a step of training runs: its graph, and its machine code from the data to the optimizer.

Not here: what is given (`step.py`), how parameters move (`optimizers.py`).
"""

from __future__ import annotations

from array import array
from itertools import chain

from tapegpt.autograd.operations.base import Batch, clear, row_stride
from tapegpt.autograd.operations.cross_entropy import CrossEntropy
from tapegpt.autograd.operations.elementwise import Elementwise
from tapegpt.autograd.operations.mean_squared_error import MeanSquaredError
from tapegpt.autograd.operations.reductions import Mean
from tapegpt.autograd.operations.rows import across
from tapegpt.autograd.optimizers import Optimizer, rate_at
from tapegpt.autograd.packing import Packer
from tapegpt.autograd.rewrites import ROWS, Location, Rewriting
from tapegpt.errors import TapeGPTError
from tapegpt.machine.language import F32, F64, U32, Builder, F64s, I64s, Int, Kernel, Reals, U32s
from tapegpt.machine.signature import Structure
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape
    from tapegpt.machine.language import Number, Operand, Pointer, Type, Value, Variable


class StepGraph(Record):
    """The tape that a step runs, in f64 the very one that was recorded: what a kernel and its data must know of it."""

    tape: Tape
    loss: Node
    inputs: dict[Node, Node]  # of the recorded tape -> of this one
    about: dict[str, Node]  # what it has to know of its rows, see `Operation.to_f32`
    parameters: dict[Node, Location]  # of the recorded tape -> where they lie here
    moves: array[int]  # for each of these numbers where it lies there, and where here: none where it is the same tape


def _inputs(tape: Tape, loss: Node) -> list[Node]:
    sources = [node for node in tape.order(loss) if not node.operation and not node.is_parameter]
    return [node for node in sources if node is not tape.noise]


def exact_graph(tape: Tape, loss: Node) -> StepGraph:
    """The tape as it was recorded."""
    about = {"noise": tape.noise} if tape.noise else {}
    parameters = {node: _whole(node) for node in tape.order(loss) if node.is_parameter}
    return StepGraph(tape, loss, {node: node for node in _inputs(tape, loss)}, about, parameters, array("I"))


def fast_graph(tape: Tape, loss: Node) -> StepGraph:
    """The same in f32, by the fast engine's rules."""
    if tape.real is not F64:
        raise TapeGPTError(f"compile: fast=True takes a tape of f64, not one of {tape.real}")
    fast = type(tape)(max(tape.positions, ROWS), tape.target, F32)
    inputs = {
        node: fast.indices(node.name)
        if node.shape.index
        else fast.input(node.name, node.shape.columns, node.shape.rows)
        for node in _inputs(tape, loss)
    }
    about = {name: fast.indices(name) for name in ("positions", "ends", "noise")}
    about["share"] = fast.input("share", 1, 1)
    batch = Batch(fast.positions, tape.positions)
    from tapegpt.autograd.fast_rewrites import FAST

    rewriting = Rewriting(tape, [loss], fast, FAST, about, batch, inputs)
    fast_loss = rewriting.input(loss)
    tape.plan()
    fast.plan()
    used = {name: node for name, node in about.items() if node.uses}
    parameters = {node: rewriting.parameters[node.name] for node in tape.order(loss) if node.is_parameter}
    moves = array("I")
    for node, location in parameters.items():
        moves.extend(chain.from_iterable(zip(offsets_of(_whole(node)), offsets_of(location), strict=True)))
    return StepGraph(fast, fast_loss, inputs, used, parameters, moves)


def _whole(node: Node) -> Location:
    return Location(node, range(node.shape.rows or 0), range(node.shape.columns))


def offsets_of(location: Location) -> Iterator[int]:
    """Where the numbers of a parameter lie, row by row."""
    for row in location.rows:
        start = location.node.value + row * row_stride(location.node.shape.columns)
        yield from [start + column for column in location.columns]


def mixes_no_rows(order: Sequence[Node]) -> bool:
    """Whether the rows of several sequences in one batch are to a loss what they are one sequence at a time.

    `order` is all that it depends on. Where rows become one, that must be a mean, and the loss a sum of such means,
    with factors in which no row has a part: the root of a mean, or a row less the mean, is another one in a batch.
    """
    pooled: set[Node] = set()  # what is of all rows
    for node in order:
        rule, parts = node.operation, [each for each in node.inputs if each in pooled]
        if node.shape.rows is None:
            fits = not parts
        elif any(each.shape.rows is None for each in node.inputs):
            fits = isinstance(rule, CrossEntropy | MeanSquaredError | Mean) and node.shape.columns == 1 and not parts
            pooled.add(node)
        elif parts:
            fits = isinstance(rule, Elementwise) and (rule.name == "add" or (rule.name, len(parts)) == ("mul", 1))
            pooled.add(node)
        else:
            fits = True
        if not fits:
            return False
    return True


class _Data(Structure):
    """The examples, rows or sequences, and their order."""

    numbers: Reals  # input after input, row after row
    order: U32s
    starts: I64s  # of each example, and the end
    examples: Int
    rows: Int
    joined: Int  # 1: the examples of a run are rows of one sequence
    most: Int  # examples of a run


class _Copies(Structure):
    """Parameters that a step has elsewhere than its tape: where they are there and here, in turn."""

    recorded: F64s
    moves: U32s
    count: Int


class _Steps(Structure):
    """Which steps are to be taken, and what is noted of them."""

    at: Int  # the example that comes first
    each: Int  # examples of a step
    count: Int
    settings: F64s
    losses: F64s
    taken: I64s


class _Examples(Packer):
    """The next examples of the data; a stream is where an input begins, its columns, and whether it has token ids."""

    def __init__(
        self,
        k: Builder,
        work: Pointer,
        positions: int,
        about: Mapping[str, int],
        streams: Sequence[tuple[int, int, bool]],
        data: _Data,
    ) -> None:
        super().__init__(k, work, positions, about)
        self._work, self._streams, self._data = work, streams, data

    def _number(self, example: Operand) -> Value:
        return self._data.order[example % self._data.examples]

    def length(self, example: Operand) -> Value:
        """Rows of an example."""
        number, starts = self._number(example), self._data.starts
        return starts[number + 1] - starts[number]

    def begin(self, example: Operand, first: Operand, end: Value) -> Callable[[Value], Mapping[str, Number]]:
        """Its numbers; where its rows stand, if they are joined, in the run."""
        k, data = self._k, self._data
        offset, source = data.starts[self._number(example)] - first, data.numbers
        for value, columns, is_index in self._streams:
            target = self._work + value
            for t in k.range(first, end):
                row = source + (offset + t) * columns
                if is_index:
                    target.cast(U32)[t] = row.cast(U32)[0]
                else:
                    for c, lanes in across(k, columns, source.type):
                        target.store(t * row_stride(columns) + c, row.vector(c, lanes))
            source = source + data.rows * columns
        is_joined = data.joined.equals(1)
        begin, stop = k.select(is_joined, k.integer(0), first), k.select(is_joined, data.most, end)
        return lambda row: {"positions": row - begin, "ends": stop}


class Training:
    """What the code of a training knows of its graph: kernels, offsets and sizes, and no tape."""

    def __init__(self, graph: StepGraph, optimizer: type[Optimizer], streams: list[Node]) -> None:
        tape, loss = graph.tape, graph.loss
        self._prepare, self._forward = tape.prepare_kernel(loss), tape.forward_kernel(loss)
        self._backward = tape.backward_kernel(loss, accumulate=True, seeded=True)
        self._streams = [(graph.inputs[node].value, node.shape.columns, node.shape.index) for node in streams]
        self._positions, self._about = tape.positions, {name: node.value for name, node in graph.about.items()}
        self._extent, self._optimizer, self._real = tape.parameter_extent(), optimizer, tape.real
        self._loss, self._dloss = loss.value, loss.gradient
        trained = [node for node in tape.order(loss) if node.is_parameter and not node.fixed]
        self._parameters = [(node.value, tape.extent(node)) for node in trained]

    def kernel(self) -> Kernel:
        """Its entry."""
        return Kernel(self.train, "train", self._real)

    def train(
        self,
        k: Builder,
        shared: Reals,
        gradients: Reals,
        work: Reals,
        kept: Reals,
        data: _Data,
        copies: _Copies,
        steps: _Steps,
    ) -> None:
        """So many steps, each on the mean gradient of all rows of its examples; stops before one that is not finite."""
        recorded, moves, taken = copies.recorded, copies.moves, steps.taken
        taken_before, packer = k.value(taken[0]), _Examples(k, work, self._positions, self._about, self._streams, data)
        for i in k.range(copies.count):
            shared[moves[2 * i + 1]] = k.convert(recorded[moves[2 * i]], self._real)
        at, going = k.variable(steps.at), k.variable(k.integer(1))
        for i in k.range(steps.count):
            for _ in k.when(going.equals(1)):
                clear(k, gradients, self._extent)
                self._prepare(k, shared)
                mean = self._learn(k, (shared, gradients, work), packer, at, at + steps.each, data.most)
                finite = (mean - mean).equals(0.0) & _all_finite(k, gradients, self._extent, self._real)
                going.set(k.select(finite, k.integer(1), 0))
                for _ in k.when(finite):
                    steps.losses[i] = mean
                    self._update(k, shared, gradients, kept, k.value(taken[0]), steps.settings)
                    taken[0] = taken[0] + 1
        is_new = taken[0] > taken_before
        for i in k.range(k.select(is_new, copies.count, 0)):  # numbers that no step has moved keep their bits
            recorded[moves[2 * i]] = k.convert(shared[moves[2 * i + 1]], F64)

    def _learn(
        self, k: Builder, memory: tuple[Reals, Reals, Reals], packer: _Examples, at: Variable, last: Value, most: Int
    ) -> Variable:
        """Add up the gradients of the examples from `at` to before the last; the mean loss."""
        shared, gradients, work = memory
        total, mean = k.variable(k.integer(0)), k.zeros()
        for example in k.range(at, last):
            total += packer.length(example)
        for _ in k.repeat_while(lambda: at < last):
            filled = packer.fill(at, k.minimum(last, at + most), training=True)
            if "share" in self._about:
                (work + self._about["share"])[0] = 1.0 / k.convert(filled, F32)
            self._forward(k, shared, work, 0, filled)
            share = k.convert(filled, F64) / k.convert(total, F64)
            mean += k.convert((work + self._loss)[0], F64) * share
            (work + self._dloss)[0] = k.convert(share, self._real)
            self._backward(k, shared, gradients, work, filled)
        return mean

    def _update(self, k: Builder, shared: Reals, gradients: Reals, kept: Reals, step: Value, settings: F64s) -> None:
        """Move the parameters by the optimizer's rule, and what it keeps of them."""
        optimizer, real, width = self._optimizer, self._real, k.width(self._real)
        numbers = [k.value(settings[index]) for index in range(3 + len(optimizer.own))]
        rate = rate_at(k, numbers[:3], step)
        constants = optimizer.constants(k, numbers[3:], k.convert(step, F64) + 1.0)
        spread = [k.spread(k.convert(number, real), width) for number in constants]
        falls, keeps = (k.spread(k.convert(number, real), width) for number in (rate, 1.0 - rate * numbers[1]))
        for start, size in self._parameters:
            for i in k.range(start, start + size, width):
                memory = [kept + index * self._extent for index in range(len(optimizer.kept))]
                state = [each.vector(i, width) for each in memory]
                direction = optimizer.move(k, spread, gradients.vector(i, width), state)
                for each, value in zip(memory, state, strict=True):
                    each.store(i, value)
                shared.store(i, shared.vector(i, width) * keeps - direction * falls)


def _all_finite(k: Builder, gradients: Reals, count: int, real: Type) -> Operand:
    width = k.width(real)
    total = k.zeros(width, real)
    for i in k.range(0, count, width):
        total += gradients.vector(i, width) * 0.0  # 0, or NaN
    return k.logical_not(k.any(total.differs(0.0)))
