"""The kernel language: every word gives the same bits compiled, for every vector unit, and interpreted."""

from __future__ import annotations

import ctypes
import math
import random
import re
import struct
from array import array
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapegpt.machine.emitter import Module
from tapegpt.machine.host import available, cpu_identity, detect, host_target
from tapegpt.machine.interpreter import Interpreter, fused_multiply_add
from tapegpt.machine.language import (
    F32,
    F64,
    I32,
    I64,
    Builder,
    F32s,
    F64s,
    I64s,
    Int,
    Kernel,
    Real,
    U32s,
    Value,
    kernel,
)
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import KernelError
from tapegpt.machine.target import AVX2, AVX512, INTERPRETED, NEON, SSE2, Target
from tests.guard import PLAIN
from tests.machine import kernels
from tests.properties import many

HOST = host_target()
TARGETS = available(HOST)
DOUBLES = st.floats(allow_nan=False, width=64)
SPECIAL = [sign * x for x in (0.0, 5e-324, 0.5, 1.0, 2.0, 3.0, 1e300, math.inf) for sign in (1.0, -1.0)] + [math.nan]


def same(a: float, b: float) -> bool:
    """Equal bits, all NaNs being one."""
    return (a != a and b != b) or struct.pack("<d", a) == struct.pack("<d", b)


