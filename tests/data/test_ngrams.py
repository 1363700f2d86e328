"""N-gram losses against the formula in exact rationals, over n-grams counted in sets and lists."""

from __future__ import annotations

from array import array
from collections import Counter
from fractions import Fraction
from functools import cache
from math import exp, fsum, inf, isclose, log
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import Corpus, TapeGPTError
from tapegpt.data import ngrams
from tapegpt.data.holdout import hold_out
from tapegpt.data.ngrams import ORDERS, NGrams, baselines, discounts, kernels, make_trie
from tapegpt.data.tokens import Tokens
from tapegpt.data.trie import COLUMNS, LONGEST, Trie
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.machine.host import available, cpu_identity, detect, machine
from tapegpt.machine.target import Target
from tests.languages import Arithmetic, Automaton, Brackets, Language, RomanNumerals
from tests.properties import many

START, END = "<", ">"  # in the oracle two characters; both are BOS
Gram = tuple[str, ...]

STRINGS = st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=12)


class Oracle:
    """The docstring's formula, by its words."""

    def __init__(self, documents: list[str], order: int, vocab_size: int) -> None:
        self.order, self.vocab_size = order, vocab_size
        occurring = Counter(gram for document in documents for gram in grams([START, *document, END]))
        before: dict[Gram, set[str]] = {}
        for gram in occurring:
            before.setdefault(gram[1:], set()).add(gram[0])
        self.a: dict[Gram, int] = {}
        for gram, times in occurring.items():
            if gram != (START,) and len(gram) <= order:
                whole = len(gram) == order or gram[0] == START
                self.a[gram] = times if whole else len(before[gram])
        self.followers: dict[Gram, list[Gram]] = {}
        for gram in self.a:
            self.followers.setdefault(gram[:-1], []).append(gram)
        self.numbers = Counter((len(gram), a) for gram, a in self.a.items())
        self.p, self.mass, self.discount = cache(self._p), cache(self._mass), cache(self._discount)

    def _discount(self, length: int, a: int) -> Fraction:
        n = [self.numbers[length, j] for j in range(5)]
        j = min(a, 3)
        if not j:
            return Fraction(0)
        estimate = Fraction(0)
        if n[1] and n[j]:
            estimate = j - (j + 1) * Fraction(n[1], n[1] + 2 * n[2]) * Fraction(n[j + 1], n[j])
        return estimate if estimate > 0 else Fraction(j, 2)

    def _mass(self, context: Gram) -> tuple[int, Fraction]:
        counts = [self.a[gram] for gram in self.followers[context]]
        return sum(counts), sum((self.discount(len(context) + 1, a) for a in counts), Fraction(0))

    def _p(self, context: Gram, token: str) -> Fraction:
        shorter = self.p(context[1:], token) if context else Fraction(1, self.vocab_size)
        if context not in self.followers:
            return shorter
        total, mass = self.mass(context)
        a = self.a.get((*context, token), 0)
        return (a - self.discount(len(context) + 1, a) + mass * shorter) / total

    def loss(self, documents: list[str]) -> float:
        nats = []
        for document in documents:
            text = (START, *document, END)
            context_and_token = [(text[max(0, i - self.order + 1) : i], text[i]) for i in range(1, len(text))]
            nats += [-log(self.p(*pair)) for pair in context_and_token]
        return fsum(nats) / len(nats)


def grams(text: list[str]) -> list[Gram]:
    """All that is to be counted, however long: up to six tokens, one more than any order here."""
    return [tuple(text[i:j]) for i in range(len(text)) for j in range(i + 1, min(i + 6, len(text)) + 1)]


def expected(training: list[str], validation: list[str], vocab_size: int) -> dict[str, float]:
    losses = {name: Oracle(training, order, vocab_size).loss(validation) for name, order in ORDERS.items()}
    return {"uniform": log(vocab_size), **losses}


def same(ours: dict[str, float], theirs: dict[str, float]) -> bool:
    """Within the roundings of a sum: a 1e-12."""
    return list(ours) == list(theirs) and all(isclose(ours[name], theirs[name], rel_tol=1e-12) for name in ours)


def corpora(training: list[str], validation: list[str]) -> tuple[Corpus, Corpus]:
    whole = Corpus.of([*training, *validation])
    return whole.replace(documents=training), whole.replace(documents=validation)


@settings(max_examples=many(150))
@given(STRINGS, STRINGS)
def test_losses_equal_the_formula(training: list[str], validation: list[str]) -> None:
    ours = corpora(training, validation)
    vocab_size = ours[0].vocab_size
    theirs = expected(training, validation, vocab_size)
    assert same(baselines(*ours, vocab_size), theirs)


