"""The kernel language written out as C99. Not here: memory, entries' names, what surrounds the functions.

Integers are added as unsigned ones, whose overflow is defined; numbers are read from bytes and written to them by
memcpy, so that one memory may hold all types; functions of libm are called through their addresses, so that a compiler
does not rewrite them, such as pow into products, which rounds otherwise.
"""

from __future__ import annotations

import math
import re
from types import MappingProxyType

from tapegpt.machine import source
from tapegpt.machine.language import BOOL, F32, F64, I32, I64, INTEGERS, U32, Pointer, Type, Value
from tapegpt.machine.maker import constant_of
from tapegpt.machine.source import ASSIGN, CLOSE, EFFECT, LOOP, OPEN, VALUE, Source, Statement, bare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.machine.target import Target

_TYPES: dict[Type | None, str] = {
    F64: "double",
    F32: "float",
    I64: "int64_t",
    I32: "int32_t",
    U32: "uint32_t",
    BOOL: "int",
    None: "unsigned char *",  # a pointer
}
_SYMBOLS = {"quotient": "/", "remainder": "%", "and": "&", "or": "|", "xor": "^"}
_UNSIGNED = {"add": "+", "sub": "-", "mul": "*", "shl": "<<", "shr": ">>"}
_MEMORY = """\
static inline {loaded} tg_load_{kind}(const unsigned char *p) {{ {name} x; memcpy(&x, p, sizeof x); return x; }}
static inline void tg_store_{kind}(unsigned char *p, {name} x) {{ memcpy(p, &x, sizeof x); }}
"""
_ARITHMETIC = """\
static inline {name} tg_{operation}_{kind}({name} a, {name} b) {{ return ({name})((u{name})a {symbol} (u{name})b); }}
"""
_BITS = """\
static inline {to} tg_{kind}_of_bits({of} x) {{ {to} y; memcpy(&y, &x, sizeof y); return y; }}
"""
_LOWEST = """\
static inline int64_t tg_lowest_bit(int64_t x) { int64_t i = 0; while (i < 63 && !(x >> i & 1)) i++; return i; }
"""


def helpers(code: str) -> str:
    """The functions for memory, and for arithmetic that C leaves open, that some code calls."""
    loaded = {**_TYPES, U32: _TYPES[I64]}  # what is unsigned is never below 0, of which compilers warn
    memory = [_MEMORY.format(kind=kind, name=_TYPES[kind], loaded=loaded[kind]) for kind in (F64, F32, I64, I32, U32)]
    arithmetic = [
        _ARITHMETIC.format(kind=kind, name=_TYPES[kind], operation=operation, symbol=symbol)
        for kind in INTEGERS
        for operation, symbol in _UNSIGNED.items()
    ]
    pairs = ((F64, I64), (I64, F64), (F32, I32), (I32, F32))
    bits = [_BITS.format(kind=to, to=_TYPES[to], of=_TYPES[of]) for to, of in pairs]
    lines = "".join([*memory, *arithmetic, *bits, _LOWEST]).splitlines(keepends=True)
    called = set(re.findall(r"\btg_\w+(?=\()", code))
    return "".join([line for line in lines if not called.isdisjoint(re.findall(r"\btg_\w+(?=\()", line))])


