"""Pseudonyms, held to their definition: keys choose one after the other, each its first candidate that is free."""

from __future__ import annotations

import hmac
import math
import re
from array import array
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Ensemble, TapeGPTError
from tapegpt.inference import pseudonyms
from tapegpt.inference.constraints import Constraints, Drawing
from tests.properties import many

NAMES = ["anna", "bert", "clara", "dora", "emil", "frida", "gustav", "hanna"]
SHAPE: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 8}
SECRET = "correct horse battery staple"
KEYS = st.lists(st.text(max_size=3), max_size=60)


@pytest.fixture(scope="module", params=["exact", "fast"])
def model(request: pytest.FixtureRequest) -> GPT:
    return tapegpt.train(NAMES, engine=request.param, steps=30, **SHAPE)


def digest(secret: str, key: str, number: int) -> bytes:
    return hmac.digest(secret.encode(), number.to_bytes(8, "big") + key.encode("utf-8", "surrogatepass"), "sha256")


def expected(model: GPT, keys: list[str], secret: str = SECRET) -> dict[str, str]:
    """One key after the other, one candidate after the other."""
    sampler = model.sampler(Constraints(unbiased=False), Drawing(temperature=1.0), seed=0)
    found: dict[str, str] = {}
    for key in sorted(set(keys), key=lambda key: (digest(secret, key, 0), key)):
        for number in count(1):
            mac = digest(secret, key, number)
            stream = array("Q", [int.from_bytes(mac[:8], "big"), int.from_bytes(mac[8:16], "big") | 1])
            [name] = sampler.of_streams(stream)
            if name and name not in NAMES and name not in found.values():
                found[key] = name
                break
    return found


@pytest.mark.slow
@settings(max_examples=many(30))
@given(keys=KEYS, secret=st.text("abc€", min_size=16, max_size=90), batch=st.sampled_from([1, 7, 4096]))
def test_keys_choose_one_after_the_other(model: GPT, keys: list[str], secret: str, batch: int) -> None:
    """However many candidates are drawn together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudonyms, "BATCH", batch)
        patch.setattr(pseudonyms, "PATIENCE", math.nan)  # nothing is less: it goes on until all have one
        names = model.names_for(keys, secret=secret)
    right = expected(model, keys, secret)
    assert names == [right[key] for key in keys]


@settings(max_examples=many(30))
@given(keys=KEYS, random=st.randoms(), unique=st.booleans())
def test_names_depend_on_the_set_of_keys_alone(model: GPT, keys: list[str], random: Any, unique: bool) -> None:
    names = dict(zip(keys, model.names_for(keys, secret=SECRET, unique=unique), strict=True))
    others = [*keys, *keys]
    random.shuffle(others)
    assert model.names_for(others, secret=SECRET.encode(), unique=unique) == [names[key] for key in others]
    assert not set(names.values()) & {"", *NAMES}
    if unique:
        assert len(set(names.values())) == len(names)
    else:
        assert [model.names_for([key], secret=SECRET)[0] for key in names] == list(names.values())


def test_names_depend_on_the_secret_and_keep_to_options(model: GPT) -> None:
    keys = [f"customer {number}" for number in range(200)]
    one, other = (model.names_for(keys, secret=secret) for secret in (SECRET, SECRET + "!"))
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 10
    options: dict[str, Any] = {"prefix": "a", "suffix": "a", "min_length": 3, "max_length": 6, "avoid": ["d"]}
    names = model.names_for(keys[:50], secret=SECRET, pattern="[a-z]*", temperature=0.9, **options)
    assert all(re.fullmatch("a[^d]{1,4}a", name) for name in names)
    known = model.names_for(keys, secret=SECRET, temperature=0.3, unique=False, novel=False)
    assert set(known) & set(NAMES)
    assert "" not in model.names_for(keys, secret=SECRET, novel=False, max_length=1, unique=False)
    assert len(set(model.names_for(keys, secret=SECRET, top_k=2, unique=False))) > 1


def test_a_file_and_another_thread_give_the_same_names(model: GPT) -> None:
    loaded = tapegpt.loads(tapegpt.dumps(model))
    loaded.documents = NAMES
    assert loaded.names_for(NAMES, secret=SECRET) == model.names_for(NAMES, secret=SECRET)
    together = Ensemble([model, loaded]).names_for(NAMES, secret=SECRET)
    assert len(set(together)) == len(NAMES)


@pytest.mark.slow
def test_names_have_the_label_that_is_asked_for() -> None:
    corpus = tapegpt.Corpus.of(NAMES, labels={"sex": list("fmffmfmf")})
    labelled = tapegpt.train(corpus, steps=30, **SHAPE)
    for label in ("f", "m"):
        names = labelled.names_for(NAMES, secret=SECRET, label=label)
        assert len(set(names)) == len(NAMES)
        assert {name.labels for name in names} == {(label,)}  # type: ignore[attr-defined]
    given = ["f", "m", None, "f", "m", "f", "f", "m"]
    each = labelled.names_for([*NAMES, NAMES[0]], secret=SECRET, labels=[*given, "m"])
    assert len(set(each)) == len(NAMES) + 1
    assert all(label in (None, name.labels[0]) for name, label in zip(each, given, strict=False))  # type: ignore[attr-defined]
    again = labelled.names_for([NAMES[0], *NAMES], secret=SECRET, labels=["m", *given])
    assert again == [each[-1], *each[:-1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secret": "too short"}, "secret must have at least 16 bytes, not 9: choose one at random"),
        ({"secret": b""}, "secret must have at least 16 bytes, not 0"),
        ({"secret": 5}, "secret must be a str or bytes, not int"),
        ({"pattern": "x"}, "no string meets the constraints: loosen them"),
        ({"max_length": 0}, "0 of 3 keys have a name"),
        ({"temperature": -1}, "temperature must be 0 or a number"),
        ({"pattern": "a", "novel": False}, "1 of 3 keys have a name, and hardly any other name comes: choose a higher"),
        ({"temperature": 0}, "of 3 keys have a name"),
        ({"distinct": True}, "names_for got an unexpected argument 'distinct': "),
    ],
)
def test_what_cannot_be(model: GPT, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "BATCH", 64)  # else a temperature of 0, which gives one name, takes a second
    with pytest.raises(TapeGPTError, match=re.escape(message)) as caught:
        model.names_for(["one", "two", "three"], **{"secret": SECRET, **options})
    assert "too short" not in str(caught.value)


def test_training_strings_are_needed_to_be_new(model: GPT) -> None:
    loaded = tapegpt.loads(tapegpt.dumps(model))
    with pytest.raises(TapeGPTError, match=r"came from a program .* read_training_data, .* or choose novel=False$"):
        loaded.names_for(["one"], secret=SECRET)
    assert loaded.names_for(["one"], secret=SECRET, novel=False)
