"""All strings in the order in which they come first, if strings are drawn again and again: drawn without replacement.

In time that is counted in draws, a string of probability p comes first after an exponentially distributed time of rate
p, and a prefix when the first of the strings that begin so does. One of the tokens that may follow comes at that very
time, each as often as its probability says, and since the distribution has no memory, every other one an exponentially
distributed time later. So the strings that come before a time are found prefix by prefix, and what comes later is never
looked at. Random numbers follow from a seed and the prefix: a string comes at the same time however far one looks.

Source: Kool, van Hoof and Welling, "Stochastic beams and where to find them", 2019, whose Gumbel noise is the negative
log of the time here. Not here: what is looked up when a string is whole (`sampling.py`).
"""

from __future__ import annotations

import math
from array import array

from tapegpt.data.rng import GOLDEN
from tapegpt.data.tokens import Strings
from tapegpt.engines.fast.generation import mix
from tapegpt.inference.automata import FORBIDDEN
from tapegpt.inference.choice import log_sum, random_unit
from tapegpt.inference.drawing import Automaton  # noqa: TC001  # kernels look it up
from tapegpt.machine.language import F64, Builder, F32s, F64s, I64s, Int, Pointer, Real, U32s, Value, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.signature import Structure
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tapegpt.inference.constraints import Drawing
    from tapegpt.inference.forward import Inference, Rules
    from tapegpt.machine.language import Operand
    from tapegpt.machine.program import Argument

CELLS = 1 << 20  # tokens that are looked at together
FOREVER = 1e300  # the log of a time after all others
NOTHING = -1e30  # the log of a weight below that of any token that is possible
_STEP = GOLDEN - (1 << 64)  # of a seed, token by token


class Prefixes(Structure):
    """Prefixes of one length."""

    ids: U32s  # (count, length)
    times: F64s  # log of the time at which the first string comes that begins so
    rates: F64s  # log of the probability
    seeds: I64s
    states: U32s  # of the automaton


class Whole(Structure):
    """Whole strings."""

    ids: U32s  # (count, room)
    times: F64s
    rates: F64s
    seeds: I64s
    lengths: I64s


class Race(Structure):
    """What decides which strings come."""

    limit: Real  # log of the time up to which they are wanted
    inverse: Real  # of the temperature
    is_unbiased: Int  # 1: as the model has it; 0: by what the automaton leaves, and its prospects
    longest: Int
    bos: Int
    top_k: Int  # as in `Narrowing`
    top_p: Real
    min_p: Real


