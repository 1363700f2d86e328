"""The kernel language as WebAssembly modules. Not here: instructions as bytes and text (`stack.py`), who runs them.

What depends on values alone is computed once, and before the loops that do not change it. A vector is one v128 or
several, and a mask as wide as what was compared. Indices become 32-bit addresses with constant offsets. WebAssembly
cannot take subnormal numbers for zero: where machine code flushes them, this computes with them.
"""

from __future__ import annotations

import struct

from tapegpt.machine import maker
from tapegpt.machine.language import BOOL, F32, F64, FLOATS, I32, I64, U32, Pointer, Value, Variable
from tapegpt.machine.maker import Maker, constant_of
from tapegpt.machine.opcodes import TYPES, encode, label, name, quote, row, section, unsigned
from tapegpt.machine.signature import KernelError
from tapegpt.machine.stack import Body, Code, Local, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from typing import Any

    from tapegpt.machine.language import Argument, Kernel, Operand, Type
    from tapegpt.machine.opcodes import Instruction
    from tapegpt.machine.target import Target

_SCALAR = {F64: "f64", F32: "f32", I64: "i64", I32: "i32", U32: "i32", BOOL: "i32"}
_VECTOR = {F64: "f64x2", F32: "f32x4", I64: "i64x2", I32: "i32x4"}
_WHOLE = {8: "i64x2", 4: "i32x4"}  # a vector of elements of so many bytes, whatever they are
_BINARY = {"quotient": "div_s", "remainder": "rem_s", "shr": "shr_u"}
_FLOAT_COMPARE = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_COMPARE = {"<": "lt_s", "<=": "le_s", ">": "gt_s", ">=": "ge_s", "==": "eq", "!=": "ne"}
_CONVERT = {
    ("f64", "f32"): "f32.demote_f64",
    ("f32", "f64"): "f64.promote_f32",
    ("i64", "i32"): "i32.wrap_i64",
    ("i32", "i64"): "i64.extend_i32_s",
    **{(i, f): f"{f}.convert_{i}_s" for i in ("i64", "i32") for f in ("f64", "f32")},
    **{(f, i): f"{i}.trunc_sat_{f}_s" for i in ("i64", "i32") for f in ("f64", "f32")},
}
_WIDEN = {  # two lanes of four bytes as two of eight
    (F32, F64): "f64x2.promote_low_f32x4",
    (I32, F64): "f64x2.convert_low_i32x4_s",
    (I32, I64): "i64x2.extend_low_i32x4_s",
}
_NARROW = {(F64, F32): "f32x4.demote_f64x2_zero", (F64, I32): "i32x4.trunc_sat_f64x2_s_zero"}  # and two lanes of zeros
_ALIKE = {(F32, I32): "i32x4.trunc_sat_f32x4_s", (I32, F32): "f32x4.convert_i32x4_s"}
_BYTES = {"f64": "<d", "f32": "<f"}
_START = 1024  # of what lies in memory: an address a few elements before it is one still


class Vector:
    """A vector's parts, v128 each, and the bytes of an element: 0 for a mask whose bits are all the same."""

    __slots__ = ("parts", "size")

    def __init__(self, size: int, parts: Sequence[Node]) -> None:
        self.size, self.parts = size, tuple(parts)


