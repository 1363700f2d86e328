"""A program: kernels made callable for a target, from the cache where possible. This folder's public interface.

What decides the code is known without making it: the Python code of the kernels, as it is in memory, and all that it
reaches; this folder's own sources, as they were when it was loaded; target, CPU, C library and llvmlite. A fingerprint
of that is the cache's key, so a warm start neither writes IR nor loads LLVM, and edited code is compiled again.
Programs of one key that live at the same time share their code, and it is made once if several threads need it. Where
no code can be made, the kernels are interpreted and `Program.notice` says why.
"""

from __future__ import annotations

import os
import sys
from _thread import LockType, RLock, allocate_lock
from _weakref import ReferenceType, ref
from time import perf_counter

from tapegpt.log import log
from tapegpt.machine import cache, notes
from tapegpt.machine.host import c_library, cpu_identity, host_target
from tapegpt.machine.image import Function, Image, Mapped, Pointer, Real, SideModule, Whole, can_map
from tapegpt.machine.memory import Address, Memory
from tapegpt.machine.signature import Signature
from tapegpt.processes import Local, renew_at_fork
from tapegpt.record import Field, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from tapegpt.machine.language import Kernel
    from tapegpt.machine.llvm import Loaded
    from tapegpt.machine.target import Target

    Entries = dict[str, tuple[Kernel, dict[str, Any]]]  # exported name -> kernel and its constants
    Code = Mapped | Loaded | SideModule
    K = TypeVar("K")

Argument = Address | float


class Interface(Record):
    """What a program is to those who call it, and the key of its code."""

    key: str
    signatures: dict[str, Signature]  # by the entry's name


# What a cached entry holds: mapped directly, loaded by LLVM, or by Emscripten.
_IMAGE, _OBJECT, _MODULE = b"image\n", b"object\n", b"module\n"
_KINDS = {"P": Pointer, "d": Real, "q": Whole}
_shared: dict[str, ref[Code]] = {}  # by key, as long as a program lives that has it
_LOCKS = [renew_at_fork(allocate_lock()) for _ in range(16)]  # a key has always the same one


class Program(Local):
    """Entry kernels that can be called: `program.run("name", address, 3)`.

    Where kinds of operations are `counted`, entries add what they do to their argument `counts` (see `emitter.Module`),
    and the code is not optimised. A function that gives the entries is called if it needs them: not where an
    `interface` is known, and the cache has its code.
    """

    def __init__(
        self,
        entries: Entries | Callable[[], Entries],
        target: Target | None = None,
        counted: Sequence[str] = (),
        interface: Interface | None = None,
    ) -> None:
        self.target = target or host_target()
        self.notice = ""
        self.compile_seconds = 0.0  # spent on making code that was not in the cache
        self._given, self._counted, self._interface = entries, tuple(counted), interface
        self._signatures = interface.signatures if interface else {}
        if not interface:
            self._signatures = {name: kernel.signature for name, (kernel, _) in self._entries.items()}
        self._functions: dict[str, Callable[..., None]] = {}
        self._code: object = None  # keeps the machine code alive
        if self.target.name != "interpreted":
            try:
                self._load()
                return
            except (ImportError, OSError) as error:
                reason = str(error).replace("\n", " ")
                self.notice = f"no machine code here ({reason}): the kernels are interpreted, which is slow"
        self._interpret()

    def run(self, name: str, *arguments: Argument | Mapping[str, Argument]) -> None:
        """Call an entry, with a dictionary for each structure; machine code runs without the interpreter lock."""
        self._functions[name](*self._signatures[name].in_order(arguments))

    @property
    def interface(self) -> Interface:
        """What is to be known of it to call it without its entries."""
        return self._interface or Interface(self.key(), self._signatures)

    @property
    def _entries(self) -> Entries:
        if callable(self._given):
            self._given = self._given()
        return self._given

    # --- compiled -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        self._interface = self.interface
        key = self._interface.key
        with _LOCKS[int(key, 16) % len(_LOCKS)]:
            known = _shared.get(key)
            code = known() if known else None
            if code is None:
                code = self._make(key)
                _shared[key] = ref(code, lambda gone: _forget(key, gone))
        for name, signature in self._signatures.items():
            self._functions[name] = _function(signature, code.address(name))
        self._code = code

    def _make(self, key: str) -> Code:
        """The code, from the cache or compiled."""
        kept = cache.read(key)
        content = kept or self._compile()
        try:
            code = _load_code(content, self.target)
        except OSError:  # mapping is refused: LLVM's own loader is asked before the kernels are interpreted
            kept, content = None, self._compile(may_link=False)
            code = _load_code(content, self.target)
        if not kept and self._is_still(key):
            cache.write(key, content)
        return code

    def _is_still(self, key: str) -> bool:
        """Whether this is the key after compiling too, which may import and change what the key is of."""
        from tapegpt.machine import language

        return self.key() == key and language.sources() == language.SOURCES

    def _compile(self, may_link: bool = True) -> bytes:
        start, is_wasm = perf_counter(), self.target.name == "wasm" and not self._counted
        content = _MODULE + self.wasm(is_side=True) if is_wasm else self._compile_by_llvm(may_link)
        seconds = perf_counter() - start
        self.compile_seconds += seconds
        log("compiled %s in %.2f s", ", ".join(self._entries), seconds)
        return content

    def _compile_by_llvm(self, may_link: bool) -> bytes:
        from tapegpt.machine.llvm import compile_object

        code = compile_object(self.ir(), self.target, optimised=not self._counted)
        if may_link and can_map():
            from tapegpt.machine.elf import LinkError, link

            try:
                image = link(code)
            except LinkError:  # a form of object that only LLVM's own loader knows
                pass
            else:
                symbols = "".join(f"{name} {offset}\n" for name, offset in image.symbols.items())
                return _IMAGE + symbols.encode() + b"\n" + image.code
        return _OBJECT + code

    def key(self) -> str:
        """The key of its code, as it is in memory: 32 hexadecimal digits."""
        from tapegpt.machine import language
        from tapegpt.machine.fingerprint import fingerprint

        kernels = (language.Builder, self._entries, self.target, self._counted)
        without = (Program, Memory, Field, LockType, RLock, ReferenceType)  # what objects may hold, and decides no code
        return fingerprint(kernels, (language.SOURCES, *_machine()), without=without, given="tapegpt.machine")

    @property
    def compiled(self) -> bool:
        """Whether the kernels run as machine code."""
        return self._code is not None

    def ir(self) -> str:
        """The program as LLVM IR text."""
        from tapegpt.machine.emitter import Module

        return str(Module(self.target, self._counted).add_all(self._entries))

    def wasm(self, *, is_side: bool = False) -> bytes:
        """The program, made for the target `WASM`, as a WebAssembly module (see `wasm.Module`)."""
        from tapegpt.machine.wasm import Module

        return Module(self.target, is_side=is_side).add_all(self._entries).binary()

    def assembly(self) -> str:
        """The program as LLVM's assembly text for the target."""
        from tapegpt.machine.llvm import compile_assembly

        return compile_assembly(self.ir(), self.target)

    # --- interpreted --------------------------------------------------------------------------------------------

    def _interpret(self) -> None:
        from tapegpt.machine.interpreter import make_callable

        for name, (kernel, constants) in self._entries.items():
            self._functions[name] = make_callable(kernel, constants, self.target, self._counted)


