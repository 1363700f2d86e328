"""A whole training as one kernel: pack, forward, backward, Adam, step after step, on as many threads as there are.

Threads divide the documents of a step, then the parameters, and wait for each other in between. Not here: the
operations, the graph.
"""

from __future__ import annotations

from tapegpt.fast.adam import (
    BETA1,
    BETA2,
    CLIP,
    DECAY_EVERY,
    GRAM_DECAY,
    adamw,
    adamw_rows,
    decay_rows,
    gather_gradients,
    rate_at,
)
from tapegpt.machine.language import F32, F64, I64, U32, Builder, F32s, F64s, I64s, Int, Kernel, Real, U32s, kernel
from tapegpt.operations.base import clear
from tapegpt.tape import GROUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.graph import Graph, Places
    from tapegpt.machine.language import Number, Operand, Pointer, Value

PATIENCE = 1024  # turns of a waiting loop, some tens of microseconds
LOSS, SQUARES, TOUCHES = range(3)  # what a thread shares
SYNC = 16  # f64 or i64 for each thread: no two share a cache line


class Packer:
    """Documents into the rows of a run, one after the other."""

    def __init__(self, k: Builder, at: Places, work: Pointer, ids: Pointer, starts: Pointer) -> None:
        self._k, self._ids, self._starts = k, ids, starts
        self._block, self._positions = at.block_size, at.positions
        self._tokens, self._targets, self._places, self._ends = (
            (work + at.about[name]).cast(U32) for name in ("tokens", "targets", "positions", "ends")
        )
        self._noise = (work + at.about["noise"]).cast(U32) if "noise" in at.about else None

    def length(self, document: Number) -> Value:
        """Positions of a document."""
        start = self._k.integer(document)
        return self._k.minimum(self._starts[start + 1] - self._starts[start], self._block)

    def fill(
        self, at: Operand, last: Operand, number_of: Callable[[Operand], Value], *, training: bool = False
    ) -> Value:
        """Pack documents from `at` on, a variable that moves on, as many as fit; the rows that they take."""
        k = self._k
        rows, fits = k.variable(k.integer(0)), k.variable(k.integer(1))
        for _ in k.repeat_while(lambda: (at < last) & fits.equals(1)):
            document = number_of(at)
            end = rows + self.length(document)
            fits.set(k.select(end <= self._positions, k.integer(1), 0))
            for _ in k.when(fits.equals(1)):
                self._put(document, k.value(rows), end, at + 1 if training else 0)
                rows.set(end)
                at += 1
        return k.value(rows)

    def _put(self, document: Value, first: Value, end: Value, noise: Number) -> None:
        start = self._starts[document] - first
        for row in self._k.range(first, end):
            self._tokens[row] = self._ids[start + row]
            self._targets[row] = self._ids[start + row + 1]
            self._places[row] = row - first
            self._ends[row] = end
            if self._noise is not None:
                self._noise[row] = noise


class Team:
    """What the threads of a run share: sums, and a barrier."""

    def __init__(self, k: Builder, sums: Pointer, sync: Pointer, thread: Int, threads: Int) -> None:
        self._k, self._sums, self._sync, self._threads = k, sums, sync, threads
        self._arrived = k.variable(k.integer(0))
        self.own = self.of(thread)

    def of(self, thread: Operand) -> Pointer:
        """The numbers that a thread shares."""
        return self._sums + thread * SYNC

    def gather(self, stop: Pointer) -> Value:
        """Whether all threads have come here; those that have leave when `stop` says that one will not come.

        Machine code does not fail: a team that is complete stays so, and no later wait needs a way out.
        """
        k, stopped = self._k, self._k.variable(self._k.integer(0))
        self._meet(lambda: self._is_missing() & stopped.equals(0), lambda: stopped.set(k.load_shared(stop)))
        return k.negated(self._is_missing())

    def wait(self) -> None:
        """Go on when all threads have come here, and see what they wrote."""
        self._meet(self._is_missing)

    def _is_missing(self) -> Value:
        return self._k.load_shared(self._sync) < self._arrived

    def _meet(self, is_early: Callable[[], Value], look: Callable[[], None] = lambda: None) -> None:
        """Say that this thread has come, and turn in a loop that looks around now and then."""
        k = self._k
        for _ in k.when(self._threads > 1):
            self._arrived += self._threads
            k.fetch_add(self._sync, 1)
            spins = k.variable(k.integer(0))
            for _ in k.repeat_while(is_early):
                k.pause()
                spins += 1
                for _ in k.when((spins & (PATIENCE - 1)).equals(0)):
                    k.give_way()  # perhaps the thread that is waited for has no core
                    look()

    def total(self, place: int) -> Value:
        """Sum of one number over all threads."""
        result = self._k.zeros()
        for thread in self._k.range(self._threads):
            result += self.of(thread)[place]
        return self._k.value(result)


