"""Strings within constraints, in batches: each token is drawn from those that an automaton still allows.

With each string comes the log of what the model gives to all allowed tokens, token by token. Not here: what the
automaton says (`automata.py`), strings without constraints (`generation.py`).
"""

from __future__ import annotations

import sys

from tapegpt.autograd.operations.rows import fast_exponentiate, vectors
from tapegpt.engines.fast.generation import BatchGeneration, generate_batch, running_sums
from tapegpt.inference.automata import FORBIDDEN
from tapegpt.machine.language import F32, F64, I32, I64, Builder, F32s, F64s, Int, Kernel, Real, U32s
from tapegpt.machine.signature import Structure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.engines.decoding import Decoding
    from tapegpt.machine.language import Number, Operand, Pointer, Value, Variable

_GREEDY = 1e7  # the inverse of a temperature at which a logit's last bit decides
_ONE = 0x3F800000  # the bits of 1.0, the greatest of the exponentials
_FIRST_BYTE = 0 if sys.byteorder == "little" else 24  # of a word: its lowest bit


class Automaton(Structure):
    """What strings may be, see `inference.Rules`; `prospects` is what a class of characters adds to its logits."""

    classes: U32s  # (V - 1)
    table: U32s  # (states, kinds)
    accepting: U32s  # (states), as bytes
    ahead: F32s  # (most + 1, states)
    prospects: F32s  # (kinds)
    kinds: Int
    states: Int
    start: Int
    least: Int
    most: Int

    def ends(self, state: Value, length: Value) -> Value:
        """Whether a string of this length may end in a state."""
        return _byte(self.accepting, state).equals(1) & (length >= self.least)

    def after(self, state: Value, kind: Value) -> Value:
        """The state that a character of this class leads to."""
        return self.table[state * self.kinds + kind]

    def look(self, k: Builder, state: Value, length: Value, scale: Value) -> Value:
        """Note what lies ahead of each class after so many characters; whether that makes no difference."""
        free = k.variable(k.integer(1))
        for kind in k.range(self.kinds):
            # Of a dead end, state 0, for strings that may not continue.
            target = k.select(length < self.most, (length + 1) * self.states + self.after(state, kind), 0)
            prospect = self.ahead[target]
            self.prospects[kind] = k.select(prospect > FORBIDDEN, prospect * scale, FORBIDDEN)
            free.set(k.select(prospect.equals(0.0), free, 0))
        return free.equals(1)

    def weigh(self, k: Builder, logits: Pointer, characters: int) -> None:
        """Add to the logits of characters what has been noted."""
        for token in k.range(characters):
            logits[token] = k.maximum(logits[token] + self.prospects[self.classes[token]], FORBIDDEN)


class Narrowing(Structure):
    """How probable tokens must be, see `Inference.draw`; top_k 0, top_p 1 and min_p 0 leave out none."""

    temperature: Real
    top_k: Int
    top_p: Real
    min_p: Real


def drawing_kernel(decoding: Decoding, scratch: int) -> Kernel:
    """Strings as `generation_kernel` makes them; the rows of their generation (3, slots) hold their states too.

    To log_weights (count) is added; doubts (count) become 1 where a random number is within `margin` of where it draws
    another token. The work memory has room for V numbers from `scratch` on.
    """
    forward, at = decoding.forward, decoding.layout
    vocab_size, bos = at.vocab_size, at.vocab_size - 1

    def draw(
        k: Builder,
        shared: F32s,
        work: F32s,
        generation: BatchGeneration,
        log_weights: F64s,
        doubts: U32s,
        margin: Real,
        automaton: Automaton,
        narrowing: Narrowing,
    ) -> None:
        e, state_of, prospects = work + scratch, generation.rows + 2 * at.lines, automaton.prospects
        greedy = narrowing.temperature.equals(0.0)
        inverse = k.convert(k.select(greedy, _GREEDY, 1.0 / narrowing.temperature), F32)
        share = k.convert(k.select(greedy, 1.0, narrowing.min_p), F32)
        near = k.convert(margin, F32)
        top_k, top_p = narrowing.top_k, k.convert(narrowing.top_p, F32)
        narrows = (top_k > 0) | (narrowing.top_p < 1.0) | (share > 0.0)

        def choose(row: Value, string: Value, number: Value, logits: Pointer, unit: Value) -> Value:
            state = k.select(number.equals(0), automaton.start, state_of[row])
            ends = automaton.ends(state, number)
            is_free = automaton.look(k, state, number, k.select(greedy, inverse, 1.0))
            for c in vectors(k, vocab_size):
                logits.store(c, logits.vector(c, k.width(F32)) * inverse)
            total, largest = fast_exponentiate(k, logits, e, vocab_size)
            mass = k.variable(total)
            for _ in k.when(k.logical_not(ends & is_free)):
                automaton.weigh(k, logits, bos)
                logits[bos] = k.select(ends, logits[bos], FORBIDDEN)
                remaining, peak = fast_exponentiate(k, logits, e, vocab_size)
                _keep(k, e, vocab_size, lambda c: logits.vector(c, k.width(F32)) > FORBIDDEN)
                mass.set(remaining)
                left = k.log(k.convert(remaining, F64) / k.convert(total, F64)) + k.convert(peak - largest, F64)
                log_weights[string] = log_weights[string] + left
            for _ in k.when(narrows):
                mass.set(_narrow(k, e, vocab_size, top_k, top_p, share))
            token, is_close = _pick(k, e, vocab_size, k.select(greedy, 0.0, mass * unit), mass * near)
            doubts[string] = k.select(is_close, 1, doubts[string])
            for _ in k.when(token < bos):
                kind = automaton.classes[token]
                state_of[row] = automaton.after(state, kind)
                log_weights[string] = log_weights[string] - k.convert(prospects[kind], F64)
            return token

        generate_batch(k, forward, at, (shared, work), generation, choose, [state_of])

    return Kernel(draw, real=F32)


