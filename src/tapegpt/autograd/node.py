"""A node of the tape: each of its operators and methods records one operation.

Operations that few models have are imported when they are recorded. Not here: their memory (`tape.py`).
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Shape, padded, row_stride
from tapegpt.autograd.operations.elementwise import Elementwise
from tapegpt.autograd.operations.rmsnorm import RMSNorm
from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tapegpt.autograd.operations.reductions import Reduction
    from tapegpt.autograd.tape import Tape


def _function(name: str, about: str) -> Callable[[Node], Node]:
    """A method that records a function of each number."""

    def record(self: Node) -> Node:
        return self.tape.record(Elementwise(name), self)

    record.__name__, record.__doc__ = name, about
    return record


class Node:
    """A matrix on the tape: a parameter, an input, or an operation's result. Offsets count numbers of its region."""

    def __init__(
        self, tape: Tape, name: str, shape: Shape, operation: Operation | None, inputs: tuple[Node, ...]
    ) -> None:
        self.tape, self.name, self.shape, self.operation, self.inputs = tape, name, shape, operation, inputs
        self.is_parameter = self.sparse = self.fixed = False
        self.start: float | None = None  # initial value of a parameter; None: random
        self.bound = 1 << 32  # written token ids must be below it
        self.below = operation.below if operation else 0  # computed token ids are below it; 0: there are none
        self.index = -1
        self.uses, self.taken = 0, False  # taken: one use sets the gradient, so no other may follow
        self.value = self.prepared = self.kept = -1
        self.gradient = -1  # -1: it has none

    @property
    def rows(self) -> int:
        """Rows in memory."""
        return self.shape.count(self.tape.positions)

    @property
    def extent(self) -> int:
        """Numbers in memory, padding included."""
        if self.shape.index:
            return padded(-(-4 * self.rows // self.tape.real.size))
        return self.rows * row_stride(self.shape.columns)

    @property
    def is_dense(self) -> bool:
        """Whether all of its numbers take part in each position, and are trained: not sparse, and not fixed."""
        return not self.sparse and not self.fixed

    @property
    def is_early(self) -> bool:
        """Whether what its operation prepares follows from parameters alone, and is not made in each run."""
        prepares = self.operation.prepares if self.operation else ()
        inputs = self.inputs if prepares is None else [self.inputs[index] for index in prepares]
        return self.operation is not None and all(each.is_parameter for each in inputs)

    @property
    def gradient_owner(self) -> Node | None:
        """The input whose gradient is this one's too, in the same memory."""
        owners = [self.inputs[index] for index in self.operation.passes] if self.operation else []
        return next((each for each in owners if each.gradient >= 0), None)

    @property
    def shares_gradient(self) -> bool:
        """Whether it has one."""
        return self.gradient_owner is not None

    def __add__(self, other: Node | float) -> Node:
        return self._combine("add", other, "what is added")

    def __mul__(self, other: Node | float) -> Node:
        return self._combine("mul", other, "a factor")

    def __pow__(self, exponent: float) -> Node:
        return self.tape.record(Elementwise("pow", number_of(exponent, self, "an exponent")), self)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Node:
        return self * -1.0

    def __rsub__(self, other: float) -> Node:
        return -self + other

    def __rtruediv__(self, other: float) -> Node:
        return self**-1.0 * other

    def __sub__(self, other: Node | float) -> Node:
        if not isinstance(other, Node):
            number_of(other, self, "what is subtracted")
        return self + (-other)

    def __truediv__(self, other: Node | float) -> Node:
        if not isinstance(other, Node):
            number_of(other, self, "a divisor")
        try:
            return self * other**-1.0
        except ArithmeticError:
            raise TapeGPTError(f"{self!r}: the inverse of {other!r} is beyond the largest number") from None

    exp = _function("exp", "e to the power of each number.")
    log = _function("log", "Natural logarithm of each number.")
    sqrt = _function("sqrt", "Square root of each number.")
    __abs__ = _function("abs", "Magnitude of each number.")
    tanh = _function("tanh", "Hyperbolic tangent of each number.")
    sigmoid = _function("sigmoid", "1 / (1 + e^-x) of each number.")
    relu = _function("relu", "Each number where it is positive, else zero.")
    silu = _function("silu", "x sigmoid(x) of each number.")
    gelu = _function("gelu", "x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 of each number.")

    def maximum(self, other: Node | float) -> Node:
        """The larger of each pair of numbers, or of each number and a constant; this node's where they are equal."""
        return self._combine("maximum", other, "the other number")

    def _combine(self, rule: str, other: Node | float, what: str) -> Node:
        if isinstance(other, Node):
            return self.tape.record(Elementwise(rule), self, other)
        return self.tape.record(Elementwise(rule, number_of(other, self, what)), self)

    def sum(self, axis: int | None = None) -> Node:
        """Sum over rows (axis 0), (1, C); over columns (1), (R, 1); of all numbers (None), (1, 1)."""
        return self._reduce("Sum", axis)

    def mean(self, axis: int | None = None) -> Node:
        """Mean over rows (axis 0), (1, C); over columns (1), (R, 1); of all numbers (None), (1, 1)."""
        return self._reduce("Mean", axis)

    def max(self, axis: int | None = None) -> Node:
        """The largest over rows (axis 0), (1, C); over columns (1), (R, 1); of all numbers (None), (1, 1).

        Where several are largest, the gradient is the first one's.
        """
        return self.max(1).max(0) if axis is None else self._reduce("Max", axis)

    def _reduce(self, name: str, axis: int | None) -> Node:
        from tapegpt.autograd.operations import reductions

        operation: type[Reduction] = getattr(reductions, name)
        if axis not in (None, 0, 1) or isinstance(axis, bool):
            raise TapeGPTError(f"{operation.name} of {self!r}: axis must be 0, 1 or None, not {quote(axis)}")
        return self.tape.record(operation(axis), self)

    def rmsnorm(self, gain: Node | None = None) -> Node:
        """Each row divided by its root mean square, times a gain (1, C)."""
        normed = self.tape.record(RMSNorm(), self)
        return normed if gain is None else normed * self._check_row(gain, "rmsnorm: the gain")

    def layer_norm(self, gain: Node | None = None, bias: Node | None = None) -> Node:
        """Each row less its mean and divided by its standard deviation, times a gain and plus a bias, (1, C) each."""
        from tapegpt.autograd.operations.layer_norm import LayerNorm

        normed = self.tape.record(LayerNorm(), self)
        if gain is not None:
            normed = normed * self._check_row(gain, "layer_norm: the gain")
        return normed if bias is None else normed + self._check_row(bias, "layer_norm: the bias")

    def _check_row(self, row: Node, what: str) -> Node:
        self.tape.check_own(row, what)
        if row.shape != Shape(1, self.shape.columns):
            raise TapeGPTError(f"{what} must be (1, {self.shape.columns}), not {row!r}")
        return row

    def shift(self, n: int) -> Node:
        """The rows of n positions before in the document, zeros before its first."""
        from tapegpt.autograd.operations.shift import Shift

        return self.tape.record(Shift(n), self)

    def linear(self, name: str, columns: int, *, bias: bool = False) -> Node:
        """The product with a new parameter of this name: (T, columns). The result has the name too.

        A bias is one more parameter, `name.bias` (1, columns), which begins at zero.
        """
        product = self.tape.linear(self, self.tape.parameter(name, columns, self.shape.columns))
        if bias:
            product = product + self.tape.parameter(f"{name}.bias", 1, columns, start=0.0)
        return product.named(name)

    def __getitem__(self, key: tuple[slice, slice]) -> Node:
        """Columns, as `x[:, start:stop]` or with a step."""
        from tapegpt.autograd.operations.columns import Columns

        if isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None) and isinstance(key[1], slice):
            try:
                sources = range(self.shape.columns)[key[1]]
            except (TypeError, ValueError):  # no whole numbers, or a step of 0
                sources = range(0)
            if sources:
                return self.tape.record(Columns(sources), self)
        raise TapeGPTError(f"{self!r}: takes at least one column of all rows, as x[:, 0:3], not x[{quote(key)}]")

    @property
    def T(self) -> Node:  # noqa: N802  # as NumPy and PyTorch call it
        """Rows as columns, of a matrix whose rows are of fixed number."""
        from tapegpt.autograd.operations.transpose import Transpose

        return self.tape.record(Transpose(), self)

    def __matmul__(self, other: Node) -> Node:
        """The matrix product: (R, I) @ (I, C), where the rows on the left may be those of the positions."""
        self.tape.check_own(other, "@")
        if other.shape.rows != self.shape.columns:
            raise TapeGPTError(f"@: needs as many rows on the right as columns on the left, not {self!r} and {other!r}")
        return self.tape.linear(self, other.T)

    def softmax(self) -> Node:
        """Each row as probabilities: e to the power of each number, divided by their sum."""
        from tapegpt.autograd.operations.softmax import Softmax

        return self.tape.record(Softmax(), self)

    def log_softmax(self) -> Node:
        """The logarithm of `softmax`, also where a probability is too small for a float."""
        from tapegpt.autograd.operations.softmax import LogSoftmax

        return self.tape.record(LogSoftmax(), self)

    def dropout(self, p: float, seed: int = 0) -> Node:
        """While training, a share `p` of the numbers zero and the others times 1 / (1 - p).

        Which ones depends on the seed, on how many dropouts the tape has so far, and on where a number stands: in which
        example of the training, at which position and in which column.
        """
        from tapegpt.autograd.operations.dropout import Dropout

        number = sum(isinstance(node.operation, Dropout) for node in self.tape.nodes)
        return self.tape.record(Dropout(p, seed, number), self, self.tape.example())

    def kneser_ney(self, name: str, tokens: Node, share: float, rows: int) -> Node:
        """Logits of a mixture with an n-gram model, which has this share; while training these logits as they are.

        The model is a fixed parameter of this name with room for so many n-grams, which the trainer counts.
        """
        from tapegpt.autograd.operations.kneser_ney import KneserNey
        from tapegpt.data.trie import COLUMNS

        counts = self.tape.parameter(name, COLUMNS, rows, start=0.0, fixed=True)
        return self.tape.record(KneserNey(share), self, tokens, counts, self.tape.example())

    def named(self, name: str) -> Node:
        """This node, with the name under which traces, listings and explanations show it."""
        if not isinstance(name, str) or not name:
            raise TapeGPTError(f"{self!r}: a name must be a str, not {quote(name)}")
        self.name = name
        return self

    def __repr__(self) -> str:
        return f"%{self.index} {self.shape} {' '.join(filter(None, [str(self.operation or ''), self.name]))}"


def number_of(value: object, whose: object, *what: object) -> float:
    """A number as a float, also one of NumPy; the error names `whose` number it is and `what`."""
    if not isinstance(value, bool) and hasattr(value, "__float__"):
        try:
            number = float(value)
            if number == value or number != number:  # a float, or what is one exactly
                return number
        except (TypeError, ValueError, OverflowError):
            pass
    raise TapeGPTError(f"{whose}: {' '.join(map(str, what))} must be a number that a float holds, not {quote(value)}")


def as_list(given: Any, whose: str) -> list[Any]:
    """The elements of a sequence, or of an array of NumPy or PyTorch."""
    try:
        if not isinstance(given, str | bytes | dict):
            return list(given.tolist() if hasattr(given, "tolist") else given)
    except TypeError:
        pass
    raise TapeGPTError(f"{whose}: needs a sequence of numbers, not {quote(given)}")
