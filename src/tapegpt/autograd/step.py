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

from tapegpt.autograd.node import as_list
from tapegpt.autograd.saving import TAKEN, load, save
from tapegpt.autograd.step_kernel import Training, exact_graph, fast_graph, mixes_no_rows, offsets_of
from tapegpt.data.rng import Random
from tapegpt.errors import DivergedError, TapeGPTError, is_whole, quote
from tapegpt.machine.language import F64
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.processes import Local
from tapegpt.ranges import Whole, are_finite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.optimizers import Optimizer
    from tapegpt.autograd.tape import Tape
    from tapegpt.files import Path
    from tapegpt.machine.language import Type
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

    def __init__(self, tape: Tape, loss: Node, optimizer: Optimizer, batches: int, *, fast: bool) -> None:
        BATCHES.check("batches", batches)
        self.tape, self.loss, self.optimizer, self.batches = tape, loss, optimizer, batches
        self._graph = (fast_graph if fast else exact_graph)(tape, loss)
        self._given = [*self._graph.inputs]
        self._check_names()
        self._streams = [node for node in self._given if node.shape.rows is None]
        self._packs = fast and mixes_no_rows(tape.order(loss))
        self._taken = array("q", [0])  # where machine code notes each step
        graph, kind = self._graph, type(optimizer)
        size, count = graph.tape.real.size, graph.tape.parameter_extent() * len(kind.kept)
        self._kept = Memory(size * count)
        self.numbers = self._kept.floats(0, count, size)
        entries: Entries = {"train": (Training(graph, kind, self._streams).kernel(), {})}
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
        """Read what the same step saved, maybe of another process, and continue from there to the same bits."""
        load(self.tape, path, self)

    def kept(self) -> dict[str, tuple[Node, array[int]]]:
        """What the optimizer keeps, by name: of which parameter, and where in `numbers` it is, row by row."""
        extent, kind, found = self._graph.tape.parameter_extent(), type(self.optimizer), {}
        trained = {node: location for node, location in self._graph.parameters.items() if not node.fixed}
        for start, what in enumerate(kind.kept):
            for node, location in trained.items():
                name = f"{kind.__name__.lower()}.{what}.{node.name}"
                found[name] = node, array("I", [start * extent + number for number in offsets_of(location)])
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
        numbers, rows = self._check(data)
        starts, most, each = self._split(lengths, rows)
        count = len(starts) - 1  # of examples, which are rows or sequences
        steps = -(-count // each) if steps is None else steps
        STEPS.check("steps", steps)
        if seed is not None:
            Whole().check("seed", seed)
        order = array("I", range(count)) if seed is None else Random(seed).permutation(count)
        memory, losses = self._lay_out(numbers, rows), array("d", [0.0]) * steps
        examples: dict[str, Argument] = {
            "numbers": memory.at(0),
            "order": address_of(order),
            "starts": address_of(starts),
            "examples": count,
            "rows": rows,
            "joined": int(lengths is None),
            "most": most,
        }
        try:
            self._train(examples, count, each, losses)
        finally:
            self.tape.end_training()
        return losses.tolist()

    def _train(self, examples: dict[str, Argument], count: int, each: int, losses: array[float]) -> None:
        """Take a step for each loss, with `each` of `count` examples: piece by piece, so that Ctrl-C need not wait."""
        settings, moves = array("d", self.optimizer.settings()), self._graph.moves or array("I", [0])
        memory = [*self._graph.tape.regions(), self._kept.at(0)]
        copied: dict[str, Argument] = {
            "recorded": self.tape.regions()[0],
            "moves": address_of(moves),
            "count": len(self._graph.moves) // 2,
        }
        noted: dict[str, Argument] = {"settings": address_of(settings), "taken": address_of(self._taken), "each": each}
        first, done, piece = self._taken[0], 0, 1
        while done < len(losses):
            begun, here = perf_counter(), self._taken[0]
            at = here * each % (count << 32)  # the first example, in the order and all later rounds of it
            piece = min(piece, len(losses) - done)
            steps: dict[str, Argument] = {**noted, "at": at, "count": piece, "losses": address_of(losses, done)}
            self._program.run("train", *memory, examples, copied, steps)
            if self._taken[0] < here + piece:
                raise DivergedError(self._taken[0], losses[: self._taken[0] - first].tolist())
            done += piece
            piece *= 2 if perf_counter() - begun < PIECE else 1

    # --- what is given ------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        names = [node.name for node in self._given]
        for name in names:
            if names.count(name) > 1 or name in _OWN:
                why = "two inputs have this name" if names.count(name) > 1 else "a step takes this name itself"
                raise TapeGPTError(f"compile: input {quote(name)}: {why}: choose another one")

    def _check(self, data: dict[str, object]) -> tuple[dict[str, array[float]], int]:
        """The numbers of each input, those of fixed rows written where they belong; how many rows the others have."""
        names = [node.name for node in self._given]
        for name in [*data, *names]:
            if name not in data or name not in names:
                what = "is not given" if name in names else "is no input of the loss"
                raise TapeGPTError(f"step: {quote(name)} {what}: give {', '.join(names) or 'none'}")
        numbers = {node.name: _numbers(data[node.name], node, self._graph.tape.real) for node in self._given}
        lengths = {node.name: len(numbers[node.name]) // node.shape.columns for node in self._streams}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {rows:,}" for name, rows in lengths.items())
            raise TapeGPTError(f"step: inputs must have as many rows: {told}")
        for node in self._given:
            if node.shape.rows is not None:
                self._graph.tape.write(self._graph.inputs[node], numbers[node.name])
        return numbers, next(iter(lengths.values()), 1)

    def _split(self, lengths: Sequence[int] | None, rows: int) -> tuple[array[int], int, int]:
        """Where each example begins and the last ends, the most examples of a run, and those of a step."""
        if lengths is None:
            most = min(self.tape.positions, rows)
            return array("q", range(rows + 1)), most, self.batches * most
        listed = as_list(lengths, "lengths")
        for index, length in enumerate(listed):
            if not is_whole(length) or not 1 <= length <= self.tape.positions:
                whole = f"must be a whole number from 1 to the tape's {self.tape.positions} positions"
                raise TapeGPTError(f"step: length {index} {whole}, not {quote(length)}")
        if sum(listed) != rows:
            raise TapeGPTError(f"step: the lengths add up to {sum(listed):,} rows, the data have {rows:,}")
        return array("q", accumulate(listed, initial=0)), self.batches if self._packs else 1, self.batches

    def _lay_out(self, numbers: dict[str, array[float]], rows: int) -> Memory:
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
    rows, columns = as_list(given, repr(node)), node.shape.columns
    try:
        while rows and _is_row(rows[0]):
            if not _is_row(next(iter(rows[0]), 0.0)):
                wrong = next((index for index, row in enumerate(rows) if len(row) != columns), None)
                if wrong is not None:
                    raise TapeGPTError(f"{node!r}: row {wrong} has {len(rows[wrong])} numbers, not {columns}")
                rows = list(chain.from_iterable(rows))
            else:
                rows = [list(chain.from_iterable(row)) for row in rows]
    except TypeError:
        raise TapeGPTError(f"{node!r}: needs rows of numbers, all of one depth, not {quote(given)}") from None
    if not rows or len(rows) % columns:
        raise TapeGPTError(f"{node!r}: {len(rows)} numbers do not fill rows of {columns}")
    code = "I" if node.shape.index else "d" if real is F64 else "f"
    try:
        numbers = array(code, rows)
        if max(numbers) < node.bound if node.shape.index else are_finite(numbers):
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    if node.shape.index:
        node.tape.check_ids(node, rows)
    wrong = next(index for index, number in enumerate(rows) if not _is_finite(number, code))
    raise TapeGPTError(f"{node!r}: row {wrong // columns} has {quote(rows[wrong])}: needs finite numbers of {real}")


def _is_row(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def _is_finite(number: Any, code: str) -> bool:
    try:
        return math.isfinite(array(code, [number])[0])
    except (TypeError, ValueError, OverflowError):
        return False
