"""What a terminal shows while something takes long: its line, the rate, the time left."""

from __future__ import annotations

import sys
from io import StringIO
from itertools import count

import pytest

from tapegpt.cli.console import Pace, StatusLine, command_of, notice, watched


class Terminal(StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.parametrize(
    ("seconds", "done", "total", "text"),
    [
        (2.0, 1000, None, "500 steps/s"),
        (2.0, 1000, 31_250, "500 steps/s, 1:01 left"),
        (60.0, 3, 7, "3.0 steps/min, 1:20 left"),
        (1.0, 20, 10, "20 steps/s, 0:00 left"),
    ],
)
def test_a_pace_is_a_rate_and_the_time_left(
    seconds: float, done: int, total: int | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([5.0, 5.0 + seconds])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    assert Pace("step", total).text(done) == text


def test_parts_are_watched_on_a_terminal_that_the_output_does_not_go_to(monkeypatch: pytest.MonkeyPatch) -> None:
    times = count(0.0, 0.3)
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    monkeypatch.setenv("TERM", "xterm")
    parts = ["ab", "c", "def"]
    monkeypatch.setattr(sys, "stderr", StringIO())
    assert watched(parts, "letter", len) is parts
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert list(watched(parts, "letter", len, 6)) == parts
    assert [line.partition(" |")[0] for line in terminal.getvalue().split("\r")] == ["", "3", "6", "\x1b[K"]
    monkeypatch.setattr(sys, "stdout", terminal)
    assert watched(parts, "letter", len) is parts


def test_a_notice_takes_the_place_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with StatusLine(sys.stderr) as line:
        line.show("reading")
        notice("odd")
        line.show("compiling")
    assert terminal.getvalue() == "\rreading\x1b[K\r\x1b[Ktapegpt: note: odd\n\rcompiling\x1b[K\r\x1b[K"


def test_a_command_is_shown_without_the_directories_of_its_files() -> None:
    words = ["sweep", "/home/me/names.txt", "--grid", "n_embd=8,16", "--html=/tmp/p.html", "--delimiter", "a b"]
    assert command_of(words) == "tapegpt sweep names.txt --grid n_embd=8,16 --html=p.html --delimiter 'a b'"
