"""Memory of kernels: zeroed, page-aligned, of fixed size, private to a process.

Not here: what lies where (`tape.py`).
"""

from __future__ import annotations

import mmap
import sys
from _ctypes import _SimpleCData, addressof  # which `ctypes` is made of: 1 ms less

from tapegpt.processes import Local

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array


class Address:
    """An address in memory: for machine code a number, for the interpreter a view of bytes from there on."""

    __slots__ = ("number", "view")

    def __init__(self, view: memoryview, number: int) -> None:
        self.view, self.number = view, number


class _Byte(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


def start_of(pages: mmap.mmap) -> int:
    """The address of pages in memory."""
    return addressof(_Byte.from_buffer(pages))


def private_pages(size: int) -> mmap.mmap:
    """Zeroed pages, at least one; a forked child has its own copy, which is not what `mmap` does by default."""
    if sys.platform == "win32":  # no fork
        return mmap.mmap(-1, max(size, 1))
    return mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Memory(Local):
    """A block of zeroed bytes; raises `MemoryError` where there are not as many."""

    def __init__(self, size: int) -> None:
        try:
            self._block = private_pages(size)
        except (OSError, OverflowError) as error:  # 2 GiB and more, where addresses have 32 bits
            raise MemoryError(f"{size:,} bytes") from error
        self._bytes = memoryview(self._block)
        self._address = start_of(self._block)

    def at(self, offset: int) -> Address:
        """The address `offset` bytes from the start."""
        return Address(self._bytes[offset:], self._address + offset)

    def floats(self, offset: int, count: int, size: int = 8) -> memoryview[float]:
        """`count` floats of `size` bytes, 8 or 4, from the byte `offset` on, to read and write."""
        return self._bytes[offset : offset + size * count].cast("d" if size == 8 else "f")

    def words(self, offset: int, count: int) -> memoryview[int]:
        """`count` u32 from the byte `offset` on, to read and write."""
        return self._bytes[offset : offset + 4 * count].cast("I")


def address_of(numbers: array[float] | array[int], index: int = 0) -> Address:
    """The address of an array's element; the array must live, and keep its length, while it is used."""
    offset = index * numbers.itemsize
    return Address(memoryview(numbers).cast("B")[offset:], numbers.buffer_info()[0] + offset)
