"""The kernel language written out as LLVM IR text. Not here: LLVM itself (`llvm.py`) and what to do with the code.

A module holds one function per kernel and set of constants. Registers are stack slots that LLVM promotes; calls to libm
go through the table `outside`, so the code refers to nothing outside itself. Code that counts what it does adds it up
block by block.
"""

from __future__ import annotations

import struct

from tapegpt.machine import maker
from tapegpt.machine.language import BOOL, F32, F64, FLOATS, I32, I64, U32, Pointer, Value, Variable
from tapegpt.machine.maker import Maker, constant_of
from tapegpt.machine.target import OUTSIDE, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from tapegpt.machine.language import Argument, Kernel, Number, Operand, Type


# "no-builtins" keeps LLVM from turning loops into calls of memset and memcpy, which the image could not resolve.
_HEADER = f"@outside = hidden global [{len(OUTSIDE)} x ptr] zeroinitializer, align 8"
_FOOTER = """\
attributes #0 = { nounwind "no-builtins" }
attributes #1 = { nounwind noinline "no-builtins" }
attributes #2 = { nounwind alwaysinline "no-builtins" }"""

_INTEGER = {"quotient": "sdiv", "remainder": "srem", "shr": "lshr"}  # others are called as here
_FLOAT_COMPARE = {"<": "olt", "<=": "ole", ">": "ogt", ">=": "oge", "==": "oeq", "!=": "une"}
_INTEGER_COMPARE = {"<": "slt", "<=": "sle", ">": "sgt", ">=": "sge", "==": "eq", "!=": "ne"}

_ESTIMATES = {  # 1 / sqrt(x): the target's instruction, and how many bits of it are correct
    ("avx512", F32): ("x86.avx512.rsqrt14.ps.512", 14),
    ("avx512", F64): ("x86.avx512.rsqrt14.pd.512", 14),
    ("avx2", F32): ("x86.avx.rsqrt.ps.256", 11.4),
    ("sse2", F32): ("x86.sse.rsqrt.ps", 11.4),
    ("neon", F32): ("aarch64.neon.frsqrte.v4f32", 8),
    ("neon", F64): ("aarch64.neon.frsqrte.v2f64", 8),
}
_CORRECT = {F32: 22, F64: 14}  # bits that there are to be
# AVX2 has none of f64. Half of the bits of x taken from these are the bits of an estimate, 3.5 % off; the polynomial,
# of x times its square, is what it has to be multiplied by, 2^-15.2 off.
_LESS_HALF, _FACTOR = 0x5FE6EB50C7B537A9, (1.876597, -1.252097, 0.375501)

# Entries that flush subnormal numbers: a call between these lines, and what they need declared. The call keeps LLVM
# from moving arithmetic across them. The bits are 15 and 6 of MXCSR, and 24 of FPCR.
_X86_FLUSHING = """\
  %before = alloca i32
  %within = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %before)
  %word = load i32, ptr %before
  %flushing = or i32 %word, 32832
  store i32 %flushing, ptr %within
  call void @llvm.x86.sse.ldmxcsr(ptr %within)
  call void CALLED
  call void @llvm.x86.sse.ldmxcsr(ptr %before)"""
_ARM_FLUSHING = """\
  %before = call i64 @llvm.aarch64.get.fpcr()
  %within = or i64 %before, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %within)
  call void CALLED
  call void @llvm.aarch64.set.fpcr(i64 %before)"""
_X86_CONTROL = ("declare void @llvm.x86.sse.stmxcsr(ptr)", "declare void @llvm.x86.sse.ldmxcsr(ptr)")
_ARM_CONTROL = ("declare i64 @llvm.aarch64.get.fpcr()", "declare void @llvm.aarch64.set.fpcr(i64)")
_FLUSHING = {
    **dict.fromkeys(("avx512", "avx2", "sse2"), (_X86_FLUSHING, _X86_CONTROL)),  # flush to zero, denormals are zero
    "neon": (_ARM_FLUSHING, _ARM_CONTROL),  # flush to zero, for both
}


def _llvm(kind: Type, lanes: int) -> str:
    return f"<{lanes} x {kind.llvm}>" if lanes else kind.llvm


def _literal(number: float, kind: Type) -> str:
    held = constant_of(number, kind)
    return f"0x{struct.unpack('<Q', struct.pack('<d', held))[0]:016X}" if kind.is_float else str(held)


