"""Documents that a model reads token by token, in an order in which those with a common beginning follow each other.

What the model keeps of a beginning, as it does of a string that it generates, is used again: only the rows behind it
are computed. 32,033 names have 228,146 rows, of which 60,100 are computed. Not here: what is asked of the rows.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import PAD, View, row_stride
from tapegpt.autograd.operations.functions import log
from tapegpt.autograd.operations.rows import fast_exponentiate, vectors
from tapegpt.autograd.packing import Rows
from tapegpt.engines.kernels import common_beginning
from tapegpt.machine.language import F32, F64, Builder, F32s, F64s, I64s, Int, Kernel, Pointer, U32s, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.signature import Structure
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.data.windows import Windows
    from tapegpt.engines.decoding import Decoding
    from tapegpt.machine.language import Value
    from tapegpt.machine.memory import Address

LEAST = 256  # documents, from which on they are sorted
DIGIT = 8  # bits of a key by which they are sorted at a time; a key has four


class Order(Record):
    """The order in which documents are read, and what it is found with."""

    numbers: Pointer  # (count)
    keys: Pointer  # (count): then the rows that each has in common with the one before
    spare: Pointer  # (2 count)
    tallies: Pointer  # (1 << DIGIT)

    @staticmethod
    def size(count: int) -> int:
        """Words that it takes."""
        return 4 * count + (1 << DIGIT)

    @classmethod
    def at(cls, room: Pointer, count: Int) -> Order:
        """It in memory."""
        return cls(room, room + count, room + count * 2, room + count * 4)


class Passages(Structure):
    """Documents, or windows of longer ones, see `windows.Windows`."""

    ids: U32s
    begins: I64s
    starts: I64s

    @staticmethod
    def arguments(windows: Windows) -> dict[str, Address]:
        """They as an entry's argument."""
        return {name: address_of(getattr(windows, name)) for name in Passages.fields}


class Document(Record):
    """A document that has been read."""

    number: Value
    start: Value  # first of its ids
    rows: Value
    again: Value  # rows that a window before has read
    shared: Value  # rows that it has in common with the one before
    before: Value  # first of the ids of the one before


class Reader:
    """Reads documents by decoding."""

    def __init__(self, decoding: Decoding, scratch: int) -> None:
        """The work memory has room for `size` numbers from `scratch` on."""
        self._layout, self._forward, self._scratch = decoding.layout, decoding.forward, scratch
        self.columns = row_stride(self._layout.vocab_size)

    @property
    def size(self) -> int:
        """Numbers of scratch memory: log p by position, exponentials of a row; of each row their sum, and a logit."""
        return (self._layout.block_size + 1) * self.columns + 2 * (self._layout.positions + PAD)

    def read(
        self, k: Builder, shared: F32s, work: F32s, documents: Passages, room: U32s, count: Int
    ) -> Iterator[tuple[Document, View]]:
        """Each document, and log p of every token at each of its positions."""
        order = Order.at(room, count)
        layout, ids, width = self._layout, documents.ids, k.width(F32)
        path = View(work + self._scratch, layout.block_size, self.columns, self.columns)
        e = path.at(layout.block_size).start
        logits = View(work + layout.logits, layout.positions, self.columns, self.columns)
        sums = e + self.columns
        peaks = sums + (layout.positions + PAD)
        rows, row, end = Rows(work, layout.about), k.variable(k.integer(0)), k.variable(k.integer(0))

        def fill(place: Value, position: Value) -> None:
            """Compute as many rows as fit, from this one on."""
            for variable in (row, end):
                variable.set(k.integer(0))
            at, first = k.variable(place), k.variable(position)
            for _ in k.repeat_while(lambda: (at < count) & (end < layout.positions)):
                start, stop = documents.begins[order.numbers[at]], documents.starts[order.numbers[at] + 1]
                taken = k.minimum(stop - start - first, layout.positions - end)
                for t in k.range(taken):
                    rows.tell(end + t, {"tokens": ids[start + first + t], "positions": first + t, "lines": 0})
                end.set(end + taken)
                at += 1
                first.set(order.keys[k.minimum(at, count - 1)])
            self._forward(k, shared, work, 0, end)
            for t in k.range(end):
                sums[t], peaks[t] = fast_exponentiate(k, logits.at(t).start, e, layout.vocab_size)
            for t in k.range(0, end, width):
                sums.store(t, log(k, sums.vector(t, width)))

        sort(k, documents, order, count, vocab_size=layout.vocab_size)
        for place in k.range(count):
            number, common = order.numbers[place], order.keys[place]
            start, again = documents.begins[number], documents.starts[number] - documents.begins[number]
            size = documents.starts[number + 1] - start
            for position in k.range(common, size):
                for _ in k.when(row.equals(end)):
                    fill(place, position)
                for c in vectors(k, layout.vocab_size):
                    path.store(position, c, logits.vector(row, c, width) - peaks[row] - sums[row])
                row += 1
            before = documents.begins[order.numbers[k.maximum(place - 1, 0)]]
            yield Document(number, start, size, again, common, before), path


