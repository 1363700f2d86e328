"""N-gram models: what a held-out loss is to be compared with, and the tables of those that a model is mixed with.

The models are interpolated Kneser-Ney with three discounts an order, over the characters and the BOS that ends a
document. With h a context, h' the same without its first token, and sums over all tokens s:

    p(t | h) = (a(ht) - D(a(ht))) / A(h) + M(h) / A(h) * p(t | h'),  A(h) = sum a(hs),  M(h) = sum D(a(hs))

Where A(h) is zero, p(t | h) = p(t | h'); below the empty context p is 1 / V. a counts the n-grams of the model's order,
and the shorter ones that begin with the BOS before a document; of other shorter ones it counts the distinct tokens
before them. D(0) = 0, D(1) = 1 - 2 Y n2/n1, D(2) = 2 - 3 Y n3/n2, D(3 and more) = 3 - 4 Y n4/n3, Y = n1 / (n1 + 2 n2),
where nj is how many n-grams of this length have a = j; D(j) = j/2 where that gives nothing above zero.

Nats of a 5-gram on a tenth held out of the names that microgpt.py is measured on: 2.018; with one discount an order
2.045, with the weights of Witten and Bell 2.081, with the same counts at every order 2.117.

An n-gram is a node: its parent is the n-gram without its last token, its suffix the one without its first. One that was
seen before has nothing to tell the shorter ones, so that most tokens cost one look into the hash table.
Source: Kneser and Ney, 1995; Chen and Goodman, "An empirical study of smoothing techniques", 1999. Not here: sampling.
"""

from __future__ import annotations

from array import array
from math import log

from tapegpt.data.tokens import Tokens
from tapegpt.data.trie import COLUMNS, LONGEST, SPARE
from tapegpt.errors import TapeGPTError, argument
from tapegpt.machine.language import F64, I64, Builder, F64s, I64s, Int, U32s, Value, Variable, kernel
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import Structure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.data.corpus import Corpus
    from tapegpt.machine.program import Argument
    from tapegpt.machine.target import Target

ORDERS = {"unigram": 1, "bigram": 2, "5-gram": 5}
JUDGED, SEED = 0.1, 42  # the documents that they are judged on, where no training holds some out

# A node's 32 bytes: the key as an i64, parent << 32 | token; four u32; the discounts of its followers as an f64.
_WORDS, _LONGS = 8, 4
_SUFFIX, _COUNT, _TOTAL, _DEPTH = 2, 3, 4, 5
_MASS = 3
_ROOT, _BOS = 0, 1  # the empty n-gram, and the one of BOS alone; no slot holds the root: 0 is an empty one

_FIRST_BITS, _LAST_BITS = 15, 24  # of a slot's number: 2**23 n-grams are kept at most, 336 MB
_SPREAD = 0x9E3779B97F4A7C15 - (1 << 64)  # 2**64 over the golden ratio (Knuth, volume 3, 6.4)
_COUNTS = 6  # tallied apart: n-grams of count 0 to 4, and more


def baselines(training: Corpus | Tokens, validation: Corpus | Tokens, vocab_size: int) -> dict[str, float]:
    """Losses on the validation documents, in nats per predicted token: "uniform", "unigram", "bigram", "5-gram".

    The n-gram models have counted the training documents; from a corpus of more than 8 million n-grams the beginning.
    BOS is the last token of the vocabulary. Contexts begin with the BOS before a document, and no window cuts them.
    Raises `TapeGPTError` where there is no document to validate on.
    """
    learned, judged = _tokens(training), _tokens(validation)
    if not len(judged):
        raise TapeGPTError("there is no document to validate on: give at least one")
    program, losses = kernels(), {"uniform": log(vocab_size)}
    for name, order in ORDERS.items():
        losses[name] = NGrams(program, learned, vocab_size, order).loss(judged)
    return losses


def _tokens(documents: Corpus | Tokens) -> Tokens:
    return documents if isinstance(documents, Tokens) else documents.tokens()


def baselines_within(corpus: Corpus) -> dict[str, float]:
    """Their losses on a tenth of the documents, which they have not counted where there are several.

    None where no machine code can be made: interpreted, they would take minutes.
    """
    from tapegpt.data.holdout import hold_out

    if kernels().notice:
        return {}
    several = len(set(corpus.documents)) > 1
    learned, judged = hold_out(corpus, JUDGED, SEED) if several else (corpus, corpus)
    return baselines(learned, judged, corpus.vocab_size)


