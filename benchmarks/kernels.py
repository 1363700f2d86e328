"""The time of each kernel of one training step, on the data of the step.

Correct first: run one after the other they give the loss of the engine and, bit for bit, the gradients of the whole.
A kernel that is repeated finds its numbers in the nearest cache; the whole step, which is measured too, may not.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.fast import Peak
from benchmarks.timing import Summary, figure, seconds, table
from tapegpt import Config, Corpus, Random
from tapegpt.autograd.node import Node
from tapegpt.autograd.operations.linear import FastLinear
from tapegpt.engines.adam import Schedule
from tapegpt.engines.base import Adam
from tapegpt.engines.compiled import Documents, Numbers
from tapegpt.engines.fast.adam import Move, adamw, gather_gradients
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.graph import DocumentPacker, fast_graph
from tapegpt.machine.language import F32, Builder, F32s, F64s, I64s, Int, Kernel, U32s
from tapegpt.machine.memory import Address, Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.models.trained import initialise
from tapegpt.settings import MAX_STEPS

if TYPE_CHECKING:
    from tapegpt.machine.program import Argument, Entries

KERNEL_SECONDS, STEP_SECONDS = 0.0005, 0.005  # of a sample, at least half of it: short ones are seldom interrupted
SEED = 42
DIRECTIONS = ("prepare", "forward", "backward")


class Part:
    """A kernel of the step: how it is called, and what it computes; `run(repeats)` does so on the packed rows."""

    def __init__(self, name: str, run: Callable[[int], None], operations: int = 0) -> None:
        self.name, self.run = name, run
        self.operations = operations  # of a matrix product, for each row
        self.repeats = 1

    def sample(self) -> float:
        """Seconds a call; finds out first how many calls take about `KERNEL_SECONDS`."""
        while (taken := seconds(lambda: self.run(self.repeats))) < KERNEL_SECONDS / 2:
            self.repeats *= 2
        return taken / self.repeats


class Step:
    """One training step on documents drawn from the corpus: its memory, its kernels, and the engine that does it all.

    The documents go through the model in as many runs as the engine packs them into; `pack` fills the rows of one.
    """

    def __init__(self, corpus: Corpus, config: Config, batch_size: int) -> None:
        self.graph = graph = fast_graph(config, corpus.vocab_size)
        self.tape = tape = graph.tape
        self._extents = extents = tape.plan()
        rng = Random(SEED)
        tokens = corpus.windows(config.block_size)
        drawn = rng.permutation(len(tokens))
        order = array("I", [drawn[place % len(drawn)] for place in range(batch_size)])
        self.tokens, self.batch_size = tokens.replace(order=order), batch_size
        self.engine = FastEngine(config, corpus.vocab_size, batch_size)
        initialise(self.engine, config, corpus.vocab_size, rng)
        sizes = (extents.shared, extents.gradients, extents.work, 2 * extents.gradients)
        self._shared, self._gradients, self._work, self._moments = (Memory(4 * size) for size in sizes)
        snapshot = self.engine.snapshot()
        assert isinstance(snapshot, bytes)
        self._shared.at(0).view[: len(snapshot)] = snapshot
        self._first = 0  # document of the present run
        self._packed = array("q", [0, 0])  # the first document that did not fit, rows
        self._schedule = Adam(beta1=1 - 1e-6, beta2=1 - 1e-6).as_dict()  # moments must not fade to zero
        self._squares = array("d", [0.0])
        self._program = Program(self._entries())
        self.positions = sum(tokens.starts[document + 1] - tokens.starts[document] for document in order)
        self._work.floats(4 * graph.about("share").value, 1, 4)[0] = (
            1 / self.positions
        )  # a position's share of the loss
        self.parts = self._parts()

    # --- code ---------------------------------------------------------------------------------------------------

    def _entries(self) -> Entries:
        kernels = [self._pack_kernel(), *_optimiser_kernels(self._extents.gradients)]
        kernels += [self._kernel(direction) for direction in DIRECTIONS]
        kernels += [self._kernel(direction, node) for direction in DIRECTIONS for node in self._nodes(direction)]
        return {kernel.name: (kernel, {}) for kernel in kernels}

    def _nodes(self, direction: str) -> list[Node]:
        """The nodes whose operation has such a kernel, in the order of a step."""
        nodes = [node for node in self.tape.nodes if node.operation and direction in self._alone(node)]
        return nodes[::-1] if direction == "backward" else nodes

    def _alone(self, node: Node) -> dict[str, Kernel]:
        return self.tape.kernels(node, self.graph.loss, accumulate=True)

    def _kernel(self, direction: str, node: Node | None = None) -> Kernel:
        """One node's operation, or all, so many times."""
        tape, loss = self.tape, self.graph.loss
        if node:
            kernel = self._alone(node)[direction]
        elif direction == "backward":
            kernel = tape.backward_kernel(loss, accumulate=True)
        else:
            kernel = tape.prepare_kernel(loss) if direction == "prepare" else tape.forward_kernel(loss)

        def run(k: Builder, shared: F32s, gradients: F32s, work: F32s, rows: Int, repeats: Int) -> None:
            places: dict[str, Any] = {"shared": shared, "gradients": gradients, "work": work, "start": 0, "stop": rows}
            for _ in k.range(repeats):
                kernel(k, *[places[name] for name in kernel.arguments])

        return Kernel(run, f"{direction}{node.index}" if node else direction)

    def _pack_kernel(self) -> Kernel:
        places = self.graph.layout()

        def pack(
            k: Builder, work: F32s, documents: Documents, order: U32s, last: Int, packed: I64s, repeats: Int
        ) -> None:
            packer, first = DocumentPacker(k, places, work, documents, lambda place: order[place]), packed[0]
            for _ in k.range(repeats):
                at = k.variable(first)
                packed[1] = packer.fill(at, last)
                packed[0] = k.value(at)

        return Kernel(pack)

    # --- runs ---------------------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, Part]:
        """What is done once a step, and in each of its runs, in the order of a step, by the entry's name."""
        parts = {"pack": Part("pack", self._pack)}
        for direction in DIRECTIONS:
            for node in self._nodes(direction):
                entry = f"{direction}{node.index}"
                parts[entry] = Part(_title(direction, node), self._runner(entry), _operations(direction, node))
        parts["gather"] = Part("sum of squares of the gradient", self._gather)
        parts["adam"] = Part("Adam", self._adam)
        return parts

    def _runner(self, entry: str) -> Callable[[int], None]:
        return lambda repeats: self._program.run(entry, *self._places(), self.rows, repeats)

    def _places(self) -> list[Address]:
        return [self._shared.at(0), self._gradients.at(0), self._work.at(0)]

    @property
    def rows(self) -> int:
        """Rows of the run that is packed."""
        return self._packed[1]

    def runs(self) -> Iterator[None]:
        """Pack one run of the step after the other."""
        self._first = 0
        while self._first < self.batch_size:
            self._pack(1)
            following = self._packed[0]
            yield
            self._first = following

    def _pack(self, repeats: int) -> None:
        """Pack the present run."""
        tokens = self.tokens
        assert tokens.order
        self._packed[0] = self._first
        places = (self._work.at(0), Documents.arguments(tokens), address_of(tokens.order))
        self._program.run("pack", *places, self.batch_size, address_of(self._packed), repeats)

    def _gather(self, repeats: int) -> None:
        self._program.run("gather", self._gradients.at(0), address_of(self._squares), repeats)

    def _adam(self, repeats: int) -> None:
        first, second = (self._moments.at(start * 4 * self._extents.gradients) for start in (0, 1))
        shared, gradients = self._shared.at(0), self._gradients.at(0)
        numbers: dict[str, Argument] = {"shared": shared, "gradients": gradients, "first": first, "second": second}
        move: dict[str, Argument] = {
            "rate": 0.0,
            "scale": 1.0,
            "power1": 0.5,
            "power2": 0.5,
        }  # so the parameters stay
        self._program.run("adam", numbers, self._schedule, move, repeats)

    def one_by_one(self) -> None:
        """The present run, one operation after the other."""
        loss = self.graph.loss
        for entry, part in self.parts.items():
            if entry == f"backward{loss.index}":
                self._work.floats(4 * loss.gradient, 1, 4)[0] = 1.0
            if entry.startswith(DIRECTIONS):
                part.run(1)

    def at_once(self) -> None:
        """The present run, all operations in one kernel for each direction."""
        for direction in DIRECTIONS:
            self._runner(direction)(1)

    def outcome(self, do: Callable[[], None]) -> tuple[float, bytes]:
        """Loss and gradients of the step, its runs done in one way or the other."""
        self._gradients.at(0).view[: 4 * self._extents.gradients] = bytes(4 * self._extents.gradients)
        loss = 0.0
        for _ in self.runs():
            do()
            loss += self._work.floats(4 * self.graph.loss.value, 1, 4)[0]
        return loss, bytes(self._gradients.at(0).view[: 4 * self._extents.gradients])

    def train(self, count: int) -> list[float]:
        """So many steps of the engine on the same documents; the parameters hardly move."""
        return self.engine.train(self.tokens, Adam(steps=MAX_STEPS, learning_rate=1e-9), 0, count)


