"""What the parts of a model cost: times that are measured, and arithmetic that is counted by code that counts it.

Not here: which parts there are (`anatomy.py`).
"""

from __future__ import annotations

import math
import sys
import time
from array import array
from statistics import median

from tapegpt.autograd.operations.base import row_stride
from tapegpt.data.rng import Random
from tapegpt.engines.adam import scratch_size
from tapegpt.engines.compiled import Documents
from tapegpt.engines.graph import DocumentPacker
from tapegpt.machine.language import F32, F64, Builder, I64s, Int, Kernel, Reals
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapegpt.autograd.node import Node
    from tapegpt.data.tokens import Tokens
    from tapegpt.engines.base import Parameters
    from tapegpt.engines.graph import Graph
    from tapegpt.machine.language import Operand, Pointer, Type
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target

COUNTED = ("add", "sub", "mul", "div", "fma", "sqrt", "exp", "log", "pow", "compare", "loaded", "stored")
SAMPLE, SAMPLES, REPEATS = 50_000, 9, 20  # nanoseconds of a measurement, how many there are, runs to try
# A thread's own time ticks 64 times a second on Windows, and a browser has none.
clock = time.perf_counter_ns if sys.platform in ("win32", "emscripten") else time.thread_time_ns


class Part(Record):
    """One operation of a model's training step: of a line of the tape, or Adam's update."""

    name: str  # as one asks for it: "attention", "linear 2"
    kinds: tuple[str, ...]  # what it is called without a number
    node: Node | None  # None: Adam
    kernels: dict[str, Kernel]  # prepare, forward, backward, of Adam update


class KernelCost(Record):
    """What one kernel of a part takes."""

    part: Part
    stage: str  # prepare, forward, backward, update
    positions: int  # of the run
    nanoseconds: float  # of the thread, the median of several measurements
    counts: dict[str, int]  # by the kinds of `COUNTED`

    @property
    def flops(self) -> int:
        """Additions, multiplications, divisions and roots; a fused multiply-add is two."""
        return sum(self.counts[kind] for kind in ("add", "sub", "mul", "div", "sqrt")) + 2 * self.counts["fma"]

    @property
    def moved(self) -> int:
        """Bytes loaded and stored."""
        return self.counts["loaded"] + self.counts["stored"]


class Walk(Record):
    """The tape walked backwards for documents."""

    loss: float  # the mean over the positions
    positions: int
    norms: list[tuple[Node, float]]  # of the gradients: operations from last to first, then parameters


class Bench:
    """Parts of a model that can be run one by one on documents, in memory of their own.

    After a step the numbers are those of a training; where parts are left out, what the others read is random.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target,
        parts: Sequence[Part],
        tokens: Tokens,
        parameters: Parameters,
        *,
        counted: bool = False,
    ) -> None:
        self._graph, self._tape, self._parts = graph, graph.tape, parts
        entries: Entries = {"put": (_put_kernel(graph), {})}
        for part in parts:
            for stage, kernel in part.kernels.items():
                entries[f"{stage} {part.name}"] = (_repeat(kernel, self._tape.real), {})
        self._program = Program(entries, target, COUNTED if counted else ())
        extents, size = self._tape.plan(), self._tape.real.size
        self._shared, self._gradients = Memory(size * extents.shared), Memory(size * extents.gradients)
        scratch = scratch_size(extents.gradients)
        self._work, self._moments = Memory(size * extents.work), Memory(size * (2 * extents.gradients + scratch))
        self._counts = array("q", bytes(8 * len(COUNTED)))
        graph.places.write(self._shared, parameters)
        rows = array("q", [0])
        places = (self._work.at(0), Documents.arguments(tokens), len(tokens))
        self._program.run("put", *places, address_of(rows), address_of(self._counts))
        self.rows = rows[0]
        if [part.node for part in parts if part.node] != [node for node in self._tape.nodes if node.operation]:
            self._fill()

    def _fill(self) -> None:
        """Random numbers for what the parts read, and the gradients that they pass on."""
        rng = Random(0)
        for part in self._parts:
            for node in (part.node, *part.node.inputs) if part.node else ():
                if node.operation:
                    for offset in (node.value, node.gradient):
                        self._spread(rng, self._work, node, offset)
            if not part.node:
                for node in self._tape.parameters():
                    self._spread(rng, self._gradients, node, node.gradient)

    def _spread(self, rng: Random, memory: Memory, node: Node, offset: int) -> None:
        """The same random row in each row of a node's values or gradients."""
        numbers = array("d" if self._tape.real is F64 else "f", rng.gauss_array(node.shape.columns, 0.0, 1.0))
        for view in self._views(memory, node, offset):
            view[:] = memoryview(numbers)

    def _views(self, memory: Memory, node: Node, offset: int) -> list[memoryview[float]]:
        columns, size = node.shape.columns, self._tape.real.size
        rows = self.rows if node.shape.rows is None else node.shape.rows
        return [memory.floats(size * (offset + row * row_stride(columns)), columns, size) for row in range(rows)]

    def step(self, look: Callable[[Part], None] = lambda _: None) -> None:
        """Once forwards, and backwards; `look` is called for each part when the gradient of its result is complete."""
        loss = self._graph.loss
        for part in self._parts:
            for stage in ("prepare", "forward"):
                self.run(part, stage)
        self._views(self._work, loss, loss.gradient)[0][0] = 1.0
        for part in reversed(self._parts):
            look(part)
            self.run(part, "backward")

    @property
    def loss(self) -> float:
        """The mean over all positions."""
        loss = self._graph.loss
        return self._views(self._work, loss, loss.value)[0][0]

    def norm(self, node: Node) -> float:
        """Of the gradient with respect to a node, as it is now."""
        memory = self._gradients if node.is_parameter else self._work
        return math.hypot(*[number for view in self._views(memory, node, node.gradient) for number in view])

    def run(self, part: Part, stage: str, times: int = 1) -> None:
        """Run a kernel of a part, if it has that."""
        if stage in part.kernels:
            memories = [memory.at(0) for memory in (self._shared, self._gradients, self._work, self._moments)]
            self._program.run(f"{stage} {part.name}", *memories, self.rows, times, address_of(self._counts))

    def counts(self, part: Part, stage: str) -> dict[str, int]:
        """How much of each kind a kernel does."""
        self._counts[:] = array("q", bytes(8 * len(COUNTED)))
        self.run(part, stage)
        return dict(zip(COUNTED, self._counts, strict=True))

    def nanoseconds(self, part: Part, stage: str) -> float:
        """What a kernel takes: the median of several measurements, each of so many runs that the call is nothing.

        Adam runs once in each, from the same gradients and means, and the call is taken off.
        """
        memories = [] if part.node else [self._gradients, self._moments]
        kept = [(memory, bytes(memory.at(0).view)) for memory in memories]

        def elapsed(times: int) -> int:
            for memory, content in kept:
                memory.at(0).view[:] = content
            start = clock()
            self.run(part, stage, times)
            return clock() - start

        def middle(times: int) -> float:
            return median(elapsed(times) for _ in range(SAMPLES))

        if not self._program.compiled:
            return max(1.0, elapsed(1))
        if kept:
            return max(1.0, middle(1) - middle(0))
        shortest = max(1.0, min(elapsed(REPEATS) for _ in range(3)) / REPEATS)
        times = max(1, round(SAMPLE / shortest))
        return max(1.0, middle(times) / times)


