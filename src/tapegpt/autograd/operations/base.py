"""What an operation of the tape is, and how its kernels see the tape's nodes. Not here: any mathematics.

A node is a matrix (rows, columns) of the tape's real type, f64 or f32. Each row starts on a multiple of `PAD` elements;
the elements between the last column and the next row are always zero, so that kernels may work on whole vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from tapegpt.errors import TapeGPTError
from tapegpt.machine.language import F32, F64, Builder, Number, Operand, Pointer, Type, Value
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from tapegpt.autograd.value import Matrix

    Kind = TypeVar("Kind", bound="Operation")

PAD = 16  # f32 in a cache line and in the widest vector; of f64 two of each


def padded(count: int) -> int:
    """The next multiple of `PAD`."""
    return -(-count // PAD) * PAD


def row_stride(columns: int) -> int:
    """Numbers from a row to the next. Wide rows are an odd number of `PAD` apart: those that are a multiple of 1 KB
    apart share a few sets of the nearest cache, and products of 512 columns on AVX2 took twice the time.
    """
    stride = padded(columns)
    return stride + PAD if stride >= 16 * PAD and stride % (2 * PAD) == 0 else stride


class Shape(Record):
    """Rows and columns; `rows` None is one row for each position of the run."""

    rows: int | None
    columns: int
    index: bool = False  # u32 token ids instead of real numbers

    def count(self, positions: int) -> int:
        """How many rows it is for so many positions."""
        return positions if self.rows is None else self.rows

    def __str__(self) -> str:
        return f"({'T' if self.rows is None else self.rows}, {self.columns})" + (" u32" if self.index else "")


class View(Record):
    """A matrix in memory: what stands in row r and column c lies at `start[r * stride + c * step]`."""

    start: Pointer
    rows: Number
    columns: int
    stride: int
    step: int = 1

    def __str__(self) -> str:
        return f"({self.rows}, {self.columns})"

    @property
    def T(self) -> View:  # noqa: N802  # as everywhere
        """Rows as columns."""
        return View(self.start, self.columns, self.rows, self.step, self.stride)  # type: ignore[arg-type]  # T columns

    def at(self, row: Number, column: Number = 0) -> View:
        """The matrix from there on; its rows and columns stay as they were."""
        return self.replace(start=self.start + (row * self.stride + column * self.step))

    def __getitem__(self, at: tuple[Number, Number]) -> Value:
        row, column = at
        return self.start[row * self.stride + column * self.step]

    def __setitem__(self, at: tuple[Number, Number], number: Number) -> None:
        row, column = at
        self.start[row * self.stride + column * self.step] = number

    def vector(self, row: Number, column: Number, lanes: int) -> Value:
        """Numbers of a row."""
        return self.start.vector(row * self.stride + column, lanes)

    def store(self, row: Number, column: Number, numbers: Operand) -> None:
        """Set numbers of a row."""
        self.start.store(row * self.stride + column, numbers)


class Slot(Record):
    """A node while code is made: where its numbers lie and which of its rows take part."""

    shape: Shape
    rows: int  # rows in memory: the most positions of a run where shape.rows is None
    value: Pointer
    gradient: Pointer | None  # None where nothing needs it
    fresh: bool  # the gradient has not been written yet: set it, do not add to it
    start: Number
    stop: Number
    activation: str = ""  # what the node's operation did last; its gradient is the one before that,
    local_grads: Pointer | None = None  # so the next operation multiplies by these local gradients of it

    @property
    def columns(self) -> int:
        return self.shape.columns

    @property
    def extent(self) -> int:
        """How many numbers of memory a matrix like it has."""
        return self.rows * self.stride

    @property
    def stride(self) -> int:
        """Elements from row to row."""
        return row_stride(self.columns)

    @property
    def grad(self) -> Pointer:
        """The gradient, where there must be one."""
        assert self.gradient is not None
        return self.gradient

    def whole(self, matrix: Pointer) -> View:
        """A matrix like the node's."""
        return View(matrix, self.rows, self.columns, self.stride)

    def view(self, matrix: Pointer) -> View:
        """Those of its rows that take part."""
        return self.whole(matrix).at(self.start).replace(rows=self.stop - self.start)


class Scratch(Record):
    """Memory of an operation: `prepared` is valid as long as its inputs, `kept` from forward to backward."""

    prepared: Pointer
    kept: Pointer


class Batch(Record):
    """What the rows of the fast engine are: documents one after the other, or (`cached`) the next tokens of strings."""

    rows: int  # at most
    block_size: int  # the most positions of a document
    lines: int = 0  # strings of which something is kept, by position; 0 where rows are documents

    @property
    def cached(self) -> bool:
        return self.lines > 0