def _optimiser_kernels(extent: int) -> list[Kernel]:
    """What comes after the gradients, for one thread."""

    def gather(k: Builder, gradients: F32s, squares: F64s, repeats: Int) -> None:
        for _ in k.range(repeats):
            gather_gradients(k, gradients, 0, extent, 1, squares, extent=extent)

    def adam(k: Builder, numbers: Numbers, schedule: Schedule, move: Move, repeats: Int) -> None:
        for _ in k.range(repeats):
            adamw(k, numbers, 0, extent, schedule, move)

    return [Kernel(gather), Kernel(adam, real=F32)]


def _title(direction: str, node: Node) -> str:
    """Such as `forward linear relu, layer0.mlp_fc1 (64, 16)`."""
    weights = [f"{i.name} {i.shape}" for i in node.inputs if i.is_parameter]
    return ", ".join([f"{direction} {node.operation}", *weights])


def _operations(direction: str, node: Node) -> int:
    """Of a matrix product, for each row: two for a multiply-add; backward there are two products."""
    if direction == "prepare" or not isinstance(node.operation, FastLinear):
        return 0
    outs, ins = node.inputs[1].shape.rows, node.inputs[1].shape.columns
    return 2 * (outs or 0) * ins * (2 if direction == "backward" else 1)


# --- the table --------------------------------------------------------------------------------------------------


