"""A step of training for any loss on a tape, in machine code: forward, backward, optimizer, batch after batch.

    tape = Tape(positions=64)                                      # rows of a batch
    x, y = tape.input("x", 2), tape.input("y", 1)
    loss = tape.mse(x.linear("hidden", 16).tanh().linear("out", 1), y)
    step = tape.compile(loss, Adam(learning_rate=0.01))
    losses = step(x=points, y=values, steps=1000)

Not here: the graph (`tape.py`), what the fast engine makes of it (`fast_rewrites.py`), how parameters move
(`optimizers.py`).
"""

from __future__ import annotations

import math
from array import array
from itertools import accumulate, chain
from time import perf_counter

from tapegpt.autograd.operations.base import Batch, clear, pad
from tapegpt.autograd.operations.cross_entropy import CrossEntropy
from tapegpt.autograd.operations.mean_squared_error import MeanSquaredError
from tapegpt.autograd.operations.reductions import Mean
from tapegpt.autograd.operations.rows import across
from tapegpt.autograd.optimizers import Optimizer, rate_at
from tapegpt.autograd.packing import Packer
from tapegpt.autograd.rewrites import ROWS, Place, Rewriting
from tapegpt.autograd.saving import TAKEN, load, save
from tapegpt.data.rng import Random
from tapegpt.errors import DivergedError, TapeGPTError, is_whole, shown
from tapegpt.machine.language import F32, F64, U32, Builder, F64s, I64s, Int, Kernel, Reals, Structure, U32s
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.processes import Local
from tapegpt.ranges import Whole
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape
    from tapegpt.files import Path
    from tapegpt.machine.language import Number, Operand, Pointer, Type, Value
    from tapegpt.machine.program import Argument, Entries

STEPS = Whole(1, 1 << 24)  # of a call
BATCHES = Whole(1, 1 << 16)
PIECE = 0.05  # seconds of machine code that Ctrl-C may have to wait for, about twice
_OWN = ("steps", "seed", "lengths")  # what a call takes beside the inputs