def _byte(words: Pointer, index: Value) -> Value:
    """A byte of memory that is read as words."""
    return (words[index >> 2] >> (((index & 3) << 3) ^ _FIRST_BYTE)) & 255


def _narrow(k: Builder, e: Pointer, count: int, top_k: Operand, top_p: Value, min_p: Value) -> Value:
    """Set to zero what top_k, top_p and min_p, in this order, leave out of numbers up to 1; the sum of the rest."""
    width = k.width(F32)

    def how_many(least: Value) -> Value:
        found = k.zeros(width, I32)
        for c in vectors(k, count):
            found += k.select(e.vector(c, width) >= least, k.constant(1, I32, width), 0)
        return k.convert(k.group_sum(found, width).lane(0), I64)

    def mass(least: Value) -> Value:
        found = k.zeros(width, F32)
        for c in vectors(k, count):
            numbers = e.vector(c, width)
            found += k.select(numbers >= least, numbers, 0.0)
        return k.group_sum(found, width).lane(0)

    bits = k.variable(k.constant(0, I32, 0))  # of the least number that stays
    for _ in k.when(top_k > 0):
        _raise(k, bits, lambda least: how_many(least) >= top_k)
    for _ in k.when(top_p < 1.0):
        wanted = mass(k.from_bits(bits)) * top_p
        _raise(k, bits, lambda least: mass(least) >= wanted)
    least = k.maximum(k.from_bits(bits), min_p)
    _keep(k, e, count, lambda c: e.vector(c, width) >= least)
    return mass(least)


def _raise(k: Builder, bits: Variable, enough: Callable[[Value], Value]) -> None:
    """Raise the bits of a number in [0, 1] as far as there is `enough` from there on, which there is."""
    low, high = k.variable(bits), k.variable(k.constant(_ONE + 1, I32, 0))
    for _ in k.repeat_while(lambda: high - low > 1):
        middle = (low + high) >> 1
        fits = enough(k.from_bits(middle))
        low.set(k.select(fits, middle, low))
        high.set(k.select(fits, high, middle))
    bits.set(low)


def _keep(k: Builder, e: Pointer, count: int, stays: Callable[[Number], Value]) -> None:
    """Set to zero the numbers of a row but where the vector from a column on says so."""
    width = k.width(F32)
    for c in vectors(k, count):
        e.store(c, k.select(stays(c), e.vector(c, width), 0.0))


def _pick(k: Builder, e: Pointer, count: int, point: Value, near: Value) -> tuple[Value, Value]:
    """The first token that has a number above zero and whose running sum is above the point; whether one is near it.

    The last above zero where there is none, since running sums are rounded in another order than the whole one.
    """
    width = k.width(F32)
    point = k.spread(point, width)
    before, first, last = k.zeros(width, F32), k.variable(k.constant(count, I32, width)), k.zeros(width, I32)
    distance = k.variable(k.constant(count, F32, width))  # of the nearest sum
    for c in vectors(k, count):
        numbers, tokens = e.vector(c, width), k.lane_numbers(width) + k.convert(k.integer(c), I32)
        sums = running_sums(k, numbers) + before
        present = numbers > 0.0
        last.set(k.select(present, tokens, last))
        distance.set(k.minimum(distance, k.abs(sums - point)))
        first.set(k.minimum(first, k.select(present & (sums > point), tokens, count)))
        before.set(k.spread(sums.lane(width - 1), width))
    nearest = -k.group_max(-first, width).lane(0)
    token = k.convert(k.select(nearest < count, nearest, k.group_max(last, width).lane(0)), I64)
    return token, k.any(distance < near)
