"""The probe: == the reference engine, number by number; with n-gram embeddings, == a plain model on their sums."""

from __future__ import annotations

from array import array
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import Config, Random
from tapegpt.autograd.model import Model
from tapegpt.autograd.value import Matrix, Value, softmax, total
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Parameters
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference.forward import Inference
from tapegpt.inference.probe import Probe
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import Target
from tests.engines.test_ngram_embeddings import hashed
from tests.properties import many

SHAPES = [(Config(1, 4, 2, 3), 3), (Config(2, 6, 3, 5), 17), (Config(3, 3, 1, 4), 2), (Config(1, 8, 4, 9), 6)]
RUNS, VOCABULARY = Config(2, 6, 2, 6, n_gram=3, gram_rows=11), 9


@cache
def probe(config: Config, vocab_size: int, target: Target | None = None) -> Probe:
    return Probe(config, vocab_size, target)


def parameters(config: Config, vocab_size: int, seed: int) -> Parameters:
    rng = Random(seed)
    return {
        name: rng.gauss_array(rows * columns, 0.0, 0.4) for name, (rows, columns) in config.shapes(vocab_size).items()
    }


def documents(vocab_size: int) -> st.SearchStrategy[list[int]]:
    """Longer than the block too, with BOS wherever it likes."""
    return st.lists(st.integers(0, vocab_size - 1), min_size=2, max_size=20)


def reference(
    config: Model, vocab_size: int, numbers: Parameters, document: list[int]
) -> tuple[Value, dict[str, Matrix]]:
    engine = ReferenceEngine(config, vocab_size)
    engine.load_parameters(numbers)
    loss = engine.loss(document)
    engine.backward()
    return loss, engine.stages()


def assert_equals_the_reference(seen: Probe, numbers: Parameters, document: list[int]) -> None:
    config = seen.config
    loss, stages = reference(config, seen.vocab_size, numbers, document)
    seen.load(numbers)
    assert seen.run(document) == loss.data
    for stage in seen.stages:
        assert seen.values(stage) == [[value.data for value in row] for row in stages[stage]], stage
        assert seen.gradients(stage) == [[value.grad for value in row] for row in stages[stage]], stage
    assert seen.probabilities() == [[value.data for value in row] for row in stages["probability"]]
    assert seen.positions == len(stages["probability"])
    for layer, heads in enumerate(map(range, config.heads(seen.vocab_size))):
        for t, row in enumerate(stages[f"layer{layer}.attn_weights"]):
            expected = [value.data for value in row]
            assert [weight for head in heads for weight in seen.attention(layer)[head][t]] == expected


@pytest.mark.slow
@settings(max_examples=many(40))
@given(data=st.data(), shape=st.sampled_from(SHAPES), seed=st.integers(0, 1 << 32))
def test_all_numbers_are_the_reference_engines(data: st.DataObject, shape: tuple[Config, int], seed: int) -> None:
    config, vocab_size = shape
    document = data.draw(documents(vocab_size))
    assert_equals_the_reference(probe(*shape), parameters(config, vocab_size, seed), document)


@pytest.mark.slow
@pytest.mark.parametrize("target", available(host_target())[1:], ids=str)
def test_they_are_so_on_every_vector_unit_and_interpreted(target: Target) -> None:
    config, vocab_size = SHAPES[1]
    assert_equals_the_reference(probe(config, vocab_size, target), parameters(config, vocab_size, 5), [16, 3, 3, 0, 16])


@given(document=documents(17), seed=st.integers(0, 1 << 32))
def test_attention_is_the_softmax_of_the_products_of_q_and_k(document: list[int], seed: int) -> None:
    config, vocab_size = SHAPES[1]
    seen = probe(config, vocab_size)
    seen.load(parameters(config, vocab_size, seed))
    seen.run(document)
    for layer in range(config.n_layer):
        queries, keys = (seen.values(f"layer{layer}.{matrix}") for matrix in ("attn_wq", "attn_wk"))
        for head, rows in enumerate(seen.attention(layer)):
            columns = range(head * config.head_dim, (head + 1) * config.head_dim)
            for t, row in enumerate(rows):
                logits = [
                    total(Value(queries[t][j]) * keys[s][j] for j in columns) / config.head_dim**0.5
                    for s in range(t + 1)
                ]
                assert row == [weight.data for weight in softmax(logits)]
                assert abs(sum(row) - 1) < 1e-12


