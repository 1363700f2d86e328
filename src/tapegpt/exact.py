"""The exact engine: microgpt.py's doubles from machine code, one document a step, every sum in the reference's order.

Not here: the operations (`operations/`), the graph (`graph.py`), text, files.
"""

from __future__ import annotations

from array import array

from tapegpt.adam import SCRATCH, adam_update, all_finite
from tapegpt.compiled import CompiledEngine, checked
from tapegpt.graph import Graph, Places, exact_graph
from tapegpt.machine.language import F64, U32, Builder, F64s, I64s, Int, Kernel, Real, U32s
from tapegpt.machine.memory import Memory, address_of
from tapegpt.mersenne import uniform
from tapegpt.operations.base import padded
from tapegpt.operations.rows import exponentiate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engine import Adam, Tokens
    from tapegpt.machine.language import Number, Operand, Pointer, Value
    from tapegpt.machine.memory import Address
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target
    from tapegpt.models.base import Model


class ExactEngine(CompiledEngine):
    """Trains and samples one model in machine code (see `engine.Engine`)."""

    name = "exact"

    def __init__(self, config: Model, vocab_size: int, target: Target | None = None) -> None:
        graph = exact_graph(config, vocab_size, target)
        prepare, forward = graph.tape.prepare_kernel(graph.loss), graph.tape.forward_kernel(graph.loss)
        entries: Entries = {
            "train": (training_kernel(graph, prepare, forward), {}),
            "evaluate": (evaluation_kernel(graph, prepare, forward), {}),
            "generate": (generation_kernel(graph), {}),
        }
        super().__init__(config, graph, entries, target)
        self._work, self._scratch = Memory(8 * self._extents.work), Memory(8 * SCRATCH)

    def _clear_gradients(self) -> None:
        self._gradients = Memory(8 * self._extents.gradients)

    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]:
        assert (tokens.order, progress) == (None, None), "documents and schedule are microgpt.py's"
        losses = array("d", bytes(8 * count))
        memory = [block.at(0) for block in (self._shared, self._gradients, self._work)]
        memory += [*self._moments_at(), self._scratch.at(0), address_of(self._taken)]
        documents = (address_of(tokens.ids), address_of(tokens.starts), len(tokens))
        rates = (adam.steps, adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon)
        self._program.run("train", *memory, *documents, first, count, *rates, address_of(losses))
        return checked(losses, first)

    def _evaluate(self, tokens: Tokens) -> tuple[float, int]:
        result = array("d", [0.0, 0.0])
        places = (address_of(tokens.ids), address_of(tokens.starts))
        self._program.run("evaluate", self._shared.at(0), self._work.at(0), *places, len(tokens), address_of(result))
        return result[0], int(result[1])

    def _speak(self, words: Address, ids: Address, lengths: Address, count: int, temperature: float) -> None:
        weights = array("d", bytes(8 * padded(self.vocab_size)))
        places = (self._shared.at(0), self._work.at(0), words, address_of(weights), ids, lengths)
        self._program.run("generate", *places, count, temperature)


def training_kernel(graph: Graph, prepare: Kernel, forward: Kernel) -> Kernel:
    """Steps first to first + count - 1; stops before an update that would not be finite, and logs no number for it."""
    backward = graph.tape.backward_kernel(graph.loss)
    extent, places = graph.tape.parameter_extent(), graph.places()

    def train(
        k: Builder,
        shared: F64s,
        gradients: F64s,
        work: F64s,
        first_moments: F64s,
        second_moments: F64s,
        scratch: F64s,
        taken: I64s,
        ids: U32s,
        starts: I64s,
        documents: Int,
        first: Int,
        count: Int,
        steps: Int,
        learning_rate: Real,
        beta1: Real,
        beta2: Real,
        epsilon: Real,
        losses: F64s,
    ) -> None:
        going = k.variable(k.integer(1))
        for i in k.range(count):
            for _ in k.when(going.equals(1)):
                step = first + i
                n = put(k, places, work, ids, starts, step % documents, noise=step + 1)
                prepare(k, shared)
                forward(k, shared, work, 0, n)
                loss = (work + places.loss)[0]
                losses[i] = loss
                going.set(k.select((loss - loss).equals(0.0), k.integer(1), 0))
                for _ in k.when(going.equals(1)):
                    backward(k, shared, gradients, work, n)
                    going.set(k.select(all_finite(k, gradients, extent), k.integer(1), 0))
                    losses[i] = k.select(going.equals(1), loss, float("nan"))
                for _ in k.when(going.equals(1)):
                    memory = (shared, gradients, first_moments, second_moments, scratch)
                    adam_update(k, *memory, extent, step, steps, learning_rate, beta1, beta2, epsilon)
                    taken[0] = step + 1

    return Kernel(train)


