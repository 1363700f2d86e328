"""The fast engine: the exact engine's numbers but for f32's roundings, its own bits again, and its strings."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Corpus, DivergedError, Random, Trainer
from tapegpt.autograd.operations.base import padded
from tapegpt.autograd.rewrites import ROWS
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam, Engine, Parameters
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.fast.generation import sample
from tapegpt.engines.graph import fast_graph
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.machine.host import available, host_target
from tapegpt.machine.language import F32, Builder, F32s, I64s, Int, Real, kernel
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import Target
from tests.properties import is_thorough, many

SHAPE, VOCAB = Config(1, 12, 3, 8), 9
OTHERS = [Config(1, 15, 3, 5), Config(2, 14, 2, 33)]  # heads of 5, and of 7 in tiles
NAMES = ["anna", "otto", "bob", "hie"]  # of eight letters
TINY, FEW = Config(1, 8, 2, 3), 6
TARGETS = available(host_target())


def parameters(config: Config, vocab_size: int, seed: int = 0, deviation: float = 0.3) -> Parameters:
    rng = random.Random(seed)
    return {
        name: array("d", [rng.gauss(0, deviation) for _ in range(rows * columns)])
        for name, (rows, columns) in config.shapes(vocab_size).items()
    }


def documents(vocab_size: int, *lengths: int, seed: int = 0) -> Tokens:
    """Random documents of these lengths."""
    rng, bos = random.Random(seed), vocab_size - 1
    return tokens([[rng.randrange(bos) for _ in range(length)] for length in lengths], bos)


def tokens(strings: list[list[int]], bos: int) -> Tokens:
    ids, starts = array("I", [bos]), array("q", [0])
    for string in strings:
        ids.extend([*string, bos])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)


def fast(batch_size: int = 1, threads: int = 1, seed: int = 0) -> FastEngine:
    """An engine of the shape that most tests share, since each costs a compilation."""
    engine = FastEngine(SHAPE, VOCAB, batch_size, threads)
    engine.load_parameters(parameters(SHAPE, VOCAB, seed))
    return engine


DOCUMENTS = documents(VOCAB, 3, 1, 7, 12, 2, 6, 5, 4, 8, 7, 1)


def flat(engine: Engine) -> list[float]:
    return [number for values in engine.parameters().values() for number in values]


def all_finite(engine: Engine) -> bool:
    return all(map(math.isfinite, flat(engine)))


@pytest.mark.parametrize(("block_size", "attention"), [(4, "attention"), (40, "attention in tiles")])
def test_a_gpt_is_few_operations(block_size: int, attention: str) -> None:
    """Its heads do not fill the lanes."""
    for cached in (False, True):
        graph = fast_graph(Config(1, 6, 2, block_size), VOCAB, cached=cached)
        heads = f"{'cached attention' if cached else attention} n_head=2 head_dim=3 block_size={block_size}"
        before = ["embedding", "rmsnorm", "rmsnorm", "linear", heads, "linear + residual", "rmsnorm"]
        after = ["linear relu", "linear + residual", "linear", *([] if cached else ["cross_entropy"])]
        assert [str(node.operation) for node in graph.tape.nodes if node.operation] == before + after


# The exact engine's numbers


@pytest.mark.slow
def test_the_first_hundred_losses_on_the_names() -> None:
    corpus = Corpus.dataset("names")
    exact = Trainer(corpus, Config())
    trainer = Trainer(corpus, Config(), engine="fast", batch_size=1, long="cut")
    assert trainer.run(100) == pytest.approx(exact.run(100), abs=1e-4)
    held = corpus.replace(documents=corpus.documents[:50]).tokens()
    (loss, count), (expected, expected_count) = (t.model.engine.evaluate(held) for t in (trainer, exact))
    assert loss / count == pytest.approx(expected / expected_count, abs=1e-4)
    assert count == expected_count


@pytest.mark.slow
@settings(max_examples=many(3, few=2), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    st.integers(1, 2),
    st.sampled_from([(5, 1), (6, 3), (15, 3), (17, 1), (20, 4)]),
    st.one_of(st.integers(1, 16), st.integers(33, 40)),
    st.integers(2, 40),
    st.integers(0, 999),
)
def test_any_shape_trains_as_the_exact_engine(
    layers: int, width: tuple[int, int], block: int, vocab_size: int, seed: int
) -> None:
    config = Config(layers, *width, block)
    start, data = parameters(config, vocab_size, seed), documents(vocab_size, 1, block, 2, block + 3, seed=seed)
    engines = [FastEngine(config, vocab_size, 1), ExactEngine(config, vocab_size)]
    for engine in engines:
        engine.load_parameters(start)
    adam = Adam(steps=4, epsilon=1e-4)  # or gradients next to zero are noise, and move as far as any
    losses, expected = (engine.train(data, adam, 0, 4) for engine in engines)
    assert losses == pytest.approx(expected, rel=1e-4, abs=1e-6)
    (loss, count), (of_exact, of_exact_count) = (engine.evaluate(data) for engine in engines)
    assert loss == pytest.approx(of_exact, rel=1e-4, abs=1e-5)
    assert count == of_exact_count == sum(min(length + 1, block) for length in (1, block, 2, block + 3))


@pytest.mark.slow
def test_a_document_longer_than_any_other_run_goes_through_at_once() -> None:
    block_size = ROWS + 44
    config = Config(1, 2, 1, block_size)
    data = documents(4, block_size, 2, block_size - 1)
    engines = FastEngine(config, 4, 2), ExactEngine(config, 4)
    for engine in engines:
        engine.load_parameters(parameters(config, 4))
    (loss, count), (expected, expected_count) = (engine.evaluate(data) for engine in engines)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert count == expected_count == 2 * block_size + 3


@pytest.mark.slow
def test_three_engines_evaluate_alike() -> None:
    start = parameters(SHAPE, VOCAB)
    results = []
    for engine in (FastEngine(SHAPE, VOCAB), ExactEngine(SHAPE, VOCAB), ReferenceEngine(SHAPE, VOCAB)):
        engine.load_parameters(start)
        results.append(engine.evaluate(DOCUMENTS))
    assert results[1] == results[2]
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert results[0][1] == results[1][1] == sum(min(n + 1, 8) for n in (3, 1, 7, 12, 2, 6, 5, 4, 8, 7, 1))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
def test_every_vector_unit_trains_alike(target: Target) -> None:
    start, data = parameters(TINY, FEW), documents(FEW, 2, 1, 3, 5)
    engine, reference = FastEngine(TINY, FEW, 1, target=target), ReferenceEngine(TINY, FEW)
    for each in (engine, reference):
        each.load_parameters(start)
    adam = Adam(steps=5, epsilon=1e-4)
    assert engine.train(data, adam, 0, 3) == pytest.approx(reference.train(data, adam, 0, 3), rel=1e-4)
    assert engine.evaluate(data)[0] == pytest.approx(reference.evaluate(data)[0], rel=1e-4)
    assert list(engine.generate(Random(1), 5, 0.001)) == list(reference.generate(Random(1), 5, 0.001))


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [2, 16, 17, 300])
def test_vocabularies(vocab_size: int) -> None:
    start, data = parameters(TINY, vocab_size), documents(vocab_size, 3, 9, 1)
    engine, reference = FastEngine(TINY, vocab_size, 1), ReferenceEngine(TINY, vocab_size)
    for each in (engine, reference):
        each.load_parameters(start)
    adam = Adam(epsilon=1e-4)
    assert engine.train(data, adam, 0, 2) == pytest.approx(reference.train(data, adam, 0, 2), rel=1e-4)
    strings = list(engine.generate(Random(3), 200, 2.0))
    assert all(token < vocab_size - 1 for string in strings for token in string)
    assert len({token for string in strings for token in string}) > min(vocab_size - 2, 90)


@pytest.mark.parametrize("name", parameters(SHAPE, VOCAB))
def test_too_few_numbers_of_a_parameter_are_an_error(name: str) -> None:
    for engine in (fast(), ExactEngine(SHAPE, VOCAB)):
        numbers = parameters(SHAPE, VOCAB)
        numbers[name].pop()
        with pytest.raises(ValueError, match=r"assign|zip"):
            engine.load_parameters(numbers)


# The same bits again


def outcome(engine: FastEngine, cuts: list[int], data: Tokens = DOCUMENTS) -> tuple[list[float], list[float]]:
    """Losses and parameters of a training in pieces."""
    losses: list[float] = []
    for count in cuts:
        losses += engine.train(data, Adam(steps=20, weight_decay=0.1, clip=1.0, warmup=0.2), len(losses), count)
    return losses, flat(engine)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bits(threads: int) -> None:
    first = outcome(fast(5, threads), [10])
    assert outcome(fast(5, threads), [10]) == first
    assert outcome(fast(5, threads), [3, 0, 7]) == first
    assert outcome(fast(5, threads), [1] * 10) == first


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
@settings(max_examples=many(20))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    assert outcome(fast(3), cuts) == outcome(fast(3), [sum(cuts)])


def test_threads_change_only_the_last_bits() -> None:
    for batch_size, threads in ((5, 2), (5, 3), (1, 2), (2, 5)):  # where documents are few, a thread has none
        losses, numbers = outcome(fast(batch_size), [10])
        others, other_numbers = outcome(fast(batch_size, threads), [10])
        assert others == pytest.approx(losses, rel=1e-5)
        assert other_numbers == pytest.approx(numbers, abs=1e-3)


def test_an_order_is_the_documents_in_it() -> None:
    """Wherever they lie, and with a batch that comes to the end of them."""
    strings = [list(DOCUMENTS.ids[s + 1 : e]) for s, e in pairwise(DOCUMENTS.starts)]
    order = array("I", random.Random(2).sample(range(len(strings)), len(strings)))
    ordered = tokens([strings[number] for number in order], VOCAB - 1)
    assert outcome(fast(4), [12], DOCUMENTS.replace(order=order)) == outcome(fast(4), [12], ordered)


def test_a_batch_beyond_the_documents_takes_them_again() -> None:
    strings = [[1, 2], [3], [4, 5, 6]]
    again = tokens([strings[number % 3] for number in range(7 * 6)], VOCAB - 1)
    assert outcome(fast(7), [6], tokens(strings, VOCAB - 1)) == outcome(fast(7), [6], again)


def test_one_document_alone() -> None:
    one = tokens([[1, 2, 3]], VOCAB - 1)
    engine = fast(4)
    losses = engine.train(one, Adam(steps=200), 0, 200)
    assert losses[-1] < 0.01 < losses[0]
    assert list(engine.generate(Random(1), 5, 0.1)) == [[1, 2, 3]] * 5
    model = tapegpt.train(["abcdefgh"], engine="fast", n_embd=12, n_head=3, block_size=8, steps=300)
    assert model.generate(3, temperature=0.1) == ["abcdefgh"] * 3


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 99))
@settings(max_examples=many(20))
def test_a_batchs_loss_is_the_mean_over_all_positions(lengths: list[int], seed: int) -> None:
    """Of any number of positions: more than go through the model together, too."""
    data = documents(VOCAB, *lengths, seed=seed)
    total, count = fast().evaluate(data)
    engine = FastEngine(SHAPE, VOCAB, len(lengths))
    engine.load_parameters(parameters(SHAPE, VOCAB))
    assert engine.train(data, Adam(), 0, 1)[0] == pytest.approx(total / count, rel=1e-6)
    assert count == sum(min(length + 1, 8) for length in lengths)


# Documents longer than the block


def test_a_long_document_is_cut_or_goes_window_by_window() -> None:
    text = [1, 2, 3, 4, 5, 6, 7, 0, 1, 3, 5, 7, 2, 4, 6, 0, 0, 1, 2]
    whole = tokens([text], VOCAB - 1)
    beginning = Tokens(whole.ids, array("q", [0, 8]))
    assert outcome(fast(), [5], whole) == outcome(fast(), [5], beginning)
    assert fast().evaluate(whole) == fast().evaluate(beginning)
    windows = Tokens(whole.ids, array("q", [0, 8, 16, 20]))
    parts = [Tokens(whole.ids[s : e + 1], array("q", [0, e - s])) for s, e in pairwise(windows.starts)]
    (loss, count), found = fast().evaluate(windows), [fast().evaluate(part) for part in parts]
    assert loss == pytest.approx(sum(part for part, _ in found), rel=1e-6)
    assert count == sum(positions for _, positions in found) == len(text) + 1


@pytest.mark.parametrize("long", ["cut", "window"])
def test_long_documents_of_a_corpus(long: str) -> None:
    corpus = Corpus.of(["abcdefgh" * 3, "hgfedcba", "abc"])  # windows of 8, 8, 8 and 1, of 8 and 1, of 4
    trainer = Trainer(corpus, SHAPE, engine="fast", batch_size=2, steps=9, long=long)
    data = corpus.windows(8) if long == "window" else corpus.tokens()
    assert len(data) == (7 if long == "window" else 3)
    engine = FastEngine(SHAPE, VOCAB, 2)
    rng = Random(42)
    order = rng.permutation(len(data))
    tapegpt.models.trained.initialise(engine, SHAPE, VOCAB, rng)
    assert trainer.run(9) == engine.train(data.replace(order=order), Adam(steps=9), 0, 9)


# Parameters


@pytest.mark.slow
@pytest.mark.parametrize("config", [SHAPE, *OTHERS], ids=lambda c: f"{c.n_embd}")
def test_parameters_come_back_as_singles(config: Config) -> None:
    start = parameters(config, VOCAB)
    singles = {name: array("d", array("f", values)) for name, values in start.items()}
    engine = FastEngine(config, VOCAB)
    assert not any(flat(engine))
    engine.load_parameters(start)
    assert engine.parameters() == singles
    engine.evaluate(DOCUMENTS)
    engine.generate(Random(1), 3, 1.0)
    assert engine.parameters() == singles
    assert list(singles) == list(config.shapes(VOCAB))


def test_a_snapshot_is_what_was() -> None:
    engine = fast(2)
    engine.train(DOCUMENTS, Adam(), 0, 5)
    snapshot, before, loss = engine.snapshot(), flat(engine), engine.evaluate(DOCUMENTS)
    engine.train(DOCUMENTS, Adam(), 5, 5)
    assert flat(engine) != before
    engine.restore(snapshot)
    assert flat(engine) == before
    assert engine.evaluate(DOCUMENTS) == loss


def test_loaded_parameters_start_the_moments_again() -> None:
    engine = fast(3)
    first = outcome(engine, [6])
    gradients = engine._gradients.at(0).view
    gradients[:] = b"\x3f" * len(gradients)  # as in a child that was forked in the middle of a step
    engine.load_parameters(parameters(SHAPE, VOCAB))
    assert outcome(engine, [6]) == first


@pytest.mark.parametrize("threads", [1, 2])
def test_moments_that_decay_become_zero(threads: int) -> None:
    engine, smallest = fast(5, threads), 2.0**-126
    moments = engine.moments()
    for numbers in (*moments.mean.values(), *moments.square.values()):
        numbers[:] = array("f", [1.1 * smallest] * len(numbers))
    engine.load_moments(moments)
    engine.train(tokens([[1, 2]] * 9, VOCAB - 1), Adam(), 0, 1)  # most rows have no gradient
    moments = engine.moments()
    left = [abs(x) for numbers in (*moments.mean.values(), *moments.square.values()) for x in numbers]
    assert 0.0 in left
    assert min(filter(None, left)) >= smallest


# Numbers that are not finite

WILD = {
    "a wild step": Adam(steps=40, learning_rate=1e9),
    "a decay that grows": Adam(steps=40, learning_rate=1.0, weight_decay=100.0),
    "a warm start": Adam(steps=40, learning_rate=1e9, warmup=0.9),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wild", WILD)
def test_divergence_keeps_the_last_good_parameters(wild: str, threads: int) -> None:
    bad, good = fast(5, threads), fast(5, threads)
    with pytest.raises(DivergedError, match="choose a smaller learning_rate") as caught:
        bad.train(DOCUMENTS, WILD[wild], 0, 40)
    step, losses = caught.value.step, caught.value.losses
    assert 0 < step == len(losses)
    assert good.train(DOCUMENTS, WILD[wild], 0, step) == losses
    assert flat(bad) == flat(good)
    assert all_finite(bad)
    for engine in (bad, good):  # and again, without another change
        with pytest.raises(DivergedError) as again:
            engine.train(DOCUMENTS, WILD[wild], step, 3)
        assert (again.value.step, again.value.losses) == (step, [])
    assert flat(bad) == flat(good)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_gradient_that_is_not_finite_ends_it_though_the_loss_is(threads: int) -> None:
    engine, start = fast(5, threads), parameters(SHAPE, VOCAB)
    engine.load_parameters({**start, "lm_head": array("d", [1e25 * number for number in start["lm_head"]])})
    before, (loss, _) = flat(engine), engine.evaluate(DOCUMENTS)
    assert math.isfinite(loss)
    with pytest.raises(DivergedError) as caught:
        engine.train(DOCUMENTS, Adam(), 0, 3)
    assert (caught.value.step, caught.value.losses, engine.steps) == (0, [], 0)
    assert flat(engine) == before


@pytest.mark.parametrize("threads", [1, 2])
def test_after_a_divergence_other_documents_train_as_ever(threads: int) -> None:
    start, width, odd = parameters(SHAPE, VOCAB), SHAPE.n_embd, VOCAB - 2
    start["wte"][odd * width : (odd + 1) * width] = array("d", [math.nan] * width)
    bad, good = tokens([[0, 1], [odd], [2, 3, 4], [5]], VOCAB - 1), tokens([[0, 1], [2, 3, 4], [5]], VOCAB - 1)
    results = []
    for diverges in (True, False):
        engine = fast(4, threads)
        engine.load_parameters(start)
        if diverges:
            with pytest.raises(DivergedError):
                engine.train(bad, Adam(), 0, 2)
        results.append((engine.train(good, Adam(), 0, 5), repr(flat(engine)), engine.steps))
    assert results[0] == results[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_after_a_divergence_other_parameters_train_as_ever(threads: int) -> None:
    engine = fast(5, threads)
    with pytest.raises(DivergedError):
        engine.train(DOCUMENTS, WILD["a wild step"], 0, 40)
    engine.load_parameters(parameters(SHAPE, VOCAB))
    assert outcome(engine, [5]) == outcome(fast(5, threads), [5])


@pytest.mark.parametrize("name", SHAPE.shapes(VOCAB))
def test_parameters_that_are_no_numbers(name: str) -> None:
    """Where the exact engine's loss is none, this one's is none; training stops before its first step."""
    start = parameters(SHAPE, VOCAB)
    for place in (0, len(start[name]) // 2, -1):
        values = array("d", start[name])
        values[place] = math.nan
        engine, exact = fast(11), ExactEngine(SHAPE, VOCAB)
        for each in (engine, exact):
            each.load_parameters({**start, name: values})
        before = repr(flat(engine))
        assert engine.evaluate(DOCUMENTS)[0] == pytest.approx(exact.evaluate(DOCUMENTS)[0], rel=1e-5, nan_ok=True)
        with pytest.raises(DivergedError) as caught:
            engine.train(DOCUMENTS, Adam(), 0, 2)
        assert (caught.value.step, caught.value.losses) == (0, [])
        assert repr(flat(engine)) == before


# Adam


def reference_gradients(engine: ReferenceEngine, data: Tokens, numbers: list[int]) -> list[float]:
    """Of the mean loss over all positions of these documents, by the scalars of microgpt.py."""
    total, positions = [0.0] * len(engine._values), 0
    for number in numbers:
        document = engine._document(data, number)
        count = min(len(document) - 1, engine.config.block_size)
        engine.loss(document)
        engine.backward()
        for place, value in enumerate(engine._values):
            total[place] += value.grad * count
            value.grad = 0.0
        positions += count
    return [gradient / positions for gradient in total]


SETTINGS = {
    "plain": Adam(steps=8, epsilon=1e-3),
    "other moments": Adam(steps=8, learning_rate=0.1, beta1=0.0, beta2=0.5, epsilon=1e-2),
    "decay": Adam(steps=8, epsilon=1e-3, weight_decay=3.0),
    "warmup": Adam(steps=8, epsilon=1e-3, warmup=0.5),
    "clip": Adam(steps=8, epsilon=1e-3, clip=0.4),
    "clip of some": Adam(steps=8, epsilon=1e-3, clip=7.0),
    "clip of none": Adam(steps=8, epsilon=0.1, clip=100.0),
    "all": Adam(8, 0.05, 0.9, 0.95, 1e-3, weight_decay=1.0, warmup=0.25, clip=0.7),
}
PACED = SETTINGS if is_thorough() else ["warmup", "all"]  # those that are tried at another point of their schedule


@pytest.mark.slow
@pytest.mark.parametrize(("name", "progress"), [*product(SETTINGS, [None]), *product(PACED, [1.5])])
def test_adam_against_plain_python(name: str, progress: float | None) -> None:
    adam, data, batch, steps = SETTINGS[name], documents(FEW, 2, 1, 3, 5, 1, seed=4), 3, 5
    engines, reference = [FastEngine(TINY, FEW, batch, threads) for threads in (1, 2)], ReferenceEngine(TINY, FEW)
    for each in (*engines, reference):
        each.load_parameters(parameters(TINY, FEW, deviation=0.5))
    for engine in engines:
        engine.train(data, adam, 0, steps, progress)
    m, v = [0.0] * len(reference._values), [0.0] * len(reference._values)
    clipped = 0
    for step in range(steps):
        gradient = reference_gradients(reference, data, [(step * batch + i) % len(data) for i in range(batch)])
        norm = math.sqrt(sum(g * g for g in gradient))
        if adam.clip and norm > adam.clip:
            gradient, clipped = [g * adam.clip / norm for g in gradient], clipped + 1
        done = (step + (progress or 0.0)) / adam.steps
        rising = done / adam.warmup if adam.warmup else 1.0
        rate = adam.learning_rate * max(min(rising, (1 - done) / (1 - adam.warmup)), 0.0)
        for i, (g, value) in enumerate(zip(gradient, reference._values, strict=True)):
            m[i] = adam.beta1 * m[i] + (1 - adam.beta1) * g
            v[i] = adam.beta2 * v[i] + (1 - adam.beta2) * g * g
            m_hat, v_hat = m[i] / (1 - adam.beta1 ** (step + 1)), v[i] / (1 - adam.beta2 ** (step + 1))
            value.data -= rate * (m_hat / (math.sqrt(v_hat) + adam.epsilon) + adam.weight_decay * value.data)
    assert 0 < clipped < steps if name == "clip of some" else clipped == steps * (0 < adam.clip < 1)
    for engine in engines:
        assert flat(engine) == pytest.approx(flat(reference), abs=3e-5)


# Files


@pytest.mark.slow
@pytest.mark.parametrize("config", [SHAPE, OTHERS[0]], ids=lambda c: f"{c.n_embd}")
def test_a_saved_model_goes_on(config: Config, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    trainer = Trainer(Corpus.of(NAMES), config, engine="fast", batch_size=3, steps=30)
    trainer.run(30)
    model = trainer.model
    tapegpt.save(model, tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    assert {name: tensor.shape for name, tensor in tensors.items()} == config.shapes(model.vocab_size)
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"float32"}
    assert {name: tensor.ravel().tolist() for name, tensor in tensors.items()} == {
        name: values.tolist() for name, values in model.parameters.items()
    }
    loaded = tapegpt.load(tmp_path / "m")
    assert (loaded.engine.name, loaded.steps, loaded.vocabulary) == ("fast", 30, model.vocabulary)
    assert loaded.parameters == model.parameters
    assert loaded.generate(30) == model.generate(30)
    assert loaded.generate(9, seed=5, temperature=1.3) == model.generate(9, seed=5, temperature=1.3)
    tapegpt.save(loaded, tmp_path / "again")
    assert load_file(tmp_path / "again").keys() == tensors.keys()


@pytest.mark.slow
def test_files_of_the_exact_engine_are_still_its_own(tmp_path: Path) -> None:
    model = tapegpt.train(["anna", "otto", "bob"], steps=5, n_embd=12, n_head=3, block_size=8)
    tapegpt.save(model, tmp_path / "m")
    loaded = tapegpt.load(tmp_path / "m")
    assert loaded.engine.name == "exact"
    assert loaded.parameters == model.parameters
    assert loaded.generate(5) == model.generate(5)


# Strings


def probabilities(engine: ReferenceEngine, temperature: float) -> dict[tuple[int, ...], float]:
    """Of every string of at most `block_size` tokens, by the scalars of microgpt.py."""
    block, bos = engine.config.block_size, engine.vocab_size - 1
    result: dict[tuple[int, ...], float] = {}
    beginnings: dict[tuple[int, ...], float] = {(): 1.0}
    while beginnings:
        string, probability = beginnings.popitem()
        if len(string) == block:
            result[string] = probability
            continue
        logits = [logit.data / temperature for logit in engine.logits([bos, *string, bos])[-1]]
        weights = [math.exp(logit - max(logits)) for logit in logits]
        result[string] = probability * weights[bos] / sum(weights)
        beginnings |= {(*string, token): probability * weights[token] / sum(weights) for token in range(bos)}
    return result


def speaking() -> tuple[FastEngine, ReferenceEngine]:
    engine, reference = FastEngine(TINY, FEW), ReferenceEngine(TINY, FEW)
    for each in (engine, reference):
        each.load_parameters(parameters(TINY, FEW, seed=2, deviation=0.35))
    return engine, reference


def chi_square(seen: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """In standard deviations from its mean; what should come less than 8 times is one kind."""
    n = sum(seen.values())
    common = {string: n * p for string, p in expected.items() if n * p >= 8}
    cells = [(seen[string], times) for string, times in common.items()]
    rest = (n - sum(count for count, _ in cells), n - sum(times for _, times in cells))
    cells += [rest] if rest[1] > 8 else []
    square = sum((count - times) ** 2 / times for count, times in cells)
    return (square - (len(cells) - 1)) / math.sqrt(2 * (len(cells) - 1))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_strings_are_drawn_by_their_probabilities(temperature: float) -> None:
    engine, reference = speaking()
    expected = probabilities(reference, temperature)
    assert sum(expected.values()) == pytest.approx(1)
    seen = Counter(map(tuple, engine.generate(Random(11), 40_000, temperature)))
    assert seen.keys() <= expected.keys()
    assert len(seen) > 10
    assert abs(chi_square(seen, expected)) < 5
    other = probabilities(reference, 1.15 * temperature)  # so near a distribution would be told from it
    assert chi_square(seen, other) > 20


@kernel
def drawn(k: Builder, logits: F32s, tokens: I64s, rows: Int, unit: Real, *, count: int) -> None:
    for row in k.range(rows):
        tokens[row] = sample(k, logits + row * padded(count), count, k.real32(1.0), k.convert(unit, F32))


@pytest.mark.parametrize("count", [5, 27, 100])
def test_the_greatest_random_number_draws_the_last_token(count: int) -> None:
    """However the running sums are rounded, which are of another order than the whole one."""
    rows, rng = 200, random.Random(1)
    logits, result = Memory(4 * rows * padded(count)), array("q", bytes(8 * rows))
    for row in range(rows):
        numbers = logits.floats(4 * row * padded(count), count, 4)
        numbers[:] = array("f", [rng.gauss(0, 1) for _ in range(count)])
    program = Program({"drawn": (drawn, {"count": count})})
    program.run("drawn", logits.at(0), address_of(result), rows, 1 - 2.0**-24)
    assert max(result) == count - 1


@pytest.mark.slow
def test_the_ends_of_temperature() -> None:
    engine, reference = speaking()
    cold, hot = (Counter(map(tuple, engine.generate(Random(5), 2000, t))) for t in (0.001, 1000.0))
    likely = probabilities(reference, 0.001)
    assert cold == {max(likely, key=likely.__getitem__): 2000}
    assert abs(chi_square(hot, probabilities(reference, 1000.0))) < 5


@pytest.mark.slow
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.floats(0.3, 3))
@settings(max_examples=many(25))
def test_strings_do_not_depend_on_what_is_generated_beside_them(counts: list[int], temperature: float) -> None:
    engine, _ = speaking()
    rng, again = Random(3), Random(3)
    parts = [string for count in counts for string in engine.generate(rng, count, temperature)]
    assert list(engine.generate(again, sum(counts), temperature)) == parts
    assert rng.getstate() == again.getstate()


def test_fifty_strings_are_those_of_calls_of_seven() -> None:
    engine = fast()
    rng = Random(8)
    parts = [string for count in [7] * 7 + [1] for string in engine.generate(rng, count, 1.0)]
    whole = engine.generate(Random(8), 50, 1.0)
    assert list(whole) == parts
    assert all(0 <= length <= 8 for length in whole.lengths)
    many = engine.generate(Random(8), 1000, 1.0)  # more than are generated side by side
    assert list(many)[:50] == parts
    assert max(many.lengths) == 8
    assert all(token < VOCAB - 1 for string in many for token in string)
    assert len(engine.generate(Random(8), 0, 1.0)) == 0


def test_a_models_strings() -> None:
    model = tapegpt.train(NAMES, engine="fast", n_embd=12, n_head=3, block_size=8, steps=10)
    strings = model.generate(50, seed=9, temperature=1.0)
    assert strings == list(model.stream(n=50, seed=9, temperature=1.0))
    assert strings[:7] == model.generate(7, seed=9, temperature=1.0)
    assert all(len(string) <= 8 and set(string) <= set("anotbhie") for string in strings)
    assert len(set(strings)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("config", [SHAPE, *OTHERS], ids=lambda c: f"{c.n_embd}")
def test_generation_and_evaluation_are_one_model(config: Config) -> None:
    """When it is cold each token is the one that a forward run over whole documents finds likeliest."""
    engine = FastEngine(config, VOCAB)
    engine.load_parameters(parameters(config, VOCAB, seed=6, deviation=0.5))
    [string] = engine.generate(Random(1), 1, 0.001)
    bos = VOCAB - 1
    for place in range(min(len(string) + 1, config.block_size)):
        chosen = [*string, bos][place]
        beginning = [bos, *string[:place]]
        losses = []
        for token in range(VOCAB):
            ids = array("I", [*beginning, token])
            losses.append(engine.evaluate(Tokens(ids, array("q", [0, len(ids) - 1])))[0])
        assert losses[chosen] <= min(losses) + 1e-5 * max(losses)


@pytest.mark.slow
def test_the_loss_of_generated_strings_is_their_surprise() -> None:
    engine, reference = speaking()
    expected = probabilities(reference, 1.0)
    for string in {tuple(string) for string in engine.generate(Random(2), 40, 1.0)}:
        loss, _ = engine.evaluate(tokens([list(string)], FEW - 1))
        assert loss == pytest.approx(-math.log(expected[string]), rel=1e-5)


# Embeddings of runs


@pytest.mark.slow
def test_a_run_that_recurs_in_a_batch_takes_one_step() -> None:
    """Adam's first step moves a number by the learning rate; where a row is listed again its gradient is gone."""
    config = Config(1, 8, 2, 8, n_gram=2, gram_rows=64)
    trainer = Trainer(Corpus.of(["aaaaaa", "b"]), config, engine="fast", batch_size=2, learning_rate=0.01)
    before = trainer.model.parameters["wte_gram"]
    trainer.run(1)
    moved = [abs(new - old) for new, old in zip(trainer.model.parameters["wte_gram"], before, strict=True)]
    assert 0.0099 < max(moved) < 0.0101


@pytest.mark.slow
def test_embeddings_of_runs_decay_at_every_eighth_step() -> None:
    """Also those of runs that no document has."""
    config = Config(1, 4, 2, 3, n_gram=2, gram_rows=64)
    engine = FastEngine(config, FEW, 1)
    engine.load_parameters(parameters(config, FEW))
    before = engine.parameters()["wte_gram"]
    one = tokens([[1, 2]], FEW - 1)
    adam = Adam(steps=1000, gram_decay=0.1)
    engine.train(one, adam, 0, 7)
    moved = [
        place
        for place, pair in enumerate(zip(before, engine.parameters()["wte_gram"], strict=True))
        if pair[0] != pair[1]
    ]
    assert len({place // 4 for place in moved}) == 3  # of BOS 1, 1 2 and 2 before the end
    engine.train(one, adam, 7, 1)
    after = engine.parameters()["wte_gram"]
    for place in set(range(len(before))) - set(moved):
        assert after[place] == pytest.approx(before[place] * (1 - 8 * 0.1 * 0.01 * 0.993), rel=1e-6)
