"""docs/cli.md is made from the commands' `--help`: `python tests/cli/test_help.py > docs/cli.md` writes it again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import tapegpt.cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
COMMANDS = ("tapegpt", *[f"tapegpt {name}" for name in tapegpt.cli.COMMANDS])
WIDTH = 100


def help_text(command: str) -> str:
    """What `command --help` prints, without colors, for a terminal of `WIDTH` columns."""
    arguments = [sys.executable, "-m", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout


ENVIRONMENT = """## Environment

| variable | what it does |
| --- | --- |
| `TAPEGPT_CACHE_DIR` | the directory of compiled code; empty: none is kept [`tapegpt` in the user's cache directory] |
| `TAPEGPT_TARGET` | `avx512`, `avx2`, `sse2`, `neon`: narrower vectors than the CPU's; `interpreted`: no machine code |
| `XDG_CACHE_HOME` | the user's cache directory on Linux [`~/.cache`] |
| `NO_COLOR`, `TERM` | output without colours where the first is set or the second is `dumb` |
| `PYTHONIOENCODING` | the encoding of output [utf-8] |
"""


def page() -> str:
    """The whole page."""
    sections = [f"## {command}\n\n```text\n{help_text(command)}```\n" for command in COMMANDS]
    about = "# Command line\n\nWhat `--help` prints, and the environment: made by `python tests/cli/test_help.py`.\n\n"
    return about + "\n".join([*sections, ENVIRONMENT])


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
