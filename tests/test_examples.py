"""The examples run and learn what they say, gradients agree with finite differences, odd strings are found."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
QUICK = [example.stem for example in EXAMPLES if example.stem != "odd_strings"]


@cache
def printed(name: str) -> str:
    """What an example prints; it must have nothing to complain about."""
    (example,) = [example for example in EXAMPLES if example.stem == name]
    with tempfile.TemporaryDirectory() as place:  # for what it draws
        done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=120, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_examples_run_and_learn(name: str) -> None:
    for error in re.findall(r"finite differences agree to (\S+)", printed(name)):
        assert float(error) < 1e-6
    losses = [float(loss) for loss in re.findall(r"loss +(\d\S*\d)", printed(name))]
    assert losses == [] or name == "regression" or losses[-1] < 0.96 * losses[0]


@pytest.mark.slow
def test_the_networks_of_the_examples_find_what_is_there() -> None:
    assert "accuracy 100.0%" in printed("moons")
    assert "8 of 8 codes are different" in printed("autoencoder")
    line, *_, network = [float(error) for error in re.findall(r"held-out error (\S+)", printed("regression"))]
    assert line > 0.5
    assert network < 0.13  # the noise alone is 0.1


@pytest.mark.slow
def test_the_language_models_of_the_examples_are_as_good_as_they_can_be() -> None:
    reached, held_out = (float(re.findall(r"loss (\S+)", printed(name))[-1]) for name in ("bigram", "mlp"))
    least = float(re.findall(r"counting gives +(\S+),", printed("bigram"))[0])
    assert least < reached < least + 0.1
    assert held_out < least - 0.2


def test_the_expression_of_micrograd() -> None:
    assert "g     = 24.7041\ndg/da = 138.8338\ndg/db = 645.5773\n" in printed("expression")


@pytest.mark.slow
def test_odd_strings_are_found_better_than_by_counting_pairs() -> None:
    shown = printed("odd_strings")
    areas = re.findall(r"^(.+?) +(0\.\d+) +(0\.\d+) +(0\.\d+)  \w", shown, re.MULTILINE)
    assert [kind for kind, *_ in areas] == ["shuffled characters", "keyboard mash", "one typing error"]
    for (_, model, pairs, length), least in zip(areas, (0.96, 0.98, 0.8), strict=True):
        assert float(model) > max(float(pairs), least)
        assert 0.48 < float(length) < 0.54
    alarms = dict(re.findall(r"^(\w+).* (\S+)%$", shown, re.MULTILINE))
    assert float(alarms["surnames"]) < 2.0
    assert float(alarms["keyboard"]) > 80.0
