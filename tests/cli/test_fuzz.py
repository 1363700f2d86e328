"""Some random commands and hostile files; `python -m tests.cli.fuzz 10000` and `... files 10000` make more."""

from __future__ import annotations

import pytest

from tests.cli.fuzz import fuzz
from tests.cli.hostile import fuzz_files
from tests.properties import many


@pytest.mark.slow
def test_no_command_crashes_hangs_or_loses_a_file() -> None:
    assert fuzz(many(300, few=25), seed=1) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # no other thread is running
def test_no_file_crashes_hangs_or_is_lost() -> None:
    assert fuzz_files(many(150, few=20), seed=1) == []
