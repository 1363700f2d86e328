"""A step of training for any loss on a tape, in machine code: forward, backward, optimizer, batch after batch.

    tape = Tape(positions=64)                                      # rows of a batch
    x, y = tape.input("x", 2), tape.input("y", 1)
    loss = tape.mse(x.linear("hidden", 16).tanh().linear("out", 1), y)
    step = tape.compile(loss, Adam(learning_rate=0.01))
    losses = step(x=points, y=values, steps=1000)

Not here: the graph (`tape.py`), how parameters move (`optimizers.py`).
"""

from __future__ import annotations

import math
from array import array
from itertools import chain

from tapegpt.errors import DivergedError, TapeGPTError, shown
from tapegpt.machine.language import F64, U32, Builder, F64s, Int, Kernel, Reals, U32s
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.operations.base import clear, padded
from tapegpt.optimizers import rate_at
from tapegpt.processes import Local
from tapegpt.ranges import Whole
from tapegpt.rng import Random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tapegpt.machine.language import Operand, Type, Value
    from tapegpt.machine.program import Entries
    from tapegpt.optimizers import Optimizer
    from tapegpt.tape import Node, Tape

STEPS = Whole(1, 1 << 40)


class Step(Local):
    """Calling it trains: `losses = step(x=..., y=...)`. Made by `Tape.compile`.

    Data are given by the names of the tape's inputs, a row for each example; inputs with a row for each position take
    all of them, `positions` at a time, others take theirs as they are. `steps_taken` counts from the first call on.
    """

    def __init__(self, tape: Tape, loss: Node, optimizer: Optimizer, batches: int = 1) -> None:
        Whole(1, 1 << 20).check("batches", batches)
        self.tape, self.loss, self.optimizer, self.batches = tape, loss, optimizer, batches
        self.steps_taken = 0
        sources = [node for node in tape.order(loss) if not node.operation and not node.is_parameter]
        self._inputs = [node for node in sources if node is not tape.noise]
        self._streams = [node for node in self._inputs if node.shape.rows is None]
        extent, size = tape.parameter_extent(), tape.real.size
        self._kept = Memory(size * extent * max(1, optimizer.kept))
        entries: Entries = {"train": (_training_kernel(tape, loss, type(optimizer), batches, self._streams), {})}
        self._program = Program(entries, tape.target)
        self.notice, self.compile_seconds = self._program.notice, self._program.compile_seconds

    def __call__(self, *, steps: int | None = None, seed: int | None = None, **data: object) -> list[float]:
        """Take so many steps, by default one pass through the data; the loss of each, before it.

        A step takes the next rows in turn, in an order drawn with the seed, without one as they lie; after the last it
        begins again. Raises `DivergedError` at a loss or gradient that is not finite: that step changes nothing; and
        `TapeGPTError` for data that do not fit.
        """
        rows = self._given(data)
        batch = min(self.tape.positions, rows)
        count = max(1, -(-rows // (batch * self.batches))) if steps is None else steps
        STEPS.check("steps", count)
        order = array("I", range(rows)) if seed is None else Random(seed).permutation(rows)
        settings, losses = array("d", self.optimizer.settings()), array("d", bytes(8 * count))
        memory = self._memory(rows, data)
        places = [*self.tape.regions(), self._kept.at(0), memory.at(0), address_of(order)]
        numbers = (rows, batch, self.steps_taken, count)
        self._program.run("train", *places, *numbers, address_of(settings), address_of(losses))
        self.tape.changed()
        if self.tape.noise:  # no other run has dropout
            self.tape.write(self.tape.noise, [0] * self.tape.positions)
        for taken, loss in enumerate(losses):
            if not math.isfinite(loss):
                self.steps_taken += taken
                raise DivergedError(self.steps_taken, losses[:taken].tolist())
        self.steps_taken += count
        return losses.tolist()

    def _given(self, data: dict[str, object]) -> int:
        """Check the names, write inputs of fixed size; how many rows the others have."""
        names = [node.name for node in self._inputs]
        for name in data:
            if name not in names:
                raise TapeGPTError(f"{shown(name)} is no input of the loss: give {', '.join(names)}")
        for name in names:
            if name not in data:
                raise TapeGPTError(f"input {shown(name)} of the loss is not given: give {', '.join(names)}")
        lengths = {}
        for node in self._inputs:
            numbers = data[node.name] = _flat(data[node.name], node)
            if node.shape.rows is not None:
                self.tape.write(node, numbers)
            elif not numbers or len(numbers) % node.shape.columns:
                raise TapeGPTError(f"{node!r}: {len(numbers)} numbers do not fill rows of {node.shape.columns}")
            else:
                lengths[node.name] = len(numbers) // node.shape.columns
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {rows:,}" for name, rows in lengths.items())
            raise TapeGPTError(f"inputs must have as many rows: {told}")
        return next(iter(lengths.values()), 1)

    def _memory(self, rows: int, data: dict[str, object]) -> Memory:
        """The data, input after input, row after row; a token id takes the place of a number."""
        size = self.tape.real.size
        memory = Memory(size * rows * max(1, sum(node.shape.columns for node in self._streams)))
        start = 0
        for node in self._streams:
            numbers, count = data[node.name], rows * node.shape.columns
            assert isinstance(numbers, list)
            if node.shape.index:
                self.tape.check_ids(node, numbers)
                memory.words(start, count * size // 4)[:: size // 4] = array("I", map(int, numbers))
            else:
                memory.floats(start, count, size)[:] = array("d" if size == 8 else "f", numbers)
            start += size * count
        return memory


def _flat(numbers: object, node: Node) -> list[float]:
    """Rows of numbers, or numbers, of NumPy and others too, one after the other."""
    listed: object = numbers.tolist() if hasattr(numbers, "tolist") else numbers
    try:
        rows = list(listed)  # type: ignore[call-overload]  # it is asked
        nested: Iterable[float] = chain.from_iterable(rows) if rows and hasattr(rows[0], "__iter__") else rows
        return list(nested)
    except TypeError:
        raise TapeGPTError(f"{node!r}: needs rows of numbers, not {shown(numbers)}") from None


def _training_kernel(tape: Tape, loss: Node, optimizer: type[Optimizer], batches: int, streams: list[Node]) -> Kernel:
    """Steps first to first + count - 1 of the mean gradient of so many batches."""
    prepare, forward = tape.prepare_kernel(loss), tape.forward_kernel(loss)
    backward = tape.backward_kernel(loss, accumulate=True)
    extent, kept_each, own = tape.parameter_extent(), optimizer.kept, len(optimizer.own)
    real = tape.real
    places = [(node.value, node.shape.columns, node.shape.index) for node in streams]
    loss_at, noise_at = loss.value, tape.noise.value if tape.noise else -1

    def fill(k: Builder, work: Reals, data: Reals, order: U32s, rows: Operand, at: Value, batch: Operand) -> None:
        """Copy the next rows of the data to the inputs."""
        start = k.integer(0)
        for value, columns, is_index in places:
            for t in k.range(batch):
                row = order[(at + t) % rows]
                source, target = data + (start + row * columns), work + value
                if is_index:
                    target.cast(U32)[t] = source.cast(U32)[0]
                else:
                    for offset, lanes in k.vectors(columns, real):
                        target.store(t * padded(columns) + offset, source.vector(offset, lanes))
            start = start + rows * columns
        if noise_at >= 0:
            for t in k.range(batch):
                (work + noise_at).cast(U32)[t] = at + t + 1

    def update(k: Builder, shared: Reals, gradients: Reals, kept: Reals, step: Value, settings: F64s) -> None:
        numbers = [k.value(settings[place]) for place in range(3 + own)]
        rate = rate_at(k, numbers[:3], step)
        constants = optimizer.constants(k, numbers[3:], k.convert(step, F64) + 1.0)
        width = k.width(real)
        spread = [k.spread(k.convert(number, real), width) for number in constants]
        share, falls, keeps = (
            k.spread(k.convert(number, real), width)
            for number in (k.real(1.0 / batches), rate, 1.0 - rate * numbers[1])
        )
        for i in k.range(0, extent, width):
            memory = [kept + place * extent for place in range(kept_each)]
            state = [each.vector(i, width) for each in memory]
            direction = optimizer.move(k, spread, gradients.vector(i, width) * share, state)
            for each, value in zip(memory, state, strict=True):
                each.store(i, value)
            shared.store(i, shared.vector(i, width) * keeps - direction * falls)

    def train(
        k: Builder,
        shared: Reals,
        gradients: Reals,
        work: Reals,
        kept: Reals,
        data: Reals,
        order: U32s,
        rows: Int,
        batch: Int,
        first: Int,
        count: Int,
        settings: F64s,
        losses: F64s,
    ) -> None:
        going = k.variable(k.integer(1))
        for i in k.range(count):
            for _ in k.when(going.equals(1)):
                step = first + i
                clear(k, gradients, extent)
                prepare(k, shared)
                total = k.zeros()
                for part in k.range(batches):
                    fill(k, work, data, order, rows, (step * batches + part) * batch, batch)
                    forward(k, shared, work, 0, batch)
                    total += k.convert((work + loss_at)[0], F64)
                    backward(k, shared, gradients, work, batch)
                mean = total * (1.0 / batches)
                finite = (mean - mean).equals(0.0) & _all_finite(k, gradients, extent, real)
                losses[i] = k.select(finite, mean, float("nan"))
                going.set(k.select(finite, k.integer(1), 0))
                for _ in k.when(finite):
                    update(k, shared, gradients, kept, step, settings)

    return Kernel(train, "train", real)


def _all_finite(k: Builder, gradients: Reals, count: int, real: Type) -> Operand:
    """Whether every gradient is a number below infinity."""
    width = k.width(real)
    total = k.zeros(width, real)
    for i in k.range(0, count, width):
        total += gradients.vector(i, width) * 0.0  # 0, or NaN
    return k.negated(k.any(total.differs(0.0)))
