"""Text on one line: whatever a string holds, it stays one, nothing reaches a terminal, and it can be read back."""

from __future__ import annotations

import ast
import json
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapegpt.text import breaks, clip, columns, escape_line, json_line, line_writer, unescape_line, visible
from tests.properties import many

TEXTS = st.text(st.characters(exclude_categories=()) | st.sampled_from("\\nxu0 \n\r\t\x1b\u202e\u2028"))
SMILES = "C/C=N\\n1cccc1\\C"


@given(TEXTS)
@example(SMILES)
@example("\\x1b\x1b")
def test_what_is_escaped_can_be_read_back(text: str) -> None:
    line = escape_line(text)
    assert unescape_line(line) == text
    assert line.splitlines() in ([], [line])
    assert not any(map(breaks, line))
    line.encode()  # no surrogates are left


@given(TEXTS)
def test_escapes_are_those_of_python(text: str) -> None:
    quoted = escape_line(text).replace("\0", "").replace('"', '\\"')
    assert ast.literal_eval(f'"{quoted}"') == text


@given(TEXTS, TEXTS)
@example(SMILES, "")
def test_an_alphabet_decides_how_all_its_strings_are_written(text: str, more: str) -> None:
    line, is_plain = line_writer(text + more)(text), not any(map(breaks, text + more))
    assert line == (text if is_plain else escape_line(text))
    assert line.splitlines() in ([], [line])


@pytest.mark.slow
def test_what_breaks_a_line_or_a_terminal() -> None:
    every = [chr(code) for code in range(many(sys.maxunicode + 1, few=1 << 16))]
    broken = {c for c in every if breaks(c)}
    assert {c for c in every if len(f"a{c}b".splitlines()) > 1} < broken
    assert {c for c in every if unicodedata.category(c) in ("Cc", "Cs")} - broken == {"\t"}
    assert broken.issuperset("\u202e\u2066\ufeff")
    assert broken.isdisjoint("aé\N{NO-BREAK SPACE}\u200d\u200c界🐢\N{COMBINING ACUTE ACCENT}")  # Persian needs U+200C


@pytest.mark.parametrize("line", ["\\", "\\q", "\\x1", "\\x+1", "\\u12", "\\U00110000", "a\\", "\\x", "\\xz0"])
def test_what_is_no_escape(line: str) -> None:
    with pytest.raises(ValueError, match=r"^\\") as caught:
        unescape_line(line)
    assert str(caught.value) in line


def test_what_has_no_shape_is_shown_by_its_escape() -> None:
    assert visible("a\x1b[31m\n\u200d\\") == "a\\x1b[31m\\n\\u200d\\"
    assert visible("a\N{NO-BREAK SPACE}b\n") == "a\N{NO-BREAK SPACE}b\\n"
    assert [columns(text) for text in ("a界", "e\u0301", "\n", "\uff21", "\uff71", "\u200d")] == [3, 1, 2, 2, 1, 6]


@given(TEXTS)
@example("\x7f\x9b31m\u2028é界")
def test_json_is_one_line_that_no_terminal_obeys(text: str) -> None:
    line = json_line({"text": text})
    assert json.loads(line) == {"text": text}
    assert not any(map(breaks, line))
    assert all(character in line for character in text if character.isprintable() and character not in '"\\')


@given(st.text(), st.integers(3, 20))
def test_a_clipped_text_fits(text: str, width: int) -> None:
    assert columns(clip(text, width)) <= width
    assert clip(text, columns(text)) == visible(text)
