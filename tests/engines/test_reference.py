"""The oracle itself: `Value` against formulas, recursion and slopes; the engine against published numbers."""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt.autograd.value import Value, total
from tapegpt.data.corpus import Corpus
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam, Parameters
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.errors import DivergedError
from tapegpt.machine.host import c_library, has_known_pow
from tapegpt.models.gpt import Config
from tests.properties import many

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tapegpt.data.rng import Random

Unary = Callable[[Value], Value]
Binary = Callable[[Value, Value], Value]
NUMBERS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-3, 1e3)
with_glibc = pytest.mark.skipif(
    not has_known_pow(c_library()), reason="the numbers are those of glibc's exp, log and pow"
)


def shuffled(corpus: Corpus, rng: random.Random) -> Corpus:
    documents = list(corpus.documents)
    rng.shuffle(documents)
    return Corpus(documents, corpus.vocabulary)


def initial(config: Config, vocab_size: int, rng: random.Random) -> Parameters:
    return {
        name: array("d", [rng.gauss(0, 0.08) for _ in range(rows * columns)])
        for name, (rows, columns) in config.shapes(vocab_size).items()
    }


def started(corpus: Corpus, config: Config, seed: int = 42) -> tuple[ReferenceEngine, Tokens, random.Random]:
    """An engine, its documents and the generator, as microgpt.py has them before the first step."""
    rng = random.Random(seed)
    tokens = shuffled(corpus, rng).tokens()
    engine = ReferenceEngine(config, corpus.vocab_size)
    engine.load_parameters(initial(config, corpus.vocab_size, rng))
    return engine, tokens, rng


# Value


def derivative(output: Value, *inputs: Value) -> list[float]:
    output.backward()
    return [value.grad for value in inputs]


@given(NUMBERS, NUMBERS)
def test_sums_and_products(x: float, y: float) -> None:
    cases: list[tuple[Binary, float, list[float]]] = [
        (lambda a, b: a + b, x + y, [1.0, 1.0]),
        (lambda a, b: a - b, x + y * -1, [1.0, -1.0]),
        (lambda a, b: a * b, x * y, [y, x]),
    ]
    for build, data, grads in cases:
        a, b = Value(x), Value(y)
        output = build(a, b)
        assert output.data == data
        assert derivative(output, a, b) == grads


@given(NUMBERS, POSITIVE)
def test_quotients(x: float, y: float) -> None:
    """`a / b` is `a * b**-1` to the last bit, which is not always what a division gives."""
    a, b = Value(x), Value(y)
    output = a / b
    assert output.data == x * y**-1
    assert derivative(output, a, b) == [y**-1, -1 * y**-2 * x]


@given(NUMBERS, POSITIVE)
def test_numbers_on_either_side(x: float, c: float) -> None:
    cases: list[tuple[Unary, float, float]] = [
        (lambda a: a + c, x + c, 1.0),
        (lambda a: c + a, x + c, 1.0),
        (lambda a: a - c, x + -c, 1.0),
        (lambda a: c - a, x * -1 + c, -1.0),
        (lambda a: a * c, x * c, c),
        (lambda a: c * a, x * c, c),
        (lambda a: a / c, x * c**-1, c**-1),
        (lambda a: -a, x * -1, -1.0),
    ]
    for build, data, grad in cases:
        a = Value(x)
        output = build(a)
        assert output.data == data
        assert derivative(output, a) == [grad]


@given(POSITIVE, st.sampled_from([-2.0, -1.0, -0.5, 0.5, 2.0, 3.0]))
def test_functions_of_one_number(x: float, c: float) -> None:
    cases: list[tuple[Unary, float, float]] = [
        (lambda a: a**c, x**c, c * x ** (c - 1)),
        (lambda a: c / a, x**-1 * c, -1 * x**-2 * c),
        (lambda a: a.log(), math.log(x), 1 / x),
        (lambda a: (a * 0.1).exp(), math.exp(x * 0.1), 0.1 * math.exp(x * 0.1)),
        (lambda a: a.relu(), x, 1.0),
        (lambda a: (-a).relu(), 0.0, 0.0),
    ]
    for build, data, grad in cases:
        a = Value(x)
        output = build(a)
        assert output.data == data
        assert derivative(output, a) == [grad]


def test_relu_is_flat_at_zero() -> None:
    a = Value(0.0)
    assert derivative(a.relu(), a) == [0.0]


def test_gradients_accumulate_over_calls() -> None:
    """Of all but the output itself, whose gradient is 1."""
    a = Value(3.0)
    square = a * a
    square.backward()
    (a * 5).backward()
    square.backward()
    assert (a.grad, square.grad) == (6.0 + 5.0 + 6.0, 1.0)