@kernel
def sort(k: Builder, documents: Passages, order: Order, count: Int, *, vocab_size: int) -> None:
    """The order of documents by their first tokens, where they are many, and the rows that neighbours share."""
    ids, begins, numbers, keys = documents.ids, documents.begins, order.numbers, order.keys
    ends = documents.starts + 1
    bits = min((vocab_size - 1).bit_length(), DIGIT)  # of a token, whose upper ones make little difference
    for number in k.range(count):
        key = k.integer(0)
        for depth in range(1, 4 * DIGIT // bits + 1):
            token = ids[k.minimum(begins[number] + depth, ends[number])]
            key = (key << bits) | (token & ((1 << bits) - 1))
        keys[number], numbers[number] = key, number
    for _ in k.when(count >= LEAST):
        here, there = (numbers, keys), (order.spare, order.spare + count)
        for digit in range(4):
            sort_by(k, *here, *there, order.tallies, count, digit * DIGIT)
            here, there = there, here
    keys[0] = 0
    for place in k.range(1, count):
        (a, a_end), (b, b_end) = ((begins[numbers[each]], ends[numbers[each]]) for each in (place - 1, place))
        keys[place] = common_beginning(k, ids + a, ids + b, k.minimum(a_end - a, b_end - b))


@kernel
def sort_by(
    k: Builder, numbers: U32s, keys: U32s, to_numbers: U32s, to_keys: U32s, tallies: U32s, count: Int, shift: Int
) -> None:
    """Documents by a digit of their keys; those with the same stay in order."""

    def digit(place: Value) -> Value:
        return (keys[place] >> shift) & ((1 << DIGIT) - 1)

    for value in k.range(1 << DIGIT):
        tallies[value] = 0
    for place in k.range(count):
        value = digit(place)
        tallies[value] = tallies[value] + 1
    before = k.variable(k.integer(0))
    for value in k.range(1 << DIGIT):
        many = tallies[value]
        tallies[value] = before
        before += many
    for place in k.range(count):
        value = digit(place)
        to = tallies[value]
        to_numbers[to], to_keys[to] = numbers[place], keys[place]
        tallies[value] = to + 1


def scoring_kernel(reader: Reader) -> Kernel:
    """-log p of each token of `count` documents, their sums and means; those read again are left to windows before."""

    def score(
        k: Builder,
        shared: F32s,
        work: F32s,
        documents: Passages,
        room: U32s,
        surprises: F32s,
        totals: F64s,
        means: F64s,
        count: Int,
    ) -> None:
        for document, path in reader.read(k, shared, work, documents, room, count):
            found, targets = surprises + document.start, documents.ids + (document.start + 1)
            again, nats = document.again, k.zeros()
            same = k.maximum(document.shared - 1, again)  # the last shared row may be followed by another token
            for t in k.range(again, same):
                found[t] = surprises[document.before + t]
            for t in k.range(same, document.rows):
                found[t] = -path[t, targets[t]]
            for t in k.range(again, document.rows):
                nats += k.convert(found[t], F64)
            totals[document.number] = nats
            means[document.number] = nats / k.convert(document.rows - again, F64)

    return Kernel(score, real=F32)


def next_kernel(reader: Reader) -> Kernel:
    """log p of the token that follows each of `count` documents, a padded row each."""

    def following(
        k: Builder, shared: F32s, work: F32s, documents: Passages, room: U32s, result: F32s, count: Int
    ) -> None:
        for document, path in reader.read(k, shared, work, documents, room, count):
            for c in vectors(k, reader.columns):
                row = path.vector(document.rows - 1, c, k.width(F32))
                result.store(document.number * reader.columns + c, row)

    return Kernel(following, real=F32)


@kernel
def rank(k: Builder, numbers: F64s, count: Int, rising: F64s, size: Int, ranks: U32s) -> None:
    """How many of `size` rising numbers are no larger than each of `count` others."""
    for index in k.range(count):
        low, high = k.variable(k.integer(0)), k.variable(size)
        for _ in k.repeat_while(lambda: low < high):
            middle = (low + high) >> 1
            is_below = rising[middle] <= numbers[index]
            low.set(k.select(is_below, middle + 1, low))
            high.set(k.select(is_below, high, middle))
        ranks[index] = low
