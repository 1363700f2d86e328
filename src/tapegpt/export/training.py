"""The training of a model as one more entry of its export, so that it can be trained again.

    train(memory, first, count)         steps first to first + count - 1; their losses as f64 at `losses`

It changes parameters of its own, at `taught`, which are not the model's before the first step. Then the memory has
zeros from `gradients` to `documents`, and there what the training reads.
"""

from __future__ import annotations

from array import array

from tapegpt.data.corpus import Corpus
from tapegpt.engines import exact_kernels
from tapegpt.engines.adam import Schedule, scratch_size
from tapegpt.engines.compiled import POWERS, SYNC, Documents, Numbers, Steps
from tapegpt.engines.fast import training as fast_kernels
from tapegpt.engines.graph import Graph, exact_graph, fast_graph
from tapegpt.export.portable import Portable, Regions, parameter_bytes
from tapegpt.machine.language import F64, I64, U32, Builder, F64s, Int, Kernel, Type
from tapegpt.record import Record
from tapegpt.training.recording import replay
from tapegpt.training.trainer import Trainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.machine.target import Target
    from tapegpt.models.trained import GPT


class Training(Record):
    """What a training needs beside its entry."""

    steps: int
    parameters: bytes  # before the first step
    documents: bytes  # what is at `documents`, and behind it


def with_training(own: Portable, model: GPT, target: Target) -> tuple[Portable, Training]:
    """The export with its training; raises `TapeGPTError` where that cannot be repeated, as `replay` does."""
    corpus = Corpus(list(model.training_documents()), model.vocabulary)
    recording = replay(model, [0], corpus)
    trainer = Trainer(corpus, model.config, recording.settings)
    make = exact_graph if own.engine == "exact" else fast_graph
    graph, tokens = make(model.config, model.vocab_size, target=target), trainer.tokens
    read: dict[str, tuple[Type, array[Any]]] = {
        "documents": (U32, tokens.ids),
        "starts": (I64, tokens.starts),
        "order": (U32, tokens.order or array("I", range(len(tokens)))),
        "powers": (F64, array("d", [1.0]) * POWERS),
    }
    regions, start = own.regions, _add_work(own.regions, graph, trainer, recording.step)
    for name, (kind, numbers) in read.items():
        regions.add(name, kind, len(numbers))
    content = bytearray(regions.size - start)
    for name, (_, numbers) in read.items():
        begin = regions.places[name] - start
        content[begin : begin + numbers.itemsize * len(numbers)] = numbers.tobytes()
    entries = {**own.entries, "train": (_training(graph, regions, trainer), {})}
    begins = parameter_bytes(graph, trainer.model)
    return own.replace(entries=entries), Training(recording.step, begins, bytes(content))


def _add_work(regions: Regions, graph: Graph, trainer: Trainer, steps: int) -> int:
    """Add what a training computes with; where that ends."""
    extents, real = graph.tape.plan(), graph.tape.real
    touched = trainer.settings.batch_size * graph.block_size * len(graph.looked_up)
    for name, kind, count in (
        ("taught", real, extents.shared),
        ("gradients", real, extents.gradients),
        ("first", real, extents.gradients),
        ("second", real, extents.gradients),
        ("lessons", real, extents.work),
        ("scratch", F64, scratch_size(graph.tape.parameter_extent())),
        ("losses", F64, steps),
        ("taken", I64, 1),
        ("sums", F64, SYNC),
        ("sync", I64, SYNC),
        ("stop", I64, 1),
        ("touched", U32, touched),
    ):
        regions.add(name, kind, count)
    return regions.size


def _training(graph: Graph, regions: Regions, trainer: Trainer) -> Kernel:
    adam, size = trainer.decaying(trainer.adam).as_dict(), trainer.settings.batch_size

    def train(k: Builder, memory: F64s, first: Int, count: Int) -> None:
        def at(*names: str) -> Any:
            return regions.at(memory, *names)

        numbers, documents = (
            Numbers(*at("taught", "gradients", "first", "second")),
            Documents(*at("documents", "starts")),
        )
        schedule = Schedule(**{name: k.real(value) for name, value in adam.items()})
        (work, scratch, order, powers), (losses, taken) = (
            at("lessons", "scratch", "order", "powers"),
            at("losses", "taken"),
        )
        steps = Steps(k.integer(len(trainer.tokens)), first, count, losses, taken)
        if graph.tape.real is F64:
            exact_kernels.training_kernel(graph)(k, numbers, work, scratch, documents, schedule, steps)
            return
        batch: Any = {"batch_size": k.integer(size), "progress": k.convert(first, F64), "powers": powers}
        batches = fast_kernels.BatchSteps(order=order, **batch, **steps.as_dict())
        alone = [k.integer(number) for number in (0, 0, 1)]  # a single thread: no other is told what is touched
        threads = fast_kernels.Threads(*at("sums", "sync", "stop", "touched"), *alone)
        fast_kernels.training_kernel(graph).body(k, numbers, work, documents, schedule, batches, threads)

    return Kernel(train, "train", graph.tape.real)