def test_sums_start_at_zero() -> None:
    assert str(total([Value(-0.0)]).data) == "0.0"  # as Python's `sum`; alone it would be -0.0


def recursive_gradients(output: Value) -> dict[Value, float]:
    """microgpt.py's `backward` as it stands, recursion and all."""
    order: list[Value] = []
    visited: set[Value] = set()

    def build(value: Value) -> None:
        if value not in visited:
            visited.add(value)
            for child in value.children:
                build(child)
            order.append(value)

    build(output)
    grads = dict.fromkeys(order, 0.0)
    grads[output] = 1
    for value in reversed(order):
        for child, local_grad in zip(value.children, value.local_grads, strict=True):
            grads[child] += local_grad * grads[value]
    return grads


PAIRS: list[Binary] = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: a / (b * b + 1),
    lambda a, b: (a + 1).relu() * b + a,
]


@given(
    st.lists(st.floats(-2, 2), min_size=2, max_size=4),
    st.lists(st.tuples(st.sampled_from(PAIRS), st.integers(1, 9), st.integers(1, 9)), min_size=4, max_size=40),
)
def test_gradients_accumulate_in_the_order_of_the_recursion(
    numbers: list[float], steps: list[tuple[Binary, int, int]]
) -> None:
    values = [Value(number) for number in numbers]
    for build, back, further in steps:
        values.append(build(values[-min(back, len(values))], values[-min(further, len(values))]))
    output = values[-1]
    for value in reversed(values[:-1]):
        output = output + value
    expected = recursive_gradients(output)
    output.backward()
    for value, grad in expected.items():
        assert value.grad == grad or (math.isnan(value.grad) and math.isnan(grad))


def test_order_of_a_sum_whose_parts_meet_again() -> None:
    """0.1 + 0.2 + 0.3 and its reverse differ in the last bit; the reverse post-order adds the last use first."""
    a = Value(1.0)
    (a * 0.1 + a * 0.2 + a * 0.3).backward()
    assert 0.3 + 0.2 + 0.1 != 0.1 + 0.2 + 0.3
    assert a.grad == 0.3 + 0.2 + 0.1


def test_no_graph_is_too_deep() -> None:
    a = Value(1.0)
    output = a
    for _ in range(50_000):
        output = output + a
    assert derivative(output, a) == [50_001.0]


def slope(function: Callable[[float], float], x: float, h: float = 1e-5) -> float:
    return (function(x + h) - function(x - h)) / (2 * h)


EXPRESSIONS: list[Binary] = [
    lambda a, b: (a * b).exp() / (a + b) - b.log() * a**3,
    lambda a, b: ((a - b) ** 2 + 1).log() * (1 / b) ** 0.5,
    lambda a, b: (a / b).exp() / ((a / b).exp() + (b / a).exp() + 1.0),
    lambda a, b: a * ((a * a + b * b) / 2 + 1e-5) ** -0.5 + (2 - a).relu() * b,
]


@given(st.sampled_from(EXPRESSIONS), st.floats(0.5, 1.75), st.floats(0.5, 1.75))
def test_gradients_are_slopes(build: Binary, x: float, y: float) -> None:
    a, b = Value(x), Value(y)
    grads = derivative(build(a, b), a, b)
    slopes = slope(lambda s: build(Value(s), b).data, x), slope(lambda s: build(a, Value(s)).data, y)
    for grad, estimate in zip(grads, slopes, strict=True):
        assert abs(grad - estimate) < 1e-7 * max(1.0, abs(grad))  # h**2 and rounding / h, about 1e-9 both


# The engine


@pytest.mark.slow
def test_gradients_of_the_loss_are_slopes() -> None:
    corpus, config = Corpus.of(["abba", "cab"]), Config(2, 4, 2, 4)
    rng = random.Random(3)
    parameters = {
        name: array("d", [rng.gauss(0, 0.5) for _ in values])
        for name, values in initial(config, corpus.vocab_size, rng).items()
    }
    engine = ReferenceEngine(config, corpus.vocab_size)
    document = [corpus.vocabulary.bos, *corpus.vocabulary.encode("abba"), corpus.vocabulary.bos]
    engine.load_parameters(parameters)
    loss = engine.loss(document)
    grads = recursive_gradients(loss)
    leaves = {value.data: grad for value, grad in grads.items() if not value.children}
    checked = 0
    for values in parameters.values():
        for place in rng.sample(range(len(values)), 4):
            number = values[place]
            if number not in leaves:  # a row of wte that the document does not use
                continue

            def moved(x: float, values: array[float] = values, place: int = place) -> float:
                values[place] = x
                engine.load_parameters(parameters)
                return engine.loss(document).data

            assert abs(slope(moved, number) - leaves[number]) < 1e-7
            values[place] = number
            checked += 1
    assert checked > 40