def kernels(target: Target | None = None) -> Program:
    """The kernels for a target, by default that of this process."""
    return Program({each.name: (each, {}) for each in (count, rehash, tally, discount, score, lay_out)}, target)


def make_trie(training: Corpus | Tokens, vocab_size: int, room: int) -> array[float]:
    """The table of a `Trie` with room for so many n-grams, of the longest order, up to `LONGEST`, that fits into it.

    Raises `TapeGPTError` where not even single tokens do.
    """
    learned, program = _tokens(training), kernels()
    for order in range(LONGEST, 0, -1):
        model = NGrams(program, learned, vocab_size, order)
        if model.size + SPARE <= room:
            return model.lay_out(room)
    raise TapeGPTError(
        f"{argument('kn_rows')} must be at least {vocab_size + 1 + SPARE}, for single tokens, not {room}"
    )


class NGrams:
    """A model of one order that has counted the documents of some tokens."""

    def __init__(self, program: Program, tokens: Tokens, vocab_size: int, order: int) -> None:
        self._program, self._vocab_size, self._order = program, vocab_size, order
        self._bits, self.size = _FIRST_BITS, 0
        self._discounts = array("d", bytes(8 * 4 * (order + 1)))
        self._allocate()
        self._count(tokens)
        self._discount()

    def loss(self, tokens: Tokens) -> float:
        """Nats per predicted token of the documents."""
        first, last = tokens.starts[0], tokens.starts[-1]
        nats = array("d", [0.0])
        self._program.run("score", self._table(), address_of(tokens.ids), address_of(nats), first, last)
        return nats[0] / (last - first)

    def lay_out(self, room: int) -> array[float]:
        """The table of a `Trie` with room for so many n-grams."""
        table = array("d", bytes(8 * COLUMNS * room))
        work = array("q", bytes(8 * (3 * self.size + self._vocab_size + 1)))
        self._program.run("lay_out", self._table(), address_of(table), address_of(work), self.size, room)
        return table

    def _table(self) -> dict[str, Argument]:
        return {
            "slots": self._slots.at(0),
            "nodes": self._nodes.at(0),
            "discounts": address_of(self._discounts),
            "bits": self._bits,
            "order": self._order,
            "vocab_size": self._vocab_size,
        }

    def _allocate(self) -> None:
        self._slots = Memory(4 << self._bits)
        self._nodes = Memory(4 * _WORDS << self._bits - 1)

    def _count(self, tokens: Tokens) -> None:
        state = array("q", [tokens.starts[0], _ROOT, 0])
        last = tokens.starts[-1]
        while True:
            self._program.run("count", self._table(), address_of(tokens.ids), address_of(state), last)
            self.size = state[2]
            if state[0] == last or self._bits == _LAST_BITS:
                return
            self._grow()

    def _grow(self) -> None:
        old = self._nodes.words(0, _WORDS * self.size)
        self._bits += 1
        self._allocate()
        self._nodes.words(0, _WORDS * self.size)[:] = old
        self._program.run("rehash", self._table(), self.size)

    def _discount(self) -> None:
        """Find D of the counts 0 to 3 of each depth from 0 on, and spread them over the nodes."""
        counts = array("q", bytes(8 * _COUNTS * (self._order + 1)))
        self._program.run("tally", self._table(), address_of(counts), self.size)
        rows = [counts[start : start + _COUNTS] for start in range(0, len(counts), _COUNTS)]
        self._discounts[:] = array("d", [number for row in rows for number in discounts(*row[1:5])])
        self._program.run("discount", self._table(), self.size)


def discounts(n1: int, n2: int, n3: int, n4: int) -> list[float]:
    """D of the counts 0, 1, 2, and 3 or more, where so many n-grams have the counts 1 to 4."""
    table = [0.0]
    for j, number, following in ((1, n1, n2), (2, n2, n3), (3, n3, n4)):
        estimate = j - (j + 1) * n1 / (n1 + 2 * n2) * following / number if n1 and number else 0.0
        table.append(estimate if estimate > 0.0 else j / 2)
    return table


