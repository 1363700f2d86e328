"""docs/cli.md is made from the commands' options: `python tests/cli/test_help.py > docs/cli.md` writes it again.

The page has the words of `--help` as tables, which fit a phone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

import tapegpt.cli
from tapegpt.cli.options import option
from tapegpt.cli.parser import HelpAction, Parser
from tapegpt.ranges import Whole

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
ABOUT = """# Command line

A command prints the same with `--help-all`, and its common options with `-h`. `tapegpt` without a command is
`tapegpt train`. Brackets show defaults. [In production](production.md) lists exit codes and environment variables.
`python tests/cli/test_help.py` makes this page.
"""


def page() -> str:
    """The whole page."""
    rows = [(f"[tapegpt {name}](#tapegpt-{name})", about) for name, about in tapegpt.cli.COMMANDS.items()]
    told: dict[tuple[str, str], str] = {}
    sections = ["\n".join(section(tapegpt.cli.make_parser(name), told)) for name in tapegpt.cli.COMMANDS]
    return "\n\n".join([ABOUT + "\n" + "\n".join(table("command", rows)), *sections]) + "\n"


def section(parser: argparse.ArgumentParser, told: dict[tuple[str, str], str]) -> Iterator[str]:
    """A command: how it is called, what it does, and its options by group."""
    arguments = [call for call, _, action in options(parser._positionals) if not action.option_strings]
    others = [call for group in parser._action_groups[2:] for call, _, a in options(group) if not a.option_strings]
    yield f"## {parser.prog}\n\n`{' '.join([parser.prog, '[OPTIONS]', *arguments, *others])}`\n\n{parser.description}"
    for group in parser._action_groups:
        rows = [(f"`{call}`", cell(about)) for call, about, _ in options(group)]
        if rows:
            about = f"\n{group.description}" if group.description else ""
            yield f"\n**{group.title}**{about}\n"
            yield from table("option", list(merged(rows, parser.prog, told)))
    if parser.epilog:
        yield f"\n{parser.epilog}"


def merged(rows: list[tuple[str, str]], prog: str, told: dict[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
    """The rows of a group; those that stand one after the other, and in another command's table, as one row."""
    for other, same in groupby(rows, key=lambda row: told.setdefault(row, prog)):
        alike = list(same)
        if other == prog or len(alike) < 3:
            yield from alike
        else:
            yield ", ".join(call for call, _ in alike), f"as for [{other}](#{other.replace(' ', '-')})"


def options(group: argparse._ArgumentGroup) -> Iterator[tuple[str, str, argparse.Action]]:
    """Each option of a group, but for help: how it is given, what it does."""
    formatter = argparse.HelpFormatter("")
    for action in group._group_actions:
        if action.help not in (None, argparse.SUPPRESS) and not isinstance(action, HelpAction):
            value = "" if action.nargs == 0 else formatter._format_args(action, str(action.metavar))
            names = ", ".join(action.option_strings)
            yield " ".join(filter(None, [names, value])), formatter._expand_help(action), action


def table(head: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    """The lines of a table of two columns."""
    return iter([f"| {head} | |", "| --- | --- |", *[f"| {name} | {about} |" for name, about in rows]])


def cell(text: str) -> str:
    """Text that means itself in a cell of a table."""
    return "".join(f"\\{character}" if character in "\\|*_<`" else character for character in text)


def test_the_page_is_that_of_the_options() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write docs/cli.md again: python tests/cli/test_help.py"


def test_every_option_has_a_line() -> None:
    parser = Parser(prog="tapegpt test", description="Test.", epilog="The end.")
    parser.add_argument("data", nargs="*", metavar="DATA", help="what to read")
    option(parser.add_argument_group("numbers", "All are whole."), "--size", Whole(1), "rows | columns", default=16)
    assert "\n".join(section(parser, {})).splitlines() == [
        "## tapegpt test",
        "",
        "`tapegpt test [OPTIONS] [DATA ...]`",
        "",
        "Test.",
        "",
        "**positional arguments**",
        "",
        "| option | |",
        "| --- | --- |",
        "| `[DATA ...]` | what to read |",
        "",
        "**numbers**",
        "All are whole.",
        "",
        "| option | |",
        "| --- | --- |",
        "| `--size N` | rows \\| columns [16] |",
        "",
        "The end.",
    ]


def test_rows_that_another_command_has_are_one() -> None:
    told = {(f"`--{letter}`", letter): "tapegpt train" for letter in "abc"}
    rows = [*told, ("`--d`", "d")]
    assert list(merged(rows, "tapegpt sweep", told)) == [
        ("`--a`, `--b`, `--c`", "as for [tapegpt train](#tapegpt-train)"),
        ("`--d`", "d"),
    ]
    assert list(merged(rows[1:], "tapegpt sweep", told)) == rows[1:]


@pytest.mark.parametrize("name", tapegpt.cli.COMMANDS)
def test_help_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tapegpt.cli.main([name, "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith(f"usage: tapegpt {name} [options] ")
    assert tapegpt.cli.COMMANDS[name][1:] in printed


if __name__ == "__main__":
    sys.stdout.write(page())
