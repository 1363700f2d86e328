"""Random graphs on the tape against the reference's scalars, to the bit: forwards, backwards, every node.

A graph is any operations that `Tape` and `Node` offer, on parameters, inputs and results in every place, some used
twice, with numbers from subnormal to NaN. Two oracles of `Operation.reference` judge it. `by_operation` is what the
tape promises for every graph: operations in the reverse of the depth-first post-order, each one's scalars in their own.
`as_one` is one graph of scalars and `Value.backward`, which the tape must equal to the bit where docs/exactness.md says
so, and elsewhere but for rounding. Where Python's `**`, `exp` or `log` raise, both go on with what the C library gives.

`python -m tests.autograd.graphs 10000 [seed]` judges so many.
"""

from __future__ import annotations

import ctypes
import math
import random
import sys
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from tapegpt import TapeGPTError
from tapegpt.autograd import Tape, Value, check_gradients
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import INTERPRETED, Target
from tests.properties import skip_passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.autograd.node import Node

Matrix = list[list[Value]]
Numbers = list[list[float]]

UNITS = [target for target in available(host_target()) if target.name != "interpreted"]
INTERPRETERS = [INTERPRETED.replace(vector_bytes=size) for size in (16, 32, 64)]
COLUMNS = [1, 1, 2, 3, 3, 4, 6, 7, 8, 9, 12, 17]
TINY, HUGE = [5e-324, -5e-324, 2.5e-308, -1e-310, 1e-200], [1e200, -1e200, 1.7e308, math.inf, -math.inf, math.nan]
EXTREME = [0.0, -0.0, 1.0, -1.0, 700.0, -800.0, *TINY, *HUGE]
FUNCTIONS = ["exp", "log", "sqrt", "tanh", "sigmoid", "relu", "silu", "gelu"]
REDUCTIONS = [("sum", 0), ("sum", 1), ("mean", None), ("mean", 0), ("mean", 1), ("max", 0), ("max", 1)]
UNEVEN = {"relu", "log", "sqrt", "abs", "a / b", "c / a", "maximum", "maximum c", "maximum for all", "max 0", "max 1"}
EXPONENTS = [-1, 2, 3, 0.5, -0.5, -2.5, 1, 0, -0.0, 1e-300, math.inf, -math.inf, math.nan]

_LIBM = ctypes.CDLL(None)
for _name, _count in (("pow", 2), ("exp", 1), ("log", 1)):
    getattr(_LIBM, _name).restype = ctypes.c_double
    getattr(_LIBM, _name).argtypes = [ctypes.c_double] * _count


# --- scalars, where Python's own raise as well --------------------------------------------------------------------


_POW, _EXP, _LOG, _SQRT = Value.__pow__, Value.exp, Value.log, Value.sqrt


def power(a: Value, exponent: float) -> Value:
    """a ** exponent."""
    try:
        result = _POW(a, exponent)
        if isinstance(result.data, float) and isinstance(result.local_grads[0], float):  # and not complex
            return result
    except ArithmeticError:
        pass
    return Value(_LIBM.pow(a.data, exponent), (a,), (exponent * _LIBM.pow(a.data, exponent - 1),))


def exponential(a: Value) -> Value:
    """e ** a."""
    try:
        return _EXP(a)
    except ArithmeticError:
        return Value(_LIBM.exp(a.data), (a,), (_LIBM.exp(a.data),))


def logarithm(a: Value) -> Value:
    """log(a)."""
    try:
        return _LOG(a)
    except ValueError:
        return Value(_LIBM.log(a.data), (a,), (1 / a.data if a.data else math.copysign(math.inf, a.data),))


def root(a: Value) -> Value:
    """sqrt(a)."""
    try:
        return _SQRT(a)
    except ArithmeticError:
        return Value(a.data, (a,), (math.copysign(math.inf, a.data),))
    except ValueError:
        return Value(math.nan, (a,), (math.nan,))


IN_SPITE: dict[str, Any] = {"__pow__": power, "exp": exponential, "log": logarithm, "sqrt": root}


# --- operations: how they are recorded -----------------------------------------------------------------------------


class Kind(NamedTuple):
    """`record(tape, constant, *nodes)`; `takes` says what the nodes should be."""

    takes: str
    record: Callable[..., Node]


def each(takes: str, record: Callable[..., Node]) -> Kind:
    """What needs no tape."""
    return Kind(takes, lambda tape, c, *nodes: record(c, *nodes))


