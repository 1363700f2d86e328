"""What every kind of export is made of: the same strings and probabilities as the model's own engine."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt.export.portable import KEY, portable
from tapegpt.machine.host import host_target
from tapegpt.machine.target import SSE2
from tapegpt.models import NAMES
from tests.export.examples import ROOM, STRINGS, Exported, trained
from tests.properties import many

ENGINES: Any = ("exact", "fast")
LONG = "anna" * 4 + "bob"


@pytest.fixture(scope="module")
def exported() -> Exported:
    return Exported(trained())


@settings(max_examples=many(50))
@given(st.one_of(st.integers(-(2**70), 2**70), st.integers(0, KEY - 1).map(lambda n: 2 ** (32 * n) - 1)))
def test_seeds_are_pythons(exported: Exported, number: int) -> None:
    assert exported.seed(number) == [*random.Random(number).getstate()[1]]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES)
def test_strings_are_the_engines_own(engine: Any, name: str) -> None:
    model = trained(engine, name)
    exported, vocabulary = Exported(model), model.vocabulary
    strings: list[str] = []
    for longest, temperature in ((6, 0.5), (ROOM, 4.0)):
        exported.seed(7)
        strings = [vocabulary.decode(exported.generate([], longest, temperature)) for _ in range(60)]
        assert strings == model.generate(60, seed=7, max_length=longest, temperature=temperature)
    assert max(map(len, strings)) > 12  # beyond the block more than once


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_strings_begin_with_what_is_given(engine: Any) -> None:
    model = trained(engine)
    exported, vocabulary = Exported(model), model.vocabulary
    ids: list[int] = []
    for prefix in ("bo", LONG[:7], LONG):
        ids = vocabulary.encode(prefix)
        exported.seed(3)
        strings = [exported.generate(ids, ROOM, 4.0) for _ in range(60)]
        assert all(string[: len(ids)] == ids for string in strings)
        assert len({len(string) for string in strings}) > 1
    assert exported.generate(ids, len(ids), 1.0) == ids
    assert exported.generate([], 0, 1.0) == []


def test_what_is_given_takes_no_random_number() -> None:
    exported = Exported(trained("fast"))  # whose numbers follow from the position
    for number in range(20):
        exported.seed(number)
        string = exported.generate([], ROOM, 4.0)
        exported.seed(number)
        assert exported.generate(string[: len(string) // 2], ROOM, 4.0) == string


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_exact_probabilities_are_the_exact_engines(name: str) -> None:
    model = trained("exact", name)
    exported, tokens = Exported(model), model.vocabulary.encode_documents
    for text in ("", "anna", "tabath"[:5]):
        ids = model.vocabulary.encode(text)
        surprises, rows = exported.read(ids)
        total = 0.0
        for nats in surprises:
            total += nats
        assert model.engine.evaluate(tokens([text])) == (total * (1 / len(surprises)) * len(surprises), len(surprises))
        assert [sum(row) for row in rows] == pytest.approx([1.0] * len(rows), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES)
def test_long_strings_are_read_in_windows(engine: Any, name: str) -> None:
    model = trained(engine, name)
    exported = Exported(model)
    ids = model.vocabulary.encode(LONG)
    surprises, rows = exported.read(ids)
    assert surprises == pytest.approx(list(model.inference.surprises(model.vocabulary.encode_documents([LONG]))), 1e-5)
    for number, row in enumerate(rows):
        assert [*row] == pytest.approx([model.next_probabilities(LONG[:number])[t] for t in model.vocabulary.names])
    assert len(rows) == len(ids) + 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"n_gram": 3, "gram_rows": 64}, {"kn_share": 0.5, "kn_rows": 64}])
def test_n_grams_are_exported(options: dict[str, Any]) -> None:
    model = trained("fast", **options)
    exported = Exported(model)
    exported.seed(3)
    strings = [model.vocabulary.decode(exported.generate([], 6, 1.0)) for _ in range(50)]
    assert strings == model.generate(50, seed=3, temperature=1.0)


@pytest.mark.slow
def test_the_reference_is_exported_as_what_equals_it() -> None:
    assert portable(trained("reference"), SSE2).engine == "exact"


def test_what_is_no_model_gives_one_line() -> None:
    several = tapegpt.Ensemble([trained(), trained()])
    for what, told in ((several, "export each of its models"), (STRINGS, r"give what tapegpt.load\(path\)")):
        with pytest.raises(tapegpt.TapeGPTError, match=told):
            portable(what, host_target())  # type: ignore[arg-type]
