"""The kernel language written out as source text: what C (`c.py`) and Python (`python.py`) have in common.

A vector is its lanes, each a scalar of its own. What nobody needs is left out, and what is used once is written where
it is used. Not here: threads, for which nobody asks in these languages.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

from tapegpt.machine import maker
from tapegpt.machine.language import BOOL, F64, I32, I64, Operand, Pointer, Type, Value, Variable
from tapegpt.machine.maker import Maker, constant_of
from tapegpt.machine.signature import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn

    from tapegpt.machine.language import Argument, Kernel, Traced
    from tapegpt.machine.target import Target

_NAME = re.compile(r"\b[aiprv]\d+\b")  # an argument, index, pointer, register or value, and nothing else
NEAR, LONG = 64, 100  # statements over which a text is moved, and characters that it becomes part of
VALUE, ASSIGN, EFFECT, OPEN, LOOP, CLOSE = range(6)  # kinds of statements
_SYMBOLS = {"add": "+", "sub": "-", "mul": "*"}


class Statement:
    """A line of a function; the targets are the names that it defines or assigns to."""

    __slots__ = ("kind", "loads", "targets", "text", "type")

    def __init__(
        self, kind: int, text: str, targets: tuple[str, ...] = (), type_: Type | None = BOOL, *, loads: bool = False
    ) -> None:
        self.kind, self.text, self.targets, self.type, self.loads = kind, text, targets, type_, loads

    @property
    def names(self) -> list[str]:
        """What it reads."""
        return _NAME.findall(self.text)


def tidy(statements: list[Statement]) -> list[Statement]:
    """The statements that are needed, with what is used once where it is used."""
    count = 0
    while count != len(statements):
        count = len(statements)
        statements = _needed(statements)
    reads = Counter(chain.from_iterable([each.names for each in statements]))
    pairs = [(each, statements[place : place + NEAR]) for place, each in enumerate(statements, 1)]
    return [each for each, ahead in pairs if not _move(each, ahead, reads)]


def _needed(statements: list[Statement]) -> list[Statement]:
    """Those whose targets are read: of values behind them, of registers anywhere."""
    reads = {name for each in statements for name in each.names if name[0] == "r"}
    kept = []
    for each in reversed(statements):
        if each.kind > ASSIGN or not reads.isdisjoint(each.targets):
            kept.append(each)
            reads.update(each.names)
    return kept[::-1]


def _move(moved: Statement, ahead: list[Statement], reads: Counter[str]) -> bool:
    """Write a value where it is used, if that is once, or it is but a name, and it is the same there."""
    is_name = _NAME.fullmatch(moved.text)
    if moved.kind != VALUE or len(moved.targets) > 1 or (reads[moved.targets[0]] > 1 and not is_name):
        return False
    [name], names, users, uses = moved.targets, set(moved.names), list[Statement](), reads[moved.targets[0]]
    for each in ahead:
        if count := each.names.count(name):
            users.append(each)
            uses -= count
        is_changed = each.kind == ASSIGN and not names.isdisjoint(each.targets)
        if not uses or each.kind in (OPEN, LOOP, CLOSE) or (each.kind == EFFECT and moved.loads) or is_changed:
            break
    if uses or any(each.kind == LOOP or len(each.text) + len(moved.text) > LONG for each in users):
        return False
    for each in users:
        each.text = re.sub(rf"\b{name}\b", lambda _: moved.text, each.text)
        each.loads |= moved.loads
    return True


def bare(text: str) -> str:
    """A text without parentheses around all of it."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return text[1:-1] if character == ")" and 0 < place == len(text) - 1 and text[0] == "(" else text
    return text


class Module(maker.Module):
    """Functions by name, each its maker."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._identifiers = dict[str, str]()

    def identifier(self, name: str) -> str:
        """What a function is called, and no other."""
        if name not in self._identifiers:
            called = re.sub(r"\W", "_", name)
            while called in self._identifiers.values():
                called += "_"
            self._identifiers[name] = called
        return self._identifiers[name]


class Source(Maker):
    """`data` of a scalar is the text of an operand, of a vector those of its lanes."""

    _module: Module
    _IF: str  # the beginning of what a condition holds for
    _ALWAYS: str  # that of an endless loop
    _UNLESS: str  # its end
    _LOGIC: Mapping[str, str]  # and, or, xor of conditions
    _PREFIX = ""  # of functions
    _WIDE = ""  # what makes a condition an i64

    def __init__(self, module: Module, name: str, is_entry: bool) -> None:
        super().__init__(module, name, is_entry)
        self.parameters: list[tuple[str, Argument]] = []
        self.statements: list[Statement] = []
        self._count = 0

    # --- what each language writes its own way ------------------------------------------------------------------

    _literal: Callable[[float, Type], str]
    _floats: Callable[[Type, int, list[str]], Value]  # what arithmetic on floats gives, rounded to the type
    _integers: Callable[[str, Value, Value], Value]
    _quotient: Callable[[str, str], str]
    _choice: Callable[[str, str, str], str]  # by a mask
    _header: Callable[[str, str, str, int], str]  # the beginning of a loop over numbers
    _outside: Callable[[str], str]  # what a function of libm is called

    # --- text ---------------------------------------------------------------------------------------------------

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def _say(self, kind: int, text: str, *targets: str, type_: Type | None = BOOL, loads: bool = False) -> None:
        self.statements.append(Statement(kind, text, targets, type_, loads=loads))

    def _data(self, operand: Traced) -> Any:
        if isinstance(operand.data, tuple):
            return tuple([super(Source, self)._data(Value(operand.k, operand.type, 0, lane)) for lane in operand.data])
        return super()._data(operand)

    def _lanes_of(self, operand: Operand) -> tuple[str, ...]:
        data = self._data(operand)
        return data if operand.lanes else (data,)

    def _of_lanes(self, kind: Type, lanes: int, texts: Sequence[str]) -> Value:
        return Value(self, kind, lanes, tuple(texts) if lanes else texts[0])

    def _each_time(self, stem: str, instruction: tuple[Type | None, str, bool]) -> str:
        kind, text, loads = instruction
        name: str = self._begin(self._fresh(stem))
        self._say(VALUE, text, name, type_=kind, loads=loads)
        return name

    def _values(self, kind: Type, lanes: int, texts: Sequence[str], *, loads: bool = False) -> Value:
        """What texts compute, a lane each."""
        make = self._each_time if loads else self._once
        return self._of_lanes(kind, lanes, [make("v", (kind, text, loads)) for text in texts])

    def _map(self, kind: Type, write: Callable[..., str], *values: Value) -> Value:
        """What a text for each lane computes."""
        return self._values(kind, values[0].lanes, self._texts(write, *values))

    def _texts(self, write: Callable[..., str], *values: Value) -> list[str]:
        return [write(*each) for each in zip(*map(self._lanes_of, values), strict=True)]

    def _argument(self, name: str, argument: Argument) -> str:
        self.parameters.append((self._fresh("a"), argument))
        return self.parameters[-1][0]

    def _finish(self, kernel: Kernel) -> Source:
        self.statements = tidy(self.statements)
        return self

    def _remember(self) -> Callable[[], None]:
        size = len(self.statements)
        return lambda: self.statements.__delitem__(slice(size, None))

    # --- control flow -------------------------------------------------------------------------------------------

    def _loop(self, first: str, last: str, step: int) -> Iterator[str]:
        index = self._fresh("i")
        self._say(LOOP, self._header(index, first, last, step))
        for _ in self._turns():
            yield self._fresh("i") if self._rehearses else index
        self._say(CLOSE, "")

    def when(self, condition: Operand) -> Iterator[None]:
        self._say(OPEN, self._IF.format(self._condition(condition)))
        yield from self._body()
        self._say(CLOSE, "")

    def repeat_while(self, condition: Callable[[], Operand]) -> Iterator[None]:
        self._say(OPEN, self._ALWAYS)
        for _ in self._turns():
            self._say(EFFECT, self._UNLESS.format(self._condition(condition())))
            yield
        self._say(CLOSE, "")

    # --- values -------------------------------------------------------------------------------------------------

    def constant(self, number: float, kind: Type, lanes: int) -> Value:
        return self._of_lanes(kind, lanes, [self._literal(constant_of(number, kind), kind)] * (lanes or 1))

    def lane_numbers(self, lanes: int) -> Value:
        return self._of_lanes(I32, lanes, [self._literal(lane, I32) for lane in range(lanes)])

    def allocate(self, kind: Type, lanes: int) -> Variable:
        names = tuple([self._begin(self._fresh("r")) for _ in range(lanes or 1)])
        return Variable(self, kind, lanes, names if lanes else names[0])

    def assign(self, variable: Variable, value: Value) -> None:
        pairs = [pair for pair in zip(self._lanes_of(variable), self._lanes_of(value), strict=True) if len({*pair}) > 1]
        for name, text in pairs:
            self._say(ASSIGN, text, name, type_=variable.type)

    def read(self, variable: Operand) -> Value:
        names = [self._each_time("v", (variable.type, name, False)) for name in self._lanes_of(variable)]
        return self._of_lanes(variable.type, variable.lanes, names)

    def splat(self, value: Value, lanes: int) -> Value:
        return self._of_lanes(value.type, lanes, [self._data(value)] * lanes)

    def extract(self, value: Value, index: int) -> Value:
        return self._of_lanes(value.type, 0, [self._lanes_of(value)[index]])

    def insert(self, value: Value, index: int, scalar: Value) -> Value:
        lanes = [*self._lanes_of(value)]
        lanes[index] = self._data(scalar)
        return self._of_lanes(value.type, value.lanes, lanes)

    def _shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        both = (*self._lanes_of(a), *self._lanes_of(b))
        return self._of_lanes(a.type, len(lanes), [both[lane] for lane in lanes])

    def binary(self, operation: str, a: Value, b: Value) -> Value:
        if operation == "div":
            return self._floats(a.type, a.lanes, self._texts(self._quotient, a, b))
        if not a.lanes and (operation, b.data) in (("add", "0"), ("mul", "1")):
            return a
        if a.type in (I64, I32):
            return self._integers(operation, a, b)
        symbol = (self._LOGIC if a.type is BOOL else _SYMBOLS)[operation]
        texts = self._texts(lambda x, y: f"({x} {symbol} {y})", a, b)
        return self._values(BOOL, a.lanes, texts) if a.type is BOOL else self._floats(a.type, a.lanes, texts)

    def compare(self, relation: str, a: Value, b: Value) -> Value:
        return self._map(BOOL, lambda x, y: f"({x} {relation} {y})", a, b)

    def choose(self, mask: Value, yes: Value, no: Value) -> Value:
        masks = self._lanes_of(self.splat(mask, yes.lanes) if yes.lanes and not mask.lanes else mask)
        rows = zip(masks, self._lanes_of(yes), self._lanes_of(no), strict=True)
        return self._values(yes.type, yes.lanes, [self._choice(*row) for row in rows])

    def _any(self, mask: Value) -> Value:
        either = f" {self._LOGIC['or']} "
        return self._values(BOOL, 0, [f"({either.join(self._lanes_of(mask))})"])

    def pack_bits(self, mask: Operand) -> Value:
        bits = [f"{self._WIDE}{lane} << {i}" for i, lane in enumerate(self._lanes_of(self._of(mask, BOOL)))]
        return self._values(I64, 0, [f"({' | '.join(bits)})"])

    # --- functions ----------------------------------------------------------------------------------------------

    def external(self, name: str, arguments: list[Value]) -> Value:
        return self._values(F64, 0, [f"{self._outside(name)}({', '.join(map(self._data, arguments))})"])

    def _function(self, name: str, x: Value) -> Value:
        called = self._rounded({"abs": "fabs"}.get(name, name), x.type)
        texts = self._texts(lambda each: f"{called}({each})", x)
        return (self._values if name == "abs" else self._floats)(x.type, x.lanes, texts)

    def _rounded(self, name: str, kind: Type) -> str:
        """What a function is called that is rounded correctly."""
        return name

    def call(self, kernel: Kernel, arguments: list[Pointer | Value], constants: dict[str, Any]) -> None:
        name = self._module.identifier(self._module.internal(kernel, constants))
        self._say(EFFECT, f"{self._PREFIX}{name}({', '.join(map(self._data, arguments))})")

    # --- threads ------------------------------------------------------------------------------------------------

    def _no_threads(self, *_: Any, **__: Any) -> NoReturn:
        raise KernelError("there are no threads in source text")

    _fma = fetch_add = load_shared = pause = yield_core = _no_threads
