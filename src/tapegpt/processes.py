"""Processes: what a forked child makes anew, what no other process can be sent, and what this one can do.

A fork copies all memory, but of the threads only the one that forks: a lock that another thread holds would never open
in the child, a pool's threads are not there. Memory is private to a process (`machine/memory.py`), and generators of
random numbers continue in parent and child from one state, as Python's do. Not here: how a model is sent
(`GPT.__reduce__`).
"""

from __future__ import annotations

import os
import sys
import time
from _weakref import ref

from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

thread_time = getattr(time, "thread_time", time.process_time)  # seconds that this thread has computed
_renewable: set[ref[Any]] = set()


def renew_at_fork(thing: T) -> T:
    """The thing itself; as long as it lives, every forked child calls its `_at_fork_reinit`, as Python's locks have."""
    _renewable.add(ref(thing, _renewable.discard))
    return thing


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_start_threads() -> bool:
    """Whether this Python has threads: in a browser it has none."""
    build = getattr(sys, "_emscripten_info", None)
    return build is None or bool(build.pthreads)


class Local:
    """Base of what stays in its process."""

    def __reduce__(self) -> NoReturn:
        raise TapeGPTError(f"{type(self).__name__} stays in its process: pickle a model, or make another one there")


def _renew() -> None:
    for each in list(_renewable):
        if thing := each():
            thing._at_fork_reinit()  # noqa: SLF001  # Python's name for it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
