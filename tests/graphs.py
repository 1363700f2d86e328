"""Random graphs on the tape against the reference's scalars, to the bit: forwards, backwards, every node.

A graph is any operations that `Tape` and `Node` offer, on parameters, inputs and results in every place, some used
twice, with numbers from subnormal to NaN. Two oracles of `reference.Value`s judge it. `by_operation` is what the tape
promises for every graph: operations in the reverse of the depth-first post-order, each one's scalars in their own.
`as_one` is one graph of scalars and `Value.backward`, which the tape must equal to the bit where docs/exactness.md says
so, and elsewhere but for rounding. Where Python's `**`, `exp` or `log` raise, both go on with what the C library gives.

`python -m tests.graphs 10000 [seed]` judges so many.
"""

from __future__ import annotations

import ctypes
import math
import random
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

from tapegpt import Tape, TapeGPTError, Value, check_gradients
from tapegpt.machine import llvm
from tapegpt.machine.host import available, host_target
from tapegpt.machine.llvm import compile_object
from tapegpt.machine.target import INTERPRETED, Target
from tapegpt.value import linear, rmsnorm, softmax, total

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.tape import Node

Matrix = list[list[Value]]
Numbers = list[list[float]]

UNITS = [target for target in available(host_target()) if target.name != "interpreted"]
INTERPRETERS = [INTERPRETED.replaced(vector_bytes=size) for size in (16, 32, 64)]
COLUMNS = [1, 1, 2, 3, 3, 4, 6, 7, 8, 9, 12, 17]
TINY, HUGE = [5e-324, -5e-324, 2.5e-308, -1e-310, 1e-200], [1e200, -1e200, 1.7e308, math.inf, -math.inf, math.nan]
EXTREME = [0.0, -0.0, 1.0, -1.0, 700.0, -800.0, *TINY, *HUGE]
EXPONENTS = [-1, 2, 3, 0.5, -0.5, -2.5, 1, 0, -0.0, 1e-300, math.inf, -math.inf, math.nan]

_LIBM = ctypes.CDLL(None)
for _name, _count in (("pow", 2), ("exp", 1), ("log", 1)):
    getattr(_LIBM, _name).restype = ctypes.c_double
    getattr(_LIBM, _name).argtypes = [ctypes.c_double] * _count


# --- scalars, where Python's own raise as well --------------------------------------------------------------------


def power(a: Value, exponent: float) -> Value:
    """a ** exponent."""
    try:
        result = a**exponent
        if isinstance(result.data, float) and isinstance(result.local_grads[0], float):  # and not complex
            return result
    except ArithmeticError:
        pass
    return Value(_LIBM.pow(a.data, exponent), (a,), (exponent * _LIBM.pow(a.data, exponent - 1),))


def exponential(a: Value) -> Value:
    """e ** a."""
    try:
        return a.exp()
    except ArithmeticError:
        return Value(_LIBM.exp(a.data), (a,), (_LIBM.exp(a.data),))


def logarithm(a: Value) -> Value:
    """log(a)."""
    try:
        return a.log()
    except ValueError:
        return Value(_LIBM.log(a.data), (a,), (1 / a.data if a.data else math.copysign(math.inf, a.data),))


def attention(qkv: Matrix, n_head: int) -> Matrix:
    """As `ReferenceEngine.gpt` does it, on columns head by head."""
    head_dim = len(qkv[0]) // 3 // n_head
    result: Matrix = []
    for t, row in enumerate(qkv):
        result.append([])
        for start in range(0, len(row), 3 * head_dim):
            q, k, v = ([line[start + i * head_dim :][:head_dim] for line in qkv[: t + 1]] for i in range(3))
            logits = [total(q[t][j] * key[j] for j in range(head_dim)) / head_dim**0.5 for key in k]
            weights = softmax(logits)
            result[t] += [total(w * line[j] for w, line in zip(weights, v, strict=True)) for j in range(head_dim)]
    return result


