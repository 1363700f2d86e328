"""What makers of code have in common: functions, the turns of loops, what may be used where, and the checks.

Code is one function for each kernel and set of constants. A kernel is interpreted only once code was made of it, so the
checks here are the interpreter's too. Not here: any code (`emitter.py`).
"""

from __future__ import annotations

import os
import struct
import sys

from tapegpt.machine.language import BOOL, F32, FLOATS, I64, INTEGERS, U32, Builder, Pointer, Value
from tapegpt.machine.signature import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import Any, Self

    from tapegpt.machine.language import Argument, Kernel, Number, Operand, Traced, Type
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target

_RANGES = {"i64": range(-(1 << 63), 1 << 63), "i32": range(-(1 << 31), 1 << 31), "bool": range(2)}
_REMEDY = "keep it in a k.variable"
_FOLDER = os.path.dirname(__file__)
# Where loops need no rehearsal: in the package, whose tests rehearse them; it is half of the time of making code.
TRUSTED: tuple[str, ...] = (os.path.dirname(_FOLDER),)


def mangle(kernel: Kernel, constants: dict[str, Any]) -> str:
    """The name of a kernel's function for one set of constants."""
    return ".".join([kernel.name, *(f"{name}_{value}" for name, value in sorted(constants.items()))])


def constant_of(number: float, kind: Type) -> float:
    """A number as this type holds it."""
    try:
        if kind.is_float and isinstance(number, int | float):
            return _single(number) if kind is F32 else float(number)
        if int(number) == number and number in _RANGES[kind.name]:
            return int(number)
    except (TypeError, ValueError, LookupError, OverflowError):  # no number, or not one of this type
        pass
    raise KernelError(f"{number!r} where {kind} is meant")


