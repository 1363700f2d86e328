"""What any recorded operations are in scalars: `Operation.reference`, walked forwards and backwards.

An oracle for whatever is on a tape, in the order that the tape promises: gradients go back operation by operation, and
within each as its own scalars have it. `same` holds a tape to it, to the bit.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tapegpt import Tape
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import INTERPRETED
from tapegpt.value import Value, walk_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.machine.target import Target
    from tapegpt.tape import Node
    from tapegpt.value import Matrix

TARGETS = [
    *[target for target in available(host_target()) if target.name != "interpreted"],
    INTERPRETED,
]


def recorded(build: Callable[[Tape], Node], positions: int, target: Target | None = None) -> Tape:
    """A tape with what `build` records, its last node (1, 1); every source that has no numbers has random ones."""
    tape = Tape(positions, target)
    build(tape)
    rng = random.Random(len(tape.nodes))
    for node in tape.nodes:
        if not node.operation:
            count = tape.rows(node) * node.shape.columns
            ids = [rng.randrange(min(node.bound, 9)) for _ in range(count)]
            tape.write(node, ids if node.shape.index else [rng.gauss(0, 1) for _ in range(count)])
    return tape


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
