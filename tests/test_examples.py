"""The examples run, agree with finite differences and learn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example: Path) -> None:
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (error,) = re.findall(r"finite differences agree to (\S+)", done.stdout)
    assert float(error) < 1e-6
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", done.stdout)]
    assert losses == [] or losses[-1] < min(losses[0], 2.45)


def test_the_expression_of_micrograd() -> None:
    (expression,) = [example for example in EXAMPLES if example.stem == "expression"]
    shown = subprocess.run([sys.executable, expression], capture_output=True, text=True, check=True).stdout
    assert "g     = 24.7041\ndg/da = 138.8338\ndg/db = 645.5773\n" in shown
