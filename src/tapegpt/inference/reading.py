"""Documents that a model reads token by token, in an order in which those with a common beginning follow each other.

What the model keeps of a beginning, as it does of a string that it generates, is used again: only the rows behind it
are computed. 32,033 names have 228,146 rows, of which some 72,000 are computed. Not here: what is asked of the rows.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import PAD, View, padded
from tapegpt.autograd.operations.functions import log
from tapegpt.autograd.operations.rows import fast_exponentiate, vectors
from tapegpt.autograd.packing import Rows
from tapegpt.engines.graph import Documents  # noqa: TC001  # an annotation of kernels
from tapegpt.machine.language import F32, F64, Builder, F32s, F64s, Int, Kernel, Structure, U32s, kernel
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.engines.graph import Graph
    from tapegpt.machine.language import Value

DEPTH = 4  # tokens by which documents are sorted, an even number: 32,033 names take 0.32 of their rows, sorted 0.26


class Order(Structure):
    """Room for the order in which documents are read."""

    numbers: U32s  # (count)
    spare: U32s  # (count)
    shared: U32s  # (count): rows that each has in common with the one before
    tallies: U32s  # (V)


class Document(Record):
    """A document that has been read."""

    number: Value
    start: Value  # first of its ids
    rows: Value
    shared: Value  # rows that it has in common with the one before
    before: Value  # first of the ids of the one before


class Reader:
    """Reads documents by a graph for decoding."""

    def __init__(self, graph: Graph, scratch: int) -> None:
        """The work memory has room for `size` numbers from `scratch` on."""
        self._layout, self._scratch = graph.layout(), scratch
        self._forward = graph.tape.forward_kernel(graph.logits)
        self.columns = padded(graph.vocab_size)

    @property
    def size(self) -> int:
        """Numbers of scratch memory: log p by position, exponentials of a row; of each row their sum, and a logit."""
        return (self._layout.block_size + 1) * self.columns + 2 * (self._layout.positions + PAD)

    def read(
        self, k: Builder, shared: F32s, work: F32s, documents: Documents, order: Order, count: Int
    ) -> Iterator[tuple[Document, View]]:
        """Each document, and log p of every token at each of its positions."""
        layout, ids, starts, width = self._layout, documents.ids, documents.starts, k.width(F32)
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
                start, stop = (starts[order.numbers[at] + side] for side in (0, 1))
                taken = k.minimum(stop - start - first, layout.positions - end)
                for t in k.range(taken):
                    rows.tell(end + t, {"tokens": ids[start + first + t], "positions": first + t, "lines": 0})
                end.set(end + taken)
                at += 1
                first.set(order.shared[k.minimum(at, count - 1)])
            self._forward(k, shared, work, 0, end)
            for t in k.range(end):
                sums[t], peaks[t] = fast_exponentiate(k, logits.at(t).start, e, layout.vocab_size)
            for t in k.range(0, end, width):
                sums.store(t, log(k, sums.vector(t, width)))

        sort(k, documents, order, count, vocab_size=layout.vocab_size)
        for place in k.range(count):
            number, common = order.numbers[place], order.shared[place]
            start, size = starts[number], starts[number + 1] - starts[number]
            for position in k.range(common, size):
                for _ in k.when(row.equals(end)):
                    fill(place, position)
                for c in vectors(k, layout.vocab_size):
                    path.store(position, c, logits.vector(row, c, width) - peaks[row] - sums[row])
                row += 1
            yield Document(number, start, size, common, starts[order.numbers[k.maximum(place - 1, 0)]]), path


@kernel
def sort(k: Builder, documents: Documents, order: Order, count: Int, *, vocab_size: int) -> None:
    """The order of documents by their first tokens, where they are many, and the rows that neighbours share."""
    ids, starts, numbers = documents.ids, documents.starts, order.numbers
    for number in k.range(count):
        numbers[number] = number
    for _ in k.when(count > vocab_size):
        for depth in range(DEPTH, 0, -2):
            sort_by(k, documents, numbers, order.spare, order.tallies, count, depth, vocab_size=vocab_size)
            sort_by(k, documents, order.spare, numbers, order.tallies, count, depth - 1, vocab_size=vocab_size)
    order.shared[0] = 0
    for place in k.range(1, count):
        a, b = numbers[place - 1], numbers[place]
        most = k.minimum(starts[a + 1] - starts[a], starts[b + 1] - starts[b])
        alike = k.variable(k.integer(0))
        for _ in k.repeat_while(lambda: (alike < most) & ids[starts[a] + alike].equals(ids[starts[b] + alike])):
            alike += 1
        order.shared[place] = alike


@kernel
def sort_by(
    k: Builder,
    documents: Documents,
    numbers: U32s,
    result: U32s,
    tallies: U32s,
    count: Int,
    depth: Int,
    *,
    vocab_size: int,
) -> None:
    """The documents by their token at one depth, or the end; those with the same stay in order."""

    def token(place: Value) -> Value:
        starts = documents.starts + numbers[place]
        return documents.ids[k.minimum(starts[0] + depth, starts[1])]

    for c in k.range(vocab_size):
        tallies[c] = 0
    for place in k.range(count):
        c = token(place)
        tallies[c] = tallies[c] + 1
    before = k.variable(k.integer(0))
    for c in k.range(vocab_size):
        many = tallies[c]
        tallies[c] = before
        before += many
    for place in k.range(count):
        c = token(place)
        result[tallies[c]] = numbers[place]
        tallies[c] = tallies[c] + 1


def scoring_kernel(reader: Reader) -> Kernel:
    """-log p of each token of `count` documents, their sums and means."""

    def score(
        k: Builder,
        shared: F32s,
        work: F32s,
        documents: Documents,
        order: Order,
        surprises: F32s,
        totals: F64s,
        means: F64s,
        count: Int,
    ) -> None:
        for document, path in reader.read(k, shared, work, documents, order, count):
            found, targets = surprises + document.start, documents.ids + (document.start + 1)
            same = k.maximum(document.shared - 1, 0)  # the last shared row may be followed by another token
            nats = k.zeros()
            for t in k.range(same):
                found[t] = surprises[document.before + t]
            for t in k.range(same, document.rows):
                found[t] = -path[t, targets[t]]
            for t in k.range(document.rows):
                nats += k.convert(found[t], F64)
            totals[document.number] = nats
            means[document.number] = nats / k.convert(document.rows, F64)

    return Kernel(score, real=F32)


def next_kernel(reader: Reader) -> Kernel:
    """log p of the token that follows each of `count` documents, a padded row each."""

    def following(
        k: Builder, shared: F32s, work: F32s, documents: Documents, order: Order, result: F32s, count: Int
    ) -> None:
        for document, path in reader.read(k, shared, work, documents, order, count):
            for c in vectors(k, reader.columns):
                row = path.vector(document.rows - 1, c, k.width(F32))
                result.store(document.number * reader.columns + c, row)

    return Kernel(following, real=F32)
