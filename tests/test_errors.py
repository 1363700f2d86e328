"""Errors for people: one line, whatever they name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import TapeGPTError
from tapegpt.errors import shown


@given(st.text())
def test_a_message_is_one_line(text: str) -> None:
    message = str(TapeGPTError(text))
    assert len(f"x{message}x".splitlines()) == 1
    assert all(character.isprintable() or character == "\N{NO-BREAK SPACE}" for character in message)


@given(st.one_of(st.text(), st.integers(), st.lists(st.integers())))
def test_what_is_shown_is_short(value: object) -> None:
    assert len(shown(value)) <= 60
    assert shown(value) == repr(value) or (shown(value).endswith("...") and repr(value).startswith(shown(value)[:-3]))


def test_numbers_beyond_what_python_writes_out() -> None:
    assert shown(10**5000) == "an int of 16610 bits"
    for settings in ({"steps": 10**5000}, {"n_embd": 10**5000}, {"seed": "x" * 999}, {"learning_rate": 10**5000}):
        with pytest.raises(TapeGPTError) as caught:
            tapegpt.train(["anna"], **settings)
        assert len(str(caught.value)) < 200
