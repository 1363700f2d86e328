"""A program: kernels made runnable for a target, from the cache where possible. The front of this floor.

What decides the code is known without making it: the sources of this package, the kernels' names and constants, the
target, CPU, C library and llvmlite. That is the cache's key, so a warm start neither writes IR nor loads LLVM.
Programs of one key that live at the same time share their code, and it is made once if several threads need it.
Where no code can be made, the kernels are interpreted and `Program.notice` says why.
"""

from __future__ import annotations

import ctypes
import os
import sys
import zlib
from _thread import allocate_lock
from _weakref import ref
from time import perf_counter

from tapegpt.machine import cache
from tapegpt.machine.host import c_library, cpu_identity, host_target
from tapegpt.machine.image import Image, Mapped, can_map
from tapegpt.machine.memory import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tapegpt.machine.language import Kernel
    from tapegpt.machine.llvm import Loaded
    from tapegpt.machine.target import Target

    Entries = dict[str, tuple[Kernel, dict[str, Any]]]  # exported name -> kernel and its constants
    Code = Mapped | Loaded

Argument = Address | float

_IMAGE, _OBJECT = b"image\n", b"object\n"  # what a cached entry holds: mapped directly, or loaded by LLVM
_shared: dict[str, ref[Code]] = {}  # by key, as long as a program lives that has it
_LOCKS = [allocate_lock() for _ in range(16)]  # a key has always the same one


class Program:
    """Entry kernels that can be called: `program.run("name", address, 3)`.

    `signature` must tell apart whatever the kernels' names and constants do not, such as the graph of a tape.
    """

    optimised = True  # LLVM's passes are worth their time

    def __init__(self, entries: Entries, signature: str, target: Target | None = None) -> None:
        self.target = target or host_target()
        self.notice = ""
        self.compile_seconds = 0.0  # spent on making code that was not in the cache
        self._entries = entries
        self._functions: dict[str, Callable[..., None]] = {}
        self._code: object = None  # keeps the machine code alive
        if self.target.name != "interpreted":
            try:
                self._load(signature)
                return
            except (ImportError, OSError) as error:
                reason = str(error).replace("\n", " ")
                self.notice = f"no machine code here ({reason}): the kernels are interpreted, which is slow"
        self._interpret()

    def run(self, name: str, *arguments: Argument) -> None:
        """Call an entry; machine code runs without the interpreter lock."""
        self._functions[name](*arguments)

    # --- compiled -----------------------------------------------------------------------------------------------

    def _load(self, signature: str) -> None:
        key = self._key(signature)
        with _LOCKS[hash(key) % len(_LOCKS)]:
            known = _shared.get(key)
            code = known() if known else None
            if code is None:
                code = self._made(key)
                _shared[key] = ref(code, lambda gone: _forget(key, gone))
        for name, (kernel, _) in self._entries.items():
            self._functions[name] = _function(kernel, code.address(name))
        self._code = code

    def _made(self, key: str) -> Code:
        """The code, from the cache or compiled."""
        kept = cache.read(key)
        start = perf_counter()
        content = kept if kept is not None else self._compile()
        if kept is None:
            self.compile_seconds = perf_counter() - start
        code: Code | None = None
        if content.startswith(_IMAGE):
            try:
                code = Mapped(_unpack(content))
            except OSError:  # the system refuses: LLVM's own loader is asked before the kernels are interpreted
                kept, content = None, self._compile(may_link=False)
        if code is None:
            from tapegpt.machine import llvm

            code = llvm.Loaded(content[len(_OBJECT) :], self.target)
        if kept is None:
            cache.write(key, content)
        return code

    def _compile(self, may_link: bool = True) -> bytes:
        from tapegpt.machine.llvm import compile_object

        code = compile_object(self.ir(), self.target, self.optimised)
        if may_link and can_map():
            from tapegpt.machine.elf import LinkError, link

            try:
                image = link(code)
            except LinkError:  # a form of object that only LLVM's own loader knows
                return _OBJECT + code
            symbols = "".join(f"{name} {offset}\n" for name, offset in image.symbols.items())
            return _IMAGE + symbols.encode() + b"\n" + image.code
        return _OBJECT + code

    @property
    def compiled(self) -> bool:
        """Whether the kernels run as machine code."""
        return self._code is not None

    def ir(self) -> str:
        """The program as LLVM IR text."""
        from tapegpt.machine.emitter import Module

        module = Module(self.target)
        for name, (kernel, constants) in self._entries.items():
            module.add(kernel, constants, name)
        return str(module)

    def assembly(self) -> str:
        """The program as LLVM's assembly text for the target."""
        from tapegpt.machine.llvm import compile_assembly

        return compile_assembly(self.ir(), self.target)

    def _key(self, signature: str) -> str:
        names = [f"{name} {kernel.name} {constants}" for name, (kernel, constants) in self._entries.items()]
        parts = [_source_sums(), signature, *names, repr(self.target), cpu_identity(), c_library(), _llvmlite()]
        return "\n".join(parts)

    # --- interpreted --------------------------------------------------------------------------------------------

    def _interpret(self) -> None:
        from tapegpt.machine.interpreter import runnable

        for name, (kernel, constants) in self._entries.items():
            self._functions[name] = runnable(kernel, constants, self.target)


def _function(kernel: Kernel, address: int) -> Callable[..., None]:
    """A kernel's machine code as a Python function."""
    types = [
        ctypes.c_void_p if is_pointer else ctypes.c_double if kind.is_float else ctypes.c_int64
        for is_pointer, kind in kernel.arguments.values()
    ]
    function = ctypes.CFUNCTYPE(None, *types)(address)

    def run(*arguments: Argument) -> None:
        function(*[a.number if isinstance(a, Address) else a for a in arguments])

    return run


def _forget(key: str, gone: ref[Code]) -> None:
    if _shared.get(key) is gone:
        del _shared[key]


def _unpack(content: bytes) -> Image:
    head, _, code = content[len(_IMAGE) :].partition(b"\n\n")
    symbols = dict(line.rsplit(" ", 1) for line in head.decode().splitlines())
    return Image(code, {name: int(offset) for name, offset in symbols.items()})


_sources = ""


def _source_sums() -> str:
    """Sums over every source file of the package: whatever changes the code changes one of them."""
    global _sources
    if not _sources:
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        sums = []
        for folder in ("machine", "operations", os.path.join("operations", "fast"), "fast", ""):
            place = os.path.join(package, folder)
            for name in sorted(os.listdir(place)):
                if name.endswith(".py"):
                    with open(os.path.join(place, name), "rb") as file:
                        text = file.read()
                    sums.append(f"{name} {len(text)} {zlib.crc32(text):x} {zlib.adler32(text):x}")
        _sources = "\n".join(sums)
    return _sources


def _llvmlite() -> str:
    """What tells one installed llvmlite from another, without importing it; "" where there is none."""
    for place in sys.path:
        try:
            with open(os.path.join(place, "llvmlite", "_version.py"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            continue
    return ""
