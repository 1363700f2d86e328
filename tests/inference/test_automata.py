"""Automata held to `str`'s own methods, and to all strings of a few characters."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from functools import cache
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapegpt import Constraints, TapeGPTError
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.inference import automata
from tapegpt.inference.automata import FORBIDDEN, Automaton, anything, avoiding, beginning, ending, matching
from tapegpt.machine.host import host_target
from tapegpt.machine.target import INTERPRETED, Target

VOCABULARY = "Aab"
SHORT = ["".join(letters) for length in range(6) for letters in product(VOCABULARY, repeat=length)]
CHINESE = "".join(map(chr, range(0x4E00, 0x9E00)))
TARGETS = [INTERPRETED, host_target()]

WORDS = st.text(VOCABULARY, max_size=4)
AVOIDED = st.lists(st.text(VOCABULARY + "z", min_size=1, max_size=4), max_size=5)
AUTOMATA = st.one_of(
    st.builds(beginning, WORDS, st.just(VOCABULARY)),
    st.builds(ending, WORDS, st.just(VOCABULARY)),
    st.builds(avoiding, AVOIDED, st.just(VOCABULARY)),
    st.builds(matching, st.sampled_from(["(ab|A)*", "a?b{2}", ".{3,}", "z", "[^a]*a"]), st.just(VOCABULARY)),
)


def accepted(automaton: Automaton) -> list[str]:
    return [text for text in SHORT if automaton.accepts(text)]


def has_no_dead_ends(automaton: Automaton) -> bool:
    """Whether each state but 0 leads to one that accepts, and is reached."""
    ahead = [log > FORBIDDEN for log in automaton.ahead(0, automaton.states)]
    reached = {automaton.start}
    for _ in range(automaton.states):
        reached |= {automaton.table[state * automaton.count + c] for state in reached for c in range(automaton.count)}
    return all(ahead[1 : automaton.states]) and reached | {0} == set(range(automaton.states))


@given(WORDS)
def test_a_beginning_is_that_of_startswith(prefix: str) -> None:
    automaton = beginning(prefix, VOCABULARY)
    assert accepted(automaton) == [text for text in SHORT if text.startswith(prefix)]
    assert has_no_dead_ends(automaton)


@given(WORDS)
@example(VOCABULARY)
def test_an_ending_is_that_of_endswith(suffix: str) -> None:
    automaton = ending(suffix, VOCABULARY)
    assert accepted(automaton) == [text for text in SHORT if text.endswith(suffix)]
    assert automaton.states == len(suffix) + 2  # as few as can be


@given(AVOIDED)
@example(["b", "aba"])  # the second word cannot be begun without the first
def test_no_avoided_word_occurs_in_letters_of_either_case(words: list[str]) -> None:
    automaton = avoiding(words, VOCABULARY)
    assert accepted(automaton) == [t for t in SHORT if not any(word.lower() in t.lower() for word in words)]
    assert has_no_dead_ends(automaton)


@pytest.mark.parametrize(("word", "text"), [("ΣΑΣ", "σας"), ("K", "k"), ("ẞ", "ß"), ("ÉMILE", "émile")])
def test_letters_of_either_case_are_the_same_in_every_script(word: str, text: str) -> None:
    vocabulary = "".join(sorted(set(text + "x")))
    assert not avoiding([word], vocabulary).accepts(f"x{text}x")
    assert avoiding([word], vocabulary).accepts(text[1:])


def test_an_empty_word_cannot_be_avoided() -> None:
    with pytest.raises(TapeGPTError, match=r"^the words to avoid have an empty one, .*: leave it out$"):
        avoiding(["a", ""], VOCABULARY)


def test_anything_is_every_string_of_the_vocabulary() -> None:
    assert accepted(anything(VOCABULARY)) == SHORT
    assert not anything(VOCABULARY).accepts("az")
    assert anything(VOCABULARY).states == 2


@pytest.mark.parametrize("make", [beginning, ending, matching])
def test_what_needs_other_characters_is_no_string(make: Callable[[str, str], Automaton]) -> None:
    automaton = make("az", VOCABULARY)
    assert (automaton.start, automaton.states) == (0, 1)
    for each in (automaton, automaton & anything(VOCABULARY), anything(VOCABULARY) & automaton):
        assert accepted(each) == []


@given(AUTOMATA, AUTOMATA, AUTOMATA)
def test_a_product_is_what_all_accept(a: Automaton, b: Automaton, c: Automaton) -> None:
    both = a & b & c
    assert accepted(both) == [text for text in SHORT if a.accepts(text) and b.accepts(text) and c.accepts(text)]
    assert has_no_dead_ends(both)


def test_constraints_that_exclude_each_other_leave_no_state() -> None:
    assert (beginning("a", VOCABULARY) & beginning("b", VOCABULARY)).start == 0


def ahead_by_hand(automaton: Automaton, least: int, most: int, chances: list[list[float]]) -> list[float]:
    @cache
    def accepted(length: int, state: int) -> float:
        *row, end = chances[length]
        total = end * automaton.accepting[state] * (length >= least)
        if length < most:
            targets = automaton.table[state * automaton.count : (state + 1) * automaton.count]
            total += sum(chance * accepted(length + 1, target) for chance, target in zip(row, targets, strict=True))
        return total

    return [accepted(length, state) for length in range(most + 1) for state in range(automaton.states)]


@pytest.mark.parametrize("target", TARGETS, ids=["interpreted", "compiled"])
@given(a=AUTOMATA, b=AUTOMATA, least=st.integers(0, 6), more=st.integers(-1, 5), data=st.data())
def test_looking_ahead_is_trying_everything(
    target: Target, a: Automaton, b: Automaton, least: int, more: int, data: st.DataObject
) -> None:
    most, both = max(least + more, 0), a & b
    row = st.lists(st.floats(0.01, 1.0), min_size=both.count + 1, max_size=both.count + 1)
    chances = data.draw(st.lists(row, min_size=most + 1, max_size=most + 1))
    flat = array("d", [chance for row in chances for chance in row])
    by_hand = ahead_by_hand(both, least, most, chances)
    expected = [math.log(p) if p else FORBIDDEN for p in by_hand]
    assert both.ahead(least, most, flat, target).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert both.ahead(least, most, None, target).tolist() == pytest.approx([0.0 if p else FORBIDDEN for p in by_hand])


def test_looking_ahead_sees_as_far_as_strings_are_long() -> None:
    ahead = matching("a{1000}", VOCABULARY).ahead(0, 1024)  # state s is that after s - 1 characters
    viable = [s > 0 and length + 1001 - s <= 1024 for length in range(1025) for s in range(1002)]
    assert [log > FORBIDDEN for log in ahead] == viable


def test_what_is_hardly_ever_accepted_is_not_forbidden() -> None:
    automaton = matching("a*", "a")
    ahead = automaton.ahead(0, 1024, array("d", [1e-30] * (automaton.count + 1) * 1025))
    assert min(log for place, log in enumerate(ahead) if place % automaton.states) > -1000
    long = matching("a{40}", "a")
    assert long.ahead(0, 40, array("d", [1e-9] * (long.count + 1) * 41))[long.start] > -1000


def test_characters_of_a_large_vocabulary_share_classes() -> None:
    both = avoiding(["一丁"], CHINESE) & beginning("七", CHINESE) & ending("丁", CHINESE)
    assert both.count == 4
    assert both.accepts("七丁")
    assert not both.accepts("七一丁")


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TapeGPTError, match=r"^the words to avoid need more than 200,000 states or .*: give fewer$"):
        avoiding([CHINESE[i : i + 3] for i in range(0, 9000, 3)], CHINESE)
    with pytest.raises(TapeGPTError, match=r"^the prefix or suffix needs more than .*: give a shorter one$"):
        beginning(CHINESE[:3000], CHINESE)
    automaton = matching("a{100}", VOCABULARY)
    with pytest.raises(TapeGPTError, match=r"^the constraints need 102 states, too many for strings"):
        automaton.ahead(0, 1_000_000)
    monkeypatch.setattr(automata, "MAX_AHEAD", 3 * 102)
    assert len(automaton.ahead(0, 2)) == 3 * 102
    with pytest.raises(TapeGPTError, match="too many for strings"):
        automaton.ahead(0, 3)
    monkeypatch.setattr(automata, "MAX_CELLS", 100)
    with pytest.raises(TapeGPTError, match=r"^the constraints together need more than .*: simplify one of them$"):
        automaton & avoiding(["b"], VOCABULARY)


def test_ten_thousand_words_are_avoided() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"{a}{b}{c}x" for a, b, c in product(letters, repeat=3)][:10_000]  # up to "oupx"
    automaton = avoiding(words, letters)
    text = "abcbyouzxzzzxaab"
    assert not any(word in text for word in words)
    assert automaton.accepts(text)
    assert not automaton.accepts(f"{text}cx")


def test_an_empty_pattern_leaves_the_empty_string() -> None:
    automaton = Constraints(pattern="").automaton(Vocabulary.of(VOCABULARY))
    assert automaton.accepts("")
    assert not automaton.accepts("a")


TOKENS = st.sets(st.text(VOCABULARY, min_size=1, max_size=3), min_size=1, max_size=6).map(sorted)


@given(AUTOMATA, TOKENS)
@example(anything(VOCABULARY), ["A", "a", "b"])
@example(beginning("", VOCABULARY), ["ab"])
def test_tokens_lead_where_their_characters_do(automaton: Automaton, tokens: list[str]) -> None:
    lifted = automaton.over(tokens)
    for length in range(4):
        for row in product(tokens, repeat=length):
            assert lifted.accepts(row) == automaton.accepts("".join(row))
    assert all(log > FORBIDDEN for log in lifted.ahead(0, lifted.states)[1 : lifted.states])
    assert lifted.count <= len(tokens)


def test_too_much_for_tokens_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automata, "MAX_LIFTED", 1000)
    with pytest.raises(TapeGPTError, match="the constraints need more than 1,000 transitions by tokens"):
        matching(".*a.{5}", "ab").over(["".join(letters) for letters in product("ab", repeat=6)])