class Step(Local):
    """Calling it trains: `losses = step(x=..., y=...)`. Made by `Tape.compile`.

    Data are given by the names of the tape's inputs: of those with a row for each position any number of rows, of
    others theirs. `steps_taken` counts over all calls; of a call that Ctrl-C ends it counts the steps that were done.
    """

    def __init__(self, tape: Tape, loss: Node, optimizer: Optimizer, batches: int = 1, *, fast: bool = False) -> None:
        BATCHES.check("batches", batches)
        self.tape, self.loss, self.optimizer, self.batches = tape, loss, optimizer, batches
        self._graph = (_fast_graph if fast else _exact_graph)(tape, loss)
        self._given = [*self._graph.inputs]
        self._check_names()
        self._streams = [node for node in self._given if node.shape.rows is None]
        self._packs = fast and all(map(_mixes_no_rows, tape.order(loss)))
        self._taken = array("q", [0])  # where machine code notes each step
        graph, kind = self._graph, type(optimizer)
        size, count = graph.tape.real.size, graph.tape.parameter_extent() * len(kind.kept)
        self._kept = Memory(size * count)
        self.numbers = self._kept.floats(0, count, size)
        entries: Entries = {"train": (_training_kernel(graph, kind, self._streams), {})}
        self._program = Program(entries, tape.target)
        self.notice, self.compile_seconds = self._program.notice, self._program.compile_seconds

    @property
    def steps_taken(self) -> int:
        """Steps that the parameters and what the optimizer keeps of them have gone through."""
        return self._taken[0]

    @steps_taken.setter
    def steps_taken(self, steps: int) -> None:
        TAKEN.check("steps_taken", steps)
        self._taken[0] = steps

    def save(self, path: Path) -> None:
        """Write the parameters of the tape, `steps_taken` and what the optimizer keeps: see `Tape.save`."""
        save(self.tape, path, self)

    def load(self, path: Path) -> None:
        """Read what the same step saved, maybe of another process, and go on from there to the same bits."""
        load(self.tape, path, self)

    def kept(self) -> dict[str, tuple[Node, array[int]]]:
        """What the optimizer keeps, by name: of which parameter, and where in `numbers` it is, row by row."""
        extent, kind, found = self._graph.tape.parameter_extent(), type(self.optimizer), {}
        for start, what in enumerate(kind.kept):
            for node, place in self._graph.parameters.items():
                name = f"{kind.__name__.lower()}.{what}.{node.name}"
                found[name] = node, array("I", [start * extent + number for number in _numbers_of(place)])
        return found

    def __call__(
        self, *, steps: int | None = None, seed: int | None = None, lengths: Sequence[int] | None = None, **data: object
    ) -> list[float]:
        """Take so many steps, by default one pass through the data; the loss of each, before it.

        A step takes the next `positions` rows in turn for each batch. With `lengths`, the rows of each sequence, it
        takes as many whole sequences as it has batches, one at a time or packed; its loss is the mean over its rows.
        The order is drawn with the seed, or without one as the data lie; after the last it begins again.

        Raises `DivergedError` at a loss or gradient that is not finite: that step changes nothing; and `TapeGPTError`
        for data that do not fit, before the first step.
        """
        numbers, rows = self._checked(data)
        joined = lengths is None
        if lengths is None:
            starts, most = array("q", range(rows + 1)), min(self.tape.positions, rows)
        else:
            starts, most = self._starts(lengths, rows), self.batches if self._packs else 1
        count = len(starts) - 1  # of examples, which are rows or sequences
        each = self.batches * (most if joined else 1)  # of a step
        steps = -(-count // each) if steps is None else steps
        STEPS.check("steps", steps)
        if seed is not None:
            Whole().check("seed", seed)
        order = array("I", range(count)) if seed is None else Random(seed).permutation(count)
        memory, moves = self._memory(numbers, rows), self._graph.moves
        settings, losses = array("d", self.optimizer.settings()), array("d", [0.0]) * steps
        places = [*self._graph.tape.regions(), self._kept.at(0)]
        examples: dict[str, Argument] = {
            "numbers": memory.at(0),
            "order": address_of(order),
            "starts": address_of(starts),
            "examples": count,
            "rows": rows,
            "joined": int(joined),
            "most": most,
        }
        copies = {"recorded": self.tape.regions()[0], "moves": address_of(moves or array("I", [0]))}
        noted: dict[str, Argument] = {"settings": address_of(settings), "taken": address_of(self._taken), "each": each}
        first, done, piece = self._taken[0], 0, 1
        try:
            while done < steps:
                begun, here = perf_counter(), self._taken[0]
                at = here * each % (count << 32)  # which is in the order where it is, and numbered by 32 bits
                piece = min(piece, steps - done)
                now: dict[str, Argument] = {**noted, "at": at, "count": piece, "losses": address_of(losses, done)}
                self._program.run("train", *places, examples, {**copies, "count": len(moves) // 2}, now)
                if self._taken[0] < here + piece:
                    raise DivergedError(self._taken[0], losses[: self._taken[0] - first].tolist())
                done += piece
                piece *= 2 if perf_counter() - begun < PIECE else 1
        finally:
            self.tape.end_training()
        return losses.tolist()

    # --- what is given ------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        names = [node.name for node in self._given]
        for name in names:
            if names.count(name) > 1 or name in _OWN:
                why = "two inputs have this name" if names.count(name) > 1 else "a step takes this name itself"
                raise TapeGPTError(f"compile: input {shown(name)}: {why}: choose another one")

    def _checked(self, data: dict[str, object]) -> tuple[dict[str, array[float]], int]:
        """The numbers of each input, those of fixed rows written where they belong; how many rows the others have."""
        names = [node.name for node in self._given]
        for name in [*data, *names]:
            if name not in data or name not in names:
                what = "is not given" if name in names else "is no input of the loss"
                raise TapeGPTError(f"step: {shown(name)} {what}: give {', '.join(names) or 'none'}")
        numbers = {node.name: _numbers(data[node.name], node, self._graph.tape.real) for node in self._given}
        lengths = {node.name: len(numbers[node.name]) // node.shape.columns for node in self._streams}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {rows:,}" for name, rows in lengths.items())
            raise TapeGPTError(f"step: inputs must have as many rows: {told}")
        for node in self._given:
            if node.shape.rows is not None:
                self._graph.tape.write(self._graph.inputs[node], numbers[node.name])
        return numbers, next(iter(lengths.values()), 1)

    def _starts(self, lengths: Sequence[int], rows: int) -> array[int]:
        """Where each sequence begins, and where the last ends."""
        listed = _listed(lengths, "lengths")
        for place, length in enumerate(listed):
            if not is_whole(length) or not 1 <= length <= self.tape.positions:
                whole = f"must be a whole number from 1 to the tape's {self.tape.positions} positions"
                raise TapeGPTError(f"step: length {place} {whole}, not {shown(length)}")
        if sum(listed) != rows:
            raise TapeGPTError(f"step: the lengths add up to {sum(listed):,} rows, the data have {rows:,}")
        return array("q", accumulate(listed, initial=0))

    def _memory(self, numbers: dict[str, array[float]], rows: int) -> Memory:
        """The data, input after input, row after row; a token id takes the place of a number."""
        size = self._graph.tape.real.size
        memory, start = Memory(size * rows * sum(node.shape.columns for node in self._streams)), 0
        for node in self._streams:
            given, count = numbers[node.name], rows * node.shape.columns
            if node.shape.index:
                memory.words(start, count * size // 4)[:: size // 4] = memoryview(given)
            else:
                memory.floats(start, count, size)[:] = memoryview(given)
            start += size * count
        return memory


def _numbers(given: object, node: Node, real: Type) -> array[float]:
    """The numbers of an input row after row, checked: rows of numbers or of rows of them, or all one after another."""
    rows, columns = _listed(given, repr(node)), node.shape.columns
    try:
        while rows and _is_row(rows[0]):
            if not _is_row(next(iter(rows[0]), 0.0)):
                wrong = next((place for place, row in enumerate(rows) if len(row) != columns), None)
                if wrong is not None:
                    raise TapeGPTError(f"{node!r}: row {wrong} has {len(rows[wrong])} numbers, not {columns}")
                rows = list(chain.from_iterable(rows))
            else:
                rows = [list(chain.from_iterable(row)) for row in rows]
    except TypeError:
        raise TapeGPTError(f"{node!r}: needs rows of numbers, all of one depth, not {shown(given)}") from None
    if not rows or len(rows) % columns:
        raise TapeGPTError(f"{node!r}: {len(rows)} numbers do not fill rows of {columns}")
    code = "I" if node.shape.index else "d" if real is F64 else "f"
    try:
        numbers = array(code, rows)
        if max(numbers) < node.bound if node.shape.index else _are_finite(numbers):
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    if node.shape.index:
        node.tape.check_ids(node, rows)
    wrong = next(place for place, number in enumerate(rows) if not _is_finite(number, code))
    raise TapeGPTError(f"{node!r}: row {wrong // columns} has {shown(rows[wrong])}: needs finite numbers of {real}")


def _listed(given: Any, whose: str) -> list[Any]:
    """The elements of a sequence, or of an array of NumPy or PyTorch."""
    try:
        if not isinstance(given, str | bytes | dict):
            return list(given.tolist() if hasattr(given, "tolist") else given)
    except TypeError:
        pass
    raise TapeGPTError(f"{whose}: needs a sequence of numbers, not {shown(given)}")


def _are_finite(numbers: array[float]) -> bool:
    return math.isfinite(sum(numbers)) or all(map(math.isfinite, numbers))  # one addition each is enough, as a rule


def _is_row(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def _is_finite(number: Any, code: str) -> bool:
    try:
        return math.isfinite(array(code, [number])[0])
    except (TypeError, ValueError, OverflowError):
        return False


# --- what runs --------------------------------------------------------------------------------------------------


class _Graph(Record):
    """The tape that a step runs, in f64 the very one that was recorded: what a kernel and its data must know of it."""

    tape: Tape
    loss: Node
    inputs: dict[Node, Node]  # of the recorded tape -> of this one
    about: dict[str, Node]  # what it has to know of its rows, see `Operation.to_f32`
    parameters: dict[Node, Place]  # of the recorded tape -> where they lie here
    moves: array[int]  # for each of these numbers where it lies there, and where here: none where it is the same tape


def _inputs(tape: Tape, loss: Node) -> list[Node]:
    """What the data are for."""
    sources = [node for node in tape.order(loss) if not node.operation and not node.is_parameter]
    return [node for node in sources if node is not tape.noise]


def _exact_graph(tape: Tape, loss: Node) -> _Graph:
    about = {"noise": tape.noise} if tape.noise else {}
    parameters = {node: _whole(node) for node in tape.order(loss) if node.is_parameter}
    return _Graph(tape, loss, {node: node for node in _inputs(tape, loss)}, about, parameters, array("I"))


def _fast_graph(tape: Tape, loss: Node) -> _Graph:
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
    batch = Batch(fast.positions, tape.positions, cached=False)
    from tapegpt.autograd.fast_rewrites import FAST

    rewriting = Rewriting(tape, [loss], fast, FAST, about, batch, inputs)
    fast_loss = rewriting.input(loss)
    tape.plan()
    fast.plan()
    used = {name: node for name, node in about.items() if node.uses}
    parameters = {node: rewriting.parameters[node.name] for node in tape.order(loss) if node.is_parameter}
    moves = array("I")
    for node, place in parameters.items():
        moves.extend(chain.from_iterable(zip(_numbers_of(_whole(node)), _numbers_of(place), strict=True)))
    return _Graph(fast, fast_loss, inputs, used, parameters, moves)


def _whole(node: Node) -> Place:
    return Place(node, range(node.shape.rows or 0), range(node.shape.columns))


def _numbers_of(place: Place) -> Iterator[int]:
    """Where the numbers of a parameter lie, row by row."""
    for row in place.rows:
        start = place.node.value + row * pad(place.node.shape.columns)
        yield from [start + column for column in place.columns]


def _mixes_no_rows(node: Node) -> bool:
    """Whether the rows of several sequences in one batch are to an operation what they are one sequence at a time.

    Where rows become one, that must be the mean that is the loss, or a part of it.
    """
    pools = node.shape.rows is not None and any(each.shape.rows is None for each in node.inputs)
    means = isinstance(node.operation, CrossEntropy | MeanSquaredError | Mean) and node.shape.columns == 1
    return means or not pools


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
                        target.store(t * pad(columns) + c, row.vector(c, lanes))
            source = source + data.rows * columns
        is_joined = data.joined.equals(1)
        begin, stop = k.select(is_joined, k.integer(0), first), k.select(is_joined, data.most, end)
        return lambda row: {"positions": row - begin, "ends": stop}


def _training_kernel(graph: _Graph, optimizer: type[Optimizer], streams: list[Node]) -> Kernel:
    """So many steps, each on the mean gradient of all rows of its examples; stops before one that is not finite."""
    tape, loss = graph.tape, graph.loss
    prepare, forward = tape.prepare_kernel(loss), tape.forward_kernel(loss)
    backward = tape.backward_kernel(loss, accumulate=True, seeded=True)
    places = [(graph.inputs[node].value, node.shape.columns, node.shape.index) for node in streams]
    positions, about = tape.positions, {name: node.value for name, node in graph.about.items()}
    extent, kept_each, own, real = tape.parameter_extent(), len(optimizer.kept), len(optimizer.own), tape.real
    loss_at, loss_gradient = loss.value, loss.gradient
    parameters = [(node.value, tape.extent(node)) for node in tape.order(loss) if node.is_parameter]

    def update(k: Builder, shared: Reals, gradients: Reals, kept: Reals, step: Value, settings: F64s) -> None:
        numbers = [k.value(settings[place]) for place in range(3 + own)]
        rate = rate_at(k, numbers[:3], step)
        constants = optimizer.constants(k, numbers[3:], k.convert(step, F64) + 1.0)
        width = k.width(real)
        spread = [k.spread(k.convert(number, real), width) for number in constants]
        falls, keeps = (k.spread(k.convert(number, real), width) for number in (rate, 1.0 - rate * numbers[1]))
        for start, size in parameters:
            for i in k.range(start, start + size, width):
                memory = [kept + place * extent for place in range(kept_each)]
                state = [each.vector(i, width) for each in memory]
                direction = optimizer.move(k, spread, gradients.vector(i, width), state)
                for each, value in zip(memory, state, strict=True):
                    each.store(i, value)
                shared.store(i, shared.vector(i, width) * keeps - direction * falls)

    def train(
        k: Builder,
        shared: Reals,
        gradients: Reals,
        work: Reals,
        kept: Reals,
        data: _Data,
        copies: _Copies,
        steps: _Steps,
    ) -> None:
        recorded, moves, taken = copies.recorded, copies.moves, steps.taken
        taken_before, packer = k.value(taken[0]), _Examples(k, work, positions, about, places, data)
        for i in k.range(copies.count):
            shared[moves[2 * i + 1]] = k.convert(recorded[moves[2 * i]], real)
        at, going = k.variable(steps.at), k.variable(k.integer(1))
        for i in k.range(steps.count):
            for _ in k.when(going.equals(1)):
                clear(k, gradients, extent)
                prepare(k, shared)
                last, total, mean = at + steps.each, k.variable(k.integer(0)), k.zeros()
                for example in k.range(at, last):
                    total += packer.length(example)
                for _ in k.repeat_while(lambda: at < last):
                    filled = packer.fill(at, k.minimum(last, at + data.most), training=True)
                    if "share" in about:
                        (work + about["share"])[0] = 1.0 / k.convert(filled, F32)
                    forward(k, shared, work, 0, filled)
                    share = k.convert(filled, F64) / k.convert(total, F64)
                    mean += k.convert((work + loss_at)[0], F64) * share
                    (work + loss_gradient)[0] = k.convert(share, real)
                    backward(k, shared, gradients, work, filled)
                finite = (mean - mean).equals(0.0) & _all_finite(k, gradients, extent, real)
                going.set(k.select(finite, k.integer(1), 0))
                for _ in k.when(finite):
                    steps.losses[i] = mean
                    update(k, shared, gradients, kept, k.value(taken[0]), steps.settings)
                    taken[0] = taken[0] + 1
        is_new = taken[0] > taken_before
        for i in k.range(k.select(is_new, copies.count, 0)):  # numbers that no step has moved keep their bits
            recorded[moves[2 * i]] = k.convert(shared[moves[2 * i + 1]], F64)

    return Kernel(train, "train", real)


def _all_finite(k: Builder, gradients: Reals, count: int, real: Type) -> Operand:
    """Whether every gradient is a number below infinity."""
    width = k.width(real)
    total = k.zeros(width, real)
    for i in k.range(0, count, width):
        total += gradients.vector(i, width) * 0.0  # 0, or NaN
    return k.logical_not(k.any(total.differs(0.0)))
