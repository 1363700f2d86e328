"""What a command tells besides its output: failures, notices, progress; what its output can show.

Not here: what each command does, text on one line (`text.py`).
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

from tapegpt.errors import TapeGPTWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from tapegpt.record import Record


def fail(message: str, code: int) -> int:
    """One line on stderr; the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)
    try:
        print(f"tapegpt: error: {message}", file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)
    return code


def notice(text: str) -> None:
    """One line on stderr, where there is something to say."""
    if text:
        print(f"tapegpt: note: {text}", file=sys.stderr, flush=True)


def note_warnings() -> None:
    """Let warnings of the library become notices, each once."""
    import warnings

    def show(message: Warning | str, *_: object, **__: object) -> None:
        notice(message.for_command if isinstance(message, TapeGPTWarning) else str(message))

    warnings.simplefilter("default", TapeGPTWarning)
    warnings.showwarning = show


def settle_encoding(stream: TextIO) -> None:
    """Let output be UTF-8, unless a terminal shows another encoding, or PYTHONIOENCODING asks for one."""
    if not isinstance(stream, TextIOWrapper) or os.environ.get("PYTHONIOENCODING"):
        return
    encoding = stream.encoding if stream.isatty() else "utf-8"
    stream.reconfigure(encoding=encoding, errors="backslashreplace")  # for a terminal, and for names of files


def moves(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be written anew."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colours() -> bool:
    """Whether standard output is to be coloured; see no-color.org."""
    return moves(sys.stdout) and not os.environ.get("NO_COLOR")


def print_report(report: Record, page: Iterable[str], as_json: bool) -> None:
    """What a command has found: its page for people, or all fields as JSON."""
    if as_json:
        import json

        print(json.dumps(report.as_json(), indent=2))
        return
    for line in page:
        print(line)


def silence(stream: TextIO) -> None:
    """Let what a broken stream still holds go nowhere, so that the interpreter's last flush is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
