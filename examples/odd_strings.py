"""Finds odd strings: a model of surnames scores surnames that it has not seen, and three kinds of odd strings.

The figure is the area under the ROC curve, the probability that an odd string has a higher score than a surname: 0.5 is
chance, 1 is perfect. A model of character pairs and the length alone are compared with it.
Run: python examples/odd_strings.py
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import tapegpt
from tapegpt import Corpus, Random
from tapegpt.data.holdout import hold_out
from tapegpt.inference.scores import Calibration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEXT = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))  # rows and columns from a key to its neighbours
COUNT = 4000  # surnames that are scored, and odd strings of each kind

corpus = Corpus.dataset("surnames")
known = set(corpus.documents)
training, held_out = hold_out(corpus, 0.1, seed=1)
rng = Random(1)
rng.shuffle(held_out.documents)
surnames, others = held_out.documents[:COUNT], held_out.documents[COUNT:]


def shuffled(names: Sequence[str]) -> list[str]:
    """Strings of the same lengths and, all together, of the same characters."""
    characters = list("".join(names))
    rng.shuffle(characters)
    return ["".join([characters.pop() for _ in name]) for name in names]


def mash(name: str) -> str:
    """A walk over the keyboard of the same length, each key beside the one before."""
    row = rng.randrange(len(KEYS))
    column = rng.randrange(len(KEYS[row]))
    text = KEYS[row][column]
    while len(text) < len(name):
        near = [(row + down, column + right) for down, right in NEXT]
        row, column = rng.choice([(r, p) for r, p in near if 0 <= r < len(KEYS) and 0 <= p < len(KEYS[r])])
        text += KEYS[row][column]
    return text


def mistyped(name: str) -> str:
    """A name that a typing error makes no name: a character swapped with the next, replaced, left out or added."""
    text = name
    while text in known:
        i, letter = rng.randrange(len(name)), rng.choice(corpus.vocabulary)
        before, here, behind = name[:i], name[i], name[i + 1 :]
        swapped = before + behind[:1] + here + behind[1:]
        text = rng.choice([swapped, before + letter + behind, before + behind, before + letter + here + behind])
    return text


def area(odd: Sequence[float], usual: Sequence[float]) -> float:
    """The area under the ROC curve: the share of pairs in which the odd score is higher, ties counted half."""
    ordered = sorted(usual)
    below = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in odd)
    return below / (2 * len(odd) * len(usual))


pairs = Counter(pair for name in training.documents for pair in pairwise(f"^{name}$"))
firsts = Counter(first for name in training.documents for first in f"^{name}")


def surprise_by_pairs(strings: Sequence[str]) -> list[float]:
    """Mean nats per character given the one before, from counts plus one."""
    return [
        sum(math.log((firsts[a] + 27) / (pairs[a, b] + 1)) for a, b in pairwise(f"^{text}$")) / (len(text) + 1)
        for text in strings
    ]


model = tapegpt.train(training, preset="quick", seed=1, threads=1)
judges: dict[str, Callable[[Sequence[str]], Sequence[float]]] = {
    "model": lambda strings: model.score(strings).nats,
    "pairs": surprise_by_pairs,
    "length": lambda strings: list(map(len, strings)),
}
kinds = {
    "shuffled characters": shuffled(surnames),
    "keyboard mash": list(map(mash, surnames)),
    "one typing error": list(map(mistyped, surnames)),
}
print(f"{'area under the curve':22}{''.join([f'{judge:>8}' for judge in judges])}  such as")
for kind, strings in kinds.items():
    areas = [area(score(strings), score(surnames)) for score in judges.values()]
    print(f"{kind:22}{''.join([f'{each:8.3f}' for each in areas])}  {', '.join(strings[:4])}")

threshold = Calibration(model.score(others).nats).threshold(0.01)
print(f"\nalarms above {threshold:.2f} nats per character, which 1 % of new surnames exceed")
for kind, strings in {"surnames": surnames, **kinds}.items():
    alarms = sum(nats > threshold for nats in model.score(strings).nats)
    print(f"{kind:22}{alarms / COUNT:8.1%}")
