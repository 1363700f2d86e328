"""Holding documents out: sides, duplicates, order, chance."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Corpus, Random, TapeGPTError
from tapegpt.data.holdout import hold_out

STRINGS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=2).filter(lambda strings: len(set(strings)) > 1)
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)
SEEDS = st.integers(-(2**70), 2**70)


@given(STRINGS, SHARES, SEEDS)
def test_what_is_on_which_side(strings: list[str], share: float, seed: int) -> None:
    corpus = Corpus.of(strings)
    training, validation = hold_out(corpus, share, seed)
    held = set(validation.documents)
    distinct = len(set(strings))
    assert training.documents == [document for document in strings if document not in held]
    assert validation.documents == [document for document in dict.fromkeys(strings) if document in held]
    assert len(held) == min(max(round(share * distinct), 1), distinct - 1)
    assert training.vocabulary == validation.vocabulary == corpus.vocabulary
    assert hold_out(corpus, share, seed) == (training, validation)


def test_ids_agree() -> None:
    corpus = Corpus.of(["az", "bz", "cz"])
    sides = hold_out(corpus, 0.4, 7)
    ids = [document for side in sides for d in range(len(side)) for document in [side.tokens([d]).ids.tolist()]]
    assert sorted(ids) == [[4, token, 3, 4] for token in range(3)]


@pytest.mark.slow
def test_every_document_has_its_chance() -> None:
    """Over 2,000 seeds each of ten documents is held out in 600, within six standard deviations (20.5)."""
    corpus = Corpus.of(list("abcdefghij"))
    sides = [hold_out(corpus, 0.3, seed)[1].documents for seed in range(2000)]
    times = Counter(document for side in sides for document in side)
    assert all(abs(times[document] - 600) < 123 for document in "abcdefghij")
    assert len({tuple(side) for side in sides}) == 120  # all of the 10 over 3 choices


def test_the_draws_are_not_those_of_training() -> None:
    """The documents that training would come to first are held out no more often than others."""
    corpus = Corpus.of(map(str, range(100)))
    expected = 0
    for seed in range(200):
        first = {corpus.documents[number] for number in Random(seed).permutation(100)[:10]}
        expected += len(first & set(hold_out(corpus, 0.1, seed)[1].documents))
    assert abs(expected - 200) < 80  # six standard deviations


def test_the_same_documents_are_held_out_from_version_to_version() -> None:
    """A file says the seed and not the documents: a resumed training has to hold out those of the first day."""
    corpus = Corpus.of(list("abcdefghij"))
    assert ["".join(hold_out(corpus, 0.3, seed)[1].documents) for seed in (42, -1)] == ["acg", "acd"]
    assert [side.source for side in hold_out(Corpus.dataset("names"), 0.5, 1)] == [None, None]  # which gives all


def test_surnames() -> None:
    corpus = Corpus.dataset("surnames")
    training, validation = hold_out(corpus, 0.1, 42)
    assert (len(training), len(validation)) == (79_919, 8_880)
    assert not set(training.documents) & set(validation.documents)


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0, -0.1, 1.5, float("nan"), float("inf"), True, "0.1", None])
def test_shares_that_are_none(share: object) -> None:
    with pytest.raises(TapeGPTError, match=r"\Athe share to hold out must be a number above 0 and below 1, not .*\Z"):
        hold_out(Corpus.of(["a", "b"]), share, 1)  # type: ignore[arg-type]  # as an untyped caller may


@pytest.mark.parametrize("seed", [0.5, "42", None, True])
def test_seeds_that_are_none(seed: object) -> None:
    with pytest.raises(TapeGPTError, match="seed must be a whole number"):
        hold_out(Corpus.of(["a", "b"]), 0.5, seed)  # type: ignore[arg-type]  # as an untyped caller may


def test_documents_that_are_all_the_same() -> None:
    with pytest.raises(TapeGPTError, match=r"\Adocuments that are all the same cannot be split: give two .*\Z"):
        hold_out(Corpus.of(["anna"] * 5), 0.5, 1)
