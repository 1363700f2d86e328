"""The training of an exact model as one more entry of its export, so that it can be trained again.

    train(memory, first, count)         steps first to first + count - 1; their losses as f64 at `losses`

Before the first step the memory has other parameters than the model's, and zeros from `gradients` to `documents`. Not
here: trainings of the engine fast, whose steps are batches.
"""

from __future__ import annotations

from tapegpt.data.corpus import Corpus
from tapegpt.engines.adam import Schedule, scratch_size
from tapegpt.engines.compiled import Documents, Numbers, Steps
from tapegpt.engines.exact_kernels import training_kernel
from tapegpt.engines.graph import exact_graph
from tapegpt.errors import TapeGPTError
from tapegpt.export.portable import parameter_bytes
from tapegpt.machine.language import F64, I64, U32, Builder, F64s, Int, Kernel
from tapegpt.record import Record
from tapegpt.training.recording import replay
from tapegpt.training.trainer import Trainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.export.portable import Portable
    from tapegpt.machine.target import Target
    from tapegpt.models.trained import GPT


class Training(Record):
    """What a training needs beside its entry."""

    steps: int
    parameters: bytes  # before the first step
    documents: bytes  # what is at `documents`, and behind it


def with_training(own: Portable, model: GPT, target: Target) -> tuple[Portable, Training]:
    """The export with its training.

    Raises `TapeGPTError` where the training cannot be repeated, as `replay` does, or is not of the engine exact.
    """
    if own.engine != "exact":
        raise TapeGPTError("a training can be exported of the engine exact alone, not of fast: leave --train out")
    corpus = Corpus(list(model.training_documents()), model.vocabulary)
    recording = replay(model, [0], corpus)
    trainer = Trainer(corpus, model.config, recording.settings)
    ids, starts = trainer.tokens.ids, trainer.tokens.starts
    graph = exact_graph(model.config, model.vocab_size, target)
    extent, regions = graph.tape.parameter_extent(), own.regions
    for name, kind, count in (
        ("gradients", F64, extent),
        ("first", F64, extent),
        ("second", F64, extent),
        ("scratch", F64, scratch_size(extent)),
        ("taken", I64, 1),
        ("losses", F64, recording.step),
        ("documents", U32, len(ids)),
        ("starts", I64, len(starts)),
    ):
        regions.add(name, kind, count)

    def train(k: Builder, memory: F64s, first: Int, count: Int) -> None:
        numbers = Numbers(*regions.at(memory, "shared", "gradients", "first", "second"))
        work, scratch, losses, taken, *documents = regions.at(
            memory, "work", "scratch", "losses", "taken", "documents", "starts"
        )
        schedule = Schedule(**{name: k.real(value) for name, value in trainer.adam.as_dict().items()})
        steps = Steps(k.integer(len(starts) - 1), first, count, losses, taken)
        training_kernel(graph)(k, numbers, work, scratch, Documents(*documents), schedule, steps)

    begins, room = parameter_bytes(graph, trainer.model), regions.places["starts"] - regions.places["documents"]
    documents = ids.tobytes().ljust(room, b"\0") + starts.tobytes()
    entries = {**own.entries, "train": (Kernel(train, "train", F64), {})}
    return own.replace(entries=entries), Training(recording.step, begins, documents)
