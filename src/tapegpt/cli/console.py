"""What a command tells besides its output: failures, notices, progress. Not here: what each command does."""

from __future__ import annotations

import os
import sys

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


def print_report(report: Record, page: Iterable[str], as_json: bool) -> None:
    """What a command has found: its page for people, or all fields as JSON."""
    if as_json:
        import json

        print(json.dumps(report.as_dict(), indent=2))
        return
    for line in page:
        print(line)


def silence(stream: TextIO) -> None:
    """Let what a broken stream still holds go nowhere, so that the interpreter's last flush is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
