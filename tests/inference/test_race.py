"""The order of a race, held to strings that are drawn one after the other without replacement."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Ensemble, TapeGPTError
from tapegpt.inference import race, sampling
from tapegpt.inference.constraints import split_options
from tapegpt.inference.race import Arrivals
from tests.inference.test_sampling import BLOCK, DOCUMENTS, PATTERNS, assert_drawn_from, conditioned, probabilities
from tests.properties import many

EVERY = sum(3**length for length in range(BLOCK + 1))


@pytest.fixture(scope="module")
def model() -> GPT:
    return tapegpt.train(DOCUMENTS, n_embd=8, n_head=2, block_size=BLOCK, steps=30)


def arrivals(model: GPT, seed: int, **options: Any) -> Arrivals:
    wanted: Any = {"temperature": 1.0, **options}
    sampler = model.sampler(*split_options(wanted), seed=0)
    settings = (sampler._inference, sampler._drawing, sampler._rules, sampler._space.longest)
    return Arrivals(*settings, seed * 0x9E3779B97F4A7C15 % (1 << 64), unbiased=sampler._unbiased)


def times(model: GPT, runners: Arrivals, limit: float) -> dict[str, float]:
    texts = model.vocabulary.texts
    found = [pair for strings, came in runners.until(limit) for pair in zip(texts(strings), came.times, strict=True)]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [None, PATTERNS[2]])
def test_a_string_comes_first_as_often_as_the_model_gives_it(model: GPT, pattern: str | None) -> None:
    """Given the pattern, and after times of its rate."""
    everything = probabilities(model)
    fitting = [text for text in everything if re.fullmatch(pattern or ".*", text)]
    mass = math.fsum(everything[text] for text in fitting)
    first, waited = [], 0.0
    for seed in range(many(1500, few=150)):
        runners, limit = arrivals(model, seed, pattern=pattern, unbiased=True if pattern else None), 2.0
        while not (found := times(model, runners, limit)):
            limit += 1.0
        text = min(found, key=found.__getitem__)
        first.append(text)
        waited += math.exp(found[text]) * mass
    assert_drawn_from(conditioned(everything, fitting), first)
    assert abs(waited / len(first) - 1.0) < 5.0 / math.sqrt(len(first))


@pytest.mark.slow
@settings(max_examples=many(25))
@given(
    st.integers(0, 2**32),
    st.floats(-2.0, 12.0),
    st.sampled_from([0.05, 0.5, 1.0, 3.0]),
    st.sampled_from([None, *PATTERNS]),
    st.sampled_from([True, False]),
    st.sampled_from([1, 40, 1 << 20]),
)
def test_times_are_the_same_however_far_one_looks(
    model: GPT, seed: int, limit: float, temperature: float, pattern: str | None, unbiased: bool, cells: int
) -> None:
    """And however many prefixes are looked at together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race, "CELLS", cells)
        runners = arrivals(model, seed, temperature=temperature, pattern=pattern, unbiased=unbiased)
        near, later = times(model, runners, limit), times(model, runners, limit + 1.0)
        assert near == {text: time for text, time in later.items() if time < limit}
        everything = times(model, runners, 1e6)
        assert runners.is_over
        assert later.items() <= everything.items()
        assert len(everything) == sum(
            pattern is None or re.fullmatch(pattern, text) is not None for text in probabilities(model)
        )


@pytest.mark.slow
def test_strings_are_drawn_without_replacement(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that there are, once, however many may be kept at a time; by several models too."""
    for most, worth in ((sampling.MAX_FOUND, 0.5), (10, 0.5), (10, sampling.WORTH)):
        monkeypatch.setattr(sampling, "MAX_FOUND", most)
        monkeypatch.setattr(sampling, "WORTH", worth)
        for each in (model, Ensemble([model, model])):
            strings = list(each.stream(distinct=True, temperature=0.3, seed=1))
            assert len(strings) == len(set(strings)) == EVERY
            assert each.generate(40, distinct=True, temperature=0.3, seed=1) == strings[:40]
            assert Counter(map(len, strings))[BLOCK] == 3**BLOCK


@pytest.mark.slow
def test_strings_of_a_label_come_once_each() -> None:
    labels = {"sex": ["f", "m"] * 3}
    labelled = tapegpt.train(tapegpt.Corpus.of(DOCUMENTS, labels=labels), n_embd=8, n_head=2, block_size=BLOCK + 1)
    for label in ("f", "m", None):
        strings = list(labelled.stream(distinct=True, label=label, max_length=2, temperature=0.5, seed=1))
        assert len(strings) == len(set(strings)) == 1 + 3 + 9
        assert label is None or {text.labels for text in strings} == {(label,)}  # type: ignore[attr-defined]


def test_what_hardly_ever_comes_says_so(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_PREFIXES", 30)
    monkeypatch.setattr(sampling, "LEAST_SHARE", 0.1)
    with pytest.raises(TapeGPTError, match=r"^after \d+ strings: hardly any more come, .* choose a higher temperature"):
        model.generate(EVERY, distinct=True, temperature=0.1, seed=1)