@kernel
def copy(k: Builder, source: U32s, target: U32s, count: Int) -> None:
    """target = source."""
    for i in k.range(count):
        target[i] = source[i]


class _Model:
    """What the code of a training knows of a model."""

    def __init__(self, graph: Graph) -> None:
        tape = graph.tape
        self.places, extents = graph.places(), tape.plan()
        self.gradients, self.work = extents.gradients, extents.work  # numbers of a thread
        self.sparse = tape.extent(graph.sparse) if graph.sparse else 0  # where the other parameters begin
        self.prepare, self.forward = tape.prepare_kernel(graph.loss), tape.forward_kernel(graph.loss)
        self.backward = tape.backward_kernel(graph.loss, accumulate=True)


class _Worker:
    """One thread's part of a training, while its code is made: some documents of each step, and some parameters."""

    def __init__(
        self, k: Builder, model: _Model, team: Team, thread: Int, threads: Int, memory: tuple[Pointer, ...]
    ) -> None:
        self._k, self._model, self.team, self._thread, self._threads = k, model, team, thread, threads
        self._shared, self._gradients, all_work, *self._moments = memory
        self._own_gradients = self._gradients + thread * model.gradients
        self.work = all_work + thread * model.work
        self._sparse_part = self._share_of(model.sparse)
        self._part = [end + model.sparse for end in self._share_of(model.gradients - model.sparse)]

    def _share_of(self, size: int) -> list[Operand]:
        """Where this thread's part of so many numbers begins and ends."""
        return [(self._thread + end) * (size // GROUP) // self._threads * GROUP for end in (0, 1)]

    def learn(
        self, packer: Packer, first: Value, batch_size: Int, number_of: Callable[[Operand], Value], touched: Pointer
    ) -> None:
        """Loss and gradients of this thread's documents, and the rows of the sparse parameter that they touch.

        The batch begins at the example `first` of the training.
        """
        k, places, work = self._k, self._model.places, self.work
        positions = k.variable(k.integer(0))
        for place in k.range(batch_size):
            positions += packer.length(number_of(first + place))
        (work + places.about["share"])[0] = 1.0 / k.convert(positions, F32)
        at = k.variable(first + batch_size * self._thread // self._threads)
        last = first + batch_size * (self._thread + 1) // self._threads
        loss, touches = k.zeros(), k.variable(k.integer(0))
        for _ in k.repeat_while(lambda: at < last):
            rows = packer.fill(at, last, number_of, training=True)
            self._model.forward(k, self._shared, work, 0, rows)
            loss += k.convert((work + places.loss)[0], F64)
            self._model.backward(k, self._shared, self._own_gradients, work, rows)
            for ids in places.looked_up:
                copy(k, (work + ids).cast(U32), touched + touches, rows)
                touches += rows
        self.team.own[LOSS], self.team.own[TOUCHES] = loss, k.convert(touches, F64)

    def forget(self) -> None:
        """Zero this thread's gradients."""
        clear(self._k, self._own_gradients, self._model.gradients)

    def sum_up(self) -> None:
        """The gradients of all threads, for this thread's parameters, and the sum of their squares."""
        squares = self.team.own + SQUARES
        gather_gradients(self._k, self._gradients, *self._part, self._threads, self._model.gradients, squares)

    def update(self, settings: Pointer, state: Pointer, rate: Value, squares: Value) -> Value:
        """Take Adam's step for this thread's parameters but the sparse parameter; what scales the gradient."""
        k = self._k
        clip, norm = settings[CLIP], k.sqrt(squares)
        scale = k.select((clip > 0.0) & (norm > clip), clip / norm, 1.0)
        adamw(k, self._shared, self._gradients, *self._moments, *self._part, settings, state, rate, scale)
        return scale

    def update_sparse(
        self, rows_of: Callable[[Int], Pointer], settings: Pointer, state: Pointer, rate: Value, scale: Value
    ) -> None:
        """Adam's step for this thread's rows of the sparse parameter, of those that any thread has touched."""
        k, tables = self._k, (self._shared, self._gradients, *self._moments)
        sizes = (self._thread, self._threads, self._model.gradients)
        columns = self._model.places.sparse_columns
        for other in k.range(self._threads):
            rows = (rows_of(other), k.convert(self.team.of(other)[TOUCHES], I64))
            adamw_rows(k, *tables, *rows, *sizes, settings, state, rate, scale, columns=columns)

    def decay_sparse(self, lost: Value) -> None:
        """Take this share from the sparse parameter, when all threads have moved its rows."""
        self.team.wait()
        decay_rows(self._k, self._shared, *self._sparse_part, self._k.maximum(1.0 - lost, 0.0))


def training_kernel(graph: Graph) -> Kernel:
    """One thread's part of the steps first to first + count - 1; stops before an update that would not be finite.

    Step s trains `batch_size` documents from number s * batch_size of the order on, which begins again after its end.
    Gradients are zero before and after. Those of the sparse parameter are looked at by nobody: they are sums of what
    the table of tokens gets too, and stay out of the norm that `clip` limits.
    """
    model = _Model(graph)

    def train(
        k: Builder,
        shared: F32s,
        all_gradients: F32s,
        all_work: F32s,
        first_moments: F32s,
        second_moments: F32s,
        taken: I64s,
        ids: U32s,
        starts: I64s,
        order: U32s,
        documents: Int,
        batch_size: Int,
        first: Int,
        count: Int,
        progress: Real,
        settings: F64s,
        state: F64s,
        losses: F64s,
        sums: F64s,
        sync: I64s,
        touched: U32s,
        capacity: Int,
        stop: I64s,
        thread: Int,
        threads: Int,
    ) -> None:
        memory = (shared, all_gradients, all_work, first_moments, second_moments)
        team = Team(k, sums, sync, thread, threads)
        worker = _Worker(k, model, team, thread, threads, memory)
        packer = Packer(k, model.places, worker.work, ids, starts)

        def rows_of(whose: Int) -> Pointer:
            """The rows of the sparse parameter that a thread's documents touch."""
            return touched + whose * capacity

        going = k.variable(k.select(team.gather(stop), k.integer(1), 0))
        for i in k.range(count):
            for _ in k.when(going.equals(1)):
                step = first + i
                for _ in k.when(thread.equals(0)):
                    model.prepare(k, shared)
                team.wait()  # what follows from the parameters is there

                def number_of(example: Operand) -> Value:
                    return order[example % documents]

                worker.learn(packer, step * batch_size, batch_size, number_of, rows_of(thread))
                team.wait()  # all gradients are there
                worker.sum_up()
                team.wait()  # and added up
                loss, squares = team.total(LOSS), team.total(SQUARES)
                finite = (loss - loss).equals(0.0) & (squares - squares).equals(0.0)
                going.set(k.select(finite, k.integer(1), 0))
                for _ in k.when(thread.equals(0)):
                    losses[i] = k.select(finite, loss, float("nan"))
                    state[0] = k.select(finite, state[0] * settings[BETA1], state[0])
                    state[1] = k.select(finite, state[1] * settings[BETA2], state[1])
                    taken[0] = k.select(finite, step + 1, step)
                team.wait()  # the state is new, and the sums have been read
                for _ in k.when(k.negated(finite)):
                    worker.forget()
                for _ in k.when(finite):
                    rate = rate_at(k, settings, progress + k.convert(i, F64))
                    scale = worker.update(settings, state, rate, squares)
                    if model.sparse:
                        worker.update_sparse(rows_of, settings, state, rate, scale)
                        for _ in k.when(((step + 1) % DECAY_EVERY).equals(0) & (settings[GRAM_DECAY] > 0.0)):
                            worker.decay_sparse(rate * settings[GRAM_DECAY] * DECAY_EVERY)
                team.wait()  # the parameters are new

    return Kernel(train)


def evaluation_kernel(graph: Graph) -> Kernel:
    """Of the documents first to last - 1: the sum of -log(probability), and the number of positions."""
    forward, places = graph.tape.forward_kernel(graph.loss), graph.places()

    def evaluate(
        k: Builder, shared: F32s, work: F32s, ids: U32s, starts: I64s, first: Int, last: Int, result: F64s
    ) -> None:
        packer = Packer(k, places, work, ids, starts)
        (work + places.about["share"])[0] = 1.0
        at = k.variable(first)
        for _ in k.repeat_while(lambda: at < last):
            rows = packer.fill(at, last, k.value)
            forward(k, shared, work, 0, rows)
            result[0] = result[0] + k.convert((work + places.loss)[0], F64)
            result[1] = result[1] + k.convert(rows, F64)

    return Kernel(evaluate)
