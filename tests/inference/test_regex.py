"""Patterns as automata, held to `re.fullmatch`."""

from __future__ import annotations

import re
import warnings
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapegpt import TapeGPTError
from tapegpt.inference import regex
from tapegpt.inference.automata import matching
from tests.properties import many

STEPS = many(regex.MAX_STEPS, few=300_000)  # a tenth of a second
CHARACTERS = "\nAab"
SHORT = ["".join(letters) for length in range(5) for letters in product(CHARACTERS, repeat=length)]
MANY = "".join(  # Latin; the greek, cyrillic, cherokee and deseret letters that case makes hard; digits, spaces, others
    sorted(map(chr, {*range(0x250), *range(0x391, 0x3CA), 0x410, 0x430, 0x1E9E, 0x212A, 0x212B, 0xFB05, 0xFB06, 0x663,
                     0x2167, 0x2028, 0x3000, 0x540D, 0x1F600, 0x10400, 0x10428, 0xAB70, 0x13A0}))
)  # fmt: skip


ATOMS = ["a", "b", "A", "ab", r"\n", ".", "[ab]", "[^a]", "[A-a]", r"\w", r"\W", r"[^\W_]", r"[\s\d]", "[^]a]"]
ANCHORS = ["^", "$", r"\A", r"\Z", ""]
REPEATS = ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,3}", "{2,}", "{,2}", "{1,3}?", "{0}"]
FLAGS = ["", "(?i)", "(?s)", "(?is)", "(?a)", "(?x)"]
GROUPS = ["(", "(?:", "(?i:", "(?s:", "(?-i:", "(?a:", "(?i-s:"]


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    grouped = st.builds(lambda opening, body: f"{opening}{body})", st.sampled_from(GROUPS), inner)
    return st.one_of(
        grouped,
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("(?:{}){}".format, inner, st.sampled_from(REPEATS)),
    )


PATTERNS = st.builds(
    "{}{}".format, st.sampled_from(FLAGS), st.recursive(st.sampled_from(ATOMS + ANCHORS), larger, max_leaves=8)
)


def compiled(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(pattern)


def accepted(pattern: str, strings: list[str], vocabulary: str = CHARACTERS) -> list[str]:
    automaton = matching(pattern, vocabulary)
    return [text for text in strings if automaton.accepts(text)]


def matched(pattern: str, strings: list[str]) -> list[str]:
    expression = compiled(pattern)
    return [text for text in strings if expression.fullmatch(text)]


@settings(max_examples=many(400))
@given(PATTERNS, st.lists(st.text(CHARACTERS, min_size=5, max_size=9), max_size=9))
@example("((a*)*b?)*", [])  # loops within loops
def test_a_pattern_accepts_what_re_matches_and_nothing_else(pattern: str, longer: list[str]) -> None:
    assert accepted(pattern, SHORT + longer) == matched(pattern, SHORT + longer)


@settings(max_examples=many(400))
@given(st.text(r"ab\dZ.*+?{}1,[]^$()|-:=!<>iPx# ", max_size=12))
def test_whatever_is_typed_is_read_as_re_reads_it_or_refused_in_a_line(pattern: str) -> None:
    try:
        strings, reason = accepted(pattern, SHORT), ""
    except TapeGPTError as error:
        strings, reason = [], str(error)
    if not reason:
        assert strings == matched(pattern, SHORT)
    elif " is not a regular expression: " in reason:
        with pytest.raises(re.error):
            compiled(pattern)
    else:
        assert reason.startswith(f"pattern {pattern!r} has ")


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "(?i)", "(?a)", "(?ai)", "(?s)"])
@pytest.mark.parametrize(
    "characters",
    [
        *(".", r"\d", r"\D", r"\s", r"\S", r"\w", r"\W", r"[\W\d]", r"[^\s\w]", "s", "[^s]", "K", "ß", "ς", "İ", "i"),
        *(
            "[a-z]",
            "[^a-z]",
            r"[À-\u017f]",
            r"[\u017f-\u03a9]",
            "[^K]",
            "[µå]",
            "ǆ",
            "ﬅ",
            r"[\x00-\U0010ffff]",
            "𐐨",
            r"[\u13a0-\u13a2]",
            "名",
        ),
    ],
)
def test_a_set_holds_the_characters_that_re_says(flags: str, characters: str) -> None:
    pattern = flags + characters
    assert accepted(pattern, list(MANY), MANY) == matched(pattern, list(MANY))


