"""What kernels write through one pointer is not used through another: LLVM is told so, and believes it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable

import pytest

from tapegpt import Config, Random
from tapegpt.analysis.influence import Rater
from tapegpt.engines.base import Adam
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.graph import exact_graph
from tapegpt.inference.constraints import Drawing
from tapegpt.inference.forward import Inference
from tapegpt.machine.language import Builder, F64s, I64s, Int, Kernel, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import KernelError
from tapegpt.machine.target import INTERPRETED
from tests.engines.test_fast import documents, parameters
from tests.inference.test_forward import anything
from tests.machine.overlap import watch

PLAIN, GRAMS = Config(1, 4, 2, 3), Config(1, 4, 2, 3, n_gram=2, gram_rows=8)
VOCAB = 5


@kernel
def running(k: Builder, x: F64s, y: F64s, n: Int) -> None:
    """y = sums of the beginnings of x."""
    total = k.zeros()
    for i in k.range(n):
        total += x[i]
        y[i] = total


def sums(k: Builder, x: F64s, y: F64s, n: Int) -> None:
    """An entry, which may be given anything."""
    running(k, x, y, n)


@pytest.mark.parametrize("shift", [0, 2, 3, 4])
def test_an_overlap_is_found(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    numbers = array("d", range(8))
    program = Program({"sums": (Kernel(sums), {})}, INTERPRETED)
    places = address_of(numbers), address_of(numbers, shift)
    if shift < 3:
        with pytest.raises(AssertionError, match="running: what is written through y is used through x"):
            program.run("sums", *places, 3)
    else:
        program.run("sums", *places, 3)
        assert list(numbers[shift : shift + 3]) == [0, 1, 3]


def work(config: Config) -> dict[str, Callable[[], object]]:
    """All that is done with a model of a shape, interpreted."""
    start, data = parameters(config, VOCAB), documents(VOCAB, 2, 1, 3, 5)
    adam = Adam(steps=4, weight_decay=0.1, gram_decay=0.1, clip=1.0)
    fast = FastEngine(config, VOCAB, 2, target=INTERPRETED)
    fast.load_parameters(start)
    inference = Inference(config, VOCAB, start, INTERPRETED)
    windows = array("I", [0, 1])
    found: dict[str, Callable[[], object]] = {
        "fast training": lambda: fast.train(data, adam, 7, 2),
        "fast evaluation": lambda: fast.evaluate(data),
        "fast generation": lambda: fast.generate(Random(1), 2, 1.0),
        "scores": lambda: inference.means(data),
        "next": lambda: inference.next_logs([[], [1]]),
        "strings": lambda: inference.draw(
            Random(1).streams(2), Drawing(1.0, 3, 0.9, 0.1), anything(VOCAB, config.block_size)
        ),
        "attribution": lambda: Rater(config, VOCAB, start, INTERPRETED).rate(data, data, windows),
    }
    if config.is_plain:
        exact = ExactEngine(config, VOCAB, INTERPRETED)
        exact.load_parameters(start)
        found["exact training"] = lambda: exact.train(data, adam, 0, 2)
        found["exact evaluation"] = lambda: exact.evaluate(data)
        found["exact generation"] = lambda: exact.generate(Random(1), 2, 1.0)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, GRAMS], ids=["plain", "n-grams"])
def test_nothing_that_a_model_does_overlaps(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    for do in work(config).values():
        do()


def test_entries_promise_nothing_and_threads_meet_there_alone() -> None:
    """Other threads write what the entries of a training read."""
    text = Program({"sums": (Kernel(sums), {})}).ir()
    (entry,) = re.findall(r'define void @"sums"\((.*?)\)', text)
    (inner,) = re.findall(r'define internal void @"running"\((.*?)\)', text)
    assert "noalias" not in entry
    assert inner.count("noalias") == 2

    @kernel
    def meet(k: Builder, place: I64s) -> None:
        k.fetch_add(place, 1)

    def entry_of(k: Builder, place: I64s) -> None:
        meet(k, place)

    with pytest.raises(KernelError, match="threads meet in the entries of a program alone"):
        Program({"meet": (Kernel(entry_of), {})}).ir()
    Program({"meet": (meet, {})}).ir()


def test_the_graph_of_a_model_overlaps_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    graph = exact_graph(PLAIN, VOCAB, INTERPRETED)
    for name, ids in {"tokens": [1, 2, 3], "positions": [0, 1, 2], "targets": [2, 3, 4]}.items():
        graph.tape.write(graph.about(name), ids)
    graph.tape.forward(graph.loss)
    graph.tape.backward(graph.loss)
