"""The terminal and its streams: notices, failures, tables, where output goes, Ctrl-C.

Not here: what each command prints, text on one line (`text.py`).
"""

from __future__ import annotations

import math
import os
import sys
import time
from _signal import SIGINT, SIGTERM, signal  # type: ignore[import-not-found]  # `signal` makes enums of all: 1 ms
from io import TextIOWrapper

from tapegpt.errors import TapeGPTWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import Any, Self, TextIO, TypeVar

    from tapegpt.record import Record

    Part = TypeVar("Part")

STDOUT = "-"  # as the name of a file
GAP = "  "  # between the columns of a table
SHOWN_EVERY = 0.5  # seconds


# --- standard error ---------------------------------------------------------------------------------------------


def fail(message: str, code: int) -> int:
    """Print one line on stderr; returns the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)
    try:
        StatusLine.make_way()
        print(f"tapegpt: error: {message}", file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)
    return code


def notice(text: str) -> None:
    """Print one line on stderr, where there is something to say."""
    if text:
        StatusLine.make_way()
        print(f"tapegpt: note: {text}", file=sys.stderr, flush=True)


def note_warnings() -> None:
    """Let warnings of the library become notices, each once."""
    import warnings

    def show(message: Warning | str, *_: object, **__: object) -> None:
        notice(message.for_command if isinstance(message, TapeGPTWarning) else str(message))

    warnings.simplefilter("default", TapeGPTWarning)
    warnings.showwarning = show


# --- standard output --------------------------------------------------------------------------------------------


def settle_encoding(stream: TextIO) -> None:
    """Let output be UTF-8, unless a terminal shows another encoding, or PYTHONIOENCODING asks for one."""
    if not isinstance(stream, TextIOWrapper) or os.environ.get("PYTHONIOENCODING"):
        return
    encoding = stream.encoding if stream.isatty() else "utf-8"
    stream.reconfigure(encoding=encoding, errors="backslashreplace")  # for a terminal, and for names of files


def silence(stream: TextIO) -> None:
    """Let what a broken stream still holds go nowhere, so that the interpreter's last flush is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def moves(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be written anew."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class StatusLine:
    """A line of a terminal that is written anew, to show how far something is; on other streams nothing.

    Where it is entered, it is gone at the end.
    """

    _shown: StatusLine | None = None  # the one that is on the terminal

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stdout
        self.moves = moves(self._stream) and not quiet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Write it anew."""
        if self.moves:
            self._print(f"\r{text}\x1b[K")
            StatusLine._shown = self

    def clear(self) -> None:
        """Leave nothing of it."""
        self._leave("\r\x1b[K")

    def end(self) -> None:
        """Leave it as it is; what follows begins below."""
        self._leave("\n")

    @staticmethod
    def make_way() -> None:
        """Let another line come in its place; it is shown again with the next text."""
        if StatusLine._shown:
            StatusLine._shown.clear()

    def _leave(self, text: str) -> None:
        if StatusLine._shown is self:
            StatusLine._shown = None
            self._print(text)

    def _print(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)


class Pace:
    """How fast counted work goes: things a second, and where their number is known the time that is left."""

    def __init__(self, noun: str, total: float | None = None) -> None:
        self._noun, self._total, self._start = noun, total, time.perf_counter()

    def text(self, done: int) -> str:
        """It, after so many; dots after none."""
        if not done:
            return "..."
        rate = done / max(time.perf_counter() - self._start, 1e-9)
        text = f"{rate:,.0f} {self._noun}s/s" if rate >= 10 else f"{60 * rate:,.1f} {self._noun}s/min"
        if self._total is None:
            return text
        minutes, seconds = divmod(math.ceil(max(self._total - done, 0) / rate), 60)
        return f"{text}, {minutes}:{seconds:02} left"


def watched(
    parts: Iterable[Part], noun: str, size: Callable[[Part], int], total: float | None = None
) -> Iterable[Part]:
    """The parts as they come, with the pace of the things in them on the terminal that the output does not go to."""
    line = StatusLine(sys.stderr, quiet=moves(sys.stdout))
    return _watch(parts, line, Pace(noun, total), size) if line.moves else parts


def _watch(parts: Iterable[Part], line: StatusLine, pace: Pace, size: Callable[[Part], int]) -> Iterator[Part]:
    done, shown = 0, time.perf_counter()
    with line:
        for part in parts:
            yield part
            done += size(part)
            if time.perf_counter() - shown > SHOWN_EVERY:
                shown = time.perf_counter()
                line.show(f"{done:,} | {pace.text(done)}")


def colours() -> bool:
    """Whether standard output is to be coloured; see no-color.org."""
    return moves(sys.stdout) and not os.environ.get("NO_COLOR")


def colour(text: str, style: str) -> str:
    """A text in a style of ANSI's SGR codes, "1;31" for bold and red, where output is to be coloured."""
    return f"\x1b[{style}m{text}\x1b[0m" if style and colours() else text


def output(path: str | None) -> AbstractContextManager[None]:
    """Let what is printed within go to a file, which is written whole or not at all; None and - are standard output."""
    from contextlib import contextmanager, redirect_stdout

    from tapegpt.files import writing

    @contextmanager
    def redirect() -> Iterator[None]:
        if path is None or path == STDOUT:
            yield
            return
        with writing(path) as file:
            text = TextIOWrapper(file, "utf-8", newline="\n", errors="backslashreplace")
            with redirect_stdout(text):
                yield
            text.flush()

    return redirect()


def write_page(path: str, page: str) -> None:
    """Write an HTML page to a file, or to standard output where the path is -."""
    with output(path):
        sys.stdout.flush()
        sys.stdout.buffer.write(page.encode("utf-8", "xmlcharrefreplace"))


def command_of(words: Iterable[str]) -> str:
    """A command as it was given, files called by their names alone."""
    from shlex import join

    shown = ["tapegpt"]
    for word in words:
        option, equals, value = word.rpartition("=")
        shown.append(f"{option}{equals}{os.path.basename(value) if os.path.isabs(value) else value}")
    return join(shown)


def print_report(found: Record, page: Callable[[Any], Iterable[str]], as_json: bool, **more: Any) -> None:
    """Print what a command has found: its page for people, or all fields and more as JSON."""
    if as_json:
        print_json({**more, **found.as_json()})
        return
    for line in page(found):
        print(line)


def print_json(fields: dict[str, Any]) -> None:
    """Print fields as indented JSON."""
    import json

    print(json.dumps(fields, indent=2))


# --- pages ------------------------------------------------------------------------------------------------------


def table(rows: Iterable[Sequence[str]], align: str = ">") -> Iterator[str]:
    """Rows in columns as wide as their widest cell; `align` has < or > for each, the last for all that follow."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [str.ljust if side == "<" else str.rjust for side in align.ljust(len(widths), align[-1])]
    for row in cells:
        yield GAP.join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()


def facts(rows: Iterable[tuple[str, str]], margin: int) -> Iterator[str]:
    """Lines behind labels; an empty label is that of the line before."""
    for label, text in rows:
        yield f"{label:{margin}}{text}".rstrip()


def bar(share: float, width: int) -> str:
    """A bar for a share of 1; any share has a beginning."""
    return "#" * math.ceil(share * width - 1e-9)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------


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