class Table(Structure):
    """The n-grams that a model has counted: nodes, found by their keys through the slots of a hash table."""

    slots: U32s  # (2 ** bits)
    nodes: U32s
    discounts: F64s  # (order + 1, 4)
    bits: Int
    order: Int
    vocab_size: Int

    def slot(self, k: Builder, key: Value) -> Variable:
        """Where the search for a key begins."""
        return k.variable((key * _SPREAD) >> (64 - self.bits))

    def step(self, k: Builder, slot: Variable) -> None:
        """To the next slot."""
        slot.set((slot + 1) & ((k.integer(1) << self.bits) - 1))

    def find(self, k: Builder, key: Value) -> tuple[Variable, Variable]:
        """The node with this key, or the root where there is none; and its slot, or an empty one."""
        keys = self.nodes.cast(I64)
        slot = self.slot(k, key)
        node = k.variable(self.slots[slot])
        for _ in k.repeat_while(lambda: node.differs(_ROOT) & keys[node * _LONGS].differs(key)):
            self.step(k, slot)
            node.set(self.slots[slot])
        return node, slot

    def first(self, k: Builder) -> Value:
        """The context of a document's first token."""
        return k.select(self.order > 1, k.integer(_BOS), _ROOT)

    def context(self, k: Builder, node: Int, token: Value) -> Value:
        """The context after a token, where this n-gram is the longest that ends with it."""
        longest = self.nodes[node * _WORDS + _DEPTH].equals(self.order)
        inside = k.select(longest, self.nodes[node * _WORDS + _SUFFIX], k.value(node))
        return k.select(token.equals(self.vocab_size - 1), self.first(k), inside)

    def discount(self, k: Builder, node: Int) -> Value:
        """D of the count of a node."""
        seen = self.nodes[node * _WORDS + _COUNT]
        return self.discounts[self.nodes[node * _WORDS + _DEPTH] * 4 + k.select(seen > 3, 3, seen)]


@kernel
def count(k: Builder, table: Table, ids: U32s, state: I64s, last: Int) -> None:
    """Count the n-grams that end after position, up to `last` or until the table is half full.

    state (3): position; the context after it; nodes, 0 before the first call.
    """
    nodes, keys = table.nodes, table.nodes.cast(I64)
    position, context, size = (k.variable(state[i]) for i in range(3))

    def add(slot: Variable, key: Value, depth: Int | int) -> None:
        table.slots[slot] = size
        keys[size * _LONGS] = key
        nodes[size * _WORDS + _DEPTH] = depth
        size.set(size + 1)

    for _ in k.when(size.equals(0)):  # the empty n-gram, and the BOS that is before all others
        size.set(1)
        add(table.slot(k, table.vocab_size - 1), table.vocab_size - 1, 1)
        context.set(table.first(k))
    limit = k.integer(1) << (table.bits - 1)
    for _ in k.repeat_while(lambda: (position < last) & (size + table.order <= limit)):
        position += 1
        token = ids[position]
        longest, longer = k.zeros(kind=I64), k.zeros(kind=I64)
        parent, going = k.variable(k.value(context)), k.variable(k.integer(1))
        for _ in k.repeat_while(lambda: going.differs(0)):
            key = (parent << 32) | token
            node, slot = table.find(k, key)
            for _ in k.when(node.equals(_ROOT)):
                node.set(size)
                add(slot, key, nodes[parent * _WORDS + _DEPTH] + 1)
            nodes[longer * _WORDS + _SUFFIX] = k.select(longer.equals(_ROOT), k.integer(_ROOT), node)
            seen = nodes[node * _WORDS + _COUNT]
            nodes[node * _WORDS + _COUNT] = seen + 1
            nodes[parent * _WORDS + _TOTAL] = nodes[parent * _WORDS + _TOTAL] + 1
            longest.set(k.select(longest.equals(_ROOT), node, longest))
            longer.set(node)
            going.set(k.select(seen.equals(0) & parent.differs(_ROOT), k.integer(1), 0))
            parent.set(nodes[parent * _WORDS + _SUFFIX])
        context.set(table.context(k, longest, token))
    for i, value in enumerate((position, context, size)):
        state[i] = value


@kernel
def rehash(k: Builder, table: Table, size: Int) -> None:
    """Enter the nodes into empty slots."""
    keys = table.nodes.cast(I64)
    for node in k.range(1, size):
        slot = table.slot(k, keys[node * _LONGS])
        for _ in k.repeat_while(lambda: table.slots[slot].differs(_ROOT)):
            table.step(k, slot)
        table.slots[slot] = node


