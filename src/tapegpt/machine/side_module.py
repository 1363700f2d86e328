"""Loads WebAssembly side modules into a Python that is a WebAssembly module itself: Pyodide.

Emscripten's loader of shared libraries links them to this process's memory, and to the functions behind `math` and
float `**`. Not here: making them (`wasm.py`).
"""

from __future__ import annotations

import os
from _ctypes import dlopen, dlsym


class SideModule:
    """A module that is loaded, for good: Emscripten unloads none. Raises `OSError` where it does not link."""

    def __init__(self, code: bytes) -> None:
        path = f"/tmp/tapegpt-{os.urandom(8).hex()}.so"  # noqa: S108  # in memory; the loader knows a module by it
        with open(path, "wb") as file:
            file.write(code)
        self._module = dlopen(path)
        os.unlink(path)

    def address(self, symbol: str) -> int:
        """A function's address: its place in the table of functions."""
        return dlsym(self._module, symbol)
