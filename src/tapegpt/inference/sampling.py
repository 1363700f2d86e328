"""Strings that meet constraints, drawn from a model without a loop that may never end.

Token by token: the next character is drawn from those from which the automaton can still accept, by the model's
probability times a rough estimate that the prefix so far will be accepted, for which characters at all positions count
as independent. Dead ends are never entered, and strings are led to where the constraints are met.

Unbiased: without the estimate, and the probabilities are normalised. Let w be the product of what they summed to before
that, over all tokens: the model gives a string w times the probability that it is drawn with. The string is accepted
with the probability w / b, where no w is above b, so that strings have the model's own distribution given that they
meet the constraints (rejection sampling). Where hardly any would be accepted, strings are drawn token by token. The
mean of w, with the estimate too, is the probability that the model meets the constraints by itself.

What is looked up when a string is whole (that it is new, or has not come yet) conditions either distribution exactly:
strings are drawn many at a time and those that do not fit left out, for as long as that pays. Then they come
in the order of a race (`race.py`), in which each prefix is looked at once for all strings that begin so.

Not here: automata, the model's arithmetic.
"""

from __future__ import annotations

import math
import sys
from array import array
from heapq import heappop, heappush
from itertools import islice, repeat

from tapegpt.data.rng import Random
from tapegpt.data.tokens import ROOM
from tapegpt.errors import TapeGPTError, warn
from tapegpt.inference.automata import FORBIDDEN
from tapegpt.inference.choice import Choice
from tapegpt.inference.constraints import Constraints, Drawing
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tapegpt.data.neighbours import Neighbours
    from tapegpt.data.tokens import Strings
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.inference.automata import Automaton
    from tapegpt.inference.forward import Drawn, Inference, Rules
    from tapegpt.inference.race import Arrivals

WORTH = 10  # strings of a batch, which take about as long as one of a race
PERSISTENCE = 200  # times as many where a string may come twice
MAX_FOUND, MAX_REPEATED = 4_000_000, 1 << 16  # strings kept up to the next time, and where they may come twice
MAX_PREFIXES, LEAST_SHARE = 100_000, 1e-3  # looked at, where so few of them become strings
STEP, LEAST_STEP = math.log(3.0), 0.01  # from a time to the next one, of their logs
MIN_BATCH, MAX_BATCH = 64, 4096
BATCH_WORK = 3e8  # parameters times positions of a batch, so that Ctrl-C is prompt
MAX_VAIN, MAX_WORK = 200_000, 1e11  # strings, and their work, without one that is exact: about 1 s
KEPT, MUCH = 300, 1e9  # bytes of a string that is not to come twice; of what is told beforehand
SLACK = 1e-4  # of w in f32
BOUND_LOOKS = 200  # prefixes looked at for an upper bound of w
EXAMPLES, FEWEST = 1024, 64  # strings to look ahead by, where they fit the block, and at least
DOUBT, COLDEST = 10.0, 0.3  # weight of all positions; the least temperature of these strings


class Estimate(Record):
    """A probability and its standard error, from so many draws."""

    probability: float
    error: float
    draws: int


class _HardlyEverError(TapeGPTError):
    """What is left to come is too improbable to be found."""


