"""The fast engine: f32, batches of documents packed without padding, threads. Same model, same tape, own roundings.

The same seed and settings give the same bits, for the same vector width and number of threads, however the steps are
cut into calls and the strings into batches. Not here: the operations (`operations/fast/`), text, files.
"""

from __future__ import annotations

import math
from array import array

from tapegpt.engine import Engine, Moments, Strings
from tapegpt.errors import DivergedError, TapeGPTError
from tapegpt.fast.adam import STATE, settings_of
from tapegpt.fast.generation import generation_kernel
from tapegpt.fast.training import SYNC, evaluation_kernel, training_kernel
from tapegpt.graph import SLOTS, fast_graph
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.machine.threads import run_parts
from tapegpt.tape import check_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engine import Adam, Parameters, Snapshot, Tokens
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target
    from tapegpt.models.base import Model
    from tapegpt.rng import Random


class FastEngine(Engine):
    """Trains and samples one model in f32, `batch_size` documents a step (see `engine.Engine`).

    A loss is the mean over all positions of the batch. `threads` share the documents of a step.
    """

    name = "fast"

    def __init__(
        self, config: Model, vocab_size: int, batch_size: int = 16, threads: int = 1, target: Target | None = None
    ) -> None:
        super().__init__()
        self.config, self.vocab_size, self.batch_size = config, vocab_size, batch_size
        self._graph = graph = fast_graph(config, vocab_size, target=target)
        speech = fast_graph(config, vocab_size, target=target, cached=True)
        self._extents, spoken = graph.tape.plan(), speech.tape.plan()
        assert (self._extents.shared, self._extents.gradients) == (spoken.shared, spoken.gradients)
        entries: Entries = {
            "train": (training_kernel(graph), {}),
            "prepare": (graph.tape.prepare_kernel(graph.loss), {}),
            "evaluate": (evaluation_kernel(graph), {}),
            "generate": (generation_kernel(speech), {}),
        }
        touched = batch_size * config.block_size * len(graph.looked_up)
        own = self._extents.work + self._extents.gradients + touched  # numbers of a thread
        check_size(4 * (self._extents.shared + 2 * self._extents.gradients + threads * own))
        self._program = Program(entries, target)
        self.notice, self.compile_seconds = self._program.notice, self._program.compile_seconds
        self.threads = threads if self._program.compiled else 1
        self._shared = Memory(4 * self._extents.shared)
        self._gradients = Memory(4 * self.threads * self._extents.gradients)
        self._work = Memory(4 * self.threads * self._extents.work)
        self._voice = Memory(4 * spoken.work)
        self._moments, self._state = self._no_moments()

    def _no_moments(self) -> tuple[Memory, array[float]]:
        """Adam's means at zero, and the powers of its betas."""
        return Memory(4 * 2 * self._extents.gradients), array("d", [1.0] * len(STATE))

    # --- parameters ---------------------------------------------------------------------------------------------

    def _parameters(self) -> Parameters:
        return self._graph.read(self._shared)

    def _load_parameters(self, parameters: Parameters) -> None:
        fresh, moments, state = Memory(4 * self._extents.gradients), *self._no_moments()
        gradients = Memory(4 * self.threads * self._extents.gradients)
        self._graph.write(fresh, parameters)
        content, place = fresh.at(0).view, self._own_parameters()
        place[:] = content  # from here on no call, between whose returns Ctrl-C comes
        self._moments, self._state, self._gradients = moments, state, gradients

    def _own_parameters(self) -> memoryview:
        """All parameters as bytes."""
        return self._shared.at(0).view[: 4 * self._extents.gradients]

    def _snapshot(self) -> Snapshot:
        return bytes(self._own_parameters())

    def _restore(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot, bytes)
        self._own_parameters()[:] = snapshot

    def parameters_in(self, snapshot: Snapshot) -> Parameters:
        assert isinstance(snapshot, bytes)
        memory = Memory(len(snapshot))
        memory.at(0).view[:] = snapshot
        return self._graph.read(memory)

    def _copied_moments(self) -> Moments:
        mean, square = (self._graph.read(self._moments, start) for start in (0, self._extents.gradients))
        return Moments(mean, square, tuple(self._state))

    def _load_moments(self, moments: Moments) -> None:
        fresh, state = self._no_moments()
        self._graph.write(fresh, moments.mean)
        self._graph.write(fresh, moments.square, self._extents.gradients)
        if len(moments.powers) != len(STATE):
            raise TapeGPTError(f"Adam must have {len(STATE)} powers, not {len(moments.powers)}")
        state[:] = array("d", moments.powers)
        self._moments, self._state = fresh, state

    # --- runs ---------------------------------------------------------------------------------------------------

    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]:
        losses = array("d", bytes(8 * count))
        order = array("I", range(len(tokens))) if tokens.order is None else tokens.order
        settings, sync = array("d", settings_of(adam)), array("q", bytes(8 * SYNC))
        sums = array("d", bytes(8 * SYNC * self.threads))
        places = [self._shared.at(0), self._gradients.at(0), self._work.at(0)]
        places += [self._moments.at(0), self._moments.at(4 * self._extents.gradients), address_of(self._taken)]
        places += [address_of(tokens.ids), address_of(tokens.starts), address_of(order)]
        numbers = (len(order), self.batch_size, first, count, float(first) if progress is None else progress)
        capacity = self.batch_size * self.config.block_size * len(self._graph.looked_up)
        touched = Memory(4 * self.threads * capacity)
        common = [address_of(numbers) for numbers in (settings, self._state, losses, sums, sync)]
        common.append(touched.at(0))

        def part(thread: int, stop: array[int]) -> None:
            stop_at = address_of(stop)
            self._program.run("train", *places, *numbers, *common, capacity, stop_at, thread, self.threads)

        run_parts(part, self.threads)
        for taken, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise DivergedError(first + taken, losses[:taken].tolist())
        return losses.tolist()

    def _evaluate(self, tokens: Tokens) -> tuple[float, int]:
        results = array("d", bytes(16 * self.threads))

        def part(thread: int, _: array[int]) -> None:
            ends = [len(tokens) * end // self.threads for end in (thread, thread + 1)]
            self._program.run(
                "evaluate",
                self._shared.at(0),
                self._work.at(4 * thread * self._extents.work),
                address_of(tokens.ids),
                address_of(tokens.starts),
                *ends,
                address_of(results, 2 * thread),
            )

        self._program.run("prepare", self._shared.at(0))
        run_parts(part, self.threads)
        return sum(results[0::2]), int(sum(results[1::2]))

    def _generate(self, rng: Random, count: int, temperature: float) -> Strings:
        block = self.config.block_size
        ids, lengths = array("I", bytes(4 * count * block)), array("q", bytes(8 * count))
        rows = array("q", bytes(16 * SLOTS))
        places = [self._shared.at(0), self._voice.at(0), *map(address_of, (rng.words, rows, ids, lengths))]
        self._program.run("prepare", self._shared.at(0))
        self._program.run("generate", *places, count, temperature)
        return Strings(ids, lengths)
