"""Pools that work through many tasks on threads, or one after the other where Python has no threads.

Not here: the parts of one piece of work, which wait for each other (`machine/threads.py`).
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor

from tapegpt.processes import can_start_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def pool(threads: int) -> Executor:
    """A pool of so many threads where there are threads."""
    return ThreadPoolExecutor(threads) if can_start_threads() else _AtOnce()


class _AtOnce(Executor):
    """Does each task when it is submitted."""

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """As `Executor.submit`."""
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments, **named))
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is asked for
            future.set_exception(error)
        return future
