"""The products of a string's gradient with those of documents, window by window, on all cores.

Not here: what they say of a document (`attribution.py`).
"""

from __future__ import annotations

from array import array

from tapegpt.autograd.operations.base import row_stride
from tapegpt.engines.compiled import Documents
from tapegpt.engines.graph import DocumentPacker, Graph, exact_graph
from tapegpt.machine.language import F64, U32, Builder, F64s, Int, Kernel, Real, U32s
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import Structure
from tapegpt.machine.threads import run_parts
from tapegpt.training.clock import threads_that_pay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.autograd.model import Model
    from tapegpt.data.tokens import Tokens
    from tapegpt.engines.base import Parameters
    from tapegpt.machine.language import Number, Operand, Value
    from tapegpt.machine.memory import Address
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target

    Use = Callable[[Operand, Value], None]

CHUNK = 64  # windows that a thread looks at before it listens to Ctrl-C
EPSILON = 1e-8  # beside the root mean square, as in Adam
SECONDS = 6e-10  # that a parameter and a position take, forward and backward, on one core


class Rater:
    """Gradients of single windows, in f64 whatever engine the model is of."""

    def __init__(self, config: Model, vocab_size: int, parameters: Parameters, target: Target | None = None) -> None:
        self.config, self.vocab_size = config, vocab_size
        graph = exact_graph(config, vocab_size, target)
        self._extents = graph.tape.plan()
        entries: Entries = {
            "prepare": (graph.tape.prepare_kernel(graph.loss), {}),
            "square": (square_kernel(graph), {}),
            "direct": (direction_kernel(graph), {}),
            "multiply": (product_kernel(graph), {}),
        }
        self._program = Program(entries, target)
        self._shared = Memory(8 * self._extents.shared)
        graph.places.write(self._shared, parameters)
        self._program.run("prepare", self._shared.at(0))

    def _threads(self, windows: array[int]) -> int:
        if not self._program.compiled:
            return 1
        return threads_that_pay(self.config, self.vocab_size, len(windows))

    def seconds(self, tokens: Tokens, windows: array[int]) -> float:
        """About how long `rate` takes."""
        positions = tokens.starts[-1] / len(tokens) * len(windows)
        dense = sum(each.size for each in self.config.parameters(self.vocab_size) if each.is_dense)
        return 2 * SECONDS * dense * positions / self._threads(windows)

    def rate(self, query: Tokens, tokens: Tokens, windows: array[int]) -> tuple[float, array[float]]:
        """The query's loss, and the product of its gradient with that of each of these windows, in nats.

        The products are sums over parameters, each divided by the root mean square of the windows' gradients.
        """
        threads, extent = self._threads(windows), self._extents.gradients
        own = [Memory(8 * (extent + self._extents.work)) for _ in range(threads)]
        squares, direction = Memory(8 * extent * threads), Memory(8 * extent)
        loss, products = array("d", [0.0]), array("d", bytes(8 * len(windows)))
        documents = Documents.arguments(tokens)

        def regions(thread: int) -> dict[str, Address]:
            gradients, work = own[thread].at(0), own[thread].at(8 * extent)
            return {"shared": self._shared.at(0), "gradients": gradients, "work": work}

        def part(first: int, last: int) -> dict[str, Address | int]:
            return {"ids": address_of(windows), "first": first, "last": last}

        def square(thread: int, first: int, last: int) -> None:
            sums = squares.at(8 * extent * thread)
            self._program.run("square", regions(thread), documents, part(first, last), sums)

        def multiply(thread: int, first: int, last: int) -> None:
            results = (direction.at(0), address_of(products))
            self._program.run("multiply", regions(thread), documents, part(first, last), *results)

        _in_chunks(square, len(windows), threads)
        asked = (Documents.arguments(query), squares.at(0), threads, float(len(windows)))
        self._program.run("direct", regions(0), *asked, direction.at(0), address_of(loss))
        _in_chunks(multiply, len(windows), threads)
        return loss[0], products


