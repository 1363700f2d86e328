"""Options of all commands together: one meaning a flag, help that fits on a screen."""

from __future__ import annotations

import argparse
from importlib import import_module

import pytest

from tapegpt.cli import COMMANDS, _options, main, make_parser

LINES = 30  # of a screen


def actions(command: str) -> list[argparse.Action]:
    return make_parser(command)._actions


def test_a_flag_takes_the_same_kind_of_value_in_every_command() -> None:
    kinds: dict[str, set[object]] = {}
    for command in COMMANDS:
        for action in actions(command):
            for flag in action.option_strings:
                kinds.setdefault(flag, set()).add((action.dest, action.metavar, action.nargs))
    assert {flag: found for flag, found in kinds.items() if len(found) > 1} == {}


def test_a_flag_of_files_is_no_directory() -> None:
    for command in COMMANDS:
        for action in actions(command):
            if str(action.metavar) in ("DIR", "FILE"):
                is_directory = any(flag.endswith("-dir") for flag in action.option_strings)
                assert is_directory == (action.metavar == "DIR"), (command, action.option_strings)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_on_a_screen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-h"]) == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= LINES
    common = getattr(import_module(f"tapegpt.cli.{command}"), "COMMON", "").split()
    if common:
        assert [name for name in common if f"{name} " not in short] == []
        assert main([command, "--help-all"]) == 0
        long = capsys.readouterr().out
        flags = [action.option_strings[-1] for action in actions(command) if action.option_strings]
        assert [flag for flag in flags if flag not in long] == []
    assert ("--help-all" in short) == bool(common)


def test_the_list_of_commands_fits_on_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= LINES
    assert all(f"    {command} " in shown for command in COMMANDS)


def test_an_unknown_option_names_the_help_that_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    for command, where in (("train", "--help-all"), ("why", "--help")):
        assert main([command, "--no-such-option"]) == 2
        assert capsys.readouterr().err.endswith(f": see tapegpt {command} {where}\n")


def test_what_resume_cannot_change_is_not_among_its_options() -> None:
    flags = {flag for action in actions("resume") for flag in action.option_strings}
    own = {"-h", "--help", "--model", "--more-steps", "-o", "--output", "--save-every", "--weights-only"}
    assert flags == own | {"--metrics", "--samples", "--temperature", "--quiet", "--json"}


@pytest.mark.parametrize("given", [[], ["a.txt"], ["a.txt", "b.txt"]])
def test_without_options_the_values_are_those_that_argparse_would_give(given: list[str]) -> None:
    assert vars(_options("train", given)) == vars(make_parser("train").parse_args(given))
