"""The exact engine: == microgpt.py's published numbers, == the reference engine, on every vector unit.

Then what its speed rests on: squares, roots and quotients that are pow's and the divider's.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import random
import struct
import subprocess
import sys
from array import array
from itertools import accumulate, chain
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import Config, Corpus, DivergedError, Random, Trainer
from tapegpt.autograd.operations.certified import (
    GROUP,
    TINY,
    Divisor,
    decay,
    exp,
    other_quotient,
    power,
    slack,
    square,
    square_root,
)
from tapegpt.data.tokens import Strings, Tokens
from tapegpt.engines.adam import Schedule, adam_update, expect_tiny, scratch_size
from tapegpt.engines.base import Adam, Engine, Parameters
from tapegpt.engines.compiled import Numbers
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.machine import host
from tapegpt.machine.host import available, c_library, exp_form, has_known_pow, host_target
from tapegpt.machine.language import F64, Builder, F64s, I64s, Int, Kernel, Real, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import INTERPRETED, WASM, Target
from tests.machine.sandbox import Sandbox
from tests.properties import many

HOST = host_target()
BEST = available(HOST)[0]
CERTAIN = INTERPRETED.replace(vector_bytes=16, fma=True, certified=BEST.certified, known_exp=BEST.known_exp)
OTHERS = [*available(HOST)[1:], CERTAIN]
if HOST.certified:
    OTHERS.append(HOST.replace(certified=False, known_exp=""))  # as where the C library is another
with_glibc = pytest.mark.skipif(
    not has_known_pow(c_library()), reason="the numbers are those of glibc's exp, log and pow"
)


def parameters(config: Config, vocab_size: int, rng: random.Random, deviation: float = 0.3) -> Parameters:
    return {
        name: array("d", [rng.gauss(0, deviation) for _ in range(rows * columns)])
        for name, (rows, columns) in config.shapes(vocab_size).items()
    }


def documents(vocab_size: int, rng: random.Random, *lengths: int) -> Tokens:
    """Random documents of these lengths."""
    bos = vocab_size - 1
    ids, starts = array("I", [bos]), array("q", [0])
    for length in lengths:
        ids.extend([rng.randrange(bos) for _ in range(length)] + [bos])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)


def outcome(engine: Engine, start: Parameters, tokens: Tokens, steps: int) -> tuple[list[float], object, object]:
    engine.load_parameters(start)
    losses = engine.train(tokens, Adam(steps=steps), 0, steps)
    strings = engine.generate(Random(7), 3, 0.7)
    return losses, {name: values.tolist() for name, values in engine.parameters().items()}, strings


@with_glibc
def test_the_published_run(shared: Path) -> None:
    def numbers(name: str) -> list[float]:
        return [float.fromhex(line) for line in (shared / "oracle" / name).read_text().split()]

    trainer = Trainer(Corpus.read(shared / "data" / "names.txt"), Config())
    assert trainer.run(1000) == numbers("names_default_losses.hex")
    flat = [number for values in trainer.model.parameters.values() for number in values]
    assert flat == numbers("names_default_params.hex")
    assert trainer.model.generate(20) == (shared / "oracle" / "names_default_samples.txt").read_text().split()


@pytest.mark.slow
@with_glibc
def test_the_run_on_the_embedded_names() -> None:
    """The same facts for a checkout that is alone; the reference engine computed them in its 200 seconds."""
    trainer = Trainer(Corpus.dataset("names"), Config())
    losses = trainer.run(1000)
    first = many(8, few=2)
    assert losses[:first] == Trainer(Corpus.dataset("names"), Config(), engine="reference").run(first)
    assert losses[-1].hex() == LAST_LOSS
    flat = array("d", [number for values in trainer.model.parameters.values() for number in values])
    assert (len(flat), hashlib.sha256(struct.pack(f"<{len(flat)}d", *flat)).hexdigest()) == (4192, DIGEST)
    assert trainer.model.generate(20) == STRINGS


LAST_LOSS = "0x1.12c33f99d65a1p+1"
DIGEST = "1eafd03b71c863ab88ac7fd8d998c6b776a3b512b3feae368079a54320730efe"
STRINGS = [
    "shela",
    "marin",
    "selele",
    "lela",
    "arynen",
    "tosha",
    "ho",
    "noria",
    "elerina",
    "sherin",
    "lely",
    "nana",
    "elenia",
    "sovis",
    "elane",
    "larin",
    "sela",
    "darice",
    "corie",
    "lolde",
]


def heads_of(width: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.sampled_from([(width, heads) for heads in range(1, width + 1) if width % heads == 0])


@pytest.mark.slow
@settings(max_examples=many(10, few=3))
@given(
    st.integers(1, many(3, few=2)),
    st.integers(4, many(18, few=12)).flatmap(heads_of),
    st.integers(2, many(12, few=8)),
    st.integers(2, 30),
    st.integers(0, 999),
)
def test_equals_the_reference(layers: int, width: tuple[int, int], block: int, vocab_size: int, seed: int) -> None:
    config = Config(layers, width[0], width[1], block)
    rng = random.Random(seed)
    start = parameters(config, vocab_size, rng)
    tokens = documents(vocab_size, rng, 1, rng.randrange(1, block + 1), block + 3)
    steps = many(3, few=2)  # the second step sees what the first one changed
    exact = outcome(ExactEngine(config, vocab_size), start, tokens, steps)
    assert exact == outcome(ReferenceEngine(config, vocab_size), start, tokens, steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "length"), [(Config(1, 12, 3, 32), 40), (Config(1, 48, 4, 3), 2), (Config(1, 33, 11, 2), 5)], ids=repr
)
def test_equals_the_reference_where_loops_are_long(config: Config, length: int) -> None:
    rng = random.Random(1)
    start, tokens = parameters(config, 70, rng), documents(70, rng, length)
    exact, reference = ExactEngine(config, 70), ReferenceEngine(config, 70)
    for engine in (exact, reference):
        engine.load_parameters(start)
    adam, steps = Adam(steps=2), many(2, few=1)
    assert exact.train(tokens, adam, 0, steps) == reference.train(tokens, adam, 0, steps)
    assert exact.parameters() == reference.parameters()


@pytest.mark.slow
@pytest.mark.parametrize("target", OTHERS, ids=lambda t: f"{t.name}-{8 * t.vector_bytes}-{t.certified}")
@pytest.mark.parametrize("config", [Config(1, 8, 2, 4), Config(1, 10, 2, 9)], ids=["whole", "odd"])
def test_every_vector_unit_gives_the_same_bits(target: Target, config: Config) -> None:
    rng = random.Random(2)
    steps = many(2, few=1) if target.name == "interpreted" else 30
    block = config.block_size
    start, tokens = parameters(config, 11, rng), documents(11, rng, 1, block - 1, block, block + 3)
    assert outcome(ExactEngine(config, 11, target), start, tokens, steps) == outcome(
        ExactEngine(config, 11), start, tokens, steps
    )


@pytest.mark.slow
@pytest.mark.parametrize("config", [Config(1, 8, 2, 4), Config(2, 10, 2, 9)], ids=repr)
def test_webassembly_gives_the_same_bits(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    block = config.block_size
    start, tokens = parameters(config, 11, rng), documents(11, rng, 1, block - 1, block, block + 3)
    expected = outcome(ExactEngine(config, 11), start, tokens, many(30, few=4))
    monkeypatch.setattr("tapegpt.machine.program.Program", Sandbox)
    assert outcome(ExactEngine(config, 11, WASM), start, tokens, many(30, few=4)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("text", [["a"], ["aaaaaaaaaaaaaaaaaaaaaaaa", "a"], ["żółw", "🐢 черепаха", "亀", "e\u0301"]])
def test_odd_corpora(text: list[str]) -> None:
    corpus = Corpus.of(text)
    runs = [Trainer(corpus, Config(1, 4, 2, 6), steps=5, engine=engine) for engine in ("exact", "reference")]
    assert runs[0].run(5) == runs[1].run(5)
    assert runs[0].model.parameters == runs[1].model.parameters
    assert runs[0].model.generate(4) == runs[1].model.generate(4)


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(0, 1), max_size=7), min_size=1, max_size=12), st.booleans())
def test_what_strings_begin_with_is_evaluated_once(strings: list[list[int]], is_sorted: bool) -> None:
    config, vocab_size = Config(2, 4, 2, 8), 3
    ids = [*chain.from_iterable([2, *string] for string in (sorted(strings) if is_sorted else strings)), 2]
    starts = [place for place, token in enumerate(ids) if token == 2]
    engines = ExactEngine(config, vocab_size), ReferenceEngine(config, vocab_size)
    for engine in engines:
        engine.load_parameters(parameters(config, vocab_size, random.Random(5)))
    exact, reference = (engine.evaluate(Tokens(array("I", ids), array("q", starts))) for engine in engines)
    assert exact == reference


@pytest.mark.slow
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_chunks_change_nothing(cuts: list[int]) -> None:
    steps = sum(cuts)
    corpus = Corpus.of(["anna", "otto", "bob"])
    whole, cut = (Trainer(corpus, Config(1, 8, 2, 8), steps=steps) for _ in range(2))
    assert whole.run(steps) == [loss for count in cuts for loss in cut.run(count)]
    assert whole.model.parameters == cut.model.parameters


def test_divergence_keeps_the_last_good_parameters() -> None:
    corpus, config = Corpus.of(["anna", "otto", "bob"]), Config(1, 8, 2, 8)
    bad = Trainer(corpus, config, steps=50, learning_rate=1000.0)
    with pytest.raises(DivergedError) as caught:
        bad.run(50)
    good = Trainer(corpus, config, steps=50, learning_rate=1000.0)
    assert good.run(caught.value.step) == caught.value.losses
    assert caught.value.losses
    before = good.model.parameters
    assert all(math.isfinite(number) for values in before.values() for number in values)
    with pytest.raises(DivergedError, match="choose a smaller learning_rate") as again:
        good.run(50)
    assert again.value.losses == []
    assert good.model.parameters == bad.model.parameters == before
    assert good.step == bad.step == again.value.step == caught.value.step


@pytest.mark.slow
def test_loaded_parameters_start_the_moments_again() -> None:
    config, rng = Config(1, 4, 1, 4), random.Random(0)
    start, tokens = parameters(config, 3, rng), documents(3, rng, 3)
    engine = ExactEngine(config, 3)
    losses = []
    for _ in range(2):
        engine.load_parameters(start)
        losses.append(engine.train(tokens, Adam(), 0, 5))
    assert losses[0] == losses[1]


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    config, rng = Config(1, 4, 1, 4), random.Random(0)
    start, tokens = parameters(config, 3, rng), documents(3, rng, 3)
    start["layer0.mlp_fc2"] = array("d", [number * 1e160 for number in start["layer0.mlp_fc2"]])
    start["lm_head"] = array("d", [number * 1e-160 for number in start["lm_head"]])
    exact, reference = ExactEngine(config, 3), ReferenceEngine(config, 3)
    reference.load_parameters(start)
    assert math.isfinite(reference.loss(tokens.ids).data)
    for engine in (exact, reference):
        engine.load_parameters(start)
        with pytest.raises(DivergedError):
            engine.train(tokens, Adam(), 0, 1)
        assert engine.parameters() == start


EXTREME = Config(1, 4, 2, 3)
scales = st.lists(
    st.one_of(st.just(0), st.integers(-4, 4), st.integers(-320, 300)).map(lambda exponent: float(f"1e{exponent}")),
    min_size=len(EXTREME.shapes(5)),
    max_size=len(EXTREME.shapes(5)),
)


@pytest.mark.slow
@given(scales, st.sampled_from([1e-300, 0.01, 1.0, 1000.0]), st.integers(0, 99))
def test_extreme_numbers_end_as_in_the_reference(scale: list[float], learning_rate: float, seed: int) -> None:
    """In the same numbers, or in a refusal of the same step that keeps the same parameters."""
    rng = random.Random(seed)
    start, tokens = parameters(EXTREME, 5, rng), documents(5, rng, 2, 1, 4)
    for factor, (name, values) in zip(scale, start.items(), strict=True):
        start[name] = array("d", [factor * value for value in values])
    adam = Adam(steps=6, learning_rate=learning_rate)

    def end(engine: Engine) -> tuple[int, list[float], Parameters]:
        engine.load_parameters(start)
        try:
            return adam.steps, engine.train(tokens, adam, 0, adam.steps), engine.parameters()
        except DivergedError as error:
            return error.step, error.losses, engine.parameters()

    assert end(ExactEngine(EXTREME, 5)) == end(ReferenceEngine(EXTREME, 5))


class Recorder:
    """Stands for a generator: keeps the weights it is asked to choose by, and chooses the last token."""

    weights: list[float]

    def choices(self, population: range, *, weights: list[float]) -> list[int]:
        self.weights = weights
        return [population[-1]]


def untempered(word: int) -> int:
    """The word of the state that MT19937 gives out as this one."""
    word ^= word >> 18
    word ^= word << 15 & 0xEFC60000
    x = word
    for _ in range(4):
        x = word ^ x << 7 & 0x9D2C5680
    word = x
    for _ in range(2):
        x = word ^ x >> 11
    return x


def generator(n: int) -> Random:
    """A generator whose `random()` is n / 2**53."""
    rng = Random()
    rng.setstate((3, (untempered(n >> 26 << 5), untempered(n % 2**26 << 6), *[0] * 622, 0), None))
    return rng


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.001, 0.1, 0.3, 0.7, 1.3, 3.0])
def test_a_string_hangs_on_the_last_bit_of_a_weight(temperature: float) -> None:
    """Random numbers at the border between two tokens fall on the same side in both engines."""
    config, rng = Config(1, 8, 2, 1), random.Random(8)
    start = parameters(config, 20, rng, 0.5)
    exact, reference = ExactEngine(config, 20), ReferenceEngine(config, 20)
    for engine in (exact, reference):
        engine.load_parameters(start)
    recorder = Recorder()
    reference.generate(cast("Random", recorder), 1, temperature)
    *borders, total = accumulate(recorder.weights)
    chosen: list[list[int]] = []
    for border in borders:
        n = round(border / total * 2**53)
        for near in range(max(n - 2, 0), min(n + 3, 2**53)):
            assert generator(near).random() == near / 2**53
            strings = exact.generate(generator(near), 1, temperature)
            assert strings == reference.generate(generator(near), 1, temperature)
            chosen += strings
    assert len({*map(tuple, chosen)}) > (temperature > 0.001)  # where it is cold one token has all the weight


# Certified arithmetic


@kernel
def powers(k: Builder, x: F64s, results: F64s, count: Int) -> None:
    """Of each x two candidates for x ** 2, and two for x ** 0.5; `count` is a multiple of the width."""
    for at in k.range(0, count, k.width()):
        numbers = x.vector(at, k.width())
        for index, result in enumerate([*square(k, numbers), *square_root(k, numbers)[:2]]):
            results.store(count * index + at, result)


@kernel
def exponentials(k: Builder, x: F64s, results: F64s, count: Int, ignored: Real) -> None:
    """e ** x, by vectors and one by one; `count` is a multiple of the width."""
    for at in k.range(0, count, k.width()):
        results.store(at, exp(k, x.vector(at, k.width())))
    for at in k.range(0, count, 7):
        results[at] = k.select(results[at].equals(exp(k, x[at])), results[at], 0.0)


@kernel
def other_quotients(k: Builder, x: F64s, results: F64s, count: Int, number: Real) -> None:
    """number / root, number / the next root, and what stands for the latter; `count` is a multiple of the width."""
    for at in k.range(0, count, k.width()):
        root, _, above = square_root(k, x.vector(at, k.width()))
        other, quotient = k.from_bits(k.bits(root) + 1), number / root
        beyond = other_quotient(k, k.spread(k.value(number), k.width()), quotient, other, above)
        for index, result in enumerate((quotient, number / other, beyond)):
            results.store(count * index + at, result)


EXPONENTS = (2.0, 0.5, -0.5, -1.0, -1.5, -2.0)


def all_powers(k: Builder, x: F64s, results: F64s, counts: I64s, count: Int) -> None:
    """x ** 2.0 and so on, by vectors and one by one; `count` is a multiple of the width."""
    for index, exponent in enumerate(EXPONENTS):
        for at in k.range(0, count, k.width()):
            results.store(count * 2 * index + at, power(k, x.vector(at, k.width()), exponent))
        for at in k.range(count):
            results[count * (2 * index + 1) + at] = power(k, x[at], exponent)


@kernel
def quotients(k: Builder, x: F64s, results: F64s, count: Int, number: Real) -> None:
    """x / number; `count` is a multiple of the width."""
    divisor = Divisor(k, number, k.width())
    for i in k.range(0, count, k.width()):
        results.store(i, divisor.into(x.vector(i, k.width())))


@kernel
def products(k: Builder, x: F64s, results: F64s, count: Int, factor: Real) -> None:
    """x * factor as a mean that rests decays; `count` is a multiple of the width."""
    for i in k.range(0, count, k.width()):
        results.store(i, decay(k, x.vector(i, k.width()), k.spread(k.value(factor), k.width())))


def updates(
    k: Builder, numbers: Numbers, scratch: F64s, count: Int, first: Int, steps: Int, schedule: Schedule
) -> None:
    """Steps of Adam on the same gradients."""
    expect_tiny(k, scratch, count)
    for i in k.range(steps):
        adam_update(k, numbers, scratch, count, first + i, schedule)


TARGETS = [*available(HOST), *OTHERS[len(available(HOST)) - 1 :]]
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{8 * t.vector_bytes}-{t.certified}")
_programs: dict[Target, Program] = {}


def program(target: Target) -> Program:
    """One compilation for all examples."""
    if target not in _programs:
        kernels = [powers, exponentials, quotients, other_quotients, products, Kernel(updates, real=F64)]
        _programs[target] = Program({each.name: (each, {}) for each in kernels}, target)
    return _programs[target]


def candidates(target: Target, numbers: list[float]) -> list[list[tuple[float, float]]]:
    """The candidates for the squares, and for the roots."""
    x = array("d", [*numbers, *[1.0] * (-len(numbers) % GROUP)])
    results = array("d", bytes(4 * 8 * len(x)))
    program(target).run("powers", address_of(x), address_of(results), len(x))
    rows = [results[start : start + len(numbers)] for start in range(0, 4 * len(x), len(x))]
    return [list(zip(*rows[first : first + 2], strict=True)) for first in (0, 2)]


def certified(target: Target, name: str, numbers: list[float], other: float) -> list[float]:
    """Quotients by the other number, or products with it."""
    x = array("d", [*numbers, *[1.0] * (-len(numbers) % 64)])
    results = array("d", bytes(8 * len(x)))
    program(target).run(name, address_of(x), address_of(results), len(x), other)
    return results[: len(numbers)].tolist()


def libm_power(x: float, exponent: float) -> float:
    """libm's pow, infinite where Python raises."""
    try:
        return math.pow(x, exponent)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan if x else math.inf


