"""Errors for people: one line, whatever they name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import TapeGPTError
from tapegpt.errors import UnknownNameError, argument, check_names, line_of, quote

CORPUS = tapegpt.Corpus.of(["anna", "otto"])
MODEL = tapegpt.train(CORPUS, steps=1, n_embd=4, n_head=2, block_size=4)


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


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_what_fails_to_show_itself_is_shown_by_its_kind() -> None:
    assert quote(Unprintable()).startswith("<tests.test_errors.Unprintable object at 0x")


OBJECTS = ("GPT", "Corpus", "Model", "Settings", "Recording", "Limits")  # of the package, that arguments are
FUNCTIONS: list[Any] = [
    *[each for name in tapegpt.__all__ if isinstance(each := getattr(tapegpt, name), FunctionType)],
    *[tapegpt.GPT.save, tapegpt.export.write, tapegpt.studio.serve],
    *[tapegpt.Trainer, tapegpt.Trainer.resume, tapegpt.Trainer.finetune],
]
TAKEN = [
    (function, parameter.name, parameter.annotation)
    for function in FUNCTIONS
    for parameter in signature(function).parameters.values()
    if str(parameter.annotation).split(" ")[0] in (*OBJECTS, "Path")
]


@pytest.mark.parametrize(
    ("function", "name", "kind"), TAKEN, ids=[f"{each.__qualname__}-{name}" for each, name, _ in TAKEN]
)
def test_an_argument_that_is_no_such_object_is_named(function: Callable[..., object], name: str, kind: str) -> None:
    given: dict[str, object] = {"a": MODEL, "b": MODEL, "model": MODEL, "self": MODEL, "path": "m.js", "text": "anna"}
    given |= {"corpus": CORPUS, "config": MODEL.config, "settings": tapegpt.Settings(), "data": CORPUS}
    required = [each.name for each in signature(function).parameters.values() if each.default is Parameter.empty]
    wrong: list[object] = [3, [], b"names.safetensors", len, tapegpt.GPT, Unprintable()]
    wrong += [] if "Path" in kind else ["names.safetensors", Path("names.safetensors"), "", 0, False]
    for value in wrong:
        arguments = {each: given[each] for each in required if each in given} | {name: value}
        rule = "a path must be a str or a pathlib.Path, not " if kind == "Path" else f"{name} must be a "
        with pytest.raises(TapeGPTError) as caught:
            function(**arguments)
        assert str(caught.value).startswith(rule)


def test_functions_that_take_a_model_are_tested() -> None:
    named = {f"{function.__name__}.{name}" for function, name, kind in TAKEN if kind.startswith("GPT")}
    models = {f"{name}.model" for name in ("attribute", "dumps", "evaluate", "report", "resume", "finetune", "save")}
    assert named == models | {"compare.a", "compare.b", "serve.model", "widget.model", "write.model"}


def test_models_and_data_in_other_arguments() -> None:
    for wrong in (3, MODEL, None):
        with pytest.raises(TapeGPTError, match=r"data must be the bytes of a model file, not .*: load takes a path"):
            tapegpt.loads(wrong)  # type: ignore[arg-type]
        with pytest.raises(TapeGPTError, match="an ensemble takes several models"):
            tapegpt.Ensemble(wrong)  # type: ignore[arg-type]
    with pytest.raises(TapeGPTError, match="model 1 of an ensemble must be a GPT, not 'names'"):
        tapegpt.Ensemble([MODEL, "names"])  # type: ignore[list-item]
    with pytest.raises(TapeGPTError, match=r"callbacks must be functions of a trainer and losses, not .*: give a list"):
        tapegpt.train(CORPUS, callbacks=print)  # type: ignore[arg-type]
    with pytest.raises(TapeGPTError, match="weights_only must be a bool, not 'no'"):
        tapegpt.dumps(MODEL, weights_only="no")  # type: ignore[arg-type]
    with pytest.raises(TapeGPTError, match="unique must be a bool, not 'no'"):
        MODEL.names_for(["a"], secret="at least 16 bytes", unique="no")  # type: ignore[arg-type]
    with pytest.raises(TapeGPTError, match="text must be a str, not 3"):
        tapegpt.report(MODEL, text=3)  # type: ignore[arg-type]
