"""What the kernel language refuses: while code is made as in the interpreter, with the kernel and the line."""

from __future__ import annotations

import inspect
import math
from array import array
from collections.abc import Callable

import pytest

from tapegpt.machine.emitter import Module
from tapegpt.machine.host import host_target
from tapegpt.machine.language import (
    BOOL,
    F32,
    F64,
    I32,
    I64,
    U32,
    Builder,
    F32s,
    F64s,
    I64s,
    Int,
    Kernel,
    Real,
    Reals,
    U32s,
    Value,
    kernel,
)
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import KernelError
from tapegpt.machine.target import INTERPRETED, Target

TARGETS = [host_target(), INTERPRETED]
REFUSED: list[tuple[Callable[..., None], str]] = []


def refused(rule: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A kernel that is refused with these words, at the line with the comment `here`."""

    def add(body: Callable[..., None]) -> Callable[..., None]:
        REFUSED.append((body, rule))
        return body

    return add


# Python's own questions


@refused("== asks while code is made: use a.equals(b)")
def equality(k: Builder, x: F64s) -> None:
    for i in k.range(4):
        if i == 2:  # here
            x[i] = 7.0


@refused("!= asks while code is made: use a.differs(b)")
def inequality(k: Builder, x: F64s, n: Int) -> None:
    if n != 2:  # here
        x[0] = 7.0


@refused("== asks while code is made")
def equality_of_pointers(k: Builder, x: F64s, y: F64s) -> None:
    x[0] = 1.0 if x == y else 2.0  # here


@refused("a f64 x 2 has no truth while code is made: use k.when or k.select")
def truth(k: Builder, x: F64s) -> None:
    if x.vector(0, 2):  # here
        x[0] = 1.0


@refused("a f64 pointer has no truth while code is made: ask whether it is None")
def truth_of_a_pointer(k: Builder, x: F64s) -> None:
    if x:  # here
        x[0] = 1.0


@refused("select by bool x 2 among f64 x 4")
def half_a_mask(k: Builder, x: F64s) -> None:
    a = x.vector(0, 2)
    x.store(0, k.select(a > 0.0, x.vector(0, 4), 1.0))  # here


@refused("has no truth")
def negation(k: Builder, x: F64s) -> None:
    x[0] = float(not x[0] > 1.0)  # here


@refused("has no truth")
def conjunction(k: Builder, x: F64s) -> None:
    for _ in k.when(x[0] > 1.0 and x[0] < 2.0):  # here
        x[0] = 1.0


@refused("has no truth")
def chain(k: Builder, x: F64s) -> None:
    for _ in k.when(1.0 < x[0] < 2.0):  # here
        x[0] = 1.0


@refused("has no truth")
def largest(k: Builder, x: F64s) -> None:
    x[0] = max(x[0], x[1])  # here


@refused("== asks while code is made")
def membership(k: Builder, n: I64s) -> None:
    if n[0] in [1, 2, 3]:  # here
        n[0] = 0


@refused("argument of type 'Pointer' is not iterable")
def membership_in_memory(k: Builder, n: I64s) -> None:
    if 3 in n:  # type: ignore[operator]  # here
        n[0] = 0


@refused("a run-time value is not iterated")
def iteration(k: Builder, x: F64s) -> None:
    for number in x:  # here
        x[0] = number


@refused("a run-time value is no key")
def key(k: Builder, n: I64s) -> None:
    n[0] = {0: 1}.get(n[0], 2)  # type: ignore[call-overload]  # here


@refused("real number, not 'Value'")
def plain_float(k: Builder, x: F64s) -> None:
    x[0] = float(x[0])  # type: ignore[arg-type]  # here


@refused("int() argument must be")
def plain_int(k: Builder, x: F64s) -> None:
    x[0] = int(x[0])  # type: ignore[call-overload]  # here


@refused("'Value' object cannot be interpreted as an integer")
def plain_range(k: Builder, x: F64s, n: Int) -> None:
    for i in range(n):  # type: ignore[call-overload]  # here
        x[i] = 0.0


@refused("list indices must be integers or slices, not Value")
def plain_index(k: Builder, x: F64s, n: Int) -> None:
    x[0] = [1.0, 2.0][n]  # type: ignore[call-overload]  # here


@refused("unsupported operand type(s) for ** or pow()")
def power(k: Builder, x: F64s) -> None:
    x[0] = x[0] ** 2  # type: ignore[operator]  # here


@refused("bad operand type for abs()")
def magnitude(k: Builder, x: F64s) -> None:
    x[0] = abs(x[0])  # type: ignore[arg-type]  # here


@refused("unsupported operand type(s) for //")
def quotient_of_a_number(k: Builder, n: I64s) -> None:
    n[0] = 7 // n[0]  # type: ignore[operator]  # here


@refused("unsupported operand type(s) for -: 'Pointer'")
def pointer_difference(k: Builder, x: F64s) -> None:
    x[0] = (x - 1)[0]  # type: ignore[operator,index]  # here


# Values where they do not belong


@refused("a f64 is used outside the turn of the loop or condition that made it: keep it in a k.variable")
def carried_over_turns(k: Builder, x: F64s) -> None:
    before = k.real(0.0)
    for i in k.range(1, 5):
        x[i] = x[i] + before  # here
        before = x[i]


@refused("a f64 is used outside")
def carried_out_of_a_loop(k: Builder, x: F64s) -> None:
    total = k.real(0.0)
    for i in k.range(5):
        total = x[i] * 2.0
    x[0] = total  # here


@refused("a f64 is used outside")
def carried_in_a_list(k: Builder, x: F64s) -> None:
    sums = [k.real(0.0), k.real(1.0)]
    for i in k.range(5):
        for j in range(2):
            sums[j] = sums[j] + x[i]  # here


@refused("a i64 is used outside")
def carried_in_a_condition(k: Builder, n: I64s) -> None:
    turns = k.integer(0)
    for _ in k.repeat_while(lambda: turns < n[0]):  # here
        turns = turns + 1


@refused("a f64 is used outside")
def carried_through_loops(k: Builder, x: F64s) -> None:
    before = k.real(0.0)
    for _ in k.range(3):
        for i in k.range(5):
            x[i] = x[i] + before  # here
        before = x[0]


@refused("a f64 is used outside")
def escaped_from_a_condition(k: Builder, x: F64s) -> None:
    number = k.real(1.0)
    for _ in k.when(x[0] > 0.0):
        number = x[0] * 2.0
    x[0] = number  # here


@refused("a i64 is used outside")
def counter_after_its_loop(k: Builder, n: I64s) -> None:
    i = k.integer(0)
    for i in k.range(3):
        n[i] = i
    n[0] = i  # here


@refused("a f64 is used outside")
def register_after_its_loop(k: Builder, x: F64s) -> None:
    total = k.zeros()
    for i in k.range(3):
        total = k.variable(x[i])
    x[0] = total + 1.0  # here


@refused("a f64 pointer is used outside")
def pointer_after_its_loop(k: Builder, x: F64s) -> None:
    row = x
    for i in k.range(3):
        row = x + i
    row[0] = 1.0  # here


STASH: list[Value] = []


@kernel
def stashes(k: Builder, x: F64s) -> None:
    STASH.append(x[0] + 1.0)


@refused("a f64 of another kernel: pass it as an argument")
def value_of_another_kernel(k: Builder, x: F64s) -> None:
    stashes(k, x)
    x[0] = STASH[-1]  # here


@kernel
def scaled(k: Builder, x: F64s, *, factor: float) -> None:
    x[0] = x[0] * factor  # where `value_as_a_constant` is found


@refused("a k.range, k.when or k.repeat_while is left early by break or return")
def break_out(k: Builder, x: F64s) -> None:
    for i in k.range(5):  # here
        x[i] = 0.0
        break


@refused("is left early")
def return_out(k: Builder, x: F64s) -> None:
    for _ in k.range(5):
        for _ in k.when(x[0] > 0.0):  # here
            x[1] = 0.0
            return


# Types


@refused("'one' where f64 is meant")
def text(k: Builder, x: F64s) -> None:
    x[0] = x[0] + "one"  # type: ignore[arg-type]  # here


@refused("slice(0, 2, None) where i64 is meant")
def slices(k: Builder, x: F64s) -> None:
    x[0] = x[0:2]  # type: ignore[index]  # here


@refused("9223372036854775808 where i64 is meant")
def large(k: Builder, n: I64s) -> None:
    n[0] = n[0] + (1 << 63)  # here


@refused("nan where i64 is meant")
def no_integer(k: Builder, n: I64s) -> None:
    n[0] = n[0] + math.nan  # here


@refused("1e+39 where f32 is meant")
def beyond_single(k: Builder, x: F32s) -> None:
    x[0] = x[0] + 1e39  # here


@refused("where f64 is meant")
def beyond_double(k: Builder, x: F64s) -> None:
    x[0] = x[0] + 10**400  # here


@refused("0 where u32 is meant")
def register_of_u32(k: Builder, n: U32s) -> None:
    k.zeros(0, U32)  # here


@refused("f64 x 2 where 0 lanes are meant")
def other_lanes(k: Builder, x: F64s) -> None:
    k.zeros().set(x.vector(0, 2))  # here


@refused("i64 where f64 is meant")
def other_type(k: Builder, x: F64s, n: Int) -> None:
    total = k.zeros()
    total += n  # here


@refused("add of bool")
def sum_of_masks(k: Builder, x: F64s) -> None:
    k.any((x[0] > 0.0) + (x[1] > 0.0))  # here


@refused("< of bool")
def order_of_masks(k: Builder, x: F64s) -> None:
    k.any((x[0] > 0.0) < (x[1] > 0.0))  # here


@refused("f64 where bool is meant")
def number_as_condition(k: Builder, x: F64s) -> None:
    for _ in k.when(x[0]):  # here
        x[0] = 0.0


@refused("a condition of bool x 2: use k.any")
def mask_as_condition(k: Builder, x: F64s) -> None:
    for _ in k.repeat_while(lambda: x.vector(0, 2) > 0.0):  # here
        x[0] = 0.0


@refused("f64 where bool is meant")
def packed_numbers(k: Builder, x: F64s, n: I64s) -> None:
    n[0] = k.pack_bits(x[0])  # here


@refused("i64 where f64 or f32 is meant")
def root_of_integers(k: Builder, n: I64s) -> None:
    k.sqrt(n[0])  # here


@refused("i64 where f64 or f32 is meant")
def magnitude_of_integers(k: Builder, n: I64s) -> None:
    k.abs(n[0])  # here


@refused("i64 where f64 or f32 is meant")
def pattern_of_integers(k: Builder, n: I64s) -> None:
    k.bits(n[0])  # here


@refused("f64 where i64 or i32 is meant")
def number_from_floats(k: Builder, x: F64s) -> None:
    k.from_bits(x[0])  # here


@refused("f64 where i64 is meant")
def lowest_bit_of_floats(k: Builder, x: F64s) -> None:
    k.lowest_bit(x[0])  # here


@refused("bool where f64 or f32 or i64 or i32 is meant")
def converted_mask(k: Builder, x: F64s) -> None:
    x[0] = k.convert(x[0] > 0.0, F64)  # here


@refused("f64 cannot be converted to u32")
def converted_to_memory(k: Builder, x: F64s) -> None:
    k.convert(x[0], U32)  # here


@refused("no bool lies in memory")
def masks_in_memory(k: Builder, x: F64s) -> None:
    x.cast(BOOL)  # here


@refused("a f64 pointer where threads share i64")
def shared_floats(k: Builder, x: F64s) -> None:
    k.fetch_add(x, 1)  # here


@refused("lanes [0, 4] of f64 x 2 and f64 x 2")
def lanes_beyond(k: Builder, x: F64s) -> None:
    k.shuffle(x.vector(0, 2), x.vector(0, 2), [0, 4])  # here


@refused("i64 divided by 0")
def divided_by_zero(k: Builder, n: I64s) -> None:
    n[0] = n[0] // 0  # here


@refused("i64 divided by 0")
def remainder_of_zero(k: Builder, n: I64s) -> None:
    n[0] = n[0] % 0  # here


@refused("i64 shifted by 64 bits")
def shifted_out(k: Builder, n: I64s) -> None:
    n[0] = n[0] << 64  # here


def made(body: Callable[..., None], target: Target) -> Program:
    return Program({"refused": (Kernel(body), {})}, target)


@pytest.mark.parametrize("target", TARGETS, ids=["compiled", "interpreted"])
@pytest.mark.parametrize(("body", "rule"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_refused_with_kernel_and_line(body: Callable[..., None], rule: str, target: Target) -> None:
    lines, first = inspect.getsourcelines(body)
    (line,) = [number for number, text in enumerate(lines, first) if text.endswith("# here\n")]
    with pytest.raises(KernelError) as caught:
        made(body, target)
    message = str(caught.value)
    assert message.startswith(f"{body.__name__}, {__file__}:{line}: ")
    assert rule in message
    assert "\n" not in message


@kernel
def fetches(k: Builder, n: I64s) -> None:
    k.fetch_add(n, 1)


@kernel
def looks(k: Builder, n: I64s) -> None:
    k.load_shared(n)


# Each side of each condition: what is refused, by the words that it is told, and what lies next to it.
SIDES: dict[str, tuple[list[Callable[..., object]], list[Callable[..., object]]]] = {
    "select by i64 among f64": (
        [lambda k, x, n: k.select(n, x[0], 1.0)],
        [lambda k, x, n: k.select(n > 1, x[0], 1.0), lambda k, x, n: k.select(n > 1, x.vector(0, 2), 1.0)],
    ),
    "select by bool x 2 among f64 x 4": (
        [lambda k, x, n: k.select(x.vector(0, 2) > 0.0, x.vector(0, 4), 1.0)],
        [lambda k, x, n: k.select(x.vector(0, 2) > 0.0, x[0], 1.0)],
    ),
    "lanes ": (
        [
            lambda k, x, n: k.shuffle(x.vector(0, 2), x.cast(I64).vector(0, 2), [0, 2]),
            lambda k, x, n: k.shuffle(x.vector(0, 2), x.vector(0, 4), [0, 2]),
            lambda k, x, n: k.shuffle(x[0], x[0], [0]),
            lambda k, x, n: k.shuffle(x.vector(0, 2), x.vector(0, 2), [-1, 0]),
        ],
        [lambda k, x, n: k.shuffle(x.vector(0, 2), x.vector(2, 2), [3, 0, 0, 2])],
    ),
    "lane ": (
        [
            lambda k, x, n: x.vector(0, 2).lane(-1),
            lambda k, x, n: x.vector(0, 2).lane(2),
            lambda k, x, n: x[0].lane(0),
        ],
        [lambda k, x, n: x.vector(0, 2).lane(0) + x.vector(0, 2).lane(1)],
    ),
    "i64 divided by 0": (
        [lambda k, x, n: n // 0, lambda k, x, n: n % 0],
        [lambda k, x, n: n // 1 + n % -1 + n * 0, lambda k, x, n: 0 * n, lambda k, x, n: x[0] / 0.0],
    ),
    "i64 shifted by ": (
        [lambda k, x, n: n << 64, lambda k, x, n: n >> 64, lambda k, x, n: n << -1, lambda k, x, n: n >> -1],
        [lambda k, x, n: (n << 63) + (n >> 63) + (n << 0) + (n >> 0)],
    ),
    "i32 shifted by ": (
        [lambda k, x, n: k.convert(n, I32) << 32, lambda k, x, n: k.convert(n, I32) >> 32],
        [lambda k, x, n: (k.convert(n, I32) << 31) + (k.convert(n, I32) >> 31)],
    ),
    "div of i64": ([lambda k, x, n: n / 2], [lambda k, x, n: n // 2, lambda k, x, n: x[0] / 2.0]),
    "quotient of f64": ([lambda k, x, n: x[0] // 2.0], [lambda k, x, n: n // 2]),
    "remainder of f64": ([lambda k, x, n: x[0] % 2.0], [lambda k, x, n: n % 2]),
    "shl of f64": ([lambda k, x, n: x[0] << 2.0], [lambda k, x, n: n << 2]),
    "xor of f64": ([lambda k, x, n: x[0] ^ 2.0], [lambda k, x, n: (n > 1) ^ (n > 2), lambda k, x, n: n ^ 2]),
    "mul of bool": ([lambda k, x, n: (n > 1) * (n > 2)], [lambda k, x, n: (n > 1) & (n > 2) | (n > 3)]),
    ">= of bool": (
        [lambda k, x, n: (n > 1) >= (n > 2)],
        [lambda k, x, n: (n > 1).equals(n > 2), lambda k, x, n: (n > 1).differs(n > 2), lambda k, x, n: n >= 2],
    ),
    "libm takes f64": (
        [lambda k, x, n: k.exp(n), lambda k, x, n: k.pow(x[0], k.convert(x[0], F32))],
        [lambda k, x, n: k.pow(x[0], 2.0) + k.exp(x[0]), lambda k, x, n: k.pow(x.vector(0, 2), x[0])],
    ),
    "0 lanes are meant": ([lambda k, x, n: k.real(x.vector(0, 2))], [lambda k, x, n: k.real(x[0])]),
    "the step of k.range": (
        [lambda k, x, n: next(k.range(0, 4, 0)), lambda k, x, n: next(k.range(0, 4, n))],
        [lambda k, x, n: [None for _ in k.range(0, 4, -1)], lambda k, x, n: [None for _ in k.range(0, n, 3)]],
    ),
    "threads meet in the entries": (
        [lambda k, x, n: fetches(k, x.cast(I64)), lambda k, x, n: looks(k, x.cast(I64))],
        [lambda k, x, n: k.fetch_add(x.cast(I64), 1) + k.load_shared(x.cast(I64))],
    ),
    "f64 pointer where threads": (
        [lambda k, x, n: k.load_shared(x), lambda k, x, n: k.fetch_add(x, 1)],
        [lambda k, x, n: k.load_shared(x.cast(I64))],
    ),
}


@pytest.mark.parametrize("rule", SIDES)
def test_a_condition_is_met_from_both_of_its_sides(rule: str) -> None:
    def kernel_of(act: Callable[..., object]) -> Callable[..., None]:
        def body(k: Builder, x: F64s, n: Int) -> None:
            act(k, x, n)

        return body

    beyond, within = SIDES[rule]
    for act in beyond:
        with pytest.raises(KernelError, match=rule):
            Module(host_target()).add(Kernel(kernel_of(act)), {}, "beyond")
    for act in within:
        Module(host_target()).add(Kernel(kernel_of(act)), {}, "within")


@pytest.mark.parametrize("target", TARGETS, ids=["compiled", "interpreted"])
def test_a_value_is_no_constant_of_a_kernel(target: Target) -> None:
    def passes(k: Builder, x: F64s) -> None:
        scaled(k, x, factor=x[0])

    with pytest.raises(KernelError, match=r"^scaled, .*: a f64 of another kernel"):
        made(passes, target)


# What only shows while a kernel runs: the interpreter refuses what machine code leaves open


def read(k: Builder, x: F64s, i: Int) -> None:
    x[0] = x[i]  # here


def read_vector(k: Builder, x: F64s, i: Int) -> None:
    x.store(0, x.vector(i, 2))  # here


def write(k: Builder, x: F64s, i: Int) -> None:
    x[i] = 1.0  # here


def write_vector(k: Builder, x: F64s, i: Int) -> None:
    x.store(i, x.vector(0, 2))  # here


def read_from_a_place(k: Builder, x: F64s, i: Int) -> None:
    x[0] = ((x + 1) + (i - 1))[0]  # here


@kernel
def reads(k: Builder, x: F64s) -> None:
    x[0] = x[0] + 1.0  # where `read_by_another` is found


@pytest.mark.parametrize("body", [read, read_vector, write, write_vector, read_from_a_place])
@pytest.mark.parametrize(
    ("index", "inside"), [(-1, False), (0, True), (2, True), (3, None), (4, False), (-(2**62), False)]
)
def test_the_interpreter_stays_inside(body: Callable[..., None], index: int, inside: bool | None) -> None:
    lanes = 2 if "vector" in body.__name__ else 1
    x = array("d", [1.0, 2.0, 3.0, 4.0])
    block = Memory(32)
    for place in (address_of(x), block.at(0)):
        if inside or (inside is None and lanes == 1):
            made(body, INTERPRETED).run("refused", place, index)
            continue
        last = f" to {index + 1}" if lanes == 2 else ""
        line = inspect.getsourcelines(body)[1] + 1
        with pytest.raises(KernelError) as caught:
            made(body, INTERPRETED).run("refused", place, index)
        assert str(caught.value) == f"{body.__name__}, {__file__}:{line}: element {index}{last} where 4 f64 lie"
    assert x.tolist() == [1.0, 2.0, 3.0, 4.0] or inside or lanes == 1


def test_the_interpreter_stays_inside_what_was_cast_and_moved() -> None:
    def singles(k: Builder, x: F64s, i: Int) -> None:
        y = (x + 1).cast(F32)
        y[i] = 0.0

    def doubles(k: Builder, x: F32s, i: Int) -> None:
        y = (x + 1).cast(F64)
        y[i] = 0.0

    def words(k: Builder, x: U32s, i: Int) -> None:
        x[i] = 1

    for body, numbers, first, last in ((singles, "d", -2, 3), (doubles, "f", 0, 0), (words, "I", 0, 2)):
        place = address_of(array(numbers, [0] * 3))
        for index in (first, last):
            made(body, INTERPRETED).run("refused", place, index)
        for index in (first - 1, last + 1):
            with pytest.raises(KernelError, match="lie"):
                made(body, INTERPRETED).run("refused", place, index)


def test_the_interpreter_finds_what_was_cast_between_its_elements() -> None:
    def doubles(k: Builder, x: F32s) -> None:
        (x + 1).cast(F64)[0] = 0.0

    for target in TARGETS:
        x = array("f", [1.0] * 4)
        made(doubles, target).run("refused", address_of(x))
        assert x.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_errors_name_the_kernel_that_is_called() -> None:
    def calls(k: Builder, x: F64s) -> None:
        reads(k, x + 4)

    line = inspect.getsourcelines(reads.body)[1] + 2
    with pytest.raises(KernelError) as caught:
        made(calls, INTERPRETED).run("refused", address_of(array("d", [0.0] * 4)))
    assert str(caught.value) == f"reads, {__file__}:{line}: element 4 where 4 f64 lie"


def divide(k: Builder, n: I64s, x: F64s) -> None:
    n[0] = n[0] // n[1]


def remain(k: Builder, n: I64s, x: F64s) -> None:
    n[0] = n[0] % n[1]


def left(k: Builder, n: I64s, x: F64s) -> None:
    n[0] = n[0] << n[1]


def right(k: Builder, n: I64s, x: F64s) -> None:
    n[0] = n[0] >> n[1]


def narrow(k: Builder, n: I64s, x: F64s) -> None:
    n[0] = k.convert(k.convert(n[0], I32) << k.convert(n[1], I32), I64)


def whole(k: Builder, n: I64s, x: F64s) -> None:
    n[0] = k.convert(x[0], I64)


def whole_narrow(k: Builder, n: I64s, x: F64s) -> None:
    n[0] = k.convert(k.convert(x[0], I32), I64)


def count(k: Builder, n: I64s, x: F64s) -> None:
    for _ in k.range(n[0], n[1], 10):
        pass


def count_down(k: Builder, n: I64s, x: F64s) -> None:
    for _ in k.range(n[0], n[1], -10):
        pass


SMALLEST = -(2**63)


@pytest.mark.parametrize(
    ("body", "operands", "x", "rule"),
    [
        (divide, (7, 0), 0.0, "i64 7 divided by 0"),
        (remain, (7, 0), 0.0, "i64 7 divided by 0"),
        (divide, (SMALLEST, -1), 0.0, f"{SMALLEST} divided by -1"),
        (remain, (SMALLEST, -1), 0.0, f"{SMALLEST} divided by -1"),
        (left, (1, 64), 0.0, "i64 shifted by 64 bits"),
        (left, (1, -1), 0.0, "i64 shifted by -1 bits"),
        (right, (1, 64), 0.0, "i64 shifted by 64 bits"),
        (narrow, (1, 32), 0.0, "i32 shifted by 32 bits"),
        (whole, (0, 0), math.nan, "nan converted to i64"),
        (whole, (0, 0), -math.inf, "-inf converted to i64"),
        (whole, (0, 0), 2.0**63, "converted to i64"),
        (whole_narrow, (0, 0), 2.0**31, "2147483648.0 converted to i32"),
        (count, (2**63 - 27, 2**63 - 5), 0.0, "counts beyond i64"),
        (count_down, (SMALLEST + 26, SMALLEST + 5), 0.0, "counts beyond i64"),
    ],
)
def test_the_interpreter_refuses_what_machine_code_leaves_open(
    body: Callable[..., None], operands: tuple[int, int], x: float, rule: str
) -> None:
    with pytest.raises(KernelError, match=rf"^{body.__name__}, .*{rule}"):
        made(body, INTERPRETED).run("refused", address_of(array("q", operands)), address_of(array("d", [x])))


def test_constants_that_print_alike_are_kept_apart() -> None:
    @kernel
    def put(k: Builder, x: F64s, *, number: object) -> None:
        x[0] = x[0] * 10.0 + (1.0 if number == 1 else 2.0)

    def both(k: Builder, x: F64s) -> None:
        put(k, x, number=1)
        put(k, x, number="1")
        put(k, x, number=1)

    for target in TARGETS:
        x = array("d", [0.0])
        made(both, target).run("refused", address_of(x))
        assert x[0] == 121.0


def test_arguments_of_kernels_are_checked() -> None:
    @kernel
    def takes(k: Builder, x: F64s, n: Int, a: Real) -> None:
        x[n] = a

    def number_for_pointer(k: Builder, x: F64s, n: Int) -> None:
        takes(k, n, n, 1.0)

    def pointer_for_number(k: Builder, x: F64s, n: Int) -> None:
        takes(k, x, x, 1.0)

    def other_pointer(k: Builder, x: F64s, n: Int) -> None:
        takes(k, x.cast(I64), n, 1.0)

    def too_few(k: Builder, x: F64s, n: Int) -> None:
        takes(k, x, n)

    @kernel
    def clears(k: Builder, x: Reals) -> None:
        x[0] = 0.0

    def number_for_reals(k: Builder, x: F64s, n: Int) -> None:
        clears(k, 1.0)

    for body, rule in (
        (number_for_pointer, "takes: x must be a f64 pointer, not i64"),
        (pointer_for_number, "takes: n must be a i64, not f64 pointer"),
        (other_pointer, "takes: x must be a f64 pointer, not i64 pointer"),
        (too_few, "takes takes 3 arguments, not 2"),
        (number_for_reals, "clears: x must be a real pointer, not 1.0"),
    ):
        with pytest.raises(KernelError, match=rf"^{body.__name__}, .*{rule}"):
            made(body, host_target())
