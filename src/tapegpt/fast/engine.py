"""The fast engine: f32, batches of documents packed without padding, threads. Same model, same tape, own roundings.

The same seed and settings give the same bits, for the same vector width and number of threads, however the steps are
cut into calls and the strings into batches. Not here: the operations (`operations/`), text, files.
"""

from __future__ import annotations

from array import array

from tapegpt.compiled import CompiledEngine, checked
from tapegpt.fast.adam import STATE, settings_of
from tapegpt.fast.generation import generation_kernel
from tapegpt.fast.training import SYNC, evaluation_kernel, training_kernel
from tapegpt.graph import SLOTS, fast_graph
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.threads import run_parts
from tapegpt.tape import check_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engine import Adam, Tokens
    from tapegpt.machine.memory import Address
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target
    from tapegpt.models.base import Model


class FastEngine(CompiledEngine):
    """Trains and samples one model in f32, `batch_size` documents a step (see `engine.Engine`).

    A loss is the mean over all positions of the batch. `threads` share the documents of a step.
    """

    name = "fast"
    powers = len(STATE)

    def __init__(
        self, config: Model, vocab_size: int, batch_size: int = 16, threads: int = 1, target: Target | None = None
    ) -> None:
        graph = fast_graph(config, vocab_size, target=target)
        speech = fast_graph(config, vocab_size, target=target, cached=True)
        extents, spoken = graph.tape.plan(), speech.tape.plan()
        assert (extents.shared, extents.gradients) == (spoken.shared, spoken.gradients)
        entries: Entries = {
            "train": (training_kernel(graph), {}),
            "prepare": (graph.tape.prepare_kernel(graph.loss), {}),
            "evaluate": (evaluation_kernel(graph), {}),
            "generate": (generation_kernel(speech), {}),
        }
        touched = batch_size * config.block_size * len(graph.looked_up)
        own = extents.work + extents.gradients + touched  # numbers of a thread
        check_size(4 * (extents.shared + 2 * extents.gradients + threads * own))
        self.batch_size, self.threads = batch_size, threads
        super().__init__(config, graph, entries, target)
        self.threads = threads if self._program.compiled else 1
        self._work = Memory(4 * self.threads * extents.work)
        self._voice = Memory(4 * spoken.work)

    def _clear_gradients(self) -> None:
        self._gradients = Memory(4 * self.threads * self._extents.gradients)

    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]:
        losses = array("d", bytes(8 * count))
        order = array("I", range(len(tokens))) if tokens.order is None else tokens.order
        settings, sync = array("d", settings_of(adam)), array("q", bytes(8 * SYNC))
        sums = array("d", bytes(8 * SYNC * self.threads))
        places = [block.at(0) for block in (self._shared, self._gradients, self._work)]
        places += [*self._moments_at(), address_of(self._taken)]
        places += [address_of(tokens.ids), address_of(tokens.starts), address_of(order)]
        numbers = (len(order), self.batch_size, first, count, float(first) if progress is None else progress)
        capacity = self.batch_size * self.config.block_size * len(self._graph.looked_up)
        touched = Memory(4 * self.threads * capacity)
        common = [address_of(numbers) for numbers in (settings, self._powers, losses, sums, sync)]
        common.append(touched.at(0))

        def part(thread: int, stop: array[int]) -> None:
            stop_at = address_of(stop)
            self._program.run("train", *places, *numbers, *common, capacity, stop_at, thread, self.threads)

        run_parts(part, self.threads)
        return checked(losses, first)

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

    def _speak(self, words: Address, ids: Address, lengths: Address, count: int, temperature: float) -> None:
        rows = array("q", bytes(16 * SLOTS))
        self._program.run("prepare", self._shared.at(0))
        places = (self._shared.at(0), self._voice.at(0), words, address_of(rows), ids, lengths)
        self._program.run("generate", *places, count, temperature)
