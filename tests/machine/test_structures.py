"""Kernels that take records: what is passed, what is fixed, and what is refused."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import pytest

from tapegpt.machine.emitter import Module
from tapegpt.machine.host import available, host_target
from tapegpt.machine.language import F64, Builder, F64s, I64s, Int, Kernel, Real, Reals, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import KernelError, Structure
from tapegpt.machine.target import INTERPRETED, Target
from tapegpt.record import Record

if TYPE_CHECKING:
    from tapegpt.machine.language import Operand, Pointer
    from tapegpt.machine.program import Argument

HOST = host_target()
TARGETS = [*available(HOST), INTERPRETED]


class Line(Structure):
    """y = factor x + offset."""

    x: F64s
    y: F64s
    factor: Real
    offset: Real
    count: Int


class Piece(Record):
    """A part of an array, and what is done with it: the name is fixed when code is made."""

    at: Pointer
    count: Operand | int
    doing: str


@kernel
def change(k: Builder, piece: Piece, *others: Piece, amount: float) -> None:
    for place in k.range(piece.count):
        number = piece.at[place]
        for other in others:
            number = number + other.at[place]
        piece.at[place] = number + amount if piece.doing == "add" else number * amount


class Power:
    """Objects whose methods are kernels."""

    def __init__(self, exponent: int) -> None:
        self.exponent = exponent

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Power) and other.exponent == self.exponent

    def __hash__(self) -> int:
        return self.exponent

    def raised(self, k: Builder, x: F64s) -> None:
        number = k.real(1.0)
        for _ in range(self.exponent):
            number = number * x[0]
        x[0] = number


def run(body: Any, target: Target | None, *arguments: Any) -> None:
    Program({"entry": (Kernel(body), {})}, target).run("entry", *arguments)


def functions(body: Any, name: str) -> int:
    """Functions of a kernel in an entry's code."""
    module = Module(HOST)
    module.add(Kernel(body), {}, "entry")
    return str(module).count(f'define internal void @"{name}')


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_an_entry_takes_a_structure_by_the_names_of_its_fields(target: Target) -> None:
    def entry(k: Builder, before: Int, line: Line, seen: I64s) -> None:
        for place in k.range(before, line.count):
            line.y[place] = line.x[place] * line.factor + line.offset
        seen[0] = line.count

    x, y, seen = array("d", [1.0, 2.0, 3.0]), array("d", [0.0] * 3), array("q", [0])
    line: dict[str, Argument] = {"count": 3, "y": address_of(y), "x": address_of(x), "offset": 0.5, "factor": 2.0}
    run(entry, target, 1, line, address_of(seen))
    assert (y.tolist(), seen[0]) == ([0.0, 4.5, 6.5], 3)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_kernel_is_passed_what_a_record_holds_and_made_for_the_rest(target: Target) -> None:
    def entry(k: Builder, x: F64s, y: F64s, count: Int) -> None:
        change(k, Piece(x, count, "add"), amount=1.0)
        change(k, Piece(x + 1, k.integer(1), "times"), Piece(y, 0, ""), amount=3.0)

    x, y = array("d", [1.0, 2.0]), array("d", [10.0, 20.0])
    run(entry, target, address_of(x), address_of(y), 2)
    assert x.tolist() == [2.0, 39.0]


def test_code_is_shared_by_calls_that_differ_in_what_is_passed_alone() -> None:
    def alike(k: Builder, x: F64s, count: Int) -> None:
        change(k, Piece(x, count, "add"), amount=1.0)
        change(k, Piece(x + 4, count - 4, "add"), amount=1.0)

    def apart(k: Builder, x: F64s, count: Int) -> None:
        change(k, Piece(x, count, "add"), amount=1.0)
        change(k, Piece(x, count, "times"), amount=1.0)
        change(k, Piece(x, 4, "add"), amount=1.0)
        change(k, Piece(x, count, "add"), Piece(x + 8, count, ""), amount=1.0)

    assert (functions(alike, "change"), functions(apart, "change")) == (1, 4)


def test_one_record_in_two_places_is_one_object_and_passed_once() -> None:
    seen = []

    @kernel
    def look(k: Builder, first: Piece, second: Piece, third: Piece) -> None:
        seen.append((first is second, first is third))

    def entry(k: Builder, x: F64s) -> None:
        piece = Piece(x, 2, "")
        look(k, piece, piece, piece.replace(count=3))

    module = Module(HOST)
    module.add(Kernel(entry), {}, "entry")
    assert seen == [(True, False)]
    assert str(module).count("ptr noalias") == 2


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_methods_are_kernels_of_their_objects(target: Target) -> None:
    def entry(k: Builder, x: F64s) -> None:
        for power in (Power(2), Power(3), Power(2)):
            Kernel(power.raised)(k, x)

    x = array("d", [2.0])
    run(entry, target, address_of(x))
    assert x[0] == 2.0**12
    assert functions(entry, "raised") == 2


def test_reals_in_a_structure_are_of_the_kernel_s_type() -> None:
    class Pair(Structure):
        a: Reals
        b: Reals

    def add(k: Builder, pair: Pair) -> None:
        pair.a[0] = pair.a[0] + pair.b[0]

    add.__globals__["Pair"] = Pair
    try:
        assert {each.type for each in Kernel(add, real=F64).arguments.values()} == {F64}
        x = array("d", [1.0, 2.0])
        Program({"add": (Kernel(add, real=F64), {})}).run("add", {"a": address_of(x), "b": address_of(x, 1)})
    finally:
        del add.__globals__["Pair"]
    assert x[0] == 3.0


def test_what_does_not_fit_a_structure_is_refused() -> None:
    def entry(k: Builder, line: Line) -> None:
        line.y[0] = line.x[0]

    program, x = Program({"entry": (Kernel(entry), {})}), array("d", [0.0])
    fields: dict[str, Argument] = {"x": address_of(x), "y": address_of(x), "factor": 1.0, "offset": 0.0, "count": 1}
    for wrong in ({**fields, "more": 1}, {name: fields[name] for name in fields if name != "count"}, 3.0):
        with pytest.raises(KernelError, match="entry: line has the fields x, y, factor, offset, count, not"):
            program.run("entry", wrong)
    with pytest.raises(ValueError, match="argument"):
        program.run("entry", fields, 1)

    def unknown(k: Builder, piece: Piece) -> None:
        piece.at[0] = 0.0

    with pytest.raises(KernelError, match="unknown: annotate each run-time argument with one of Reals, F64s"):
        Program({"unknown": (Kernel(unknown), {})})

    def few(k: Builder, x: F64s) -> None:
        change(k, amount=1.0)

    def many(k: Builder, x: F64s) -> None:
        Kernel(Power(1).raised)(k, x, x)

    for body, rule in ((few, "change takes 1 arguments, not 0"), (many, "raised takes 1 arguments, not 2")):
        with pytest.raises(KernelError, match=rule):
            Module(HOST).add(Kernel(body), {}, "entry")