def load(
    build: Callable[..., tuple[K, Entries]],
    *of: object,
    target: Target | None = None,
    check: Callable[[K], None] = lambda known: None,
    names: Sequence[type] = (),
) -> tuple[K, Program]:
    """What `build(*of, target)` gives: something to know of a program, which is checked, and the program.

    Where an earlier command has noted them, nothing is built; `names` are the classes in what is to be known.
    """
    target = target or host_target()
    told = (build.__module__, build.__qualname__, *of, target, *_machine())
    noted = notes.recall(*told, names=(Interface, Signature, *names))
    known, entries = (noted[0], lambda: build(*of, target)[1]) if noted else build(*of, target)
    check(known)
    program = Program(entries, target, interface=noted[1] if noted else None)
    if not noted and program.compiled:
        notes.note((known, program.interface), *told)
    return known, program


def _load_code(content: bytes, target: Target) -> Code:
    if content.startswith(_IMAGE):
        head, _, code = content[len(_IMAGE) :].partition(b"\n\n")
        symbols = dict(line.rsplit(" ", 1) for line in head.decode().splitlines())
        return Mapped(Image(code, {name: int(offset) for name, offset in symbols.items()}))
    if content.startswith(_MODULE):
        return SideModule(content[len(_MODULE) :])
    from tapegpt.machine.llvm import Loaded

    return Loaded(content[len(_OBJECT) :], target)


def _function(signature: Signature, address: int) -> Callable[..., None]:
    """An entry's machine code as a Python function."""
    function = Function(address)
    function.argtypes = [_KINDS[kind] for kind in signature.kinds.values()]

    def run(*arguments: Argument) -> None:
        function(*[a.number if isinstance(a, Address) else a for a in arguments])

    return run


def _forget(key: str, gone: ref[Code]) -> None:
    if _shared.get(key) is gone:
        del _shared[key]


def _machine() -> tuple[str, str, str]:
    """What decides the code of this machine, beside the target."""
    return cpu_identity(), c_library(), _llvmlite()


def _llvmlite() -> str:
    """The version of llvmlite that is loaded, or would be: without importing it; "" where there is none."""
    version = getattr(sys.modules.get("llvmlite"), "__version__", None)  # none yet, while another thread imports it
    if version:
        return str(version)
    for place in sys.path:
        try:
            with open(os.path.join(place, "llvmlite", "_version.py"), encoding="utf-8") as file:
                return file.read().partition("version_version = '")[2].partition("'")[0]
        except OSError:
            continue
    return ""
