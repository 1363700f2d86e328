"""The kernel language executed in plain Python: the debugger, and the fallback where no code may be generated.

Every operation rounds as IEEE-754 does, so the bits equal those of the compiled kernel. What machine code leaves open
is refused here: reading or writing beyond an argument's memory, dividing by zero, shifting all bits out, converting
what the type cannot hold. Not here: the checks (`maker.py`); speed.
"""

from __future__ import annotations

import ctypes
import math
import operator
import struct
from array import array

from tapegpt.machine import arithmetic
from tapegpt.machine.emitter import Module
from tapegpt.machine.language import BOOL, F32, F64, I32, I64, U32, Builder, Pointer, Value, Variable
from tapegpt.machine.memory import Address
from tapegpt.machine.signature import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Literal

    from tapegpt.machine.language import Kernel, Number, Operand, Type
    from tapegpt.machine.target import Target

# The element types as memoryview formats.
VIEWS: dict[str, Literal["d", "f", "q", "i", "I"]] = {"f64": "d", "f32": "f", "i64": "q", "i32": "i", "u32": "I"}


def _wrap(bits: int) -> Callable[[int], int]:
    """An integer as so many bits in two's complement."""
    half = 1 << bits - 1
    return lambda number: (number + half) % (2 * half) - half


def _single(number: float) -> float:
    return ctypes.c_float(number).value


def _flush(round_: Callable[[float], float], smallest: float) -> Callable[[float], float]:
    """The same rounding, but of what is below the smallest normal number to zero."""

    def flush(number: float) -> float:
        rounded = round_(number)
        return math.copysign(0.0, rounded) if abs(rounded) < smallest else rounded

    return flush


_ROUND: dict[str, Callable[[Any], Any]] = {"f32": _single, "i64": _wrap(64), "i32": _wrap(32)}
_FLUSH = {**_ROUND, "f64": _flush(float, 2.0**-1022), "f32": _flush(_single, 2.0**-126)}


def _truncate(kind: Type) -> Callable[[float], int]:
    """A float as an integer of this type, rounded towards zero."""

    def truncate(number: float) -> int:
        whole = int(number) if math.isfinite(number) else None
        if whole is None or _ROUND[kind.name](whole) != whole:
            raise KernelError(f"{number!r} converted to {kind}")
        return whole

    return truncate