class Sampler:
    """Strings of one model that meet constraints; what else is to be known of them is given to `note`, a line each.

    Raises `TapeGPTError` for constraints that make no sense for this model.
    """

    def __init__(
        self,
        inference: Inference,
        vocabulary: Vocabulary,
        constraints: Constraints,
        drawing: Drawing,
        known: Neighbours | None,
        rng: Random,
        note: Callable[[str], object] = warn,
    ) -> None:
        if constraints.unbiased and drawing.truncates:
            raise TapeGPTError(
                "unbiased draws from the model's whole distribution: leave out top_k, top_p, min_p and temperature 0"
            )
        self._note = note
        self._inference, self._vocabulary, self._rng = inference, vocabulary, rng
        self._constraints, self._drawing, self._known = constraints, drawing, known
        self._block = inference.config.block_size
        self._space = space = _Space(constraints, vocabulary, self._block)
        if known and constraints.distance is not None:
            space.any &= constraints.distance < known.farthest(space.longest * max(map(len, vocabulary)))
        self._seen: set[str] = set()
        self._is_in_vain = False  # nothing unbiased was found
        self._unbiased = constraints.unbiased is not False and not drawing.truncates and not self._space.is_free
        self._rules = self._space.rules
        if not self._unbiased:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Lead strings to where the constraints are met, by what the model's strings are like."""
        if self._space.any and not self._space.is_free:
            examples = Drawing(temperature=max(float(self._drawing.temperature), COLDEST))
            free = _Space(Constraints(max_length=self._space.longest), self._vocabulary, self._block)
            streams = Random(0).streams(max(EXAMPLES * self._block // self._space.longest, FEWEST))
            self._space.look_ahead(self._inference.draw(streams, examples, free.rules).strings)
        self._rules = self._space.rules

    def strings(self, n: int | None) -> Iterator[str]:
        """n strings, or all that there are, if that is fewer; without n as many as are taken."""
        given = 0
        if n is not None and self._constraints.distinct and n * KEPT > MUCH:
            self._note(f"up to {n * KEPT / 1e9:.1f} GB of memory: strings are kept, so that none comes twice")
        try:
            for text in islice(self._endless(), None if n is None else min(n, sys.maxsize)):
                given += 1
                yield text
        except _HardlyEverError as error:
            raise TapeGPTError(f"after {given:,} strings: {error}") from None
        if n is not None and given < n:
            few = f"only {given:,} string{'s meet' if given > 1 else ' meets'}" if given else "no string meets"
            self._note(f"{few} the constraints, {n:,} were requested")

    def _endless(self) -> Iterator[str]:
        """Strings for as long as there are some; how many are taken changes none of them."""
        if not self._space.any:
            return
        yield from self._in_batches()
        if self._is_in_vain and not self._constraints.unbiased:
            self._give_up_unbiased()
            yield from self._in_batches()
        try:
            yield from self._in_order()
        except _HardlyEverError:
            if self._constraints.unbiased or not self._unbiased:
                raise
            self._give_up_unbiased()
            yield from self._in_order()

    def _give_up_unbiased(self) -> None:
        self._unbiased = False
        self._look_ahead()
        self._note(
            "the model hardly ever meets the constraints: strings are drawn token by token, not from its own "
            "distribution: loosen the constraints, or choose unbiased=False (--no-unbiased) from the start"
        )

    def _in_order(self) -> Iterator[str]:
        """Strings in the order in which they come, until none is left."""
        if not self._drawing.temperature:
            yield from self._best_first()
            return
        from tapegpt.inference.race import Arrivals

        settings = (self._inference, self._drawing, self._rules, self._space.longest, self._rng.getrandbits(64))
        race = Arrivals(*settings, unbiased=self._unbiased)
        step = math.log(MIN_BATCH)
        done, limit = -math.inf, step
        while True:
            found = self._arrivals(race, done, limit)
            if found is None:
                step /= 2.0
                limit -= step
                continue
            yield from (text for _, text in sorted(found) if not self._constraints.distinct or self.admits(text))
            if race.is_over and (self._constraints.distinct or not found):
                return
            step = STEP if found else 2.0 * step
            done, limit = limit, limit + step

    def _arrivals(self, race: Arrivals, done: float, limit: float) -> list[tuple[float, str]] | None:
        """The strings that come from one time to another, and the logs of their times; None where they are too many."""
        from tapegpt.inference.race import repetitions

        found, most = list[tuple[float, str]](), MAX_FOUND if self._constraints.distinct else MAX_REPEATED
        is_long = limit - done > LEAST_STEP
        for strings, came in race.until(limit):
            texts = self._vocabulary.texts(strings) if len(strings) else []
            for text, time, rate, seed in zip(texts, came.times, came.rates, came.seeds, strict=True):
                if self._constraints.distinct:
                    times: Iterable[float] = [time]
                elif is_long and rate + limit > math.log(most):
                    return None
                else:
                    times = repetitions(time, rate, seed, limit) if self.admits(text) else ()
                found += [(each, text) for each in times if each >= done]
            is_in_vain = race.prefixes > MAX_PREFIXES and len(found) < race.prefixes * LEAST_SHARE
            if (is_long and len(found) > most) or (is_in_vain and limit - done > STEP):
                return None
            if is_in_vain:
                raise _HardlyEverError(
                    f"hardly any more come, {len(found):,} of the next {race.prefixes:,} prefixes: leave out unbiased, "
                    "choose a higher temperature, ask for fewer strings, or constrain them less"
                )
        return found

    def _best_first(self) -> Iterator[str]:
        """Strings by the most probable token that is left, from the last position back; the first one for ever."""
        space, ahead = self._space, [(list[int](), self._rules.start)]
        while ahead:
            tokens, state = ahead.pop()
            ends = tokens[-1:] == [space.bos]
            if ends or len(tokens) == space.longest:
                text = self._vocabulary.decode(tokens[: len(tokens) - ends])
                if self.admits(text):
                    yield from [text] if self._constraints.distinct else repeat(text)
                continue
            choice = self._choice(tokens, state)
            for token, _ in sorted(choice.weights.items(), key=lambda pair: (pair[1], -pair[0])):
                ahead.append(([*tokens, token], choice.after(token)))

    def _choice(self, tokens: list[int], state: int) -> Choice:
        logs = self._inference.next_logs([tokens])[0]
        return Choice(logs, state, len(tokens), self._drawing, self._rules)

    def _in_batches(self) -> Iterator[str]:
        """Strings for as long as one in `WORTH` is admitted, and one found in `MAX_WORK`."""
        most = self._most
        if self._constraints.distance:
            most = min(MIN_BATCH, most)  # each string is compared with all documents
        vain = min(MAX_VAIN * self._block / self._space.longest, max(MAX_WORK / self._work, MIN_BATCH))
        bound = self._bound() if self._unbiased else 0.0
        self._is_in_vain = False
        worth = WORTH if self._constraints.distinct else WORTH * PERSISTENCE
        size, in_vain, tried, admitted = min(MIN_BATCH, most), 0, 0, 0
        while not self._is_in_vain:
            drawn = self._draw(size)
            strings = self._texts(drawn)
            if self._unbiased:
                taken = [weight > bound + math.log(self._rng.random() or math.ulp(0.0)) for weight in drawn.log_weights]
                strings = [text for text, take in zip(strings, taken, strict=True) if take]
            for text in filter(self.admits, strings):
                admitted += 1
                yield text
            tried += len(strings)
            if tried >= worth:
                if admitted * worth < tried:
                    return
                tried = admitted = 0
            in_vain = 0 if strings else in_vain + size
            self._is_in_vain = in_vain >= vain
            size = min(2 * size, most)

    @property
    def _work(self) -> int:
        return self._inference.work * self._space.longest

    @property
    def _most(self) -> int:
        wanted = max(MIN_BATCH, min(MAX_BATCH, int(BATCH_WORK / self._work)))
        return max(min(wanted, ROOM // self._space.longest), 1)

    def _bound(self) -> float:
        """The log of what no string's w is above: the greatest w of prefixes, of which some are looked at.

        They are what all strings begin with, and from there on some more, the greatest first.
        """
        space, looks = self._space, 0
        ahead: list[tuple[float, list[int], int]] = [(0.0, [], self._rules.start)]
        while looks < BOUND_LOOKS or len(ahead) == 1:
            negative, prefix, state = ahead[0]
            if len(prefix) == space.longest or prefix[-1:] == [space.bos]:
                break
            heappop(ahead)
            looks += 1
            choice = self._choice(prefix, state)
            share = negative - min(choice.log_left + SLACK, 0.0)
            for token in choice.weights:
                heappush(ahead, (share, [*prefix, token], choice.after(token)))
        return -ahead[0][0]

    def _draw(self, count: int) -> Drawn:
        return self._inference.draw(self._rng.streams(count), self._drawing, self._rules)

    def _texts(self, drawn: Drawn) -> list[str]:
        return self._vocabulary.texts(drawn.strings)

    def of_streams(self, streams: array[int]) -> Iterator[str]:
        """The string of each of `Random.streams`, token by token, `admits` apart; raises `TapeGPTError` for none."""
        if not self._space.any:
            raise TapeGPTError("no string meets the constraints: loosen them")
        most = 2 * self._most
        for start in range(0, len(streams), most):
            yield from self._texts(self._inference.draw(streams[start : start + most], self._drawing, self._rules))

    def admits(self, text: str) -> bool:
        """Whether a whole string is one to give."""
        if self._constraints.distinct:
            if text in self._seen:
                return False
            self._seen.add(text)
        distance = self._constraints.distance
        return distance is None or not self._known or not self._known.within(text, distance)

    def probability(self, draws: int) -> Estimate:
        """That the model, left to itself at this temperature, meets the constraints.

        The mean over strings drawn within them of the probability that each choice was left with.
        Raises `TapeGPTError` where the choices are narrowed by anything but the constraints.
        """
        if self._drawing.truncates:
            raise TapeGPTError("the probability is the model's own: leave out top_k, top_p, min_p and temperature 0")
        if not self._space.any:
            return Estimate(0.0, 0.0, draws)
        self._look_ahead()
        weights: list[float] = []
        while len(weights) < draws:
            drawn = self._draw(min(self._most, draws - len(weights)))
            pairs = zip(self._texts(drawn), drawn.log_weights, strict=True)
            weights += [math.exp(weight) if self.admits(text) else 0.0 for text, weight in pairs]
        mean = math.fsum(weights) / draws
        variance = math.fsum((weight - mean) ** 2 for weight in weights) / (draws - 1)
        return Estimate(mean, math.sqrt(variance / draws), draws)


class _Space:
    """Which strings the automaton and the lengths admit."""

    def __init__(self, constraints: Constraints, vocabulary: Vocabulary, block_size: int) -> None:
        least, most = (len(vocabulary.labels) + most for most in constraints.lengths(block_size, vocabulary))
        self.automaton: Automaton = constraints.automaton(vocabulary)
        self.longest, self.bos = max(most, block_size), vocabulary.bos  # strings are cut where they are longest
        self._least, self._most = least, most
        self._ahead = self.automaton.ahead(least, most)
        self.any = bool(self.automaton.start and self._ahead[self.automaton.start] > FORBIDDEN)
        plain = constraints.replace(novel=False, distinct=False, unbiased=None)
        self.is_free = plain.only_cut(block_size) and not vocabulary.labels  # which stand before a string, nowhere else

    @property
    def rules(self) -> Rules:
        """The same for drawing many strings."""
        from tapegpt.inference.forward import Rules

        automaton = self.automaton
        arrays = (automaton.classes, automaton.count, automaton.table, automaton.start, automaton.accepting)
        return Rules(*arrays, self._ahead, self._least, self._most)

    def look_ahead(self, examples: Strings) -> None:
        """Tell how likely prefixes are to be accepted by what strings of the model are like, at every length."""
        automaton, kinds = self.automaton, self.automaton.count
        seen = max(examples.lengths) + 1  # lengths
        counts = array("d", bytes(8 * seen * (kinds + 1)))
        overall = [0.1] * (kinds + 1)
        for tokens in examples:
            for length, token in enumerate([*tokens, self.bos]):
                kind = kinds if token == self.bos else automaton.classes[token]
                counts[length * (kinds + 1) + kind] += 1.0
                overall[kind] += 1.0
        total = math.fsum(overall)
        chances = array("d")
        for length in range(seen + 1):  # the last for all longer ones
            row = counts[length * (kinds + 1) : (length + 1) * (kinds + 1)] or [0.0] * (kinds + 1)
            weight = math.fsum(row) + DOUBT
            chances.extend([(n + DOUBT * share / total) / weight for n, share in zip(row, overall, strict=True)])
        self._ahead = automaton.ahead(self._least, self._most, chances)
