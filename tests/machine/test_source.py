"""C of kernels compiles without a warning and computes what the interpreter does, bit for bit, on extreme numbers.

Python does so in `kernels.py`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tapegpt.machine.language import Kernel
from tests.machine.kernels import LANES, OPERATIONS, body, differences
from tests.machine.languages import GCC, Compiled


@pytest.mark.slow
@pytest.mark.skipif(not GCC, reason="needs gcc")
def test_kernels_in_c(tmp_path: Path) -> None:
    """All operations on vectors of all lengths, without undefined behaviour."""
    generator = random.Random(5)
    steps = [tuple((name, generator.randrange(64), generator.randrange(64)) for name in OPERATIONS) for _ in LANES]
    constants = [{"steps": each, "lanes": lanes} for each, lanes in zip(steps, LANES, strict=True)]
    compiled = Compiled([(Kernel(body), each) for each in constants], tmp_path)
    for compiled.number, lanes in enumerate(LANES):
        assert differences(steps[compiled.number], lanes, generator.choice, c=compiled) == []
