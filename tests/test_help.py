"""docs/cli.md is made from the commands' `--help`: `python tests/test_help.py > docs/cli.md` writes it again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import tapegpt.cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
COMMANDS = ("tapegpt", *[f"tapegpt {name}" for name in tapegpt.cli.COMMANDS])
WIDTH = 100


def help_text(command: str) -> str:
    """What `command --help` prints, without colors, for a terminal of `WIDTH` columns."""
    arguments = [sys.executable, "-m", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout


def page() -> str:
    """The whole page."""
    sections = [f"## {command}\n\n```text\n{help_text(command)}```\n" for command in COMMANDS]
    return "# Command line\n\nWhat `--help` prints; `python tests/test_help.py` makes this page.\n\n" + "\n".join(
        sections
    )


def without_layout(text: str) -> str:
    """The words, without what Python versions lay out differently: line breaks, and `-o X, --output X` of old."""
    return re.sub(r"(-\w) (\S+), (--[\w-]+) \2", r"\1, \3 \2", " ".join(text.split()))


def test_the_page_is_what_help_prints() -> None:
    assert without_layout(PAGE.read_text(encoding="utf-8")) == without_layout(page())


def test_the_comparison_sees_words_and_not_layout() -> None:
    assert without_layout("-o FILE, --output FILE\n   write") == without_layout("-o, --output FILE write")
    assert without_layout("-o FILE, --output NAME") != without_layout("-o, --output FILE")
    assert without_layout("steps [1000]") != without_layout("steps [100]")


if __name__ == "__main__":
    sys.stdout.write(page())
