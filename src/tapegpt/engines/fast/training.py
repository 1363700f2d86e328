"""A whole training as one kernel: pack, forward, backward, Adam, step after step, on as many threads as there are.

Threads divide the documents of a step, then the parameters, and wait for each other in between. Not here: the
operations, the graph.
"""

from __future__ import annotations

from collections.abc import Callable

from tapegpt.autograd.operations.base import clear
from tapegpt.autograd.tape import GROUP
from tapegpt.engines.adam import Schedule  # noqa: TC001  # an entry's structure
from tapegpt.engines.compiled import POWERS, SYNC, Documents, Numbers, Steps
from tapegpt.engines.fast.adam import DECAY_EVERY, Move, adamw, adamw_rows, decay_rows, gather_gradients, rate_at
from tapegpt.engines.graph import DocumentPacker, Graph
from tapegpt.machine.language import (
    F32,
    F64,
    I64,
    U32,
    Builder,
    F32s,
    F64s,
    I64s,
    Int,
    Kernel,
    Operand,
    Pointer,
    Real,
    U32s,
    Value,
    Variable,
    kernel,
)
from tapegpt.machine.signature import Structure

PATIENCE = 1024  # turns of a waiting loop, some tens of microseconds
LOSS, SQUARES, TOUCHES = range(3)  # what a thread shares


class Threads(Structure):
    """The threads of a training, and what they share."""

    sums: F64s  # `SYNC` for each
    sync: I64s  # how many threads have reached the barriers
    stop: I64s  # 1: a thread has failed
    touched: U32s  # rows of the sparse parameter, `capacity` for each
    capacity: Int
    thread: Int  # number of this one
    threads: Int


class BatchSteps(Steps):
    """The same with batches of documents, in an order of their own."""

    order: U32s
    batch_size: Int
    progress: Real  # position of the first in the schedule
    powers: F64s  # of Adam's betas


class Team:
    """What the threads of a run share: sums, and a barrier."""

    def __init__(self, k: Builder, shared: Threads) -> None:
        self._k, self._shared = k, shared
        self._arrived = k.variable(k.integer(0))
        self.own, self.touched = self.of(shared.thread), self.touched_by(shared.thread)

    def of(self, thread: Operand) -> Pointer:
        """The numbers that a thread shares."""
        return self._shared.sums + thread * SYNC

    def touched_by(self, thread: Operand) -> Pointer:
        """The rows of the sparse parameter that a thread's documents touch."""
        return self._shared.touched + thread * self._shared.capacity

    def gather(self) -> Value:
        """Wait until all threads are here, or one has failed; returns whether all are.

        Machine code does not fail, so a complete team stays complete, and later waits need no way out.
        """
        k, stopped = self._k, self._k.variable(self._k.integer(0))
        self._meet(
            lambda: self._is_missing() & stopped.equals(0), lambda: stopped.set(k.load_shared(self._shared.stop))
        )
        return k.logical_not(self._is_missing())

    def wait(self) -> None:
        """Wait until all threads are here, and see what they wrote."""
        self._meet(self._is_missing)

    def _is_missing(self) -> Value:
        return self._k.load_shared(self._shared.sync) < self._arrived

    def _meet(self, is_early: Callable[[], Value], look: Callable[[], None] = lambda: None) -> None:
        """Count this thread as present, and wait in a loop that calls `look` now and then."""
        k = self._k
        for _ in k.when(self._shared.threads > 1):
            self._arrived += self._shared.threads
            k.fetch_add(self._shared.sync, 1)
            spins = k.variable(k.integer(0))
            for _ in k.repeat_while(is_early):
                k.pause()
                spins += 1
                for _ in k.when((spins & (PATIENCE - 1)).equals(0)):
                    k.yield_core()  # the thread that this one waits for may have no core
                    look()

    def total(self, index: int) -> Value:
        """Sum of one number over all threads."""
        result = self._k.zeros()
        for thread in self._k.range(self._shared.threads):
            result += self.of(thread)[index]
        return self._k.value(result)


