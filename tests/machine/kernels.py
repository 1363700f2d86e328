"""Random kernels on extreme numbers: all makers of code and the interpreter must agree in all bits.

`python -m tests.machine.kernels 10000` tries as many; the tests try a few.
"""

from __future__ import annotations

import math
import random
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from tapegpt.machine.host import available, host_target
from tapegpt.machine.language import F32, F64, I32, I64, Builder, F32s, F64s, I64s, Kernel, Type, Value
from tapegpt.machine.memory import Address, address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import INTERPRETED, WASM
from tests.machine.languages import Written
from tests.machine.sandbox import Sandbox

Step = tuple[str, int, int]  # the operation, and which of the values made so far it takes, modulo their number

LANES = (0, 2, 4, 8, 16)
INPUTS = 3  # of each type
ROUNDS = 4  # sets of inputs that a kernel is run with
TYPECODES = {F64: "d", F32: "f", I64: "q", I32: "i"}
BITS = {F64: 64, F32: 32, I64: 64, I32: 32}

_TINY, _HUGE = 5e-324, 1.7976931348623157e308
FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    math.pi,
    1e-9,
    0.1,
    1 / 3,
    2.0**24 + 1,
    2.0**53,
    -(2.0**31),
    2.0**63,
    1e38,
    3.4028235e38,
]
FLOATS += [1e-45, 1.1754943e-38, _TINY, -_TINY, 2.2250738585072014e-308, _HUGE, -_HUGE, math.inf, -math.inf, math.nan]
INTEGERS = [0, 1, -1, 2, -7, 255, 2**24 + 1, 2**31 - 1, -(2**31), 2**32, 2**53 + 1, 2**62 - 1, 2**63 - 1, -(2**63)]


def _defined(k: Builder, x: Value) -> Value:
    """A float that every integer type holds."""
    return k.select(k.abs(x) < 1e9, x, 0.0)


def _number(k: Builder, x: Value) -> Value:
    """No NaN, whose bits are the CPU's own."""
    return k.select(x.equals(x), x, 2.0)


def _divisor(b: Value) -> Value:
    """Of either sign, neither 0 nor -1."""
    return ((b & 0xFF) + 2) * ((b >> 7 & 1) * 2 - 1)


def _places(b: Value) -> Value:
    return b & BITS[b.type] - 1


def _mask(k: Builder, a: Value, b: Value) -> Value:
    return ((a < b) | a.equals(b)) ^ (a >= b)