class Operation(ABC):
    """One operation: its shape rule, what it is in scalars, its forward kernel and beside it its backward kernel.

    `forward`, `backward` and `prepare` are kernels over nodes: the pointers and run-time numbers of a `Slot` are
    arguments of the machine code; its shape, the operation and all else are constants.

    In f64, gradients are added in the order of microgpt.py: products one at a time, the last position first. An
    operation writes the gradient of an input only where `gradient` is not None. A gradient of zero may be
    0.0 or -0.0: nothing else depends on it, and `Tape.gradient` returns 0.0.
    """

    name: str
    formula = "{name} of {n}"  # of a number of the result, in words; n counts its inputs, or its products of two
    within: Mapping[str, str] = {}  # formulas of the intermediate results that `reference` names
    real: Type | None = F64  # type of its numbers; None: f64 and f32
    takes: tuple[int, ...] = ()  # how many inputs, but for those of `about`; () is any number
    f32_form: type[Operation] | None = None  # the class that computes it in f32, if that is another one
    about: tuple[str, ...] = ()  # nodes about the rows that it takes behind its inputs
    about_rows: tuple[str, ...] = ()  # those that it takes in the fast engine, see `to_f32`
    keeps_rows = False  # whether it keeps something of a string, by position, so that it takes `lines` too
    batch = Batch(1 << 32, 1 << 32)  # whose rows these are: any
    prepares: tuple[int, ...] | None = None  # inputs that `prepare` reads; None is all
    constants: tuple[float, ...] = ()  # numbers that it computes with beside its inputs
    activation = ""  # applied to the result, see `Slot.activation`
    unwinds: tuple[int, ...] = ()  # inputs whose activation it differentiates
    sets: tuple[int, ...] = ()  # inputs whose gradient it sets: they may have no other use
    clears: tuple[int, ...] = ()  # inputs whose gradient must be cleared before this operation adds to it
    passes: tuple[int, ...] = ()  # inputs whose gradient is the result's own, in the same memory
    below = 1 << 32  # bound of the token ids that it computes, if it does

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)  # the same code does for both

    def __hash__(self) -> int:
        return hash(type(self))

    @abstractmethod
    def shape(self, *inputs: Any, **_: Any) -> Shape:
        """Shape of the result; raises `TapeGPTError` where the inputs do not fit."""

    def reference(self, inner: dict[str, Matrix], *inputs: Any, **_: Any) -> Matrix:
        """The result in scalars, never optimised; `inner` takes rows of intermediate results by name.

        Token ids are `Value`s whose data is a whole number.
        """
        raise TapeGPTError(f"{self.name}: is not written in scalars")

    def to_f32(self, batch: Batch) -> Operation:
        """The operation in f32, which may take nodes `about` the rows.

        These are `positions`, where a row stands in its document; `ends`, the row behind that document; `share`, the
        weight of a row in the loss; and if the batch is cached, `lines`: where what the string has kept lies. Rows of a
        string come in order, but may begin anew at any position that has been kept.
        """
        kind = self.f32_form or type(self)
        result = kind.__new__(kind)
        vars(result).update(vars(self))
        if kind.about_rows:
            lines = ("lines",) if batch.cached and kind.keeps_rows else ()
            result.batch, result.about = batch, kind.about_rows + lines
        return result

    def prepared_size(self, *inputs: Any, **_: Any) -> int:
        """How many numbers `prepare` makes."""
        return 0

    def kept_size(self, positions: int, *inputs: Any, **_: Any) -> int:
        """How many numbers the kernels keep from forward to backward."""
        return 0

    def index_bounds(self, *inputs: Any, **_: Any) -> list[int]:
        """For each input the number that its token ids must be below, 0 where it takes numbers."""
        bounds = {"positions": self.batch.block_size, "lines": self.batch.lines, "ends": 1 << 32, "share": 0}
        return [*[0] * (len(inputs) - len(self.about)), *[bounds[name] for name in self.about]]

    def is_causal(self, *inputs: Any, **_: Any) -> bool:
        """Whether no row of the result depends on a later row."""
        return True

    def prepare(self, k: Builder, scratch: Scratch, *inputs: Any, **_: Any) -> None:
        """Compute what depends on the inputs of `prepares` alone: once after parameters change, or before each run."""

    @abstractmethod
    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Any, **_: Any) -> None:
        """Compute rows `out.start` to `out.stop`."""

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Any, **_: Any) -> None:
        """Add to the inputs' gradients what follows from the upstream gradient, `out.gradient`."""
        raise TapeGPTError(f"{self.name}: has no gradient: write its backward")

    def expect(self, holds: bool, rule: str, *shapes: Shape) -> None:
        """Raise `TapeGPTError` unless the rule on the inputs' shapes holds."""
        if not holds:
            raise TapeGPTError(f"{self.name}: {rule}, not {' and '.join(map(str, shapes))}")


def in_f32(exact: type[Operation]) -> Callable[[type[Kind]], type[Kind]]:
    """Note that the class that follows computes in f32 what the other one computes in f64."""

    def note(kind: type[Kind]) -> type[Kind]:
        kind.real, exact.f32_form = F32, kind
        return kind

    return note


def clear(k: Builder, block: Pointer, count: Number) -> None:
    """Zero the elements of whole rows."""
    width = k.width(block.type)
    for i in k.range(0, count, width):
        block.store(i, k.constant(0, block.type, width))
