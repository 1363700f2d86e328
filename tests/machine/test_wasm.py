"""WebAssembly modules of kernels: they compute as the interpreter does, and loaders find what they look for.

Random kernels are in `kernels.py`, an engine's in `tests/engines/test_exact.py`.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config
from tapegpt.engines import exact_kernels
from tapegpt.engines.fast import kernels as fast_kernels
from tapegpt.machine.host import RELAXED
from tapegpt.machine.language import F32, F64, I32, I64, Builder, F32s, F64s, I64s, Int, Kernel, U32s
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import KernelError
from tapegpt.machine.target import INTERPRETED, WASM
from tapegpt.machine.wasm import Module
from tests.machine import kernels
from tests.machine.sandbox import ENGINE, Sandbox

Entries = dict[str, tuple[Kernel, dict[str, Any]]]


def body(k: Builder, x: F64s, n: Int) -> None:
    table = k.table((1.5, -2.0, 0.25), F64)
    for i in k.range(n):
        x[i] = k.exp(x[i]) + table[i % 3]


@pytest.mark.parametrize("is_side", [False, True])
def test_modules_say_what_they_need(is_side: bool) -> None:
    module = Module(WASM, is_side=is_side)
    module.add(Kernel(body), {}, "sum of all")
    code = module.binary()
    parsed = wasmtime.Module(ENGINE, code)
    imports = [(each.module, each.name) for each in parsed.imports]
    exports = [each.name for each in parsed.exports]
    outside = [("env", "exp")]
    if is_side:
        assert imports == [*outside, ("env", "memory"), ("env", "__memory_base")]
        assert exports == ["sum of all"]
        needs = b"\x08dylink.0" + b"\x01\x04" + b"\x20\x04\x00\x00"  # 32 bytes at a multiple of 16, no table
        assert code[8 : 10 + len(needs)] == bytes([0, len(needs)]) + needs
    else:
        assert imports == outside
        assert exports == ["sum of all", "memory", "__heap_base"]


def random_kernels() -> Entries:
    generator, entries = random.Random(1), {}
    for number, lanes in enumerate(kernels.LANES):
        steps = [(name, generator.randrange(64), generator.randrange(64)) for name in kernels.OPERATIONS]
        entries[f"kernel {number}"] = Kernel(kernels.body), {"steps": tuple(steps), "lanes": lanes}
    return entries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "is_side"),
    [
        (lambda: {'a "name" é': (Kernel(body), {})}, False),
        (lambda: {'a "name" é': (Kernel(body), {})}, True),
        (lambda: exact_kernels.build(Config(1, 6, 2, 3), 7, WASM)[1], True),
        (lambda: fast_kernels.build(Config(1, 6, 2, 3), 7, WASM)[1], False),
        (random_kernels, False),
    ],
    ids=["names", "side", "exact", "fast", "random"],
)
def test_an_assembler_makes_the_same_bytes_of_the_text(entries: Callable[[], Entries], is_side: bool) -> None:
    module = Module(WASM.replace(relaxed=True), is_side=is_side)
    for name, (kernel, constants) in entries().items():
        module.add(kernel, constants, name)
    ours, theirs = (list(sections(code)) for code in (module.binary(), wasmtime.wat2wasm(str(module))))
    assert ours == [each for each in theirs if each[:6] != b"\0\4name"]  # names of functions and locals


def sections(code: bytes | bytearray) -> Iterator[bytes]:
    """A module's sections, without their sizes."""
    place = 8
    while place < len(code):
        number, size, shift = code[place], 0, 0
        while shift == 0 or code[place] & 128:
            place += 1
            size |= (code[place] & 127) << shift
            shift += 7
        place += 1 + size
        yield bytes([number]) + bytes(code[place - size : place])


Term = tuple[str, int]  # an operation and a constant
COUNT = 6


def index_of(start: Any, terms: tuple[Term, ...]) -> Any:
    """A whole number that begins as another, of a kernel or of Python."""
    number = start
    for operation, constant in terms:
        number = {"+": number + constant, "-": constant - number, "*": number * constant, "i": number + start}[
            operation
        ]
    return number


def gather(k: Builder, x: F64s, back: I64s, out: F64s, *, terms: tuple[Term, ...], ahead: int) -> None:
    for i in k.range(COUNT):
        for j in k.range(2):
            out[2 * i + j] = (x + index_of(i, terms))[j - back[i] + ahead]