@pytest.mark.parametrize(
    "pattern",
    [r"a$\n", "a$[^b]", "(?s)a$.", r"(a$\n?)*", r"$\n", r"^$\n$", r"(a|$)\n", r"a\Z\n", r"a$\n\n", "a^", "$^a"],
)
def test_a_dollar_also_holds_before_a_last_newline(pattern: str) -> None:
    assert accepted(pattern, SHORT) == matched(pattern, SHORT)


@pytest.mark.parametrize(
    "pattern",
    [r"(?a)(?u:\w)", r"(?a:\w)", r"(?i)(?-i:k)", r"(?i:(?-i:k)|s)", r"(?s:.)", r"(?s)(?-s:.)", "(?ia)k", "(?i)(?a:k)"],
)
def test_flags_hold_where_re_says(pattern: str) -> None:
    assert accepted(pattern, list(MANY), MANY) == matched(pattern, list(MANY))


def test_characters_that_a_pattern_does_not_tell_apart_share_a_class() -> None:
    vocabulary = "".join(map(chr, range(0x4E00, 0x9E00)))
    automaton = matching("[一-丏]名.*", vocabulary)
    assert (automaton.count, automaton.states) == (3, 4)


@pytest.mark.parametrize("pattern", ["(a*)*", "(|a)+", "((a?){30}){30}", "(.|..|...)*", ".*" * 1000])
def test_repeated_repetitions_end(pattern: str) -> None:
    assert accepted(pattern, ["", "a", "aaa"]) == ["", "a", "aaa"]


@pytest.mark.parametrize("pattern", ["(){1000000000}", "(){,1000000000}", "(a{0})*", "(){3,}"])
def test_nothing_however_often_is_nothing(pattern: str) -> None:
    assert accepted(pattern, SHORT) == [""]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "is not a regular expression: missing ), unterminated subpattern at position 0"),
        ("x(?i)a", "is not a regular expression: global flags not at the start"),
        ("a{" + "9" * 5000 + "}", "is not a regular expression: "),
        ("a{99999999999}", "is not a regular expression: the repetition number is too large"),
        ("(" * 5000 + ")" * 5000, "is nested too deeply"),
        (r"(a)\1", "has a backreference"),
        ("(?P<x>a)(?P=x)", "has a backreference"),
        ("(a)?(?(1)b|a)", "has a condition on a group"),
        ("(?=a)a", "has lookaround"),
        ("(?<!a)b", "has lookaround"),
        ("(?!)", "has lookaround"),
        (r"\ba", r"has \b"),
        (r"a\B", r"has \B"),
        ("a++", "has a possessive repetition"),
        ("(?>a)", "has an atomic group"),
        ("(?m)^a", "has ^ or $ of lines (flag m)"),
        ("(?m:a$)", "has ^ or $ of lines (flag m)"),
        ("a" * 20_000, "needs more than 10,000 states"),
        ("(a{1000}){1000}", "needs more than 10,000 states"),
        ("(^){1000000000}", "needs more than 10,000 states"),
        ("(|){1000000000}", "needs more than 10,000 states"),
        ("(a|b)*a(a|b){20}", "needs more than 20,000 states"),
        ("(.?){3000}", f"takes more than {STEPS:,} steps"),
        ("(b" + "a{0}" * 1000 + "){9999}", f"takes more than {STEPS:,} steps"),
        ("".join(f"(?i:[!-\\U{0x10FFFF - i:08x}])" for i in range(100)), f"takes more than {STEPS:,} steps"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(pattern: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "MAX_STEPS", STEPS)
    with pytest.raises(TapeGPTError) as error:
        matching(pattern, CHARACTERS)
    assert str(error.value).startswith("pattern '")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_a_line_flag_that_changes_nothing_is_read() -> None:
    assert accepted(r"(?m)\Aa\Z", SHORT) == ["a"]


def test_a_set_that_python_may_read_otherwise_one_day_is_read_as_it_does_now() -> None:
    assert accepted("[[a]", SHORT) == ["a"]
