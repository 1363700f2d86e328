"""The blocks of a page that readers can change and run (`docs/blocks.py`), in this Python: what they print is shown.

Not here: the page around them (`test_site.py`).
"""

from __future__ import annotations

import doctest
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import BLOCK, DOCS
from tests.test_readme import agrees, dialogue


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A page's state, in a directory of its own; `shown` has what it showed last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", sys.stdin)  # it is changed, and comes back
    spec = importlib.util.spec_from_file_location("blocks", DOCS / "blocks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shown: list[tuple[str, str]] = []
    made = module.Page(lambda command, printed: shown.append((command, printed)))
    made.shown = shown
    return made


def run(page: Any, number: int, text: str) -> list[tuple[str, str]]:
    """What a block shows; one of Python begins with >>>, which is left out."""
    page.shown.clear()
    page.run(number, text.removeprefix(">>> "), text.startswith(">>> "))
    return list(page.shown)


def parts(language: str, text: str) -> tuple[str, list[str], list[list[str]]]:
    """The commands of a block as the page hands them over, each with its prompt, and what is shown below each."""
    if language == "console":
        steps = list(dialogue(re.sub(r"\\\n", "\\\\\0", text)))
        commands = [command.replace("\0", "\n") for command, _ in steps]
        return "\n".join(commands), [f"$ {each}" for each in commands], [shown for _, shown in steps]
    examples = doctest.DocTestParser().get_examples(text)
    lines = [re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", text, re.MULTILINE)]
    commands = [part.rstrip("\n") for part in re.findall(r"^>>>.*\n(?:\.\.\..*\n)*", text, re.MULTILINE)]
    return ">>> " + "\n".join(lines[0]), commands, [example.want.splitlines() for example in examples]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tutorial", "how-a-gpt-works"])
def test_blocks_show_what_the_page_shows(name: str, page: Any) -> None:
    """In order, and then one in the middle: nothing that came later has a part in it."""
    found = BLOCK.finditer((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    blocks = [parts(block["language"], block["text"]) for block in found if block["language"] != "sh"]
    assert len(blocks) == 15
    for number in (*range(len(blocks)), 5):
        text, commands, printed = blocks[number]
        shown = run(page, number, text)
        assert [command for command, _ in shown] == commands
        for (command, output), wanted in zip(shown, printed, strict=True):
            assert agrees(output.splitlines(), wanted), f"{command}\n{output}"


def test_a_block_begins_where_those_above_it_have_ended(page: Any) -> None:
    run(page, 0, ">>> a = 1")
    run(page, 1, "echo one > kept.txt")
    run(page, 2, ">>> a, b = 2, 3")
    run(page, 3, "echo two > kept.txt\necho three > more.txt")
    text = ">>> with open('kept.txt') as file: a, file.read(), 'b' in globals()"
    assert run(page, 2, text) == [(text, "(1, 'one\\n', False)\n")]
    assert not Path("more.txt").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1\n2; 3", [(">>> 1", "1\n"), (">>> 2; 3", "2\n3\n")]),
        (
            "# why\n\nif 1:\n    print(2)\n3",
            [(">>> # why\n>>>\n>>> if 1:\n...     print(2)\n...", "2\n"), (">>> 3", "3\n")],
        ),
        ("print(1); x\n2", [(">>> print(1); x", "1\nNameError: name 'x' is not defined"), (">>> 2", "2\n")]),
        ("1\n(", [(">>> 1\n... (", "SyntaxError: '(' was never closed")]),
        ("raise SystemExit", [(">>> raise SystemExit", "SystemExit")]),
    ],
)
def test_python_is_shown_as_in_a_console(page: Any, text: str, shown: list[tuple[str, str]]) -> None:
    assert run(page, 0, f">>> {text}") == shown


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (r"printf '%s-%s\n' a b 'c d' e", "a-b\nc d-e\n"),
        ("printf 'a|b > c'", "a|b > c"),
        ("echo a '' b", "a  b\n"),
        ("echo a > file.txt", ""),
        ("echo a | echo b", "b\n"),
        ("tapegpt --version | tapegpt nonsense", "tapegpt: error: COMMAND must be "),
        ("ls", "sh: ls: not found, only tapegpt, printf, echo\n"),
        ("echo a && echo b", "sh: && is not available: only | and > are\n"),
        ("echo 'a", "sh: No closing quotation\n"),
        ("echo a >", "sh: commands have the forms a | b and a > file\n"),
        ("| echo", "sh: commands have the forms a | b and a > file\n"),
    ],
)
def test_commands_run_as_in_a_shell(page: Any, command: str, printed: str) -> None:
    (shown,) = run(page, 0, command)
    assert shown[0] == f"$ {command}"
    assert shown[1].startswith(printed)
    assert shown[1].count("\n") <= max(printed.count("\n"), 1)


def test_figures_are_of_the_page_s_model(page: Any) -> None:
    assert page.film("emma") == '{"problem": "no block that has run makes a model"}'
    run(page, 0, '>>> import tapegpt\nmodel = tapegpt.train(["anna", "emma"], steps=3, n_embd=4, n_head=1)')
    assert '"text": "anna"' in page.film("anna")
    assert page.film("bob").startswith('{"problem": "text \'bob\': the model does not know')
