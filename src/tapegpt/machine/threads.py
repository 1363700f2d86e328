"""Runs the parts of one piece of work on a thread each, and ends them together. Not here: pools for many tasks."""

from __future__ import annotations

from _thread import LockType, allocate_lock, start_new_thread
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Part = Callable[[int, array[int]], None]


def run_parts(part: Part, count: int) -> None:
    """Run `part(0, stop)` to `part(count - 1, stop)` at the same time, the first on this thread.

    If a thread cannot start, a part raises or Ctrl-C arrives, `stop[0]`, an i64 for machine code too, becomes 1: parts
    that wait for others or take long look at it, those that have not begun never do. The error is raised here when
    all parts that have begun are over, so that nothing is used any more that they work on.
    """
    stop, gate = array("q", [0]), allocate_lock()
    over = [allocate_lock() for _ in range(1, count)]  # each held until its part is over
    begun: list[LockType] = []
    errors: list[BaseException] = []

    def run(number: int, mine: LockType) -> None:
        try:
            with gate:
                if stop[0]:
                    return
                begun.append(mine)
            part(number, stop)
        except BaseException as error:  # noqa: BLE001  # it is raised by the thread that waits
            errors.append(error)
            stop[0] = 1
        finally:
            mine.release()

    def give_up() -> None:
        with gate:
            stop[0] = 1
        _wait_for(begun)

    try:
        for number, lock in enumerate(over, 1):
            lock.acquire()
            start_new_thread(run, (number, lock))
        part(0, stop)
        _wait_for(over)
    except BaseException:
        _surely(give_up)
        raise
    if errors:
        raise errors[0]


def _wait_for(locks: Sequence[LockType]) -> None:
    for lock in locks:
        with lock:
            pass


def _surely(act: Callable[[], None]) -> None:
    """Repeat an action until it returns, however often Ctrl-C is pressed."""
    while True:
        try:
            return act()
        except BaseException:  # noqa: BLE001, S112  # what a signal's handler raises, while an error is on its way
            continue
