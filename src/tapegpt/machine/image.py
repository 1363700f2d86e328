"""Code in this process without LLVM: machine code, mapped (Linux), and WebAssembly side modules, loaded (Pyodide).

Pages are written first and made executable after, never both at once. Not here: making code, linking, caching.
"""

from __future__ import annotations

import _ctypes  # which `ctypes` is made of: 1 ms less
import mmap
import os
import sys
from _ctypes import CFuncPtr, _SimpleCData
from array import array

from tapegpt.machine.memory import private_pages, start_of
from tapegpt.machine.target import LIBM
from tapegpt.record import Record

_READ_EXECUTE = 0x1 | 0x4


def can_map() -> bool:
    """Whether machine code can be mapped here without LLVM."""
    return sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64") and sys.maxsize > 2**32


def outside_addresses() -> list[int]:
    """Addresses of `OUTSIDE`: of libm's functions, the very ones behind `math` and float `**`, and of the scheduler."""
    if sys.platform == "win32":
        import ctypes

        libm = ctypes.CDLL("ucrtbase")
        functions = [*(getattr(libm, name) for name in LIBM), ctypes.CDLL("kernel32").SwitchToThread]
        return [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions]
    return [_address(name) for name in (*LIBM, "sched_yield")]


def _address(name: str) -> int:
    """The address of a C function, in this process or else in libm."""
    try:
        return _ctypes.dlsym(_ctypes.dlopen(None), name)  # type: ignore[arg-type]  # None is the process
    except OSError:
        return _ctypes.dlsym(_ctypes.dlopen("libm.so.6"), name)


class Pointer(_SimpleCData):  # type: ignore[type-arg]
    """A `void *`."""

    _type_ = "P"


class Whole(_SimpleCData):  # type: ignore[type-arg]
    """An `int64_t`."""

    _type_ = "q"


class Real(_SimpleCData):  # type: ignore[type-arg]
    """A `double`."""

    _type_ = "d"


class Function(CFuncPtr):
    """A C function, by its address."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO


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
        self._start, outside = start_of(self._block), array("Q", outside_addresses()).tobytes()
        table = image.symbols["outside"]
        self._block[table : table + len(outside)] = outside
        protect = Function(_address("mprotect"))
        protect.argtypes = [Whole, Whole, Whole]
        if protect(self._start, size, _READ_EXECUTE):
            raise OSError(_ctypes.get_errno(), "machine code may not be mapped")

    def address(self, symbol: str) -> int:
        return self._start + self._symbols[symbol]


class SideModule:
    """A WebAssembly module that is loaded, for good: Emscripten unloads none. Raises `OSError` where it does not link.

    Emscripten's loader of shared libraries links it to this process's memory, and to the functions behind `math` and
    float `**`.
    """

    def __init__(self, code: bytes) -> None:
        path = f"/tmp/tapegpt-{os.urandom(8).hex()}.so"  # noqa: S108  # in memory; the loader knows a module by it
        with open(path, "wb") as file:
            file.write(code)
        self._module = _ctypes.dlopen(path)
        os.unlink(path)

    def address(self, symbol: str) -> int:
        """A function's address: its place in the table of functions."""
        return _ctypes.dlsym(self._module, symbol)