@kernel
def advance(
    k: Builder,
    logs: F32s,
    weights: F64s,
    before: Prefixes,
    length: Int,
    count: Int,
    automaton: Automaton,
    race: Race,
    after: Prefixes,
    whole: Whole,
    found: I64s,
) -> None:
    """The prefixes that are a token longer and come in time, and the whole strings.

    logs (count, V): log p of each token; weights has room for 2 V. Found are counted, on what there is: prefixes,
    whole strings, and what comes too late.
    """
    bos, limit = k.value(race.bos), race.limit
    e = weights + (bos + 1)

    def add(to: Prefixes | Whole, number: int, row: Value, token: Value, time: Value) -> Value:
        """Another one; its place."""
        place = found[number]
        found[number] = place + 1
        ids = to.ids + place * (length + 1)
        for position in k.range(length):
            ids[position] = before.ids[row * length + position]
        ids[length], to.times[place] = token, time
        return place

    length = k.value(length)
    for row in k.range(count):
        state, time, seed = before.states[row], before.times[row], before.seeds[row]
        ends = automaton.ends(state, length)
        automaton.look(k, state, length, k.real32(1.0))

        def prospect(token: Value) -> Value:
            """Of a character, or of the end."""
            ahead = automaton.prospects[automaton.classes[k.minimum(token, bos - 1)]]
            return k.select(token.equals(bos), k.select(ends, k.real32(0.0), FORBIDDEN), ahead)

        largest, sums, first = k.variable(k.real(-FOREVER)), k.zeros(), k.variable(k.integer(-1))
        for token in k.range(bos + 1):
            ahead = k.convert(k.select(race.is_unbiased.equals(1), k.real32(0.0), prospect(token)), F64)
            weights[token] = k.convert(logs[row * (bos + 1) + token], F64) * race.inverse + ahead
            largest.set(k.maximum(largest, weights[token]))
        for token in k.range(bos + 1):
            e[token] = k.exp(weights[token] - largest)
        least = k.variable(k.real(NOTHING))
        for _ in k.when(race.top_k > 0):
            least.set(_least(k, weights, e, bos, least, lambda count, mass: count >= race.top_k))
        for _ in k.when(race.top_p < 1.0):
            wanted = _mass(k, weights, e, bos, least) * race.top_p
            least.set(_least(k, weights, e, bos, least, lambda count, mass: mass >= wanted))
        for _ in k.when(race.min_p > 0.0):
            least.set(k.maximum(least, largest + k.log(race.min_p)))
        total = _mass(k, weights, e, bos, k.select(race.is_unbiased.equals(1), k.real(-FOREVER), least))
        point, rate = _unit(k, mix(seed)) * total, before.rates[row] - largest - k.log(total)
        for token in k.range(bos + 1):
            sums += k.select(weights[token] >= least, e[token], 0.0)
            first.set(k.select((first < 0) & (sums > point), token, first))
        for token in k.range(bos + 1):
            for _ in k.when((prospect(token) > FORBIDDEN) & (weights[token] >= least)):
                own_seed, own_rate, comes = mix(seed + (token + 1) * _STEP), rate + weights[token], k.variable(time)
                for _ in k.when(token.differs(first)):
                    unit = _unit(k, own_seed)
                    comes.set(k.real(FOREVER))
                    # It comes at least the unit over the rate later, which saves most logarithms.
                    for _ in k.when(unit <= k.exp(k.minimum(limit + own_rate, 1.0))):
                        later = k.log(-k.log(1.0 - unit)) - own_rate
                        last = k.maximum(time, later)
                        comes.set(last + k.log(k.exp(k.minimum(time, later) - last) + 1.0))
                is_whole = token.equals(bos) | (length + 1).equals(race.longest)
                in_time = comes < limit
                found[2] = found[2] + k.select(in_time, k.integer(0), 1)
                for _ in k.when(in_time & is_whole):
                    place = add(whole, 1, row, token, k.value(comes))
                    whole.lengths[place] = k.select(token.equals(bos), length, length + 1)
                    whole.rates[place], whole.seeds[place] = own_rate, own_seed
                for _ in k.when(in_time & k.logical_not(is_whole)):
                    place = add(after, 0, row, token, k.value(comes))
                    after.rates[place], after.seeds[place] = own_rate, own_seed
                    after.states[place] = automaton.after(state, automaton.classes[token])


def _mass(k: Builder, weights: Pointer, e: Pointer, bos: Value, least: Operand) -> Value:
    """The sum of the numbers of tokens from a weight on."""
    mass = k.zeros()
    for token in k.range(bos + 1):
        mass += k.select(weights[token] >= least, e[token], 0.0)
    return k.value(mass)


def _least(
    k: Builder, weights: Pointer, e: Pointer, bos: Value, least: Operand, enough: Callable[[Value, Value], Value]
) -> Value:
    """The weight from which on there is `enough`, from the greatest down; `least` where there never is."""
    level, count, mass = k.variable(k.real(FOREVER)), k.variable(k.integer(0)), k.zeros()
    going = k.variable(k.integer(1))
    for _ in k.repeat_while(lambda: going.equals(1)):
        below = k.variable(least)
        for token in k.range(bos + 1):
            below.set(k.select(weights[token] < level, k.maximum(below, weights[token]), below))
        for token in k.range(bos + 1):
            for _ in k.when(weights[token].equals(below)):
                count += 1
                mass += e[token]
        level.set(below)
        going.set(k.select(enough(k.value(count), k.value(mass)) | (level <= least), k.integer(0), 1))
    return k.value(level)


def _unit(k: Builder, bits: Value) -> Value:
    """f64 in [0, 1)."""
    return k.convert(bits >> 11, F64) * 2.0**-53


