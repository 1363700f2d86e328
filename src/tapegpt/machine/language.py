"""The kernel language: Python functions over registers and pointers, the same source compiled or interpreted.

A kernel is a function decorated with `@kernel`. Its first parameter `k` is a `Builder`; the positional parameters are
run-time arguments, typed by their annotations (`F64s`, `U32s`, `I64s` are pointers, `Int` and `Real` numbers), or
records of such; the keyword-only parameters are plain Python values, constants of the code. Python's own `for`, `if`
and arithmetic on plain numbers run while the code is made; what runs later, with the code, is written with
`k.range`, `k.when`, `k.repeat_while` and operators on `Value`s:

    @kernel
    def scale(k: Builder, x: F64s, n: Int, *, factor: float) -> None:
        for i in k.range(n):
            x[i] = x[i] * factor

A value may only be used in the turn of the loop or condition that made it; a register, `k.variable`, outlives it. A
loop's body is made twice and the second one dropped, which finds a turn that uses values of the turn before. Python's
`==`, truth and the like are errors too; each error names the kernel and the line.

Builders are the makers of code (`maker.py`), of which `emitter.py` writes LLVM IR, and `interpreter.py`, which executes
at once. This file is what they share: types, operators, and the primitives of the language. Not here: LLVM, files,
memory.
"""

from __future__ import annotations

import os
from _blake2 import blake2b
from abc import ABC, abstractmethod, update_abstractmethods
from functools import reduce

from tapegpt.machine.signature import KernelError, Signature, Structure
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from tapegpt.machine.target import Target


class Type:
    """An element type: its name here and in LLVM, and its size in bytes."""

    __slots__ = ("is_float", "llvm", "name", "size")

    def __init__(self, name: str, llvm: str, size: int, is_float: bool) -> None:
        self.name, self.llvm, self.size, self.is_float = name, llvm, size, is_float

    def __repr__(self) -> str:
        return self.name


F64 = Type("f64", "double", 8, True)
F32 = Type("f32", "float", 4, True)
I32 = Type("i32", "i32", 4, False)
I64 = Type("i64", "i64", 8, False)
U32 = Type("u32", "i32", 4, False)  # in memory only: loaded as a non-negative i64, stored as its low 32 bits
BOOL = Type("bool", "i1", 1, False)  # result of comparisons
FLOATS, INTEGERS = (F64, F32), (I64, I32)
REAL = Type("real", "", 0, True)  # of kernels' arguments only: f64 or f32, decided by each call

_FOLDER = os.path.dirname(__file__)


def sources() -> bytes:
    """A sum over the sources of the compiler, the only code that is not taken from memory: most is not there yet."""
    total = blake2b()
    for name in ("language", "maker", "emitter", "wasm", "stack", "opcodes", "elf", "llvm", "program"):
        with open(os.path.join(_FOLDER, f"{name}.py"), "rb") as file:
            total.update(file.read())
    return total.digest()


SOURCES = sources()


class Traced:
    """What is known only while a kernel runs, so that Python's own `if`, `==` and `for` cannot use it."""

    __slots__ = ("data", "k", "type")
    _instead = "use k.when or k.select"

    def __init__(self, k: Builder, kind: Type, data: Any) -> None:
        self.k = k
        self.type = kind
        self.data = data  # the builder's own: an SSA name, or Python numbers

    def __bool__(self) -> bool:
        raise KernelError(f"a {self} has no truth while code is made: {self._instead}")

    def __eq__(self, other: object) -> bool:
        raise KernelError("== asks while code is made: use a.equals(b)")

    def __ne__(self, other: object) -> bool:
        raise KernelError("!= asks while code is made: use a.differs(b)")

    def __hash__(self) -> int:
        raise KernelError("a run-time value is no key while code is made")

    def __iter__(self) -> Iterator[Value]:
        raise KernelError("a run-time value is not iterated while code is made: use k.range")


def _operator(operation: str) -> Callable[[Operand, Number], Value]:
    return lambda self, other: self.k.arithmetic(operation, self, other)


def _reflect(operation: str) -> Callable[[Operand, Number], Value]:
    return lambda self, other: self.k.arithmetic(operation, other, self)


def _in_place(operation: str) -> Callable[[Variable, Number], Variable]:
    def assign(self: Variable, other: Number) -> Variable:
        self.set(self.k.arithmetic(operation, self, other))
        return self

    return assign