def rows_of(document: list[int], t: int) -> list[int]:
    """The rows of the runs that end at a position; BOS stands before the first."""
    return hashed([VOCABULARY - 1] * RUNS.n_gram + document[: t + 1], RUNS.n_gram, RUNS.gram_rows)


def summed(numbers: Parameters, document: list[int]) -> Parameters:
    """Parameters of a plain model whose token t is all that the document's position t starts from."""
    d, n = RUNS.n_embd, min(len(document) - 1, RUNS.block_size)

    def row(name: str, number: int) -> array[float]:
        return numbers[name][number * d : (number + 1) * d]

    table = array("d", bytes(8 * VOCABULARY * d))
    for t in range(n):
        rows = [row("wte", document[t]), row("wpe", t), *(row("wte_gram", r) for r in rows_of(document, t))]
        table[t * d : (t + 1) * d] = array("d", map(sum, zip(*rows, strict=True)))
    plain = {name: values for name, values in numbers.items() if name != "wte_gram"}
    return {**plain, "wte": table, "wpe": array("d", bytes(8 * RUNS.block_size * d))}


@pytest.mark.slow
@given(document=documents(VOCABULARY), seed=st.integers(0, 1 << 32))
def test_embeddings_of_runs_are_added_to_the_tokens(document: list[int], seed: int) -> None:
    numbers = parameters(RUNS, VOCABULARY, seed)
    seen, plain = probe(RUNS, VOCABULARY), probe(RUNS.replace(n_gram=1), VOCABULARY)
    seen.load(numbers)
    seen.run(document)
    plain.load(summed(numbers, document))
    plain.run(list(range(len(document[: RUNS.block_size + 1]))))
    same = plain.stages[plain.stages.index("embedding") :]
    assert seen.stages[-len(same) :] == same
    for stage in same[:-1]:  # of the loss the targets differ
        assert seen.values(stage) == plain.values(stage), stage
    assert [seen.attention(layer) for layer in range(2)] == [plain.attention(layer) for layer in range(2)]


@settings(max_examples=many(20))
@given(document=documents(VOCABULARY), seed=st.integers(0, 1 << 32), column=st.integers(0, 5))
def test_gradients_of_runs_are_slopes(document: list[int], seed: int, column: int) -> None:
    numbers, seen = parameters(RUNS, VOCABULARY, seed), probe(RUNS, VOCABULARY)
    seen.load(numbers)
    seen.run(document)
    row = rows_of(document, 0)[0]
    gradients = seen.gradients("embedding")
    used = [rows_of(document, t).count(row) for t in range(seen.positions)]
    slope = sum(count * gradient[column] for count, gradient in zip(used, gradients, strict=True))
    losses, place = [], row * RUNS.n_embd + column
    start = numbers["wte_gram"][place]
    for change in (1e-6, -1e-6):
        numbers["wte_gram"][place] = start + change
        seen.load(numbers)
        losses.append(seen.run(document))
    assert abs(slope - (losses[0] - losses[1]) / 2e-6) < 1e-6 * max(1.0, abs(slope))


@pytest.mark.slow
@given(document=documents(VOCABULARY), seed=st.integers(0, 1 << 32))
def test_probabilities_with_runs_are_those_of_inference_in_f32(document: list[int], seed: int) -> None:
    document = [VOCABULARY - 1, *document[1 : RUNS.block_size + 1]]
    numbers, seen = parameters(RUNS, VOCABULARY, seed), probe(RUNS, VOCABULARY)
    seen.load(numbers)
    seen.run(document)
    tokens = Tokens(array("I", document), array("q", [0, len(document) - 1]))
    came = [row[token] for row, token in zip(seen.probabilities(), document[1:], strict=True)]
    surprises = Inference(RUNS, VOCABULARY, numbers).surprises(tokens)
    for probability, surprise in zip(came, surprises, strict=True):
        assert abs(probability - 2.718281828459045**-surprise) < 1e-5
