"""What a string must be like that is to be generated, and how it is drawn. Not here: drawing it (`sampling.py`).

Prefix, suffix, pattern, lengths and the words to avoid are one automaton, which constrains text and leaves open by what
tokens it is spelled. That a string is new, or comes once, is looked up when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tapegpt.data.vocabulary import listed
from tapegpt.errors import TapeGPTError, check_names, either, quote
from tapegpt.ranges import Instance, Number, Whole
from tapegpt.record import Record, field
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.inference.automata import Automaton

    class StringOptions(TypedDict, total=False):
        """What one string is like and how it is drawn: fields of `Constraints` and `Drawing`."""

        prefix: str
        suffix: str
        pattern: str | None
        min_length: int
        max_length: int | None
        avoid: Iterable[str]
        novel: bool | int
        label: str | Iterable[str] | Mapping[str, str] | None
        temperature: float
        top_k: int
        top_p: float
        min_p: float

    class GenerateOptions(StringOptions, total=False):
        """What `GPT.generate` and its like take: all fields of `Constraints` and `Drawing`."""

        distinct: bool
        unbiased: bool | None


TOKENS = 0x110000  # as many as there are characters
LONGEST = 1 << 20  # tokens of a string


class _Temperature(Number):
    """0, and numbers that no probability over- or underflows at."""

    def __contains__(self, value: Any) -> bool:
        return super().__contains__(value) and (value == 0 or value >= 1e-3)

    def __str__(self) -> str:
        return "0 or a number from 0.001 to 1000"


TEMPERATURE = _Temperature(0, 1000)


class Drawing(Record):
    """How the next token is drawn from the model's probabilities, or from those that constraints leave.

    Raises `TapeGPTError` for a value out of range.
    """

    temperature: float = field(
        "higher means more surprising strings; 0: always the most probable token", TEMPERATURE, default=0.5
    )
    top_k: int = field("only from the k most probable tokens, ties included; 0 for all", Whole(0, TOKENS), default=0)
    top_p: float = field(
        "only from the most probable tokens that together have this probability", Number(0, 1, "(]"), default=1.0
    )
    min_p: float = field(
        "only from tokens at least this probable, relative to the most probable one", Number(0, 1), default=0.0
    )

    @property
    def truncates(self) -> bool:
        """Whether any token may be left out for its probability."""
        return self.temperature == 0 or (self.top_k, self.top_p, self.min_p) != (0, 1, 0)


class Constraints(Record):
    """What strings must be like; raises `TapeGPTError` where a field is out of range or they exclude each other."""

    prefix: str = field("", Instance(str), default="")
    suffix: str = field("", Instance(str), default="")
    pattern: str | None = field("a regular expression that the whole string matches", Instance(str), default=None)
    min_length: int = field("tokens", Whole(0), default=0)
    max_length: int | None = field("tokens; None: the block", Whole(0, LONGEST), default=None)
    avoid: tuple[str, ...] = ()  # words that occur nowhere, in letters of either case
    novel: bool | int = False  # True or k: further than 0 or k edits from all training documents
    label: Any = None  # of what the string is one, see `Vocabulary.combination`; None: as the model draws it
    distinct: bool = field("no string twice", Instance(bool), default=False)
    unbiased: bool | None = field(
        "False: token by token, see `sampling`; None: unbiased where that can be", Instance(bool), default=None
    )

    def check(self) -> None:
        """Raise `TapeGPTError` where fields do not fit together."""
        if isinstance(self.label, Iterable) and not isinstance(self.label, str | Mapping):
            self.__dict__["label"] = tuple(self.label)
        if isinstance(self.label, tuple | Mapping) and not self.label:
            self.__dict__["label"] = None
        if self.max_length is not None and self.min_length > self.max_length:
            in_python = f"min_length {self.min_length} is above max_length {self.max_length}"
            on_command = f"--length {self.min_length}..{self.max_length} ends before it begins"
            raise TapeGPTError(f"{either(in_python, on_command)}: no string is both")
        if not isinstance(self.avoid, tuple) or not all(isinstance(word, str) and word for word in self.avoid):
            raise TapeGPTError(f"avoid must be words, none of them empty, not {quote(self.avoid)}")
        if not isinstance(self.novel, bool) and self.novel not in Whole(0):
            raise TapeGPTError(f"novel must be True, False or a number of edits, not {quote(self.novel)}")

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self != Constraints()

    @property
    def distance(self) -> int | None:
        """Edits that a string must be further than from all training documents; None for none."""
        return None if self.novel is False else int(self.novel) if self.novel is not True else 0

    def only_cut(self, block_size: int) -> bool:
        """Whether any string meets them that is cut at `max_length`, which is not below the block."""
        is_long = self.max_length is None or self.max_length >= block_size
        return is_long and self.replace(max_length=None) == Constraints()

    def lengths(self, block_size: int, vocabulary: Vocabulary) -> tuple[int, int]:
        """The least and most tokens, labels apart; raises `TapeGPTError` where strings are shorter than the others."""
        block_size -= len(vocabulary.labels)
        most = block_size if self.max_length is None else self.max_length
        longest = max(most, block_size)
        widest = longest * max(map(len, vocabulary))  # characters
        for name, given, is_long in (
            ("prefix", self.prefix, len(self.prefix) > widest),
            ("suffix", self.suffix, len(self.suffix) > widest),
            (either("min_length", "--length"), self.min_length, self.min_length > longest),
        ):
            if is_long:
                remedy = either("give a larger max_length", "let --length end with a larger number")
                raise TapeGPTError(
                    f"{name} {quote(given)}: strings have at most {amount(longest, vocabulary.unit)}: {remedy}"
                )
        return self.min_length, most

    def automaton(self, vocabulary: Vocabulary) -> Automaton:
        """Of all the constraints but the lengths; raises `TapeGPTError` for characters that the model does not know."""
        found = self._automaton(vocabulary.characters).over(vocabulary.tokens)
        known = vocabulary.combination(self.label)
        pairs = zip(known, vocabulary.labels, strict=True)
        return found.behind([[label in (None, value) for value in values] for label, (_, values) in pairs])

    def _automaton(self, known: str) -> Automaton:
        from tapegpt.inference.automata import anything, avoiding, beginning, ending, matching

        for name in ("prefix", "suffix"):
            if unknown := set(getattr(self, name)).difference(known):
                text = f"{name} {quote(getattr(self, name))}"
                raise TapeGPTError(f"{text}: the model does not know {listed(unknown)}: leave that out")
        automata = [
            *([beginning(self.prefix, known)] if self.prefix else []),
            *([ending(self.suffix, known)] if self.suffix else []),
            *([matching(self.pattern, known)] if self.pattern is not None else []),
            *([avoiding(self.avoid, known)] if self.avoid else []),
        ]
        if not automata:
            return anything(known)
        result = automata[0]
        for each in automata[1:]:
            result &= each
        return result


def split_options(options: StringOptions | GenerateOptions) -> tuple[Constraints, Drawing]:
    """Constraints and drawing from the options of `GPT.generate`.

    Raises `TypeError` for an option that there is not, and `TapeGPTError` for values out of range.
    """
    given: dict[str, Any] = dict(options)
    check_names("generate", given, Constraints.fields, Drawing.fields)
    drawing = Drawing(**{name: given.pop(name) for name in Drawing.fields if name in given})
    if "avoid" in given:
        from tapegpt.data.strings import strings_of

        given["avoid"] = tuple(strings_of(given["avoid"], "avoid"))
    return Constraints(**given), drawing
