"""Regular expressions as deterministic automata, which accept the strings that `re.fullmatch` does and no others.

`re`'s parser reads the pattern. Its tree becomes a nondeterministic automaton, built from its end (Thompson, 1968); the
sets of states that this can be in become the states of a deterministic one (Rabin and Scott, 1959). Our own, since no
library that was found reads Python's flags and anchors and keeps a hostile pattern within bounds.
Not here: leaving out dead ends, products (`automata.py`); what no finite automaton knows, such as backreferences.
"""

from __future__ import annotations

from array import array

from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NoReturn

    Table = tuple[array[int], int, array[int], bytearray]

MAX_PARTS = 10_000  # states of the nondeterministic automaton
MAX_STATES = 20_000  # of the deterministic one
MAX_STEPS = 3_000_000  # about a second

_START, _FINAL = 0, 1  # of the nondeterministic automaton: a mark of the beginning, which leads nowhere; and the end
_EMPTY = -1  # what a state reads that only branches or is an anchor
_CATEGORIES = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w", "NOT_DIGIT": r"\D", "NOT_SPACE": r"\S", "NOT_WORD": r"\W"}
_ANCHORS = {"AT_BEGINNING": "^", "AT_BEGINNING_STRING": "^", "AT_END": "$", "AT_END_STRING": r"\Z"}
_REFUSED = {
    "ASSERT": "lookaround",
    "ASSERT_NOT": "lookaround",
    "FAILURE": "lookaround",
    "AT_BOUNDARY": r"\b",
    "AT_NON_BOUNDARY": r"\B",
    "ATOMIC_GROUP": "an atomic group",
    "GROUPREF": "a backreference",
    "GROUPREF_EXISTS": "a condition on a group",
    "MULTILINE": "^ or $ of lines (flag m)",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}


def determinize(pattern: str, vocabulary: str) -> Table:
    """Classes (characters), their count, the table (states, count) of next states, and which states accept.

    State 0 is dead, 1 is where strings start. Raises `TapeGPTError` for a pattern that is not valid, has what automata
    lack, or is too complex.
    """
    return _Deterministic(_Nondeterministic(pattern, vocabulary)).table()


