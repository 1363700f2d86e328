"""An n-gram model as a table that machine code reads: what each n-gram adds to the distribution after a context.

The model is the interpolated Kneser-Ney of `ngrams.py`, which writes the table.
"""

from __future__ import annotations

from tapegpt.machine.language import I64, Builder, Pointer, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 6  # n-grams
COLUMNS = 4
_TOKENS, _SHARES, _FIRST, _REST = range(COLUMNS)
SPARE = 2  # the last two n-grams of a table have no followers: the first of them stands for those that are not there


class Trie:
    """A model's n-grams as a table of `COLUMNS` rows of reals, a column for each n-gram; the first is the empty one.

    Its last token t, the share s(ht), its first follower, and the rest r(h): p(t | h) = s(ht) + r(h) p(t | h'). The
    followers of an n-gram are up to the next one's first, with rising tokens.
    """

    def __init__(self, k: Builder, table: Pointer, room: int) -> None:
        self._k, self._nothing = k, room - SPARE
        self._tokens, self._shares, self._first, self._rest = (table + row * room for row in range(COLUMNS))

    def begin(self, contexts: Pointer, token: Value) -> None:
        """The contexts after the first token of a document: of `LONGEST` words number n is that of n tokens."""
        contexts[0], contexts[1] = 0, self._follower(self._k.integer(0), token)
        for length in range(2, LONGEST):
            contexts[length] = self._nothing

    def advance(self, before: Pointer, after: Pointer, token: Value) -> None:
        """The contexts after a token: each is a follower of the next shorter one before it."""
        after[0] = 0
        for length in self._k.range(1, LONGEST):
            after[length] = self._follower(before[length - 1], token)

    def distribute(self, p: Pointer, columns: int, contexts: Pointer) -> None:
        """p[t] = p(t | h), from the shortest context to the longest that has followers."""
        k, kind = self._k, p.type
        width = k.width(kind)
        for c in k.range(0, columns, width):
            p.store(c, k.spread(k.convert(k.real(1 / columns), kind), width))
        length, going = k.variable(k.integer(0)), k.variable(k.integer(1))
        for _ in k.repeat_while(lambda: (length < LONGEST) & going.equals(1)):
            node = k.value(contexts[length])
            first, last = self._followers(node)
            going.set(k.select(first < last, k.integer(1), 0))
            for _ in k.when(going.equals(1)):
                for c in k.range(0, columns, width):
                    p.store(c, p.vector(c, width) * self._rest[node])
                for follower in k.range(first, last):
                    token = _within(k, self._tokens[follower], columns - 1)
                    p[token] = p[token] + self._shares[follower]
            length += 1

    def _followers(self, node: Value) -> tuple[Value, Value]:
        first, last = (_within(self._k, self._first[each], self._nothing) for each in (node, node + 1))
        return first, last

    def _follower(self, node: Value, token: Value) -> Value:
        """The follower with a token, or a node without followers where there is none (binary search)."""
        k = self._k
        first, last = self._followers(node)
        low, high = k.variable(first), k.variable(last)
        wanted = k.convert(token, self._tokens.type)
        for _ in k.repeat_while(lambda: low < high):
            middle = (low + high) >> 1
            is_before = self._tokens[middle] < wanted
            low.set(k.select(is_before, middle + 1, low))
            high.set(k.select(is_before, high, middle))
        is_there = (low < last) & self._tokens[low].equals(wanted)
        return k.select(is_there, low, self._nothing)

    @staticmethod
    def distribution(table: Sequence[Sequence[float]], context: Sequence[int], vocab_size: int) -> list[float]:
        """What `distribute` computes, in plain Python."""
        p, first = [1 / vocab_size] * vocab_size, [int(number) for number in table[_FIRST]]
        for length in range(min(len(context), LONGEST - 1) + 1):
            node: int | None = 0
            for token in context[len(context) - length :]:
                followers = range(0) if node is None else range(first[node], first[node + 1])
                node = next((each for each in followers if table[_TOKENS][each] == token), None)
            if node is None or first[node] == first[node + 1]:
                break
            p = [each * table[_REST][node] for each in p]
            for follower in range(first[node], first[node + 1]):
                p[int(table[_TOKENS][follower])] += table[_SHARES][follower]
        return p


def _within(k: Builder, number: Value, most: int) -> Value:
    """A whole number from 0 to `most`, whatever a file says."""
    return k.minimum(k.maximum(k.convert(number, I64), 0), most)