def roots_modulo(d: int, bits: int) -> set[int]:
    """The r with r * r = d modulo 2 ** bits, for d = 1 modulo 8."""
    r = 1
    for known in range(3, bits):  # one more bit is right each time
        if (r * r - d) % 2 ** (known + 1):
            r += 2 ** (known - 1)
    return {(sign * r + half) % 2**bits for sign in (1, -1) for half in (0, 2 ** (bits - 1))}


def nearly_one_modulo_8(number: float) -> int:
    return 8 * round(number / 8) + 1


def hard_squares(distance: float, rng: random.Random) -> list[tuple[float, float]]:
    """Numbers whose square is about this far from the middle between two doubles, in ulps, and how far it is."""
    found = []
    for bits in (52, 53):  # that a product of 105 or 106 loses
        d = nearly_one_modulo_8(distance * 2**bits)
        for r in roots_modulo(2 ** (bits - 1) + d, bits):
            m = r + 2**52 if bits == 52 else r
            if m >= 2**52 and (m * m).bit_length() == bits + 53:
                found.append((math.ldexp(m, rng.randrange(-87, -18)), abs(d) / 2**bits))  # squares 2^-70 to 2^70
    return found


def hard_roots(distance: float, rng: random.Random) -> list[tuple[float, float]]:
    """As `hard_squares`: the root of n * n - d is nearly n - d / (2 * n), and an odd n of 54 bits is a middle."""
    found = []
    for bits in (55, 56):  # that n * n - d has too many of, all of them 0
        d = nearly_one_modulo_8(distance * 2**55.5)
        for n in roots_modulo(d, bits):
            x = (n * n - d) >> bits
            if 2**53 <= n < 2**54 and 0 < x < 2**53:
                found.append((math.ldexp(x, bits + 2 * rng.randrange(-122, 16)), abs(d) / (4 * n)))
    return found


