"""The examples run; those with a tape agree with finite differences and learn, odd strings are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
ON_TAPES = [example for example in EXAMPLES if example.stem != "odd_strings"]


@pytest.mark.parametrize("example", ON_TAPES, ids=lambda path: path.stem)
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


def test_odd_strings_are_found_better_than_by_counting_pairs() -> None:
    (example,) = [example for example in EXAMPLES if example.stem == "odd_strings"]
    shown = subprocess.run([sys.executable, example], capture_output=True, text=True, check=True).stdout
    areas = re.findall(r"^(.+?) +(0\.\d+) +(0\.\d+) +(0\.\d+)  \w", shown, re.MULTILINE)
    assert [kind for kind, *_ in areas] == ["shuffled characters", "keyboard mash", "one slip"]
    for (_, model, pairs, length), least in zip(areas, (0.96, 0.98, 0.8), strict=True):
        assert float(model) > max(float(pairs), least)
        assert 0.48 < float(length) < 0.54
    alarms = dict(re.findall(r"^(\w+).* (\S+)%$", shown, re.MULTILINE))
    assert float(alarms["surnames"]) < 2.0
    assert float(alarms["keyboard"]) > 80.0
