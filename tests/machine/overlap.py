"""Kernels watched while they are interpreted: a call's pointers must not overlap where one of them is written.

LLVM is told so of every kernel that another one calls. `python -m tests.machine.overlap` runs the tests of kernels
under watch.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tapegpt.machine import interpreter
from tapegpt.machine.interpreter import Interpreter
from tapegpt.machine.language import Kernel, Pointer, Type, Value

if TYPE_CHECKING:
    from tapegpt.machine.target import Target

CELL = 4  # bytes


class Use:
    """What one call reads and writes through one of its arguments, as cells of memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read: set[int] = set()
        self.written: set[int] = set()


class Watching(Interpreter):
    """Raises `AssertionError` after a call whose arguments overlap."""

    def __init__(self, target: Target, flushes: bool = False) -> None:
        super().__init__(target, flushes)
        self._known: dict[
            int, tuple[memoryview, int, tuple[Use, ...]]
        ] = {}  # a view, its address, whose argument it is

    def _origin(self, view: memoryview) -> tuple[int, tuple[Use, ...]]:
        if id(view) not in self._known:  # given to an entry
            self._know(view, ctypes.addressof((ctypes.c_char * 0).from_buffer(view.cast("B"))), ())
        _, address, uses = self._known[id(view)]
        return address, uses

    def _know(self, view: memoryview, address: int, uses: tuple[Use, ...]) -> None:
        self._known[id(view)] = view, address, uses

    def call(self, kernel: Kernel, arguments: list[Pointer | Value], constants: dict[str, Any]) -> None:
        own, passed, before = [], list(arguments), dict(self._known)
        for place, (name, argument) in enumerate(zip(kernel.arguments, arguments, strict=True)):
            if isinstance(argument, Pointer):
                view, position = argument.data
                address, uses = self._origin(view)
                own.append(Use(name))
                fresh = view[:]
                self._know(fresh, address, (*uses, own[-1]))
                passed[place] = Pointer(self, argument.type, (fresh, position))
        super().call(kernel, passed, constants)
        self._known = before
        for one in own:
            for other in own:
                assert one is other or one.written.isdisjoint(other.read | other.written), (
                    f"{kernel.name}: what is written through {one.name} is used through {other.name}"
                )

    def cast(self, pointer: Pointer, kind: Type) -> Pointer:
        result = super().cast(pointer, kind)
        view, position = pointer.data
        address, uses = self._origin(view)
        self._know(result.data[0], address + position * pointer.type.size % kind.size, uses)
        return result

    def load(self, pointer: Pointer, lanes: int) -> Value:
        for use, cells in self._uses(pointer, lanes):
            use.read.update(cells)
        return super().load(pointer, lanes)

    def store(self, pointer: Pointer, value: Value) -> None:
        for use, cells in self._uses(pointer, value.lanes):
            use.written.update(cells)
        super().store(pointer, value)

    def _uses(self, pointer: Pointer, lanes: int) -> list[tuple[Use, range]]:
        view, position = pointer.data
        address, uses = self._origin(view)
        start, size = address + position * pointer.type.size, pointer.type.size * (lanes or 1)
        return [(use, range(start // CELL, (start + size) // CELL)) for use in uses]


def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is interpreted is watched."""
    monkeypatch.setattr(interpreter, "Interpreter", Watching)


if __name__ == "__main__":
    interpreter.Interpreter = Watching  # type: ignore[misc]
    parts = {
        "machine": ("language", "machine"),
        "data": ("rng",),
        "autograd": ("tape", "graphs", "fast_operations", "functions"),
        "engines": ("exact", "fast"),
        "inference": ("forward",),
        "models": ("ensemble",),
        "analysis": ("anatomy", "attribution"),
    }
    files = [f"tests/{folder}/test_{name}.py" for folder, names in parts.items() for name in names]
    sys.exit(pytest.main(["-q", "-k", "interpreted or vector_unit or target", *(sys.argv[1:] or files)]))
