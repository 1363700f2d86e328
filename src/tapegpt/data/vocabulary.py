r"""The tokens that strings are made of, and how text is split into them. Not here: documents (`corpus.py`).

A token is a character, or by another rule a piece of several. The tokens of a string, joined, are the string whatever
the rule is, since what a rule leaves out is split into characters. The probability of a string is that of the tokens
that it is split into; a model may spell the same string with others where there are such, "a" and "b" instead of "ab".
"""

from __future__ import annotations

import sys
from array import array
from functools import lru_cache
from itertools import accumulate, repeat
from operator import add

from tapegpt.data.tokens import Tokens
from tapegpt.errors import TapeGPTError, argument, missing, quote
from tapegpt.record import Record
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from tapegpt.data.tokens import Strings

    Split = Sequence[Any]  # of each text the sequence of its pieces: of characters the text itself

CHARACTERS, GRAPHEMES, WORDS = "characters", "graphemes", "words"
NAMED = (CHARACTERS, GRAPHEMES, WORDS)  # rules that take no longer for any text; an expression may take for ever
LISTED = 3  # unknown tokens that an error names


class Vocabulary(Record):
    r"""A sequence of tokens, sorted and distinct, and the rule by which text is split. BOS comes after the last.

    The rule is "characters"; "graphemes", what a reader takes for one character, by the package regex; "words", each
    with the space before it; or a regular expression of Python's `re`, such as r"Cl|Br|\[[^]]+\]|.". Raises
    `TapeGPTError` for any other rule, and for tokens that are not sorted.
    """

    tokens: tuple[str, ...]
    rule: str = CHARACTERS

    def check(self) -> None:
        """Raise `TapeGPTError` for tokens and rules that cannot be."""
        self.__dict__["tokens"] = tuple(self.tokens)
        if self.rule != CHARACTERS:
            _pattern(self.rule)
        if not all(isinstance(token, str) and token for token in self.tokens):
            raise TapeGPTError(f"tokens must be texts, none of them empty, not {quote(self.tokens)}")
        if list(self.tokens) != sorted(set(self.tokens)):
            raise TapeGPTError(f"the vocabulary {quote(self.tokens)} is not a sorted set of tokens: sort it")

    @classmethod
    def of(cls, documents: Iterable[str], rule: str = CHARACTERS) -> Vocabulary:
        """The tokens of documents."""
        if rule == CHARACTERS:
            return cls(tuple(distinct("".join(documents))))
        pieces = map(cls((), rule).split, documents)
        return cls(tuple(sorted(set[str]().union(*pieces))), rule)

    @property
    def bos(self) -> int:
        """The token before and after every document."""
        return len(self.tokens)

    @property
    def size(self) -> int:
        """Number of tokens, with BOS."""
        return len(self.tokens) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """Every token by its id; BOS, which is also the end, is ""."""
        return (*self.tokens, "")

    @property
    def characters(self) -> str:
        """The characters of all tokens, sorted."""
        return distinct("".join(self.tokens))

    @property
    def unit(self) -> str:
        """What a token is called."""
        return "character" if self.rule == CHARACTERS else "token"

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __getitem__(self, number: int) -> str:
        return self.tokens[number]

    def __contains__(self, token: object) -> bool:
        return token in _numbers(self)

    def __or__(self, other: Vocabulary) -> Vocabulary:
        """The tokens of both; raises `TapeGPTError` where their rules differ."""
        if self.rule != other.rule:
            raise TapeGPTError(
                f"the documents are split by {argument('tokens')} {quote(other.rule)}, the model's by "
                f"{quote(self.rule)}: give that"
            )
        return Vocabulary(tuple(sorted({*self, *other})), self.rule)

    def __repr__(self) -> str:
        if self.rule == CHARACTERS:
            return f"<Vocabulary of {amount(len(self), 'character')}: {quote(self.characters)}>"
        return f"<Vocabulary of {amount(len(self), 'token')}, by {quote(self.rule)}>"

    def split(self, text: str) -> Sequence[str]:
        """The pieces of a text in order, tokens or not; the text itself is the sequence of its characters."""
        return text if self.rule == CHARACTERS else _pieces(_pattern(self.rule), text)

    def split_all(self, texts: Sequence[str]) -> Split:
        """The pieces of each text."""
        return texts if self.rule == CHARACTERS else list(map(self.split, texts))

    def unknown(self, texts: Split) -> set[str]:
        """The pieces of several texts that are no token."""
        if self.rule == CHARACTERS:
            try:
                known = "".join(self.tokens).encode("latin-1", "ignore")
                rest = "".join(texts).encode("latin-1").translate(None, delete=known)  # 20 times faster than a set
                return set(rest.decode("latin-1"))
            except UnicodeEncodeError:
                return set("".join(texts)).difference(self.tokens)
        return set[str]().union(*texts).difference(self.tokens)

    def knows(self, text: str) -> bool:
        """Whether all pieces of a text are tokens, as they may not be where it was generated by others."""
        return not self.unknown(self.split_all([text]))

    def without(self, unknown: set[str], texts: Split) -> Split:
        """The pieces of several texts but these."""
        if not unknown:
            return texts
        if self.rule == CHARACTERS:
            dropped = dict.fromkeys(map(ord, unknown))
            return [text if unknown.isdisjoint(text) else text.translate(dropped) for text in texts]
        return [[piece for piece in each if piece not in unknown] for each in texts]

    def encode(self, text: str, what: str = "text") -> list[int]:
        """The tokens of a text; raises `TapeGPTError` for anything but a str, and for what is no token."""
        if not isinstance(text, str):
            raise TapeGPTError(f"{what} must be a str, not {quote(text)}")
        pieces, numbers = self.split(text), _numbers(self)
        unknown = set(pieces).difference(numbers)
        if unknown:
            raise TapeGPTError(f"{what} {quote(text)}: the model does not know {listed(unknown)}: leave that out")
        return [numbers[piece] for piece in pieces]

    def encode_all(self, texts: Split) -> Tokens:
        """Documents, each split into its tokens, between BOS."""
        starts = array("q", accumulate(map(add, map(len, texts), repeat(1)), initial=0))
        if self.rule == CHARACTERS:
            known = _numbers(self)
            separator = next(c for c in map(chr, range(sys.maxunicode + 1)) if c not in known)  # becomes BOS
            text = _translate(separator.join(["", *texts, ""]), "".join([*self.tokens, separator]))
            return Tokens(
                array("I", text.encode("utf-32", "surrogatepass")[4:]), starts
            )  # in native order, with a mark
        number, ids = _numbers(self).__getitem__, array("I", [self.bos])
        for pieces in texts:
            ids.extend(map(number, pieces))
            ids.append(self.bos)
        return Tokens(ids, starts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; raises `TapeGPTError` for numbers that are none of a string, as BOS is none."""
        tokens = []
        for position, number in enumerate(ids):
            if not 0 <= number < self.bos:
                raise TapeGPTError(f"token {position} is {number}: those of a text are 0 to {self.bos - 1}")
            tokens.append(self.tokens[number])
        return "".join(tokens)

    def texts(self, strings: Strings) -> list[str]:
        """Generated strings as text."""
        if self.rule != CHARACTERS or max(self.tokens) >= "\x80":
            return ["".join([self.tokens[number] for number in string]) for string in strings]
        place = 0 if sys.byteorder == "little" else 3  # a byte a character: all at once, ten times faster
        codes = strings.ids.tobytes()[place::4].translate("".join(self.tokens).encode("ascii").ljust(256, b"?"))
        text = codes.decode("ascii")
        block = len(text) // max(len(strings), 1)
        return [text[i * block : i * block + length] for i, length in enumerate(strings.lengths)]


def listed(tokens: Iterable[str]) -> str:
    """Tokens as an error names them: characters in one text."""
    every = sorted(tokens)
    if max(map(len, every)) == 1:
        return quote("".join(every))
    more = f" and {len(every) - LISTED:,} more" if len(every) > LISTED else ""
    return f"{', '.join(map(quote, every[:LISTED]))}{more}"


def distinct(text: str) -> str:
    """The characters of a text, sorted."""
    try:
        absent = bytes(range(256)).translate(None, delete=text.encode("latin-1"))  # 20 times faster than a set
    except UnicodeEncodeError:
        return "".join(sorted(set(text)))
    return bytes(range(256)).translate(None, delete=absent).decode("latin-1")


@lru_cache(8)
def _numbers(vocabulary: Vocabulary) -> dict[str, int]:
    return {token: number for number, token in enumerate(vocabulary.tokens)}


def _translate(text: str, alphabet: str) -> str:
    """The text with each character replaced by the one whose code is its index in the alphabet."""
    table = _table(alphabet)
    if isinstance(table, bytes):  # a byte a character: 20 times faster
        return text.encode("latin-1").translate(table).decode("latin-1")
    return text.translate(table)


@lru_cache(8)
def _table(alphabet: str) -> bytes | dict[int, int]:
    table = {ord(character): position for position, character in enumerate(alphabet)}
    return bytes(table.get(code, 0) for code in range(256)) if max(table) < 256 else table


# --- rules ------------------------------------------------------------------------------------------------------


def _pieces(pattern: re.Pattern[str], text: str) -> list[str]:
    """What the pattern matches, and the characters between."""
    found = [match[0] for match in pattern.finditer(text)] if pattern.groups else pattern.findall(text)
    if sum(map(len, found)) == len(text):  # nothing between: twice as fast
        return list(filter(None, found))
    pieces, end = list[str](), 0
    for match in pattern.finditer(text):
        start, stop = match.span()
        pieces.extend(text[end:start])
        if start < stop:
            pieces.append(text[start:stop])
        end = stop
    pieces.extend(text[end:])
    return pieces


@lru_cache(8)
def _pattern(rule: str) -> re.Pattern[str]:
    """What matches a token; raises `TapeGPTError` for what is no rule."""
    import re
    import warnings

    if not isinstance(rule, str):
        raise TapeGPTError(f"{argument('tokens')} must be a str, not {quote(rule)}: give {_RULES}")
    if rule == GRAPHEMES:
        try:
            import regex  # type: ignore[import-untyped]  # it has no type hints
        except ImportError:
            raise missing("regex", "graphemes") from None
        found: re.Pattern[str] = regex.compile(r"\X")
        return found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that a later Python may read otherwise
            return re.compile(_words() if rule == WORDS else rule)
    except (re.error, OverflowError, RecursionError) as error:
        reason = f"is not a regular expression: {error}: give {_RULES}"
        raise TapeGPTError(f"{argument('tokens')} {quote(rule)} {reason}") from None


_RULES = f"{', '.join(NAMED)} or a regular expression"


def _words() -> str:
    r"""A word or a row of other signs with the space before it, as GPT-2 has them, or one white space.

    Marks and joiners behind a letter are part of its word, as vowels of Devanagari are, which `\w` does not know.
    """
    from unicodedata import category

    marks = [code for code in range(0x300, 0x20000) if category(chr(code))[0] == "M" or code in (0x200C, 0x200D)]
    first = [code for code, before in zip(marks, [0, *marks], strict=False) if code > before + 1]
    last = [code for code, after in zip(marks, [*marks[1:], 0], strict=True) if code + 1 != after]
    ranges = "".join([f"{chr(start)}-{chr(end)}" for start, end in zip(first, last, strict=True)])
    return rf" ?\w+(?:[{ranges}]+\w*)*| ?[^\w\s]+|\s"
