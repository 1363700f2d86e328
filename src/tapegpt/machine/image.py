"""Maps linked machine code into this process without LLVM. Linux on x86-64 and AArch64.

The pages are written first and made executable after, never both at once. Not here: linking, caching.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys

from tapegpt.machine.language import LIBM, OUTSIDE
from tapegpt.machine.memory import private_pages
from tapegpt.record import Record

_READ_EXECUTE = 0x1 | 0x4


def can_map() -> bool:
    """Whether machine code can be mapped here without LLVM."""
    return sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64") and sys.maxsize > 2**32


def outside_addresses() -> list[int]:
    """Addresses of `OUTSIDE`: of libm's functions, the very ones behind `math` and float `**`, and of the scheduler."""
    if sys.platform == "win32":
        libm, way = ctypes.CDLL("ucrtbase"), ctypes.CDLL("kernel32").SwitchToThread
    else:
        libm = ctypes.CDLL(None)
        way = libm.sched_yield
        if not hasattr(libm, LIBM[0]):
            libm = ctypes.CDLL("libm.so.6")
    functions = [*(getattr(libm, name) for name in LIBM), way]
    return [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions]


class Image(Record):
    """Linked code: its bytes, and the offset of every exported function and of the table `outside`."""

    code: bytes
    symbols: dict[str, int]


class Mapped:
    """An image in executable memory. Raises `OSError` where the system does not allow it."""

    def __init__(self, image: Image) -> None:
        self._symbols = image.symbols
        size = -len(image.code) % mmap.PAGESIZE + len(image.code)
        self._block = private_pages(size)
        self._block[: len(image.code)] = image.code
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._block))
        struct.pack_into(f"={len(OUTSIDE)}Q", self._block, image.symbols["outside"], *outside_addresses())
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(self._start, size, _READ_EXECUTE):
            raise OSError(ctypes.get_errno(), "machine code may not be mapped")

    def address(self, symbol: str) -> int:
        """Address of a function."""
        return self._start + self._symbols[symbol]
