"""The fast engine: f32, batches of documents packed without padding, threads. Same model, same tape, own roundings.

The same seed and settings give the same bits, for the same vector width and number of threads, however the steps are
cut into calls and the strings into batches. Not here: the operations (`operations/`), text, files.
"""

from __future__ import annotations

from array import array

from tapegpt.autograd.places import check_size
from tapegpt.engines.compiled import POWERS, SYNC, CompiledEngine, Documents, Generation, Plan, check_losses
from tapegpt.errors import warn
from tapegpt.machine.host import fast_target
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.threads import run_parts
from tapegpt.processes import can_start_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.model import Model
    from tapegpt.data.rng import Random
    from tapegpt.data.tokens import Strings, Tokens
    from tapegpt.engines.base import Adam
    from tapegpt.machine.program import Argument, Entries
    from tapegpt.machine.target import Target


class FastEngine(CompiledEngine):
    """Trains and samples one model in f32, `batch_size` documents a step (see `base.Engine`).

    A loss is the mean over all positions of the batch. `threads` share the documents of a step.
    """

    name = "fast"
    powers = POWERS

    def __init__(
        self, config: Model, vocab_size: int, batch_size: int = 16, threads: int = 1, target: Target | None = None
    ) -> None:
        if threads > 1 and not can_start_threads():
            warn(f"this Python has no threads: one does the work of {threads}")
            threads = 1
        self.batch_size, self.threads = batch_size, threads
        super().__init__(config, vocab_size, target or fast_target())
        self.threads = threads if self._program.compiled else 1
        self._decode_work, self._decode_shared = (Memory(4 * self._plan.sizes[name]) for name in ("work", "shared"))
        self._decode_revision = -1  # of the parameters that decoding has

    def _check_size(self, plan: Plan) -> None:
        extents = plan.extents
        touched = self.batch_size * self.config.block_size * plan.sizes["looked_up"]
        own = extents.work + extents.gradients + touched  # numbers of a thread
        check_size(4 * (extents.shared + 2 * extents.gradients + self.threads * own))

    @staticmethod
    def _build(model: Model, vocab_size: int, target: Target) -> tuple[Plan, Entries]:
        from tapegpt.engines.fast.kernels import build

        return build(model, vocab_size, target)

    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]:
        losses = array("d", bytes(8 * count))
        order = array("I", range(len(tokens))) if tokens.order is None else tokens.order
        sync, sums = array("q", bytes(8 * SYNC)), array("d", bytes(8 * SYNC * self.threads))
        steps: dict[str, Argument] = {
            **self._steps(len(order), first, losses),
            "order": address_of(order),
            "batch_size": self.batch_size,
            "progress": float(first) if progress is None else progress,
            "powers": address_of(self._powers),
        }
        capacity = self.batch_size * self.config.block_size * self._plan.sizes["looked_up"]
        touched = Memory(4 * self.threads * capacity)
        shared: dict[str, Argument] = {
            "sums": address_of(sums),
            "sync": address_of(sync),
            "touched": touched.at(0),
            "capacity": capacity,
        }

        def part(thread: int, stop: array[int]) -> None:
            threads: dict[str, Argument] = {
                **shared,
                "stop": address_of(stop),
                "thread": thread,
                "threads": self.threads,
            }
            arguments = (self._numbers(), self._work.at(0), Documents.arguments(tokens), adam.as_dict())
            self._program.run("train", *arguments, steps, threads)

        run_parts(part, self.threads)
        return check_losses(losses, first)

    def _decode(self, rng: Random, strings: Strings, temperature: float) -> None:
        rows, streams = array("q", bytes(8 * self._plan.sizes["rows"])), rng.streams(len(strings))
        memory = self._decode_shared.at(0), self._decode_work.at(0)
        if self._decode_revision != self.revision:
            parameters = self._own_parameters()
            memory[0].view[: len(parameters)] = parameters
            self._program.run("prepare decoding", *memory)
            self._decode_revision = self.revision
        generation = {"rows": address_of(rows), "streams": address_of(streams), **Generation.arguments(strings)}
        self._program.run("generate", *memory, generation, temperature)
