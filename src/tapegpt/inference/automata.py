"""Which strings meet a constraint, as deterministic finite automata over characters, then over a model's tokens.

Dead ends are left out: from every state but 0 some string is accepted. Characters that no state tells apart share a
class, so that a table is small even where the vocabulary is not.
Source: Aho and Corasick, "Efficient string matching", 1975; Knuth, Morris and Pratt, 1977.
Not here: reading regular expressions (`regex.py`), drawing strings (`sampling.py`).
"""

from __future__ import annotations

from array import array
from operator import itemgetter

from tapegpt.errors import TapeGPTError
from tapegpt.machine.language import F32, F64, Builder, F32s, F64s, Int, U32s, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.signature import Structure
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tapegpt.machine.program import Argument
    from tapegpt.machine.target import Target

MAX_STATES = 200_000
MAX_CELLS = 4_000_000  # of a table, 4 bytes each; some seconds
MAX_LIFTED = 16_000_000  # the same by tokens
MAX_AHEAD = 1 << 24  # numbers of what `ahead` gives
FORBIDDEN = -3e38  # the log of what cannot be
TINY = 1e-300  # what may be accepted is never quite improbable, or numbers would end

_DEAD, _START = 0, 1

Trie = dict[int, "Trie"]  # by class; an entry 0 marks the end of a word