@pytest.mark.parametrize("language", [Automaton(), RomanNumerals(), Arithmetic(20), Brackets(4)])
def test_languages_of_all_kinds(language: Language) -> None:
    """Also that nothing does better than the entropy, but by chance."""
    training, validation = hold_out(Corpus.of(language.sample(1500, seed=1)), 0.2, 1)
    losses = baselines(training, validation, training.vocab_size)
    assert same(losses, expected(training.documents, validation.documents, training.vocab_size))
    plain = Corpus.of(language.sample(1500, seed=2)).replace(vocabulary=training.vocabulary)
    losses = baselines(training, plain, training.vocab_size)
    assert losses["uniform"] > losses["unigram"] > losses["bigram"] > losses["5-gram"] > 0.97 * language.entropy


@pytest.mark.slow
def test_a_bigram_is_all_that_a_language_of_one_letters_memory_needs() -> None:
    """An automaton of two states has but one to be in: every letter, and the end, is drawn alike."""
    language = Automaton(2, "abcd", 3)
    training, validation = (Corpus.of(language.sample(20_000, seed)) for seed in (1, 2))
    losses = baselines(training, validation, training.vocab_size)
    assert losses["bigram"] == pytest.approx(language.entropy, rel=0.01)
    assert losses["unigram"] > 1.01 * losses["bigram"]


def test_the_published_names(shared: Path) -> None:
    """The figure of the docstring."""
    corpus = Corpus.read(shared / "data" / "names.txt")
    losses = baselines(*hold_out(corpus, 0.1, 42), corpus.vocab_size)
    assert {name: round(loss, 3) for name, loss in losses.items()} == {
        "uniform": 3.296,
        "unigram": 2.818,
        "bigram": 2.459,
        "5-gram": 2.018,
    }


# Probabilities


def nats(model: NGrams, ids: list[int]) -> float:
    """Of all tokens but the first."""
    return model.loss(Tokens(array("I", ids), array("q", [0, len(ids) - 1]))) * (len(ids) - 1) if ids[1:] else 0.0


@pytest.mark.parametrize("order", range(1, 7))
@given(st.lists(st.text("abcd", min_size=1, max_size=8), max_size=20), st.lists(st.integers(0, 5), max_size=7))
def test_probabilities_sum_to_one(order: int, strings: list[str], context: list[int]) -> None:
    """After any context, with tokens (4, 5) that are never seen in training."""
    corpus = Corpus(strings, Vocabulary.of("abcdef"))
    model = NGrams(kernels(), corpus.tokens(), 7, order)
    before = [corpus.vocabulary.bos, *context]
    start = nats(model, before)
    probabilities = [exp(start - nats(model, [*before, token])) for token in range(7)]
    assert min(probabilities) > 0
    assert fsum(probabilities) == pytest.approx(1, abs=1e-12)


def test_contexts_never_cross_documents() -> None:
    """Whatever follows whatever: a document's nats are its own."""
    training = Corpus.of(["ab", "ba", "abba", "bab"])
    model = NGrams(kernels(), training.tokens(), 3, 5)
    assert nats(model, [2, 0, 1, 2, 1, 1, 2]) == pytest.approx(nats(model, [2, 0, 1, 2]) + nats(model, [2, 1, 1, 2]))
    orders = [[0, 1, 2, 3], [3, 1, 0, 2]]
    losses = {NGrams(kernels(), training.tokens(order), 3, 5).loss(training.tokens()) for order in orders}
    assert len(losses) == 1


def test_windows_of_documents_are_documents() -> None:
    training, validation = hold_out(Corpus.dataset("names"), 0.2, 1)
    vocab_size = training.vocab_size
    whole = baselines(training, validation, vocab_size)
    assert baselines(training.tokens(), validation.tokens(), vocab_size) == whole
    assert baselines(training.windows(3), validation.windows(2), vocab_size) == whole


def test_some_documents_of_many() -> None:
    """Tokens may begin and end inside their ids."""
    corpus = Corpus.of(["ab", "ba", "abba", "bab"])
    tokens = corpus.tokens()
    middle = Tokens(tokens.ids, tokens.starts[1:4])
    alone = corpus.tokens([1, 2])
    assert baselines(middle, middle, 3) == baselines(alone, alone, 3)


def test_discounts_where_counts_are_few() -> None:
    assert discounts(0, 0, 0, 0) == [0.0, 0.5, 1.0, 1.5]
    assert discounts(0, 7, 3, 1) == [0.0, 0.5, 1.0, 1.5]
    assert discounts(5, 0, 0, 0) == [0.0, 1.0, 1.0, 1.5]
    assert discounts(8, 4, 2, 1) == [0.0, 0.5, 1.25, 2.0]
    assert discounts(1, 0, 2, 9) == [0.0, 1.0, 1.0, 1.5]