class _Nondeterministic:
    """The automaton of a pattern: each state reads a set of characters, is an anchor, or branches without reading."""

    def __init__(self, pattern: str, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        self.sets: dict[frozenset[str], int] = {}  # numbered
        self.reads: list[int] = []  # the set of each state
        self.targets: list[list[int]] = []  # of each state
        self.anchors = dict.fromkeys(_ANCHORS.values(), 0)  # the states that are one, as bits
        self._pattern, self._steps = pattern, 0
        self._known: dict[tuple[str, int], int] = {}  # set by its text and flags
        for _ in (_START, _FINAL):
            self._state([])
        try:
            tree = self._parse()
            self.first = self._sequence(tree, tree.state.flags, _FINAL)
        except RecursionError:
            self._refuse("is nested too deeply: use fewer groups within groups")

    def _parse(self) -> Any:
        import re
        import warnings

        parser: Any = re._parser  # type: ignore[attr-defined]  # noqa: SLF001  # there is no public way to the tree
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of sets that a later Python may read otherwise
                return parser.parse(self._pattern)
        except (re.error, OverflowError, ValueError) as error:
            self._refuse(f"is not a regular expression: {error}")

    def spend(self, steps: int) -> None:
        """Count the work; raises `TapeGPTError` where it is too much."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            self._refuse(f"takes more than {MAX_STEPS:,} steps to prepare: simplify it, for instance its repetitions")

    def refuse_states(self, number: int) -> NoReturn:
        self._refuse(f"needs more than {number:,} states: simplify it, for instance its repetitions")

    def _refuse(self, reason: str) -> NoReturn:
        raise TapeGPTError(f"pattern {quote(self._pattern)} {reason}") from None

    def _state(self, targets: list[int], reads: int = _EMPTY) -> int:
        if len(self.targets) == MAX_PARTS:
            self.refuse_states(MAX_PARTS)
        self.targets.append(targets)
        self.reads.append(reads)
        return len(self.targets) - 1

    def _sequence(self, items: Any, flags: int, after: int) -> int:
        for operator, value in reversed(items):
            self.spend(4)  # a part takes about as long as four states of a set
            after = self._item(str(operator), value, flags, after)
        return after

    def _item(self, name: str, value: Any, flags: int, after: int) -> int:
        if name in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            return self._state([after], self._set(name, value, flags))
        if name == "BRANCH":
            return self._state([self._sequence(items, flags, after) for items in value[1]])
        if name == "SUBPATTERN":
            _, added, removed, items = value
            return self._sequence(items, _combine_flags(flags, added, removed), after)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, items = value
            return self._repeat(least, most, items, flags, after)
        if name == "AT":
            return self._anchor(str(value), flags, after)
        return self._refuse_part(name)

    def _refuse_part(self, name: str) -> NoReturn:
        self._refuse(f"has {_REFUSED.get(name, name)}, which cannot be used here: describe the whole string without it")

    def _repeat(self, least: int, most: Any, items: Any, flags: int, after: int) -> int:
        state = after
        if str(most) == "MAXREPEAT":
            state = self._state([after])
            body = self._sequence(items, flags, state)
            self.targets[state].append(body)
            if least:
                state, least = body, least - 1
        else:
            for _ in range(most - least):  # x{0,3} is (x(x(x)?)?)?, where few states are possible at once
                body = self._sequence(items, flags, state)
                if body == state:  # nothing, however often
                    break
                state = self._state([body, after])
        for _ in range(least):
            body = self._sequence(items, flags, state)
            if body == state:
                break
            state = body
        return state

    def _anchor(self, name: str, flags: int, after: int) -> int:
        import re

        if name not in _ANCHORS:
            self._refuse_part(name)
        if flags & re.MULTILINE and name in ("AT_BEGINNING", "AT_END"):
            self._refuse_part("MULTILINE")
        state = self._state([after])
        self.anchors[_ANCHORS[name]] |= 1 << state
        return state

    def _set(self, name: str, value: Any, flags: int) -> int:
        """The number of the set of the vocabulary's characters that this reads."""
        import re

        flags &= re.IGNORECASE | re.ASCII | re.DOTALL
        text = _text(name, value)
        if (text, flags) not in self._known:
            if name == "LITERAL" and not flags & re.IGNORECASE:
                characters = frozenset(chr(value)).intersection(self.vocabulary)
            else:
                self.spend(len(self.vocabulary) + (_width(value) if name == "IN" and flags & re.IGNORECASE else 0))
                characters = frozenset(re.compile(text, flags).findall(self.vocabulary))  # `re` itself knows best
            self._known[text, flags] = self.number(characters)
        return self._known[text, flags]

    def number(self, characters: frozenset[str]) -> int:
        return self.sets.setdefault(characters, len(self.sets))


def _combine_flags(flags: int, added: int, removed: int) -> int:
    """Flags in a group that adds and removes some; of ASCII and UNICODE one holds."""
    import re

    kinds = re.ASCII | re.UNICODE
    return ((flags & ~kinds if added & kinds else flags) | added) & ~removed


def _text(name: str, value: Any) -> str:
    """A set of the tree as a pattern again."""
    if name == "ANY":
        return "."
    if name != "IN":
        return f"[{'^' * (name == 'NOT_LITERAL')}{_escape(value)}]"
    return f"[{''.join([_item_text(str(operator), item) for operator, item in value])}]"


def _item_text(name: str, value: Any) -> str:
    if name == "NEGATE":
        return "^"
    if name == "CATEGORY":
        return _CATEGORIES[str(value).removeprefix("CATEGORY_")]
    return "-".join([_escape(code) for code in value]) if name == "RANGE" else _escape(value)


def _escape(code: int) -> str:
    return f"\\U{code:08x}"


def _width(items: Any) -> int:
    """What `re` does to ignore the case of ranges: it goes through the first 65,536 characters one by one."""
    return sum([min(value[1], 0xFFFF) - min(value[0], 0xFFFF) for name, value in items if str(name) == "RANGE"])


class _Deterministic:
    """The automaton whose states are sets of another's, as bits."""

    def __init__(self, parts: _Nondeterministic) -> None:
        self._parts = parts
        anchors = parts.anchors
        self._ends = anchors["$"] | anchors[r"\Z"]
        if anchors["$"]:
            parts.number(frozenset("\n").intersection(parts.vocabulary))  # a class of its own
        self._count, self._classes, self._classes_of = _classes(parts.vocabulary, parts.sets)
        newline = parts.vocabulary.find("\n")
        self._newline = self._classes[newline] if newline >= 0 else -1
        self._closures = _closures(parts)

    def table(self) -> Table:
        first = self._closures[self._parts.first] | 1 << _START
        numbers = {0: 0, self._through(first, 0): 1}
        ahead = [*numbers]
        table, accepting = array("I"), bytearray()
        for states in ahead:
            for target in self._row(states):
                if target not in numbers:
                    numbers[target] = len(numbers)
                    ahead.append(target)
                table.append(numbers[target])
            accepting.append(self._accepts(states))
            if len(numbers) > MAX_STATES:
                self._parts.refuse_states(MAX_STATES)
        return self._classes, self._count, table, accepting

    def _row(self, states: int) -> list[int]:
        row = self._move(states)
        if states & self._parts.anchors["$"] and self._newline >= 0:  # it also holds before a newline that is the last
            last = self._move(self._through(states, self._parts.anchors["$"]))[self._newline]
            row[self._newline] |= self._accepts(last) << _FINAL
        return row

    def _move(self, states: int) -> list[int]:
        reached: dict[int, int] = {}  # by the set that is read
        for state in _bits(states):
            reads = self._parts.reads[state]
            if reads != _EMPTY:
                reached[reads] = reached.get(reads, 0) | self._closures[self._parts.targets[state][0]]
        row = [0] * self._count
        for reads, targets in reached.items():
            for each in self._classes_of[reads]:
                row[each] |= targets
        self._parts.spend(states.bit_count() + self._count + sum([len(self._classes_of[reads]) for reads in reached]))
        return row

    def _accepts(self, states: int) -> int:
        """Whether a string may end in one of these states: 0 or 1."""
        return self._through(states, self._ends) >> _FINAL & 1

    def _through(self, states: int, anchors: int) -> int:
        """The states and those behind these anchors; behind `^` too at the beginning."""
        if states & 1 << _START:
            anchors |= self._parts.anchors["^"]
        passed = 0
        while here := states & anchors & ~passed:
            passed |= here
            for state in _bits(here):
                states |= self._closures[self._parts.targets[state][0]]
        return states


def _classes(vocabulary: str, sets: Iterable[frozenset[str]]) -> tuple[int, array[int], list[list[int]]]:
    """Count of the classes of characters that are in the same sets; class of each character; classes in each set."""
    containing: dict[str, list[int]] = {character: [] for character in vocabulary}
    for number, characters in enumerate(sets):
        for character in characters:
            containing[character].append(number)
    numbers: dict[tuple[int, ...], int] = {}
    classes = array("I", [numbers.setdefault(tuple(each), len(numbers)) for each in containing.values()])
    classes_of: list[list[int]] = [[] for _ in sets]
    for members, each in numbers.items():
        for number in members:
            classes_of[number].append(each)
    return len(numbers), classes, classes_of


def _closures(parts: _Nondeterministic) -> list[int]:
    """What each state leads to without reading a character or passing an anchor, as bits; branches left out."""
    anchors = parts.anchors["^"] | parts.anchors["$"] | parts.anchors[r"\Z"]
    states = range(len(parts.targets))
    branching = [s for s in states if s > _FINAL and parts.reads[s] == _EMPTY and not anchors >> s & 1]
    closures = [1 << state for state in states]
    for state in branching:
        closures[state] = 0
    changed = True
    while changed:  # for loops within loops more than once; to and fro, so that it is not once for each
        changed = False
        for state in branching:
            former = closures[state]
            for target in parts.targets[state]:
                closures[state] |= closures[target]
            changed |= closures[state] != former
        parts.spend(len(branching))
        branching.reverse()
    return closures


def _bits(mask: int) -> Iterator[int]:
    """The indices of the bits that are set, lowest first."""
    digits = bin(mask)[::-1]
    index = digits.find("1")
    while index >= 0:
        yield index
        index = digits.find("1", index + 1)
