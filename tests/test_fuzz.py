"""A few hundred random commands; `python -m tests.fuzz 10000` runs as many as there is time for."""

from __future__ import annotations

from tests.fuzz import fuzz


def test_no_command_crashes_hangs_or_loses_a_file() -> None:
    assert fuzz(300, seed=1) == []
