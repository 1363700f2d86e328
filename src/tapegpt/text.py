r"""Text on one line: how control characters are shown, written so that they can be read back, and how wide it is.

One rule for whatever writes strings a line each. Those over an alphabet without control characters are written as they
are. Otherwise control characters but tab, ends of lines, overrides of direction and BOMs are escapes of Python's string
literals, such as \n, \x1b and \u2028, and a backslash is \\. Not here: terminals and their colours (`cli/console.py`).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
_BREAKING = ("Cc", "Cs", "Zl", "Zp")  # categories: controls, surrogates (which no file can hold), ends of lines
_DIRECTING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"  # what is behind, or how a file is read
_DIGITS = {"x": 2, "u": 4, "U": 8}  # of escapes by number
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def visible(text: str) -> str:
    """A text with whatever has no shape as an escape; it may not be possible to read it back."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c == NO_BREAK_SPACE else repr(c)[1:-1] for c in text])


def columns(text: str) -> int:
    """How many columns a text takes as it is shown."""
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(each) else 1 + (east_asian_width(each) in "WF") for each in visible(text))


def clip(text: str, width: int) -> str:
    """A text as `visible` shows it, in at most so many columns; one that is cut ends in dots."""
    shown = visible(text)
    if columns(shown) <= width:
        return shown
    kept, room = [], width - 3
    for character in shown:
        room -= columns(character)
        if room < 0:
            break
        kept.append(character)
    return f"{''.join(kept)}..."


def breaks(character: str) -> bool:
    """Whether a character would break a line, or tell a terminal what to do."""
    if character.isprintable() or character == "\t":
        return False
    from unicodedata import category

    return category(character) in _BREAKING or character in _DIRECTING


def escape_line(text: str) -> str:
    """A text on one line, which `unescape_line` reads back."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join([repr(c)[1:-1] if c == "\\" or breaks(c) else c for c in text])


def unescape_line(line: str) -> str:
    """What `escape_line` was given; raises `ValueError`, whose text is the escape, for one that is none."""
    characters, rest = [], iter(line)
    for character in rest:
        if character != "\\":
            characters.append(character)
            continue
        name = next(rest, "")
        digits = "".join([next(rest, "") for _ in range(_DIGITS.get(name, 0))])
        code = int(digits, 16) if digits and _HEXADECIMAL.issuperset(digits) else sys.maxsize
        if name not in _NAMED and (code > sys.maxunicode or len(digits) < _DIGITS[name]):
            raise ValueError(f"\\{name}{digits}")
        characters.append(_NAMED.get(name) or chr(code))
    return "".join(characters)


def line_writer(alphabet: str) -> Callable[[str], str]:
    """How strings over this alphabet are written, a line each: as they are, or escaped where one could break."""
    return escape_line if any(map(breaks, alphabet)) else str


def json_line(value: object) -> str:
    """A value as JSON on one line, in which escapes stand for what would reach a terminal, and other text as it is."""
    import json

    return escape_json(json.dumps(value, ensure_ascii=False))


def escape_json(line: str) -> str:
    """JSON on a line with escapes for what would reach a terminal."""
    return line if line.isprintable() else "".join([f"\\u{ord(c):04x}" if breaks(c) else c for c in line])


def round_digits(number: float, digits: int = 4) -> float:
    """To so many significant digits: a picture shows no more, and its data get a third as long."""
    return float(f"{number:.{digits}g}")


def amount(number: int, noun: str) -> str:
    """A number of things: "1 step", "2,000 steps"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
