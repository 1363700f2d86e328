"""The guard of all tests: machine code that leaves its memory is stopped, on either side, in blocks and in arrays."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from array import array

import pytest

from tapegpt.machine.host import host_target
from tapegpt.machine.memory import address_of
from tests import guard

TOUCH = """
from __future__ import annotations
from array import array
from tests.guard import guard
from tapegpt.machine.language import Builder, F64s, Int, Kernel
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program

def touch(k: Builder, x: F64s, i: Int) -> None:
    x[i] = x[i] + 1.0

guard()
program = Program({{"touch": (Kernel(touch), {{}})}})
place = {place}
for i in range(5):
    program.run("touch", place, i)
print("inside", flush=True)
program.run("touch", place, {index})
"""


@pytest.mark.skipif(os.name != "posix", reason="pages are not guarded here")
@pytest.mark.skipif(host_target().name == "interpreted", reason="the interpreter checks bounds by itself")
@pytest.mark.parametrize(("side", "index"), [("end", 5), ("start", -1)])
@pytest.mark.parametrize("place", ["Memory(40).at(0)", "address_of(array('d', [1.0] * 5))"])
def test_a_step_outside_is_stopped(side: str, index: int, place: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TOUCH.format(place=place, index=index)],
        capture_output=True,
        text=True,
        env={**os.environ, "TAPEGPT_GUARD": side},
    )
    assert ended.stdout == "inside\n", ended.stderr
    assert ended.returncode == -signal.SIGSEGV


def test_what_an_interrupted_call_left_is_nobody_else_s() -> None:
    """A call that Ctrl-C ends on its way out may keep its copy: a larger array must never be given it."""
    small = array("d", [1.0])
    guard._lend(small, address_of(small).number)
    identity = id(small)
    del small
    gc.collect()
    assert identity not in [id(each) for each in [array("d", [2.0] * 100) for _ in range(1000)]]
    del guard._lent[identity]