@kernel
def words(k: Builder, x: F64s, y: F64s, n: I64s, out: F64s) -> None:
    """One result of each scalar word of the language."""
    a, b, i, j = x[0], y[0], n[0], n[1]
    bits = k.bits(a)
    results = [
        a + b, a - b, a * b, a / b, 1.5 - a, 2.0 / a, -a,
        k.abs(a), k.sqrt(a), k.maximum(a, b), k.select(a < b, a, b), k.select(a <= b, 1.0, a), k.select(a >= b, b, a),
        k.select(a.equals(b), a, 0.0), k.select(a.differs(b), b, 0.0), k.exp(a), k.log(a), k.pow(a, b),
        k.from_bits(bits), k.from_bits(bits ^ (1 << 51)), k.from_bits((bits >> 1) + 7), k.from_bits(bits << 3),
        k.convert(i, F64), k.convert((i * j) + (i - j), F64), k.convert(i & j, F64), k.convert(i | 5, F64),
        k.convert((i & 0xFFFF) // 7, F64), k.convert((i & 0xFFFF) % 7, F64), k.convert(k.lowest_bit(i | 4096), F64),
        k.convert(k.pack_bits(a < b), F64), k.select(k.logical_not(a < b), 1.0, k.real(2.0)),
    ]  # fmt: skip
    for place, result in enumerate(results):
        out[place] = result


COUNT = 31


@kernel
def vector_words(k: Builder, x: F64s, y: F64s, out: F64s) -> None:
    """The words that work on lanes, on 16 elements cut into vectors."""
    for at, lanes in k.vectors(16):
        a, b = x.vector(at, lanes), y.vector(at, lanes)
        out.store(at, a * b + 1.0)
        out.store(16 + at, k.select(a < b, a / b, k.sqrt(k.abs(a))))
        out.store(32 + at, k.exp(a) - b)
        out.store(48 + at, k.maximum(a, b) * x[3])
        out.store(64 + at, k.from_bits(k.bits(a) & k.bits(b)))
        total = k.zeros(lanes)
        for i in k.range(5, -1, -2):
            total += a * k.convert(i, F64)
        out.store(80 + at, total)
    square = k.transpose([x.vector(4 * i, 4) for i in range(4)])
    for place, column in enumerate(square):
        out.store(101 + 4 * place, column)
    eight = x.vector(0, 2)
    out[96] = k.reduce_add(eight)
    out[97] = k.reduce_max(eight)
    out[98] = k.select(k.any(eight > y.vector(0, 2)), 1.0, k.real(0.0))
    out[99] = k.convert(k.pack_bits(eight > y.vector(0, 2)), F64)
    out[100] = eight.lane(1)


@cache
def programs() -> list[Program]:
    """The same words for all targets."""
    return [Program({"words": (words, {}), "vectors": (vector_words, {})}, target) for target in TARGETS]


@given(DOUBLES, DOUBLES, st.integers(-(2**40), 2**40), st.integers(-(2**20), 2**20))
def test_scalar_words_give_the_same_bits_everywhere(a: float, b: float, i: int, j: int) -> None:
    results = []
    for program in programs():
        out = array("d", bytes(8 * COUNT))
        x, y, n = array("d", [a]), array("d", [b]), array("q", [i, j])
        program.run("words", address_of(x), address_of(y), address_of(n), address_of(out))
        results.append(out.tolist())
    for result in results[1:]:
        assert all(map(same, result, results[0]))


@given(st.lists(DOUBLES, min_size=16, max_size=16), st.lists(DOUBLES, min_size=16, max_size=16))
def test_vector_words_give_the_same_bits_everywhere(a: list[float], b: list[float]) -> None:
    results = []
    for program in programs():
        out, x, y = array("d", bytes(8 * 117)), array("d", a), array("d", b)
        program.run("vectors", address_of(x), address_of(y), address_of(out))
        results.append(out.tolist())
    for result in results[1:]:
        assert all(map(same, result, results[0]))
    assert results[0][96] == a[0] + a[1] or math.isnan(a[0] + a[1])
    assert results[0][97] == max(a[0], a[1])
    assert results[0][101:117] == [a[4 * i + j] for j in range(4) for i in range(4)]


NAN, INF = math.nan, math.inf


@kernel
def meanings(k: Builder, x: F64s, y: F64s, out: F64s) -> None:
    a, b, z = x.vector(0, 8), y.vector(0, 8), y.vector(8, 8)
    one = k.real(1.0)
    held = [
        k.maximum(a, b), k.minimum(a, b), k.select(k.logical_not(a < b), one, 2.0), k.select(a.equals(b), one, 2.0),
        k.select(a.differs(b), one, 2.0), k.group_sum(a, 4), k.group_max(z, 4), k.mul_add(a, b, z),
        k.spread(k.reduce_add(z), 8), k.spread(k.reduce_max(z), 8), k.shuffle(a, b, [0, 8, 1, 9, 7, 15, 3, 3]),
        k.convert(k.lane_numbers(8), F64), k.spread(k.select(k.any(z > 9.0), 1.0, k.real(0.0)), 8),
        k.spread(k.convert(k.pack_bits(z > 2.0), F64), 8), -a, k.exp(z), k.pow(z, 2.0), k.group_sum(z, 8),
    ]  # fmt: skip
    for place, value in enumerate(held):
        out.store(8 * place, value)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_each_word_means_what_it_says(target: Target) -> None:
    a, b = [1.0, 2.0, 0.0, -0.0, NAN, 5.0, INF, 7.0], [2.0, 1.0, -0.0, 0.0, 4.0, NAN, -INF, 7.0]
    z = [1e16, 1.0, -1e16, 2.0, 3.0, 2.5, 0.5, 9.0]
    out = array("d", bytes(8 * 8 * 18))
    places = [address_of(array("d", numbers)) for numbers in (a, b + z)]
    Program({"meanings": (meanings, {})}, target).run("meanings", *places, address_of(out))
    pairs = list(zip(a, b, strict=True))
    product = [x * y + c for x, y, c in zip(a, b, z, strict=True)]
    assert product[0] == 2.0 + 1e16  # exact, so that fusing changes nothing
    groups = [(1.0 + 2.0) + (0.0 + -0.0), NAN]
    expected = [
        [max(y, x) for x, y in pairs],  # the second where they are equal or no numbers
        [min(y, x) for x, y in pairs],
        [2.0 if x < y else 1.0 for x, y in pairs],
        [1.0 if x == y else 2.0 for x, y in pairs],
        [1.0 if x != y else 2.0 for x, y in pairs],
        [groups[0]] * 4 + [groups[1]] * 4,
        [1e16] * 4 + [9.0] * 4,
        product,
        [((((((1e16 + 1.0) - 1e16) + 2.0) + 3.0) + 2.5) + 0.5) + 9.0] * 8,
        [1e16] * 8,
        [1.0, 2.0, 2.0, 1.0, 7.0, 7.0, -0.0, -0.0],
        [float(lane) for lane in range(8)],
        [1.0] * 8,
        [float(0b10110001)] * 8,
        [-x if x == x else NAN for x in a],
        [_exponential(x) for x in z],
        [math.pow(x, 2.0) for x in z],
        [((1e16 + 1.0) + (-1e16 + 2.0)) + ((3.0 + 2.5) + (0.5 + 9.0))] * 8,
    ]
    for place, numbers in enumerate(expected):
        row = out[8 * place : 8 * place + 8].tolist()
        assert all(map(same, row, numbers)), (place, row, numbers)


def _exponential(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def test_a_multiply_add_is_fused_where_the_target_can() -> None:
    from tapegpt.machine.emitter import Module

    def body(k: Builder, x: F64s) -> None:
        x[0] = k.mul_add(x[0], x[1], x[2])

    for target, fuses in ((AVX2, True), (SSE2, False)):
        module = Module(target)
        module.add(Kernel(body), {}, "body")
        assert ("@llvm.fma" in str(module)) is fuses


SPREADING: tuple[Callable[[Builder, Value, Value, Value], Value], ...] = (
    lambda k, a, b, c: k.mul_add(a, b, c),
    lambda k, a, b, c: k.select(a < b, b, c),
    lambda k, a, b, c: k.maximum(a, c) - k.minimum(c, b) / a,
    lambda k, a, b, c: k.pow(a, b) + k.pow(c, a),
)


@pytest.mark.parametrize("target", [HOST, INTERPRETED], ids=["compiled", "interpreted"])
def test_a_scalar_stands_for_all_lanes_in_every_operand(target: Target) -> None:
    def body(k: Builder, x: F64s, out: F64s) -> None:
        row = 0
        for word in SPREADING:
            for scalars in range(8):
                mixed = [x[4 * i] if scalars >> i & 1 else x.vector(4 * i, 4) for i in range(3)]
                for operands in (mixed, [k.spread(each, 4) for each in mixed]):
                    out.store(row, k.spread(word(k, *operands), 4))
                    row += 4

    x = array("d", [0.5, 2.25, 3.0, 1.5, 1.75, 0.25, 4.0, 1.25, 2.5, 0.75, 3.5, 1.125])
    out = array("d", bytes(8 * 4 * 2 * 8 * len(SPREADING)))
    Program({"body": (Kernel(body), {})}, target).run("body", address_of(x), address_of(out))
    for row in range(0, len(out), 8):
        assert out[row : row + 4] == out[row + 4 : row + 8]
        assert any(out[row : row + 4])


STEPS = st.tuples(st.sampled_from(sorted(kernels.OPERATIONS)), st.integers(0, 63), st.integers(0, 63))


@settings(max_examples=many(15))
@given(st.lists(STEPS, min_size=1, max_size=24), st.sampled_from(kernels.LANES), st.randoms(use_true_random=False))
def test_random_kernels_give_the_same_bits_everywhere(
    steps: list[kernels.Step], lanes: int, draw: random.Random
) -> None:
    assert not kernels.differences(steps, lanes, draw.choice)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [0, 8])
def test_every_operation_gives_the_same_bits_on_extreme_numbers(lanes: int) -> None:
    steps = [(name, first, second) for name in kernels.OPERATIONS for first, second in ((0, 1), (1, 2), (2, 0))]
    for chunk in range(0, len(steps), 48):
        assert not kernels.differences(steps[chunk : chunk + 48], lanes, random.Random(lanes).choice)


@kernel
def functions(k: Builder, x: F64s, y: F64s, out: F64s) -> None:
    out[0] = k.exp(x[0])
    out[1] = k.log(x[0])
    out[2] = k.pow(x[0], y[0])
    out[3] = k.pow(x[0], 2.0)
    out[4] = k.pow(x[0], 0.5)
    out[5] = k.libm("sin", x[0])
    out[6] = k.libm("cos", x[0])


@given(st.floats(1e-300, 600.0), st.floats(-3.0, 3.0))
def test_libm_is_the_one_behind_math(x: float, y: float) -> None:
    program = Program({"functions": (functions, {})})
    out = array("d", bytes(56))
    program.run("functions", address_of(array("d", [x])), address_of(array("d", [y])), address_of(out))
    expected = [math.exp(x), math.log(x), _power(x, y), x**2.0, x**0.5, math.sin(x), math.cos(x)]
    assert out.tolist() == expected


@pytest.mark.parametrize("y", SPECIAL)
def test_libm_of_special_numbers_is_interpreted_alike(y: float) -> None:
    programs = [Program({"functions": (functions, {})}, target) for target in (HOST, INTERPRETED)]
    for x in SPECIAL:
        results = [array("d", bytes(56)) for _ in programs]
        for program, out in zip(programs, results, strict=True):
            program.run("functions", address_of(array("d", [x])), address_of(array("d", [y])), address_of(out))
        assert all(map(same, *results)), x


def _power(x: float, y: float) -> float:
    try:
        return float(x**y)
    except OverflowError:
        return math.inf


@kernel
def fused(k: Builder, x: F64s, y: F64s, z: F64s, out: F64s) -> None:
    out.store(0, k.fma(x.vector(0, 2), y.vector(0, 2), z.vector(0, 2)))


@kernel
def fused32(k: Builder, x: F32s, y: F32s, z: F32s, out: F32s) -> None:
    out.store(0, k.fma(x.vector(0, 4), y.vector(0, 4), z.vector(0, 4)))


FUSING = INTERPRETED.replace(fma=True)


@pytest.mark.skipif(not HOST.fma, reason="this CPU has no fused multiply-add")
@given(DOUBLES, DOUBLES, DOUBLES)
@example(-2.7e16, -6.5e291, -math.inf)
@example(1e300, 1e300, math.inf)
@example(1e300, -1e300, math.nan)
def test_fused_multiply_add_rounds_once(a: float, b: float, c: float) -> None:
    program, interpreted = (Program({"fused": (fused, {})}, target) for target in (HOST, FUSING))
    out, expected = array("d", bytes(16)), array("d", bytes(16))
    operands = [address_of(array("d", [v, v])) for v in (a, b, c)]
    program.run("fused", *operands, address_of(out))
    interpreted.run("fused", *operands, address_of(expected))
    assert same(out[0], expected[0])
    assert same(out[0], fused_multiply_add(a, b, c))


SINGLES = st.floats(allow_nan=False, width=32)


@pytest.mark.skipif(not HOST.fma, reason="this CPU has no fused multiply-add")
@given(SINGLES, SINGLES, SINGLES)
@example(97 / 4096, 172961 / 4096, 2.0**-60)  # just above the middle of 1 and the next f32, where a double lies
@example(97 / 4096, 172961 / 4096, -(2.0**-60))
@example(-97 / 4096, 172961 / 4096, -(2.0**-60))
@example(2.0**-75, 2.0**-75, 2.0**-149)
@example(3.4028235e38, 2.0, -3.4028235e38)
def test_fused_multiply_add_of_singles_rounds_once(a: float, b: float, c: float) -> None:
    results = []
    for target in (HOST, FUSING):
        out = array("f", bytes(16))
        operands = [address_of(array("f", [v] * 4)) for v in (a, b, c)]
        Program({"fused": (fused32, {})}, target).run("fused", *operands, address_of(out))
        results.append(out)
    assert all(map(same, *results))


def test_fused_multiply_add_of_singles_where_doubles_round_twice() -> None:
    out, x, y, z = (array("f", [v] * 4) for v in (0.0, 97 / 4096, 172961 / 4096, 2.0**-60))
    Program({"fused": (fused32, {})}, FUSING).run("fused", *map(address_of, (x, y, z, out)))
    assert out[0] == 1 + 2.0**-23
    # Nearest in f64 is the odd neighbour of what lies halfway between two singles, and stays.
    out, x, y, z = (array("f", [v] * 4) for v in (0.0, 1 - 800 / 2**24, 2.0**-24 * (1 + 400 / 2**23), 1 + 2.0**-23))
    Program({"fused": (fused32, {})}, FUSING).run("fused", *map(address_of, (x, y, z, out)))
    assert out[0] == 1 + 2.0**-23


def arithmetic(k: Builder, x: F32s, out: F32s, wide: F64s) -> None:
    """What takes or computes floats, each from the numbers given."""
    lanes = k.width(F32)
    a, b, one = x.vector(0, lanes), x.vector(lanes, lanes), k.constant(1, F32, lanes)
    results = [a + b, a - b, a * b, a / b, k.sqrt(a), k.select(a > b, one, 2.0), k.select(a.equals(0.0), one, 2.0)]
    results += [k.fma(a, b, a)] if k.target.fma else []
    for place, result in enumerate(results):
        out.store(place * lanes, result)
    wide[1] = wide[0] * 0.5
    wide[2] = k.convert(x[0], F64)


def flush(number: float, smallest: float = 2.0**-126) -> float:
    return math.copysign(0.0, number) if abs(number) < smallest else number


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_entries_of_f32_take_subnormal_numbers_for_zero(target: Target) -> None:
    """Other entries compute with them."""
    programs = [Program({"entry": (Kernel(arithmetic, real=real), {})}, target) for real in (F32, F64)]
    lanes = max(1, target.vector_bytes // 4)

    def run(program: Program, a: float, b: float, wide: float) -> tuple[list[float], list[float]]:
        x, out, doubles = array("f", [a] * lanes + [b] * lanes), array("f", bytes(32 * lanes)), array("d", [wide, 0, 0])
        program.run("entry", *map(address_of, (x, out, doubles)))
        return out.tolist(), doubles.tolist()[1:]

    numbers, flushed = [0.0, 2.0**-149, 0.75 * 2.0**-126, 1.5 * 2.0**-126, 2.0**-70, 1.0], 0
    for a in numbers:
        for b in [*numbers, *[-number for number in numbers]]:
            results, (half, copy) = run(programs[0], a, b, 2.0**-1022)
            expected, (other_half, other_copy) = run(programs[1], flush(a), flush(b), 2.0**-1022)
            assert all(map(same, results, map(flush, expected))), (a, b)
            assert (half, other_half) == (0.0, 2.0**-1023)
            assert (copy, other_copy) == (flush(a), flush(a))
            flushed += results != run(programs[1], a, b, 0.0)[0]
    assert flushed > 40


@kernel
def fill(k: Builder, out: I64s, start: Int, stop: Int, *, step: int) -> None:
    count = k.variable(k.integer(0))
    for i in k.range(start, stop, step):
        for _ in k.when((i % 3).differs(1)):
            out[count] = i
            count += 1
    turns = k.variable(k.integer(0))
    for _ in k.repeat_while(lambda: turns * turns < count):
        turns += 1
    out[count] = turns


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
@pytest.mark.parametrize(("start", "stop", "step"), [(0, 10, 1), (0, 0, 1), (2, 40, 7), (5, -9, -2), (3, 9, -1)])
def test_loops_and_conditions(target: Target, start: int, stop: int, step: int) -> None:
    kept = [i for i in range(start, stop, step) if math.fmod(i, 3) != 1]
    program = Program({"fill": (fill, {"step": step})}, target)
    out = array("q", bytes(8 * 32))
    program.run("fill", address_of(out), start, stop)
    assert out[: len(kept)].tolist() == kept
    assert out[len(kept)] == math.ceil(math.sqrt(len(kept)))


@kernel
def narrow(k: Builder, words_: U32s, singles: F32s, longs: I64s, x: Real) -> None:
    words_[1] = words_[0] * 5 + 1
    longs[0] = words_[0]
    singles[1] = singles[0] * 3.0
    singles[2] = singles[0] / 7.0
    singles.store(3, singles.vector(0, 2) + singles[0])
    longs[1] = k.convert(x, I64)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
def test_narrow_types(target: Target) -> None:
    program = Program({"narrow": (narrow, {})}, target)
    words_, singles, longs = array("I", [0xFFFFFFFF, 0]), array("f", [0.1, 0, 0, 0, 0]), array("q", [0, 0])
    program.run("narrow", address_of(words_), address_of(singles), address_of(longs), -2.75)
    assert words_[1] == (0xFFFFFFFF * 5 + 1) & 0xFFFFFFFF
    assert longs.tolist() == [0xFFFFFFFF, -2]
    single = array("f", [0.1])[0]
    expected = array("f", [single * 3.0, single / 7.0, single + single])
    assert [singles[1], singles[2], singles[3]] == expected.tolist()


@kernel
def single_of(k: Builder, n: I64s, x: F32s) -> None:
    x[0] = k.convert(n[0], F32)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_integers_become_singles_with_one_rounding(target: Target) -> None:
    middle = 2**62 + 2**38  # of two singles; the next integer rounds up, though to a double it rounds down
    for number, expected in ((middle, 2.0**62), (middle + 1, 2.0**62 + 2.0**39), (-middle - 1, -(2.0**62) - 2.0**39)):
        x = array("f", [0.0])
        Program({"single_of": (single_of, {})}, target).run(
            "single_of", address_of(array("q", [number])), address_of(x)
        )
        assert x[0] == expected


@kernel
def inner(k: Builder, x: F64s, *, factor: float) -> None:
    x[0] = x[0] * factor


@kernel
def outer(k: Builder, x: F64s) -> None:
    inner(k, x, factor=3.0)
    inner(k, x + 1, factor=5.0)
    inner(k, x, factor=3.0)


@pytest.mark.parametrize("target", [HOST, INTERPRETED], ids=["compiled", "interpreted"])
def test_kernels_call_kernels(target: Target) -> None:
    x = array("d", [1.0, 1.0])
    program = Program({"outer": (outer, {})}, target)
    program.run("outer", address_of(x))
    assert x.tolist() == [9.0, 5.0]
    assert program.ir().count("define internal") == 2  # one function for each set of constants


@pytest.mark.parametrize("target", [HOST, INTERPRETED], ids=["compiled", "interpreted"])
def test_an_address_may_lie_within_an_array(target: Target) -> None:
    x = array("d", [1.0, 1.0, 1.0])
    Program({"outer": (outer, {})}, target).run("outer", address_of(x, 1))
    assert x.tolist() == [1.0, 9.0, 5.0]


@pytest.mark.parametrize("target", [HOST, INTERPRETED], ids=["compiled", "interpreted"])
def test_what_is_done_is_counted_lane_by_lane_and_byte_by_byte(target: Target) -> None:
    """With what each element has in memory, and over all calls."""

    def moves(k: Builder, d: F64s, f: F32s, q: I64s, u: U32s, counts: I64s) -> None:
        for pointer in (d, f, q, q.cast(I32), u):
            pointer[0] = pointer[1]
            pointer.store(0, pointer.vector(0, 4))
        q[0] = q[0] + 1  # of integers memory alone
        d[0] = k.sqrt(d[0]) + k.exp(d[1])
        f.store(0, k.select(f.vector(0, 4) < 1.0, f.vector(0, 4), 1.0 / f.vector(0, 4)))

    counted = ("loaded", "stored", "add", "div", "sqrt", "exp", "compare", "mul")
    program = Program({"moves": (Kernel(moves), {})}, target, counted)
    numbers = [array(code, [1] * 4) for code in "dfqI"]
    counts = array("q", bytes(8 * len(counted)))
    for runs in (1, 2):
        program.run("moves", *map(address_of, numbers), address_of(counts))
        moved = 5 * (8 + 4 + 8 + 4 + 4) + 8
        assert counts.tolist() == [runs * n for n in (moved + 2 * 8 + 3 * 16, moved + 8 + 16, 1, 4, 1, 1, 4, 0)]


def test_kernels_of_one_name_stay_apart() -> None:
    def twice(k: Builder, x: F64s) -> None:
        x[0] = x[0] * 2.0

    def thrice(k: Builder, x: F64s) -> None:
        x[0] = x[0] * 3.0

    first, second = Kernel(twice, "same"), Kernel(thrice, "same")

    def both(k: Builder, x: F64s) -> None:
        first(k, x)
        second(k, x)
        first(k, x)

    x = array("d", [1.0])
    Program({"same": (Kernel(both), {})}).run("same", address_of(x))
    assert x[0] == 12.0


def wrong(body: object) -> None:
    Module(HOST).add(Kernel(body), {}, "wrong")  # type: ignore[arg-type]


def test_errors_name_what_is_wrong() -> None:
    def mixed(k: Builder, x: F64s, n: Int) -> None:
        x[0] = x[0] + n

    def truth(k: Builder, x: F64s) -> None:
        if x[0] > 1.0:
            x[0] = 1.0

    def lanes(k: Builder, x: F64s) -> None:
        x.store(0, x.vector(0, 4) + x.vector(0, 2))

    def lane(k: Builder, x: F64s) -> None:
        x[0] = x.vector(0, 2).lane(2)

    def fraction(k: Builder, n: I64s) -> None:
        n[0] = n[0] + 0.5

    def bits_of_float(k: Builder, x: F64s) -> None:
        x[0] = x[0] & 1

    def step(k: Builder, x: F64s, n: Int) -> None:
        for i in k.range(0, 5, n):
            x[i] = 0.0

    def plain(k: Builder, x: F64s) -> None:
        x[0] = k.maximum(1.0, 2.0)

    def left_early(k: Builder, x: F64s) -> None:
        for i in k.range(5):
            x[i] = 0.0
            break

    def argument(k: Builder, x: F64s, n: Int) -> None:
        inner(k, n, factor=1.0)

    def count(k: Builder, x: F64s) -> None:
        inner(k, factor=1.0)

    expected = [
        (mixed, "i64 where f64 is meant"),
        (truth, "no truth"),
        (lanes, "where 4 lanes are meant"),
        (lane, "lane 2 of f64 x 2"),
        (fraction, "0.5 where i64 is meant"),
        (bits_of_float, "and of f64"),
        (step, "step of k.range"),
        (plain, "plain numbers"),
        (left_early, "left early"),
        (argument, "x must be a f64 pointer"),
        (count, "takes 1 arguments, not 0"),
    ]
    for body, message in expected:
        with pytest.raises(KernelError, match=message):
            wrong(body)

    def untyped(k: Builder, x) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        x[0] = 0.0

    with pytest.raises(KernelError, match="annotate"):
        Program({"untyped": (Kernel(untyped), {})})


def test_fused_multiply_add_must_be_there() -> None:
    from tapegpt.machine.emitter import Module

    with pytest.raises(KernelError, match="no fused multiply-add"):
        Module(SSE2).add(fused, {}, "fused")


def test_vectors_cover_exactly() -> None:
    k = Interpreter(AVX512)
    for count in range(70):
        covered = [at + lane for at, lanes in k.vectors(count) for lane in range(lanes)]
        assert covered == list(range(count))
        widest = [8] * (count // 8) + [lanes for lanes in (4, 2, 1) if count % 8 & lanes]
        assert [lanes for _, lanes in k.vectors(count)] == widest


@pytest.mark.parametrize("size", [0, 1, 4096, 4104])
def test_memory_is_zeroed_and_aligned(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "__init__", PLAIN)  # which tests have replaced
    memory = Memory(size)
    assert memory.at(0).number % 4096 == 0
    assert bytes(memory.at(0).view) == bytes(max(size, 1))
    if size >= 4096:
        memory.words(8, 2)[1] = 7
        memory.floats(size - 4, 1, 4)[0] = 1.0
        assert bytes(memory.at(8).view[:8]) == b"\0\0\0\0\7\0\0\0"
        assert ctypes.string_at(memory.at(8).number, size - 8) == bytes(memory.at(8).view)
        assert memory.floats(size - 8, 1)[0] == struct.unpack("<d", b"\0\0\0\0\0\0\x80\x3f")[0]


def test_memory_that_is_not_there_is_told_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "__init__", PLAIN)
    with pytest.raises(MemoryError, match=r"^4,611,686,018,427,387,904 bytes$"):
        Memory(1 << 62)


def test_memory_is_aligned_as_its_elements_are() -> None:
    def moves(k: Builder, d: F64s, f: F32s, u: U32s, q: I64s) -> None:
        for pointer in (d, f, u, q):
            pointer[0] = pointer[1]
            pointer.store(0, pointer.vector(0, 4))

    module = Module(HOST)
    module.add(Kernel(moves), {}, "moves")
    sizes = {"double": "8", "float": "4", "i32": "4", "i64": "8"}
    moved = re.findall(r"(?:load|store) (?:<4 x )?(\w+).*, align (\d+)", str(module))
    assert len(moved) == 16
    assert all(sizes[kind] == align for kind, align in moved)


@pytest.mark.parametrize(
    ("target", "error"),  # of its estimate, as its maker promises
    [(AVX512, 2.0**-14), (AVX2, 1.5 * 2.0**-12), (SSE2, 1.5 * 2.0**-12), (NEON, 2.0**-8)],
    ids=str,
)
def test_an_estimate_is_made_better_as_often_as_it_must_be(target: Target, error: float) -> None:
    def estimates(k: Builder, x: F32s) -> None:
        x.store(0, k.reciprocal_sqrt(x.vector(0, k.width(F32))))

    module = Module(target)
    module.add(Kernel(estimates), {}, "estimates")
    for _ in range(str(module).count("float 0xBFE0000000000000")):  # -0.5
        assert error > 3e-7
        error = 1.5 * error**2
    assert error < 3e-7


@pytest.mark.parametrize(("target", "error"), [(AVX512, 2.0**-14), (NEON, 1.5 * 2.0**-16)], ids=str)
def test_an_estimate_of_f64_has_the_bits_that_it_must_have(target: Target, error: float) -> None:
    def estimates(k: Builder, x: F64s) -> None:
        x.store(0, k.reciprocal_sqrt(x.vector(0, k.width())))

    module = Module(target)
    module.add(Kernel(estimates), {}, "estimates")
    assert str(module).count("double 0xBFE0000000000000") == (target is NEON)  # a step from an error of 2^-8
    assert error < 2.0**-13


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
def test_inverse_roots_of_f64_are_near_in_vectors_of_any_width(target: Target) -> None:
    def roots(k: Builder, x: F64s, y: F64s) -> None:
        for row, lanes in enumerate((1, 2, 4, 8)):
            y.store(8 * row, k.reciprocal_sqrt(x.vector(0, lanes)))

    x, y = (
        array("d", [3.0 * 2.0**exponent for exponent in (-1022, -500, -51, -2, 1, 52, 333, 1021)]),
        array("d", bytes(256)),
    )
    Program({"roots": (Kernel(roots), {})}, target).run("roots", address_of(x), address_of(y))
    for row, lanes in enumerate((1, 2, 4, 8)):
        found = y[8 * row : 8 * row + lanes].tolist()
        assert found == pytest.approx([number**-0.5 for number in x[:lanes]], rel=2.0**-13)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
def test_inverse_roots_of_f64_are_near_everywhere(target: Target) -> None:
    def roots(k: Builder, x: F64s, n: Int) -> None:
        for at in k.range(0, n, k.width()):
            x.store(at, k.reciprocal_sqrt(x.vector(at, k.width())))

    numbers = [2.0**exponent * (1 + 3 * i / 4096) for exponent in (-1022, -2, 1020) for i in range(4096)]
    x = array("d", numbers)
    Program({"roots": (Kernel(roots), {})}, target).run("roots", address_of(x), len(x))
    assert max(abs(root * math.sqrt(number) - 1) for root, number in zip(x, numbers, strict=True)) < 2.0**-13


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
def test_inverse_roots_are_near_in_vectors_of_any_width(target: Target) -> None:
    def roots(k: Builder, x: F32s, y: F32s, d: F64s) -> None:
        for row, lanes in enumerate((1, 2, 4, 8, 16)):
            y.store(16 * row, k.reciprocal_sqrt(x.vector(0, lanes)))
        d[0] = k.reciprocal_sqrt(d[0])

    x, y, d = array("f", [0.1 * 3.0**i for i in range(16)]), array("f", bytes(4 * 80)), array("d", [3.0])
    Program({"roots": (Kernel(roots), {})}, target).run("roots", *map(address_of, (x, y, d)))
    for row, lanes in enumerate((1, 2, 4, 8, 16)):
        found = y[16 * row : 16 * row + lanes].tolist()
        assert found == pytest.approx([number**-0.5 for number in x[:lanes]], rel=3e-7)
    assert d[0] == 1.0 / math.sqrt(3.0)


def test_a_back_end_that_lacks_a_primitive_cannot_be_made() -> None:
    partial = type("Partial", (Interpreter,), {"_shuffle": Builder._shuffle})
    with pytest.raises(TypeError, match=r"abstract class Partial .*_shuffle"):
        partial(AVX512)


def test_targets_are_detected() -> None:
    assert detect("flags : sse2 avx2 fma avx512f avx512dq avx512vl avx512bw", "x86_64") is AVX512
    assert detect("flags : sse2 avx2 fma avx512f", "x86_64") is AVX2
    for lacking in ("avx2", "fma"):
        assert detect(f"flags : sse2 {lacking}", "x86_64") is SSE2
    wide = ["avx512f", "avx512dq", "avx512vl", "avx512bw"]
    for place in range(4):
        flags = " ".join(wide[:place] + wide[place + 1 :])
        assert detect(f"flags : sse2 avx2 fma {flags}", "x86_64") is AVX2
    assert detect("flags : sse2", "x86_64") is SSE2
    assert detect("Features : asimd", "aarch64").name == "neon"
    assert cpu_identity()
    assert [target.name for target in available(AVX512)] == ["avx512", "avx2", "sse2", "interpreted"]
    assert [target.name for target in available(NEON)] == ["neon", "interpreted"]
