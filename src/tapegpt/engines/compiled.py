"""What the compiled engines have in common: memory for a graph's numbers, and copying them in and out.

Not here: what is done with them (`exact.py`, `fast/`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from array import array

from tapegpt.autograd.places import Extents, Place, Places
from tapegpt.data.tokens import Strings
from tapegpt.engines.base import Engine, Moments, Parameters, Snapshot
from tapegpt.errors import DivergedError, TapeGPTError
from tapegpt.machine.memory import Address, Memory, address_of
from tapegpt.machine.program import load
from tapegpt.machine.signature import Structure
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.model import Model
    from tapegpt.data.rng import Random
    from tapegpt.data.tokens import Tokens
    from tapegpt.machine.language import F64s, I64s, Int, Reals, U32s
    from tapegpt.machine.program import Argument, Entries
    from tapegpt.machine.target import Target

POWERS = 2  # of Adam's betas by the steps taken, as f64, where they are multiplied step by step
SYNC = 16  # f64 or i64 for each thread that shares them: no two share a cache line


class Plan(Record):
    """What an engine knows of its graph, once there is code."""

    extents: Extents
    places: Places
    parameters: int  # numbers of all parameters, padding included
    sizes: dict[str, int]  # what engines of one kind have to know beside them


class Numbers(Structure):
    """The numbers that a training changes."""

    shared: Reals  # the parameters, and what follows from them
    gradients: Reals  # of each thread
    first: Reals  # means of gradients
    second: Reals  # means of their squares


class Steps(Structure):
    """Which steps to take, on how many documents, and where to write their results."""

    documents: Int
    first: Int
    count: Int
    losses: F64s
    taken: I64s


class Generation(Structure):
    """Strings that are generated."""

    ids: U32s  # (count, room)
    lengths: I64s  # (count)
    count: Int
    room: Int  # tokens of a string, at most
    given: Int  # tokens that are there already, with which each string begins

    @staticmethod
    def arguments(strings: Strings) -> dict[str, Argument]:
        """It as an entry's argument, of strings that begin anyhow."""
        sizes = {"count": len(strings), "room": len(strings.ids) // max(len(strings), 1), "given": 0}
        return {"ids": address_of(strings.ids), "lengths": address_of(strings.lengths), **sizes}


class Documents(Structure):
    """Documents as one sequence of token ids, see `tokens.Tokens`."""

    ids: U32s
    starts: I64s

    @staticmethod
    def arguments(tokens: Tokens) -> dict[str, Address]:
        """They as an entry's argument."""
        return {"ids": address_of(tokens.ids), "starts": address_of(tokens.starts)}


class CompiledEngine(Engine):
    """An engine whose numbers lie in memory as the plan of its graph says (see `base.Engine`)."""

    powers = 0  # of Adam's betas that are multiplied step by step
    threads = 1

    def __init__(self, model: Model, vocab_size: int, target: Target | None = None) -> None:
        super().__init__()
        self.config, self.vocab_size = model, vocab_size
        classes = (Plan, Extents, Place, Places)
        plan, self._program = load(self._build, model, vocab_size, target=target, check=self._check_size, names=classes)
        self._plan, self._extents, self._places, self._size = plan, plan.extents, plan.places, plan.places.size
        self.notice, self.compile_seconds = self._program.notice, self._program.compile_seconds
        self._shared = Memory(self._size * self._extents.shared)
        self._moments, self._powers = self._no_moments()
        self._work = Memory(self._size * self.threads * self._extents.work)
        self._clear_gradients()

    @staticmethod
    @abstractmethod
    def _build(model: Model, vocab_size: int, target: Target) -> tuple[Plan, Entries]:
        """Its plan, and the entries of its program."""

    def _check_size(self, plan: Plan) -> None:
        """Raise `TapeGPTError` where it would need too much memory."""

    def _no_moments(self) -> tuple[Memory, array[float]]:
        """Adam's means at zero, and the powers of its betas."""
        return Memory(2 * self._size * self._extents.gradients), array("d", [1.0] * self.powers)

    def _clear_gradients(self) -> None:
        self._gradients = Memory(self._size * self.threads * self._extents.gradients)

    # --- parameters ---------------------------------------------------------------------------------------------

    def _parameters(self) -> Parameters:
        return self._places.read(self._shared)

    def _load_parameters(self, parameters: Parameters) -> None:
        own, (moments, powers) = self._own_parameters(), self._no_moments()
        fresh, fixed = Memory(len(own)), len(self._trained())
        content = fresh.at(0).view[: len(own)]
        content[fixed:] = own[fixed:]
        self._places.write(fresh, parameters)
        self._clear_gradients()
        own[:] = content  # from here on no call, between whose returns Ctrl-C comes
        self._moments, self._powers = moments, powers

    def _own_parameters(self) -> memoryview:
        return self._shared.at(0).view[: self._size * self._plan.parameters]

    def _trained(self) -> memoryview:
        return self._shared.at(0).view[: self._size * self._extents.gradients]

    def _snapshot(self) -> Snapshot:
        return bytes(self._trained())

    def _restore(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot, bytes)
        self._trained()[:] = snapshot

    def parameters_in(self, snapshot: Snapshot) -> Parameters:
        """The parameters of a snapshot, which has no fixed ones."""
        assert isinstance(snapshot, bytes)
        memory = Memory(len(snapshot))
        memory.at(0).view[:] = snapshot
        return self._places.read(memory, trained=True)

    def _copy_moments(self) -> Moments:
        mean, square = (self._places.read(self._moments, start, trained=True) for start in (0, self._extents.gradients))
        return Moments(mean, square, tuple(self._powers))

    def _load_moments(self, moments: Moments) -> None:
        fresh, powers = self._no_moments()
        self._places.write(fresh, moments.mean)
        self._places.write(fresh, moments.square, self._extents.gradients)
        if len(moments.powers) != self.powers:
            raise TapeGPTError(f"Adam must have {self.powers} powers, not {len(moments.powers)}")
        powers[:] = array("d", moments.powers)
        self._moments, self._powers = fresh, powers

    def _numbers(self) -> dict[str, Address]:
        """What the kernel of a training takes as `Numbers`."""
        first, second = (self._moments.at(start * self._size * self._extents.gradients) for start in (0, 1))
        return {"shared": self._shared.at(0), "gradients": self._gradients.at(0), "first": first, "second": second}

    # --- runs ---------------------------------------------------------------------------------------------------

    def _steps(self, documents: int, first: int, losses: array[float]) -> dict[str, Argument]:
        """What the kernel of a training takes as `Steps`, one for each loss."""
        results = {"losses": address_of(losses), "taken": address_of(self._taken)}
        return {"documents": documents, "first": first, "count": len(losses), **results}

    def _evaluate(self, tokens: Tokens) -> tuple[float, int]:
        from tapegpt.machine.threads import run_parts

        results = array("d", bytes(16 * self.threads))

        def part(thread: int, _: array[int]) -> None:
            ends = [len(tokens) * end // self.threads for end in (thread, thread + 1)]
            memory = (self._shared.at(0), self._work.at(self._size * thread * self._extents.work))
            documents, result = Documents.arguments(tokens), address_of(results, 2 * thread)
            self._program.run("evaluate", *memory, documents, *ends, result)

        self._program.run("prepare", self._shared.at(0))
        run_parts(part, self.threads)
        return sum(results[0::2]), int(sum(results[1::2]))

    def _generate(self, rng: Random, count: int, temperature: float, max_length: int) -> Strings:
        strings = Strings.empty(count, max_length)
        self._decode(rng, strings, temperature)
        return strings

    @abstractmethod
    def _decode(self, rng: Random, strings: Strings, temperature: float) -> None: ...


def check_losses(losses: array[float], first: int) -> list[float]:
    """The losses of steps from the first on; raises `DivergedError` at one that is not finite."""
    for taken, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise DivergedError(first + taken, losses[:taken].tolist())
    return losses.tolist()
