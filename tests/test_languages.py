"""The entropies against every string of a language with its probability, and against samples of it."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import exp, fsum, log, sqrt
from statistics import fmean, stdev

import pytest

from tapegpt import Corpus
from tests.languages import Arithmetic, Automaton, Brackets, Language, RomanNumerals, roman

SOON = (0.5, 0.8)  # an automaton that stops so early has few strings that are not rare
LANGUAGES: list[Language] = [
    *(Automaton(states, letters, seed, SOON) for states, letters, seed in [(3, "ab", 1), (4, "ab", 2), (2, "abc", 3)]),
    Arithmetic(30),
    Brackets(5),
    Brackets(1),
    RomanNumerals(),
]


def enumerated(language: Language) -> dict[str, float]:
    """Every string with its probability; of an automaton all but the rarest."""
    if isinstance(language, Automaton):
        return of_automaton(language)
    if isinstance(language, Arithmetic):
        operands = range(language.limit)
        strings = [f"{a}+{b}={c}" for a in operands for b in operands for c in [a + b]]
    elif isinstance(language, Brackets):
        strings = [s for s in map("".join, product("()", repeat=2 * language.pairs)) if balanced(s)]
    else:
        strings = [roman(number) for number in range(1, 4000)]
    assert len(set(strings)) == len(strings)
    return dict.fromkeys(strings, 1 / len(strings))


def of_automaton(language: Automaton) -> dict[str, float]:
    """By walking: probability of each beginning, in the state it leads to."""
    strings: dict[str, float] = {}
    ahead = [("", 1.0, 0)]
    while fsum(p for _, p, _ in ahead) > 1e-9:
        further = []
        for text, probability, state in ahead:
            strings[text] = probability * language.stop[state]
            for letter, p, target in language.arcs[state]:
                if probability * p > 1e-13:  # of 100,000 strings not a 1e-8
                    further.append((text + letter, probability * p, target))
        ahead = further
    return strings


def balanced(text: str) -> bool:
    while "()" in text:
        text = text.replace("()", "")
    return not text


def value(numeral: str) -> int:
    """A Roman numeral read from the left: a letter before a larger one counts less than nothing."""
    letters = dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))
    numbers = [letters[letter] for letter in numeral]
    return sum(-n if n < max(numbers[i:]) else n for i, n in enumerate(numbers))


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: type(language).__name__)
def test_the_entropy_of_all_strings(language: Language) -> None:
    strings = enumerated(language)
    assert fsum(strings.values()) == pytest.approx(1, abs=1e-7)
    information = -fsum(p * log(p) for p in strings.values() if p)
    tokens = fsum(p * (len(string) + 1) for string, p in strings.items())
    tolerance = 1e-5 if isinstance(language, Automaton) else 1e-12
    assert language.entropy == pytest.approx(information / tokens, rel=tolerance)


def probability(language: Automaton, text: str) -> float:
    state, result = 0, 1.0
    for letter in text:
        [(p, state)] = [(p, target) for each, p, target in language.arcs[state] if each == letter]
        result *= p
    return result * language.stop[state]


@pytest.mark.slow
@pytest.mark.parametrize("language", [Automaton(), Automaton(12, "abcdefgh", 5)])
def test_the_entropy_of_an_automatons_sample(language: Automaton) -> None:
    """The mean of information less entropy for each token is zero, within five standard errors."""
    sample = language.sample(20_000, seed=1)
    excess = [-log(probability(language, text)) - language.entropy * (len(text) + 1) for text in sample]
    assert abs(fmean(excess)) < 5 * stdev(excess) / sqrt(len(sample))
    assert stdev(excess) / sqrt(len(sample)) < 0.01 * language.entropy * fmean(len(text) + 1 for text in sample)


@pytest.mark.parametrize("language", [Automaton(3, "ab", 1, SOON), Arithmetic(6), Brackets(4)])
def test_samples_are_drawn_by_the_probabilities(language: Language) -> None:
    """Each string that should come 20 times or more comes as often as that, within six standard deviations."""
    n, strings = 20_000, enumerated(language)
    seen = Counter(language.sample(n, seed=2))
    assert all(string in strings for string in seen)
    common = {string: n * p for string, p in strings.items() if n * p >= 20}
    assert len(common) >= 14
    assert all(abs(seen[string] - times) < 6 * sqrt(times) for string, times in common.items())


def test_numerals_are_what_the_romans_wrote() -> None:
    assert [roman(number) for number in (4, 9, 14, 40, 90, 400, 1990, 3888)] == [
        *("IV", "IX", "XIV", "XL", "XC", "CD", "MCMXC", "MMMDCCCLXXXVIII")
    ]
    assert [value(roman(number)) for number in range(1, 4000)] == list(range(1, 4000))


@pytest.mark.parametrize("language", [*LANGUAGES, Automaton(), Arithmetic(), Brackets()])
def test_samples_are_documents_and_repeat(language: Language) -> None:
    sample = language.sample(300, seed=3)
    assert sample == language.sample(300, seed=3)
    assert Corpus.of(sample).documents == sample
    assert 0 <= language.entropy < log(Corpus.of(sample).vocab_size)
    if not isinstance(language, Brackets) or language.pairs > 1:
        assert sample != language.sample(300, seed=4)


def test_sums_hold_and_brackets_balance() -> None:
    assert all(balanced(text) and len(text) == 40 for text in Brackets(20).sample(200, seed=5))
    for text in Arithmetic().sample(200, seed=6):
        left, _, total = text.partition("=")
        assert sum(map(int, left.split("+"))) == int(total)
    assert exp(Brackets(3).entropy * 7) == pytest.approx(5)