@kernel
def copy(k: Builder, source: U32s, target: U32s, count: Int) -> None:
    """target = source."""
    for i in k.range(count):
        target[i] = source[i]


class _Model:
    """What the code of a training knows of a model: kernels, offsets and sizes."""

    def __init__(self, graph: Graph) -> None:
        tape = graph.tape
        self.layout, extents = graph.layout(), tape.plan()
        self.gradients, self.work = extents.gradients, extents.work  # numbers of a thread
        self.sparse = tape.extent(graph.sparse) if graph.sparse else 0  # where the other parameters begin
        self.prepare, self.forward = tape.prepare_kernel(graph.loss, divided=True), graph.forward
        self.backward = tape.backward_kernel(graph.loss, accumulate=True)


class _Worker:
    """One thread's part of a training, while its code is made: some documents of each step, and some parameters."""

    def __init__(self, k: Builder, model: _Model, numbers: Numbers, all_work: Pointer, shared: Threads) -> None:
        self._k, self._model, self._numbers, self._shared = k, model, numbers, shared
        self.team = Team(k, shared)
        self._gradients = numbers.gradients + shared.thread * model.gradients
        self.work = all_work + shared.thread * model.work
        self._sparse_part = self._share_of(model.sparse)
        self._part = [end + model.sparse for end in self._share_of(model.gradients - model.sparse)]

    def _share_of(self, size: int) -> list[Operand]:
        """Where this thread's part of so many numbers begins and ends."""
        thread, threads = self._shared.thread, self._shared.threads
        return [(thread + end) * (size // GROUP) // threads * GROUP for end in (0, 1)]

    def learn(self, packer: DocumentPacker, first: Value, batch_size: Int) -> None:
        """Loss and gradients of this thread's documents, and the rows of the sparse parameter that they touch.

        The batch begins at the example `first` of the training.
        """
        k, layout, work, shared = self._k, self._model.layout, self.work, self._numbers.shared
        positions = k.variable(k.integer(0))
        for example in k.range(first, first + batch_size):
            positions += packer.length(example)
        (work + layout.about["share"])[0] = 1.0 / k.convert(positions, F32)
        at, last = self._divide(packer, first, batch_size, k.value(positions))
        loss, touches = k.zeros(), k.variable(k.integer(0))
        for _ in k.repeat_while(lambda: at < last):
            rows = packer.fill(at, last, training=True)
            self._model.forward(k, shared, work, 0, rows)
            loss += k.convert((work + layout.loss)[0], F64)
            self._model.backward(k, shared, self._gradients, work, rows)
            for ids in layout.looked_up:
                copy(k, (work + ids).cast(U32), self.team.touched + touches, rows)
                touches += rows
        self.team.own[LOSS], self.team.own[TOUCHES] = loss, k.convert(touches, F64)

    def _divide(self, packer: DocumentPacker, first: Value, batch_size: Int, positions: Value) -> list[Variable]:
        """Where this thread's documents begin and end: those whose middle lies in its share of all positions."""
        k, threads, before = self._k, self._shared.threads, self._k.variable(self._k.integer(0))
        bounds = [k.variable(first) for _ in range(2)]
        for example in k.range(first, first + batch_size):
            length = packer.length(example)
            for end, bound in enumerate(bounds):
                is_before = (before * 2 + length) * threads < positions * 2 * (self._shared.thread + end)
                bound.set(bound + k.select(is_before, k.integer(1), 0))
            before += length
        return bounds

    def forget(self) -> None:
        """Zero this thread's gradients."""
        clear(self._k, self._gradients, self._model.gradients)

    def sum_up(self) -> None:
        """The gradients of all threads, for this thread's parameters, and the sum of their squares."""
        parts = (*self._part, self._shared.threads, self.team.own + SQUARES)
        gather_gradients(self._k, self._numbers.gradients, *parts, extent=self._model.gradients)

    def update(self, schedule: Schedule, move: Move) -> None:
        """Take Adam's step for this thread's parameters but the sparse parameter."""
        adamw(self._k, self._numbers, *self._part, schedule, move)

    def update_sparse(self, schedule: Schedule, move: Move) -> None:
        """Adam's step for this thread's rows of the sparse parameter, of those that any thread has touched."""
        k, thread, threads = self._k, self._shared.thread, self._shared.threads
        sizes = {"columns": self._model.layout.sparse_columns, "extent": self._model.gradients}
        for other in k.range(threads):
            rows = (self.team.touched_by(other), k.convert(self.team.of(other)[TOUCHES], I64))
            adamw_rows(k, self._numbers, *rows, thread, threads, schedule, move, **sizes)

    def decay_sparse(self, lost: Value) -> None:
        """Take this share from the sparse parameter, when all threads have moved its rows."""
        self.team.wait()
        decay_rows(self._k, self._numbers.shared, *self._sparse_part, self._k.maximum(1.0 - lost, 0.0))


def training_kernel(graph: Graph) -> Kernel:
    """One thread's part of the steps first to first + count - 1; stops before an update that would not be finite.

    Step s trains `batch_size` documents from number s * batch_size of the order on, which begins again after its end.
    Gradients are zero before and after. The norm that `clip` limits leaves out those of the sparse parameter, which are
    sums of what the table of tokens gets too.
    """
    model = _Model(graph)

    def train(
        k: Builder,
        numbers: Numbers,
        work: F32s,
        documents: Documents,
        schedule: Schedule,
        steps: BatchSteps,
        shared: Threads,
    ) -> None:
        worker = _Worker(k, model, numbers, work, shared)
        team, powers = worker.team, [k.variable(steps.powers[index]) for index in range(POWERS)]

        def number_of(example: Operand) -> Value:
            return steps.order[example % steps.documents]

        packer = DocumentPacker(k, model.layout, worker.work, documents, number_of)
        going = k.variable(k.select(team.gather(), k.integer(1), 0))
        for i in k.range(steps.count):
            for _ in k.when(going.equals(1)):
                step = steps.first + i
                model.prepare(k, numbers.shared, shared.thread, shared.threads)
                team.wait()  # what follows from the parameters is ready
                worker.learn(packer, step * steps.batch_size, steps.batch_size)
                team.wait()  # all gradients are computed
                worker.sum_up()
                team.wait()  # and summed
                loss, squares = team.total(LOSS), team.total(SQUARES)
                finite = (loss - loss).equals(0.0) & (squares - squares).equals(0.0)
                going.set(k.select(finite, k.integer(1), 0))
                for _ in k.when(shared.thread.equals(0)):
                    steps.losses[i] = k.select(finite, loss, float("nan"))
                    steps.taken[0] = k.select(finite, step + 1, step)
                for _ in k.when(k.logical_not(finite)):
                    worker.forget()
                for _ in k.when(finite):
                    clip, norm = schedule.clip, k.sqrt(squares)
                    scale = k.select((clip > 0.0) & (norm > clip), clip / norm, 1.0)
                    rate = rate_at(k, schedule, steps.progress + k.convert(i, F64))
                    for power, beta in zip(powers, (schedule.beta1, schedule.beta2), strict=True):
                        power.set(power * beta)
                    move = Move(rate, scale, *map(k.value, powers))
                    worker.update(schedule, move)
                    if model.sparse:
                        worker.update_sparse(schedule, move)
                        for _ in k.when(((step + 1) % DECAY_EVERY).equals(0) & (schedule.gram_decay > 0.0)):
                            worker.decay_sparse(rate * schedule.gram_decay * DECAY_EVERY)
                team.wait()  # the parameters are new
        for _ in k.when(shared.thread.equals(0)):
            for index, power in enumerate(powers):
                steps.powers[index] = power

    return Kernel(train, real=F32)
