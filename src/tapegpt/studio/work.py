"""Threads that do the work, so that the event loop never waits: how many tasks at a time, how many wait for their turn.

Machine code runs without the interpreter's lock. A thread cannot be ended from outside: tasks look at their `Deadline`
between pieces of work, and one that does not come to its end keeps its thread, so that what is left for others is
bounded but never used up twice. In a browser, where Python has no threads, the event loop itself runs the tasks, and
looks at requests between the pieces of those that yield. Not here: what the tasks are.
"""

from __future__ import annotations

import asyncio
import math
from _thread import allocate_lock
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from tapegpt.errors import TapeGPTError
from tapegpt.inference.forward import Inference
from tapegpt.pools import whole
from tapegpt.processes import can_start_threads, renew_at_fork
from tapegpt.studio.limits import RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from concurrent.futures import Future
    from typing import Any, TypeVar

    from starlette.requests import Request

    from tapegpt.inference.constraints import Drawing
    from tapegpt.inference.forward import Drawn, Rules
    from tapegpt.pools import Pieces

    T = TypeVar("T")

TURN_SECONDS = 0.02  # of a task, where there are no threads, until the event loop has its turn
PATIENCE = 30.0  # seconds that a request may wait for a thread, or for a task that is late to look at its deadline


class Workers:
    """Some threads, and a queue for tasks that wait for one."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name, self._threads, self._most = name, threads, threads + waiting
        self._lock = renew_at_fork(allocate_lock())
        self._at_fork_reinit()
        renew_at_fork(self)

    def _at_fork_reinit(self) -> None:
        """Start without tasks: a forked child has none of the threads."""
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix=f"studio-{self._name}")
        self._taken = 0

    def submit(self, task: Pieces[T], deadline: Deadline) -> asyncio.Future[T]:
        """Start a task, or queue it; raises `RefusedError` where the queue is full. Cancelling it frees its slot."""

        def run() -> T:
            deadline.begin()
            return whole(task)

        with self._lock:
            if self._taken >= self._most:
                raise RefusedError(503, "busy", "too many tasks are running: try again in a second")
            self._taken += 1
        if not can_start_threads():
            turns = asyncio.ensure_future(_in_turns(task, deadline))
            turns.add_done_callback(self._release)
            return turns
        future = self._executor.submit(run)
        future.add_done_callback(self._release)
        return asyncio.wrap_future(future)

    def _release(self, _: Future[T] | asyncio.Future[T]) -> None:
        with self._lock:
            self._taken -= 1

    @property
    def is_idle(self) -> bool:
        """Whether there is no task."""
        return not self._taken

    def close(self) -> None:
        """Start no more tasks."""
        self._executor.shutdown(wait=False, cancel_futures=True)


async def _in_turns(task: Pieces[T], deadline: Deadline) -> T:
    """What comes out of all pieces, before and between which the event loop has its turn: somebody may have left."""
    deadline.begin()
    while True:
        await asyncio.sleep(0)
        until = monotonic() + TURN_SECONDS
        try:
            while monotonic() < until:
                next(task)
        except StopIteration as end:
            result: T = end.value
            return result


class Deadline:
    """When a task has to be over: so many seconds after it began, or as soon as nobody waits for it any more."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, math.inf
        self.is_abandoned = False

    def begin(self) -> None:
        """The task begins; until then it waited for a thread."""
        self._end = monotonic() + self.seconds

    def abandon(self) -> None:
        """Nobody waits for the task."""
        self.is_abandoned = True

    @property
    def is_over(self) -> bool:
        """Whether the task has to end."""
        return self.is_abandoned or monotonic() > self._end

    def check(self) -> None:
        """Raise `TapeGPTError` where the task has to end."""
        if self.is_over:
            raise TapeGPTError(
                f"this was not done within the {self.seconds:g} seconds that it may take: ask for less, or for what "
                "is more probable"
            )


async def answer(request: Request, workers: Workers, task: Pieces[T], deadline: Deadline) -> T:
    """The result of a task, which is to end when its client disconnects, or when its deadline is well past."""
    future, gone = workers.submit(task, deadline), asyncio.ensure_future(_disconnected(request))
    both: set[asyncio.Future[Any]] = {future, gone}
    try:
        await asyncio.wait(both, timeout=deadline.seconds + PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise RefusedError(503, "busy", "this takes too long: ask for less, or try again later")
    finally:
        deadline.abandon()
        gone.cancel()
        future.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client has disconnected; the request's body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class TimedInference(Inference):
    """A model's forward pass that checks the deadline, so that no search for strings runs long after it."""

    def __init__(self, inference: Inference, deadline: Deadline) -> None:
        self.__dict__.update(inference.__dict__)
        self._deadline = deadline

    def next_logs(self, prefixes: list[list[int]]) -> list[array[float]]:
        """As `Inference` does."""
        self._deadline.check()
        return super().next_logs(prefixes)

    def draw(self, streams: array[int], drawing: Drawing, rules: Rules, margin: float = 0.0) -> Drawn:
        """As `Inference` does."""
        self._deadline.check()
        return super().draw(streams, drawing, rules, margin)