class Module(maker.Module):
    """IR text of the entry kernels and of every kernel that they call.

    Where kinds of operations are to be counted, entries have an argument `counts: I64s`, one for each kind: an
    operation on floats, lane by lane, a function of libm, "compare", "loaded" and "stored" bytes.
    """

    def __init__(self, target: Target, counted: Sequence[str] = ()) -> None:
        super().__init__(target)
        self.counted = counted
        self._declarations: set[str] = set()
        self._tables: dict[str, str] = {}  # content -> name

    def _maker(self, name: str, is_entry: bool) -> _Function:
        return _Function(self, name, is_entry)

    def declare(self, declaration: str) -> None:
        """An LLVM intrinsic."""
        self._declarations.add(declaration)

    def table(self, numbers: tuple[float, ...], kind: Type) -> str:
        """The name of a table of constants."""
        texts = ", ".join(f"{kind.llvm} {_literal(number, kind)}" for number in numbers)
        content = f"private unnamed_addr constant [{len(numbers)} x {kind.llvm}] [{texts}], align 64"
        return self._tables.setdefault(content, f"@table{len(self._tables)}")

    def __str__(self) -> str:
        functions = ["\n".join(lines) for lines in self._functions.values()]
        tables = [f"{name} = {content}" for content, name in self._tables.items()]
        return "\n\n".join([_HEADER, *tables, *functions, "\n".join(sorted(self._declarations)), _FOOTER]) + "\n"