def _in_chunks(part: Callable[[int, int, int], None], count: int, threads: int) -> None:
    """Run `part(thread, first, last)` for all of `count`, the threads in turn; this one is among them."""

    def work(thread: int, stop: array[int]) -> None:
        for first in range(thread * CHUNK, count, threads * CHUNK):
            if stop[0]:
                return
            part(thread, first, min(first + CHUNK, count))

    run_parts(work, threads)


class Regions(Structure):
    """The memory of a thread."""

    shared: F64s
    gradients: F64s
    work: F64s


class Windows(Structure):
    """The windows `ids[first]` to `ids[last - 1]`."""

    ids: U32s
    first: Int
    last: Int


class _Gradients:
    """The gradients of single windows, while code is made; the memory for them is zero before and after."""

    def __init__(self, graph: Graph) -> None:
        self._places = graph.layout()
        self._forward = graph.tape.forward_kernel(graph.loss)
        self._backward = graph.tape.backward_kernel(graph.loss, accumulate=True)
        self.extent = graph.tape.parameter_extent()
        self._sparse = graph.tape.extent(graph.sparse) if graph.sparse else 0

    def of(self, k: Builder, memory: Regions, documents: Documents, window: Operand, use: Use) -> None:
        """Let `use` see each vector of a window's gradient that may be other than zero, and its offset."""
        shared, gradients, work = memory.shared, memory.gradients, memory.work
        n = DocumentPacker(k, self._places, work, documents).put_alone(window)
        self._forward(k, shared, work, 0, n)
        self._backward(k, shared, gradients, work, n)

        def take(first: Number, last: Number) -> None:
            for at in k.range(first, last, k.width()):
                use(at, gradients.vector(at, k.width()))
                gradients.store(at, k.constant(0, F64, k.width()))

        take(self._sparse, self.extent)  # which comes first
        apart = row_stride(self._places.sparse_columns)
        for place in self._places.looked_up:  # a window touches few rows of their table
            rows = (work + place).cast(U32)
            for t in k.range(n):
                take(rows[t] * apart, (rows[t] + 1) * apart)


def square_kernel(graph: Graph) -> Kernel:
    """Add the squares of the gradients of the windows to `squares`."""
    gradients_of = _Gradients(graph)

    def square(
        k: Builder,
        memory: Regions,
        documents: Documents,
        windows: Windows,
        squares: F64s,
    ) -> None:
        def add(at: Operand, g: Value) -> None:
            squares.store(at, squares.vector(at, g.lanes) + g * g)

        for i in k.range(windows.first, windows.last):
            gradients_of.of(k, memory, documents, windows.ids[i], add)

    return Kernel(square)


def direction_kernel(graph: Graph) -> Kernel:
    """The loss of the first window, and its gradient over the roots of the mean squares, added to `direction`.

    `squares` are sums, of each thread, over `count` windows in all.
    """
    gradients_of, loss_at = _Gradients(graph), graph.layout().loss

    def direct(
        k: Builder,
        memory: Regions,
        documents: Documents,
        squares: F64s,
        threads: Int,
        count: Real,
        direction: F64s,
        loss: F64s,
    ) -> None:
        def divide(at: Operand, g: Value) -> None:
            total = k.zeros(g.lanes)
            for thread in k.range(threads):
                total += (squares + thread * gradients_of.extent).vector(at, g.lanes)
            size = k.sqrt(total / count) + EPSILON
            direction.store(at, direction.vector(at, g.lanes) + g / size)

        gradients_of.of(k, memory, documents, k.integer(0), divide)
        loss[0] = (memory.work + loss_at)[0]

    return Kernel(direct)


def product_kernel(graph: Graph) -> Kernel:
    """The product of `direction` with the gradient of each of the windows."""
    gradients_of = _Gradients(graph)

    def multiply(
        k: Builder,
        memory: Regions,
        documents: Documents,
        windows: Windows,
        direction: F64s,
        products: F64s,
    ) -> None:
        for i in k.range(windows.first, windows.last):
            total = k.zeros(k.width())

            def add(at: Operand, g: Value) -> None:
                total.accumulate(g, direction.vector(at, g.lanes))

            gradients_of.of(k, memory, documents, windows.ids[i], add)
            products[i] = k.reduce_add(total)

    return Kernel(multiply)