class Module(source.Module):
    """C99 text of the entry kernels, and of every kernel that they call: static `tg_...`, behind `helpers`."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.outside = set[str]()  # functions of libm that are called
        self._tables = dict[str, str]()  # content -> name

    def _maker(self, name: str, is_entry: bool) -> _Function:
        return _Function(self, name, is_entry)

    def table(self, numbers: tuple[float, ...], kind: Type) -> str:
        """The name of a table of constants."""
        texts = ", ".join([literal(constant_of(number, kind), kind) for number in numbers])
        return self._tables.setdefault(f"[{len(numbers)}] = {{{texts}}}", f"{_TYPES[kind]} tg_table{len(self._tables)}")

    def __str__(self) -> str:
        functions: dict[str, Any] = {self.identifier(name): each for name, each in self._functions.items()}
        heads = [f"static void tg_{name}({each.signature})" for name, each in functions.items()]
        bodies = [f"\n{head}\n{{\n{each.body}}}\n" for head, each in zip(heads, functions.values(), strict=True)]
        outside = [
            f"static double (*volatile tg_libm_{name})(double{', double' * (name == 'pow')}) = {name};\n"
            for name in sorted(self.outside)
        ]
        tables = [f"static {name}{content};\n" for content, name in self._tables.items()]
        return "".join([*outside, *tables, *[f"{head};\n" for head in heads], *bodies])


def literal(number: float, kind: Type) -> str:
    """A number in C."""
    if not kind.is_float:
        bits = 8 * kind.size
        if number == -1 << bits - 1:
            return f"INT{bits}_MIN"
        text = f"INT64_C({number})" if abs(number) >= 1 << 31 else f"{number}"
    elif math.isfinite(number):
        text = f"{number:.1f}" if number == int(number) and abs(number) < 1e15 else number.hex()
        text += "f" if kind is F32 else ""
    else:
        text = "NAN" if number != number else "INFINITY" if number > 0 else "-INFINITY"
    return f"({text})" if text[0] == "-" else text


class _Function(Source):
    """A function; `data` of a pointer is the text of an `unsigned char *`."""

    _module: Module
    _IF, _ALWAYS, _UNLESS = "if {}", "while (1)", "if (!{}) break"
    _LOGIC = MappingProxyType({"and": "&&", "or": "||", "xor": "^"})
    _PREFIX, _WIDE = "tg_", "(int64_t)"

    @property
    def signature(self) -> str:
        kinds = ["unsigned char *" if each.is_pointer else f"{_TYPES[each.type]} " for _, each in self.parameters]
        return ", ".join([f"{kind}{name}" for kind, (name, _) in zip(kinds, self.parameters, strict=True)])

    @property
    def body(self) -> str:
        used = {name for each in self.statements for name in each.names}
        lines = [f"    (void){name};\n" for name, _ in self.parameters if name not in used]
        depth, declared = 1, set[str]()
        for each in self.statements:
            depth -= each.kind == CLOSE
            lines.append(f"{'    ' * depth}{self._line(each, declared)}\n")
            depth += each.kind in (OPEN, LOOP)
        return "".join(lines)

    def _line(self, statement: Statement, declared: set[str]) -> str:
        """A statement in C; a register is declared where it is set first."""
        text, kind = bare(statement.text), statement.kind
        if kind in (VALUE, ASSIGN):
            [name] = statement.targets
            is_new = name not in declared
            declared.add(name)
            return f"{f'{_TYPES[statement.type]} ' * is_new}{name} = {text};"
        if kind == OPEN and text.startswith("if"):
            text = f"if ({bare(text[3:])})"
        return "}" if kind == CLOSE else f"{text};" if kind == EFFECT else f"{text} {{"

    def _literal(self, number: float, kind: Type) -> str:
        return literal(number, kind)

    def _header(self, index: str, first: str, last: str, step: int) -> str:
        relation = "<" if step > 0 else ">"
        return f"for (int64_t {index} = {first}; {index} {relation} {last}; {index} += {step})"

    # --- arithmetic ---------------------------------------------------------------------------------------------

    def _floats(self, kind: Type, lanes: int, texts: list[str]) -> Value:
        return self._values(kind, lanes, texts)

    def _quotient(self, a: str, b: str) -> str:
        return f"({a} / {b})"

    def _integers(self, operation: str, a: Value, b: Value) -> Value:
        symbol = _SYMBOLS.get(operation)
        form = f"({{}} {symbol} {{}})" if symbol else f"tg_{operation}_{a.type}({{}}, {{}})"
        return self._map(a.type, form.format, a, b)

    def _choice(self, mask: str, yes: str, no: str) -> str:
        return f"({mask} ? {yes} : {no})"

    def _lowest_bit(self, x: Value) -> Value:
        return self._map(I64, "tg_lowest_bit({})".format, x)

    def _bitcast(self, value: Value, kind: Type) -> Value:
        return self._map(kind, f"tg_{kind}_of_bits({{}})".format, value)

    def _convert(self, value: Value, kind: Type) -> Value:
        return self._map(kind, f"({_TYPES[kind]}){{}}".format, value)

    def _outside(self, name: str) -> str:
        self._module.outside.add(name)
        return f"tg_libm_{name}"

    def _rounded(self, name: str, kind: Type) -> str:
        return f"{name}f" if kind is F32 else name

    # --- memory -------------------------------------------------------------------------------------------------

    def table(self, numbers: tuple[float, ...], kind: Type) -> Pointer:
        return Pointer(self, kind, f"(unsigned char *){self._module.table(numbers, kind).split()[-1]}")

    def offset(self, pointer: Pointer, index: Value) -> Pointer:
        base, size = self._data(pointer), pointer.type.size
        if index.data == "0":
            return pointer
        text = f"({base} + {size} * {self._data(index)})"
        return Pointer(self, pointer.type, self._once("p", (None, text, False)))

    def load(self, pointer: Pointer, lanes: int) -> Value:
        kind, base = pointer.type, self._data(pointer)
        places = [f"{base} + {kind.size * lane}" if lane else bare(base) for lane in range(lanes or 1)]
        return self._values(pointer.number, lanes, [f"tg_load_{kind}({place})" for place in places], loads=True)

    def store(self, pointer: Pointer, value: Value) -> None:
        kind, base = pointer.type, self._data(pointer)
        for lane, number in enumerate(self._lanes_of(value)):
            place = f"{base} + {kind.size * lane}" if lane else bare(base)
            self._say(EFFECT, f"tg_store_{kind}({place}, {'(uint32_t)' if kind is U32 else ''}{number})")