def _relation(relation: str) -> Callable[[Operand, Number], Value]:
    return lambda self, other: self.k.comparison(relation, self, other)


class Operand(Traced):
    """What operators work on: a `Value` or a `Variable`."""

    __slots__ = ("lanes",)

    def __init__(self, k: Builder, kind: Type, lanes: int, data: Any) -> None:
        self.k, self.type, self.data = k, kind, data
        self.lanes = lanes  # 0 is a scalar, n a vector of n

    def __repr__(self) -> str:
        return f"{self.type} x {self.lanes}" if self.lanes else f"{self.type}"

    __add__, __radd__ = _operator("add"), _reflect("add")
    __sub__, __rsub__ = _operator("sub"), _reflect("sub")
    __mul__, __rmul__ = _operator("mul"), _reflect("mul")
    __truediv__, __rtruediv__ = _operator("div"), _reflect("div")
    __floordiv__ = _operator("quotient")  # of integers, rounded towards zero, as C and the CPU do and Python does not
    __mod__ = _operator("remainder")  # of integers, with the sign of the dividend, as C and the CPU do
    __and__, __or__, __xor__ = _operator("and"), _operator("or"), _operator("xor")
    __lshift__ = _operator("shl")
    __rshift__ = _operator("shr")  # zeros come in
    __lt__, __le__ = _relation("<"), _relation("<=")
    __gt__, __ge__ = _relation(">"), _relation(">=")

    def __neg__(self) -> Value:
        return self.k.arithmetic("mul", self, -1)

    def equals(self, other: Number) -> Value:
        """Whether both are equal."""
        return self.k.comparison("==", self, other)

    def differs(self, other: Number) -> Value:
        """Whether both differ; true for NaN."""
        return self.k.comparison("!=", self, other)

    def lane(self, index: int) -> Value:
        """One lane of a vector as a scalar."""
        value = self.k.value(self)
        if not 0 <= index < value.lanes:
            raise KernelError(f"lane {index} of {value}")
        return self.k.extract(value, index)


Number = Operand | float  # what operators take


class Value(Operand):
    """A number or vector that never changes."""

    __slots__ = ()


class Variable(Operand):
    """A register that may change: `v += x` and the like, or `v.set(x)`."""

    __slots__ = ()

    def set(self, value: Number) -> None:
        """Assign; a scalar is spread over the lanes."""
        self.k.assign(self, self.k.coerce(value, self.type, self.lanes))

    __iadd__, __isub__, __imul__ = _in_place("add"), _in_place("sub"), _in_place("mul")  # the register itself

    def accumulate(self, a: Operand, b: Operand) -> None:
        """Add a * b, with one rounding where the target fuses it."""
        self.set(self.k.mul_add(a, b, self))


class Pointer(Traced):
    """Where elements of one type lie; indices count elements. Bounds are checked by the interpreter only."""

    __slots__ = ()
    _instead = "ask whether it is None"

    def __repr__(self) -> str:
        return f"{self.type} pointer"

    @property
    def number(self) -> Type:
        """The type of its elements once they are loaded."""
        return I64 if self.type is U32 else self.type

    def __add__(self, offset: Number) -> Pointer:
        return self.k.offset(self, self.k.coerce(offset, I64, 0))

    def __getitem__(self, index: Number) -> Value:
        return self.k.load(self + index, 0)

    def __setitem__(self, index: Number, value: Number) -> None:
        self.k.store(self + index, self.k.coerce(value, self.number, 0))

    def cast(self, kind: Type) -> Pointer:
        """The same memory as elements of another type."""
        return self.k.cast(self, kind)

    def vector(self, index: Number, lanes: int) -> Value:
        """Load `lanes` elements from `index` on; one lane is a scalar."""
        return self.k.load(self + index, 0 if lanes == 1 else lanes)

    def store(self, index: Number, value: Operand) -> None:
        """Store all lanes of `value` from `index` on."""
        self.k.store(self + index, self.k.coerce(value, self.number, value.lanes))


Reals = Pointer
F64s = Pointer
F32s = Pointer
I64s = Pointer
U32s = Pointer
Int = Operand
Real = Operand


