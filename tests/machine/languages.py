"""Kernels as C and Python source, compiled and called like a program."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapegpt.machine import c, python
from tapegpt.machine.interpreter import VIEWS
from tapegpt.machine.language import F32, F64, I32, I64, Kernel, Type
from tapegpt.machine.memory import Address
from tapegpt.machine.target import PYTHON, C

KINDS = (F64, F32, I64, I32)
GCC = shutil.which("gcc")
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
INCLUDES = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\n"


def compile_c(place: Path, *arguments: str, compiler: str = "gcc") -> Path:
    """Compile C in a directory without a warning; the program or library."""
    command = [compiler, *WARNINGS, *arguments, "-o", "compiled", "-lm"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return place / "compiled"


class Compiled:
    """Kernels of one library, by number."""

    def __init__(self, kernels: Sequence[tuple[Kernel, dict[str, Any]]], place: Path) -> None:
        module = c.Module(C)
        for number, (kernel, constants) in enumerate(kernels):
            module.add(kernel, constants, f"kernel{number}")
        arguments = ", ".join("unsigned char *" + name for name in "abcd")
        entries = "\n".join(
            f"void run{number}({arguments});\nvoid run{number}({arguments}) {{ tg_kernel{number}(a, b, c, d); }}"
            for number in range(len(kernels))
        )
        options = ("-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover", "-Wno-tautological-compare")
        (place / "kernels.c").write_text(f"{INCLUDES}{c.helpers(str(module))}{module}\n{entries}\n")
        path = compile_c(place, "kernels.c", *options)
        self._library, self.number = ctypes.CDLL(str(path)), 0

    def run(self, name: str, *arguments: Address) -> None:
        """Call the kernel of this number."""
        self._library[f"run{self.number}"](*[ctypes.c_void_p(each.number) for each in arguments])


class Written:
    """A kernel in Python, over a memory of at most so many bytes."""

    def __init__(self, kernel: Kernel, constants: dict[str, Any], size: int) -> None:
        module = python.Module(PYTHON, size)
        module.add(kernel, constants, "run")
        self._names, self._size = dict[str, Any](), size
        exec(compile(str(module), "<kernel>", "exec"), self._names)

    def _memory(self, kind: Type) -> list[Any]:
        memory: list[Any] = self._names.setdefault(str(kind).upper(), [0] * (self._size // kind.size))
        return memory

    def run(self, name: str, *arguments: Address) -> None:
        """Call it: the last argument is what it writes."""
        start, starts, out = 0, list[int](), arguments[-1]
        for each in arguments:
            for kind in KINDS:
                numbers: list[Any] = _numbers(each, kind).tolist()
                place = start // kind.size
                self._memory(kind)[place : place + len(numbers)] = numbers if each is not out else [None] * len(numbers)
            starts.append(start)
            start += -(-len(each.view) // 64) * 64
        self._names["k_run"](*[at // size for at, size in zip(starts, (8, 4, 8, 8), strict=True)])
        for kind in KINDS:
            view, place = _numbers(out, kind), starts[-1] // kind.size
            for at, number in enumerate(self._memory(kind)[place : place + len(view)]):
                if number is not None:
                    view[at] = number


def _numbers(address: Address, kind: Type) -> memoryview[Any]:
    return address.view[: len(address.view) // kind.size * kind.size].cast(VIEWS[str(kind)])
