"""The entries of the fast engine: a training, and strings in batches."""

from __future__ import annotations

from tapegpt.engines.decoding import Decoding
from tapegpt.engines.fast.generation import generation_kernel
from tapegpt.engines.fast.training import training_kernel
from tapegpt.engines.graph import fast_graph
from tapegpt.engines.kernels import entries_of, plan_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.model import Model
    from tapegpt.engines.compiled import Plan
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target


def build(model: Model, vocab_size: int, target: Target) -> tuple[Plan, Entries]:
    """The plan of an engine, and the entries of its program."""
    graph, decoding = fast_graph(model, vocab_size, target=target), Decoding(model, vocab_size, target)
    assert decoding.graph.tape.parameter_extent() == graph.tape.parameter_extent()
    sizes = {"shared": decoding.shared, "work": decoding.work, "rows": 2 * decoding.layout.lines}
    plan = plan_of(graph, looked_up=len(graph.looked_up), **sizes)
    entries = entries_of(graph, training_kernel(graph), generation_kernel(decoding))
    return plan, {**entries, "prepare decoding": (decoding.prepare, {})}