class Argument(Record):
    """What a kernel gets at run time: a pointer to elements of a type, or a number of it."""

    is_pointer: bool
    type: Type

    def __repr__(self) -> str:
        return f"{self.type} pointer" if self.is_pointer else f"{self.type}"


class _Twin(Record):
    """The same record as an earlier argument."""

    name: str


REALS = Argument(True, REAL)
ARGUMENTS = {  # by annotation
    "Reals": REALS,
    "F64s": Argument(True, F64),
    "F32s": Argument(True, F32),
    "I64s": Argument(True, I64),
    "U32s": Argument(True, U32),
    "Int": Argument(False, I64),
    "Real": Argument(False, F64),
}
_VARIADIC = 4  # a code object's flag for *arguments


class Kernel:
    """A function or method of the kernel language; calling it inside another kernel makes a call, not a copy.

    An argument may be a record: the pointers and run-time numbers that it holds are passed one by one, so that LLVM
    knows them to be apart, and all else in it is fixed as constants are, like the object of a method. A program's entry
    takes `Structure`s, whose fields are known without a call. `Reals` point to numbers of the type `real`; by default
    that of the first that is given. An entry whose `real` is f32 takes subnormal numbers for zero, and computes none.
    """

    def __init__(self, body: Callable[..., None], name: str = "", real: Type = REAL) -> None:
        self.body, self.real, code = body, real, body.__code__
        self.name = name or body.__name__
        names = code.co_varnames[2 if self._object else 1 : code.co_argcount]  # behind the builder
        self.forms: dict[str, object] = {name: self._form(body.__annotations__.get(name, "")) for name in names}
        self._is_variadic = bool(code.co_flags & _VARIADIC)

    @property
    def _object(self) -> object:
        """Whose method it is."""
        return getattr(self.body, "__self__", None)

    def _form(self, annotation: str = "") -> object:
        """What stands for an argument: `Argument`, a structure of them, or None for what a call decides."""
        argument = ARGUMENTS.get(annotation)
        if argument:
            return Argument(True, self.real) if argument is REALS and self.real is not REAL else argument
        structure = self.body.__globals__.get(annotation)
        if isinstance(structure, type) and issubclass(structure, Structure):
            return structure(**{name: self._form(each.kind) for name, each in structure.fields.items()})
        return None

    @property
    def flushes(self) -> bool:
        """Whether subnormal numbers are zero to it, as an entry, and to all that it calls."""
        return self.real is F32

    @property
    def arguments(self) -> dict[str, Argument]:
        """What it gets at run time, by name; of a structure `name.field`."""
        found: dict[str, Argument] = {}
        for name, form in self.forms.items():
            if form is None:
                raise KernelError(
                    f"{self.name}: annotate each run-time argument with one of {', '.join(ARGUMENTS)} or a Structure, "
                    "as a string (`from __future__ import annotations` makes it one)"
                )
            _take_values(form, name, found)
        return found

    @property
    def identity(self) -> tuple[object, ...]:
        """What its code depends on, beside constants."""
        return getattr(self.body, "__func__", self.body), self._object, self.real, self.forms

    def __call__(self, k: Builder, *arguments: object, **constants: Any) -> None:
        extra = range(len(arguments) - len(self.forms))
        if len(arguments) < len(self.forms) or (extra and not self._is_variadic):
            raise KernelError(f"{self.name} takes {len(self.forms)} arguments, not {len(arguments)}")
        called = self._for(arguments)
        given: dict[str, object] = {}
        passed: dict[str, Any] = {}
        for name, argument in zip([*self.forms, *(f"more{place}" for place in extra)], arguments, strict=True):
            expected, twin = called.forms.get(name), next((n for n, one in given.items() if one is argument), "")
            given[name] = argument
            if isinstance(expected, Argument):
                passed[name] = self._argument(k, argument, name, expected)
            else:
                is_twin = twin and isinstance(argument, Record)
                called.forms[name] = _Twin(twin) if is_twin else _take_values(argument, name, passed)
        k.call(called, [k.value(each) if isinstance(each, Operand) else each for each in passed.values()], constants)

    def _for(self, arguments: tuple[object, ...]) -> Kernel:
        """A kernel for one call, whose `Reals` have the type of the first of them."""
        pairs = zip(arguments, self.forms.values(), strict=False)
        kind = next((a.type for a, form in pairs if form == REALS and isinstance(a, Pointer)), self.real)
        return Kernel(self.body, self.name if kind is self.real else f"{self.name}.{kind}", kind)

    def _argument(self, k: Builder, argument: Any, name: str, expected: Argument) -> Pointer | Value:
        if not expected.is_pointer and not isinstance(argument, Pointer):
            return k.coerce(argument, expected.type, 0)
        if expected.is_pointer and isinstance(argument, Pointer) and argument.type is expected.type:
            return argument
        raise KernelError(f"{self.name}: {name} must be a {expected}, not {argument!r}")

    @property
    def signature(self) -> Signature:
        """How it is called as an entry."""
        given = {name: tuple(form.fields) if isinstance(form, Structure) else () for name, form in self.forms.items()}
        kinds = {
            name: "P" if each.is_pointer else "d" if each.type.is_float else "q"
            for name, each in self.arguments.items()
        }
        return Signature(self.name, given, kinds)

    def trace(self, k: Builder, arguments: Sequence[Pointer | Value], constants: dict[str, Any]) -> None:
        """Run the body with a builder. What it does wrong is a `KernelError` that names this kernel and the line."""
        rest = iter(arguments)
        given: dict[str, object] = {}
        for name, form in self.forms.items():
            given[name] = given[form.name] if isinstance(form, _Twin) else _put_values(form, rest)
        try:
            self.body(k, *given.values(), **constants)
        except TypeError as error:
            if getattr(error, "place", ""):  # in a kernel that this one calls
                raise
            raise KernelError(str(error), f"{self.name}, {_line(error)}") from error