FLOAT_OPERATIONS: dict[str, Callable[[Builder, Value, Value], Value]] = {
    "add": lambda k, a, b: a + b,
    "sub": lambda k, a, b: a - b,
    "mul": lambda k, a, b: a * b,
    "div": lambda k, a, b: a / b,
    "neg": lambda k, a, b: -a,
    "abs": lambda k, a, b: k.abs(a),
    "sqrt": lambda k, a, b: k.sqrt(a),
    "maximum": lambda k, a, b: k.maximum(a, b),
    "minimum": lambda k, a, b: k.minimum(a, b),
    "less": lambda k, a, b: k.select(a < b, 1.5, b),
    "mask": lambda k, a, b: k.select(_mask(k, a, b), a, b),
    "differs": lambda k, a, b: k.select(k.logical_not(a.differs(b)), a, -b),
    "any": lambda k, a, b: k.select(k.any(a > b), a, b),
    "bits": lambda k, a, b: k.bits(_number(k, a)),
    "to i64": lambda k, a, b: k.convert(_defined(k, a), I64),
    "to i32": lambda k, a, b: k.convert(_defined(k, a), I32),
    "to f64": lambda k, a, b: k.convert(a, F64),
    "to f32": lambda k, a, b: k.convert(a, F32),
    "group sum": lambda k, a, b: k.group_sum(a, a.lanes or 1),
    "group max": lambda k, a, b: k.group_max(a, max(1, a.lanes // 2)),
    "sum": lambda k, a, b: k.spread(k.reduce_add(a), a.lanes),
    "largest": lambda k, a, b: k.spread(k.reduce_max(a), a.lanes),
    "reversed": lambda k, a, b: k.shuffle(a, b, list(range(2 * a.lanes))[::-2]) if a.lanes else a,
}
INTEGER_OPERATIONS: dict[str, Callable[[Builder, Value, Value], Value]] = {
    "add": lambda k, a, b: a + b,
    "sub": lambda k, a, b: a - b,
    "mul": lambda k, a, b: a * b,
    "quotient": lambda k, a, b: a // _divisor(b),
    "remainder": lambda k, a, b: a % _divisor(b),
    "half": lambda k, a, b: a // -2 + a % 7,
    "and": lambda k, a, b: a & b,
    "or": lambda k, a, b: a | b,
    "xor": lambda k, a, b: a ^ b,
    "shl": lambda k, a, b: a << _places(b),
    "shr": lambda k, a, b: a >> _places(b),
    "neg": lambda k, a, b: -a,
    "less": lambda k, a, b: k.select(a < b, a, 3),
    "mask": lambda k, a, b: k.select(_mask(k, a, b), a, b),
    "packed": lambda k, a, b: k.spread(k.pack_bits(a > b), a.lanes),
    "lowest": lambda k, a, b: k.spread(k.lowest_bit(k.pack_bits(a <= b) | 64), a.lanes),
    "from bits": lambda k, a, b: k.from_bits(a),
    "to i64": lambda k, a, b: k.convert(a, I64),
    "to i32": lambda k, a, b: k.convert(a, I32),
    "to f64": lambda k, a, b: k.convert(a, F64),
    "to f32": lambda k, a, b: k.convert(a, F32),
}
LIBM_OPERATIONS: dict[str, Callable[[Builder, Value, Value], Value]] = {
    "exp": lambda k, a, b: k.exp(a),
    "log": lambda k, a, b: k.log(a),
    "pow": lambda k, a, b: k.pow(a, b),
}
OPERATIONS = {
    f"{kind} {name}": (kind, function)
    for kinds, table in (((F64, F32), FLOAT_OPERATIONS), ((I64, I32), INTEGER_OPERATIONS), ((F64,), LIBM_OPERATIONS))
    for kind in kinds
    for name, function in table.items()
}


def body(k: Builder, f64: F64s, f32: F32s, i64: I64s, out: F64s, *, steps: tuple[Step, ...], lanes: int) -> None:
    """Takes the steps on inputs of each type, and writes all that it made."""
    size = max(lanes, 1)
    given = {F64: f64, F32: f32, I64: i64, I32: (i64 + INPUTS * size).cast(I32)}
    values = {kind: [at.vector(i * size, size) for i in range(INPUTS)] for kind, at in given.items()}
    for place, (name, first, second) in enumerate(steps):
        kind, function = OPERATIONS[name]
        a, b = (values[kind][number % len(values[kind])] for number in (first, second))
        result = function(k, a, b)
        values[result.type].append(result)
        out.cast(result.type).store(place * size * 8 // result.type.size, result)


def inputs(draw: Callable[[Sequence[float]], float], kind: Type, count: int) -> array[float]:
    """So many numbers of a type, extreme ones among them."""
    if kind.is_float:
        numbers = [draw(FLOATS) for _ in range(count)]
        if kind is F32:
            numbers = [x if abs(x) <= 3.5e38 or not math.isfinite(x) else math.copysign(3.4e38, x) for x in numbers]
        return array(TYPECODES[kind], numbers)
    half = 1 << BITS[kind] - 1
    return array(TYPECODES[kind], [(int(draw(INTEGERS)) + half) % (2 * half) - half for _ in range(count)])


class Runner(Protocol):
    """What calls a kernel, as a program does."""

    def run(self, name: str, /, *arguments: Address) -> None: ...


def differences(
    steps: Sequence[Step], lanes: int, draw: Callable[[Sequence[float]], float], **more: Runner
) -> list[str]:
    """What machine code, WebAssembly and Python, and those that are given, compute otherwise than the interpreter."""
    size = max(lanes, 1)
    kernel, constants = Kernel(body), {"steps": tuple(steps), "lanes": lanes}
    entries = {"random": (kernel, constants)}
    runners: dict[str, Runner] = {
        **{target.name: Program(entries, target) for target in available(host_target())},
        "wasm": Sandbox(entries, WASM),
        "python": Written(kernel, constants, 64 * (4 + size * (len(steps) + 2 * INPUTS))),
        **more,
    }
    found = []
    for _ in range(ROUNDS):
        numbers = {kind: inputs(draw, kind, INPUTS * size) for kind in TYPECODES}
        whole = array("q", numbers[I64].tobytes() + numbers[I32].tobytes() + bytes(INPUTS * size % 2 * 4))
        results = []
        for runner in runners.values():
            out = array("d", bytes(8 * size * len(steps)))
            runner.run("random", *[address_of(a) for a in (numbers[F64], numbers[F32], whole, out)])
            results.append(out.tobytes())
        right = results[[*runners].index(INTERPRETED.name)]
        for runner_name, result in zip(runners, results, strict=True):
            for place, (name, *_) in enumerate(steps):
                row, expected = (data[8 * size * place : 8 * size * (place + 1)] for data in (result, right))
                if row != expected and not _both_nan(row, expected):
                    found.append(f"{name} (step {place} of {steps}) x {lanes} on {runner_name} with {numbers}")
    return found


def _both_nan(row: bytes, expected: bytes) -> bool:
    """Whether they differ in the bits of NaNs alone, as f64 or as f32."""
    return any(
        all(
            a == b or (a != a and b != b)
            for a, b in zip(struct.unpack(f, row), struct.unpack(f, expected), strict=True)
        )
        for f in (f"{len(row) // 8}d", f"{len(row) // 4}f")
    )


def main(count: int) -> int:
    """Try so many random kernels; the number of those that differ."""
    generator = random.Random(1)  # not the package's: this is the judge
    names, failures = list(OPERATIONS), 0
    for number in range(count):
        steps = [(generator.choice(names), generator.randrange(64), generator.randrange(64)) for _ in range(24)]
        found = differences(steps, generator.choice(LANES), generator.choice)
        failures += bool(found)
        for line in found[:1]:
            print(f"kernel {number}: {line}")
    print(f"{count} kernels, {failures} that differ")
    return failures


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]))))
