"""The library's events for Python's `logging`, under the logger "tapegpt". Not here: warnings (`errors.py`)."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger

_known: list[Logger] = []  # asking `logging` takes its lock, which Ctrl-C at the wrong moment would leave taken


def log(message: str, *arguments: object) -> None:
    """Log an event, formatted as `logging` does, at the level INFO.

    A program that has not imported `logging` cannot have asked for it: the import would cost every start 6 ms.
    """
    if not _known and "logging" in sys.modules:
        _known.append(sys.modules["logging"].getLogger("tapegpt"))
    for logger in _known:
        logger.info(message, *arguments, stacklevel=2)
