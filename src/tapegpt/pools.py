"""Pools that work through many tasks on threads, or one after the other where Python has no threads.

Long work for a thread that has other things to do meanwhile is a generator, which yields between its pieces.

Not here: the parts of one piece of work, which wait for each other (`machine/threads.py`).
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor

from tapegpt.processes import can_start_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")
    Pieces: TypeAlias = Generator[None, None, T]


def pool(threads: int) -> Executor:
    """A pool of so many threads where there are threads."""
    return ThreadPoolExecutor(threads) if can_start_threads() else _AtOnce()


def one_piece(work: Callable[[], T]) -> Pieces[T]:
    """Work that does not yield until it is done."""
    yield
    return work()


def whole(pieces: Pieces[T]) -> T:
    """What comes out of all pieces, one after the other."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            result: T = end.value
            return result


class _AtOnce(Executor):
    """Does each task when it is submitted."""

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments, **named))
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is requested
            future.set_exception(error)
        return future
