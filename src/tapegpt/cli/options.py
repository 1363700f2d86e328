"""How options are declared and read: the parser, and the kinds of values. Not here: which options a command has."""

from __future__ import annotations

import argparse

from tapegpt.errors import TapeGPTError, shown
from tapegpt.ranges import OneOf
from tapegpt.settings import SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from tapegpt.record import Record

argparse._ = str  # type: ignore[attr-defined]  # its words stay English, as ours: looking for others takes 1.5 ms


class Parser(argparse.ArgumentParser):
    """Every fault is a `TapeGPTError`; an option is never abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_formatter, allow_abbrev=False, **settings)

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
        raise TapeGPTError(f"{message}: see {self.prog} --help")


def _formatter(prog: str) -> argparse.HelpFormatter:
    # A width of its own: asking for the terminal's imports modules for 2.5 ms, also where no help is shown.
    return argparse.HelpFormatter(prog, width=96)


def option(group: argparse._ActionsContainer, name: str, default: float, about: str) -> None:
    """An option with a default, which its help shows."""
    kind, metavar = (whole, "N") if isinstance(default, int) else (number, "X")
    group.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{about} [{default}]")


def setting(group: argparse._ActionsContainer, name: str, kind: Callable[[str], float], about: str) -> None:
    """An option without a value of its own: what is not given is left to a preset or a default."""
    group.add_argument(name, type=kind, metavar="N" if kind is whole else "X", help=about)


def settings(group: argparse._ActionsContainer, record: type[Record], *names: str, marked: bool = False) -> None:
    """Options for settings of a record, as its table has them; what is not given is left to a preset or a default.

    Those of the engine fast are marked as such, where the group has others too.
    """
    for name in names:
        each, default = record.fields[name], getattr(record, name)
        usual = each.usual or (each.fast if each.needs_fast else default)
        about = f"{'engine fast: ' if marked and each.needs_fast else ''}{each.about}"
        about = f"{about} [{usual:g}]" if isinstance(usual, float) else f"{about} [{usual}]"
        if isinstance(each.within, OneOf):
            kind: dict[str, Any] = {"choices": each.within.values, "metavar": "NAME"}
        elif each.within is SECONDS:
            kind = {"metavar": "TIME"}
        else:
            kind = {"type": whole, "metavar": "N"} if each.kind.startswith("int") else {"type": number, "metavar": "X"}
        group.add_argument(f"--{name.replace('_', '-')}", help=about, **kind)


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