def hard_quotients(number: float) -> list[float]:
    """Numbers whose quotient by this one is next to the middle between two doubles: n * y - 2**54 * x is tiny."""
    y = int(math.ldexp(math.frexp(number)[0], 53)) | 1
    found = []
    for d in range(-31, 33, 2):
        n = d * pow(y, -1, 2**54) % 2**54
        if n >= 2**53:
            found.append(float((n * y - d) >> 54))
    return found


LEAST_SQUARED = 2.0**-450
squared = st.one_of(st.just(0.0), st.floats(LEAST_SQUARED, allow_infinity=False), st.floats(None, -LEAST_SQUARED))
rooted = st.floats(2.0**-1022, 2.0**1021, exclude_max=True)


@each_target
@given(
    st.lists(squared.filter(math.isfinite), min_size=1, max_size=GROUP), st.lists(rooted, min_size=1, max_size=GROUP)
)
def test_any_square_and_root_is_a_candidate(target: Target, numbers: list[float], others: list[float]) -> None:
    assert all(libm_power(x, 2.0) in pair for x, pair in zip(numbers, candidates(target, numbers)[0], strict=True))
    assert all(math.pow(x, 0.5) in pair for x, pair in zip(others, candidates(target, others)[1], strict=True))


@each_target
def test_many_squares_and_roots_are_candidates(target: Target) -> None:
    rng = random.Random(1)
    size = 1280 if target.name == "interpreted" else 64_000
    numbers = [math.ldexp(rng.uniform(0.5, 1.0), rng.randrange(-34, 35)) for _ in range(size)]
    for exponent, reach, pairs in zip((2.0, 0.5), (1022, 512), candidates(target, numbers), strict=True):
        assert all(math.pow(x, exponent) in pair for x, pair in zip(numbers, pairs, strict=True))
        doubts = sum(a != b for a, b in pairs)  # few, which the speed comes from
        assert slack(reach) * size < doubts < 3 * slack(reach) * size if target.certified else not doubts