def _repeat(kernel: Kernel, real: Type) -> Kernel:
    """A kernel some times over, as a program's entry."""

    def repeated(
        k: Builder,
        shared: Reals,
        gradients: Reals,
        work: Reals,
        moments: Reals,
        stop: Int,
        times: Int,
        counts: I64s,
    ) -> None:
        places: dict[str, Pointer | Operand] = {"shared": shared, "gradients": gradients, "work": work}
        places.update(moments=moments, stop=stop)
        for _ in k.range(times):
            kernel(k, *[places[name] for name in kernel.arguments])

    return Kernel(repeated, f"{kernel.name}.repeated", real)


def _put_kernel(graph: Graph) -> Kernel:
    """`(work, documents, count, rows, counts)`: write documents as the engines do, and how many rows they take."""
    places, real = graph.layout(), graph.tape.real

    def fill(k: Builder, work: Reals, documents: Documents, count: Int, rows: I64s, counts: I64s) -> None:
        filled = DocumentPacker(k, places, work, documents).fill(k.variable(k.integer(0)), count)
        if real is F32:
            (work + places.about["share"])[0] = 1.0 / k.convert(filled, F32)
        rows[0] = filled

    return Kernel(fill, "put", real)


NAMES = {
    "add": "additions",
    "sub": "subtractions",
    "mul": "multiplications",
    "div": "divisions",
    "fma": "multiply-adds",
    "sqrt": "roots",
    "compare": "comparisons",
}


def arithmetic(counts: dict[str, int]) -> str:
    """Counts in words, the most first: `4,608 additions, 4,608 multiplications, 24 pow`."""
    kinds = [kind for kind in COUNTED[:-2] if counts[kind]]
    kinds.sort(key=lambda kind: -counts[kind])
    return ", ".join(f"{counts[kind]:,} {NAMES.get(kind, kind)}" for kind in kinds) or "no arithmetic"


def about(costs: Sequence[KernelCost]) -> str:
    """One line about what a part costs."""
    total = sum(cost.nanoseconds for cost in costs)
    counts = {kind: sum(cost.counts[kind] for cost in costs) for kind in COUNTED}
    times = ", ".join(f"{cost.stage} {cost.nanoseconds:,.0f} ns" for cost in costs)
    flops = sum(cost.flops for cost in costs)
    speed = f", {flops / total:.1f} flops/ns" if flops else ""
    moved = f"{sum(cost.moved for cost in costs) / total:.1f} bytes/ns"
    return f"{costs[0].positions} positions: {times}; {arithmetic(counts)}{speed}, {moved}"
