"""The tape: operations recorded once, differentiated, rewritten and compiled; and numbers that remember, one by one.

from tapegpt.autograd import Tape, Value
"""

from __future__ import annotations

from tapegpt.lazy import importer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.gradient_check import check_gradients
    from tapegpt.autograd.optimizers import SGD, Adam
    from tapegpt.autograd.tape import Tape
    from tapegpt.autograd.value import Value

__all__ = ["SGD", "Adam", "Tape", "Value", "check_gradients"]

_MODULES = {
    "Adam": "optimizers",
    "SGD": "optimizers",
    "Tape": "tape",
    "Value": "value",
    "check_gradients": "gradient_check",
}

__getattr__ = importer(__name__, _MODULES, globals())