def fused_multiply_add(a: float, b: float, c: float) -> float:
    """a * b + c with one rounding, through exact rationals."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):  # which no finite product reaches, not even one that would overflow alone
        return c
    from fractions import Fraction

    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact) if exact else a * b + c
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _fused_to_odd(a: float, b: float, c: float) -> float:
    """The same, rounded to odd where it is not exact: rounded to f32 afterwards, it is rounded once (Boldo, 2008)."""
    result = fused_multiply_add(a, b, c)
    if not math.isfinite(result) or struct.unpack("<q", struct.pack("<d", result))[0] % 2:
        return result
    from fractions import Fraction

    error = Fraction(a) * Fraction(b) + Fraction(c) - Fraction(result)
    return math.nextafter(result, math.copysign(math.inf, error)) if error else result


LIBM: dict[str, Callable[..., float]] = {
    **{name: getattr(arithmetic, name) for name in ("exp", "log", "sin", "cos", "tanh")},
    "pow": arithmetic.power,
}


def _check_defined(operation: str, kind: Type, a: int, b: int) -> None:
    bits = 8 * kind.size
    if operation in ("shl", "shr") and not 0 <= b < bits:
        raise KernelError(f"{kind} shifted by {b} bits")
    if operation in ("quotient", "remainder") and (not b or (b == -1 and a == -1 << bits - 1)):
        raise KernelError(f"{kind} {a} divided by {b}")


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "xor")},
    "and": operator.and_,
    "or": operator.or_,
    "shl": operator.lshift,
    "div": arithmetic.divide,
    "quotient": arithmetic.quotient,
    "remainder": arithmetic.remainder,
}
_COMPARE = {
    symbol: getattr(operator, name)
    for symbol, name in (("<", "lt"), ("<=", "le"), (">", "gt"), (">=", "ge"), ("==", "eq"), ("!=", "ne"))
}


class Interpreter(Builder):
    """Executes kernels. `data` of a scalar is a Python number, of a vector a list, of a pointer (view, index)."""

    def __init__(self, target: Target, flushes: bool = False) -> None:
        super().__init__(target)
        self._flushes, self._round = flushes, _FLUSH if flushes else _ROUND
        self.counts: dict[str, int] = {}  # operations done, lane by lane, and bytes moved

    def _did(self, kind: str, amount: int) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + amount

    def _map(self, kind: Type, function: Callable[..., Any], *operands: Value) -> Value:
        """Apply a function lane by lane and round to the type."""
        round_ = self._round.get(kind.name)
        lanes = operands[0].lanes
        rows = zip(*[o.data for o in operands], strict=True) if lanes else [tuple(o.data for o in operands)]
        results = [function(*row) for row in rows]
        if round_:
            results = [round_(number) for number in results]
        return Value(self, kind, lanes, results if lanes else results[0])

    def range(self, *bounds: Number) -> Iterator[Value]:
        turns = range(*[self.integer(bound).data for bound in bounds])
        if turns and _ROUND["i64"](turns[-1] + turns.step) != turns[-1] + turns.step:
            raise KernelError(f"{turns} counts beyond i64")
        for i in turns:
            yield Value(self, I64, 0, i)

    def when(self, condition: Operand) -> Iterator[None]:
        if self.value(condition).data:
            yield

    def repeat_while(self, condition: Callable[[], Operand]) -> Iterator[None]:
        while self.value(condition()).data:
            yield

    def call(self, kernel: Kernel, arguments: list[Pointer | Value], constants: dict[str, Any]) -> None:
        kernel.trace(self, arguments, constants)

    def constant(self, number: float, kind: Type, lanes: int) -> Value:
        scalar = _single(number) if kind is F32 else float(number) if kind is F64 else int(number)
        return Value(self, kind, lanes, [scalar] * lanes if lanes else scalar)

    def lane_numbers(self, lanes: int) -> Value:
        return Value(self, I32, lanes, list(range(lanes)))

    def table(self, numbers: tuple[float, ...], kind: Type) -> Pointer:
        return Pointer(self, kind, (memoryview(array(VIEWS[kind.name], numbers)).toreadonly(), 0))

    def allocate(self, kind: Type, lanes: int) -> Variable:
        return Variable(self, kind, lanes, None)

    def assign(self, variable: Variable, value: Value) -> None:
        variable.data = value.data

    def read(self, variable: Operand) -> Value:
        return Value(self, variable.type, variable.lanes, variable.data)

    def splat(self, value: Value, lanes: int) -> Value:
        return Value(self, value.type, lanes, [value.data] * lanes)

    def extract(self, value: Value, index: int) -> Value:
        return Value(self, value.type, 0, value.data[index])

    def _shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        both = [*a.data, *b.data]
        return Value(self, a.type, len(lanes), [both[lane] for lane in lanes])

    def insert(self, value: Value, index: int, scalar: Value) -> Value:
        return Value(self, value.type, value.lanes, [*value.data[:index], scalar.data, *value.data[index + 1 :]])

    def binary(self, operation: str, a: Value, b: Value) -> Value:
        if a.type.is_float:
            self._did(operation, a.lanes or 1)
        else:
            for x, y in zip(a.data, b.data, strict=True) if a.lanes else [(a.data, b.data)]:
                _check_defined(operation, a.type, x, y)
        if operation == "shr":  # zeros come in
            return self._map(a.type, lambda x, shift: x % (1 << 8 * a.type.size) >> shift, a, b)
        return self._map(a.type, _BINARY[operation], a, b)

    def compare(self, relation: str, a: Value, b: Value) -> Value:
        if a.type.is_float:
            self._did("compare", a.lanes or 1)
        return self._map(BOOL, _COMPARE[relation], a, b)

    def choose(self, mask: Value, yes: Value, no: Value) -> Value:
        if yes.lanes and not mask.lanes:
            return yes if mask.data else no
        return self._map(yes.type, lambda m, a, b: a if m else b, mask, yes, no)

    def external(self, name: str, arguments: list[Value]) -> Value:
        self._did(name, 1)
        return Value(self, F64, 0, LIBM[name](*[a.data for a in arguments]))

    def offset(self, pointer: Pointer, index: Value) -> Pointer:
        view, position = pointer.data
        return Pointer(self, pointer.type, (view, position + index.data))

    def cast(self, pointer: Pointer, kind: Type) -> Pointer:
        view, position = pointer.data
        offset = position * pointer.type.size
        whole = view.cast("B")[offset % kind.size :]
        whole = whole[: len(whole) // kind.size * kind.size]
        return Pointer(self, kind, (whole.cast(VIEWS[kind.name]), offset // kind.size))

    def _place(self, pointer: Pointer, lanes: int) -> tuple[memoryview[Any], int]:
        """Where so many elements lie, all of which must be there."""
        view, position = pointer.data
        if not 0 <= position <= len(view) - (lanes or 1):
            last = f" to {position + lanes - 1}" if lanes else ""
            raise KernelError(f"element {position}{last} where {len(view)} {pointer.type} lie")
        return view, position

    def load(self, pointer: Pointer, lanes: int) -> Value:
        view, position = self._place(pointer, lanes)
        self._did("loaded", pointer.type.size * (lanes or 1))
        data = view[position : position + lanes].tolist() if lanes else view[position]
        value = Value(self, pointer.number, lanes, data)
        return self._map(value.type, float, value) if self._flushes and value.type.is_float else value

    def store(self, pointer: Pointer, value: Value) -> None:
        view, position = self._place(pointer, value.lanes)
        self._did("stored", pointer.type.size * (value.lanes or 1))
        for lane, number in enumerate(value.data if value.lanes else [value.data]):
            view[position + lane] = number & 0xFFFFFFFF if pointer.type is U32 else number

    def _any(self, mask: Value) -> Value:
        return Value(self, BOOL, 0, any(mask.data))

    def pack_bits(self, mask: Operand) -> Value:
        value = self.value(mask)
        lanes = value.data if value.lanes else [value.data]
        return Value(self, I64, 0, sum(1 << lane for lane, holds in enumerate(lanes) if holds))

    def _lowest_bit(self, x: Value) -> Value:
        return Value(self, I64, 0, (x.data & -x.data).bit_length() - 1)

    def _function(self, name: str, x: Value) -> Value:
        if name == "abs":
            return self._map(x.type, math.fabs, x)
        self._did(name, x.lanes or 1)
        return self._map(x.type, arithmetic.sqrt, x)

    def _fma(self, a: Value, b: Value, c: Value) -> Value:
        self._did("fma", a.lanes or 1)
        return self._map(a.type, fused_multiply_add if a.type is F64 else _fused_to_odd, a, b, c)

    def _bitcast(self, value: Value, kind: Type) -> Value:
        written, read = VIEWS[value.type.name], VIEWS[kind.name]
        return self._map(kind, lambda number: struct.unpack(read, struct.pack(written, number))[0], value)

    def _convert(self, value: Value, kind: Type) -> Value:
        if kind.is_float:
            return self._map(kind, float if value.type.is_float or kind is F64 else arithmetic.to_odd, value)
        return self._map(kind, _truncate(kind) if value.type.is_float else int, value)


def make_callable(
    kernel: Kernel, constants: dict[str, Any], target: Target, counted: Sequence[str] = ()
) -> Callable[..., None]:
    """A kernel as a Python function of addresses and numbers; what is `counted` is added to its argument `counts`."""
    Module(target, counted).add(kernel, constants, kernel.name)  # its checks

    def run(*arguments: Address | float) -> None:
        k = Interpreter(target, kernel.flushes)
        values: list[Pointer | Value] = []
        for argument, expected in zip(arguments, kernel.arguments.values(), strict=True):
            kind = expected.type
            if isinstance(argument, Address):
                assert expected.is_pointer
                view = argument.view[: len(argument.view) // kind.size * kind.size]
                values.append(Pointer(k, kind, (view.cast(VIEWS[kind.name]), 0)))
            else:
                values.append(k.constant(argument, kind, 0))
        kernel.trace(k, values, constants)
        for index, what in enumerate(counted):
            view, _ = values[list(kernel.arguments).index("counts")].data
            view[index] += k.counts.get(what, 0)

    return run