def put(
    k: Builder, places: Places, work: Pointer, ids: Pointer, starts: Pointer, document: Operand, noise: Number = 0
) -> Value:
    """Write a document's tokens, targets and positions, cut to the block; the number of its positions."""
    tokens, targets, positions = ((work + places.about[name]).cast(U32) for name in ("tokens", "targets", "positions"))
    start = starts[document]
    n = k.minimum(starts[document + 1] - start, places.positions)
    for t in k.range(n):
        tokens[t] = ids[start + t]
        targets[t] = ids[start + t + 1]
        positions[t] = t
        disturb(places, work, t, noise)
    return n


def disturb(places: Places, work: Pointer, row: Number, noise: Number) -> None:
    """Write which example of the training a row is in, 0 for none, if the model has dropout."""
    if "noise" in places.about:
        (work + places.about["noise"]).cast(U32)[row] = noise


def evaluation_kernel(graph: Graph, prepare: Kernel, forward: Kernel) -> Kernel:
    """Over all documents: the sum of -log(probability), and the number of positions."""
    places = graph.places()

    def evaluate(k: Builder, shared: F64s, work: F64s, ids: U32s, starts: I64s, documents: Int, result: F64s) -> None:
        prepare(k, shared)
        for document in k.range(documents):
            n = put(k, places, work, ids, starts, document)
            forward(k, shared, work, 0, n)
            count = k.convert(n, F64)
            result[0] = result[0] + (work + places.loss)[0] * count
            result[1] = result[1] + count

    return Kernel(evaluate)


def generation_kernel(graph: Graph) -> Kernel:
    """Strings drawn as `random.choices` draws; each takes ids (block_size) and lengths (1)."""
    prepare, forward = graph.tape.prepare_kernel(graph.logits), graph.tape.forward_kernel(graph.logits)
    places, vocab_size = graph.places(), graph.vocab_size
    bos = vocab_size - 1

    def generate(
        k: Builder,
        shared: F64s,
        work: F64s,
        state: U32s,
        weights: F64s,
        ids: U32s,
        lengths: I64s,
        count: Int,
        temperature: Real,
    ) -> None:
        tokens, positions = ((work + places.about[name]).cast(U32) for name in ("tokens", "positions"))
        inverse_temperature = k.pow(temperature, -1.0)
        prepare(k, shared)
        for string in k.range(count):
            token, t = k.variable(k.integer(bos)), k.variable(k.integer(0))
            going = k.variable(k.integer(1))
            for _ in k.repeat_while(lambda: going.equals(1) & (t < places.positions)):
                tokens[t], positions[t] = token, t
                disturb(places, work, t, 0)
                forward(k, shared, work, t, t + 1)
                logits = work + places.logits + t * padded(vocab_size)
                for i in k.range(vocab_size):
                    weights[i] = logits[i] * inverse_temperature
                total = exponentiate(k, weights, weights, vocab_size)
                token.set(choose(k, state, weights, k.pow(total, -1.0), vocab_size))
                going.set(k.select(token.differs(bos), k.integer(1), 0))
                for _ in k.when(going.equals(1)):
                    ids[string * places.positions + t] = token
                    t += 1
            lengths[string] = t

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
