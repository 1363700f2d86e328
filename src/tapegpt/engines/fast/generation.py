"""Strings from the fast engine, in batches: where one ends, the next begins in its row.

Each string has its own stream of random numbers, so that it does not depend on the rest of the batch.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import row_stride
from tapegpt.autograd.operations.rows import fast_exponentiate, vectors
from tapegpt.data.windows import overlap
from tapegpt.engines.compiled import Generation
from tapegpt.machine.language import F32, U32, Builder, F32s, I64s, Kernel, Real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapegpt.engines.decoding import Decoding
    from tapegpt.engines.graph import Layout
    from tapegpt.machine.language import Operand, Pointer, Value


class BatchGeneration(Generation):
    """Strings that are generated in a batch."""

    rows: I64s  # (2, slots): the string of each row, and where its window starts
    streams: I64s  # (count, 2): where the random numbers of each string start, and their odd step


def generation_kernel(decoding: Decoding) -> Kernel:
    """Generates strings without constraints."""
    forward, layout = decoding.forward, decoding.layout

    def generate(k: Builder, shared: F32s, work: F32s, generation: BatchGeneration, temperature: Real) -> None:
        inverse = k.convert(1.0 / temperature, F32)

        def choose(row: Value, string: Value, number: Value, logits: Pointer, unit: Value) -> Value:
            return sample(k, logits, layout.vocab_size, inverse, unit)

        generate_batch(k, forward, layout, (shared, work), generation, choose)

    return Kernel(generate, real=F32)


def generate_batch(
    k: Builder,
    forward: Kernel,
    layout: Layout,
    memory: tuple[Pointer, Pointer],
    generation: BatchGeneration,
    choose: Callable[[Value, Value, Value, Pointer, Value], Value],
    kept: Sequence[Pointer] = (),
) -> None:
    """Make strings, token `number` of each by `choose(row, string, number, logits, random unit)`.

    `memory` is that of the forward pass; what is `kept` for a row moves with its string.
    """
    (shared, work), count, room = memory, generation.count, generation.room
    vocab_size, block = layout.vocab_size, layout.block_size
    bos, again = vocab_size - 1, overlap(block)
    names = ("tokens", "positions", "lines")
    tokens, positions, lines = ((work + layout.about[name]).cast(U32) for name in names)
    strings, starts = generation.rows, generation.rows + layout.lines
    begun = k.variable(k.integer(0))
    active = k.variable(k.integer(0))

    def begin(row: Operand) -> None:
        strings[row], starts[row], tokens[row], positions[row] = begun, 0, bos, 0
        begun.set(begun + 1)

    for row in k.range(k.minimum(count, layout.lines)):
        lines[row] = row
        begin(row)
        active += 1
    for _ in k.repeat_while(lambda: active > 0):
        forward(k, shared, work, 0, active)
        for row in k.range(active):
            logits, string = work + layout.logits + row * row_stride(vocab_size), strings[row]
            number = starts[row] + positions[row]
            is_new = (number >= generation.given) & (starts[row].equals(0) | (positions[row] >= again))
            for _ in k.when(is_new):
                unit = random_unit(k, generation.streams + 2 * string, number)
                tokens[row] = choose(row, string, number, logits, unit)
            for _ in k.when(k.logical_not(is_new)):
                tokens[row] = generation.ids[string * room + number]
        for row in k.range(active - 1, -1, -1):  # so that the last, which may move to this row, has been served
            string, number, token = strings[row], starts[row] + positions[row], tokens[row]
            ends, ids = token.equals(bos), generation.ids + string * room
            length = k.select(ends, number, number + 1)
            for _ in k.when(k.logical_not(ends)):
                ids[number] = token
                positions[row] = positions[row] + 1
            for _ in k.when(positions[row].equals(block)):
                start = k.value(starts[row] + (block - again))
                starts[row], tokens[row], positions[row] = start, ids[start - 1], 0
            for _ in k.when(ends | length.equals(room)):
                generation.lengths[string] = length
                more = begun < count
                for _ in k.when(more):
                    begin(row)
                for _ in k.when(k.logical_not(more)):
                    active -= 1
                    for column in (strings, starts, tokens, positions, lines, *kept):
                        column[row] = column[active]


def random_unit(k: Builder, stream: Pointer, number: Operand) -> Value:
    """f32 in [0, 1), from 24 bits: random number `number` of a stream (SplitMix64: Steele, Lea and Flood, 2014)."""
    return k.convert(mix(stream[0] + (number + 1) * stream[1]) >> 40, F32) * 2.0**-24


def mix(z: Value) -> Value:
    """64 bits that look random, others for others."""
    z = (z ^ (z >> 30)) * -0x40A7B892E31B1A47
    z = (z ^ (z >> 27)) * -0x6B2FB644ECCEEE15
    return z ^ (z >> 31)


def sample(k: Builder, logits: Pointer, count: int, inverse_temperature: Value, unit: Value) -> Value:
    """The first token whose running sum of probabilities is above `unit`. Overwrites the logits."""
    width = k.width(F32)
    for c in vectors(k, count):
        logits.store(c, logits.vector(c, width) * inverse_temperature)
    total, _ = fast_exponentiate(k, logits, logits, count)
    point = k.spread(total * unit, width)
    before, token = k.zeros(width, F32), k.variable(k.integer(count - 1))
    for c in vectors(k, count):
        sums = running_sums(k, logits.vector(c, width)) + before
        above = k.pack_bits(sums > point)
        token.set(k.select(above.equals(0), token, k.minimum(token, c + k.lowest_bit(above))))
        before.set(k.spread(sums.lane(width - 1), width))
    return k.value(token)


def running_sums(k: Builder, vector: Value) -> Value:
    """Of each lane and all before it, pairwise (Hillis and Steele, 1986)."""
    lanes, distance = range(vector.lanes), 1
    zeros = k.constant(0, F32, vector.lanes)
    while distance < vector.lanes:
        moved = [lane if lane < distance else vector.lanes + lane - distance for lane in lanes]
        vector = vector + k.shuffle(zeros, vector, moved)
        distance *= 2
    return vector