@kernel
def tally(k: Builder, table: Table, counts: I64s, size: Int) -> None:
    """How many n-grams of each depth have each count. counts (depths, _COUNTS), zero before."""
    for node in k.range(1, size):
        seen = table.nodes[node * _WORDS + _COUNT]
        place = table.nodes[node * _WORDS + _DEPTH] * _COUNTS + k.select(seen > _COUNTS - 1, _COUNTS - 1, seen)
        counts[place] = counts[place] + 1


@kernel
def discount(k: Builder, table: Table, size: Int) -> None:
    """Add the discounts of each context's followers to its mass."""
    keys, mass = table.nodes.cast(I64), table.nodes.cast(F64)
    for node in k.range(1, size):
        place = (keys[node * _LONGS] >> 32) * _LONGS + _MASS
        mass[place] = mass[place] + table.discount(k, node)


@kernel
def score(k: Builder, table: Table, ids: U32s, nats: F64s, first: Int, last: Int) -> None:
    """nats (1): the sum of -log p over the tokens after `first` up to `last`."""
    nodes, mass = table.nodes, table.nodes.cast(F64)
    sum_, context = k.zeros(), k.variable(table.first(k))
    for position in k.range(first + 1, last + 1):
        token = ids[position]
        longest, parent, going = k.zeros(kind=I64), k.variable(k.value(context)), k.variable(k.integer(1))
        p, weight = k.zeros(), k.variable(k.real(1.0))
        for _ in k.repeat_while(lambda: going.differs(0)):
            node, _ = table.find(k, (parent << 32) | token)
            total = k.convert(nodes[parent * _WORDS + _TOTAL], F64)
            for _ in k.when(total > 0.0):
                seen = k.convert(nodes[node * _WORDS + _COUNT], F64)
                p += weight * (seen - table.discount(k, node)) / total
                weight *= mass[parent * _LONGS + _MASS] / total
            longest.set(k.select(longest.equals(_ROOT), node, longest))
            going.set(k.select(parent.differs(_ROOT), k.integer(1), 0))
            parent.set(nodes[parent * _WORDS + _SUFFIX])
        sum_ -= k.log(p + weight / k.convert(table.vocab_size, F64))
        context.set(table.context(k, longest, token))
    nats[0] = sum_


@kernel
def lay_out(k: Builder, table: Table, result: F64s, work: I64s, size: Int, room: Int) -> None:
    """Write a `Trie`, one length of n-grams after the other. work (3 size + V + 1), zero before."""
    nodes, keys, mass = table.nodes, table.nodes.cast(I64), table.nodes.cast(F64)
    tokens, shares, first, rest = (result + row * room for row in range(COLUMNS))
    followers, by_token, origins, starts = (work + part * size for part in range(4))

    def token_of(node: Value) -> Value:
        return keys[node * _LONGS] & 0xFFFFFFFF

    def parent_of(node: Value) -> Value:
        return keys[node * _LONGS] >> 32

    for node in k.range(1, size):
        token, parent = token_of(node), parent_of(node)
        followers[parent] = followers[parent] + 1
        starts[token + 1] = starts[token + 1] + 1
    for token in k.range(table.vocab_size):
        starts[token + 1] = starts[token + 1] + starts[token]
    for node in k.range(1, size):
        token = token_of(node)
        by_token[starts[token]] = node
        starts[token] = starts[token] + 1
    done, end = k.variable(k.integer(0)), k.variable(k.integer(1))
    for depth in k.range(1, table.order + 1):
        last = k.value(end)
        for i in k.range(done, last):
            node = origins[i]
            first[i] = k.convert(end, F64)
            total = nodes[node * _WORDS + _TOTAL]
            for _ in k.when(total > 0):
                rest[i] = mass[node * _LONGS + _MASS] / k.convert(total, F64)
            count = followers[node]
            followers[node] = end  # from now on where its next one goes
            end += count
        done.set(last)
        for i in k.range(size - 1):
            node = by_token[i]
            for _ in k.when(nodes[node * _WORDS + _DEPTH].equals(depth)):
                parent = parent_of(node)
                at = followers[parent]
                followers[parent] = at + 1
                origins[at] = node
                tokens[at] = k.convert(token_of(node), F64)
                seen = k.convert(nodes[node * _WORDS + _COUNT], F64)
                total = k.convert(nodes[parent * _WORDS + _TOTAL], F64)
                shares[at] = (seen - table.discount(k, node)) / total
    for i in k.range(done, room):
        first[i] = k.convert(end, F64)
