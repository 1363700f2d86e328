"""How options are declared, and the kinds of values. Not here: reading them (`parser.py`), which ones a command has."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from argparse import _ActionsContainer
    from collections.abc import Callable, Iterable
    from typing import Any, Self

    from tapegpt.ranges import Range
    from tapegpt.record import Record

    ArgumentParser = argparse.ArgumentParser
    Namespace = argparse.Namespace
    Group = _ActionsContainer
else:
    ArgumentParser = Namespace = Group = object  # names for type checkers: argparse is imported where it is needed


class Defaults:
    """Takes options as a parser does, and keeps their defaults: 4 ms faster than to import argparse."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add_argument_group(self, _: str) -> Self:
        """Groups are for help."""
        return self

    def add_argument(self, *names: str, action: str = "", default: Any = None, dest: str = "", **_: object) -> None:
        """Keep the default under the name that argparse would give it."""
        name = dest or names[-1].lstrip("-").replace("-", "_")
        self.values[name] = {"store_true": False, "store_false": True}.get(action, default)


def option(group: Group, names: str, value: Range | str, about: str, **settings: Any) -> None:
    """An option or argument with any value, called so, or one within a range: then help shows its default, if any."""
    if isinstance(value, str):
        settings["metavar"] = value
    else:
        settings |= {"metavar": value.metavar, "type": lambda text: value.read(names, text)}
        about += f" [{settings['default']}]" if "default" in settings else ""
    group.add_argument(*names.split(", "), help=about, **settings)


def switch(group: Group, name: str, about: str, **settings: Any) -> None:
    """An option without a value, which sets what is False."""
    group.add_argument(name, action="store_true", help=about, **settings)


def setting_arguments(
    group: Group, record: type[Record], *names: str, marked: bool = False, defaults: bool = True
) -> None:
    """Options for settings of a record, as its table has them; what is not given is left to a preset or a default.

    Those of the engine fast are marked as such, where the group has others too; defaults are shown where they hold.
    """
    for name in names:
        each, within, default = record.fields[name], record.ranges[name], getattr(record, name)
        about = f"{'engine fast: ' if marked and each.needs_fast else ''}{each.about}"
        if isinstance(default, bool):
            switch = flag(f"no_{name}" if default else name)
            group.add_argument(switch, dest=name, action="store_false" if default else "store_true", help=about)
            continue
        usual = each.usual or (each.fast if each.needs_fast else default)
        if defaults and usual is not None:
            about += f" [{usual:g}]" if isinstance(usual, float) else f" [{each.usual or within.write(usual)}]"
        option(group, flag(name), within, about)


def given(options: Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of the options that are given, by name."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def flag(name: str) -> str:
    """An option's name as it is typed."""
    return f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"


def output_argument(group: Group, what: str, default: str = "-") -> None:
    """Declare the file that is written instead of standard output."""
    about = f"file for the {what}, - for standard output [{default}]"
    option(group, "-o, --output", "FILE", about, default=default)


def label_argument(group: Group, what: str) -> None:
    """Declare the labels of strings."""
    about = f"label of {what}, of a model trained with --labels: a value, or COLUMN=VALUE; may be repeated"
    option(group, "--label", "VALUE", about, action="append")


def split_pairs(flag: str, texts: list[str]) -> list[tuple[str, str]]:
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


def parse(flag: str, name: str, annotation: str, text: str) -> Any:
    """A value for a field, of the kind that its annotation says."""
    text = text.strip()
    if text == "none" and annotation.endswith("None"):
        return None
    rule, kind = next((rule, kind) for start, rule, kind in KINDS if annotation.startswith(start))
    try:
        return kind(text)
    except (ValueError, KeyError):
        raise TapeGPTError(f"{flag} {name}: must be {rule}, not {quote(text)}") from None


KINDS: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("int", "a whole number", int),
    ("float", "a number", float),
    ("bool", "true or false", {"true": True, "false": False}.__getitem__),
    ("", "text", str),
)
