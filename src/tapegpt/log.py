"""The library's events for Python's `logging`, under the logger "tapegpt". Not here: warnings (`errors.py`)."""

from __future__ import annotations

import sys


def log(message: str, *arguments: object) -> None:
    """Log an event, formatted as `logging` does, at the level INFO.

    A program that has not imported `logging` cannot have asked for it: the import would cost every start 6 ms.
    """
    if "logging" in sys.modules:
        sys.modules["logging"].getLogger("tapegpt").info(message, *arguments, stacklevel=2)