SMALL = ["anna", "otto", "bob", "hannah", "ada"]
# By a second transcript of microgpt.py, recursive and with the standard library's generator, that gives the published
# losses on names.txt too: losses, SHA-256 of the parameters as hex floats, strings.
RUNS: list[tuple[Config, Adam, str, str, list[str]]] = [
    (
        Config(1, 8, 2, 8),
        Adam(steps=10),
        (
            "0x1.fd0c8acd53701p+0 0x1.0a79d4469be8ep+1 0x1.1d9cf1168a2fep+1 0x1.2bb677c1b1790p+1 0x1.0b9a9dcab5368p+1 "
            "0x1.cabb7a3a68becp+0 0x1.f5ca94fe80254p+0 0x1.07cb848c6f9c0p+1 0x1.1888c295b985ep+1 0x1.011da43139fd2p+1"
        ),
        "3102783e2842f0fe407bb4648222e77f302621b40d93ef3456d06c0eeef29105",
        ["ohonn", "dooohoob", "aa", "bdnhb"],
    ),
    (
        Config(2, 6, 3, 4),  # "hannah" is longer than the block
        Adam(steps=12, learning_rate=0.05),
        (
            "0x1.f89d054397698p+0 0x1.1fd563473ae19p+1 0x1.335d1baf64696p+1 0x1.2551b7a7b01e2p+1 0x1.0724e822293f9p+1 "
            "0x1.f459decb2c941p+0 0x1.e93e16f36107cp+0 0x1.002cd162fea5dp+1 0x1.c3b9cd0628e44p+0 0x1.81d4f176c73f2p+0 "
            "0x1.9ca3361d8a5ffp+0 0x1.d3cbddfac4a6ep+0"
        ),
        "702d49783e32324d28678bfab716e303f204b6a3dfb26fa66e1232e34a9c1a3d",
        ["btt", "hto", "aodn", "anto"],
    ),
]


@pytest.mark.slow
@with_glibc
@pytest.mark.parametrize(("config", "adam", "losses", "digest", "strings"), RUNS, ids=["one-layer", "two-layers"])
def test_pinned_runs(config: Config, adam: Adam, losses: str, digest: str, strings: list[str]) -> None:
    corpus = Corpus.of(SMALL)
    engine, tokens, rng = started(corpus, config)
    assert [loss.hex() for loss in engine.train(tokens, adam, 0, adam.steps)] == losses.split()
    numbers = " ".join(number.hex() for values in engine.parameters().values() for number in values)
    assert hashlib.sha256(numbers.encode()).hexdigest() == digest
    generated = engine.generate(cast("Random", rng), len(strings), 0.5)
    assert [corpus.vocabulary.decode(string) for string in generated] == strings


@pytest.mark.slow
@with_glibc
def test_published_losses(shared: Path) -> None:
    lines = (shared / "oracle" / "names_default_losses.hex").read_text().split()
    engine, tokens, _ = started(Corpus.read(shared / "data" / "names.txt"), Config())
    steps = many(20, few=5)
    assert [loss.hex() for loss in engine.train(tokens, Adam(), 0, steps)] == lines[:steps]


@given(st.integers(2, 6), st.integers(1, 9), st.integers(1, 5))
def test_without_parameters_all_tokens_are_equally_likely(vocab_size: int, length: int, block_size: int) -> None:
    engine = ReferenceEngine(Config(1, 2, 1, block_size), vocab_size)
    bos = vocab_size - 1
    document = [bos, *([0] * length), bos]
    n = min(block_size, length + 1)
    surprise = math.log(1.0 * sum([1.0] * vocab_size) ** -1) * -1
    assert engine.loss(document).data == sum([surprise] * n) * (1 / n)


def test_a_long_document_is_cut_to_the_block() -> None:
    corpus, config = Corpus.of(["abcdefgh"]), Config(1, 4, 2, 3)
    engine, tokens, _ = started(corpus, config)
    whole = engine.loss(tokens.ids).data
    assert whole == engine.loss(tokens.ids[:4]).data
    assert whole != engine.loss(tokens.ids[:3]).data