class Module(maker.Module):
    """A WebAssembly module. Pointers are i32, other arguments i64 and f64; functions of libm come from `env`.

    It exports its `memory`, with room for its constants, and `__heap_base`, where the memory of callers begins, who
    have to grow it. A side module gets `memory` from `env` too, and `__memory_base`, the place for its constants there.
    """

    def __init__(self, target: Target, *, is_side: bool = False) -> None:
        super().__init__(target)
        self.is_side = is_side
        self._outside: dict[str, int] = {}  # functions: how many arguments they take
        self._exported: list[str] = []
        self._tables: dict[bytes, int] = {}  # content -> where it lies
        self._size = 0 if is_side else _START

    def add(self, kernel: Kernel, constants: dict[str, Any], name: str) -> None:
        self._exported.append(name)
        super().add(kernel, constants, name)

    def _maker(self, name: str, is_entry: bool) -> _Function:
        return _Function(self, name, is_entry)

    def table(self, content: bytes) -> int:
        """Where these constants lie."""
        if content not in self._tables:
            self._tables[content] = self._size
            self._size += -(-len(content) // 16) * 16
        return self._tables[content]

    def outside(self, name: str, arguments: int) -> str:
        """A function of libm."""
        self._outside[name] = arguments
        return f"env.{name}"

    def binary(self) -> bytes:
        """The module."""
        functions: dict[str, Code] = self._functions
        outside = {f"env.{each}": (("f64",) * count, ("f64",)) for each, count in self._outside.items()}
        signatures = {**outside, **{each: (code.parameters, ()) for each, code in functions.items()}}
        types = list(dict.fromkeys(signatures.values()))
        kinds = {each: unsigned(types.index(signature)) for each, signature in signatures.items()}
        index = {each: place for place, each in enumerate(signatures)}
        env = name("env")
        known: dict[Instruction, bytes] = {}
        imports = [env + name(each[4:]) + b"\0" + kinds[each] for each in outside]
        exports = [name(each) + b"\0" + unsigned(index[each]) for each in self._exported]
        parts = [b"\0asm\1\0\0\0"]
        if self.is_side:
            imports += [env + name("memory") + b"\2\0\0", env + name("__memory_base") + b"\3" + TYPES["i32"] + b"\0"]
            needs = unsigned(self._size) + unsigned(4 if self._size else 0) + b"\0\0"
            parts.append(section(0, name("dylink.0") + section(1, needs)))
        parts.append(section(1, row([b"\x60" + _types(given) + _types(left) for given, left in types])))
        if imports:
            parts.append(section(2, row(imports)))
        parts.append(section(3, row([kinds[each] for each in functions])))
        if not self.is_side:
            parts.append(section(5, row([b"\0" + unsigned(-(-self._size // 65536))])))
            parts.append(section(6, row([TYPES["i32"] + b"\0" + encode(("i32.const", self._size)) + b"\x0b"])))
            exports += [name("memory") + b"\2\0", name("__heap_base") + b"\3\0"]
        parts.append(section(7, row(exports)))
        parts.append(section(10, row([code.encode(index, known) for code in functions.values()])))
        if self._tables:
            start = encode(("global.get", 0) if self.is_side else ("i32.const", _START))
            content = self._constants()
            parts.append(section(11, row([b"\0" + start + b"\x0b" + unsigned(len(content)) + content])))
        return b"".join(parts)

    def _constants(self) -> bytes:
        return b"".join(each.ljust(-(-len(each) // 16) * 16, b"\0") for each in self._tables)

    def __str__(self) -> str:
        """The same module as text."""
        functions: dict[str, Code] = self._functions
        lines = [f"(@dylink.0 (mem-info (memory {self._size} {4 if self._size else 0})))"] if self.is_side else []
        for each, count in self._outside.items():
            kinds = " ".join(["f64"] * count)
            lines.append(f'(import "env" "{each}" (func $env.{each} (param {kinds}) (result f64)))')
        if self.is_side:
            lines += ['(import "env" "memory" (memory 0))', '(import "env" "__memory_base" (global i32))']
        for each, code in functions.items():
            export = [f" (export {quote(each.encode())})"] if each in self._exported else []
            lines += [f"(func {label(each)}{''.join(export)}", *(f"  {line}" for line in code.text()), ")"]
        if not self.is_side:
            lines.append(f'(memory (export "memory") {-(-self._size // 65536)})')
            lines.append(f'(global (export "__heap_base") i32 (i32.const {self._size}))')
        if self._tables:
            start = "(global.get 0)" if self.is_side else f"(i32.const {_START})"
            lines.append(f"(data {start} {quote(self._constants())})")
        return "\n".join(["(module", *(f"  {line}" for line in lines), ")"]) + "\n"


def _types(kinds: Sequence[str]) -> bytes:
    return row([TYPES[kind] for kind in kinds])


class _Function(Maker):
    """`data` of a scalar is its `Node`, of a vector a `Vector`, of a pointer a run-time part and bytes beyond it."""

    _module: Module

    def __init__(self, module: Module, name: str, is_entry: bool) -> None:
        super().__init__(module, name, is_entry)
        self._bodies = [Body(None)]
        self._parameters: dict[str, Node] = {}
        self._constants: dict[Hashable, Node] = {}

    def _argument(self, name: str, argument: Argument) -> Any:
        kind = "i32" if argument.is_pointer else _SCALAR[argument.type]
        register = Node("register", (), (), kind)
        register.local = Local(kind, len(self._parameters))
        self._parameters[name] = register
        node = Node("local.get", (), (register,), kind)
        return (node, 0) if argument.is_pointer else node

    def _finish(self, kernel: Kernel) -> Code:
        body = self._bodies[0]
        body.items[:0] = [each for each in self._constants.values() if each.result not in ("i32", "i64")]
        for each in body.items:
            if isinstance(each, Node):
                each.body = body
        return Code(body, self._parameters)

    # --- instructions -------------------------------------------------------------------------------------------

    def _has_ended(self, data: Any) -> bool:
        ended = self._ended
        if isinstance(data, Node):
            return data in ended
        return not ended.isdisjoint(data.parts) if isinstance(data, Vector) else data[0] in ended

    def _op(self, result: str, op: str, *operands: Node, immediates: tuple[Any, ...] = ()) -> Node:
        """What an instruction makes of values alone."""
        node: Node = self._once(result, (op, immediates, *operands))
        return node

    def _each_time(self, stem: str, instruction: tuple[Any, ...]) -> Node:
        """Before the loops that change none of its operands."""
        op, immediates, *operands = instruction
        body = place = self._bodies[-1]
        depth = max(map(_depth, operands), default=0)
        while body.depth > depth and body.parent and not op.endswith(("div_s", "rem_s")):  # which may trap
            if body.is_loop:
                place = body.parent
            body = body.parent
        return self._put(Node(op, immediates, operands, stem), place)

    def _put(self, node: Node, body: Body) -> Node:
        node.body = body
        if node.result == "i64":
            node.is_signed = node.op == "i64.sub" or True in [each.is_signed for each in node.operands]
        body.items.append(node)
        self._begin(node, body.depth)
        return node

    def _here(self, result: str, op: str, *operands: Node, immediates: tuple[Any, ...] = ()) -> Node:
        return self._put(Node(op, immediates, operands, result), self._bodies[-1])

    def _number(self, kind: str, number: float) -> Node:
        held = struct.pack(_BYTES[kind], number) if kind in _BYTES else number
        node = self._constants.get((kind, held))
        if node is None:
            node = self._constants[kind, held] = Node(f"{kind}.const", (held,), (), kind)
            node.is_signed = number < 0
        return node

    # --- control flow -------------------------------------------------------------------------------------------

    def _body(self) -> Iterator[None]:
        self._bodies.append(Body(self._bodies[-1]))
        yield from super()._body()
        self._bodies.pop()

    def _turns(self) -> Iterator[None]:
        for _ in super()._turns():
            self._bodies[-1].is_loop = True
            yield

    def _remember(self) -> Callable[[], None]:
        return lambda: None  # a body that is not attached is forgotten, and what is not used is not written

    def _attach(self, kind: str, body: Body | None, *operands: Node, step: int = 0) -> None:
        assert body
        body.kind, body.operands, body.step = kind, operands, step
        self._bodies[-1].items.append(body)

    def _loop(self, first: Node, last: Node, step: int) -> Iterator[Node]:
        kept, register = None, self._here("i64", "register")
        for _ in self._turns():
            kept = kept or self._bodies[-1]
            index = Node("local.get", (), (register,), "i64")
            index.body = self._bodies[-1]
            index.is_signed = first.is_signed or step < 0
            yield index
        self._attach("loop", kept, register, first, last, step=step)

    def when(self, condition: Operand) -> Iterator[None]:
        kept, holds = None, self._condition(condition)
        for _ in self._body():
            kept = self._bodies[-1]
            yield
        self._attach("when", kept, holds)

    def repeat_while(self, condition: Callable[[], Operand]) -> Iterator[None]:
        kept = None
        for _ in self._turns():
            kept = kept or self._bodies[-1]
            self._here("", "if", self._condition(condition()))
            yield
        self._attach("while", kept)

    def call(self, kernel: Kernel, arguments: list[Pointer | Value], constants: dict[str, Any]) -> None:
        called = self._module.internal(kernel, constants)
        nodes = [self._address(*self._data(a)) if isinstance(a, Pointer) else self._data(a) for a in arguments]
        self._here("", "call", *nodes, immediates=(called,))

    # --- values -------------------------------------------------------------------------------------------------

    def _vector(self, kind: Type, lanes: int, parts: Sequence[Node], size: int = 0) -> Value:
        return Value(self, kind, lanes, Vector(size if kind is BOOL else kind.size, parts))

    def _parts(self, value: Value, size: int = 0) -> Sequence[Node]:
        """The parts of a vector, of a mask so that its elements have so many bytes."""
        vector: Vector = self._data(value)
        if vector.size == size or value.type is not BOOL or not size:
            return vector.parts
        if not vector.size:
            return vector.parts * _count(value.lanes, size)
        if size == 4:
            return self._pick(4, [(vector.parts[lane // 2], lane % 2 * 8) for lane in range(value.lanes)])
        halves = [(part, half) for part in vector.parts for half in ("low", "high")][: _count(value.lanes, 8)]
        return [self._op("v128", f"i64x2.extend_{half}_i32x4_s", part) for part, half in halves]

    def _size(self, *values: Value) -> int:
        """Bytes that masks' elements have in common, 0 where they are all uniform."""
        vectors: list[Vector] = [self._data(value) for value in values]
        return max(vector.size for vector in vectors)

    def _lanewise(self, kind: Type, op: str, *values: Value) -> Value:
        rows = zip(*map(self._parts, values), strict=True)
        return self._vector(kind, values[0].lanes, [self._op("v128", op, *each) for each in rows])

    def _one_by_one(self, kind: Type, function: Callable[..., Node], *values: Value) -> Value:
        lanes = values[0].lanes
        nodes = [function(*(self.extract(value, lane).data for value in values)) for lane in range(lanes)]
        return self._gather(kind, nodes)

    def _gather(self, kind: Type, nodes: Sequence[Node]) -> Value:
        shape, parts, each = _VECTOR[kind], [], 16 // kind.size
        for start in range(0, len(nodes), each):
            part = self._op("v128", f"{shape}.splat", nodes[start])
            for lane, node in enumerate(nodes[start + 1 : start + each], 1):
                part = self._op("v128", f"{shape}.replace_lane", part, node, immediates=(lane,))
            parts.append(part)
        return self._vector(kind, len(nodes), parts)

    def _pick(self, size: int, picks: Sequence[tuple[Node, int]]) -> Sequence[Node]:
        """Parts whose elements are taken from parts, at these bytes."""
        each = 16 // size
        return [self._pick_one(size, picks[start : start + each]) for start in range(0, len(picks), each)]

    def _pick_one(self, size: int, picks: Sequence[tuple[Node, int]]) -> Node:
        first, *others = dict.fromkeys(node for node, _ in picks)
        result, where, settled = first, [place for _, place in picks], [lane * size for lane in range(len(picks))]
        if not others and where == settled:
            return first
        for second in others or [first]:
            chosen = [place + 16 if node is second else at for (node, place), at in zip(picks, where, strict=True)]
            chosen += chosen[:1] * (16 // size - len(picks))
            mask = bytes(at + byte for at in chosen for byte in range(size))
            result, where = self._op("v128", "i8x16.shuffle", result, second, immediates=(mask,)), settled
        return result

    def constant(self, number: float, kind: Type, lanes: int) -> Value:
        held = constant_of(number, kind)
        if lanes and kind is BOOL:
            return self._vector(BOOL, lanes, [self._op("v128", "i32x4.splat", self._number("i32", -held))])
        node = self._number(_SCALAR[kind], held)
        return self.splat(Value(self, kind, 0, node), lanes) if lanes else Value(self, kind, 0, node)

    def lane_numbers(self, lanes: int) -> Value:
        return self._gather(I32, [self._number("i32", lane) for lane in range(lanes)])

    def table(self, numbers: tuple[float, ...], kind: Type) -> Pointer:
        signed = {F64: "d", F32: "f", I64: "q", I32: "i", U32: "I"}[kind]
        place = self._module.table(struct.pack(f"<{len(numbers)}{signed}", *numbers))
        base = self._op("i32", "global.get", immediates=(0,)) if self._module.is_side else None
        return Pointer(self, kind, (base, place))

    def allocate(self, kind: Type, lanes: int) -> Variable:
        if not lanes:
            return Variable(self, kind, 0, self._here(_SCALAR[kind], "register"))
        size = (8 if lanes == 2 else 4) if kind is BOOL else kind.size
        parts = [self._here("v128", "register") for _ in range(_count(lanes, size))]
        return Variable(self, kind, lanes, Vector(size, parts))

    def assign(self, variable: Variable, value: Value) -> None:
        data = self._data(variable)
        if isinstance(data, Node):
            self._here("", "local.set", self._data(value), data)
        else:
            for register, part in zip(data.parts, self._parts(value, data.size), strict=True):
                self._here("", "local.set", part, register)

    def read(self, variable: Operand) -> Value:
        data = self._data(variable)
        if isinstance(data, Node):
            return Value(self, variable.type, 0, self._here(data.result, "local.get", data))
        parts = [self._here("v128", "local.get", register) for register in data.parts]
        return self._vector(variable.type, variable.lanes, parts, data.size)

    def splat(self, value: Value, lanes: int) -> Value:
        node, kind = self._data(value), value.type
        if kind is BOOL:
            mask = self._op("i32", "i32.sub", self._number("i32", 0), node)
            return self._vector(BOOL, lanes, [self._op("v128", "i32x4.splat", mask)])
        return self._vector(kind, lanes, [self._op("v128", f"{_VECTOR[kind]}.splat", node)] * _count(lanes, kind.size))

    def extract(self, value: Value, index: int) -> Value:
        vector: Vector = self._data(value)
        part, byte = divmod(index * vector.size, 16)
        kind = value.type
        shape, lane = (_VECTOR[I32], byte // 4) if kind is BOOL else (_VECTOR[kind], byte // kind.size)
        node = self._op(_SCALAR[kind], f"{shape}.extract_lane", vector.parts[part], immediates=(lane,))
        if kind is BOOL:
            node = self._op("i32", "i32.and", node, self._number("i32", 1))
        return Value(self, kind, 0, node)

    def insert(self, value: Value, index: int, scalar: Value) -> Value:
        node, size = self._data(scalar), self._data(value).size or 4
        kind = {8: I64, 4: I32}[size] if value.type is BOOL else value.type
        if value.type is BOOL:
            node = self._op("i32", "i32.sub", self._number("i32", 0), node)
            node = self._op("i64", "i64.extend_i32_s", node) if size == 8 else node
        parts = list(self._parts(value, size))
        place, byte = divmod(index * size, 16)
        replace = f"{_VECTOR[kind]}.replace_lane"
        parts[place] = self._op("v128", replace, parts[place], node, immediates=(byte // size,))
        return self._vector(value.type, value.lanes, parts, size)

    def _shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        size = (self._size(a, b) or 4) if a.type is BOOL else a.type.size
        places = []
        for value in (a, b):
            parts = self._parts(value, size)
            places += [(parts[lane * size // 16], lane * size % 16) for lane in range(value.lanes)]
        return self._vector(a.type, len(lanes), self._pick(size, [places[lane] for lane in lanes]), size)

    def binary(self, operation: str, a: Value, b: Value) -> Value:
        name, kind = _BINARY.get(operation, operation), a.type
        if not a.lanes:
            left, right = self._data(a), self._data(b)
            if kind is I64 and name in ("add", "sub", "mul"):
                return Value(self, kind, 0, {"add": self._add, "sub": self._sub, "mul": self._mul}[name](left, right))
            return Value(self, kind, 0, self._op(_SCALAR[kind], f"{_SCALAR[kind]}.{name}", left, right))
        if kind is BOOL:
            size = self._size(a, b)
            rows = zip(self._parts(a, size), self._parts(b, size), strict=True)
            return self._vector(BOOL, a.lanes, [self._op("v128", f"v128.{name}", *each) for each in rows], size)
        if name in ("and", "or", "xor"):
            return self._lanewise(kind, f"v128.{name}", a, b)
        if name in ("shl", "shr_u") and (places := self._uniform(b)):
            places = self._op("i32", "i32.wrap_i64", places) if kind is I64 else places
            shifted = [self._op("v128", f"{_VECTOR[kind]}.{name}", part, places) for part in self._parts(a)]
            return self._vector(kind, a.lanes, shifted)
        if name in ("shl", "shr_u", "div_s", "rem_s"):
            scalar = _SCALAR[kind]
            return self._one_by_one(kind, lambda x, y: self._op(scalar, f"{scalar}.{name}", x, y), a, b)
        return self._lanewise(kind, f"{_VECTOR[kind]}.{name}", a, b)

    def _uniform(self, value: Value) -> Node | None:
        """The number that all lanes are."""
        first, *others = dict.fromkeys(self._parts(value))
        return first.operands[0] if first.op.endswith(".splat") and not others else None

    def compare(self, relation: str, a: Value, b: Value) -> Value:
        kind = a.type
        name = (_FLOAT_COMPARE if kind.is_float else _COMPARE)[relation]
        if not a.lanes:
            return Value(self, BOOL, 0, self._op("i32", f"{_SCALAR[kind]}.{name}", self._data(a), self._data(b)))
        if kind is BOOL:
            differs = self.binary("xor", a, b)
            return differs if name == "ne" else self.logical_not(differs)
        rows = zip(self._parts(a), self._parts(b), strict=True)
        parts = [self._op("v128", f"{_VECTOR[kind]}.{name}", *each) for each in rows]
        return self._vector(BOOL, a.lanes, parts, kind.size)

    def logical_not(self, condition: Operand) -> Value:
        mask = self._of(condition, BOOL)
        if not mask.lanes:
            return Value(self, BOOL, 0, self._op("i32", "i32.eqz", self._data(mask)))
        parts = [self._op("v128", "v128.not", part) for part in self._parts(mask)]
        return self._vector(BOOL, mask.lanes, parts, self._data(mask).size)

    def choose(self, mask: Value, yes: Value, no: Value) -> Value:
        if not yes.lanes:
            operands = self._data(yes), self._data(no), self._data(mask)
            return Value(self, yes.type, 0, self._op(_SCALAR[yes.type], "select", *operands))
        masks = (mask,) if mask.lanes else ()
        size = self._size(*masks, yes, no) if yes.type is BOOL else yes.type.size
        pairs = list(zip(self._parts(yes, size), self._parts(no, size), strict=True))
        if mask.lanes:
            wide = self._parts(mask, size)
            parts = [self._choose_part(each, a, b) for each, (a, b) in zip(wide, pairs, strict=True)]
        else:
            parts = [self._op("v128", "select", a, b, self._data(mask)) for a, b in pairs]
        return self._vector(yes.type, yes.lanes, parts, size)

    def _choose_part(self, mask: Node, yes: Node, no: Node) -> Node:
        shape, _, relation = mask.op.partition(".")
        if relation in ("lt", "gt") and (*mask.operands,) == (yes, no):  # the smaller one, or the larger one
            return self._op("v128", f"{shape}.{'pmin' if relation == 'lt' else 'pmax'}", no, yes)
        return self._op("v128", "v128.bitselect", yes, no, mask)

    def external(self, name: str, arguments: list[Value]) -> Value:
        nodes = map(self._data, arguments)
        called = self._module.outside(name, len(arguments))
        return Value(self, F64, 0, self._here("f64", "call", *nodes, immediates=(called,)))

    # --- whole numbers: constants last, so that they become offsets of addresses -----------------------------------

    def _split(self, x: Node) -> tuple[Node | None, int]:
        """A whole number as one that is known at run time, and a constant to add."""
        if x.op == "i64.const":
            return None, x.immediates[0]
        if x.op == "i64.add" and x.operands[1].op == "i64.const":
            return x.operands[0], x.operands[1].immediates[0]
        return x, 0

    def _plus(self, x: Node | None, constant: int) -> Node:
        constant = (constant + (1 << 63)) % (1 << 64) - (1 << 63)
        if x is None:
            return self._number("i64", constant)
        return self._op("i64", "i64.add", x, self._number("i64", constant)) if constant else x

    def _add(self, a: Node, b: Node) -> Node:
        (x, more), (y, beyond) = self._split(a), self._split(b)
        return self._plus(self._op("i64", "i64.add", x, y) if x and y else x or y, more + beyond)

    def _sub(self, a: Node, b: Node) -> Node:
        (x, more), (y, beyond) = self._split(a), self._split(b)
        if y is None:
            return self._plus(x, more - beyond)
        if x is None:
            return self._op("i64", "i64.sub", self._plus(None, more - beyond), y)
        return self._plus(self._op("i64", "i64.sub", x, y), more - beyond)

    def _mul(self, a: Node, b: Node) -> Node:
        a, b = (b, a) if a.op == "i64.const" else (a, b)
        (x, more), (y, factor) = self._split(a), self._split(b)
        if y is not None:
            return self._op("i64", "i64.mul", a, b)
        return self._plus(self._times(x, factor) if x and factor else None, more * factor)

    def _times(self, x: Node, factor: int) -> Node:
        if x.op == "i64.mul" and x.operands[1].op == "i64.const":
            x, factor = x.operands[0], factor * x.operands[1].immediates[0]
        if factor == 1:
            return x
        return self._op("i64", "i64.mul", x, self._number("i64", self._plus(None, factor).immediates[0]))

    # --- memory -------------------------------------------------------------------------------------------------

    def offset(self, pointer: Pointer, index: Value) -> Pointer:
        base, beyond = self._data(pointer)
        rest, constant = self._split(self._data(index))
        size = pointer.type.size
        beyond += constant * size
        if rest is None:
            return Pointer(self, pointer.type, (base, beyond))
        if beyond > 0 and rest.is_signed:  # the address without the constant may be none
            base, beyond = self._address(base, beyond), 0
        terms = [rest]
        if rest.op == "i64.add" and _depth(rest.operands[0]) != _depth(rest.operands[1]):
            terms = sorted(rest.operands, key=_depth)  # what a loop does not change is added before it
        for term in terms:
            scaled = self._scaled(term, size)
            base = self._op("i32", "i32.add", base, scaled) if base else scaled
        return Pointer(self, pointer.type, (base, beyond))

    def _scaled(self, x: Node, size: int) -> Node:
        """An index as so many bytes, in 32 bits."""
        if x.op == "i64.mul" and x.operands[1].op == "i64.const":
            x, size = x.operands[0], size * x.operands[1].immediates[0]
        low = self._op("i32", "i32.wrap_i64", x)
        return self._op("i32", "i32.mul", low, self._number("i32", (size + (1 << 31)) % (1 << 32) - (1 << 31)))

    def _place(self, pointer: Pointer) -> tuple[Node, int]:
        """An address, and an offset that is not negative."""
        base, beyond = self._data(pointer)
        if base is None:
            return self._number("i32", 0), beyond
        return (base, beyond) if beyond >= 0 else (self._address(base, beyond), 0)

    def _address(self, base: Node | None, beyond: int) -> Node:
        if base is None or not beyond:
            return base or self._number("i32", beyond)
        return self._op("i32", "i32.add", base, self._number("i32", beyond))

    def load(self, pointer: Pointer, lanes: int) -> Value:
        kind, (base, beyond) = pointer.type, self._place(pointer)
        align = kind.size.bit_length() - 1
        if not lanes:
            op = "i64.load32_u" if kind is U32 else f"{_SCALAR[kind]}.load"
            return Value(self, pointer.number, 0, self._here(op[:3], op, base, immediates=(align, beyond)))
        parts, size = [], lanes * kind.size
        step, op = (8, "v128.load32x2_u") if kind is U32 else (16, "v128.load")
        for start in range(0, size, step):
            if size - start >= step:
                parts.append(self._here("v128", op, base, immediates=(align, beyond + start)))
            else:
                parts.append(self._load_rest(kind, base, beyond + start, size - start))
        return self._vector(pointer.number, lanes, parts)

    def _load_rest(self, kind: Type, base: Node, beyond: int, size: int) -> Node:
        if size == 8:
            return self._here("v128", "v128.load64_zero", base, immediates=(2, beyond))
        if kind is U32:
            return self._op("v128", "i64x2.splat", self._here("i64", "i64.load32_u", base, immediates=(2, beyond)))
        part = self._op("v128", "i32x4.splat", self._number("i32", 0))
        for lane in range(size // 4):
            part = self._here("v128", "v128.load32_lane", base, part, immediates=(2, beyond + 4 * lane, lane))
        return part

    def store(self, pointer: Pointer, value: Value) -> None:
        kind, (base, beyond) = pointer.type, self._place(pointer)
        align, size = kind.size.bit_length() - 1, value.lanes * kind.size
        if not value.lanes:
            op = "i64.store32" if kind is U32 else f"{_SCALAR[kind]}.store"
            self._here("", op, base, self._data(value), immediates=(align, beyond))
            return
        parts = self._parts(value)
        if kind is U32:
            parts = self._pick(4, [(parts[lane // 2], lane % 2 * 8) for lane in range(value.lanes)])
        for start, part in zip(range(0, size, 16), parts, strict=True):
            if size - start >= 16:
                self._here("", "v128.store", base, part, immediates=(align, beyond + start))
            elif size - start == 8:
                self._here("", "v128.store64_lane", base, part, immediates=(align, beyond + start, 0))
            else:
                for at in range(0, size - start, 4):
                    self._here("", "v128.store32_lane", base, part, immediates=(2, beyond + start + at, at // 4))

    # --- functions ----------------------------------------------------------------------------------------------

    def _masks(self, value: Value) -> Iterator[tuple[Node, int]]:
        """The bits of each part of a mask, and its first lane."""
        size = self._data(value).size or 4
        for start, part in zip(range(0, value.lanes, 16 // size), self._parts(value, size), strict=True):
            bits, lanes = self._op("i32", f"{_WHOLE[size]}.bitmask", part), min(16 // size, value.lanes - start)
            whole = 16 // size == lanes
            yield bits if whole else self._op("i32", "i32.and", bits, self._number("i32", (1 << lanes) - 1)), start

    def _any(self, mask: Value) -> Value:
        if mask.lanes * self._data(mask).size % 16:  # there are lanes beyond the last
            return self.pack_bits(mask).differs(0)
        first, *others = self._parts(mask)
        for part in others:
            first = self._op("v128", "v128.or", first, part)
        return Value(self, BOOL, 0, self._op("i32", "v128.any_true", first))

    def pack_bits(self, mask: Operand) -> Value:
        value = self._of(mask, BOOL)
        rows = self._masks(value) if value.lanes else [(self._data(value), 0)]
        packed = None
        for bits, start in rows:
            wide = self._op("i64", "i64.extend_i32_u", bits)
            wide = self._op("i64", "i64.shl", wide, self._number("i64", start)) if start else wide
            packed = self._op("i64", "i64.or", packed, wide) if packed else wide
        return Value(self, I64, 0, packed)

    def _lowest_bit(self, x: Value) -> Value:
        return Value(self, I64, 0, self._op("i64", "i64.ctz", self._data(x)))

    def _function(self, name: str, x: Value) -> Value:
        if x.lanes:
            return self._lanewise(x.type, f"{_VECTOR[x.type]}.{name}", x)
        kind = _SCALAR[x.type]
        return Value(self, x.type, 0, self._op(kind, f"{kind}.{name}", self._data(x)))

    def mul_add(self, a: Operand, b: Operand, c: Operand) -> Value:
        lanes = max(a.lanes, b.lanes, c.lanes)
        if not self.target.relaxed or not lanes:
            return super().mul_add(a, b, c)
        value = self._of(a, *FLOATS)
        values = (self.spread(self._of(each, value.type), lanes) for each in (value, b, c))
        return self._lanewise(value.type, f"{_VECTOR[value.type]}.relaxed_madd", *values)

    def _fma(self, a: Value, b: Value, c: Value) -> Value:
        raise KernelError("WebAssembly has no fused multiply-add: its relaxed one, k.mul_add, may round twice")

    def _bitcast(self, value: Value, kind: Type) -> Value:
        if value.lanes:
            return self._vector(kind, value.lanes, self._parts(value))
        op = f"{_SCALAR[kind]}.reinterpret_{_SCALAR[value.type]}"
        return Value(self, kind, 0, self._op(_SCALAR[kind], op, self._data(value)))

    def _convert(self, value: Value, kind: Type) -> Value:
        scalar, op, between = _SCALAR[kind], _CONVERT[_SCALAR[value.type], _SCALAR[kind]], (value.type, kind)
        if not value.lanes:
            return Value(self, kind, 0, self._op(scalar, op, self._data(value)))
        lanes, parts = value.lanes, self._parts(value)
        if between in _ALIKE:
            return self._lanewise(kind, _ALIKE[between], value)
        if between == (I64, I32):
            return self._vector(I32, lanes, self._pick(4, [(parts[lane // 2], lane % 2 * 8) for lane in range(lanes)]))
        if between in _NARROW:
            halves = [self._op("v128", _NARROW[between], part) for part in parts]
            return self._vector(kind, lanes, self._pick(4, [(halves[i // 2], i % 2 * 4) for i in range(lanes)]))
        if between in _WIDEN:
            pairs = [
                [(parts[i // 4], i % 4 * 4) for i in range(start, min(start + 2, lanes))]
                for start in range(0, lanes, 2)
            ]
            low = [self._pick_one(4, pair) for pair in pairs]
            return self._vector(kind, lanes, [self._op("v128", _WIDEN[between], part) for part in low])
        return self._one_by_one(kind, lambda x: self._op(scalar, op, x), value)

    def load_shared(self, pointer: Pointer) -> Value:
        self._shared(pointer)
        return self.load(pointer, 0)


def _depth(node: Node) -> int:
    """How many bodies are around it."""
    return node.body.depth if node.body else 0


def _count(lanes: int, size: int) -> int:
    """Parts of a vector."""
    return -(-lanes * size // 16)