ELEMENTWISE = {
    "a + b": each("aa", lambda c, a, b: a + b),
    "a * b": each("aa", lambda c, a, b: a * b),
    "a - b": each("aa", lambda c, a, b: a - b),
    "a / b": each("aa", lambda c, a, b: a / b),
    "a + c": each("a", lambda c, a: a + c),
    "c * a": each("a", lambda c, a: c * a),
    "a - c": each("a", lambda c, a: a - c),
    "c - a": each("a", lambda c, a: c - a),
    "a / c": each("a", lambda c, a: a / c),
    "c / a": each("a", lambda c, a: c / a),
    "a ** c": each("a", lambda c, a: a**c),
    "-a": each("a", lambda c, a: -a),
    "maximum": each("aa", lambda c, a, b: a.maximum(b)),
    "maximum c": each("a", lambda c, a: a.maximum(c)),
    "abs": each("a", lambda c, a: abs(a)),
    **{name: each("a", lambda c, a, name=name: getattr(a, name)()) for name in FUNCTIONS},
    "sum": each("a", lambda c, a: a.sum()),
}
MATRIX = {
    "one for all": each("ab", lambda c, a, b: a * b),
    "for all one": each("ab", lambda c, a, b: b + a),
    "maximum for all": each("ab", lambda c, a, b: b.maximum(a)),
    **{
        f"{name} {axis}": each("a", lambda c, a, name=name, axis=axis: getattr(a, name)(axis))
        for name, axis in REDUCTIONS
    },
    "linear": Kind("aw", lambda tape, c, x, w: tape.linear(x, w)),
    "linear last": Kind("twi", lambda tape, c, x, w, i: tape.linear(x, w, last=i)),
    "rmsnorm": Kind("a", lambda tape, c, x: x.rmsnorm()),
    "layer_norm": Kind("a", lambda tape, c, x: x.layer_norm()),
    "attention": Kind("qkk", lambda tape, c, q, k, v: tape.attention(q, k, v, c)),
    "softmax": each("a", lambda c, x: x.softmax()),
    "log_softmax": each("a", lambda c, x: x.log_softmax()),
    "columns": each("a", lambda c, x: x[:, ::-2]),
    "concatenate": Kind("aa", lambda tape, c, x, y: tape.concatenate([x, y])),
    "transpose": each("f", lambda c, x: x.T),
    "shift": each("t", lambda c, x: x.shift(1)),
    "mse": Kind("aa", lambda tape, c, x, y: tape.mse(x, y)),
    "cross_entropy": Kind("ti", lambda tape, c, x, i: tape.cross_entropy(x, i)),
    "embedding": Kind("fi", lambda tape, c, table, i: tape.embedding(table, i)),
}
KINDS = {**ELEMENTWISE, **MATRIX}


