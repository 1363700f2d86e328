"""Faker has strings of models as it has its own: with its seeds, its `unique`, its command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from faker import Faker

import tapegpt
from tapegpt import GPT, TapeGPTError
from tapegpt.faker import Provider

NAMES = ["anna", "bert", "clara", "dora", "emil", "frida", "gustav", "hanna"]


@pytest.fixture(scope="module")
def model() -> GPT:
    return tapegpt.train(NAMES, n_embd=8, n_head=2, block_size=8, steps=100)


@pytest.fixture(params=["a class", "by name", "locales"])
def fake(request: pytest.FixtureRequest) -> Faker:
    if request.param != "a class":
        return Faker(["en_US", "de_DE"] if request.param == "locales" else None, includes=["tapegpt.faker"])
    fake = Faker()
    fake.add_provider(Provider)
    return fake


def test_seeds_are_fakers(fake: Faker, model: GPT) -> None:
    def several() -> list[str]:
        return [fake.tapegpt(model), fake.first_name(), fake.tapegpt(model, temperature=2.0)] * 5

    state = model.random_state
    for seed in (Faker.seed, fake.seed_instance):
        seed(1)
        strings = several()
        seed(1)
        assert several() == strings
        assert several() != strings
    assert model.random_state == state  # the model's own generator has no part in it


def test_unique_is_fakers(fake: Faker, model: GPT) -> None:
    assert len({fake.unique.tapegpt(model) for _ in range(50)}) == 50
    fake.unique.clear()
    assert {fake.unique.tapegpt(model, pattern="[ab]") for _ in range(2)} == {"a", "b"}


def test_models_are_objects_files_and_data_sets(fake: Faker, model: GPT, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tapegpt.save(model, path)
    strings = set()
    for each in (model, path, str(path)):
        fake.seed_instance(3)
        strings.add(fake.tapegpt(each))
    assert len(strings) == 1
    assert re.fullmatch("ma[a-z]*", fake.tapegpt("names", prefix="ma"))
    assert fake.tapegpt().isalpha()
    with pytest.raises(TapeGPTError, match="nothing: no such file"):
        fake.tapegpt("nothing")
    with pytest.raises(TapeGPTError, match="no string meets the constraints"):
        fake.tapegpt(model, pattern="x")
    with pytest.raises(TapeGPTError, match=r"model must be a GPT, the path of its file or one of names, .*, not 5"):
        fake.tapegpt(5)


@pytest.mark.slow
def test_the_command_of_faker() -> None:
    command = [sys.executable, "-m", "faker", "-i", "tapegpt.faker", "--seed", "1", "-r", "2", "tapegpt", "names"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert re.fullmatch("([a-z]+\n+){2}", done.stdout), done
