"""A gradient checker: the tape's gradients against finite differences.

Not here: how gradients are computed. For whoever adds an operation, or builds a model of their own on the tape.
"""

from __future__ import annotations

import math

from tapegpt.errors import TapeGPTError, is_number, quote
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape


class GradientCheck(Record):
    """The worst disagreement found: |analytic - numeric| / max(1, |analytic|, |numeric|), and where."""

    error: float
    parameter: str
    row: int
    column: int
    analytic: float
    numeric: float


class GradientError(TapeGPTError):
    """A gradient that disagrees with finite differences."""


def check_gradients(
    tape: Tape, output: Node, *, positions: int | None = None, step: float = 1e-6, tolerance: float = 1e-6
) -> GradientCheck:
    """Compare d output / d parameter, for every number of every parameter, with central differences.

    `output` is a (1, 1) node; the tape's inputs and parameters must have been written. Parameters are left as they
    were. Raises `GradientError` where the disagreement is above the tolerance; near a kink (ReLU at 0) that can happen
    to right gradients too.
    """
    if not all(is_number(number) and 0 < number < math.inf for number in (step, tolerance)):
        raise TapeGPTError(f"step and tolerance must be above 0, not {quote(step)} and {quote(tolerance)}")

    def value() -> float:
        return tape.forward(output, positions)[0][0]

    value()
    tape.backward(output, positions)
    worst = GradientCheck(-1.0, "", -1, -1, 0.0, 0.0)
    for node in tape.parameters():
        gradient = tape.gradient(node)
        numbers = [number for row in tape.read(node) for number in row]
        for index, number in enumerate(numbers):
            ends = []
            for moved in (number + step, number - step):
                numbers[index] = moved
                tape.write(node, numbers)
                ends.append(value())
            numbers[index] = number
            tape.write(node, numbers)
            row, column = divmod(index, node.shape.columns)
            analytic, numeric = gradient[row][column], (ends[0] - ends[1]) / (2 * step)
            error = abs(analytic - numeric) / max(1.0, abs(analytic), abs(numeric))
            if not error <= worst.error:
                worst = GradientCheck(error, node.name, row, column, analytic, numeric)
    if not worst.error <= tolerance:
        raise GradientError(
            f"gradient of {worst.parameter} at row {worst.row}, column {worst.column}: {worst.analytic!r} on the tape, "
            f"{worst.numeric!r} by finite differences, tolerance {tolerance}: look at the operation's backward"
        )
    return worst
