"""The next token of a string, chosen in Python as `drawing_kernel` chooses it. Not here: which logs it goes by."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

from tapegpt.inference.automata import FORBIDDEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.inference.constraints import Drawing
    from tapegpt.inference.forward import Rules

WORD = (1 << 64) - 1


class Choice:
    """The next token after a prefix, at a state and position of rules."""

    def __init__(self, logs: Sequence[float], state: int, position: int, drawing: Drawing, rules: Rules) -> None:
        self._rules = rules
        self._greedy = drawing.temperature == 0
        scale = 1.0 / (drawing.temperature or 1.0)
        self._row = rules.table[state * rules.count : (state + 1) * rules.count]
        states, goes_on = len(rules.accepting), position < rules.most
        # State 0, a dead end, for strings that may not continue.
        self._prospects = [rules.ahead[(position + 1) * states + target if goes_on else 0] for target in self._row]
        allowed = [
            (token, logs[token] * scale + self._prospects[kind])
            for token, kind in enumerate(rules.classes)
            if self._prospects[kind] > FORBIDDEN
        ]
        if rules.accepting[state] and position >= rules.least:
            allowed.append((len(rules.classes), logs[-1] * scale))
        logits = [logit for _, logit in allowed]
        largest = max(logits)
        # Of what the model gives to all tokens, the log of the part that may follow.
        self.log_left = log_sum(logits) - log_sum([each * scale for each in logs])
        pairs = [(token, math.exp(logit - largest)) for token, logit in allowed]
        self.weights = dict(truncate(pairs, drawing) if drawing.truncates else pairs)  # by token
        self._tokens, self._sums = list(self.weights), list(accumulate(self.weights.values()))

    def token(self, unit: float) -> int:
        """The token at a random number from 0 to below 1; the most probable one at temperature 0."""
        if self._greedy:
            return max(self.weights, key=self.weights.__getitem__)
        return self._tokens[bisect_right(self._sums, unit * self._sums[-1])]

    def log_weight(self, token: int) -> float:
        """What a string's gets for a token."""
        kinds = self._rules.classes
        return self.log_left - (self._prospects[kinds[token]] if token < len(kinds) else 0.0)

    def after(self, token: int) -> int:
        """The state that a character leads to; that of nothing after the end."""
        kinds = self._rules.classes
        return self._row[kinds[token]] if token < len(kinds) else 0


def log_sum(logs: Sequence[float]) -> float:
    """The log of the sum of numbers whose logs these are."""
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(each - largest) for each in logs))


def random_unit(start: int, step: int, number: int) -> float:
    """That of `fast.generation.random_unit`."""
    z = start + (number + 1) * step & WORD
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
    return ((z ^ z >> 31) >> 40) * 2.0**-24


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