def check_parts(step: Step) -> None:
    """The parts one by one give the gradients of the whole, and the engine's loss."""
    loss, gradients = step.outcome(step.at_once)
    assert step.outcome(step.one_by_one) == (loss, gradients), "the parts come to another step than the whole"
    assert step.train(1) == [loss], "the engine's step has another loss than its kernels"


def by_kernel(corpus: Corpus, config: Config, batch_size: int, rounds: int) -> str:
    """The time of each kernel of the step, all kernels taking turns, and of the whole step."""
    step, peak = Step(corpus, config, batch_size), Peak()
    check_parts(step)
    count = 1
    while seconds(lambda: step.train(count)) < STEP_SECONDS / 2:
        count *= 2
    times: dict[str, list[float]] = {entry: [] for entry in step.parts}
    rates: dict[str, list[tuple[float, float]]] = {entry: [] for entry in step.parts}  # GFLOP/s, of peak
    whole = []
    for _ in range(rounds):
        before, taken = peak.measure(), _round(step)
        best = max(before, peak.measure())
        for entry, part in step.parts.items():
            times[entry].append(1e6 * taken[entry])
            rate = part.operations * step.positions / taken[entry] / 1e9
            rates[entry].append((rate, rate / best))
        whole.append(1e6 * seconds(lambda: step.train(count)) / count)
    total = sum(map(median, times.values()))
    lines = [_line(part, times[entry], rates[entry], total) for entry, part in step.parts.items()]
    lines += _sums(total, whole)
    heads = ["", "us", "share", "GFLOP/s", "of peak"]
    title = f"The kernels of a step, n_embd {config.n_embd}, {step.positions} positions in {batch_size} documents"
    return f"{table(title, heads, lines)}\n{peak}"


def _round(step: Step) -> dict[str, float]:
    """Seconds of each part in all runs of a step."""
    taken = dict.fromkeys(step.parts, 0.0)
    for number, _ in enumerate(step.runs()):
        step.at_once()  # so that every part finds what it works on
        for entry, part in step.parts.items():
            if number == 0 or entry == "pack" or entry.startswith(DIRECTIONS[1:]):  # the others are once a step
                taken[entry] += part.sample()
    return taken


def _line(part: Part, times: Sequence[float], rates: Sequence[tuple[float, float]], total: float) -> list[str]:
    time = median(times)
    rate, fraction = (median(column) for column in zip(*rates, strict=True))
    of_product = [figure(rate), f"{100 * fraction:.1f} %"] if part.operations else ["", ""]
    return [part.name, figure(time), f"{100 * time / total:.1f} %", *of_product]


def _sums(total: float, whole: Sequence[float]) -> list[list[str]]:
    summary = Summary("the whole step", whole)
    return [
        ["all of these", figure(total), "100.0 %", "", ""],
        [f"{summary.name} ({summary.spread})", figure(summary.median), f"{100 * summary.median / total:.1f} %", "", ""],
    ]
