r"""The tokens that strings are made of, and how text is split into them. Not here: documents (`corpus.py`).

A token is a character, or by another rule a piece of several. The tokens of a string, joined, are the string whatever
the rule is, since what a rule leaves out is split into characters. The probability of a string is that of the tokens
that it is split into; a model may spell the same string with others where there are such, "a" and "b" instead of "ab".

Of documents with labels each label is a token too, before the string: a number of its own, whatever it is called.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate, repeat
from operator import add

from tapegpt.data.labels import Labelled, check_columns, label, labels_of
from tapegpt.data.tokens import Tokens, ids_of
from tapegpt.errors import TapeGPTError, argument, clipped, either, missing, quote
from tapegpt.record import Record, field
from tapegpt.text import amount, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tapegpt.data.labels import Columns, Combination
    from tapegpt.data.tokens import Strings

    Split = Sequence[Any]  # of each text the sequence of its pieces: of characters the text itself

CHARACTERS, GRAPHEMES, WORDS = "characters", "graphemes", "words"
NAMED = (CHARACTERS, GRAPHEMES, WORDS)  # rules that take no longer for any text; an expression may take for ever
LONGEST_RULE = 1000  # characters of an expression: of the worst ones `re` reads so many in 2.4 s
LISTED = 3  # unknown tokens that an error names


class Vocabulary(Record):
    r"""A sequence of tokens, sorted and distinct, and the rule by which text is split; then labels, and last BOS.

    The rule is "characters"; "graphemes", what a reader takes for one character, by the package regex; "words", each
    with the space before it; or a regular expression of Python's `re`, such as r"Cl|Br|\[[^]]+\]|.". Labels are the
    name and the sorted values of each column of them. Raises `TapeGPTError` for any other rule, and for tokens or
    labels that are not sorted.
    """

    tokens: tuple[str, ...]
    rule: str = field(
        "what a token is: characters, graphemes, words, or a regular expression such as 'Cl|Br|.'", default=CHARACTERS
    )
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def check(self) -> None:
        """Raise `TapeGPTError` for tokens and rules that cannot be."""
        self.__dict__.update(tokens=tuple(self.tokens), labels=check_columns(self.labels))
        if not isinstance(self.rule, str):
            raise TapeGPTError(f"{argument('tokens')} must be a str, not {quote(self.rule)}: give {_RULES}")
        if self.rule != CHARACTERS:
            _pattern(self.rule)
        if not all(isinstance(token, str) and token for token in self.tokens):
            raise TapeGPTError(f"tokens must be texts, none of them empty, not {quote(self.tokens)}")
        if list(self.tokens) != sorted(set(self.tokens)):
            raise TapeGPTError(f"the vocabulary {quote(self.tokens)} is not a sorted set of tokens: sort it")

    @classmethod
    def of(cls, documents: Sequence[str], rule: str = CHARACTERS, columns: Sequence[str] = ()) -> Vocabulary:
        """The tokens of documents, and of those with labels the values in these columns."""
        values = zip(*map(labels_of, documents), strict=True) if columns else ()
        labels: Any = tuple([(name, sorted(set(each))) for name, each in zip(columns, values, strict=True)])
        if rule == CHARACTERS:
            return cls(tuple(distinct("".join(documents))), rule, labels)
        pieces = map(cls((), rule).split, documents)
        return cls(tuple(sorted(set[str]().union(*pieces))), rule, labels)

    @property
    def bos(self) -> int:
        """The token before and after every document."""
        return len(self.tokens) + sum([len(values) for _, values in self.labels])

    @property
    def size(self) -> int:
        """Number of tokens, with labels and BOS."""
        return self.bos + 1

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The labels in the order of their ids: columns and values."""
        return [(column, value) for column, values in self.labels for value in values]

    @property
    def names(self) -> tuple[str, ...]:
        """Every token by its id; a label is column=value; BOS, which is also the end, is ""."""
        return (*self.tokens, *map("=".join, self.pairs), "")

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
        if self.columns != other.columns:
            here, there = (", ".join(each.columns) or "none" for each in (self, other))
            raise TapeGPTError(f"the documents have the labels {there}, the model's {here}: give the same columns")
        pairs = zip(self.labels, other.labels, strict=True)
        labels = tuple([(name, tuple(sorted({*values, *more}))) for (name, values), (_, more) in pairs])
        return Vocabulary(tuple(sorted({*self, *other})), self.rule, labels)

    def numbers_in(self, other: Vocabulary) -> list[int]:
        """The ids that its tokens, labels and BOS have in a vocabulary with at least these."""
        numbers = _numbers(other)
        return [*map(numbers.__getitem__, (*self.tokens, *self.pairs)), other.bos]

    def __repr__(self) -> str:
        labels = "".join([f", {amount(len(values), 'label')} {visible(name)}" for name, values in self.labels])
        if self.rule == CHARACTERS:
            return f"<Vocabulary of {amount(len(self), 'character')}: {quote(self.characters)}{labels}>"
        return f"<Vocabulary of {amount(len(self), 'token')}, by {quote(self.rule)}{labels}>"

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
        """The tokens of a text, its labels before it.

        Raises `TapeGPTError` for anything but a str, what is no token, and where the labels are not all known.
        """
        if not isinstance(text, str):
            raise TapeGPTError(f"{what} must be a str, not {quote(text)}")
        pieces, numbers = self.split(text), _numbers(self)
        unknown = set(pieces).difference(numbers)
        if unknown:
            raise TapeGPTError(f"{what} {quote(text)}: the model does not know {listed(unknown)}: leave that out")
        return [*map(ord, *self.heads([text])), *[numbers[piece] for piece in pieces]]

    # --- labels -----------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of labels."""
        return tuple([name for name, _ in self.labels])

    def combination(self, label: object) -> Combination:
        """What is given of the labels: a value, "column=value", several of these, or a mapping of columns to values.

        Raises `TapeGPTError` for what there is not, or is in several columns.
        """
        given = [label] if isinstance(label, str) else () if label is None else label
        if isinstance(given, Mapping):
            pairs = [self._find(value, str(column)) for column, value in given.items()]
        elif isinstance(given, Iterable):
            pairs = [self._find(value) for value in given]
        else:
            raise TapeGPTError(f"{argument('label')} must be a str, several in a list, or a dict, not {quote(label)}")
        chosen = dict(pairs)
        if len(chosen) < len(pairs):
            raise TapeGPTError(f"{argument('label')} {quote(label)}: has two values for a column: give one")
        return tuple([chosen.get(name) for name in self.columns])

    def _find(self, value: object, column: str | None = None) -> tuple[str, str]:
        if not isinstance(value, str):
            raise TapeGPTError(f"{argument('label')} must be text, not {quote(value)}")
        if not self.labels:
            raise TapeGPTError(f"label {quote(value)}: the model has no labels: leave it out")
        found = [pair for pair in self.pairs if pair[1] == value and column in (None, pair[0])]
        if not found and column is None and "=" in value:
            column, _, value = value.partition("=")
            found = [pair for pair in self.pairs if pair == (column, value)]
        if len(found) == 1:
            return found[0]
        if found:
            both = " or ".join(map("=".join, found))
            raise TapeGPTError(f"{argument('label')} {quote(value)} is in more than one column: choose {both}")
        known = dict(self.labels)
        if column is not None and column not in known:
            raise TapeGPTError(f"there is no label {quote(column)}: choose from {', '.join(known)}")
        every = ", ".join(known[column] if column else map("=".join, self.pairs))
        what = f"{column} {quote(value)} among the labels" if column else f"label {quote(value)}"
        raise TapeGPTError(f"there is no {what}: choose from {clipped(every)}")

    def label(self, texts: Sequence[str | None], columns: Columns) -> list[str | None]:
        """Texts with labels, of columns as they are called here; a single one may have any name. None is not known."""
        if len(self.labels) == len(columns) == 1:
            columns = dict(zip(self.columns, columns.values(), strict=True))
        for name, values in columns.items():
            for value in {*values} - {None}:
                self._find(value, name)
        return label(texts, [columns.get(name, [None] * len(texts)) for name in self.columns])

    def relabel(self, texts: Sequence[str | None], columns: Sequence[str], given: object = None) -> list[str | None]:
        """As `label`, of texts that have labels already, of columns that are called so; or with one label for all."""
        if given is not None:
            labels = self.combination(given)
            return [None if text is None else Labelled(text, labels) for text in texts]
        if not columns:
            return list(texts)
        every = [(None,) * len(columns) if text is None else labels_of(text) for text in texts]
        return self.label(texts, {name: [labels[place] for labels in every] for place, name in enumerate(columns)})

    def heads(self, documents: Sequence[str]) -> list[str]:
        """The labels of each document as tokens, which are the codes of characters; "" where there are none.

        Raises `TapeGPTError` for documents without them.
        """
        if not self.labels:
            return [""] * len(documents)
        combinations = list(map(labels_of, documents))
        known = {each: self.head(each) for each in set(combinations)}
        return list(map(known.__getitem__, combinations))

    def head(self, labels: Combination) -> str:
        """A value of each column as `heads` has them."""
        numbers, columns = _numbers(self), self.columns
        if len(labels) != len(columns) or None in labels:
            remedy = either("tapegpt.Labelled(text, labels)", "--label")
            raise TapeGPTError(f"the model reads a string after its {' and '.join(columns)}: give {remedy}")
        for pair in zip(columns, labels, strict=True):
            if pair not in numbers:
                self._find(pair[1], pair[0])
        return "".join([chr(numbers[pair]) for pair in zip(columns, labels, strict=True)])

    def clip(self, text: str, block_size: int) -> str:
        """The beginning of a text that a block holds, with its labels."""
        clipped = "".join(self.split(text)[: block_size - len(self.labels)])
        return Labelled(clipped, labels_of(text)) if self.labels else clipped

    # --- tokens of documents ----------------------------------------------------------------------------------------

    def encode_documents(self, documents: Sequence[str]) -> Tokens:
        """Documents between BOS, each split into its tokens, after its labels; all must be known, or `TapeGPTError`."""
        pieces = self.split_all(documents)
        if unknown := self.unknown(pieces):
            remedy = "leave that out, or take Vocabulary.of(documents)"
            raise TapeGPTError(f"documents have {listed(unknown)}, which the vocabulary does not know: {remedy}")
        tokens = self.encode_all(pieces)
        return tokens.behind(self.heads(documents)) if self.labels else tokens

    def encode_all(self, texts: Split) -> Tokens:
        """Documents between BOS, each split into its tokens, all of them known, without labels."""
        starts = array("q", accumulate(map(add, map(len, texts), repeat(1)), initial=0))
        if self.rule == CHARACTERS:
            known = _numbers(self)
            separator = next(c for c in map(chr, range(sys.maxunicode + 1)) if c not in known)  # becomes BOS
            text = _translate(separator.join(["", *texts, ""]), "".join(self.tokens), separator, self.bos)
            return Tokens(ids_of(text), starts)
        number, ids = _numbers(self).__getitem__, array("I", [self.bos])
        for pieces in texts:
            ids.extend(map(number, pieces))
            ids.append(self.bos)
        return Tokens(ids, starts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens, with the labels that they begin with.

        Raises `TapeGPTError` for numbers that are none of a string, as BOS is none.
        """
        tokens, labels, numbers, count = list[str](), list[str](), list(ids), len(self.labels)
        for number in numbers[:count]:
            if len(self) <= number < self.bos:
                labels.append(self.pairs[number - len(self)][1])
        for position, number in enumerate(numbers[len(labels) :], len(labels)):
            if not 0 <= number < len(self):
                raise TapeGPTError(f"token {position} is {number}: those of a text are 0 to {len(self) - 1}")
            tokens.append(self.tokens[number])
        text = "".join(tokens)
        return Labelled(text, tuple(labels)) if labels else text

    def texts(self, strings: Strings) -> list[str]:
        """Generated strings as text, with the labels that they begin with."""
        head = len(self.labels)
        if self.rule != CHARACTERS or max(self.tokens) >= "\x80":
            texts = ["".join([self.tokens[number] for number in string[head:]]) for string in strings]
        else:
            place = 0 if sys.byteorder == "little" else 3  # a byte a character: all at once, ten times faster
            codes = strings.ids.tobytes()[place::4].translate("".join(self.tokens).encode("ascii").ljust(256, b"?"))
            text = codes.decode("ascii")
            block = len(text) // max(len(strings), 1)
            texts = [text[i * block + head : i * block + length] for i, length in enumerate(strings.lengths)]
        if not head:
            return texts
        values, apart = [value for _, value in self.pairs], len(strings.ids) // max(len(strings), 1)
        columns = [[values[number - len(self)] for number in strings.ids[place::apart]] for place in range(head)]
        return list(map(Labelled, texts, zip(*columns, strict=True)))


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
def _numbers(vocabulary: Vocabulary) -> dict[object, int]:
    """The ids of tokens, and of labels by column and value."""
    return {token: number for number, token in enumerate((*vocabulary.tokens, *vocabulary.pairs))}


def _translate(text: str, alphabet: str, separator: str, bos: int) -> str:
    """The text with each character replaced by the one whose code is its index in the alphabet, or for one BOS."""
    table = _table(alphabet, separator, bos)
    if isinstance(table, bytes):  # a byte a character: 20 times faster
        return text.encode("latin-1").translate(table).decode("latin-1")
    return text.translate(table)


@lru_cache(8)
def _table(alphabet: str, separator: str, bos: int) -> bytes | dict[int, int]:
    table = {ord(character): position for position, character in enumerate(alphabet)} | {ord(separator): bos}
    return bytes(table.get(code, 0) for code in range(256)) if max(*table, bos) < 256 else table


# --- rules ------------------------------------------------------------------------------------------------------


def _pieces(pattern: re.Pattern[str], text: str) -> list[str]:
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

    if len(rule) > LONGEST_RULE:
        raise TapeGPTError(
            f"{argument('tokens')} {quote(rule)} has {len(rule):,} characters, {LONGEST_RULE:,} may be: use sets such "
            "as [a-z] in place of alternatives"
        )
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
