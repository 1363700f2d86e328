"""Ctrl-C and SIGTERM while something runs that has to come to an orderly end."""

from __future__ import annotations

from _signal import SIGINT, SIGTERM, signal  # type: ignore[import-not-found]  # `signal` makes enums of all: 1 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Self


class Interruption:
    """While it is entered, the first Ctrl-C (or SIGTERM) only sets `asked`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        self.forced = False  # by the second one, in the middle of whatever was running
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (SIGINT, SIGTERM):
            self._former[number] = signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.forced = True
            raise KeyboardInterrupt
        self.asked = True
