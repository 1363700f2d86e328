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
strings are drawn many at a time and those that do not fit left out, for as long as that pays. Then those that are to
come once are enumerated in the order of a race (`race.py`). For others, and for probabilities that are cut off and need
the rest, a tree of prefixes takes over, in which whatever has come or does not fit loses its probability: nothing is
met twice, and when nothing is left, all strings have come. What a prefix may become has an upper bound there; where a
walk looks at one for the first time, the bound falls to what is known then, and to be unbiased the walk continues with
the quotient of the two as its probability, or starts anew.

Source: Shi, Bieber and Sutton, "Incremental sampling without replacement for sequence models", 2020.
Not here: automata, the model's arithmetic.
"""

from __future__ import annotations

import math
import sys
from array import array
from heapq import heappop, heappush
from itertools import accumulate, islice

from tapegpt.data.rng import Random
from tapegpt.data.tokens import ROOM
from tapegpt.errors import TapeGPTError, warn
from tapegpt.inference.automata import FORBIDDEN
from tapegpt.inference.constraints import Constraints, Drawing
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tapegpt.data.neighbours import Neighbours
    from tapegpt.data.tokens import Strings
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.inference.automata import Automaton
    from tapegpt.inference.forward import Drawn, Inference, Rules
    from tapegpt.inference.race import Arrivals

WORTH = 100  # a string of the tree takes about as long as so many drawn in a batch
RACE_WORTH = 10  # the same of a string of a race
MAX_FOUND, MAX_PREFIXES = 4_000_000, 4_000_000  # strings kept, prefixes looked at, up to the next time
STEP, LEAST_STEP = math.log(3.0), 0.01  # from a time to the next one, of their logs
PERSISTENCE = 20  # times as many, where strings are left out that the tree would find one by one too
MIN_BATCH, MAX_BATCH = 64, 4096
BATCH_WORK = 3e8  # parameters times positions of a batch, so that Ctrl-C is prompt
MAX_VAIN, MAX_WORK = 200_000, 1e11  # strings, and their work, without one that is exact: about 1 s
SLACK = 1e-4  # of w in f32
BOUND_LOOKS = 200  # prefixes looked at for an upper bound of w
MAX_CELLS = 20_000_000  # of the tree, 16 bytes each
MAX_TRIES = 20_000  # prefixes looked at for one string of the exact distribution, a second
EXAMPLES, FEWEST = 1024, 64  # strings to look ahead by, where they fit the block, and at least
DOUBT, COLDEST = 10.0, 0.3  # weight of all positions; the least temperature of these strings
TINY = 1e-300  # what is possible is never quite zero, or it could not come when all else has


class Estimate(Record):
    """A probability and its standard error, from so many draws."""

    probability: float
    error: float
    draws: int


class _ImprobableError(TapeGPTError):
    """What is left to come is too improbable to be found."""


class _HardlyEverError(_ImprobableError):
    """It may be found where the distribution needs not be exact."""


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
        self._space = _Space(constraints, vocabulary, self._block)
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
        try:
            for text in islice(self._endless(), None if n is None else min(n, sys.maxsize)):
                given += 1
                yield text
        except _ImprobableError as error:
            raise TapeGPTError(f"after {given:,} strings: {error}") from None
        if n is not None and given < n:
            few = f"only {given:,} string{'s meet' if given > 1 else ' meets'}" if given else "no string meets"
            self._note(f"{few} the constraints, {n:,} were asked for")

    def _endless(self) -> Iterator[str]:
        """Strings for as long as there are some; how many are taken changes none of them."""
        if not self._space.any:
            return
        yield from self._in_batches()
        if self._is_in_vain and not self._constraints.unbiased:
            self._give_up_unbiased()
            yield from self._in_batches()
        rest = self._in_order if self._races else self._from_tree
        try:
            yield from rest()
        except _HardlyEverError:
            if self._constraints.unbiased or not self._unbiased:
                raise
            self._give_up_unbiased()
            yield from rest()

    def _give_up_unbiased(self) -> None:
        self._unbiased = False
        self._look_ahead()
        self._note(
            "the model hardly ever meets the constraints: strings are drawn token by token, not from its own "
            "distribution: loosen the constraints, or choose unbiased=False from the start"
        )

    @property
    def _races(self) -> bool:
        """Whether strings that batches do not find come in the order of a race."""
        return self._constraints.distinct and not self._drawing.truncates

    def _in_order(self) -> Iterator[str]:
        """Strings as they come first, until none is left."""
        from tapegpt.inference.race import Arrivals

        settings = (self._inference, self._drawing, self._rules, self._space.longest, self._rng.getrandbits(64))
        race = Arrivals(*settings, exact=self._unbiased)
        step = math.log(MIN_BATCH)
        done, limit = -math.inf, step
        while True:
            found = self._arrivals(race, done, limit, MAX_FOUND if step > LEAST_STEP else sys.maxsize)
            if found is None:
                step /= 2.0
                limit -= step
                continue
            if race.prefixes > MAX_PREFIXES and len(found) * WORTH < race.prefixes:
                raise _HardlyEverError(
                    f"hardly any more come, {len(found):,} of the next {race.prefixes:,} prefixes: leave out unbiased, "
                    "choose a higher temperature, ask for fewer strings, or constrain them less"
                )
            yield from (text for _, text in sorted(found) if self.admits(text))
            if race.is_over:
                return
            step = STEP if found else 2.0 * step
            done, limit = limit, limit + step

    def _arrivals(self, race: Arrivals, done: float, limit: float, most: int) -> list[tuple[float, str]] | None:
        """The strings that come from one time to another, and the logs of their times; None where they are too many."""
        found = list[tuple[float, str]]()
        for times, strings in race.until(limit):
            pairs = zip(times, self._vocabulary.texts(strings), strict=True)
            found += [pair for pair in pairs if pair[0] >= done]
            if len(found) > most:
                return None
        return found

    def _from_tree(self) -> Iterator[str]:
        """Strings until none is left."""
        tree = _Tree(self._inference, self._space, self._drawing, self._unbiased)
        while (tokens := tree.draw(self._rng)) is not None:
            text = self._vocabulary.decode(tokens)
            fits = self.admits(text)
            if not fits or self._constraints.distinct:
                tree.exhaust()
            if fits:
                yield text

    def _in_batches(self) -> Iterator[str]:
        """Strings for as long as one in `WORTH` is admitted, and one found in `MAX_WORK`."""
        most = self._most
        if self._constraints.distance:
            most = min(MIN_BATCH, most)  # each string is compared with all documents
        vain = min(MAX_VAIN * self._block / self._space.longest, max(MAX_WORK / self._work, MIN_BATCH))
        bound = self._bound() if self._unbiased else 0.0
        self._is_in_vain = False
        worth = RACE_WORTH if self._races else WORTH if self._known is None else WORTH * PERSISTENCE
        size, in_vain, tried, admitted = min(MIN_BATCH, most), 0, 0, 0
        while not self._is_in_vain:
            drawn = self._draw(size)
            strings = self._texts(drawn)
            if self._unbiased:
                taken = [weight > bound + math.log(self._rng.random() or TINY) for weight in drawn.log_weights]
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
        """Parameters times positions of a string."""
        return self._inference.work * self._space.longest

    @property
    def _most(self) -> int:
        """Strings of a batch."""
        wanted = max(MIN_BATCH, min(MAX_BATCH, int(BATCH_WORK / self._work)))
        return max(min(wanted, ROOM // self._space.longest), 1)

    def _bound(self) -> float:
        """The log of what no string's w is above: the greatest w of prefixes, of which some are looked at.

        They are what all strings begin with, and from there on some more, the greatest first.
        """
        space, looks = self._space, 0
        ahead: list[tuple[float, list[int], int]] = [(0.0, [], space.automaton.start)]
        while looks < BOUND_LOOKS or len(ahead) == 1:
            negative, prefix, state = ahead[0]
            if len(prefix) == space.longest or prefix[-1:] == [space.bos]:
                break
            heappop(ahead)
            looks += 1
            choices = space.choices(state, len(prefix))
            probabilities = _temper(self._inference.next_logs([prefix])[0], self._drawing.temperature)
            share = negative - math.log(min(math.fsum(probabilities[token] for token in choices) * (1.0 + SLACK), 1.0))
            for token in choices:
                heappush(ahead, (share, [*prefix, token], 0 if token == space.bos else space.after(state, token)))
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

    def prospect(self, state: int, length: int) -> float:
        """The log of what `look_ahead` has told of strings of this length that have come to this state, else 0."""
        return self._ahead[length * self.automaton.states + state]

    def after(self, state: int, token: int) -> int:
        """The state after a character."""
        automaton = self.automaton
        return automaton.table[state * automaton.count + automaton.classes[token]]

    def choices(self, state: int, length: int) -> list[int]:
        """Tokens from which a string of this length that has come to this state can still be accepted."""
        automaton, tokens = self.automaton, []
        if length < self._most:
            row = automaton.table[state * automaton.count : (state + 1) * automaton.count]
            alive = [self.prospect(target, length + 1) > FORBIDDEN for target in row]
            tokens = [token for token, kind in enumerate(automaton.classes) if alive[kind]]
        if automaton.accepting[state] and length >= self._least:
            tokens.append(self.bos)
        return tokens


class _Node:
    """A prefix: its next tokens, their probabilities, and how much of these may still come."""

    __slots__ = ("children", "left", "probabilities", "state", "tokens")

    def __init__(self, state: int, tokens: list[int], probabilities: list[float]) -> None:
        self.state, self.tokens = state, tokens
        self.probabilities = array("d", probabilities)
        self.left = array("d", probabilities)
        self.children: dict[int, _Node] = {}


class _Tree:
    """Prefixes of strings, from which whole ones can be drawn and taken out."""

    def __init__(self, inference: Inference, space: _Space, drawing: Drawing, unbiased: bool) -> None:
        self._inference, self._space, self._drawing, self._unbiased = inference, space, drawing, unbiased
        self._cells = 0
        self._root = self._look_at([], space.automaton.start)
        self._path: list[tuple[_Node, int]] = []  # of the last string: nodes, and which of their tokens

    def draw(self, rng: Random) -> list[int] | None:
        """The tokens of a string, None where none is left.

        Raises `TapeGPTError` where an exact draw, or the tree, would take too much.
        """
        for _ in range(MAX_TRIES):
            if not any(self._root.left):
                return None
            tokens = self._walk(rng)
            if tokens is not None:
                return tokens
        raise _HardlyEverError(
            f"the constraints are met with a probability of at most {sum(self._root.left):.2g}, "
            f"and no string was found among {MAX_TRIES:,} prefixes: leave out unbiased, or choose a higher temperature"
        )

    def exhaust(self) -> None:
        """Take out the string that was drawn last."""
        node, index = self._path[-1]
        node.left[index] = 0.0
        self._pass_on()

    def _walk(self, rng: Random) -> list[int] | None:
        """A string by what may still come; None where a look at a new prefix ended it."""
        node, tokens = self._root, list[int]()
        self._path = []
        while True:
            index = self._choice(node, rng)
            self._path.append((node, index))
            token = node.tokens[index]
            if token == self._space.bos:
                return tokens
            tokens.append(token)
            if len(tokens) == self._space.longest:
                return tokens
            child = node.children.get(index)
            if child is None:
                child = node.children[index] = self._look_at(tokens, self._space.after(node.state, token))
                self._path.append((child, 0))
                self._pass_on()
                self._path.pop()
                if self._unbiased and rng.random() >= sum(child.left):
                    return None
            node = child

    def _choice(self, node: _Node, rng: Random) -> int:
        if not self._drawing.temperature:
            pairs = zip(node.probabilities, node.left, strict=True)
            return max(enumerate(pairs), key=lambda pair: pair[1][0] if pair[1][1] else -1.0)[0]
        sums = list(accumulate(node.left))
        point = rng.random() * sums[-1]
        return next(index for index, total in enumerate(sums) if total > point)

    def _pass_on(self) -> None:
        """Tell the nodes of the path, from the last to the first, what is left below."""
        child = self._path[-1][0]
        for node, index in reversed(self._path[:-1]):
            share = sum(child.left)
            node.left[index] = max(node.probabilities[index] * share, TINY) if share else 0.0
            if not share:
                self._cells -= len(node.children.pop(index).tokens)
            child = node

    def _look_at(self, prefix: list[int], state: int) -> _Node:
        tokens = self._space.choices(state, len(prefix))
        self._cells += len(tokens)
        if self._cells > MAX_CELLS:
            raise _ImprobableError(
                f"what is left to come is so improbable that {MAX_CELLS:,} probabilities are not enough to find it: "
                "choose a higher temperature, ask for fewer strings, or constrain them less"
            )
        logs = self._inference.next_logs([prefix])[0]
        return _Node(state, *self._probabilities(tokens, logs, state, len(prefix)))

    def _probabilities(
        self, tokens: list[int], logs: array[float], state: int, length: int
    ) -> tuple[list[int], list[float]]:
        """The tokens that remain after truncation, and their probabilities, which sum to 1 unless they are exact."""
        drawing = self._drawing
        if self._unbiased:
            probabilities = _temper(logs, drawing.temperature)
            pairs = [(token, probabilities[token]) for token in tokens]
        else:
            space, scale = self._space, drawing.temperature or 1.0
            prospects = [
                0.0 if token == space.bos else scale * space.prospect(space.after(state, token), length + 1)
                for token in tokens
            ]
            weighed = [logs[token] + prospect for token, prospect in zip(tokens, prospects, strict=True)]
            pairs = list(zip(tokens, _temper(weighed, drawing.temperature), strict=True))
        if drawing.truncates:
            pairs = truncate(pairs, drawing)
            remaining = math.fsum(p for _, p in pairs)
            pairs = [(token, p / remaining) for token, p in pairs]
        return [token for token, _ in pairs], [p for _, p in pairs]


def _temper(logs: Sequence[float], temperature: float) -> list[float]:
    """Probabilities that sum to 1, at a temperature; at 0, which leaves only one, those of 1."""
    inverse, largest = 1.0 / (temperature or 1.0), max(logs)
    weights = [math.exp((log - largest) * inverse) for log in logs]
    total = math.fsum(weights)
    return [max(weight / total, TINY) for weight in weights]


def truncate(pairs: list[tuple[int, float]], drawing: Drawing) -> list[tuple[int, float]]:
    """What top_k, top_p and min_p leave, in this order; at a threshold ties stay."""
    falling = sorted((p for _, p in pairs), reverse=True)
    threshold = drawing.min_p * falling[0]
    if drawing.top_k:
        falling = falling[: drawing.top_k] + [p for p in falling[drawing.top_k :] if p == falling[drawing.top_k - 1]]
    mass = drawing.top_p * math.fsum(falling)
    sums = accumulate(falling)
    threshold = max(threshold, next((p for p, total in zip(falling, sums, strict=True) if total >= mass), falling[-1]))
    return [(token, p) for token, p in pairs if p >= threshold]
