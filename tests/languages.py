"""Languages whose entropy is known exactly, to hold a model's loss against: no model can do better for long.

`entropy` is in nats per predicted token, the token that ends a string included: the expected information of a string
over the expected number of its characters and one. No string is empty or has blanks.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from math import comb, fsum, log

ROMAN = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L")]
ROMAN += [(40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]


class Language(ABC):
    """A probability distribution over strings."""

    entropy: float

    def sample(self, n: int, seed: int) -> list[str]:
        """n strings drawn independently; the same for the same seed."""
        rng = random.Random(seed)
        return [self.draw(rng) for _ in range(n)]

    @abstractmethod
    def draw(self, rng: random.Random) -> str: ...


class Automaton(Language):
    """A random finite automaton: in each state a letter, which decides the next state, or the end; never at once.

    `stop` bounds the probability of the end in every state but the first, which strings begin in and never return to.
    """

    def __init__(
        self, states: int = 6, letters: str = "abcd", seed: int = 1, stop: tuple[float, float] = (0.05, 0.3)
    ) -> None:
        rng = random.Random(seed)
        self.stop = [0.0, *(rng.uniform(*stop) for _ in range(states - 1))]
        self.arcs: list[list[tuple[str, float, int]]] = []  # of each state: letter, probability, next state
        for end in self.stop:
            weights = [rng.random() ** 3 + 0.01 for _ in letters]  # cubed: few letters are likely, as in a language
            following = [rng.randrange(1, states) for _ in letters]
            arcs = [(c, (1 - end) * w / sum(weights), s) for c, w, s in zip(letters, weights, following, strict=True)]
            self.arcs.append(arcs)
        visits = self._visits()
        self.entropy = fsum(v * self._surprise(s) for s, v in enumerate(visits)) / fsum(visits)

    def _surprise(self, state: int) -> float:
        """Expected information of the next token, in nats."""
        return -fsum(p * log(p) for p in [self.stop[state], *(p for _, p, _ in self.arcs[state])] if p)

    def _visits(self) -> list[float]:
        """How often each state is expected in one string: as many tokens are predicted there."""
        present = [1.0] + [0.0] * (len(self.stop) - 1)
        visits = [0.0] * len(present)
        while sum(present) > 1e-18:
            visits = [v + p for v, p in zip(visits, present, strict=True)]
            following = [0.0] * len(present)
            for state, share in enumerate(present):
                for _, p, target in self.arcs[state]:
                    following[target] += share * p
            present = following
        return visits

    def draw(self, rng: random.Random) -> str:
        state, text = 0, ""
        while rng.random() >= self.stop[state]:
            letters, weights, targets = zip(*self.arcs[state], strict=True)
            [choice] = rng.choices(range(len(letters)), weights)
            text += letters[choice]
            state = targets[choice]
        return text


class RomanNumerals(Language):
    """The numbers 1 to 3999, all as likely."""

    def __init__(self) -> None:
        lengths = [len(roman(number)) for number in range(1, 4000)]
        self.entropy = log(3999) * 3999 / sum(length + 1 for length in lengths)

    def draw(self, rng: random.Random) -> str:
        return roman(rng.randrange(1, 4000))


def roman(number: int) -> str:
    """A number as the Romans wrote it."""
    text = ""
    for value, letters in ROMAN:
        text += letters * (number // value)
        number %= value
    return text


class Arithmetic(Language):
    """Sums such as `12+7=19`, both operands uniform below a limit."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        lengths = [len(addition(a, b)) for a in range(limit) for b in range(limit)]
        self.entropy = 2 * log(limit) * limit**2 / sum(length + 1 for length in lengths)

    def draw(self, rng: random.Random) -> str:
        return addition(rng.randrange(self.limit), rng.randrange(self.limit))


def addition(a: int, b: int) -> str:
    """`a+b=c`."""
    return f"{a}+{b}={a + b}"


class Brackets(Language):
    """Balanced brackets, so many pairs, each of the Catalan number of strings as likely."""

    def __init__(self, pairs: int = 8) -> None:
        self.pairs = pairs
        self.entropy = log(completions(pairs, pairs)) / (2 * pairs + 1)

    def draw(self, rng: random.Random) -> str:
        opens = closes = self.pairs
        text = ""
        while closes:
            if rng.randrange(completions(opens, closes)) < completions(opens - 1, closes):
                text, opens = text + "(", opens - 1
            else:
                text, closes = text + ")", closes - 1
        return text


def completions(opens: int, closes: int) -> int:
    """In how many orders so many brackets to come can follow without a closing one too many (the ballot numbers)."""
    if opens < 0 or closes < opens:
        return 0
    return comb(opens + closes, opens) - (comb(opens + closes, opens - 1) if opens else 0)
