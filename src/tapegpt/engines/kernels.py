"""What the compiled engines make of a graph alike: a plan, and the entries that each has. Not here: trainings."""

from __future__ import annotations

from tapegpt.engines.compiled import Documents, Plan
from tapegpt.engines.graph import DocumentPacker
from tapegpt.machine.language import F64, Builder, F64s, Int, Kernel, Reals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engines.graph import Graph
    from tapegpt.machine.program import Entries


def plan_of(graph: Graph, **sizes: int) -> Plan:
    """What an engine has to know of a graph, and these sizes."""
    return Plan(graph.tape.plan(), graph.places, graph.tape.parameter_extent(fixed=True), sizes)


def entries_of(graph: Graph, train: Kernel, generate: Kernel) -> Entries:
    """The entries of an engine's program."""
    kernels = {"train": train, "generate": generate, "prepare": graph.prepare, "evaluate": evaluation_kernel(graph)}
    return {name: (kernel, {}) for name, kernel in kernels.items()}


def evaluation_kernel(graph: Graph) -> Kernel:
    """Of the documents first to last - 1: the sum of -log(probability), and the number of positions.

    Documents are packed where the loss is a sum by shares; where it is their mean, they are read one by one.
    """
    forward, layout = graph.forward, graph.layout()
    share = layout.about.get("share")

    def evaluate(
        k: Builder, shared: Reals, work: Reals, documents: Documents, first: Int, last: Int, result: F64s
    ) -> None:
        packer, at = DocumentPacker(k, layout, work, documents), k.variable(first)
        if share is not None:
            (work + share)[0] = 1.0
        for _ in k.repeat_while(lambda: at < last):
            rows = packer.put_alone(at) if share is None else packer.fill(at, last)
            forward(k, shared, work, 0, rows)
            loss, count = k.convert((work + layout.loss)[0], F64), k.convert(rows, F64)
            result[0] = result[0] + (loss * count if share is None else loss)
            result[1] = result[1] + count
            if share is None:
                at += 1

    return Kernel(evaluate, real=graph.tape.real)
