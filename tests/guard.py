"""Memory between inaccessible pages: a kernel that reads or writes outside what it was given faults.

Every `Memory` of the tests ends at such a page, and every array that machine code gets is copied to such a place while
it runs. `TAPEGPT_GUARD=start` has them begin right after such a page; `off` leaves them where they are.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
from array import array
from collections.abc import Callable
from typing import Any

from tapegpt.machine import program
from tapegpt.machine.memory import Address, Memory, private_pages
from tapegpt.machine.program import Argument
from tapegpt.machine.signature import Signature

GUARD = 1 << 20  # bytes on either side: strides beyond them would be missed
SHARED = ("sync", "stop")  # arrays that Python writes while machine code runs: they stay where they are
KEPT, SMALL = 1000, 1 << 16  # so many copies of so many bytes at most are kept for other arrays
SIDE = os.environ.get("TAPEGPT_GUARD", "end")


def guard() -> None:
    """Guard all memory from here on, where the system can."""
    if os.name == "posix" and sys.platform != "emscripten" and SIDE != "off":
        Memory.__init__ = _guarded_block  # type: ignore[method-assign]
        program._function = _guarded_function
        os.register_at_fork(after_in_child=_forget)


def _guarded_block(self: Memory, size: int) -> None:
    size = max(size, 1)
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        self._block = private_pages(GUARD + pages + GUARD)
    except OSError as error:
        raise MemoryError(f"{size:,} bytes") from error
    start = ctypes.addressof(ctypes.c_char.from_buffer(self._block))
    for fence in (start, start + GUARD + pages):
        assert not _mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(GUARD), 0)
    offset = GUARD + (pages - size if SIDE == "end" else 0)
    self._bytes = memoryview(self._block)[offset : offset + size]
    self._address = start + offset


# Guarded copies by the array's identity, which is kept its own by the array itself, and who uses them.
_lent: dict[int, tuple[array[float], Memory, list[None]]] = {}
_spare: dict[int, Memory] = {}  # by size, one that nobody uses: mapping pages and guarding them takes 30 us
_lock = threading.Lock()
_function, PLAIN = program._function, Memory.__init__
_mprotect: Any = ctypes.CDLL(None).mprotect if os.name == "posix" else None


def _forget() -> None:
    """In a forked child no other thread has anything, nor the lock."""
    global _lock
    _lock = threading.Lock()
    _lent.clear()
    _spare.clear()


def _guarded_function(signature: Signature, address: int) -> Callable[..., None]:
    run = _function(signature, address)
    stays = [name.rpartition(".")[2] in SHARED for name in signature.kinds]

    def guarded(*arguments: Argument) -> None:
        given = list(arguments)
        lent = []
        try:
            with _lock:
                for place, argument in enumerate(arguments):
                    numbers = argument.view.obj if isinstance(argument, Address) and not stays[place] else None
                    if isinstance(argument, Address) and isinstance(numbers, array) and numbers:
                        given[place] = _lend(numbers, argument.number)
                        lent.append(numbers)
            run(*given)
        finally:
            with _lock:
                for numbers in lent:
                    _take_back(numbers)

    return guarded


def _lend(numbers: array[float], place: int) -> Address:
    """The same place in a guarded copy, which all calls share that have the array at the same time."""
    _, copy, users = _lent.get(id(numbers)) or (numbers, _copy(numbers), [])
    address = copy.at(place - numbers.buffer_info()[0])
    _lent[id(numbers)] = numbers, copy, users  # nothing before this line leaves a trace if it is interrupted
    users.append(None)
    return address


def _copy(numbers: array[float]) -> Memory:
    size = len(numbers) * numbers.itemsize
    copy = _spare.pop(size, None) or Memory(size)
    copy._bytes[:] = memoryview(numbers).cast("B")
    return copy


def _take_back(numbers: array[float]) -> None:
    _, copy, users = _lent[id(numbers)]
    users.pop()
    if not users:
        memoryview(numbers).cast("B")[:] = copy._bytes
        del _lent[id(numbers)]
        if len(copy._bytes) <= SMALL and len(_spare) < KEPT:
            _spare[len(copy._bytes)] = copy
