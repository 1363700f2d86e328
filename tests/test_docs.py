"""The documentation cannot drift: its commands and its Python run here, page by page, and print what is shown.

Commands that are shown without what they print (`sh`, and in a line of text) are understood, not run: they may take
minutes. Not here: the site that is made of the pages (`test_site.py`).
"""

from __future__ import annotations
import __future__

import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tapegpt.cli
from benchmarks import generators
from benchmarks.__main__ import PARTS, arguments
from tapegpt import TapeGPTError
from tapegpt.cluster import bulk, parts, population
from tapegpt.experiments import scaling
from tapegpt.inference import sampling
from tapegpt.machine import cache
from tapegpt.studio import store, training
from tapegpt.training import clock, trainer
from tapegpt.training.presets import MADE_FOR, PRESETS
from tests.test_readme import README, agrees, dialogue

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(
    r"^(?P<why><!-- not run: .+? -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
NO_CODE = {"text", "json", "js", "c"}  # modules run in tests/export


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_show_what_happens(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # recipes write files
    monkeypatch.syspath_prepend(tmp_path)  # and import them
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    for name in ("DRAWS", "DRAWS_CHECK"):
        monkeypatch.setattr(scaling, name, 3)  # of intervals, which no page computes
    names = {"annotations": __future__.annotations}  # what the import does in a module, doctest wants from outside
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert 2 * len(blocks) == len(re.findall("^ *```", text, re.MULTILINE))
    for block in blocks:
        if block["why"] is None and block["language"] not in NO_CODE:
            RUNS[block["language"]](block["text"], names)


def run_console(text: str, _: object = None) -> None:
    """Each `$ command` prints what is shown, on stdout or stderr; a command goes on after a backslash."""
    steps = list(dialogue(text.replace("\\\n", "")))
    assert steps
    for command, shown in steps:
        done = subprocess.run(
            ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
        )
        assert agrees(done.stdout.splitlines(), shown), f"$ {command}\n{done.stdout}"


def run_python(text: str, names: dict[str, Any]) -> None:
    """Each example prints what is shown; the names of a page are common to its blocks."""
    report: list[str] = []
    test = doctest.DocTestParser().get_doctest(text, {}, "example", None, None)
    assert test.examples
    test.globs = names
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed, _ = runner.run(test, out=report.append, clear_globs=False)
    assert failed == 0, "".join(report)


def understand(text: str, _: object = None) -> None:
    """Each command is possible, or stands in the README, whose tests know it."""
    for line in text.splitlines():
        before, benchmarks, words = line.partition("python -m benchmarks")
        if line.startswith("tapegpt "):
            given = shlex.split(line)[1:]
            tapegpt.cli.make_parser(given[0]).parse_args(given[1:])
        elif benchmarks and before in ("", ".venv/bin/"):
            arguments(shlex.split(words))
        else:
            assert line in README.splitlines()


RUNS: dict[str, Callable[[str, dict[str, Any]], None]] = {
    "console": run_console,
    "python": run_python,
    "sh": understand,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_within_text_are_possible(page: Path) -> None:
    for command in re.findall(r"`(tapegpt [^`]* -[^`]*)`", page.read_text(encoding="utf-8")):
        understand(command)


def test_all_parts_of_the_benchmarks_are_told() -> None:
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert [part for part in PARTS if f"`{part}`" not in text] == []


def prose() -> dict[str, str]:
    """Whatever users read: pages by name, and the sources, whose messages they see."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES, *sorted((ROOT / "src").rglob("*.py"))]
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}


def test_environment_variables_are_told() -> None:
    told = (DOCS / "production.md").read_text(encoding="utf-8")
    read = {
        name for text in prose().values() for name in re.findall(r'(?:environ(?:\.\w+)?[\[(]|VARIABLE = )"(\w+)"', text)
    }
    assert {"TAPEGPT_CACHE_DIR", "TAPEGPT_TARGET", "NO_COLOR"} <= read
    assert {name for name in read if f"`{name}`" not in told} == {"PROCESSOR_ARCHITECTURE"}  # which Windows sets


def test_what_is_to_be_installed_can_be_from_a_clone() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, text in prose().items():
        for command in re.findall(r"pip install [^`\n]*", text):
            asked = re.search(r"'?\.\[(\w+|\{extra\})\]'", command)
            assert asked or re.search(r" \.(?= |$)| first", command), f"{name}: {command}"
            assert asked is None or asked[1] in {*extras, "{extra}"}, f"{name}: {command}"


def test_a_percentile_is_one_thing() -> None:
    """The share of the training strings that are at most as surprising, wherever one is explained."""
    for name, text in prose().items():
        for sentence in re.split("[.:|]", " ".join(text.split())):
            if "training strings" in sentence and re.search(r"(more|less|as) surprising", sentence):
                assert re.search(r"at (most|least) as surprising", sentence), (name, sentence)


def test_figures_that_the_code_decides_are_those_of_the_code() -> None:
    """Each sentence stands in its page with the number that is in the code now."""
    assert list(MADE_FOR) == list(PRESETS)
    quick, decays = PRESETS["quick"], trainer.DECAYS
    said = {
        "why": [f"whose {quick['steps']:,} steps of {quick['batch_size']} go through"],
        "fast": [
            f"{decays['weight_decay']} and {decays['gram_decay']} for each pass",
            f"at most √(n / {clock.HELPED_ONCE}) times",
        ],
        "studio": [
            f"{store.MAX_CORPORA} sets of data and {store.MAX_RUNS} runs",
            f"about every {1000 * training.PROGRESS_SECONDS:.0f} ms",
        ],
        "scaling": [
            f"{quick['steps']:,} steps: ",
            f"{scaling.JUDGES:,} at most",
            f"{scaling.DRAWS} fits",
        ],
        "ray": [
            f"{bulk.BLOCK:,} strings a part",
            f"every {parts.PIECE >> 20} MiB",
            f"{population.SECONDS} s of work",
            f"up to {bulk.IN_A_TASK} parts",
        ],
        "constraints": [f"{sampling.MAX_VAIN:,} strings"],
        "production": [f"unused for {cache.AGE / 86400:.0f} days", f"exceed {cache.LIMIT >> 20} MB"],
        "how-it-compares": [f"generate {generators.STRINGS:,} at the"],
    }
    for page, sentences in said.items():
        text = " ".join((DOCS / f"{page}.md").read_text(encoding="utf-8").split())  # wherever a line ends
        assert [sentence for sentence in sentences if sentence.strip() not in text] == [], page


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "$ echo 1\n2\n"),
        ("console", "echo 1\n"),
        ("python", ">>> 1\n2\n"),
        ("python", "1\n"),
        ("sh", "tapegpt train --no-such-option\n"),
        ("sh", "python -m tapegpt\n"),
    ],
)
def test_a_wrong_block_is_found(language: str, text: str) -> None:
    with pytest.raises((AssertionError, TapeGPTError)):
        RUNS[language](text, {})
