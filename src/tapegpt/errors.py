"""The errors and warnings that a user of tapegpt can cause. Not here: our own bugs, which are assertions."""

from __future__ import annotations

import os
import sys

from tapegpt.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


_MARK = "\ufdd0"  # no character, so in no message of its own: around what Python says, and then the command line


def argument(name: str, value: object = None) -> str:
    """An argument in a message, by name or with a value: column=2 in Python, --column 2 on the command line."""
    option = f"--{name.replace('_', '-')}"
    if value is None:
        return either(name, option)
    return either(f"{name}={value!r}", f"--no-{name}" if value is False else f"{option} {value}")


def either(in_python: str, for_command: str) -> str:
    """What a message says in Python, or for the command line."""
    return f"{_MARK}{in_python}{_MARK}{for_command}{_MARK}"


class _Message(Exception):  # noqa: N818  # errors and warnings are made of it
    """One line; `for_command` is the same for the command line, where arguments are options.

    In an f-string it is what another message is made of: both.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        parts = message.split(_MARK)  # text, in Python, on the command line, text, ...
        # Control characters, of file names and the like, are escapes: it stays one line.
        self.for_command = visible("".join([part for place, part in enumerate(parts) if place % 3 != 1]))
        super().__init__(visible("".join([part for place, part in enumerate(parts) if place % 3 != 2])))

    def __format__(self, spec: str) -> str:
        return format(self._message, spec)


class TapeGPTError(_Message):
    """Input that cannot be used: one line naming the place, the rule, the value and what to do."""


class UnknownNameError(TapeGPTError, TypeError):
    """The name of an argument that there is not: a `TypeError`, as Python raises for any call."""


class TapeGPTWarning(_Message, UserWarning):
    """Something was lost, or done otherwise than asked: one line with the value and what to do."""


def warn(message: str) -> None:
    """Issue a `TapeGPTWarning` for the line that called this package."""
    import warnings

    frame, level = sys._getframe(1), 2  # noqa: SLF001  # there is no public way to the callers
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(TapeGPTWarning(message), stacklevel=level)


def is_whole(value: object) -> bool:
    """Whether a value is an int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is an int or a float, and not a bool."""
    return is_whole(value) or isinstance(value, float)


def quote(value: object) -> str:
    """A value as an error names it: its repr, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # an int of more digits than Python writes out, or a class of one's own
        text = f"an int of {value.bit_length()} bits" if isinstance(value, int) else object.__repr__(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def clipped(text: str) -> str:
    """A list in an error, cut where it is long."""
    return text if len(text) <= 200 else f"{text[:197]}..."


def check_names(where: str, given: Iterable[str], *known: Iterable[str]) -> None:
    """Raise `UnknownNameError` for the name of an argument that is not known, with the nearest one that is."""
    names = [name for each in known for name in each]
    for name in given:
        if name not in names:
            from difflib import get_close_matches

            alike = get_close_matches(name, names, 1)
            hint = f"did you mean {alike[0]!r}?" if alike else f"there are {', '.join(names)}"
            raise UnknownNameError(f"{where} got an unexpected argument {name!r}: {hint}")


def line_of(error: BaseException, path: str) -> str:
    """The last line of a file on the way to an error, as NAME:LINE; of code that came from no file its name alone."""
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{os.path.basename(path)}{line}"


def missing(name: str, extra: str) -> TapeGPTError:
    """The error of an optional package that is not installed; it comes with an extra of tapegpt."""
    return TapeGPTError(f"{name} is not installed: run pip install '.[{extra}]' in the clone of tapegpt")


class DivergedError(TapeGPTError):
    """A loss or gradient that is not finite. The parameters of the last good step are kept."""

    def __init__(self, step: int, losses: list[float]) -> None:
        super().__init__(
            f"the loss or a gradient is not finite at step {step + 1}, training stopped before it: "
            f"choose a smaller {argument('learning_rate')}"
        )
        self.step = step  # counted from 0
        self.losses = losses  # of the steps that were taken in the call that failed

    def __reduce__(self) -> tuple[type, tuple[int, list[float]]]:
        return DivergedError, (self.step, self.losses)