@given(
    st.lists(st.tuples(st.sampled_from("+-*i"), st.integers(-40, 40)), max_size=5).map(tuple), st.integers(-500, 500)
)
def test_indices_of_any_sign_lead_to_the_same_elements(terms: tuple[Term, ...], ahead: int) -> None:
    back = array("q", [index_of(i, terms) - i + ahead for i in range(COUNT)])
    x, out = array("d", range(COUNT + 1)), array("d", [0.0] * 2 * COUNT)
    entries = {"gather": (Kernel(gather), {"terms": terms, "ahead": ahead})}
    Sandbox(entries, WASM).run("gather", address_of(x), address_of(back), address_of(out))
    assert out.tolist() == [i + j for i in range(COUNT) for j in range(2)]


def multiply_and_add(k: Builder, x: F64s, y: F32s, *, lanes: int) -> None:
    for pointer in (x, y):
        a, b, c = (pointer.vector(i * lanes, lanes) for i in range(3))
        pointer.store(3 * lanes, k.mul_add(a, b, c))


@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 99))
def test_a_relaxed_multiply_add_rounds_once_or_twice(lanes: int, seed: int) -> None:
    generator = random.Random(seed)
    given, results = [array(code, [generator.gauss() for _ in range(4 * lanes)]) for code in "df"], []
    for fma, relaxed in ((True, False), (False, False), (False, True)):
        target, numbers = (WASM if relaxed else INTERPRETED).replace(fma=fma, relaxed=relaxed), [x[:] for x in given]
        make = Sandbox if relaxed else Program
        entries = {"multiply": (Kernel(multiply_and_add), {"lanes": lanes})}
        make(entries, target).run("multiply", *map(address_of, numbers))
        results.append([*numbers[0], *numbers[1]])
    assert all(number in (once, twice) for once, twice, number in zip(*results, strict=True))


def test_a_fused_multiply_add_is_refused() -> None:
    def body(k: Builder, x: F64s) -> None:
        x[0] = k.fma(x[0], x[1], x[2])

    for target in (WASM, WASM.replace(fma=True)):
        with pytest.raises(KernelError, match="has no fused multiply-add"):
            Module(target).add(Kernel(body), {}, "fused")


def test_whether_there_is_relaxed_simd_is_asked_with_a_module_that_has_it() -> None:
    configuration = wasmtime.Config()
    assert wasmtime.Module.validate(wasmtime.Engine(configuration), RELAXED) is None
    configuration = wasmtime.Config()
    configuration.wasm_relaxed_simd = False
    with pytest.raises(wasmtime.WasmtimeError, match="relaxed SIMD"):
        wasmtime.Module.validate(wasmtime.Engine(configuration), RELAXED)


def vectors(k: Builder, x: F64s, y: F32s, z: I64s, u: U32s, out: F64s, *, lanes: int) -> None:
    a, b, c, d = (pointer.vector(0, lanes) for pointer in (x, y, z, u))
    kinds = (
        (a, F32),
        (a, I64),
        (a, I32),
        (b, F64),
        (b, I32),
        (c, F64),
        (c, F32),
        (c, I32),
        (k.lane_numbers(lanes), I64),
    )
    masks = (a < 0.0, b < 0.0, b < -100.0, c > d, (a < 0.0) & (b < 0.0), k.logical_not(b < 0.0) ^ (c > d))
    results = [a * 2.0, b + 1.0, c * d, d - 1, k.insert(b, lanes - 1, k.real32(9.0)), k.splat(b.lane(lanes - 1), lanes)]
    results += [k.convert(value, kind) for value, kind in kinds]
    results += [k.select(mask, value, 7) for mask in masks for value in (a, b, c)]
    results += [k.shuffle(value, value, list(range(lanes))[::-1]) for value in (a, b, c)]
    for place, result in enumerate(results):
        out.cast(result.type).store(place * lanes * 8 // result.type.size, result)
    flags = (out + len(results) * lanes).cast(I64)
    for place, mask in enumerate(masks):
        flags[2 * place], flags[2 * place + 1] = k.pack_bits(mask), k.select(k.any(mask), k.integer(1), 0)
    u.store(0, d + 5)


@pytest.mark.parametrize("lanes", [2, 3, 5, 6, 8, 12])
def test_vectors_have_any_number_of_lanes(lanes: int) -> None:
    generator, results = random.Random(lanes), []
    given = [array(code, [generator.randrange(9 if code == "I" else 19) for _ in range(lanes)]) for code in "dfqI"]
    given[:3] = [array(numbers.typecode, [number - 9 for number in numbers]) for numbers in given[:3]]
    for make, target in ((Program, INTERPRETED), (Sandbox, WASM)):
        numbers: list[array[Any]] = [*(each[:] for each in given), array("d", bytes(8 * (40 * lanes + 12)))]
        make({"vectors": (Kernel(vectors), {"lanes": lanes})}, target).run("vectors", *map(address_of, numbers))
        results.append([each.tobytes() for each in numbers])
    assert results[0] == results[1]