@each_target
def test_at_the_borders_squares_and_roots_are_candidates(target: Target) -> None:
    numbers = [1.0, 2.2250738585072014e-308, 1.7976931348623157e308]
    for exponent in (-1021, -537, -512, -511, -449, -140, -71, -70, -36, -35, -1, 0, 34, 35, 70, 71, 140, 511, 1022):
        x = math.ldexp(1.0, exponent)
        numbers += [x, math.nextafter(x, math.inf), math.nextafter(x, 0.0), x * (1 + 2**-26), x * (1 - 2**-27)]
        numbers += [x * math.sqrt(0.5), x * math.sqrt(2.0), math.nextafter(x * math.sqrt(2.0), math.inf)]
    squares, roots = candidates(target, numbers)
    pairs = list(zip(numbers, squares, roots, strict=True))
    assert all(libm_power(x, 2.0) in square for x, square, _ in pairs if x >= LEAST_SQUARED)
    assert all(math.pow(x, 0.5) in root for x, _, root in pairs if x < 2.0**1021)
    assert candidates(target, [0.0, -0.0])[0] == [(0.0, 0.0)] * 2


@each_target
def test_there_are_two_candidates_near_the_middle_of_two_numbers(target: Target) -> None:
    """There pow may go either way; elsewhere it cannot, and need not be asked."""
    rng = random.Random(2)
    for which, make, exponent, reach in ((0, hard_squares, 2.0, 1022), (1, hard_roots, 0.5, 512)):
        width = slack(reach)
        distances = [sign * width * rng.uniform(0.0, 2.0) for _ in range(20) for sign in (1, -1)]
        distances += [8 * d * 2.0**-52 for d in range(-10, 10)]
        pairs = [pair for distance in distances for pair in make(distance, rng)]
        near = [x for x, distance in pairs if distance < 0.999 * width]
        far = [x for x, distance in pairs if distance > 1.001 * width]
        assert len(near) > 30
        assert len(far) > 10
        for numbers, doubtful in ((near, target.certified), (far, False)):
            for x, found in zip(numbers, candidates(target, numbers)[which], strict=True):
                assert math.pow(x, exponent) in found
                assert (found[0] != found[1]) == doubtful