class _Batch(Record):
    """Prefixes of one length."""

    ids: array[int]
    times: array[float]
    rates: array[float]
    seeds: array[int]
    states: array[int]

    @property
    def length(self) -> int:
        return len(self.ids) // len(self.times)

    def cut(self, start: int, stop: int) -> _Batch:
        ids, times, rates = self.ids[start * self.length : stop * self.length], self.times, self.rates
        return _Batch(ids, times[start:stop], rates[start:stop], self.seeds[start:stop], self.states[start:stop])


class Came(Record):
    """When strings come first, and what their later times follow from."""

    times: array[float]  # logs
    rates: array[float]  # logs
    seeds: array[int]


def repetitions(time: float, rate: float, seed: int, limit: float) -> Iterator[float]:
    """The logs of all times at which a string comes before a limit, of which the first is given."""
    number = 0
    while time < limit:
        yield time
        number += 1
        time = log_sum([time, math.log(-math.log1p(-random_unit(seed, GOLDEN, number)) or math.ulp(0.0)) - rate])


class Arrivals:
    """When each string of a model that rules allow comes first."""

    def __init__(
        self, inference: Inference, drawing: Drawing, rules: Rules, longest: int, seed: int, *, unbiased: bool
    ) -> None:
        """Unbiased: by the model's own probabilities; else by those that are left token by token."""
        self._inference, self._rules = inference, rules
        self._program = Program({"advance": (advance, {})})
        self._race: dict[str, Argument] = {
            "inverse": 1.0 / drawing.temperature,
            "is_unbiased": int(unbiased),
            "longest": longest,
            "bos": inference.vocab_size - 1,
            **{name: getattr(drawing, name) for name in ("top_k", "top_p", "min_p")},
        }
        first = array("d", [math.log(math.ulp(0.0) - math.log((1.0 + (seed >> 11)) * 2.0**-53))])
        self._start = _Batch(array("I"), first, array("d", [0.0]), array("Q", [seed]), array("I", [rules.start]))
        self.is_over, self.prefixes = False, 0  # of the last time: whether none came too late, how many were looked at

    def until(self, limit: float) -> Iterator[tuple[Strings, Came]]:
        """The strings that come before a time, whose log is the limit, some at once."""
        self.is_over, self.prefixes = self._start.times[0] < limit, 0
        ahead = [self._start] if self.is_over else []
        while ahead:
            batch = ahead.pop()
            most = max(CELLS // (self._inference.vocab_size * (batch.length + 1)), 1)
            if len(batch.times) > most:
                ahead.append(batch.cut(most, len(batch.times)))
                batch = batch.cut(0, most)
            after, strings, came = self._advance(batch, limit)
            if len(after.times):
                ahead.append(after)
            yield strings, came

    def _advance(self, batch: _Batch, limit: float) -> tuple[_Batch, Strings, Came]:
        count, length, width = len(batch.times), batch.length, self._inference.vocab_size
        self.prefixes += count
        rows = self._inference.next_logs([batch.ids[n * length : (n + 1) * length].tolist() for n in range(count)])
        logs, found = array("f", b"".join(rows)), array("q", bytes(24))
        room = count * width
        times, weights = array("d", bytes(8 * room)), array("d", bytes(16 * width))
        strings = Strings.empty(room, length + 1)
        after = _Batch(strings.ids[:], times[:], times[:], array("Q", bytes(8 * room)), array("I", bytes(4 * room)))
        came = Came(times, times[:], array("Q", bytes(8 * room)))
        self._program.run(
            "advance",
            address_of(logs),
            address_of(weights),
            _pointers(batch.as_dict()),
            length,
            count,
            self._rules.arguments(),
            {**self._race, "limit": limit},
            _pointers(after.as_dict()),
            _pointers({**strings.as_dict(), **came.as_dict()}),
            address_of(found),
        )
        going, over, late = found
        self.is_over &= not late
        whole = Strings(strings.ids[: over * (length + 1)], strings.lengths[:over])
        return after.cut(0, going), whole, Came(came.times[:over], came.rates[:over], came.seeds[:over])


def _pointers(arrays: dict[str, Any]) -> dict[str, Argument]:
    return {name: address_of(numbers) for name, numbers in arrays.items()}
