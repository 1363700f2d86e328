"""What the compiled engines make of a graph alike: a plan, and the entries that each has. Not here: trainings."""

from __future__ import annotations

from tapegpt.engines.compiled import Documents, Plan
from tapegpt.engines.graph import DocumentPacker
from tapegpt.machine.language import F64, Builder, F64s, Int, Kernel, Pointer, Reals, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.engines.graph import Graph, Layout
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

    Documents are packed where the loss is a sum by shares. Where it is their mean, they are read one by one, and the
    rows that one has in common with the document before it are kept.
    """
    layout = graph.layout()
    evaluate = _packed(graph, layout) if "share" in layout.about else _alone(graph, layout)
    return Kernel(evaluate, real=graph.tape.real)


def _packed(graph: Graph, layout: Layout) -> Callable[..., None]:
    forward = graph.forward

    def evaluate(
        k: Builder, shared: Reals, work: Reals, documents: Documents, first: Int, last: Int, result: F64s
    ) -> None:
        packer, at = DocumentPacker(k, layout, work, documents), k.variable(first)
        (work + layout.about["share"])[0] = 1.0
        for _ in k.repeat_while(lambda: at < last):
            rows = packer.fill(at, last)
            forward(k, shared, work, 0, rows)
            result[0] = result[0] + k.convert((work + layout.loss)[0], F64)
            result[1] = result[1] + k.convert(rows, F64)

    return evaluate


def _alone(graph: Graph, layout: Layout) -> Callable[..., None]:
    forward = graph.tape.forward_kernel(graph.logits)
    judge = graph.tape.forward_kernel(graph.loss, known=graph.tape.order(graph.logits))

    def evaluate(
        k: Builder, shared: F64s, work: F64s, documents: Documents, first: Int, last: Int, result: F64s
    ) -> None:
        packer = DocumentPacker(k, layout, work, documents)
        for at in k.range(first, last):
            rows, known = packer.put_alone(at), k.variable(k.integer(0))
            for _ in k.when(at > first):
                own, former = (documents.ids + documents.starts[number] for number in (at, at - 1))
                known.set(common_beginning(k, own, former, k.minimum(rows, packer.length(at - 1))))
            forward(k, shared, work, known, rows)
            judge(k, shared, work, 0, rows)
            result[0] = result[0] + (work + layout.loss)[0] * k.convert(rows, F64)
            result[1] = result[1] + k.convert(rows, F64)

    return evaluate


def common_beginning(k: Builder, one: Pointer, other: Pointer, most: Int) -> Value:
    """How many tokens, of so many, two documents begin with alike."""
    alike = k.variable(k.integer(0))
    for _ in k.repeat_while(lambda: (alike < most) & one[alike].equals(other[alike])):
        alike += 1
    return k.value(alike)