def check_powers(target: Target, numbers: list[float]) -> int:
    """They are pow's; returns how often pow was called."""
    x = array("d", [*numbers, *[1.0] * (-len(numbers) % 8)])
    results, calls = array("d", bytes(2 * len(EXPONENTS) * 8 * len(x))), array("q", [0])
    counting = Program({"all_powers": (Kernel(all_powers), {})}, target, counted=("pow",))
    counting.run("all_powers", address_of(x), address_of(results), address_of(calls), len(x))
    for place, start in enumerate(range(0, len(results), len(x))):
        expected = [libm_power(number, EXPONENTS[place // 2]) for number in numbers]
        assert list(map(float.hex, results[start : start + len(numbers)])) == list(map(float.hex, expected))
    return calls[0]


@pytest.mark.slow
@each_target
def test_many_powers_are_pows(target: Target) -> None:
    rng = random.Random(7)
    size = 256 if target.name == "interpreted" else 8_000
    calls = check_powers(target, [math.ldexp(rng.uniform(0.5, 1.0), rng.randint(-59, 60)) for _ in range(size)])
    vectors = 1 - (1 - 2 * slack(1022)) ** (target.vector_bytes // 8)  # with a number in doubt, at most
    assert calls < 6 * size * (2 * slack(1022) + vectors) if target.certified else calls == 12 * size


@each_target
def test_powers_at_the_borders_are_pows(target: Target) -> None:
    borders = [
        math.ldexp(1.0, exponent)
        for exponent in (-1074, -1022, -401, -400, -61, -60, -2, -1, 0, 1, 59, 60, 61, 400, 1023)
    ]
    near = [math.nextafter(x, towards) for x in borders for towards in (0.0, math.inf)]
    check_powers(target, [*borders, *near, *[-x for x in borders[2:]], 0.0, 3.0, 1e-5, math.inf])


def libm_exp(x: float) -> str:
    """libm's exp in hexadecimal digits, infinite where Python raises."""
    try:
        return math.exp(x).hex()
    except OverflowError:
        return math.inf.hex()


@each_target
def test_exponentials_are_exps(target: Target) -> None:
    rng = random.Random(8)
    size = 640 if target.name == "interpreted" else many(64_000, few=16_000)
    numbers = [rng.choice([rng.uniform(-20, 0), rng.uniform(-500, 500), rng.gauss(0, 1e-6)]) for _ in range(size)]
    middles = [math.log(2) / 128 * (rng.randrange(-(2**16), 2**16) + 0.5) for _ in range(size // 10)]
    numbers += [near for x in middles for near in (math.nextafter(x, 0.0), x, math.nextafter(x, math.inf))]
    borders = [0.0, 5e-324, 2.0**-54, 2.0**-27, 1.0, 511.0, 512.0, 708.4, 709.7, 709.8, 745.2, 1024.0, 1e308, math.inf]
    near = [math.nextafter(x, towards) for x in borders for towards in (0.0, math.inf)]
    numbers += [sign * x for x in (*borders, *near) for sign in (1, -1)] + [math.nan]
    found = certified(target, "exponentials", numbers, 0.0)
    assert list(map(float.hex, found)) == list(map(libm_exp, numbers))


@pytest.mark.parametrize("form", ["fused", "unfused"])
def test_exp_is_known_where_these_operations_give_its_results(form: str) -> None:
    numbers = [0.945385 * i for i in range(-512, 512)]
    found = certified(CERTAIN.replace(known_exp=form), "exponentials", numbers, 0.0)
    assert host._EXPONENTIALS[host._digest(found)] == form
    assert (exp_form() == form) == (list(map(float.hex, found)) == list(map(libm_exp, numbers)))


@pytest.mark.slow
@pytest.mark.skipif(exp_form() != "fused" or platform.machine() != "x86_64", reason="these functions have one form")
def test_functions_that_do_not_fuse_give_equal_bits_too() -> None:
    variables = {**os.environ, "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2"}  # as on a CPU without
    tests = "(test_many or test_exp or test_there or test_every_vector and odd) and not interpreted or equals and 48"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", tests]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", [target for target in TARGETS if target.certified], ids=lambda t: t.name)
def test_what_stands_for_another_quotient_is_not_between_it_and_the_first(target: Target) -> None:
    rng = random.Random(9)
    size = 640 if target.name == "interpreted" else 6_400
    x = array("d", [math.ldexp(rng.uniform(0.5, 1.0), rng.randrange(-200, 200)) for _ in range(size)])
    results, differing = array("d", bytes(3 * 8 * size)), 0
    for number in (1.0, -math.pi, 1e-100, 1e100):
        program(target).run("other_quotients", address_of(x), address_of(results), size, number)
        for first, other, beyond in zip(*(results[i : i + size] for i in range(0, 3 * size, size)), strict=True):
            assert min(first, beyond) <= other <= max(first, beyond)
            assert abs(beyond - other) <= 2**-52 * abs(other)
            differing += beyond != other
    assert differing < 0.01 * size * 4


@each_target
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=GROUP), st.floats(2.0**-50, 2.0**50))
def test_any_quotient_is_the_dividers(target: Target, numbers: list[float], divisor: float) -> None:
    numbers = [x for x in numbers if x == 0 or (abs(x) >= TINY and abs(x / divisor) < math.inf)]
    assert certified(target, "quotients", numbers, divisor) == [x / divisor for x in numbers]


@each_target
def test_hard_quotients_are_the_dividers(target: Target) -> None:
    rng = random.Random(3)
    steps = [*range(1, 12), 100, 10_000]
    divisors = [1 - beta**step for beta in (0.85, 0.99) for step in steps]  # Adam's
    divisors += [math.ldexp(rng.uniform(0.5, 1.0), rng.randrange(-49, 50)) for _ in range(30)]
    divisors += [2.0**-50, 2.0**50, 1.0, math.nextafter(1.0, 0.0), math.nextafter(1.0, 2.0), math.nextafter(2.0, 1.0)]
    for divisor in divisors:
        exponent = math.frexp(divisor)[1] - 53
        odd = math.ldexp(int(math.ldexp(divisor, -exponent)) | 1, exponent)
        numbers = [math.ldexp(x, rng.randrange(-900, 900)) for x in hard_quotients(odd)]
        numbers += [math.ldexp(rng.uniform(0.5, 1.0), rng.randrange(-899, 900)) for _ in range(20)]
        for number in (odd, divisor):
            assert certified(target, "quotients", numbers, number) == [x / number for x in numbers]


# Numbers that rest

SUBNORMAL = 2.0**-1022
tiny = st.one_of(
    st.integers(1, 99).map(lambda whole: whole * 5e-324),
    st.floats(0, SUBNORMAL),
    st.floats(0, TINY, exclude_max=True),
    st.sampled_from([SUBNORMAL, math.nextafter(SUBNORMAL, 0.0), math.nextafter(SUBNORMAL, 1.0), 0.0]),
)


@each_target
@given(st.lists(tiny, min_size=1, max_size=GROUP), st.one_of(st.sampled_from([0.85, 0.99, 0.5, 1.0]), st.floats(0, 1)))
def test_tiny_numbers_decay_as_the_cpu_rounds(target: Target, numbers: list[float], factor: float) -> None:
    numbers = [sign * number for number in numbers for sign in (1, -1)][:GROUP]
    results = certified(target, "products", numbers, factor)
    assert list(map(float.hex, results)) == [(number * factor).hex() for number in numbers]


def moved(p: float, g: float, m: float, v: float, step: int, adam: Adam) -> tuple[float, float, float]:
    """A step of Adam in Python."""
    m = m * adam.beta1 + g * (1 - adam.beta1)
    v = v * adam.beta2 + math.pow(g, 2) * (1 - adam.beta2)
    mean = m / (1 - math.pow(adam.beta1, step + 1))
    root = math.pow(v / (1 - math.pow(adam.beta2, step + 1)), 0.5)
    rate = adam.learning_rate * (1 - step / adam.steps)
    return p - mean * rate / (root + adam.epsilon), m, v


ADAMS = {
    "microgpt.py's": Adam(),
    "a large epsilon": Adam(epsilon=1.0),
    "a tiny epsilon": Adam(epsilon=1e-300),
    "a large step": Adam(learning_rate=1e60),
    "means that end": Adam(beta1=0.5, beta2=0.9),
    "short means": Adam(beta1=0.9, beta2=0.3),
}


@pytest.mark.slow
@each_target
@pytest.mark.parametrize("adam", ADAMS.values(), ids=list(ADAMS))
def test_means_that_rest_move_nothing_that_would_not_move(target: Target, adam: Adam) -> None:
    """Moments and parameters of all sizes, most without a gradient, through some steps."""
    rng, count, steps = random.Random(5), 4 * GROUP, 4
    negligible = math.log2(max(adam.epsilon, 1e-150)) - 55

    def some(*exponents: float) -> float:
        near = rng.choice([*exponents, rng.uniform(-1074, 0)])
        return rng.choice([0.0, rng.randrange(1, 60) * 5e-324, math.pow(2.0, near + rng.uniform(-2, 2))])

    def sign() -> int:
        return rng.choice([1, -1])

    p = [sign() * rng.choice([some(-700, -760, -900), rng.gauss(0, 1)]) for _ in range(count)]
    g = [sign() * rng.choice([0.0, 0.0, 0.0, 0.0, some(-540), rng.gauss(0, 1)]) for _ in range(count)]
    m, v = ([some(-1022, -900) for _ in range(count)] for _ in range(2))
    m = [sign() * number or 0.0 for number in m]  # a mean of zero is never negative
    v = [rng.choice([number, 2.0 ** (2 * negligible + rng.uniform(-3, 3))]) for number in v]
    v[:GROUP] = [1e-3] * GROUP  # a group whose squares have long been normal
    m[-GROUP:] = [0.01] * GROUP
    check_updates(target, adam, [p, g, m, v], 500, steps)


@pytest.mark.slow
@each_target
@pytest.mark.parametrize("adam", ADAMS.values(), ids=list(ADAMS))
def test_updates_of_numbers_of_all_sizes(target: Target, adam: Adam) -> None:
    """Where a square matters much or little to its mean, and a step to its parameter, early and late."""
    rng, count = random.Random(6), (2 if target.name == "interpreted" else many(40)) * GROUP

    def numbers(deviation: float, widest: int) -> list[float]:
        return [math.ldexp(rng.gauss(0, deviation), rng.choice([0, 0, 0, rng.randint(-widest, widest)])) for _ in p]

    for step in (0, 3, 300, 3000):
        p = [rng.choice([0.0, rng.gauss(0, 0.1)]) for _ in range(count)]
        g, m = numbers(0.01, 500), numbers(0.01, 1000)
        v = [abs(number) * 0.001 for number in numbers(0.1, 1000)]
        check_updates(target, adam, [p, g, m, v], step, 2)


def check_updates(target: Target, adam: Adam, numbers: list[list[float]], first: int, steps: int) -> None:
    """Steps of parameters, gradients, and the two means are those in Python, to the bit."""
    memory = [array("d", each) for each in numbers]
    arguments = dict(zip(("shared", "gradients", "first", "second"), map(address_of, memory), strict=True))
    scratch = array("d", bytes(8 * scratch_size(len(memory[0]))))
    program(target).run("updates", arguments, address_of(scratch), len(memory[0]), first, steps, adam.as_dict())
    p, g, m, v = numbers
    expected = list(zip(p, m, v, strict=True))
    for step in range(first, first + steps):
        expected = [moved(a, b, c, d, step, adam) for (a, c, d), b in zip(expected, g, strict=True)]
    for found, wanted in zip((memory[0], memory[2], memory[3]), zip(*expected, strict=True), strict=True):
        assert list(map(float.hex, found)) == list(map(float.hex, wanted))


def test_strings_are_a_sequence() -> None:
    strings = Strings(array("I", [1, 2, 0, 0, 0, 0, 3, 4, 5]), array("q", [2, 0, 3]))
    assert [*strings] == [strings[0], strings[1], strings[2]] == [[1, 2], [], [3, 4, 5]]
    assert [strings[-1], strings[-3]] == [[3, 4, 5], [1, 2]]
    for outside in (3, -4):
        with pytest.raises(IndexError):
            strings[outside]
    with pytest.raises(IndexError):
        Strings(array("I"), array("q"))[0]