class Graph:
    """A tape with random operations, its output the last node, and the numbers that were written to it."""

    def __init__(self, rng: random.Random, target: Target, *, smooth: bool = False) -> None:
        self.rng, self.smooth, self.lone, self.differenced = rng, smooth, False, False
        self.positions = rng.choice([1, 2, 2, 3, 3, 5, 9])
        self.tape = Tape(self.positions, target)
        self.kinds: Counter[str] = Counter()  # that were recorded
        self.places: set[int] = set()  # token ids that are the positions
        self.refused: Counter[str] = Counter()
        self.columns = rng.choice(COLUMNS)
        self.numbers: dict[int, Numbers] = {}
        self.drawn = random.Random(rng.getrandbits(32))  # numbers that round, where rng is one that prefers plain ones

    # --- recording ------------------------------------------------------------------------------------------------

    def grow(self, kinds: list[str]) -> Graph:
        """Record operations of these kinds on whatever is there."""
        self._source("a", [])
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
            sources.append(self._source(place, sources))
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

    def _source(self, kind: str, chosen: list[Node]) -> Node:
        """A new parameter or input that is fit for a place of an operation, whose first places are chosen."""
        rng, tape, name = self.rng, self.tape, f"n{len(self.tape.nodes)}"
        if kind == "i":
            return tape.indices(name)
        columns = rng.choice([3, 6, 12]) if kind == "q" else self.columns
        rows = None if kind in "qkt" else rng.choice([1, 2, 3, 5, 9, 18])
        if kind in "wkb":
            columns = chosen[0].shape.columns
        if kind == "b":
            columns, rows = rng.choice([1, columns]), rng.choice([1, chosen[0].shape.rows])
        if rows is None and rng.random() < 0.8:
            ids = tape.indices(f"{name} places")
            self.places.add(ids.index)
            self._operation("embedding", tape.parameter(name, self.positions, columns), ids)
            return tape.nodes[-1]
        if rows is None or (kind == "a" and rng.random() < 0.2):
            return tape.input(name, columns)
        return tape.parameter(name, rows, columns) if rng.random() < 0.7 else tape.input(name, columns, rows)

    def _input(self, kind: str, chosen: list[Node]) -> Node:
        """A node for a place of an operation, whose first places are chosen: mostly one that fits, or a new one."""
        rng, nodes = self.rng, self.tape.nodes
        fits: dict[str, Callable[[Node], bool]] = {
            "a": lambda node: not node.shape.index and (not chosen or node.shape == chosen[0].shape),
            "w": lambda node: node.shape.rows is not None and node.shape.columns == chosen[0].shape.columns,
            "b": lambda node: (
                not node.shape.index
                and node.shape.rows in (1, chosen[0].shape.rows)
                and node.shape.columns in (1, chosen[0].shape.columns)
            ),
            "i": lambda node: node.shape.index and node.index not in self.places,
            "q": lambda node: node.shape.rows is None and node.shape.columns % 3 == 0,
            "k": lambda node: node.shape == chosen[0].shape,
            "t": lambda node: node.shape.rows is None and not node.shape.index,
            "f": lambda node: node.shape.rows is not None,
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
        return self._source(kind, chosen)

    def _operation(self, kind: str, *chosen: Node) -> None:
        """Record an operation, or be refused."""
        nodes = list(chosen)
        while len(nodes) < len(KINDS[kind].takes):
            nodes.append(self._input(KINDS[kind].takes[len(nodes)], nodes))
        try:
            KINDS[kind].record(self.tape, self._constant(kind), *nodes)
            self.kinds[kind] += 1
        except TapeGPTError as error:
            self.refused[kind] += 1
            if "%" not in str(error):
                raise AssertionError("no node is named") from error

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
                    bound, in_order = min(node.bound, 9), node.index in self.places
                    given: Numbers = [[row % bound if in_order else self.rng.randrange(bound)] for row in rows]
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
        """One graph of scalars."""
        values: dict[int, Matrix] = {}
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
            is_linear = node.operation and node.operation.name == "linear"
            for additions in reversed(found) if is_linear else found:  # a node in two places: of W first
                for whose, addition in additions:
                    whose.grad += addition
        return values

    def _scalars(self, node: Node, inputs: list[Matrix]) -> Matrix:
        if node.operation:
            return node.operation.reference({}, *inputs)
        return [[Value(number) for number in row] for row in self.numbers[node.index]]

    def _roots(self, node: Node, values: dict[int, Matrix]) -> list[Value]:
        """An operation's results in the order in which they are visited."""
        rows = values[node.index]
        if node.operation and node.operation.name == "linear" and len(node.inputs) == 3:
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
        with mock.patch.multiple(Value, **IN_SPITE):
            expected, whole = self.by_operation(), self.as_one()
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
        self._judge_as_one(expected, whole)

    def _judge_as_one(self, expected: dict[int, Matrix], whole: dict[int, Matrix]) -> None:
        is_exact = self.lone or all(kind in ELEMENTWISE for kind in self.kinds)
        scale = max(abs(x.grad) + abs(x.data) for matrix in expected.values() for row in matrix for x in row)
        for index, matrix in whole.items():
            of_one, of_tape = ([[x.grad for x in row] for row in m] for m in (matrix, expected[index]))
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
        kinds = [kind for kind in kinds if kind not in UNEVEN]
    graph = Graph(rng, target, smooth=smooth).grow(kinds)
    try:
        with nullcontext() if optimised else skip_passes():
            for count in (graph.positions, rng.randrange(1, graph.positions + 1)):
                graph.run(count)
            if smooth and graph.output.gradient >= 0 and target in UNITS:
                graph.differenced = graph.differences()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{graph.tape.show()}\n{graph.numbers}") from error
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
        kinds += graph.kinds
        refused += graph.refused
        targets[f"{target.name} {target.vector_bytes}"] += 1
        differenced += graph.differenced
    print(f"seed {seed}: {count} graphs, no difference; {differenced} against finite differences as well")
    for what, counter in (("recorded", kinds), ("refused", refused), ("targets", targets)):
        print(f"{what}:", ", ".join(f"{name} {n}" for name, n in counter.most_common()))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32))