class Automaton(Record):
    """A deterministic automaton over an alphabet of characters or tokens. State 0 is dead: nothing leads out of it."""

    alphabet: Sequence[str]  # distinct
    classes: array[int]  # "I": the class of each letter of it
    count: int  # classes
    table: array[int]  # "I" (states, count): the next state
    start: int  # 0 where no string is accepted
    accepting: bytearray  # (states): 1 where a string may end

    @property
    def states(self) -> int:
        """How many there are, with the dead one."""
        return len(self.accepting)

    def accepts(self, text: Iterable[str]) -> bool:
        """Whether the whole text, or row of tokens, is accepted; none with a letter outside the alphabet is."""
        state = self.start
        for letter in text:
            if letter not in self.alphabet:
                return False
            state = self.table[state * self.count + self.classes[self.alphabet.index(letter)]]
        return bool(self.accepting[state])

    def over(self, tokens: Sequence[str]) -> Automaton:
        """The same over tokens: from each state a token leads where its characters lead; raises where it is too large.

        All characters of the tokens are in its alphabet. Tokens whose characters lead alike, as most of a large
        vocabulary do, are one column of the table.
        """
        if list(self.alphabet) == list(tokens):
            return self
        if not self.start:
            return _nothing(tokens)
        kinds = dict(zip(self.alphabet, self.classes, strict=True))
        leads = [self.table[kind :: self.count].tolist() for kind in range(self.count)]
        columns = [tuple(range(self.states))]  # where each state is led; by nothing, to itself
        numbers, after = {columns[0]: 0}, dict[tuple[int, int], int]()
        classes = array("I")
        for token in tokens:
            column = 0
            for character in token:
                step = column, kinds[character]
                if step not in after:
                    led = itemgetter(*columns[column])(leads[step[1]])
                    after[step] = numbers.setdefault(led, len(columns))
                    if after[step] == len(columns):
                        columns.append(led)
                        if self.states * len(columns) > MAX_LIFTED:
                            raise TapeGPTError(
                                f"the constraints need more than {MAX_LIFTED:,} transitions by tokens: simplify them, "
                                "or avoid fewer words"
                            )
                column = after[step]
            classes.append(column)
        used = {column: number for number, column in enumerate(dict.fromkeys(classes))}  # others lead into a token
        table = array("I", bytes(4 * self.states * len(used)))
        for column, number in used.items():
            table[number :: len(used)] = array("I", columns[column])
        return _trim(tokens, array("I", map(used.__getitem__, classes)), len(used), table, self.accepting)

    def behind(self, columns: Sequence[Sequence[bool]]) -> Automaton:
        """The same after a letter of each of several more alphabets, in their order: of one that is allowed in it.

        What is more is numbered behind the letters of this alphabet.
        """
        if not columns:
            return self
        alphabet = [*self.alphabet, *("" for each in columns for _ in each)]
        if not self.start:
            return _nothing(alphabet)
        head, count = len(columns), self.count + len(columns) + 1  # a class for each column, one for what is refused
        classes, table = self.classes[:], array("I", bytes(4 * count * (head + 1)))
        for place, allowed in enumerate(columns):
            classes.extend([self.count + place if each else count - 1 for each in allowed])
            after = self.start + head if place == head - 1 else place + 2
            table[(place + 1) * count + self.count + place] = after
        for state in range(1, self.states):
            row = self.table[state * self.count : (state + 1) * self.count]
            table.extend([target and target + head for target in row])
            table.extend([_DEAD] * (head + 1))
        return _trim(alphabet, classes, count, table, bytearray(head + 1) + self.accepting[1:])

    def __and__(self, other: Automaton) -> Automaton:
        """What accepts the strings that both accept; raises `TapeGPTError` where it is too large."""
        assert self.alphabet == other.alphabet
        if not (self.start and other.start):
            return _nothing(self.alphabet)
        pairs: dict[tuple[int, int], int] = {}
        both = zip(self.classes, other.classes, strict=True)
        classes = array("I", [pairs.setdefault(pair, len(pairs)) for pair in both])
        first = self.start * other.states + other.start  # a pair of states as one number
        numbers = {_DEAD: _DEAD, first: _START}
        table, ahead = array("I", bytes(4 * len(pairs))), [first]
        for key in ahead:
            left, right = divmod(key, other.states)
            lefts = self.table[left * self.count : (left + 1) * self.count]
            rights = other.table[right * other.count : (right + 1) * other.count]
            for a, b in pairs:
                target = lefts[a] * other.states + rights[b] if lefts[a] and rights[b] else _DEAD
                if target not in numbers:
                    numbers[target] = len(numbers)
                    ahead.append(target)
                table.append(numbers[target])
            _check_size(len(numbers), len(pairs), "the constraints together need", "simplify one of them")
        accepts = [self.accepting[key // other.states] & other.accepting[key % other.states] for key in ahead]
        return _trim(self.alphabet, classes, len(pairs), table, bytearray([0, *accepts]))

    def ahead(
        self, min_length: int, max_length: int, chances: array[float] | None = None, target: Target | None = None
    ) -> array[float]:
        """How likely a string that has come to a state is to be accepted: logs, "f", (max_length + 1, states).

        Accepted it is with min_length to max_length characters; where it cannot be any more, the log is `FORBIDDEN`.
        Number length * (count + 1) + c of the chances is that of a character of class c after so many, the last of each
        length that of the end; those of the last length hold for all longer ones. Without chances all logs are 0.
        Raises `TapeGPTError` where there are too many.
        """
        from tapegpt.machine.program import Program

        size = (max_length + 1) * self.states
        if size > MAX_AHEAD:
            raise TapeGPTError(
                f"the constraints need {self.states:,} states, too many for strings of up to {max_length:,} "
                "characters: simplify them or give a smaller max_length"
            )
        result, sums = array("f", bytes(4 * size)), array("d", bytes(16 * self.states))
        is_flat = chances is None
        if chances is None:
            chances = array("d", [1.0]) * (self.count + 1)
        accepting = array("I", list(self.accepting))
        given: dict[str, Argument] = {
            "table": address_of(self.table),
            "accepting": address_of(accepting),
            "chances": address_of(chances),
            "sums": address_of(sums),
            "logs": address_of(result),
            "states": self.states,
            "count": self.count,
            "min_length": min_length,
            "max_length": max_length,
            "last": len(chances) // (self.count + 1) - 1,
            "is_flat": is_flat,
        }
        Program({look_ahead.name: (look_ahead, {})}, target).run("look_ahead", given)
        return result


class Prospects(Structure):
    """What `Automaton.ahead` finds, and from what; of its own automaton, with accepting as words."""

    table: U32s  # (states, count)
    accepting: U32s  # (states)
    chances: F64s  # (last + 1, count + 1)
    sums: F64s  # (2, states), zero before
    logs: F32s  # (max_length + 1, states)
    states: Int
    count: Int
    min_length: Int
    max_length: Int
    last: Int
    is_flat: Int  # whether the logs of what is possible are all 0


@kernel
def look_ahead(k: Builder, given: Prospects) -> None:
    """`Automaton.ahead`, from the longest strings back."""
    states, count, logs = given.states, given.count, given.logs
    for remaining in k.range(given.max_length + 1):
        length = given.max_length - remaining
        chance = given.chances + k.minimum(length, given.last) * (count + 1)
        now, following = given.sums + (length & 1) * states, given.sums + ((length + 1) & 1) * states
        logs[length * states] = FORBIDDEN
        for state in k.range(1, states):
            ends = k.convert(given.accepting[state], F64) * chance[count]
            total = k.variable(k.select(length >= given.min_length, ends, 0.0))
            for choice in k.range(k.select(remaining > 0, count, 0)):
                total += chance[choice] * following[given.table[state * count + choice]]
            total.set(k.select(total > 0.0, k.maximum(total, TINY), 0.0))
            now[state] = total
            log = k.select(given.is_flat.equals(1), 0.0, k.log(k.maximum(total, TINY)))
            logs[length * states + state] = k.convert(k.select(total > 0.0, log, FORBIDDEN), F32)


def anything(vocabulary: str) -> Automaton:
    """What accepts every string."""
    classes = array("I", [0] * len(vocabulary))
    return _trim(vocabulary, classes, 1, array("I", [_DEAD, _START]), bytearray([0, 1]))


def _nothing(vocabulary: Sequence[str]) -> Automaton:
    classes = array("I", [0] * len(vocabulary))
    return _trim(vocabulary, classes, 1, array("I", [_DEAD, _DEAD]), bytearray([0, 0]))


def matching(pattern: str, vocabulary: str) -> Automaton:
    """What accepts the strings that a regular expression of Python's syntax matches, as `re.fullmatch` does.

    Raises `TapeGPTError` for a pattern that is not valid, has what automata lack, or is too complex.
    """
    from tapegpt.inference.regex import determinize

    return _trim(vocabulary, *determinize(pattern, vocabulary))


def beginning(prefix: str, vocabulary: str) -> Automaton:
    """What accepts the strings that begin with a prefix; raises `TapeGPTError` where it is too long."""
    if not set(prefix) <= set(vocabulary):
        return _nothing(vocabulary)
    classes, count, kinds = _letters(prefix, vocabulary)
    table = array("I", [_DEAD] * count * (len(prefix) + 1) + [len(prefix) + 1] * count)
    for state, kind in enumerate(kinds, start=_START):
        table[state * count + kind] = state + 1
    return _trim(vocabulary, classes, count, table, _last(len(prefix)))


def ending(suffix: str, vocabulary: str) -> Automaton:
    """What accepts the strings that end with a suffix; raises `TapeGPTError` where it is too long."""
    if not set(suffix) <= set(vocabulary):
        return _nothing(vocabulary)
    classes, count, kinds = _letters(suffix, vocabulary)
    trie: Trie = {}
    for kind in reversed(kinds):
        trie = {kind: trie}
    return _trim(vocabulary, classes, count, _search(trie, count), _last(len(suffix)))


def _letters(text: str, vocabulary: str) -> tuple[array[int], int, list[int]]:
    """Classes of the vocabulary, 0 for what is not in the text; their count; the class of each position of the text."""
    numbers: dict[str, int] = {}
    kinds = [numbers.setdefault(character, len(numbers) + 1) for character in text]
    count = len(numbers) + 1
    _check_size(len(text), count, "the prefix or suffix needs", "give a shorter one")
    return array("I", [numbers.get(character, 0) for character in vocabulary]), count, kinds


def _last(length: int) -> bytearray:
    return bytearray(length + 1) + b"\1"


def avoiding(words: Iterable[str], vocabulary: str) -> Automaton:
    """What accepts the strings in which no word occurs, letters in either case counting as the same.

    Words with characters that cannot occur are passed over. Raises `TapeGPTError` for an empty word, or for too many.
    """
    symbols = [character.casefold() for character in vocabulary]
    possible = set(symbols)
    numbers: dict[str, int] = {}  # the class of each symbol; 0 for those in no word
    lines: list[list[int]] = []
    for word in words:
        if not word:
            raise TapeGPTError("the words to avoid have an empty one, which occurs in every string: leave it out")
        folded = [character.casefold() for character in word]
        if possible.issuperset(folded):
            lines.append([numbers.setdefault(symbol, len(numbers) + 1) for symbol in folded])
    classes, count = array("I", [numbers.get(symbol, 0) for symbol in symbols]), len(numbers) + 1
    table = _search(_trie(lines, count), count)
    return _trim(vocabulary, classes, count, table, bytearray(1) + b"\1" * (len(table) // count - 1))


def _trie(words: list[list[int]], count: int) -> Trie:
    trie: Trie = {}
    size = 0
    for word in words:
        node = trie
        for each in word:
            if each not in node:
                node[each] = {}
                size += 1
            node = node[each]
        node[0] = {}
        _check_size(size, count, "the words to avoid need", "give fewer")
    return trie


def _search(trie: Trie, count: int) -> array[int]:
    """The table (states, count) of an automaton that knows what of the trie it has just read; words' ends are dead."""
    table = array("I", [_DEAD] * count + [_START] * count)
    ahead = [(trie, _START)]  # a node, and the state of the longest proper end of its text that is in the trie
    for state, (node, shorter) in enumerate(ahead, start=_START):
        if state > _START:
            table += table[shorter * count : (shorter + 1) * count]
        for each, child in node.items():
            cell = state * count + each
            if 0 in child or table[cell] == _DEAD:
                table[cell] = _DEAD
            else:
                ahead.append((child, table[cell]))
                table[cell] = len(ahead)
    return table


def _check_size(states: int, count: int, what: str, advice: str) -> None:
    if states > MAX_STATES or states * count > MAX_CELLS:
        raise TapeGPTError(f"{what} more than {MAX_STATES:,} states or {MAX_CELLS:,} transitions: {advice}")


def _trim(
    alphabet: Sequence[str], classes: array[int], count: int, table: array[int], accepting: bytearray
) -> Automaton:
    """The automaton that starts in state 1, without dead ends, and with as few classes as can be."""
    alive = _alive(count, table, accepting)
    if not all(alive[_START:]):
        kept = [state for state, is_alive in enumerate(alive) if is_alive]
        numbers = [_DEAD] * len(accepting)
        for number, state in enumerate(kept, start=_START):
            numbers[state] = number
        rows = [table[state * count : (state + 1) * count] for state in (_DEAD, *kept)]
        table = array("I", [numbers[target] for row in rows for target in row])
        accepting = bytearray([accepting[state] for state in (_DEAD, *kept)])
    classes, count, table = _merge_classes(classes, count, table)
    return Automaton(alphabet, classes, count, table, alive[_START], accepting)


def _alive(count: int, table: array[int], accepting: bytearray) -> bytearray:
    """1 for the states from which a string can be accepted."""
    before: list[list[int]] = [[] for _ in accepting]
    for state, accepts in enumerate(accepting):
        if not accepts:
            for target in set(table[state * count : (state + 1) * count]):
                before[target].append(state)
    alive = accepting[:]
    ahead = [state for state, accepts in enumerate(accepting) if accepts]
    while ahead:
        for state in before[ahead.pop()]:
            if not alive[state]:
                alive[state] = 1
                ahead.append(state)
    return alive


def _merge_classes(classes: array[int], count: int, table: array[int]) -> tuple[array[int], int, array[int]]:
    """Classes, their count and the table, without classes that no character has or no state tells apart."""
    columns = [table[each::count].tobytes() for each in range(count)]
    numbers: dict[bytes, int] = {}
    merged = array("I", [numbers.setdefault(columns[each], len(numbers)) for each in classes])
    result = array("I", b"".join(numbers))
    for column, number in numbers.items():
        result[number :: len(numbers)] = array("I", column)
    return merged, len(numbers), result
