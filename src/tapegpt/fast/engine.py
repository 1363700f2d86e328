"""The fast engine: f32, batches of documents packed without padding, threads. Same model, same tape, own roundings.

The same seed and settings give the same bits, for the same vector width and number of threads, however the steps are
cut into calls and the strings into batches. Not here: the operations (`operations/fast/`), text, files.
"""

from __future__ import annotations

import math
from _thread import allocate_lock
from array import array

from tapegpt.engine import Engine, Moments, Strings
from tapegpt.errors import DivergedError, TapeGPTError
from tapegpt.fast.adam import STATE, settings_of
from tapegpt.fast.generation import generation_kernel
from tapegpt.fast.graph import ROWS, SLOTS, FastGraph
from tapegpt.fast.places import load, read
from tapegpt.fast.training import SYNC, evaluation_kernel, training_kernel
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.tape import check_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.config import Config
    from tapegpt.engine import Adam, Parameters, Snapshot, Tokens
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target
    from tapegpt.rng import Random


class FastEngine(Engine):
    """Trains and samples one model in f32, `batch_size` documents a step (see `engine.Engine`).

    A loss is the mean over all positions of the batch. `threads` share the documents of a step.
    """

    name = "fast"

    def __init__(
        self, config: Config, vocab_size: int, batch_size: int = 16, threads: int = 1, target: Target | None = None
    ) -> None:
        self.config, self.vocab_size, self.batch_size = config, vocab_size, batch_size
        positions = max(config.block_size, ROWS)
        self._graph = graph = FastGraph(config, vocab_size, positions, target)
        speech = FastGraph(config, vocab_size, SLOTS, target, cached=True)
        self._extents, spoken = graph.tape.plan(), speech.tape.plan()
        assert (self._extents.shared, self._extents.gradients) == (spoken.shared, spoken.gradients)
        entries: Entries = {
            "train": (training_kernel(graph), {}),
            "prepare": (graph.tape.prepare_kernel(graph.loss), {}),
            "evaluate": (evaluation_kernel(graph), {}),
            "generate": (generation_kernel(speech), {}),
        }
        touched = batch_size * config.block_size * len(graph.runs)
        own = self._extents.work + self._extents.gradients + touched  # numbers of a thread
        check_size(4 * (self._extents.shared + 2 * self._extents.gradients + threads * own))
        self._program = Program(entries, target)
        self.notice, self.compile_seconds = self._program.notice, self._program.compile_seconds
        self.threads = threads if self._program.compiled else 1
        self._shared = Memory(4 * self._extents.shared)
        self._gradients = self._zeroed_gradients()
        self._work = Memory(4 * self.threads * self._extents.work)
        self._voice = Memory(4 * spoken.work)
        self._forget()
        self._lock = allocate_lock()  # machine code runs without the interpreter's, and there is one memory

    def _forget(self) -> None:
        """Start Adam's moments again at zero."""
        self._moments = Memory(4 * 2 * self._extents.gradients)
        self._state = array("d", [1.0] * len(STATE))

    def _zeroed_gradients(self) -> Memory:
        return Memory(4 * self.threads * self._extents.gradients)

    # --- parameters ---------------------------------------------------------------------------------------------

    def parameters(self) -> Parameters:
        return read(self._graph, self._shared)

    def load_parameters(self, parameters: Parameters) -> None:
        load(self._graph, self._shared, parameters)
        self._forget()
        self.revision += 1

    def snapshot(self) -> Snapshot:
        return bytes(self._shared.at(0).view[: 4 * self._extents.gradients])

    def restore(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot, bytes)
        self._shared.at(0).view[: len(snapshot)] = snapshot
        self.revision += 1

    def parameters_in(self, snapshot: Snapshot) -> Parameters:
        assert isinstance(snapshot, bytes)
        memory = Memory(len(snapshot))
        memory.at(0).view[:] = snapshot
        return read(self._graph, memory)

    def moments(self) -> Moments:
        mean, square = (read(self._graph, self._moments, start) for start in (0, self._extents.gradients))
        return Moments(mean, square, tuple(self._state))

    def load_moments(self, moments: Moments) -> None:
        load(self._graph, self._moments, moments.mean)
        load(self._graph, self._moments, moments.square, self._extents.gradients)
        if len(moments.powers) != len(STATE):
            raise TapeGPTError(f"Adam must have {len(STATE)} powers, not {len(moments.powers)}")
        self._state = array("d", moments.powers)

    # --- runs ---------------------------------------------------------------------------------------------------

    def train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None = None) -> list[float]:
        self.check_steps(tokens, first, count)
        losses = array("d", bytes(8 * count))
        order = array("I", range(len(tokens))) if tokens.order is None else tokens.order
        settings, sync = array("d", settings_of(adam)), array("q", bytes(8 * SYNC))
        sums = array("d", bytes(8 * SYNC * self.threads))
        places = [self._shared.at(0), self._gradients.at(0), self._work.at(0)]
        places += [self._moments.at(0), self._moments.at(4 * self._extents.gradients)]
        places += [address_of(tokens.ids), address_of(tokens.starts), address_of(order)]
        numbers = (len(order), self.batch_size, first, count, float(first) if progress is None else progress)
        state = [address_of(numbers) for numbers in (settings, self._state, losses, sums, sync)]
        capacity = self.batch_size * self.config.block_size * len(self._graph.runs)
        touched = Memory(4 * self.threads * capacity)
        with self._lock:
            self._on_threads(
                lambda thread: self._program.run(
                    "train", *places, *numbers, *state, touched.at(0), capacity, thread, self.threads
                )
            )
        self.revision += 1
        for taken, loss in enumerate(losses):
            if not math.isfinite(loss):
                self._gradients = self._zeroed_gradients()
                raise DivergedError(first + taken, losses[:taken].tolist())
        return losses.tolist()

    def evaluate(self, tokens: Tokens) -> tuple[float, int]:
        results = array("d", bytes(16 * self.threads))

        def part(thread: int) -> None:
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

        with self._lock:
            self._program.run("prepare", self._shared.at(0))
            self._on_threads(part)
        return sum(results[0::2]), int(sum(results[1::2]))

    def _on_threads(self, part: Callable[[int], None]) -> None:
        """Run all parts, the first on this thread."""
        if self.threads == 1:
            part(0)
            return
        from threading import Thread

        others = [Thread(target=part, args=(thread,)) for thread in range(1, self.threads)]
        for other in others:
            other.start()
        part(0)
        for other in others:
            other.join()

    def generate(self, rng: Random, count: int, temperature: float) -> Strings:
        block = self.config.block_size
        ids, lengths = array("I", bytes(4 * count * block)), array("q", bytes(8 * count))
        rows = array("q", bytes(16 * SLOTS))
        places = [self._shared.at(0), self._voice.at(0), *map(address_of, (rng.words, rows, ids, lengths))]
        with self._lock:
            self._program.run("prepare", self._shared.at(0))
            self._program.run("generate", *places, count, temperature)
        return Strings(ids, lengths)