def _single(number: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def _caller() -> str:
    """File and line of the innermost call outside this folder."""
    frame = sys._getframe(1)  # noqa: SLF001  # public since Python 1.5 but for its name
    while frame.f_code.co_filename.startswith(_FOLDER) and frame.f_back:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Module:
    """The functions of entry kernels and of every kernel that they call."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._functions: dict[str, Any] = {}
        self._owners: dict[str, object] = {}  # name -> its kernel's identity and constants; if exported, this module

    def add(self, kernel: Kernel, constants: dict[str, Any], name: str) -> None:
        """Make an entry kernel, under an exported name."""
        self._owners[name] = self
        self._make(kernel, constants, name, is_entry=True)

    def add_all(self, entries: Entries) -> Self:
        """The same with entry kernels under the names that they are exported by."""
        for name, (kernel, constants) in entries.items():
            self.add(kernel, constants, name)
        return self

    def internal(self, kernel: Kernel, constants: dict[str, Any]) -> str:
        """The name of a kernel's function, made at the first call."""
        name = mangle(kernel, constants)
        owner = *kernel.identity, constants
        while self._owners.setdefault(name, owner) != owner:  # the name is another's
            name += "'"
        if name not in self._functions:
            self._make(kernel, constants, name, is_entry=False)
        return name

    def _make(self, kernel: Kernel, constants: dict[str, Any], name: str, *, is_entry: bool) -> None:
        self._functions[name] = None  # present while it is made, so that recursion ends
        self._functions[name] = self._maker(name, is_entry).make(kernel, constants)

    _maker: Callable[[str, bool], Maker]  # of a function, by its name and whether it is an entry


class Maker(Builder):
    """A builder that makes a function: `data` of a value, pointer or register is its name, of a constant what it is."""

    def __init__(self, module: Module, name: str, is_entry: bool) -> None:
        super().__init__(module.target)
        self._module, self._name = module, name
        self._is_entry = is_entry  # whether other threads may write what its pointers lead to, while it runs
        self._names: list[list[Any]] = [[]]  # that may be used here: of the function, and of each open body
        self._ended: set[Any] = set()  # names that may be used no more
        self._known: dict[Hashable, Any] = {}  # instruction -> the name of what it computed last
        self._open: list[str] = []  # where the loops and conditions stand whose body is being made
        self._rehearses = False  # whether what is being made will be thrown away

    def make(self, kernel: Kernel, constants: dict[str, Any]) -> Any:
        """The function."""
        arguments: list[Pointer | Value] = []
        for name, argument in kernel.arguments.items():
            data, kind = self._begin(self._argument(name, argument)), argument.type
            arguments.append(Pointer(self, kind, data) if argument.is_pointer else Value(self, kind, 0, data))
        kernel.trace(self, arguments, constants)
        if self._open:
            rule = "a k.range, k.when or k.repeat_while is left early by break or return"
            raise KernelError(rule, f"{kernel.name}, {self._open[-1]}")
        return self._finish(kernel)

    # What each makes its own way; names and instructions are of its own kinds.
    _argument: Callable[[str, Argument], Any]
    _finish: Callable[[Kernel], Any]
    _each_time: Callable[[str, Any], Any]  # the name, which begins so, of what an instruction computes
    _loop: Callable[[Any, Any, int], Iterator[Any]]  # from first to last over `_turns`: the name of the index in each
    _remember: Callable[[], Callable[[], None]]  # a function that takes back all that is made after this

    # --- names --------------------------------------------------------------------------------------------------

    def _begin(self, name: Any, depth: int = -1) -> Any:
        """A name that may be used from here on, in the body that is being made, or in one around it."""
        self._names[depth].append(name)
        return name

    def _data(self, operand: Traced) -> Any:
        """Its name, where it may be used."""
        if operand.k is not self:
            raise KernelError(f"a {operand} of another kernel: pass it as an argument")
        if self._has_ended(operand.data):
            raise KernelError(f"a {operand} is used outside the turn of the loop or condition that made it: {_REMEDY}")
        return operand.data

    def _has_ended(self, data: Any) -> bool:
        return data in self._ended

    def _once(self, stem: str, instruction: Hashable) -> Any:
        """The name of what an instruction computes of values alone: not again where it is known."""
        name = self._known.get(instruction)
        if name is None or name in self._ended:
            name = self._known[instruction] = self._each_time(stem, instruction)
        return name

    # --- control flow -------------------------------------------------------------------------------------------

    def range(self, *bounds: Number) -> Iterator[Value]:
        start, stop, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
        if not isinstance(step, int) or not step:
            raise KernelError(f"the step of k.range must be a whole number but zero, not {step!r}")
        first, last = self._data(self.integer(start)), self._data(self.integer(stop))
        for turn in self._loop(first, last, step):
            yield Value(self, I64, 0, self._begin(turn))

    def _condition(self, condition: Operand) -> Any:
        """The name of what a branch depends on."""
        mask = self._of(condition, BOOL)
        if mask.lanes:
            raise KernelError(f"a condition of {mask}: use k.any")
        return self._data(mask)

    def _body(self) -> Iterator[None]:
        """Whatever is made in a body may be used in it alone."""
        self._names.append([])
        self._open.append(_caller())
        yield
        self._open.pop()
        self._ended.update(self._names.pop())

    def _turns(self) -> Iterator[None]:
        """The body of a loop, made twice: the second turn, thrown away, must not need what the first one made."""
        is_trusted = False
        for _ in self._body():
            is_trusted = self._open[-1].startswith(TRUSTED)
            yield
        if self._rehearses or is_trusted:
            return
        forget = self._remember()
        self._rehearses = True
        yield from self._body()
        self._rehearses = False
        forget()

    # --- checks -------------------------------------------------------------------------------------------------

    def cast(self, pointer: Pointer, kind: Type) -> Pointer:
        if kind not in (*FLOATS, *INTEGERS, U32):
            raise KernelError(f"no {kind} lies in memory")
        return Pointer(self, kind, self._data(pointer))

    def _shared(self, pointer: Pointer) -> Any:
        """Where an i64 lies that threads share."""
        if pointer.type is not I64:
            raise KernelError(f"a {pointer} where threads share i64")
        if not self._is_entry:
            raise KernelError("threads meet in the entries of a program alone, not in kernels that these call")
        return self._data(pointer)
