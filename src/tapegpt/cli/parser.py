"""How options are read and helped with: argparse, with one-line errors and two lengths of help."""

from __future__ import annotations

import argparse

from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


argparse._ = str  # type: ignore[attr-defined]  # its words stay English, as ours: looking for others takes 1.5 ms


class Parser(argparse.ArgumentParser):
    """Every fault is a `TapeGPTError`; an option is never abbreviated.

    `-h` shows the common options, which fit on a screen, `--help-all` all of them; they are the same where none is
    named as common.
    """

    def __init__(self, common: str = "", **settings: Any) -> None:
        super().__init__(formatter_class=_formatter, allow_abbrev=False, add_help=False, **settings)
        self._common = common.split()
        self.add_argument("-h", "--help", action=HelpAction, help="common options" if common else "all options")
        if common:
            self.add_argument("--help-all", action=HelpAction, help="all options")

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Options may stand between the arguments of a command: `score MODEL --top 5 FILE`."""
        parsed, rest = super().parse_known_args(args, namespace)
        if not rest or self._mixing:
            return parsed, rest
        self._mixing = True  # which takes twice as long
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def takes(self, option: str) -> bool:
        """Whether there is such an option that does not ask for help."""
        action = self._option_string_actions.get(option)
        return action is not None and not isinstance(action, HelpAction)

    def error(self, message: str) -> NoReturn:
        """One line, and where to look."""
        raise TapeGPTError(f"{message}: see {self.prog} --help{'-all' if self._common else ''}")

    def format_help(self) -> str:
        """All options, in groups."""
        formatter = self._start()
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)  # noqa: SLF001  # as argparse itself does
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def format_common(self) -> str:
        """The arguments and the common options in one list."""
        if not self._common:
            return self.format_help()
        names, formatter = {"--help", "--help-all", *self._common}, self._start()
        common = [action for action in self._get_optional_actions() if names.intersection(action.option_strings)]
        formatter.start_section("common options")
        formatter.add_arguments([*self._get_positional_actions(), *common])
        formatter.end_section()
        return formatter.format_help()

    def _start(self) -> argparse.HelpFormatter:
        formatter = _formatter(f"{self.prog} [options]")
        formatter.add_usage(None, self._get_positional_actions(), [])
        formatter.add_text(self.description)
        return formatter


class HelpAction(argparse.Action):
    """Prints help, and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: Any, *_: object) -> None:
        """Print the requested help."""
        text = parser.format_help() if "--help-all" in self.option_strings else parser.format_common()
        parser.exit(print(text, end=""))


def _formatter(prog: str) -> argparse.HelpFormatter:
    # A width of its own: asking for the terminal's imports modules for 2.5 ms, also where no help is shown.
    formatter = argparse.HelpFormatter(prog, width=96)
    formatter._action_max_length = 13  # noqa: SLF001  # of the commands, whose indentation argparse does not count
    return formatter