def cross_entropy(logits: Matrix, targets: Matrix) -> Matrix:
    """As `ReferenceEngine.loss` does it."""
    pairs = zip(logits, targets, strict=True)
    losses = [-logarithm(softmax(row)[int(target.data)]) for row, (target,) in pairs]
    return [[(1 / len(losses)) * total(losses)]]


def same(number: Value) -> Value:
    """A row that is looked up has a gradient of its own on the tape, which is then added to the table's."""
    return Value(number.data, (number,), (1,))


# --- operations: how they are recorded, and what they are in scalars -----------------------------------------------


class Kind(NamedTuple):
    """`record(tape, constant, *nodes)` and `scalars(constant, *matrices)`; `takes` says what the nodes should be."""

    takes: str
    record: Callable[..., Node]
    scalars: Callable[..., Matrix]


def each(takes: str, record: Callable[..., Node], scalar: Callable[..., Value]) -> Kind:
    """Number by number."""

    def scalars(constant: float, *matrices: Matrix) -> Matrix:
        return [[scalar(constant, *cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]

    return Kind(takes, lambda tape, c, *nodes: record(c, *nodes), scalars)


ELEMENTWISE = {
    "a + b": each("aa", lambda c, a, b: a + b, lambda c, a, b: a + b),
    "a * b": each("aa", lambda c, a, b: a * b, lambda c, a, b: a * b),
    "a - b": each("aa", lambda c, a, b: a - b, lambda c, a, b: a - b),
    "a / b": each("aa", lambda c, a, b: a / b, lambda c, a, b: a * power(b, -1)),
    "a + c": each("a", lambda c, a: a + c, lambda c, a: a + c),
    "c * a": each("a", lambda c, a: c * a, lambda c, a: c * a),
    "a - c": each("a", lambda c, a: a - c, lambda c, a: a - c),
    "c - a": each("a", lambda c, a: c - a, lambda c, a: c - a),
    "a / c": each("a", lambda c, a: a / c, lambda c, a: a / c),
    "c / a": each("a", lambda c, a: c / a, lambda c, a: power(a, -1) * c),
    "a ** c": each("a", lambda c, a: a**c, lambda c, a: power(a, c)),
    "-a": each("a", lambda c, a: -a, lambda c, a: -a),
    "exp": each("a", lambda c, a: a.exp(), lambda c, a: exponential(a)),
    "log": each("a", lambda c, a: a.log(), lambda c, a: logarithm(a)),
    "relu": each("a", lambda c, a: a.relu(), lambda c, a: a.relu()),
    "sum": Kind("a", lambda tape, c, a: a.sum(), lambda c, a: [[total(x for row in a for x in row)]]),
}
MATRIX = {
    "linear": Kind("aw", lambda tape, c, x, w: tape.linear(x, w), lambda c, x, w: [linear(row, w) for row in x]),
    "linear last": Kind(
        "twi", lambda tape, c, x, w, i: tape.linear(x, w, last=i), lambda c, x, w, i: [linear(row, w) for row in x]
    ),
    "rmsnorm": Kind("a", lambda tape, c, x: tape.rmsnorm(x), lambda c, x: [rmsnorm(row) for row in x]),
    "attention": Kind("q", lambda tape, c, x: tape.attention(x, c), lambda c, x: attention(x, c)),
    "cross_entropy": Kind("ti", lambda tape, c, x, i: tape.cross_entropy(x, i), lambda c, x, i: cross_entropy(x, i)),
    "embedding": Kind(
        "fi",
        lambda tape, c, table, i: tape.embedding(table, i),
        lambda c, table, i: [[same(x) for x in table[int(row.data)]] for (row,) in i],
    ),
    "positions": Kind(
        "p",
        lambda tape, c, table: tape.position_embedding(table),
        lambda c, table: [[same(x) for x in row] for row in table],
    ),
}
KINDS = {**ELEMENTWISE, **MATRIX}
STEPS = {  # what is two operations on the tape, as in microgpt.py
    "a - b": ["-a", "a + b"],
    "a / b": ["a ** c", "a * b"],
    "c - a": ["-a", "a + c"],
    "c / a": ["a ** c", "c * a"],
}


class Graph:
    """A tape with random operations, its output the last node, and the numbers that were written to it."""

    def __init__(self, rng: random.Random, target: Target, *, smooth: bool = False) -> None:
        self.rng, self.smooth, self.lone, self.differenced = rng, smooth, False, False
        self.positions = rng.choice([1, 2, 2, 3, 3, 5, 9])
        self.tape = Tape(self.positions, target)
        self.steps: dict[int, tuple[str, float]] = {}  # of a result: its kind and constant
        self.refused: Counter[str] = Counter()
        self.columns = rng.choice(COLUMNS)
        self.numbers: dict[int, Numbers] = {}
        self.drawn = random.Random(rng.getrandbits(32))  # numbers that round, where rng is one that prefers plain ones

    # --- recording ------------------------------------------------------------------------------------------------

    def grow(self, kinds: list[str]) -> Graph:
        """Record operations of these kinds on whatever is there."""
        self._source("a")
        for _ in range(self.rng.choice([1, 2, 3, 5, 8, 12])):
            self._operation(self.rng.choice(kinds))
        last = self.tape.nodes[-1]
        if (last.shape.rows, last.shape.columns) != (1, 1):
            self._operation("sum", last)
        return self

    def alone(self, kind: str) -> Graph:
        """Record an operation whose inputs have no other use, some on its results, and a weighted sum."""
        self.lone = True
        sources: list[Node] = []
        for place in KINDS[kind].takes:
            sources.append(self._source(place, sources[0].shape.columns if place == "w" else self._width(place)))
        self._operation(kind, *sources)
        self.first = sources[0].index
        results = [self.tape.nodes[-1]]
        for _ in range(self.rng.choice([0, 1, 3]) if kind != "embedding" else 0):  # rows that recur are used once
            above = self.rng.choice([each for each in ELEMENTWISE if each != "sum"])
            self._operation(above, *[self.rng.choice(results) for _ in KINDS[above].takes])
            results.append(self.tape.nodes[-1])
        y = results[-1]
        self._operation("a * b", y, self.tape.input("others", y.shape.columns, y.shape.rows))
        self._operation("sum", self.tape.nodes[-1])
        return self

    def shared(self, kind: str) -> Graph:
        """The same, and its first input is used once more: on the way back that use comes first."""
        x = self.tape.nodes[self.alone(kind).first]
        self.lone, y = False, self.output
        self._operation("a * b", x, self.tape.input("more", x.shape.columns, x.shape.rows))
        self._operation("sum", self.output)
        self._operation("a + b", y, self.output)
        return self

    @property
    def output(self) -> Node:
        """What is computed and differentiated."""
        return self.tape.nodes[-1]

    def _width(self, kind: str) -> int:
        """Columns for a place, 0 for any."""
        return self.rng.choice([3, 6, 12]) if kind == "q" else 0

    def _source(self, kind: str, columns: int = 0) -> Node:
        """A new parameter or input that is fit for a place."""
        rng, tape, name = self.rng, self.tape, f"n{len(self.tape.nodes)}"
        if kind == "i":
            return tape.indices(name)
        rows = max(rng.choice([1, 2, 3, 5, 9, 18]), self.positions if kind == "p" else 1)
        columns = columns or self.columns
        if kind in "qt" and rng.random() < 0.8:
            self._operation("positions", self._source("p", columns))
            return tape.nodes[-1]
        if kind in "qt" or (kind == "a" and rng.random() < 0.2):
            return tape.input(name, columns)
        return tape.parameter(name, rows, columns) if rng.random() < 0.7 else tape.input(name, columns, rows)

    def _input(self, kind: str, chosen: list[Node]) -> Node:
        """A node for a place of an operation, whose first places are chosen: mostly one that fits, or a new one."""
        rng, nodes = self.rng, self.tape.nodes
        fits: dict[str, Callable[[Node], bool]] = {
            "a": lambda node: not node.shape.index and (not chosen or node.shape == chosen[0].shape),
            "w": lambda node: node.shape.rows is not None and node.shape.columns == chosen[0].shape.columns,
            "i": lambda node: node.shape.index,
            "q": lambda node: node.shape.rows is None and node.shape.columns % 3 == 0,
            "t": lambda node: node.shape.rows is None and not node.shape.index,
            "f": lambda node: node.shape.rows is not None,
            "p": lambda node: (node.shape.rows or 0) >= self.positions,
        }
        found = [node for node in nodes if fits[kind](node)]
        luck = rng.random()
        if luck < 0.05:
            return rng.choice(nodes)
        if found and luck < 0.8:
            return rng.choice(found[-4:] if luck < 0.5 else found)
        if kind == "a" and chosen:
            rows, name = chosen[0].shape.rows, f"n{len(nodes)}"
            if rows is None or luck > 0.95:
                return self.tape.input(name, chosen[0].shape.columns, rows)
            return self.tape.parameter(name, rows, chosen[0].shape.columns)
        return self._source(kind, chosen[0].shape.columns if kind == "w" else self._width(kind))

    def _operation(self, kind: str, *chosen: Node) -> None:
        """Record an operation, or be refused."""
        nodes = list(chosen)
        while len(nodes) < len(KINDS[kind].takes):
            nodes.append(self._input(KINDS[kind].takes[len(nodes)], nodes))
        constant, steps = self._constant(kind), STEPS.get(kind, [kind])
        start = len(self.tape.nodes)
        try:
            KINDS[kind].record(self.tape, constant, *nodes)
        except TapeGPTError as error:
            self.refused[kind] += 1
            if "%" not in str(error):
                raise AssertionError("no node is named") from error
        for node, step in zip(self.tape.nodes[start:], steps, strict=False):  # the first of two may have gone well
            self.steps[node.index] = (step, -1.0 if step is not steps[-1] else constant)

    def _constant(self, kind: str) -> float:
        rng = self.rng
        if kind == "attention":
            return rng.choice([1, 1, 2])
        if self.smooth:
            return rng.choice([2, 3]) if kind == "a ** c" else rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        if kind == "a ** c":
            return rng.choice(EXPONENTS)
        return rng.choice([self.drawn.gauss(0, 1)] * 8 + [2, -3, 0, -0.0, *EXTREME])

    # --- numbers ----------------------------------------------------------------------------------------------------

    def write(self, count: int) -> None:
        """Write to the sources: all numbers, of a row for each position so many."""
        extreme = self.rng.random() < 0.4
        for node in self.tape.nodes:
            is_due = node.index not in self.numbers or node.shape.rows is None or self.rng.random() < 0.5
            if is_due and not node.operation:
                rows = range(node.shape.rows or count)
                if node.shape.index:
                    given: Numbers = [[self.rng.randrange(min(node.bound, 9))] for _ in rows]
                else:
                    given = [[self._number(extreme) for _ in range(node.shape.columns)] for _ in rows]
                self.numbers[node.index] = given
                self.tape.write(node, [number for row in given for number in row])

    def _number(self, extreme: bool) -> float:
        rng = self.drawn
        if self.smooth:
            return rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        return rng.choice(EXTREME) if extreme and rng.random() < 0.3 else rng.gauss(0, 1)

    # --- oracles ----------------------------------------------------------------------------------------------------

    def order(self) -> list[Node]:
        """What the output depends on, in depth-first post-order."""
        order: list[Node] = []

        def visit(node: Node) -> None:
            if node not in order:
                for child in node.inputs:
                    visit(child)
                order.append(node)

        visit(self.output)
        return order

    def as_one(self) -> dict[int, Matrix]:
        """One graph of scalars; what is looked up is the table's own."""
        values: dict[int, Matrix] = {}
        with mock.patch(f"{__name__}.same", lambda number: number):
            for node in self.order():
                values[node.index] = self._scalars(node, [values[i.index] for i in node.inputs])
        values[self.output.index][0][0].backward()
        return values

    def by_operation(self) -> dict[int, Matrix]:
        """Each operation a graph of its own, whose ends are copies of its inputs."""
        order = self.order()
        values: dict[int, Matrix] = {}
        copies: dict[int, list[Matrix]] = {}
        for node in order:
            copies[node.index] = [[[Value(x.data) for x in row] for row in values[i.index]] for i in node.inputs]
            values[node.index] = self._scalars(node, copies[node.index])
        values[self.output.index][0][0].grad = 1.0
        for node in reversed(order):
            ends: dict[Value, tuple[int, Value]] = {}  # a copy -> its place among the inputs, and whose it is
            for place, (copy, child) in enumerate(zip(copies[node.index], node.inputs, strict=True)):
                for own, real in zip(copy, values[child.index], strict=True):
                    ends.update((mine, (place, theirs)) for mine, theirs in zip(own, real, strict=True))
            found: list[list[tuple[Value, float]]] = [[] for _ in node.inputs]
            for value in reversed(post_order(self._roots(node, values))):
                for child_value, local in zip(value.children, value.local_grads, strict=True):
                    if child_value in ends:
                        place, whose = ends[child_value]
                        found[place].append((whose, local * value.grad))
                    else:
                        child_value.grad += local * value.grad
            is_linear = node.index in self.steps and self.steps[node.index][0].startswith("linear")
            for additions in reversed(found) if is_linear else found:  # a node in two places: of W first
                for whose, addition in additions:
                    whose.grad += addition
        return values

    def _scalars(self, node: Node, inputs: list[Matrix]) -> Matrix:
        if node.index in self.steps:
            kind, constant = self.steps[node.index]
            if kind == "positions":
                inputs = [inputs[0][: self.count]]
            return KINDS[kind].scalars(constant, *inputs)
        return [[Value(number) for number in row] for row in self.numbers[node.index]]

    def _roots(self, node: Node, values: dict[int, Matrix]) -> list[Value]:
        """An operation's results in the order in which they are visited."""
        rows = values[node.index]
        if node.index in self.steps and self.steps[node.index][0] == "linear last":
            last = [int(row[0].data) for row in values[node.inputs[2].index]]
            rows = [[row[i], *row[:i], *row[i + 1 :]] for row, i in zip(rows, last, strict=True)]
        return [value for row in rows for value in row]

    # --- judging ----------------------------------------------------------------------------------------------------

    def run(self, count: int) -> None:
        """Write, forwards and backwards, for so many positions; the tape must equal the oracles."""
        self.count = count
        self.write(count)
        tape, output = self.tape, self.output
        tape.forward(output, count)
        expected = self.by_operation()
        for index, matrix in expected.items():
            node = tape.nodes[index]
            read = tape.read(node)[: len(matrix)]
            assert alike(read, [[x.data for x in row] for row in matrix]), f"{node!r}: {read}"
        if output.gradient < 0:
            return
        tape.backward(output)
        for node in tape.nodes:
            if node.gradient >= 0:
                rows = count if node.shape.rows is None else node.shape.rows
                wanted = [[0.0] * node.shape.columns for _ in range(rows)]
                if node.index in expected:
                    wanted = [[x.grad for x in row] for row in expected[node.index]]
                assert alike(tape.gradient(node), wanted), f"{node!r}: {tape.gradient(node)}, not {wanted}"
        self._judge_as_one(expected)

    def _judge_as_one(self, expected: dict[int, Matrix]) -> None:
        whole, is_exact = self.as_one(), self.lone or all(kind in ELEMENTWISE for kind, _ in self.steps.values())
        scale = max(abs(x.grad) + abs(x.data) for matrix in expected.values() for row in matrix for x in row)
        for index, matrix in whole.items():
            of_one, of_tape = ([[x.grad for x in row] for row in m] for m in (matrix, expected[index]))
            if index in self.steps and self.steps[index][0] in ("embedding", "positions"):
                continue  # as one graph they are the table's own scalars
            if is_exact:
                assert alike(of_tape, of_one), f"%{index}: {of_tape}, as one graph {of_one}"
            elif self.smooth and self.tape.nodes[index].is_parameter and scale < 1e6:
                pairs = zip((x for row in of_tape for x in row), (x for row in of_one for x in row), strict=True)
                assert all(abs(a - b) <= 1e-12 * max(1.0, scale) for a, b in pairs), f"%{index}: {of_tape}, {of_one}"

    def differences(self) -> bool:
        """Hold the gradients against finite differences, where the numbers are tame enough."""
        parameters = self.tape.parameters()
        numbers = [x for rows in map(self.tape.gradient, parameters) for row in rows for x in row]
        if not numbers or len(numbers) > 100 or not max(map(abs, numbers)) < 100:
            return False
        check_gradients(self.tape, self.output, positions=self.count, step=1e-5, tolerance=1e-4)
        return True


def post_order(roots: list[Value]) -> list[Value]:
    """As `Value.backward` sorts, from several numbers."""
    order: list[Value] = []
    visited: set[Value] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        value, expanded = stack.pop()
        if expanded:
            order.append(value)
        elif value not in visited:
            visited.add(value)
            stack.append((value, True))
            stack.extend((child, False) for child in reversed(value.children))
    return order


def alike(came: Numbers, wanted: Numbers) -> bool:
    """Equal to the bit; NaN is NaN."""

    def bits(rows: Numbers) -> list[list[str]]:
        return [[float(number).hex() for number in row] for row in rows]

    return bits(came) == bits(wanted)


def judge(rng: random.Random, target: Target, *, optimised: bool = False) -> Graph:
    """Make a graph and run it twice, on other numbers and mostly on other positions."""
    luck = rng.random()
    kinds = list(ELEMENTWISE if luck < 0.25 else KINDS) + list(MATRIX) * (luck > 0.5)
    smooth = rng.random() < 0.2
    if smooth:
        kinds = [kind for kind in kinds if kind not in ("relu", "log", "a / b", "c / a")]
    graph = Graph(rng, target, smooth=smooth).grow(kinds)
    try:
        with mock.patch.object(llvm, "compile_object", lambda ir, target, **_: compile_object(ir, target, optimised)):
            for count in (graph.positions, rng.randrange(1, graph.positions + 1)):
                graph.run(count)
            if smooth and graph.output.gradient >= 0 and target in UNITS:
                graph.differenced = graph.differences()
    except AssertionError as error:
        steps = {f"%{index}": step for index, step in graph.steps.items()}
        raise AssertionError(f"{error}\n{graph.tape.show()}\n{steps}\n{graph.numbers}") from error
    return graph


def main(count: int, seed: int) -> None:
    """Judge so many graphs: three of four interpreted, the rest compiled, one of ten of these by LLVM's full passes."""
    kinds, refused, targets, differenced = Counter[str](), Counter[str](), Counter[str](), 0
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        target = rng.choice(INTERPRETERS if rng.random() < 0.75 else UNITS)
        try:
            graph = judge(rng, target, optimised=rng.random() < 0.1)
        except Exception:
            print(f"seed {seed}, graph {number}, {target.name} {target.vector_bytes}:", file=sys.stderr)
            raise
        kinds.update(kind for kind, _ in graph.steps.values())
        refused += graph.refused
        targets[f"{target.name} {target.vector_bytes}"] += 1
        differenced += graph.differenced
    print(f"seed {seed}: {count} graphs, no difference; {differenced} against finite differences as well")
    for what, counter in (("recorded", kinds), ("refused", refused), ("targets", targets)):
        print(f"{what}:", ", ".join(f"{name} {n}" for name, n in counter.most_common()))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32))