def test_nothing_to_validate_on() -> None:
    corpus = Corpus.of(["a"])
    with pytest.raises(TapeGPTError, match=r"\Athere is no document to validate on: give at least one\Z"):
        baselines(corpus, corpus.tokens([]), 2)


# The table


@pytest.mark.slow
@pytest.mark.parametrize("target", available(detect(cpu_identity(), machine())), ids=repr)
def test_every_target_gives_the_same(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    training, validation = (Corpus.of(Automaton().sample(60, seed)).tokens() for seed in (1, 2))
    reference = {order: NGrams(kernels(), training, 5, order).loss(validation) for order in (1, 2, 5)}
    monkeypatch.setattr(ngrams, "_FIRST_BITS", 5)
    program = kernels(target)
    assert {order: NGrams(program, training, 5, order).loss(validation) for order in (1, 2, 5)} == reference


@pytest.mark.parametrize("bits", range(4, 12))
def test_a_table_that_grows(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    corpus = Corpus.of(Automaton().sample(500, seed=1))
    monkeypatch.setattr(ngrams, "_FIRST_BITS", bits)
    model = NGrams(kernels(), corpus.tokens(), 5, 5)
    assert 1 << (model._bits - 2) < model.size + 5 <= 1 << (model._bits - 1) or model._bits == bits
    assert len(Oracle(corpus.documents, 5, 5).a) == model.size - 1
    monkeypatch.undo()
    assert model.loss(corpus.tokens()) == NGrams(kernels(), corpus.tokens(), 5, 5).loss(corpus.tokens())


def test_a_corpus_of_too_many_is_counted_up_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Corpus.of(Automaton().sample(500, seed=1)).tokens()
    monkeypatch.setattr(ngrams, "_FIRST_BITS", 5)
    monkeypatch.setattr(ngrams, "_LAST_BITS", 8)
    model = NGrams(kernels(), tokens, 5, 5)
    assert 123 < model.size <= 128
    loss = model.loss(tokens)
    monkeypatch.undo()
    beginnings = (Tokens(tokens.ids, array("q", [0, end])) for end in range(1, 200))
    assert loss < inf
    assert loss in [NGrams(kernels(), beginning, 5, 5).loss(tokens) for beginning in beginnings]


@pytest.mark.slow
def test_large_vocabularies() -> None:
    """Tokens beyond 16 bits, each seen once but for a few, and those that have the same 16 bits."""
    characters = "".join(chr(code) for code in range(0x20000, 0x20000 + 70_000))  # planes 2 and 3
    seen = [characters[i : i + 500] for start in (0, 0x10000) for i in range(start, start + 4000, 500)]
    training, validation = [*seen, *["ab"] * 9], [characters[69_000:69_300], "abba", characters[5] + "a"]
    whole = Corpus.of([*training, *validation, characters])
    ours = whole.replace(documents=training), whole.replace(documents=validation)
    vocab_size = whole.vocab_size
    assert vocab_size == 70_003
    assert same(baselines(*ours, vocab_size), expected(training, validation, vocab_size))


# --- tries ------------------------------------------------------------------------------------------------------------


def columns(table: array[float]) -> list[array[float]]:
    room = len(table) // COLUMNS
    return [table[start : start + room] for start in range(0, len(table), room)]


@given(STRINGS, st.text("abc", max_size=7))
@settings(deadline=None, max_examples=many(20))
def test_a_trie_has_the_distributions_of_the_formula(strings: list[str], text: str) -> None:
    corpus = Corpus.of([*strings, "abc"])
    oracle = Oracle(corpus.documents, LONGEST, 4)
    made = columns(make_trie(corpus, 4, 1000))
    found = Trie.distribution(made, [3, *corpus.vocabulary.encode(text)], 4)
    context = (START, *text)[-LONGEST + 1 :]
    assert found == pytest.approx([float(oracle.p(context, token)) for token in (*"abc", END)], rel=1e-12)


def test_a_trie_has_the_longest_n_grams_that_fit() -> None:
    corpus = Corpus.of(RomanNumerals().sample(200, seed=1))
    sizes = [NGrams(kernels(), corpus.tokens(), corpus.vocab_size, order).size for order in range(1, LONGEST + 1)]
    assert sizes == sorted(set(sizes))
    for order, size in enumerate(sizes, 1):
        for room in (size + 2, size + 3):
            _, _, first, _ = columns(make_trie(corpus, corpus.vocab_size, room))
            assert first[-2:].tolist() == [size, size], (order, room)
    with pytest.raises(TapeGPTError, match="kn_rows"):
        make_trie(corpus, corpus.vocab_size, sizes[0] + 1)
