"""How much a test does: a few examples, steps or draws, or as many as it names with `--hypothesis-profile thorough`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from hypothesis import settings

from tapegpt.machine.program import Program

FEW = 10 if sys.platform == "emscripten" else 5  # in Pyodide no test runs in full
QUICK, THOROUGH = "quick", "thorough"
settings.register_profile(QUICK, deadline=None, max_examples=FEW)  # no deadline: an example may have to compile
# The same examples each time, so that CI refuses no change for what was there before; quick runs look for new ones.
settings.register_profile(THOROUGH, deadline=None, max_examples=100, derandomize=True)


def is_thorough() -> bool:
    """Whether there is time for all that a test can do."""
    return settings.get_current_profile_name() == THOROUGH


def many(count: int, few: int = FEW) -> int:
    """So many where there is time for them, else a few: less where each is a compilation or a training."""
    return count if is_thorough() else min(count, few)


_noted: dict[str, object] = {}


def _note(value: object, *of: object) -> None:
    if all(type(each).__module__.partition(".")[0] in ("builtins", "tapegpt") for each in of):  # else other code may
        _noted[repr(of)] = value  # have the same name


@contextmanager
def skip_passes() -> Iterator[None]:
    """Compile without LLVM's passes, except in thorough runs: half of the time, and the code computes the same bits.

    This code is cached under keys of its own, so that nobody else is given it. What follows from an engine's shape is
    noted for the process, as for commands: recording it and a fingerprint of its code cost more than a small test.
    """
    if is_thorough() or sys.platform == "emscripten":  # where code is made without LLVM
        yield
        return
    from tapegpt.machine import llvm, notes

    compile_object, key = llvm.compile_object, Program.key

    def own_key(program: Program) -> str:
        plain = key(program)
        return plain[1:] + plain[:1]

    with (
        mock.patch.object(llvm, "compile_object", lambda ir, target, **_: compile_object(ir, target, optimised=False)),
        mock.patch.object(Program, "key", own_key),
        mock.patch.object(notes, "recall", lambda *of, **_: _noted.get(repr(of))),
        mock.patch.object(notes, "note", _note),
    ):
        yield