def _take_values(given: object, name: str, taken: dict[str, Any]) -> object:
    """A record without what is only known at run time, `Argument`s instead of it; that is taken, by its name."""
    if isinstance(given, Argument | Traced):
        taken[name] = given
        return given if isinstance(given, Argument) else Argument(isinstance(given, Pointer), given.type)
    if not isinstance(given, Record):
        return given
    return given.replace(**{field: _take_values(x, f"{name}.{field}", taken) for field, x in given.as_dict().items()})


def _put_values(form: object, values: Iterator[Pointer | Value]) -> object:
    """A record with values instead of its `Argument`s."""
    if isinstance(form, Argument):
        return next(values)
    if not isinstance(form, Record):
        return form
    return form.replace(**{field: _put_values(x, values) for field, x in form.as_dict().items()})


def _line(error: Exception) -> str:
    """File and line of the innermost call outside this folder."""
    place, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if os.path.dirname(file) != _FOLDER:
            place = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def kernel(body: Callable[..., None]) -> Kernel:
    """Make a kernel of a function.

    Where another kernel calls it, what it reads or writes through one pointer argument must not be written through
    another, nor by another thread meanwhile: LLVM is told so. A program's entries may be given anything.
    """
    return Kernel(body)


class Builder(ABC):
    """The primitives of the kernel language. Scalars meet vectors by being spread over the lanes."""

    def __init__(self, target: Target) -> None:
        self.target = target

    # --- what kernels say ---------------------------------------------------------------------------------------

    def width(self, kind: Type = F64) -> int:
        """Lanes of the target's widest vector."""
        return max(1, self.target.vector_bytes // kind.size)

    def vectors(self, count: int, kind: Type = F64) -> list[tuple[int, int]]:
        """`count` elements cut into (offset, lanes), widest vectors first, nothing left over and nothing beyond."""
        pieces, offset, lanes = [], 0, self.width(kind)
        while offset < count:
            while lanes > count - offset:
                lanes //= 2
            pieces.append((offset, lanes))
            offset += lanes
        return pieces

    def variable(self, start: Operand) -> Variable:
        """A register that starts with this value."""
        variable = self.allocate(start.type, start.lanes)
        variable.set(start)
        return variable

    def zeros(self, lanes: int = 0, kind: Type = F64) -> Variable:
        """A register of zeros; one lane is a scalar."""
        return self.variable(self.constant(0, kind, 0 if lanes == 1 else lanes))

    def real(self, number: Number) -> Value:
        """A number as an f64 scalar."""
        return self.coerce(number, F64, 0)

    def real32(self, number: Number) -> Value:
        """A number as an f32 scalar."""
        return self.coerce(number, F32, 0)

    def integer(self, number: Number) -> Value:
        """A number as an i64 scalar."""
        return self.coerce(number, I64, 0)

    def select(self, condition: Operand, yes: Number, no: Number) -> Value:
        """Lane by lane `yes` where the condition holds, else `no`."""
        a, b = self.unify(yes, no)
        mask = self.value(condition)
        lanes = max(a.lanes, mask.lanes)
        if mask.lanes not in (0, lanes) or mask.type is not BOOL:
            raise KernelError(f"select by {mask} among {a}")
        return self.choose(mask, self.spread(a, lanes), self.spread(b, lanes))

    def maximum(self, a: Number, b: Number) -> Value:
        """The larger one, lane by lane."""
        a, b = self.unify(a, b)
        return self.select(a > b, a, b)

    def minimum(self, a: Number, b: Number) -> Value:
        """The smaller one, lane by lane."""
        a, b = self.unify(a, b)
        return self.select(a < b, a, b)

    def mul_add(self, a: Operand, b: Operand, c: Operand) -> Value:
        """a * b + c, with one rounding where the target fuses it; a scalar is spread over the lanes."""
        lanes = max(a.lanes, b.lanes, c.lanes)
        x, y, z = (self.spread(self.value(operand), lanes) for operand in (a, b, c))
        return self.fma(x, y, z) if self.target.fma else x * y + z

    def group_sum(self, vector: Operand, group: int) -> Value:
        """On every lane the sum over its group of neighbours, a power of two; pairwise, not in index order."""
        return self._fold(vector, group, lambda a, b: a + b)

    def group_max(self, vector: Operand, group: int) -> Value:
        """On every lane the largest of its group of neighbours, a power of two."""
        return self._fold(vector, group, self.maximum)

    def _fold(self, vector: Operand, group: int, combine: Callable[[Value, Value], Value]) -> Value:
        value, distance = self.value(vector), 1
        while distance < group:
            partners = [lane ^ distance for lane in range(value.lanes)]
            value = combine(value, self.shuffle(value, value, partners))
            distance *= 2
        return value

    def reduce_max(self, vector: Operand) -> Value:
        """Largest lane; a scalar is its own."""
        return reduce(self.maximum, self._lanes(vector))

    def reduce_add(self, vector: Operand) -> Value:
        """Sum of the lanes, first to last, one rounding each; a scalar is its own."""
        return reduce(lambda a, b: a + b, self._lanes(vector))

    def _lanes(self, vector: Operand) -> Iterator[Value]:
        value = self.value(vector)
        yield from (value.lane(index) for index in range(value.lanes)) if value.lanes else [value]

    def transpose(self, rows: list[Value]) -> list[Value]:
        """A square of n vectors of n lanes, n a power of two: row i, lane j goes to row j, lane i."""
        size, rows = len(rows), list(rows)
        half = 1
        while half < size:
            upper = [lane + size - half if lane & half else lane for lane in range(size)]
            lower = [lane + size if lane & half else lane + half for lane in range(size)]
            for i in range(size):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = self.shuffle(a, b, upper), self.shuffle(a, b, lower)
            half *= 2
        return rows

    def exp(self, x: Number) -> Value:
        """libm's exp, lane by lane."""
        return self.libm("exp", x)

    def log(self, x: Number) -> Value:
        """libm's natural logarithm, lane by lane."""
        return self.libm("log", x)

    def pow(self, x: Number, exponent: Number) -> Value:
        """libm's pow, lane by lane; never rewritten into products or roots."""
        return self.libm("pow", x, exponent)

    def logical_not(self, condition: Operand) -> Value:
        """Where the condition does not hold, lane by lane."""
        mask = self.value(condition)
        return self.choose(mask, self.constant(0, BOOL, mask.lanes), self.constant(1, BOOL, mask.lanes))

    def libm(self, name: str, *arguments: Number) -> Value:
        """A function of the C library through its address, lane by lane."""
        values = [self.value(a) if isinstance(a, Operand) else self.constant(a, F64, 0) for a in arguments]
        lanes = max(value.lanes for value in values)
        if any(value.type is not F64 for value in values):
            raise KernelError(f"{name} of {', '.join(map(repr, values))}: libm takes f64")
        if not lanes:
            return self.external(name, values)
        spread = [self.spread(value, lanes) for value in values]
        result = self.constant(0, F64, lanes)
        for index in range(lanes):
            result = self.insert(result, index, self.external(name, [value.lane(index) for value in spread]))
        return result

    # --- types --------------------------------------------------------------------------------------------------

    def value(self, operand: Operand) -> Value:
        """The present value of a register, or the value itself."""
        return operand if isinstance(operand, Value) else self.read(operand)

    def spread(self, value: Value, lanes: int) -> Value:
        """A scalar on all lanes."""
        if value.lanes == lanes:
            return value
        if value.lanes:
            raise KernelError(f"{value} where {lanes} lanes are meant")
        return self.splat(value, lanes)

    def _of(self, operand: Operand, *kinds: Type) -> Value:
        """The present value of an operand of one of these types."""
        value = self.value(operand)
        if value.type not in kinds:
            raise KernelError(f"{value} where {' or '.join(map(repr, kinds))} is meant")
        return value

    def coerce(self, number: Number, kind: Type, lanes: int) -> Value:
        """A number as a value of this type and number of lanes."""
        if not isinstance(number, Operand):
            return self.constant(number, kind, lanes)
        value = self.value(number)
        if value.type is not kind:
            raise KernelError(f"{value} where {kind} is meant: convert it")
        return self.spread(value, lanes)

    def unify(self, a: Number, b: Number) -> tuple[Value, Value]:
        """Both as values of one type and number of lanes."""
        like = a if isinstance(a, Operand) else b
        if not isinstance(like, Operand):
            raise KernelError(f"{a!r} and {b!r} are plain numbers: at least one must be a value")
        other = b if like is a else a
        lanes = max(like.lanes, other.lanes if isinstance(other, Operand) else 0)
        return self.coerce(a, like.type, lanes), self.coerce(b, like.type, lanes)

    def arithmetic(self, operation: str, a: Number, b: Number) -> Value:
        """One of add, sub, mul; div of floats; quotient, remainder, shl, shr of integers; and, or, xor."""
        left, right = self.unify(a, b)
        floats = operation in ("add", "sub", "mul", "div")
        integers = operation != "div"
        logic = operation in ("and", "or", "xor")
        if not (floats if left.type.is_float else logic if left.type is BOOL else integers):
            raise KernelError(f"{operation} of {left}")
        if not isinstance(b, Operand):
            if operation in ("quotient", "remainder") and not b:
                raise KernelError(f"{left} divided by 0")
            if operation in ("shl", "shr") and not 0 <= b < 8 * left.type.size:
                raise KernelError(f"{left} shifted by {b} bits")
        return self.binary(operation, left, right)

    def comparison(self, relation: str, a: Number, b: Number) -> Value:
        """One of < <= > >= == !=; ordered, so false where a NaN is compared, but for !=."""
        left, right = self.unify(a, b)
        if left.type is BOOL and relation not in ("==", "!="):
            raise KernelError(f"{relation} of {left}")
        return self.compare(relation, left, right)

    def shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        """A vector of chosen lanes: those of `a` count from 0, those of `b` follow them."""
        if a.type is not b.type or not a.lanes or a.lanes != b.lanes or not set(lanes) <= set(range(2 * a.lanes)):
            raise KernelError(f"lanes {lanes} of {a} and {b}")
        return self._shuffle(a, b, lanes)

    def any(self, mask: Operand) -> Value:
        """Whether any lane holds."""
        value = self._of(mask, BOOL)
        return self._any(value) if value.lanes else value

    def lowest_bit(self, x: Operand) -> Value:
        """Index of the lowest bit that is set in an i64 other than zero."""
        return self._lowest_bit(self.spread(self._of(x, I64), 0))

    def abs(self, x: Operand) -> Value:
        """Magnitude of floats."""
        return self._function("abs", self._of(x, *FLOATS))

    def sqrt(self, x: Operand) -> Value:
        """Square root of floats, correctly rounded."""
        return self._function("sqrt", self._of(x, *FLOATS))

    def reciprocal_sqrt(self, x: Operand) -> Value:
        """1 / sqrt(x), relative error below 3e-7 in f32 and 2^-13 in f64; without the divider where the CPU can.

        Of vectors above 1e-37 in f32, and of normal numbers in f64.
        """
        return 1.0 / self.sqrt(x)

    def fma(self, a: Operand, b: Operand, c: Operand) -> Value:
        """a * b + c with one rounding. Only where `target.fma` holds."""
        if not self.target.fma:
            raise KernelError(f"{self.target.name} has no fused multiply-add: ask target.fma first")
        return self._fma(*(self.spread(self._of(x, a.type), a.lanes) for x in (self._of(a, *FLOATS), b, c)))

    def bits(self, x: Operand) -> Value:
        """The IEEE-754 pattern of f64 lanes as i64, of f32 lanes as i32."""
        return self._bitcast(self._of(x, *FLOATS), I32 if x.type is F32 else I64)

    def from_bits(self, x: Operand) -> Value:
        """Float lanes from their IEEE-754 pattern."""
        return self._bitcast(self._of(x, *INTEGERS), F32 if x.type is I32 else F64)

    def convert(self, x: Operand, kind: Type) -> Value:
        """Between i64, i32, f64 and f32: to the nearest, ties to even; float to integer towards zero."""
        value = self._of(x, *FLOATS, *INTEGERS)
        if kind not in (*FLOATS, *INTEGERS):
            raise KernelError(f"{value} cannot be converted to {kind}")
        return value if value.type is kind else self._convert(value, kind)

    # --- threads: here there is one -----------------------------------------------------------------------------

    def fetch_add(self, pointer: Pointer, value: Number) -> Value:
        """Add to an i64 that threads share; what it was. All writes before it are seen by whoever reads the sum."""
        before = self.load_shared(pointer)
        pointer[0] = before + value
        return before

    def load_shared(self, pointer: Pointer) -> Value:
        """An i64 that other threads may change; what they wrote before it is seen after it."""
        return pointer[0]

    def pause(self) -> None:
        """Tell the CPU that this is a loop that waits for another thread."""

    def yield_core(self) -> None:
        """Let the system run another thread on this core, if one is waiting for it."""

    # --- what each builder does its own way ---------------------------------------------------------------------

    @abstractmethod
    def range(self, *bounds: Number) -> Iterator[Value]:
        """Like Python's `range`, at run time: (stop), (start, stop) or (start, stop, step); the step is a constant."""

    @abstractmethod
    def when(self, condition: Operand) -> Iterator[None]:
        """`for _ in k.when(c):` runs its body once where the condition holds."""

    @abstractmethod
    def repeat_while(self, condition: Callable[[], Operand]) -> Iterator[None]:
        """Repeat the body as long as the condition, asked anew before each turn, holds."""

    @abstractmethod
    def pack_bits(self, mask: Operand) -> Value:
        """The lanes of a mask as the low bits of an i64, the first lane lowest."""

    call: Callable[[Kernel, list[Pointer | Value], dict[str, Any]], None]  # arguments, constants
    constant: Callable[[float, Type, int], Value]  # a type and lanes
    lane_numbers: Callable[[int], Value]  # 0, 1, 2, ... as i32
    table: Callable[[tuple[float, ...], Type], Pointer]  # where constants lie, which nobody writes
    allocate: Callable[[Type, int], Variable]
    assign: Callable[[Variable, Value], None]
    read: Callable[[Operand], Value]
    splat: Callable[[Value, int], Value]
    extract: Callable[[Value, int], Value]
    insert: Callable[[Value, int, Value], Value]  # at a lane a scalar
    binary: Callable[[str, Value, Value], Value]  # an operation
    compare: Callable[[str, Value, Value], Value]  # a relation
    choose: Callable[[Value, Value, Value], Value]  # by a mask
    external: Callable[[str, list[Value]], Value]  # a function of libm
    offset: Callable[[Pointer, Value], Pointer]
    cast: Callable[[Pointer, Type], Pointer]
    load: Callable[[Pointer, int], Value]  # so many lanes
    store: Callable[[Pointer, Value], None]
    _shuffle: Callable[[Value, Value, list[int]], Value]
    _any: Callable[[Value], Value]
    _lowest_bit: Callable[[Value], Value]
    _function: Callable[[str, Value], Value]  # abs or sqrt
    _fma: Callable[[Value, Value, Value], Value]
    _bitcast: Callable[[Value, Type], Value]
    _convert: Callable[[Value, Type], Value]


for _name in Builder.__annotations__:  # a back end without one of these cannot be made
    setattr(Builder, _name, abstractmethod(lambda *_: None))
update_abstractmethods(Builder)  # type: ignore[type-abstract]  # which it is to become