def test_steps_may_be_taken_in_parts() -> None:
    corpus, config, adam = Corpus.of(SMALL), Config(1, 4, 2, 4), Adam(steps=7)
    whole, tokens, _ = started(corpus, config)
    parts, _, _ = started(corpus, config)
    losses = parts.train(tokens, adam, 0, 2) + parts.train(tokens, adam, 2, 0) + parts.train(tokens, adam, 2, 5)
    assert losses == whole.train(tokens, adam, 0, 7)
    assert parts.parameters() == whole.parameters()


def test_parameters_are_copied_and_loading_forgets_the_past() -> None:
    corpus, config, adam = Corpus.of(SMALL), Config(1, 4, 2, 4), Adam(steps=3)
    engine, tokens, _ = started(corpus, config)
    start = engine.parameters()
    losses = engine.train(tokens, adam, 0, 3)
    moved = engine.parameters()
    assert start != moved
    moved["wte"][0] = 5.0
    assert engine.parameters()["wte"][0] != 5.0
    engine.load_parameters(start)
    before = {name: values[:] for name, values in start.items()}
    assert engine.train(tokens, adam, 0, 3) == losses
    assert start == before


def one_sided(logit: float) -> Parameters:
    """Parameters of a model (1, 4, 1, 4) over a, b and BOS that expects nothing but a."""
    parameters = {name: array("d", bytes(8 * a * b)) for name, (a, b) in Config(1, 4, 1, 4).shapes(3).items()}
    parameters["wte"] = array("d", [1.0] * 12)
    parameters["lm_head"] = array("d", [logit / 4] * 4 + [0.0] * 8)
    return parameters


@pytest.mark.parametrize(
    "logit",
    [
        800.0,  # the target's probability is 0, its logarithm an error
        740.0,  # the loss is finite, but one over the subnormal probability is not
        math.inf,
        math.nan,
    ],
)
def test_a_step_that_diverges_changes_nothing(logit: float) -> None:
    engine, parameters = ReferenceEngine(Config(1, 4, 1, 4), 3), one_sided(logit)
    tokens = Corpus.of(["aa", "b"]).tokens()
    engine.load_parameters(parameters)
    with pytest.raises(DivergedError, match=r"at step 2, .* choose a smaller learning_rate") as caught:
        engine.train(tokens, Adam(), 1, 1)
    assert (caught.value.step, caught.value.losses) == (1, [])
    assert repr(engine.parameters()) == repr(parameters)  # by name, since nan != nan
    engine.load_parameters(one_sided(1.0))
    fresh = ReferenceEngine(Config(1, 4, 1, 4), 3)
    fresh.load_parameters(one_sided(1.0))
    assert engine.train(tokens, Adam(), 0, 2) == fresh.train(tokens, Adam(), 0, 2)  # no gradient is left over


def test_divergence_tells_the_losses_before_it() -> None:
    corpus, adam = Corpus.of(SMALL), Adam(steps=9, learning_rate=1000.0)
    engine, tokens, _ = started(corpus, Config(1, 4, 2, 4))
    with pytest.raises(DivergedError) as caught:
        engine.train(tokens, adam, 0, 9)
    again, _, _ = started(corpus, Config(1, 4, 2, 4))
    assert caught.value.step > 0
    assert again.train(tokens, adam, 0, caught.value.step) == caught.value.losses
    assert again.parameters() == engine.parameters()


class Scripted:
    """A generator whose choices are written down; it keeps the weights that it was asked to choose by."""

    def __init__(self, script: list[int]) -> None:
        self.script, self.weights = script, list[list[float]]()

    def choices(self, population: Sequence[int], *, weights: list[float]) -> list[int]:
        assert list(population) == list(range(len(weights)))
        self.weights.append(weights)
        return [self.script.pop(0)]


def test_strings_end_at_bos_or_at_the_block() -> None:
    engine = ReferenceEngine(Config(1, 4, 1, 4), 3)
    engine.load_parameters(one_sided(1.0))
    rng = Scripted([2, 0, 1, 2, 1, 1, 0, 0])
    assert list(engine.generate(cast("Random", rng), 3, 0.5)) == [[], [0, 1], [1, 1, 0, 0]]
    assert rng.script == []


def test_temperature_sharpens() -> None:
    engine = ReferenceEngine(Config(1, 4, 1, 4), 3)
    engine.load_parameters(one_sided(1.0))
    weights = []
    for temperature in (1000.0, 1.0, 0.5, 0.001):
        rng = Scripted([2])
        engine.generate(cast("Random", rng), 1, temperature)
        weights += rng.weights
    firsts = [row[0] for row in weights]
    assert firsts == sorted(set(firsts))
    assert weights[-1] == [1.0, 0.0, 0.0]
    for row in weights:
        assert row[1] == row[2]
