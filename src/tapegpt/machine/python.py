"""The kernel language written out as plain Python, for CPython 3.8 and up, as fast as that goes.

Memory is a list of numbers for each type, `f64` and so on, as long as all of the memory is: a pointer is an index into
the list of its type. So what is written as one type is read as that type. Integers grow and are cut to their size only
where that makes a difference; numbers of f32 are rounded a vector at a time by `struct`. Integers that count, which are
indices of loops, arguments and registers, are taken to be below 2 ** 48.
"""

from __future__ import annotations

from types import MappingProxyType

from tapegpt.machine import arithmetic, source
from tapegpt.machine.language import F32, F64, I32, I64, U32, Operand, Pointer, Type, Value, Variable
from tapegpt.machine.maker import constant_of
from tapegpt.machine.source import ASSIGN, CLOSE, EFFECT, LOOP, OPEN, VALUE, Source, Statement, bare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tapegpt.machine.target import Target

PREFIX = "k_"  # of functions
COUNT = 48  # bits of an integer that counts
_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^", "shl": "<<"}
HELPERS = """\
import struct


def codec(form):
    made = struct.Struct(form)
    return made.pack, made.unpack


def round1(x):
    return unpack1(pack1(x))[0]

"""


class Module(source.Module):
    """Python text of the entry kernels, and of every kernel that they call, over a memory of so many bytes."""

    def __init__(self, target: Target, size: int) -> None:
        super().__init__(target)
        self.size = size
        self.rounded = {1}  # lanes of the vectors that are rounded
        self.tables: dict[Type, list[float]] = {}  # what lies behind the memory

    def _maker(self, name: str, is_entry: bool) -> _Function:
        return _Function(self, name, is_entry)

    def table(self, numbers: tuple[float, ...], kind: Type) -> int:
        """Where constants lie."""
        every = self.tables.setdefault(kind, [])
        every.extend([constant_of(number, kind) for number in numbers])
        return self.size // kind.size + len(every) - len(numbers)

    def __str__(self) -> str:
        named: dict[str, Any] = {self.identifier(name): each for name, each in self._functions.items()}
        functions = [f"def {PREFIX}{name}({each.signature}):\n{each.body}" for name, each in named.items()]
        codecs = [f"pack{n}, unpack{n} = codec('{n}f')" for n in sorted(self.rounded)]
        text = "\n\n".join(functions)
        memory = [
            f"{str(kind).upper()} = [{'0.0' if kind.is_float else '0'}] * {self.size // kind.size}"
            + (f" + {self.tables[kind]}" if kind in self.tables else "")
            for kind in (F64, F32, I64, I32, U32)
            if f"{str(kind).upper()}[" in text
        ]
        with open(arithmetic.__file__, encoding="utf-8") as file:
            helpers = file.read().partition('"""\n\n')[2]
        return "\n".join([helpers, HELPERS, *codecs, *memory, "", "", text])


def _line(statement: Statement) -> str:
    text, targets = bare(statement.text), ", ".join(statement.targets)
    if statement.kind in (VALUE, ASSIGN):
        return f"{targets} = {text}"
    return f"{text}:" if statement.kind in (OPEN, LOOP) else text


