"""The guard of all tests: machine code that leaves its memory is stopped, on either side, in blocks and in arrays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tapegpt.machine.host import host_target

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
