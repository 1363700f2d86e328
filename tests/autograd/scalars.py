"""What any recorded operations are in scalars: `Operation.reference`, walked forwards and backwards.

An oracle for whatever is on a tape, in the order that the tape promises: gradients go back operation by operation, and
within each as its own scalars have it. `same` holds a tape to it, to the bit; `near` what the fast engine makes of it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tapegpt.autograd import Tape
from tapegpt.autograd.fast_rewrites import FAST
from tapegpt.autograd.operations.base import Batch
from tapegpt.autograd.rewrites import Rewriting
from tapegpt.autograd.value import Value, walk_back
from tapegpt.machine.host import available, host_target
from tapegpt.machine.language import F32, F64
from tapegpt.machine.target import INTERPRETED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.value import Matrix
    from tapegpt.machine.language import Type
    from tapegpt.machine.target import Target

TARGETS = [
    *[target for target in available(host_target()) if target.name != "interpreted"],
    INTERPRETED,
]


def recorded(build: Callable[[Tape], Node], positions: int, target: Target | None = None, real: Type = F64) -> Tape:
    """A tape with what `build` records, its last node (1, 1); every source that has no numbers has random ones."""
    tape = Tape(positions, target, real)
    build(tape)
    fill(tape)
    return tape


def fill(tape: Tape) -> None:
    """Random numbers for every source."""
    rng = random.Random(len(tape.nodes))
    for node in tape.nodes:
        if not node.operation:
            count = node.rows * node.shape.columns
            ids = [rng.randrange(min(node.bound, 9)) for _ in range(count)]
            tape.write(node, ids if node.shape.index else [rng.gauss(0, 1) for _ in range(count)])


def reference(tape: Tape, output: Node, positions: int) -> dict[Node, Matrix]:
    """The rows of all that a (1, 1) output depends on, with their gradients."""
    rows: dict[Node, Matrix] = {}
    order = tape.order(output)
    for node in order:
        if node.operation:
            rows[node] = node.operation.reference({}, *[rows[each] for each in node.inputs])
        else:
            numbers = tape.read(node)[: node.shape.count(positions)]
            rows[node] = [[Value(number) for number in row] for row in numbers]
    rows[output][0][0].grad = 1.0
    for node in reversed(order):
        ends = [x for each in node.inputs for row in rows[each] for x in row]
        walk_back([x for row in rows[node] for x in row] if node.operation else [], ends)
    return rows


def same(build: Callable[[Tape], Node], positions: int, target: Target) -> None:
    """Numbers and gradients of a tape are the reference's, twice: the second time its memory is not fresh."""
    tape = recorded(build, positions, target)
    output = tape.nodes[-1]
    for used in (positions, max(1, positions - 1)):
        tape.forward(output, used)
        tape.backward(output)
        for node, rows in reference(tape, output, used).items():
            if not node.shape.index:
                assert tape.read(node)[: len(rows)] == [[x.data for x in row] for row in rows], node
            if node.gradient >= 0:
                assert tape.gradient(node) == [[x.grad for x in row] for row in rows], node


def near(build: Callable[[Tape], Node], positions: int, target: Target, error: float = 1e-5) -> Tape:
    """What the fast engine's rules make of a tape has its result and its gradients; the new tape."""
    tape = recorded(build, positions)
    output, fast = tape.nodes[-1], Tape(positions, target, F32)
    given = [node for node in tape.nodes if not node.operation and not node.is_parameter]
    about = {name: fast.indices(name) for name in ("positions", "ends")} | {"share": fast.input("share", 1, 1)}
    for node in given:
        own = (
            fast.indices(node.name) if node.shape.index else fast.input(node.name, node.shape.columns, node.shape.rows)
        )
        about[node.name] = own
    rewriting = Rewriting(tape, [output], fast, FAST, about, Batch(positions, positions))
    result = rewriting.input(output)
    fast.write(about["positions"], range(positions))
    fast.write(about["ends"], [positions] * positions)
    fast.write(about["share"], [1 / positions])
    for node in given:
        fast.write(about[node.name], [number for row in tape.read(node) for number in row])
    for name, place in rewriting.parameters.items():
        (parameter,) = (node for node in tape.parameters() if node.name == name)
        for row, numbers in zip(place.rows, tape.read(parameter), strict=True):
            for column, number in zip(place.columns, numbers, strict=True):
                fast.views(place.node)[row][column] = number
    for _ in range(2):  # the second time its memory is not fresh
        assert fast.forward(result)[0] == pytest.approx(tape.forward(output)[0], rel=error, abs=error)
        fast.backward(result)
    tape.backward(output)
    for parameter in tape.parameters():
        place = rewriting.parameters[parameter.name]
        gradient, wanted = fast.gradient(place.node), tape.gradient(parameter)
        scale = max(abs(number) for row in wanted for number in row)
        for row, numbers in zip(place.rows, wanted, strict=True):
            found = [gradient[row][column] for column in place.columns]
            assert found == pytest.approx(numbers, rel=error, abs=error * max(scale, 1e-3)), (parameter, row)
    return fast