class _Function(Source):
    """A function; `data` of a pointer is the text of an index."""

    _module: Module
    _IF, _ALWAYS, _UNLESS = "if {}", "while True", "if not {}: break"
    _LOGIC = MappingProxyType({"and": "and", "or": "or", "xor": "^"})
    _PREFIX = PREFIX

    def __init__(self, module: Module, name: str, is_entry: bool) -> None:
        super().__init__(module, name, is_entry)
        self._bits: dict[str, int] = {}  # that integers have, with their sign

    @property
    def signature(self) -> str:
        return ", ".join([name for name, _ in self.parameters])

    @property
    def body(self) -> str:
        lines, depth = list[str](), 1
        for each in self.statements:
            if each.kind == CLOSE and lines[-1].endswith(":\n"):
                lines.append(f"{'    ' * depth}pass\n")
            depth -= each.kind == CLOSE
            if each.kind != CLOSE:
                lines.append(f"{'    ' * depth}{_line(each)}\n")
            depth += each.kind in (OPEN, LOOP)
        return "".join(lines) or "    pass\n"

    def _literal(self, number: float, kind: Type) -> str:
        return f"({number!r})" if str(number)[0] == "-" else repr(number)

    def _header(self, index: str, first: str, last: str, step: int) -> str:
        bounds = [first, last, *[str(step)] * (step != 1)] if first != "0" or step != 1 else [last]
        return f"for {index} in range({', '.join(bounds)})"

    def _values(self, kind: Type, lanes: int, texts: Sequence[str], *, loads: bool = False) -> Value:
        value = super()._values(kind, lanes, texts, loads=loads)
        for name in self._lanes_of(value):
            self._bits.setdefault(name, 8 * kind.size)
        return value

    def _together(self, kind: Type, lanes: int, text: str, *, loads: bool = False) -> Value:
        """Lanes that one text computes."""
        names = tuple([self._begin(self._fresh("v")) for _ in range(lanes)])
        self._say(VALUE, text, *names, type_=kind, loads=loads)
        self._bits.update(dict.fromkeys(names, 33 if kind is U32 else 8 * kind.size))
        return Value(self, kind, lanes, names)

    # --- integers -----------------------------------------------------------------------------------------------

    def allocate(self, kind: Type, lanes: int) -> Variable:
        variable = super().allocate(kind, lanes)
        self._bits.update(dict.fromkeys(self._lanes_of(variable), COUNT if kind is I64 else 8 * kind.size))
        return variable

    def assign(self, variable: Variable, value: Value) -> None:
        if variable.type in (I64, I32):
            for name, text in zip(self._lanes_of(variable), self._lanes_of(value), strict=True):
                self._bits[name] = max(self._bits[name], self._size(text) if self._size(text) > COUNT + 1 else 0)
            value = self._cut(value)
        super().assign(variable, value)

    def read(self, variable: Operand) -> Value:
        value = super().read(variable)
        for name, register in zip(self._lanes_of(value), self._lanes_of(variable), strict=True):
            self._bits[name] = self._bits[register]
        return value

    def _size(self, text: str) -> int:
        if text in self._bits:
            return self._bits[text]
        return COUNT if text[0] in "ai" else int(text.strip("()")).bit_length() + 1

    def _cut(self, value: Value) -> Value:
        """Integers cut to their type."""
        return self._of_lanes(value.type, value.lanes, self._texts(lambda x: self._whole(x, value.type), value))

    def _whole(self, text: str, kind: Type) -> str:
        bits = 8 * kind.size
        if kind not in (I64, I32) or self._size(text) <= bits:
            return text
        wrapped = f"(({text} & {(1 << bits) - 1} ^ {1 << bits - 1}) - {1 << bits - 1})"
        name: str = self._values(kind, 0, [wrapped]).data
        return name

    def _integers(self, operation: str, a: Value, b: Value) -> Value:
        pairs = [*zip(self._lanes_of(a), self._lanes_of(b), strict=True)]
        value = self._values(a.type, a.lanes, [self._integer(operation, a.type, *pair) for pair in pairs])
        for name, pair in zip(self._lanes_of(value), pairs, strict=True):
            self._bits[name] = self._size_of(operation, 8 * a.type.size, *pair)
        return value

    def _integer(self, operation: str, kind: Type, x: str, y: str) -> str:
        if operation in _SYMBOLS:
            return f"({x} {_SYMBOLS[operation]} {y})"
        if operation == "shr":
            return f"(({x} & {(1 << 8 * kind.size) - 1}) >> {y})"
        return f"{operation}({self._whole(x, kind)}, {self._whole(y, kind)})"

    def _size_of(self, operation: str, bits: int, x: str, y: str) -> int:
        m, n = self._size(x), self._size(y)
        places = int(y) if operation in ("shl", "shr") and y.isdigit() else None
        sizes = {
            "add": max(m, n) + 1,
            "sub": max(m, n) + 1,
            "mul": m + n,
            "shl": m + (bits if places is None else places),
            "shr": bits + 1 - (places or 0),
            "and": min([self._size(each) for each in (x, y) if each.isdigit()], default=max(m, n)),
        }
        return sizes.get(operation, max(m, n) + (operation == "quotient"))

    def compare(self, relation: str, a: Value, b: Value) -> Value:
        return super().compare(relation, self._cut(a), self._cut(b))

    def choose(self, mask: Value, yes: Value, no: Value) -> Value:
        value = super().choose(mask, yes, no)
        if yes.type in (I64, I32):
            for name, x, y in zip(*map(self._lanes_of, (value, yes, no)), strict=True):
                self._bits[name] = max(self._size(x), self._size(y))
        return value

    def _lowest_bit(self, x: Value) -> Value:
        return self._map(I64, "(({0} & -{0}).bit_length() - 1)".format, x)

    # --- floats -------------------------------------------------------------------------------------------------

    def _floats(self, kind: Type, lanes: int, texts: list[str]) -> Value:
        if kind is F64:
            return self._values(kind, lanes, texts)
        if not lanes:
            return self._values(kind, 0, [f"round1({texts[0]})"])
        self._module.rounded.add(lanes)
        return self._together(kind, lanes, f"unpack{lanes}(pack{lanes}({', '.join(map(bare, texts))}))")

    def _quotient(self, a: str, b: str) -> str:
        return f"divide({a}, {b})"

    def _choice(self, mask: str, yes: str, no: str) -> str:
        return f"({yes} if {mask} else {no})"

    def _outside(self, name: str) -> str:
        return {"pow": "power"}.get(name, name)

    def _bitcast(self, value: Value, kind: Type) -> Value:
        codes, texts = {F64: "d", F32: "f", I64: "q", I32: "i"}, self._lanes_of(self._cut(value))
        count = len(texts)
        text = f"struct.unpack('{count}{codes[kind]}', struct.pack('{count}{codes[value.type]}', {', '.join(texts)}))"
        return self._together(kind, count, text) if value.lanes else self._values(kind, 0, [f"{text}[0]"])

    def _convert(self, value: Value, kind: Type) -> Value:
        if value.type.is_float:
            if not kind.is_float:
                return self._map(kind, "int({})".format, value)
            texts = [*self._lanes_of(value)]
            return self._floats(F32, value.lanes, texts) if kind is F32 else self._of_lanes(F64, value.lanes, texts)
        whole = self._cut(value)
        if kind is F64:
            return self._map(F64, "float({})".format, whole)
        if kind is F32:
            return self._map(F32, "round1(to_odd({}))".format, whole)
        return self._of_lanes(kind, value.lanes, self._lanes_of(whole))

    # --- memory -------------------------------------------------------------------------------------------------

    def table(self, numbers: tuple[float, ...], kind: Type) -> Pointer:
        return Pointer(self, kind, str(self._module.table(numbers, kind)))

    def offset(self, pointer: Pointer, index: Value) -> Pointer:
        base, by = self._data(pointer), self._data(index)
        if by == "0":
            return pointer
        if base.isdigit() and by.isdigit():
            return Pointer(self, pointer.type, str(int(base) + int(by)))
        return Pointer(self, pointer.type, self._once("p", (None, f"({base} + {by})", False)))

    def cast(self, pointer: Pointer, kind: Type) -> Pointer:
        cast, size = super().cast(pointer, kind), pointer.type.size
        if size == kind.size:
            return cast
        text = f"({cast.data} * {size // kind.size})" if size > kind.size else f"({cast.data} // {kind.size // size})"
        return Pointer(self, kind, self._once("p", (None, text, False)))

    def load(self, pointer: Pointer, lanes: int) -> Value:
        base, memory = self._data(pointer), str(pointer.type).upper()
        if lanes:
            value = self._together(pointer.type, lanes, f"{memory}[{base}:{base} + {lanes}]", loads=True)
            return self._of_lanes(pointer.number, lanes, self._lanes_of(value))
        value = self._values(pointer.number, 0, [f"{memory}[{bare(base)}]"], loads=True)
        if pointer.type is U32:
            self._bits[value.data] = 33
        return value

    def store(self, pointer: Pointer, value: Value) -> None:
        base, memory = self._data(pointer), str(pointer.type).upper()
        is_word = pointer.type is U32
        texts = [f"{x} & 0xFFFFFFFF" if is_word else x for x in self._lanes_of(value if is_word else self._cut(value))]
        place = f"{base}:{base} + {value.lanes}" if value.lanes else bare(base)
        self._say(EFFECT, f"{memory}[{place}] = {', '.join(texts)}")
