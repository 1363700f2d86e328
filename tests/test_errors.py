"""Errors for people: one line, whatever they name."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import TapeGPTError
from tapegpt.errors import UnknownNameError, argument, check_names, line_of, quote


@given(st.text())
def test_a_message_is_one_line(text: str) -> None:
    message = str(TapeGPTError(text))
    assert len(f"x{message}x".splitlines()) == 1
    assert all(character.isprintable() or character == "\N{NO-BREAK SPACE}" for character in message)


@given(st.one_of(st.text(), st.integers(), st.lists(st.integers())))
def test_what_is_shown_is_short(value: object) -> None:
    assert len(quote(value)) <= 60
    assert quote(value) == repr(value) or (quote(value).endswith("...") and repr(value).startswith(quote(value)[:-3]))


def test_what_is_shown_is_cut_beyond_sixty_characters() -> None:
    assert quote("x" * 58) == repr("x" * 58)
    assert quote("x" * 59) == f"'{'x' * 56}..."


def test_an_error_is_placed_at_the_innermost_line_of_the_file(tmp_path: Path) -> None:
    path, source = str(tmp_path / "mine.py"), "def outer():\n    inner()\n\ndef inner():\n    int('x')\n"
    space: dict[str, object] = {}
    exec(compile(source, path, "exec"), space)  # the source above
    with pytest.raises(ValueError, match="invalid literal") as caught:
        eval("outer()", space)
    assert line_of(caught.value, path) == "mine.py:5"
    assert line_of(caught.value, "elsewhere/other.py") == "other.py"


def test_numbers_beyond_what_python_writes_out() -> None:
    assert quote(10**5000) == "an int of 16610 bits"
    for settings in ({"steps": 10**5000}, {"n_embd": 10**5000}, {"seed": "x" * 999}, {"learning_rate": 10**5000}):
        with pytest.raises(TapeGPTError) as caught:
            tapegpt.train(["anna"], **settings)
        assert len(str(caught.value)) < 200


def test_arguments_are_names_in_python_and_options_on_the_command_line() -> None:
    error = TapeGPTError(f"choose {argument('max_length')}, {argument('header', False)} or {argument('format', 'csv')}")
    assert str(error) == "choose max_length, header=False or format='csv'"
    assert error.for_command == "choose --max-length, --no-header or --format csv"
    nothing = TapeGPTError(f"{argument('novel', 0)}, {argument('unique', True)}")
    assert (str(nothing), nothing.for_command) == ("novel=0, unique=True", "--novel 0, --unique True")
    again = pickle.loads(pickle.dumps(TapeGPTError(f"m: {error}")))
    assert (str(again), again.for_command) == (f"m: {error!s}", f"m: {error.for_command}")


def test_a_name_that_there_is_not_is_a_type_error_with_the_nearest_one() -> None:
    with pytest.raises(
        UnknownNameError, match=r"train got an unexpected argument 'step': did you mean 'steps'\?"
    ) as told:
        check_names("train", ["seed", "step"], ["steps"], ["seed"])
    with pytest.raises(UnknownNameError, match="unexpected argument 'y': there are a"):
        check_names("f", ["a", "y", "x"], ["a"])  # the first one
    assert isinstance(told.value, TypeError)
    assert isinstance(told.value, TapeGPTError)
    with pytest.raises(TapeGPTError, match="unexpected argument 'x': there are steps, seed"):
        check_names("train", ["x"], ["steps", "seed"])
