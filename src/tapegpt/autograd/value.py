"""Scalar autograd in plain Python, as microgpt.py does it: a number, where it came from, and how to go back.

    a = Value(2.0)
    loss = (a * a + 3.0).log()
    loss.backward()
    a.grad                                   # d loss / d a

Rows of `Value`s are what every operation of the tape is explained in (`Operation.reference`), never optimised: what
they compute is right by definition. Source: Andrej Karpathy's microgpt.py.
"""

from __future__ import annotations

import math
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

Vector = list["Value"]
Matrix = list[Vector]  # rows

GELU = 1.5957691216057308  # sqrt(8 / pi) (Hendrycks and Gimpel, 2016)
CUBE = 0.044715 * GELU


class Value:
    """A number of the graph: its data, its gradient, and the local gradients with respect to its children."""

    __slots__ = ("children", "data", "grad", "local_grads")

    def __init__(self, data: float, children: tuple[Value, ...] = (), local_grads: tuple[float, ...] = ()) -> None:
        self.data = data
        self.grad = 0.0
        self.children = children
        self.local_grads = local_grads

    def __add__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> Value:
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def log(self) -> Value:
        """Natural logarithm."""
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def exp(self) -> Value:
        """e to this power."""
        return Value(math.exp(self.data), (self,), (math.exp(self.data),))

    def sqrt(self) -> Value:
        """Square root."""
        root = math.sqrt(self.data)
        return Value(root, (self,), (0.5 / root,))

    def tanh(self) -> Value:
        """Hyperbolic tangent."""
        y = math.tanh(self.data)
        return Value(y, (self,), (1.0 - y * y,))

    def sigmoid(self) -> Value:
        """1 / (1 + e^-x)."""
        y = _sigmoid(self.data)
        return Value(y, (self,), (y * (1.0 - y),))

    def silu(self) -> Value:
        """x sigmoid(x)."""
        s = _sigmoid(self.data)
        y = self.data * s
        return Value(y, (self,), (s + y * (1.0 - s),))

    def gelu(self) -> Value:
        """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which is x sigmoid(of twice that)."""
        x = self.data
        s = _sigmoid(x * (x * x * CUBE + GELU))
        y = x * s
        return Value(y, (self,), (s + y * ((1.0 - s) * (x * x * (3 * CUBE) + GELU)),))

    def relu(self) -> Value:
        """This number where it is positive, else zero."""
        return Value(max(0.0, self.data), (self,), (float(self.data > 0),))

    def maximum(self, other: Value | float) -> Value:
        """The larger one, this one where they are equal."""
        other = other if isinstance(other, Value) else Value(other)
        larger = other.data > self.data
        return Value(other.data if larger else self.data, (self, other), (float(not larger), float(larger)))

    def __abs__(self) -> Value:
        return Value(abs(self.data), (self,), (float(self.data > 0) - float(self.data < 0),))

    def __lt__(self, other: Value | float) -> bool:
        return self.data < _data(other)

    def __le__(self, other: Value | float) -> bool:
        return self.data <= _data(other)

    def __gt__(self, other: Value | float) -> bool:
        return self.data > _data(other)

    def __ge__(self, other: Value | float) -> bool:
        return self.data >= _data(other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Value:
        return self * -1

    def __sub__(self, other: Value | float) -> Value:
        return self + (-other)

    def __rsub__(self, other: float) -> Value:
        return -self + other

    def __truediv__(self, other: Value | float) -> Value:
        return self * other**-1

    def __rtruediv__(self, other: float) -> Value:
        return self**-1 * other

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"

    def backward(self) -> None:
        """Add to the gradient of every number that this one depends on."""
        self.grad = 1.0
        walk_back([self])


def _data(number: Value | float) -> float:
    return number.data if isinstance(number, Value) else number


def _sigmoid(x: float) -> float:
    e = math.exp(-abs(x))  # never beyond the largest number
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


def walk_back(results: Iterable[Value], ends: Iterable[Value] = ()) -> None:
    """Pass the gradients of results on to all that they depend on, but not beyond the `ends`.

    The order is the reverse of a depth-first post-order, as microgpt.py has it.
    """
    for value in reversed(post_order(results, attrgetter("children"), ends)):
        for child, local_grad in zip(value.children, value.local_grads, strict=True):
            child.grad += local_grad * value.grad


def post_order(roots: Iterable[T], inputs: Callable[[T], Sequence[T]], ends: Iterable[T] = ()) -> list[T]:
    """All that the roots are made of, each after its inputs and once: depth first, from left to right.

    The `ends`, and what only they are made of, are left out.
    """
    order: list[T] = []
    visited = set(ends)
    stack = [(root, False) for root in reversed(list(roots))]  # explicit, so that no graph is too deep
    while stack:
        each, expanded = stack.pop()
        if expanded:
            order.append(each)
        elif each not in visited:
            visited.add(each)
            stack.append((each, True))
            stack.extend((one, False) for one in reversed(inputs(each)))
    return order


def linear(x: Vector, w: Matrix) -> Vector:
    """w x."""
    return [total(wi * xi for wi, xi in zip(row, x, strict=True)) for row in w]


def softmax(logits: Vector) -> Vector:
    """Probabilities."""
    largest = max(value.data for value in logits)
    exps = [(value - largest).exp() for value in logits]
    denominator = total(exps)
    return [e / denominator for e in exps]


def log_softmax(logits: Vector) -> Vector:
    """The logarithms of probabilities, which may be too small for a number of their own."""
    largest = max(value.data for value in logits)
    shifted = [value - largest for value in logits]
    log_total = total(value.exp() for value in shifted).log()
    return [value - log_total for value in shifted]


def rmsnorm(x: Vector) -> Vector:
    """x over its root mean square."""
    mean_square = total(xi * xi for xi in x) / len(x)
    scale = (mean_square + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def layer_norm(x: Vector) -> Vector:
    """x less its mean, over its standard deviation."""
    mean = total(x) / len(x)
    return rmsnorm([xi - mean for xi in x])


def copy_rows(rows: Iterable[Iterable[Value]]) -> Matrix:
    """The same numbers as results, of what only moves them."""
    return [[Value(x.data, (x,), (1,)) for x in row] for row in rows]


def total(values: Iterable[Value]) -> Value:
    """Python's `sum`: from 0 on and in order."""
    numbers = iter(values)
    result = 0 + next(numbers)
    for value in numbers:
        result = result + value
    return result
