"""The README cannot drift: its commands run here and print what it shows, its links lead somewhere.

The two installing commands need minutes and a network: `.ci/run` reads them from the README and runs them.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import arguments

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(str(page.relative_to(ROOT)) for folder in (ROOT, ROOT / "docs") for page in folder.glob("*.md"))


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shell_lines() -> list[str]:
    """The lines of the README's `sh` blocks: commands that are shown without their output."""
    return [line for block in blocks(README, "sh") for line in block.splitlines()]


def dialogue(console: str) -> Iterator[tuple[str, list[str]]]:
    """Each `$ command` with the lines that are shown below it."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield command, shown


def agrees(printed: list[str], shown: list[str]) -> bool:
    """Whether these lines are shown; a line `...` stands for any lines."""
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


@pytest.mark.slow
def test_commands_print_what_is_shown(tmp_path: Path) -> None:
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    steps = [step for console in blocks(README, "console") for step in dialogue(console)]
    assert len(steps) >= 4
    for command, shown in steps:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": search},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert agrees(done.stdout.splitlines(), shown), f"$ {command}\n{done.stdout}"


@pytest.mark.slow
def test_python_prints_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks(README, "python")), {}, "README", "README.md", 0)
    report: list[str] = []
    failed, attempted = doctest.DocTestRunner().run(examples, out=report.append)
    assert attempted >= 10
    assert failed == 0, "".join(report)


@pytest.mark.parametrize(
    ("printed", "shown", "agree"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["a"], False),
        (["a"], ["a", "b"], False),
        (["a", "b", "c", "d"], ["a", "...", "d"], True),
        (["a", "d"], ["a", "...", "d"], True),
        (["a", "b", "c", "e"], ["a", "...", "d"], False),
        (["ab"], ["a."], False),
    ],
)
def test_the_comparison_can_fail(printed: list[str], shown: list[str], agree: bool) -> None:
    assert agrees(printed, shown) is agree


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for line in shell_lines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    for command in commands:
        assert subprocess.run(["sh", "-n", "-c", command]).returncode == 0
    patterns = re.findall(r"readme_command '(.*?)'", script)
    found = [next(line for line in README.splitlines() if re.search(pattern, line)) for pattern in patterns]
    assert found == commands


def test_benchmark_commands_are_understood() -> None:
    lines = [line for line in shell_lines() if "-m benchmarks" in line]
    assert lines
    for line in lines:
        assert arguments(shlex.split(line.partition("-m benchmarks")[2])).rounds > 0


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    named = re.findall(r"`((?:[a-z_]+/)*(?:[a-z_]+\.(?:py|md|toml)|[a-z_]+/))`", text)
    places = (ROOT, ROOT / "src" / "tapegpt")
    outside = {"microgpt.py", "sysdeps/ieee754/dbl-64/e_pow.c"}
    missing = [name for name in named if name not in outside and not any((place / name).exists() for place in places)]
    assert missing == []
