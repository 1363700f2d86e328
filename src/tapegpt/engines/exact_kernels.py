"""The exact engine's kernels: a training, and strings that are drawn as microgpt.py draws them.

Not here: the operations (`operations/`), the graph (`graph.py`), Adam (`adam.py`).
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import padded, row_stride
from tapegpt.autograd.operations.functions import power
from tapegpt.autograd.operations.rows import exponentiate
from tapegpt.autograd.packing import Rows
from tapegpt.data.mersenne import uniform
from tapegpt.data.windows import overlap
from tapegpt.engines.adam import Schedule, adam_update, all_finite, expect_tiny, scratch_size
from tapegpt.engines.compiled import Documents, Generation, Numbers, Plan, Steps  # noqa: TC001  # kernels look them up
from tapegpt.engines.graph import DocumentPacker, Graph, exact_graph
from tapegpt.engines.kernels import entries_of, plan_of
from tapegpt.machine.language import F64, Builder, F64s, Int, Kernel, Real, U32s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.model import Model
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target


def build(model: Model, vocab_size: int, target: Target) -> tuple[Plan, Entries]:
    """The plan of an engine, and the entries of its program."""
    graph = exact_graph(model, vocab_size, target)
    plan = plan_of(graph, scratch=scratch_size(graph.tape.parameter_extent()), weights=padded(vocab_size))
    return plan, entries_of(graph, training_kernel(graph), generation_kernel(graph))


def training_kernel(graph: Graph) -> Kernel:
    """Steps first to first + count - 1; stops before an update that would not be finite, and logs no number for it."""
    prepare, forward, backward = graph.prepare, graph.forward, graph.tape.backward_kernel(graph.loss)
    extent, layout = graph.tape.parameter_extent(), graph.layout()

    def train(
        k: Builder, numbers: Numbers, work: F64s, scratch: F64s, documents: Documents, schedule: Schedule, steps: Steps
    ) -> None:
        shared, gradients = numbers.shared, numbers.gradients
        packer = DocumentPacker(k, layout, work, documents)
        expect_tiny(k, scratch, extent)
        going = k.variable(k.integer(1))
        for i in k.range(steps.count):
            for _ in k.when(going.equals(1)):
                step = steps.first + i
                n = packer.put_alone(step % steps.documents, noise=step + 1)
                prepare(k, shared)
                forward(k, shared, work, 0, n)
                loss = (work + layout.loss)[0]
                steps.losses[i] = loss
                going.set(k.select((loss - loss).equals(0.0), k.integer(1), 0))
                for _ in k.when(going.equals(1)):
                    backward(k, shared, gradients, work, n)
                    going.set(k.select(all_finite(k, gradients, extent), k.integer(1), 0))
                    steps.losses[i] = k.select(going.equals(1), loss, float("nan"))
                for _ in k.when(going.equals(1)):
                    adam_update(k, numbers, scratch, extent, step, schedule)
                    steps.taken[0] = step + 1

    return Kernel(train, real=F64)


def generation_kernel(graph: Graph) -> Kernel:
    """Strings drawn as `random.choices` draws."""
    forward, layout, vocab_size = graph.tape.forward_kernel(graph.logits), graph.layout(), graph.vocab_size
    bos, again = vocab_size - 1, overlap(layout.block_size)

    def generate(
        k: Builder,
        shared: F64s,
        work: F64s,
        weights: F64s,
        random: U32s,
        generation: Generation,
        temperature: Real,
    ) -> None:
        rows = Rows(work, layout.about)
        inverse_temperature = k.pow(temperature, -1.0)
        for string in k.range(generation.count):
            token, t, start = k.variable(k.integer(bos)), k.variable(k.integer(0)), k.variable(k.integer(0))
            going, ids = k.variable(k.integer(1)), generation.ids + string * generation.room
            for _ in k.repeat_while(lambda: going.equals(1) & (start + t < generation.room)):
                rows.tell(t, {"tokens": token, "positions": t, "noise": 0})
                forward(k, shared, work, t, t + 1)
                is_given = start + t < generation.given
                for _ in k.when(is_given):
                    token.set(ids[start + t])
                for _ in k.when(k.logical_not(is_given)):
                    logits = work + layout.logits + t * row_stride(vocab_size)
                    for i in k.range(vocab_size):
                        weights[i] = logits[i] * inverse_temperature
                    total = exponentiate(k, weights, weights, vocab_size)
                    token.set(choose(k, random, weights, power(k, total, -1.0), vocab_size))
                going.set(k.select(token.differs(bos), k.integer(1), 0))
                for _ in k.when(going.equals(1)):
                    ids[start + t] = token
                    t += 1
                for _ in k.when(t.equals(layout.block_size)):
                    start += layout.block_size - again
                    for read in k.range(again):
                        rows.tell(read, {"tokens": ids[start + read - 1], "positions": read, "noise": 0})
                    forward(k, shared, work, 0, again)
                    t.set(again)
            generation.lengths[string] = start + t

    return Kernel(generate)


def choose(k: Builder, state: U32s, weights: F64s, scale: Real, count: int) -> Int:
    """`random.choices` with these weights, each times scale: the first whose running sum is above a random number."""
    total = k.zeros()
    for i in k.range(count):
        total += weights[i] * scale
        weights[i] = total
    point = uniform(k, state) * total
    chosen = k.variable(k.integer(0))
    for i in k.range(count - 1):
        chosen += k.select(weights[i] <= point, k.integer(1), 0)
    return k.value(chosen)
