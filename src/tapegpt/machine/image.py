"""Maps linked machine code into this process without LLVM. Linux on x86-64 and AArch64.

The pages are written first and made executable after, never both at once. Not here: linking, caching.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys

from tapegpt.machine.language import LIBM
from tapegpt.record import Record

_READ_EXECUTE = 0x1 | 0x4


def can_map() -> bool:
    """Whether machine code can be mapped here without LLVM."""
    return sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64") and sys.maxsize > 2**32


def libm_addresses() -> list[int]:
    """Addresses of libm's functions, the very ones behind `math` and float `**`."""
    if sys.platform == "win32":
        libraries = [ctypes.CDLL("ucrtbase")]
    else:
        libraries = [ctypes.CDLL(None)]
        if not hasattr(libraries[0], LIBM[0]):
            libraries = [ctypes.CDLL("libm.so.6")]
    return [ctypes.cast(getattr(libraries[0], name), ctypes.c_void_p).value or 0 for name in LIBM]


class Image(Record):
    """Linked code: its bytes, and the offset of every exported function and of the table `libm`."""

    code: bytes
    symbols: dict[str, int]


class Mapped:
    """An image in executable memory. Raises `OSError` where the system does not allow it."""

    def __init__(self, image: Image) -> None:
        self._symbols = image.symbols
        size = -len(image.code) % mmap.PAGESIZE + len(image.code)
        self._block = mmap.mmap(-1, size)
        self._block[: len(image.code)] = image.code
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._block))
        struct.pack_into(f"={len(LIBM)}Q", self._block, image.symbols["libm"], *libm_addresses())
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(self._start, size, _READ_EXECUTE):
            raise OSError(ctypes.get_errno(), "machine code may not be mapped")

    def address(self, symbol: str) -> int:
        """Address of a function."""
        return self._start + self._symbols[symbol]
