"""Which documents a string is like: edit distances to all of them (insertions, deletions, replacements).

A distance is computed column by column of the table of distances, 64 rows a word and a bit a row (Myers, 1999; for
longer strings Hyyrö, 2003).
"""

from __future__ import annotations

import sys
from array import array
from itertools import accumulate

from tapegpt.machine.language import Builder, I64s, Int, U32s, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ROWS = 64  # of a word


class Neighbour(Record):
    """The document nearest to a string; of several the first."""

    document: str
    distance: int


class Neighbours:
    """Documents, at least one, that strings are compared with: about 1 ms a string for 30,000 short ones."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._distinct = dict.fromkeys(documents)
        self._sorted: _Sorted | None = None

    def __len__(self) -> int:
        """Distinct documents."""
        return len(self._distinct)

    def within(self, text: str, distance: int) -> bool:
        """Whether a document is at most so many edits away."""
        return text in self._distinct or (distance > 0 and self._search(text, distance) is not None)

    def farthest(self, length: int) -> int:
        """No string of at most so many characters is more edits than this away from all documents."""
        return max(length, min(map(len, self._distinct)))

    def nearest(self, text: str) -> Neighbour:
        """The nearest document, itself where it is one; there must be one."""
        found = Neighbour(text, 0) if text in self._distinct else self._search(text, sys.maxsize)
        assert found
        return found

    def _search(self, text: str, most: int) -> Neighbour | None:
        """The nearest one of those that are at most so many edits away."""
        self._sorted = self._sorted or _Sorted(list(self._distinct))  # whole at once, for other threads
        return self._sorted.search(text, most)


class _Sorted:
    """Documents by length: those of one length follow one another."""

    def __init__(self, documents: list[str]) -> None:
        self._documents = documents
        self._numbers = array("I", sorted(range(len(documents)), key=lambda number: len(documents[number])))
        text = "".join([documents[number] for number in self._numbers])
        self._ids = {character: i for i, character in enumerate(dict.fromkeys(text))}
        order = "le" if sys.byteorder == "little" else "be"
        numbered = text.translate({ord(character): i for character, i in self._ids.items()})
        self._text = array("I", numbered.encode(f"utf-32-{order}", "surrogatepass"))
        lengths = [len(documents[number]) for number in self._numbers]
        self._starts = array("q", accumulate(lengths, initial=0))
        self._first = {length: lengths.index(length) for length in dict.fromkeys(lengths)}
        self._last = {length: place for place, length in enumerate(lengths, 1)}
        self._program = Program({"nearest": (nearest, {})})

    def search(self, text: str, most: int) -> Neighbour | None:
        """The nearest document that is at most so many edits away."""
        words = -(-len(text) // _ROWS)
        masks, column = array("Q", bytes(8 * len(self._ids) * words)), array("q", bytes(16 * words))
        for row, character in enumerate(text):
            if (number := self._ids.get(character)) is not None:
                masks[number * words + row // _ROWS] |= 1 << row % _ROWS
        found = array("q", [most, len(self._documents)])
        fixed = [address_of(each) for each in (self._text, self._starts, self._numbers, masks, column, found)]
        for length in sorted(self._first, key=lambda length: abs(length - len(text))):
            if abs(length - len(text)) > found[0]:
                break
            self._program.run("nearest", *fixed, len(text), self._first[length], self._last[length])
        distance, number = found
        return Neighbour(self._documents[number], distance) if number < len(self._documents) else None


@kernel
def nearest(
    k: Builder,
    ids: U32s,
    starts: I64s,
    numbers: U32s,
    masks: I64s,
    column: I64s,
    found: I64s,
    length: Int,
    first: Int,
    last: Int,
) -> None:
    """Find the string of these, from first to last, with the fewest edits to a text of so many rows.

    masks (ids, words): the rows of each character; column (2, words): where distances rise and fall from row to row.
    found (2): the fewest edits so far, and the string's number, which is replaced by a lower one of as many edits.
    """
    words = (length + (_ROWS - 1)) // _ROWS
    end = words - 1
    for string in k.range(first, last):
        for word in k.range(words):
            column[word] = k.integer(-1)
            column[words + word] = k.integer(0)
        distance = k.variable(length)
        for place in k.range(starts[string], starts[string + 1]):
            rows = masks + ids[place] * words
            step = k.variable(k.integer(1))  # from the former column to this one, above the first row of a word
            for word in k.range(words):
                rises, falls, equal = column[word], column[words + word], rows[word]
                above, below = k.select(step > 0, k.integer(1), 0), k.select(step < 0, k.integer(1), 0)
                settled = equal | falls
                equal = equal | below
                level = ((equal & rises) + rises ^ rises) | equal  # rows that keep the diagonal's distance
                grows, shrinks = falls | ((level | rises) ^ -1), level & rises
                bit = k.select(word.equals(end), (length - 1) % _ROWS, _ROWS - 1)
                step.set(((grows >> bit) & 1) - ((shrinks >> bit) & 1))
                grows, shrinks = (grows << 1) | above, (shrinks << 1) | below
                column[word] = shrinks | ((settled | grows) ^ -1)
                column[words + word] = grows & settled
            distance += step
        number = numbers[string]
        is_nearer = (distance < found[0]) | (distance.equals(found[0]) & (number < found[1]))
        for _ in k.when(is_nearer):
            found[0] = distance
            found[1] = number
