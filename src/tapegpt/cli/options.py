"""How options are declared and read: the parser, and the kinds of values. Not here: which options a command has."""

from __future__ import annotations

import argparse

from tapegpt.errors import TapeGPTError, shown
from tapegpt.ranges import OneOf
from tapegpt.settings import SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from tapegpt.ranges import Number
    from tapegpt.record import Record

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

    def error(self, message: str) -> NoReturn:
        """One line, and where to look."""
        raise TapeGPTError(f"{message}: see {self.prog} --help{'-all' if self._common else ''}")

    def format_help(self) -> str:
        """All options, in groups."""
        formatter = self._begun()
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
        names, formatter = {"--help", "--help-all", *self._common}, self._begun()
        common = [action for action in self._get_optional_actions() if names.intersection(action.option_strings)]
        formatter.start_section("common options")
        formatter.add_arguments([*self._get_positional_actions(), *common])
        formatter.end_section()
        return formatter.format_help()

    def _begun(self) -> argparse.HelpFormatter:
        formatter = _formatter(f"{self.prog} [options]")
        formatter.add_usage(None, self._get_positional_actions(), [])
        formatter.add_text(self.description)
        return formatter


class HelpAction(argparse.Action):
    """Prints help, and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: Any, *_: object) -> None:
        """Print the help that was asked for."""
        text = parser.format_help() if "--help-all" in self.option_strings else parser.format_common()
        parser.exit(print(text, end=""))


def _formatter(prog: str) -> argparse.HelpFormatter:
    # A width of its own: asking for the terminal's imports modules for 2.5 ms, also where no help is shown.
    formatter = argparse.HelpFormatter(prog, width=96)
    formatter._action_max_length = 13  # noqa: SLF001  # of the commands, whose indentation argparse does not count
    return formatter


def option(group: argparse._ActionsContainer, name: str, default: float | Callable[[str], float], about: str) -> None:
    """An option with a number: its default, which the help shows, or `whole` or `number` where there is none."""
    if callable(default):
        group.add_argument(name, type=default, metavar="N" if default is whole else "X", help=about)
    else:
        kind, metavar = (whole, "N") if isinstance(default, int) else (number, "X")
        group.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{about} [{default}]")


def setting_arguments(
    group: argparse._ActionsContainer,
    record: type[Record],
    *names: str,
    marked: bool = False,
    defaults: bool = True,
) -> None:
    """Options for settings of a record, as its table has them; what is not given is left to a preset or a default.

    Those of the engine fast are marked as such, where the group has others too; defaults are shown where they hold.
    """
    for name in names:
        each = record.fields[name]
        about = f"{'engine fast: ' if marked and each.needs_fast else ''}{each.about}"
        if defaults:
            usual = each.usual or (each.fast if each.needs_fast else getattr(record, name))
            about += f" [{usual:g}]" if isinstance(usual, float) else f" [{usual}]"
        if isinstance(each.within, OneOf):
            kind: dict[str, Any] = {"choices": each.within.values, "metavar": "NAME"}
        elif each.within is SECONDS:
            kind = {"metavar": "TIME"}
        else:
            kind = {"type": whole, "metavar": "N"} if each.kind.startswith("int") else {"type": number, "metavar": "X"}
        group.add_argument(flag(name), help=about, **kind)


def check(options: argparse.Namespace, **ranges: Number) -> None:
    """Raise `TapeGPTError` for an option that is given and out of its range."""
    for name, numbers in ranges.items():
        value = getattr(options, name)
        if value is not None:
            numbers.check(flag(name), value)


def flag(name: str) -> str:
    """An option's name as it is typed."""
    return f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"


def output_argument(group: argparse._ActionsContainer, what: str, default: str = "-") -> None:
    """Declare the file that is written instead of standard output."""
    about = f"file for the {what}, - for standard output [{default}]"
    group.add_argument("-o", "--output", default=default, metavar="FILE", help=about)


def pairs(flag: str, texts: list[str]) -> list[tuple[str, str]]:
    """Names and what stands after their =."""
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise TapeGPTError(f"{flag} {text}: must be NAME=VALUES, such as n_embd=16,32")
        found.append((name.strip().replace("-", "_"), value))
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise TapeGPTError(f"{flag} {name}: is given twice: put all its values into one")
    return found


def parsed(flag: str, name: str, annotation: str, text: str) -> Any:
    """A value for a field, of the kind that its annotation says."""
    text = text.strip()
    if text == "none" and annotation.endswith("None"):
        return None
    rule, kind = next((rule, kind) for start, rule, kind in KINDS if annotation.startswith(start))
    try:
        return kind(text)
    except (ValueError, KeyError):
        raise TapeGPTError(f"{flag} {name}: must be {rule}, not {shown(text)}") from None


KINDS: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("int", "a whole number", int),
    ("float", "a number", float),
    ("bool", "true or false", {"true": True, "false": False}.__getitem__),
    ("", "text", str),
)


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {shown(text)}") from None


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {shown(text)}") from None
