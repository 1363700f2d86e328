"""N-gram embeddings: which rows they are, and that training and generation agree about them."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config, Corpus, DivergedError, Random, TapeGPTError
from tapegpt.autograd import Tape
from tapegpt.autograd.operations.ngrams import NGrams
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam, Parameters
from tapegpt.engines.fast.adam import DECAY_EVERY
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.graph import fast_graph
from tapegpt.machine.interpreter import Interpreter
from tapegpt.machine.target import INTERPRETED
from tapegpt.models.trained import initialise
from tapegpt.settings import Settings
from tapegpt.training.trainer import Trainer

CONFIG = Config(1, 12, 3, 8, n_gram=3, gram_rows=50)
NAMES = Corpus.of(["ada", "adele", "bob", "barbara", "bea", "dora", "ed", "edda", "ora"])


def hashed(tokens: list[int], n_gram: int, gram_rows: int) -> list[int]:
    """The rows for a position after these tokens, its own the last; BOS stands before them."""
    rows, run = [], 0
    for back in range(n_gram):
        run = (run ^ tokens[-1 - back]) * 0x9E3779B1 % 2**32
        if back:
            rows.append((run ^ run >> 15) * 0x9E3779B1 % 2**32 * gram_rows >> 32)
    return rows


def engine(config: Config = CONFIG, batch_size: int = 4, threads: int = 1, seed: int = 1) -> FastEngine:
    made = FastEngine(config, NAMES.vocab_size, batch_size, threads)
    initialise(made, config, NAMES.vocab_size, Random(seed))
    return made


def filled(made: FastEngine, seed: int = 2) -> Parameters:
    """Parameters whose n-gram embeddings are not zero."""
    rng = random.Random(seed)
    numbers = made.parameters()
    numbers["wte_gram"] = array("d", array("f", [rng.gauss(0, 0.3) for _ in numbers["wte_gram"]]))
    return numbers


@given(st.lists(st.integers(0, 1 << 20), min_size=4, max_size=4), st.integers(1, 1 << 24), st.integers(1, 4))
def test_rows_are_the_hash_of_the_last_tokens(tokens: list[int], gram_rows: int, n_gram: int) -> None:
    k = Interpreter(INTERPRETED)
    operations = [NGrams(n, gram_rows, 0) for n in range(2, n_gram + 1)]
    rows = [each._row(k.integer(token) for token in tokens[: -each.n - 1 : -1]).data for each in operations]
    assert rows == [each._row(tokens[: -each.n - 1 : -1]) for each in operations]
    assert rows == hashed(tokens, n_gram, gram_rows)
    assert all(0 <= row < gram_rows for row in rows)


@pytest.mark.parametrize(
    ("n", "rows", "message"),
    [
        (2, 11, "embedding: has rows for ids below 10, and those of %2 .* are below 11: give it more rows"),
        (0, 10, "ngrams: n must be a whole number from 1 to 16, not 0"),
        (2, 0, "ngrams: rows must be a whole number from 1 to 16,777,216, not 0"),
    ],
)
def test_a_row_that_a_table_has_not_is_refused(n: int, rows: int, message: str) -> None:
    tape = Tape(4)
    table, tokens = tape.parameter("table", 10, 4), tape.indices("tokens")
    with pytest.raises(TapeGPTError, match=message):
        tape.embedding(table, tape.ngrams(tokens, n, rows, 0))


def test_names_share_few_rows() -> None:
    """The hash spreads: 4,000 n-grams in 16,384 rows leave about 3,540 different ones, as chance would."""
    rng = random.Random(3)
    ngrams = {tuple(rng.randrange(27) for _ in range(4)) for _ in range(4000)}
    rows = {hashed(list(ngram), 4, 16384)[-1] for ngram in ngrams}
    assert abs(len(rows) - 16384 * (1 - math.exp(-len(ngrams) / 16384))) < 60


def inputs(config: Config, made: Parameters, document: list[int], bos: int) -> list[list[float]]:
    """The sum of embeddings that each position starts from, in plain Python."""
    d, padded = config.n_embd, [bos] * config.n_gram + document
    lines = []
    for place in range(min(len(document) - 1, config.block_size)):
        seen = padded[: config.n_gram + place + 1]
        line = [a + b for a, b in zip(row(made["wte"], seen[-1], d), row(made["wpe"], place, d), strict=True)]
        for number in hashed(seen, config.n_gram, config.gram_rows):
            line = [a + b for a, b in zip(line, row(made["wte_gram"], number, d), strict=True)]
        lines.append(line)
    return lines


def row(numbers: array[float], number: int, width: int) -> array[float]:
    return numbers[number * width : (number + 1) * width]


@pytest.mark.slow
def test_a_model_with_n_grams_is_a_plain_one_on_their_sums() -> None:
    """Every position gets a token of its own, whose embedding is the whole sum: the loss must be the same."""
    bos = NAMES.vocab_size - 1
    made = engine()
    numbers = filled(made)
    made.load_parameters(numbers)
    tokens = NAMES.tokens()
    total, count = made.evaluate(tokens)
    expected, graph = 0.0, fast_graph(Config(1, 12, 3, 8), NAMES.vocab_size, 8)
    for start, stop in pairwise(tokens.starts):
        document = tokens.ids[start : stop + 1].tolist()
        lines = inputs(CONFIG, numbers, document, bos)
        n = len(lines)
        table = array("d", [number for line in lines for number in line])
        wte = array("d", table.tolist() + [0.0] * (12 * NAMES.vocab_size - len(table)))
        tape = graph.tape
        graph.places.write(tape.arena, {**numbers, "wte": wte, "wpe": array("d", bytes(8 * 8 * 12))})
        about = {"tokens": range(n), "positions": range(n), "ends": [n] * n, "targets": document[1 : n + 1]}
        for name, each in {**about, "share": [1.0]}.items():
            tape.write(graph.about(name), each)
        expected += tape.forward(graph.loss, n)[0][0]
    assert total == pytest.approx(expected, rel=1e-5)
    assert count == tokens.starts[-1]


def test_rows_that_no_document_touches_stay() -> None:
    made = engine(batch_size=1)
    numbers = filled(made)
    made.load_parameters(numbers)
    tokens = Corpus(["ada"], NAMES.vocabulary).tokens()
    made.train(tokens, Adam(steps=10), 0, 5)
    bos = NAMES.vocab_size - 1
    document = [bos] * 3 + tokens.ids.tolist()
    touched = {r for end in range(4, len(document)) for r in hashed(document[:end], 3, 50)}
    after = made.parameters()["wte_gram"]
    for number in range(50):
        same = row(after, number, 12) == row(numbers["wte_gram"], number, 12)
        assert same is (number not in touched)


def test_all_rows_decay_together() -> None:
    made = engine(batch_size=1)
    numbers = filled(made)
    made.load_parameters(numbers)
    tokens = Corpus(["ada"], NAMES.vocabulary).tokens()
    adam = Adam(steps=1000, learning_rate=1e-3, gram_decay=5.0)
    made.train(tokens, adam, 0, DECAY_EVERY - 1)
    before = made.parameters()["wte_gram"]
    made.train(tokens, adam, DECAY_EVERY - 1, 1)
    after = made.parameters()["wte_gram"]
    rate = 1e-3 * (1 - (DECAY_EVERY - 1) / 1000)
    kept = 1 - rate * 5.0 * DECAY_EVERY
    still = [n for n in range(50) if row(before, n, 12) == row(numbers["wte_gram"], n, 12)]
    assert still
    for number in still:
        assert list(row(after, number, 12)) == pytest.approx([kept * x for x in row(before, number, 12)], rel=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_cuts_change_nothing(threads: int) -> None:
    tokens = NAMES.tokens().replace(order=array("I", [3, 1, 8, 0, 2, 7, 4, 6, 5]))
    adam = Adam(steps=30, gram_decay=2.0, weight_decay=0.1)
    whole, cut = engine(threads=threads), engine(threads=threads)
    losses = whole.train(tokens, adam, 0, 30)
    assert [loss for first in range(0, 30, 5) for loss in cut.train(tokens, adam, first, 5)] == losses
    assert cut.parameters() == whole.parameters()
    assert losses[-1] < losses[0]


def test_two_threads_come_to_what_one_does() -> None:
    tokens, adam = NAMES.tokens(), Adam(steps=30, gram_decay=2.0)
    one, two = (engine(threads=threads).train(tokens, adam, 0, 30) for threads in (1, 2))
    assert one == pytest.approx(two, rel=1e-4)


@pytest.mark.slow
def test_generation_sees_the_n_grams_that_training_sees() -> None:
    """Of a model that has memorised one string through its n-grams, the strings are that string."""
    config = CONFIG.replace(n_gram=4)
    made = engine(config)
    corpus = Corpus(["abadaboa"], NAMES.vocabulary)  # as long as the block: no end is drawn
    made.train(corpus.tokens(), Adam(steps=300, learning_rate=0.02), 0, 300)
    total, count = made.evaluate(corpus.tokens())
    assert total / count < 0.02
    strings = ["".join(NAMES.vocabulary[t] for t in string) for string in made.generate(Random(1), 100, 0.5)]
    assert strings.count("abadaboa") >= 95


@pytest.mark.slow
def test_a_string_scores_what_it_was_drawn_with() -> None:
    """Strings drawn at temperature 1 come as often as the loss says."""
    made = engine()
    made.load_parameters(filled(made))
    strings = ["".join(NAMES.vocabulary[t] for t in s) for s in made.generate(Random(4), 20_000, 1.0)]
    for text, times in Counter(strings).most_common(5):
        if text and len(text) < CONFIG.block_size:
            probability = math.exp(-made.evaluate(Corpus([text], NAMES.vocabulary).tokens())[0])
            spread = math.sqrt(probability * (1 - probability) / 20_000)
            assert abs(times / 20_000 - probability) < 5 * spread


def test_divergence_leaves_the_rows_as_they_were() -> None:
    made = engine()
    numbers = filled(made)
    numbers["wte_gram"][0:600] = array("d", [math.nan] * 600)
    made.load_parameters(numbers)
    with pytest.raises(DivergedError):
        made.train(NAMES.tokens(), Adam(), 0, 3)
    good = filled(made)
    made.load_parameters(good)
    fresh = engine()
    fresh.load_parameters(good)
    assert made.train(NAMES.tokens(), Adam(), 0, 5) == fresh.train(NAMES.tokens(), Adam(), 0, 5)


@pytest.mark.slow
def test_n_grams_pay() -> None:
    """On what only a longer memory than one character tells, at a width and length that attention is weak at."""
    corpus = Corpus.dataset("names")

    def loss(n_gram: int) -> float:
        config = Config(1, 8, 2, 16, n_gram=n_gram)
        settings = Settings("fast", 1500, batch_size=16, validation=0.1, gram_decay=1.0, threads=1)
        trainer = Trainer(corpus, config, settings)
        for _ in trainer.chunks():
            pass
        return trainer.evaluations[-1].loss

    assert loss(3) < loss(1) - 0.05


@pytest.mark.parametrize("name", ["exact", "reference"])
def test_other_engines_refuse(name: str) -> None:
    with pytest.raises(TapeGPTError, match="n_gram needs the engine fast"):
        Trainer(NAMES, CONFIG, engine=name)


@pytest.mark.slow
def test_n_gram_embeddings_start_at_zero_and_change_no_other_draw() -> None:
    with_ngrams, plain = engine().parameters(), engine(CONFIG.replace(n_gram=1)).parameters()
    assert not any(with_ngrams.pop("wte_gram"))
    assert with_ngrams == plain


def test_n_gram_embeddings_that_are_left_out_are_zero() -> None:
    made = engine()
    numbers = filled(made)
    made.load_parameters(numbers)
    assert made.parameters() == numbers
    del numbers["wte_gram"]
    made.load_parameters(numbers)
    found = made.parameters()
    assert not any(found.pop("wte_gram"))
    assert found == numbers


def test_windows_of_a_document_begin_with_nothing_before_them() -> None:
    """What stands before a window is not seen: two windows of the same tokens have the same loss."""
    made = engine()
    made.load_parameters(filled(made))
    corpus = Corpus(["adbadbadb" * 3], NAMES.vocabulary)
    ids = corpus.tokens().ids
    one = made.evaluate(Tokens(ids, array("q", [3, 9])))
    other = made.evaluate(Tokens(ids, array("q", [6, 12])))
    assert one == other