class _Function(Maker):
    """`data` of a value is its SSA text, of a pointer its SSA name, of a register its slot."""

    _module: Module

    def __init__(self, module: Module, name: str, is_entry: bool) -> None:
        super().__init__(module, name, is_entry)
        self._parameters: list[str] = []
        self._slots: list[str] = []
        self._lines: list[str] = []
        self._block = "body"
        self._count = 0
        self._tally: dict[str, int] = {}  # what the block does, where that is counted

    def _argument(self, name: str, argument: Argument) -> str:
        pointer = "ptr nocapture" if self._is_entry else "ptr noalias nocapture"  # see `language.kernel`
        data = f"%{name}."  # no other name has a dot
        self._parameters.append(f"{pointer if argument.is_pointer else argument.type.llvm} {data}")
        return data

    def _finish(self, kernel: Kernel) -> list[str]:
        self._line("ret void")
        self._add_tally()
        is_one_block = not any(line.endswith(":") for line in self._lines)  # LLVM copies it where it is called
        attributes = "#0" if self._is_entry else "#2" if is_one_block else "#1"
        if self._module.counted and not self._is_entry:
            self._parameters.append("ptr noalias nocapture %counts.")
        signature, outer = f"({', '.join(self._parameters)})", []
        name, define = self._name, "define" if self._is_entry else "define internal"
        if self._is_entry and kernel.flushes and self.target.name in _FLUSHING:
            outer = self._flush_around(f'{define} void @"{name}"{signature}', f'@"{name}.flushed"{signature}')
            name, define, attributes = f"{name}.flushed", "define internal", "#1"
        return [
            *outer,
            f'{define} void @"{name}"{signature} {attributes} {{',
            "entry:",
            *self._slots,
            "  br label %body",
            "body:",
            *self._lines,
            "}",
        ]

    def _flush_around(self, signature: str, called: str) -> list[str]:
        """An entry that flushes subnormal numbers while the function that it calls runs."""
        around, declarations = _FLUSHING[self.target.name]
        for declaration in declarations:
            self._module.declare(declaration)
        return [f"{signature} #0 {{", around.replace("CALLED", called), "  ret void", "}", ""]

    # --- text ---------------------------------------------------------------------------------------------------

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def _new(self, stem: str) -> str:
        name: str = self._begin(f"%{self._fresh(stem)}")
        return name

    def _line(self, text: str) -> None:
        self._lines.append(f"  {text}")

    def _result(self, kind: Type, lanes: int, instruction: str) -> Value:
        return Value(self, kind, lanes, self._once("v", instruction))

    def _each_time(self, stem: str, instruction: str) -> str:
        name = self._new(stem)
        self._line(f"{name} = {instruction}")
        return name

    def _start(self, block: str) -> None:
        self._add_tally()
        self._lines.append(f"{block}:")
        self._block = block

    def _did(self, kind: str, amount: int) -> None:
        if kind in self._module.counted:
            self._tally[kind] = self._tally.get(kind, 0) + amount

    def _add_tally(self) -> None:
        """Before the end of a block, add what it does to the counts."""
        terminator = self._lines.pop()
        for kind, amount in self._tally.items():
            slot, before, after = self._new("p"), self._new("v"), self._new("v")
            index = self._module.counted.index(kind)
            self._line(f"{slot} = getelementptr inbounds i64, ptr %counts., i64 {index}")
            self._line(f"{before} = load i64, ptr {slot}")
            self._line(f"{after} = add i64 {before}, {amount}")
            self._line(f"store i64 {after}, ptr {slot}")
        self._tally = {}
        self._lines.append(terminator)

    def _typed(self, value: Value) -> str:
        return f"{_llvm(value.type, value.lanes)} {self._data(value)}"

    def _intrinsic(self, stem: str, *operands: Operand) -> Value:
        values = [self.value(operand) for operand in operands]
        kind, lanes = values[0].type, values[0].lanes
        text = _llvm(kind, lanes)
        suffix = (f"v{lanes}" if lanes else "") + ("f32" if kind is F32 else "f64")
        self._module.declare(f"declare {text} @llvm.{stem}.{suffix}({', '.join([text] * len(values))})")
        arguments = ", ".join(map(self._typed, values))
        return self._result(kind, lanes, f"call {text} @llvm.{stem}.{suffix}({arguments})")

    # --- control flow -------------------------------------------------------------------------------------------

    def _loop(self, first: str, last: str, step: int) -> Iterator[str]:
        before, head, body, end = self._block, self._fresh("loop"), self._fresh("do"), self._fresh("end")
        self._line(f"br label %{head}")
        self._start(head)
        index, following, condition = (f"%{self._fresh(stem)}" for stem in "inc")
        phi = len(self._lines)
        self._lines.append("")  # the phi, once the last block of the body is known
        relation = "slt" if step > 0 else "sgt"
        self._line(f"{condition} = icmp {relation} i64 {index}, {last}")
        self._line(f"br i1 {condition}, label %{body}, label %{end}")
        self._start(body)
        for _ in self._turns():
            yield f"%{self._fresh('i')}" if self._rehearses else index
        self._line(f"{following} = add nsw i64 {index}, {step}")
        self._lines[phi] = f"  {index} = phi i64 [ {first}, %{before} ], [ {following}, %{self._block} ]"
        self._line(f"br label %{head}")
        self._start(end)

    def when(self, condition: Operand) -> Iterator[None]:
        body, end = self._fresh("then"), self._fresh("end")
        self._branch(condition, body, end)
        yield from self._body()
        self._line(f"br label %{end}")
        self._start(end)

    def repeat_while(self, condition: Callable[[], Operand]) -> Iterator[None]:
        head, body, end = self._fresh("while"), self._fresh("do"), self._fresh("end")
        self._line(f"br label %{head}")
        self._start(head)
        for _ in self._turns():
            self._branch(condition(), body, end)
            yield
        self._line(f"br label %{head}")
        self._start(end)

    def _branch(self, condition: Operand, body: str, end: str) -> None:
        self._line(f"br i1 {self._condition(condition)}, label %{body}, label %{end}")
        self._start(body)

    def _remember(self) -> Callable[[], None]:
        lines, slots, block, tally = len(self._lines), len(self._slots), self._block, self._tally.copy()

        def forget() -> None:
            del self._lines[lines:], self._slots[slots:]
            self._block, self._tally = block, tally

        return forget

    def call(self, kernel: Kernel, arguments: list[Pointer | Value], constants: dict[str, Any]) -> None:
        name = self._module.internal(kernel, constants)
        texts = [f"ptr {self._data(a)}" if isinstance(a, Pointer) else self._typed(a) for a in arguments]
        texts += ["ptr %counts."] if self._module.counted else []
        self._line(f'call void @"{name}"({", ".join(texts)})')

    # --- values -------------------------------------------------------------------------------------------------

    def constant(self, number: float, kind: Type, lanes: int) -> Value:
        text = _literal(number, kind)
        if lanes:
            text = f"splat ({kind.llvm} {text})"
        return Value(self, kind, lanes, text)

    def lane_numbers(self, lanes: int) -> Value:
        return Value(self, I32, lanes, f"<{', '.join(f'i32 {lane}' for lane in range(lanes))}>")

    def table(self, numbers: tuple[float, ...], kind: Type) -> Pointer:
        return Pointer(self, kind, self._module.table(numbers, kind))

    def allocate(self, kind: Type, lanes: int) -> Variable:
        slot = self._new("r")
        self._slots.append(f"  {slot} = alloca {_llvm(kind, lanes)}")
        return Variable(self, kind, lanes, slot)

    def assign(self, variable: Variable, value: Value) -> None:
        self._line(f"store {self._typed(value)}, ptr {self._data(variable)}")

    def read(self, variable: Operand) -> Value:
        text = _llvm(variable.type, variable.lanes)
        name = self._each_time("v", f"load {text}, ptr {self._data(variable)}")
        return Value(self, variable.type, variable.lanes, name)

    def splat(self, value: Value, lanes: int) -> Value:
        text = _llvm(value.type, lanes)
        single = self._result(value.type, lanes, f"insertelement {text} poison, {self._typed(value)}, i64 0")
        mask = f"<{lanes} x i32> zeroinitializer"
        return self._result(value.type, lanes, f"shufflevector {self._typed(single)}, {text} poison, {mask}")

    def extract(self, value: Value, index: int) -> Value:
        return self._result(value.type, 0, f"extractelement {self._typed(value)}, i64 {index}")

    def _shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        mask = f"<{len(lanes)} x i32> <{', '.join(f'i32 {lane}' for lane in lanes)}>"
        return self._result(a.type, len(lanes), f"shufflevector {self._typed(a)}, {self._typed(b)}, {mask}")

    def insert(self, value: Value, index: int, scalar: Value) -> Value:
        instruction = f"insertelement {self._typed(value)}, {self._typed(scalar)}, i64 {index}"
        return self._result(value.type, value.lanes, instruction)

    def binary(self, operation: str, a: Value, b: Value) -> Value:
        if a.type.is_float:
            self._did(operation, a.lanes or 1)
        name = f"f{operation}" if a.type.is_float else _INTEGER.get(operation, operation)
        return self._result(a.type, a.lanes, f"{name} {self._typed(a)}, {self._data(b)}")

    def compare(self, relation: str, a: Value, b: Value) -> Value:
        if a.type.is_float:
            self._did("compare", a.lanes or 1)
        name = f"fcmp {_FLOAT_COMPARE[relation]}" if a.type.is_float else f"icmp {_INTEGER_COMPARE[relation]}"
        return self._result(BOOL, a.lanes, f"{name} {self._typed(a)}, {self._data(b)}")

    def choose(self, mask: Value, yes: Value, no: Value) -> Value:
        instruction = f"select {self._typed(mask)}, {self._typed(yes)}, {self._typed(no)}"
        return self._result(yes.type, yes.lanes, instruction)

    def external(self, name: str, arguments: list[Value]) -> Value:
        self._did(name, 1)
        call = f"call double {self._outside(name)}({', '.join(map(self._typed, arguments))})"
        return Value(self, F64, 0, self._each_time("v", call))

    def _outside(self, name: str) -> str:
        slot = f"getelementptr inbounds ([{len(OUTSIDE)} x ptr], ptr @outside, i64 0, i64 {OUTSIDE.index(name)})"
        address: str = self._once("f", f"load ptr, ptr {slot}")  # which nobody writes
        return address

    # --- memory -------------------------------------------------------------------------------------------------

    def offset(self, pointer: Pointer, index: Value) -> Pointer:
        base = self._data(pointer)
        if index.data != "0":
            base = self._once("p", f"getelementptr inbounds {pointer.type.llvm}, ptr {base}, {self._typed(index)}")
        return Pointer(self, pointer.type, base)

    def load(self, pointer: Pointer, lanes: int) -> Value:
        kind = pointer.type
        self._did("loaded", kind.size * (lanes or 1))
        load = f"load {_llvm(kind, lanes)}, ptr {self._data(pointer)}, align {kind.size}"
        loaded = Value(self, kind, lanes, self._each_time("v", load))
        if kind is not U32:
            return loaded
        return self._result(I64, lanes, f"zext {self._typed(loaded)} to {_llvm(I64, lanes)}")

    def store(self, pointer: Pointer, value: Value) -> None:
        kind = pointer.type
        self._did("stored", kind.size * (value.lanes or 1))
        if kind is U32:
            value = self._result(U32, value.lanes, f"trunc {self._typed(value)} to {_llvm(U32, value.lanes)}")
        self._line(f"store {self._typed(value)}, ptr {self._data(pointer)}, align {kind.size}")

    # --- functions ----------------------------------------------------------------------------------------------

    def _any(self, mask: Value) -> Value:
        whole = self._result(BOOL, 0, f"bitcast {self._typed(mask)} to i{mask.lanes}")
        return self._result(BOOL, 0, f"icmp ne i{mask.lanes} {self._data(whole)}, 0")

    def pack_bits(self, mask: Operand) -> Value:
        value = self._of(mask, BOOL)
        if not value.lanes:
            return self._result(I64, 0, f"zext {self._typed(value)} to i64")
        whole = self._result(BOOL, 0, f"bitcast {self._typed(value)} to i{value.lanes}")
        return self._result(I64, 0, f"zext i{value.lanes} {self._data(whole)} to i64")

    def _lowest_bit(self, x: Value) -> Value:
        self._module.declare("declare i64 @llvm.cttz.i64(i64, i1)")
        return self._result(I64, 0, f"call i64 @llvm.cttz.i64({self._typed(x)}, i1 true)")

    def _function(self, name: str, x: Value) -> Value:
        if name == "abs":
            return self._intrinsic("fabs", x)
        self._did(name, x.lanes or 1)
        return self._intrinsic(name, x)

    def reciprocal_sqrt(self, x: Operand) -> Value:
        value = self._of(x, *FLOATS)
        kind, lanes = value.type, value.lanes
        if lanes * kind.size > self.target.vector_bytes:
            parts = (range(lanes // 2), range(lanes // 2, lanes))
            first, second = (self.reciprocal_sqrt(self.shuffle(value, value, list(part))) for part in parts)
            return self.shuffle(first, second, list(range(lanes)))
        if lanes * kind.size == self.target.vector_bytes and (self.target.name, kind) == ("avx2", F64):
            return self._reciprocal_sqrt_from_bits(value)
        name, correct_bits = _ESTIMATES.get((self.target.name, kind), ("", 0))
        if lanes * kind.size != self.target.vector_bytes or not name:
            return super().reciprocal_sqrt(value)
        text = _llvm(kind, lanes)
        more, types = (
            (f", {text} zeroinitializer, i{lanes} -1", f", {text}, i{lanes}") if "avx512" in name else ("", "")
        )
        self._module.declare(f"declare {text} @llvm.{name}({text}{types})")
        estimate = self._result(kind, lanes, f"call {text} @llvm.{name}({self._typed(value)}{more})")
        while correct_bits < _CORRECT[kind]:  # Newton's steps: each doubles the correct bits
            half = estimate * value * -0.5
            estimate = estimate * self.mul_add(half, estimate, self.constant(1.5, kind, lanes))
            correct_bits *= 2
        return estimate

    def _reciprocal_sqrt_from_bits(self, x: Value) -> Value:
        estimate = self.from_bits(_LESS_HALF - (self.bits(self.abs(x)) >> 1))  # a magnitude is shifted at once
        c0, c1, c2 = (self.constant(number, F64, x.lanes) for number in _FACTOR)
        square = x * estimate * estimate
        return estimate * self.mul_add(self.mul_add(square, c2, c1), square, c0)

    def _fma(self, a: Value, b: Value, c: Value) -> Value:
        self._did("fma", a.lanes or 1)
        return self._intrinsic("fma", a, b, c)

    def _bitcast(self, value: Value, kind: Type) -> Value:
        return self._result(kind, value.lanes, f"bitcast {self._typed(value)} to {_llvm(kind, value.lanes)}")

    def _convert(self, value: Value, kind: Type) -> Value:
        names = {
            (True, True): "fpext" if kind is F64 else "fptrunc",
            (False, True): "sitofp",
            (True, False): "fptosi",
            (False, False): "sext" if kind is I64 else "trunc",
        }
        instruction = names[value.type.is_float, kind.is_float]
        return self._result(kind, value.lanes, f"{instruction} {self._typed(value)} to {_llvm(kind, value.lanes)}")

    # --- threads ------------------------------------------------------------------------------------------------

    def fetch_add(self, pointer: Pointer, value: Number) -> Value:
        added = self.coerce(value, I64, 0)
        add = f"atomicrmw add ptr {self._shared(pointer)}, {self._typed(added)} acq_rel, align 8"
        return Value(self, I64, 0, self._each_time("v", add))

    def load_shared(self, pointer: Pointer) -> Value:
        load = f"load atomic i64, ptr {self._shared(pointer)} acquire, align 8"
        return Value(self, I64, 0, self._each_time("v", load))

    def pause(self) -> None:
        if self.target.name in ("avx512", "avx2", "sse2"):
            self._module.declare("declare void @llvm.x86.sse2.pause()")
            self._line("call void @llvm.x86.sse2.pause()")

    def yield_core(self) -> None:
        function = self._outside("yield_core")
        self._line(f"call i32 {function}()")
