"""What taught a model a string: products of gradients against the reference's, lessons and retraining against loops."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from benchmarks import attribution as benchmark
from tapegpt import GPT, Config, Corpus, Random, TapeGPTError
from tapegpt.analysis.attribution import Lessons, Retraining, attribute, encoded, verify
from tapegpt.analysis.influence import EPSILON, SECONDS, Rater
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Parameters
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.machine.host import host_target
from tapegpt.machine.target import INTERPRETED, Target
from tapegpt.models.trained import initialise, make_engine
from tapegpt.settings import Settings
from tapegpt.training.recording import record
from tapegpt.training.trainer import Trainer
from tests.properties import many

NAMES = ["anna", "otto", "bob", "nana", "tonto", "abba", "banana", "annabo", "noon", "anna", "b", "toto"]
CORPUS = Corpus.of(NAMES)
PLAIN = Config(n_layer=2, n_embd=6, n_head=3, block_size=5)
RUNS = Config(n_embd=8, n_head=2, block_size=5, n_gram=3, gram_rows=7)
FAST = {"engine": "fast", "batch_size": 3, "threads": 1, "learning_rate": 0.01}


def drawn(config: Config, seed: int) -> Parameters:
    """Random parameters, those of runs too."""
    shapes = config.shapes(CORPUS.vocab_size)
    rng = Random(seed)
    return {name: rng.gauss_array(rows * columns, 0.0, 0.3) for name, (rows, columns) in shapes.items()}


def rows_of_runs(document: list[int], place: int) -> list[int]:
    """The rows of the runs that end at a place, by the formula in words: fast/context.py."""
    rows, run = [], 0
    for back in range(RUNS.n_gram):
        token = document[place - back] if place >= back else CORPUS.vocabulary.bos
        run = ((run ^ token) * 0x9E3779B1) & 0xFFFFFFFF
        if back:
            rows.append((((run ^ (run >> 15)) * 0x9E3779B1 & 0xFFFFFFFF) * RUNS.gram_rows) >> 32)
    return rows


def gradient(config: Config, parameters: Parameters, document: list[int]) -> tuple[float, dict[str, list[float]]]:
    """Loss and gradient of one document by the reference engine.

    It has no embeddings of runs: their sum is added to the embedding of the place, which no other position of the
    document has, and so has its gradient.
    """
    plain, columns = config.replace(n_gram=1), config.n_embd
    own = {name: array("d", numbers) for name, numbers in parameters.items() if name != "wte_gram"}
    n = min(len(document) - 1, config.block_size)
    rows = {place: rows_of_runs(document, place) for place in range(n)} if config.n_gram > 1 else {}
    for place, found in rows.items():
        for row in found:
            for column in range(columns):
                own["wpe"][place * columns + column] += parameters["wte_gram"][row * columns + column]
    engine = ReferenceEngine(plain, CORPUS.vocab_size)
    engine.load_parameters(own)
    loss = engine.loss(document)
    engine.backward()
    result = {name: [value.grad for line in matrix for value in line] for name, matrix in engine._state.items()}
    if rows:
        result["wte_gram"] = [0.0] * len(parameters["wte_gram"])
    for place, found in rows.items():
        for row in found:
            for column in range(columns):
                result["wte_gram"][row * columns + column] += result["wpe"][place * columns + column]
    return loss.data, result


def tokens_of(documents: list[str]) -> tuple[Tokens, list[list[int]]]:
    tokens = CORPUS.replace(documents=documents).tokens()
    pieces = [tokens.ids[a : b + 1].tolist() for a, b in zip(tokens.starts, tokens.starts[1:], strict=False)]
    return tokens, pieces


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "target", "rated"),
    [(PLAIN, host_target(), (3, 0, 6, 9, 0)), (PLAIN, INTERPRETED, (3, 0, 0)), (RUNS, host_target(), (3, 0, 6, 9, 0))],
)
def test_products_are_those_of_the_reference_engine_s_gradients(
    config: Config, target: Target, rated: tuple[int, ...]
) -> None:
    tolerance = 1e-12
    parameters = drawn(config, 1)
    if config is RUNS:
        parameters = {name: array("d", array("f", numbers)) for name, numbers in parameters.items()}
    query, (asked,) = tokens_of(["banto"])
    tokens, documents = tokens_of(NAMES)
    windows = array("I", rated)
    loss, products = Rater(config, CORPUS.vocab_size, parameters, target).rate(query, tokens, windows)

    expected_loss, own = gradient(config, parameters, asked)
    others = [gradient(config, parameters, documents[window])[1] for window in windows]
    assert math.isclose(loss, expected_loss, rel_tol=tolerance)
    for product, other in zip(products, others, strict=True):
        terms = [
            q * g / (math.sqrt(math.fsum(each[name][i] ** 2 for each in others) / len(others)) + EPSILON)
            for name in own
            for i, (q, g) in enumerate(zip(own[name], other[name], strict=True))
        ]
        assert abs(product - math.fsum(terms)) <= tolerance * math.fsum(map(abs, terms))
    assert products[1] == products[-1]  # what a window leaves behind does not reach the next


def test_threads_share_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    query, _ = tokens_of(["banto"])
    tokens, _ = tokens_of(NAMES)
    rater = Rater(PLAIN, CORPUS.vocab_size, drawn(PLAIN, 3))
    loss, alone = rater.rate(query, tokens, array("I", range(len(NAMES))))
    monkeypatch.setattr("tapegpt.analysis.influence.threads_that_pay", lambda config, vocab_size, windows: 3)
    monkeypatch.setattr("tapegpt.analysis.influence.CHUNK", 2)
    same, together = rater.rate(query, tokens, array("I", range(len(NAMES))))
    assert same == loss
    assert together == pytest.approx(alone, rel=1e-9)


@pytest.mark.slow
def test_a_product_is_what_a_step_on_the_document_takes_from_the_string_s_loss() -> None:
    parameters = drawn(PLAIN, 2)
    query, _ = tokens_of(["banto"])
    tokens, documents = tokens_of(NAMES[:4])
    windows = array("I", range(4))
    _, products = Rater(PLAIN, CORPUS.vocab_size, parameters).rate(query, tokens, windows)
    gradients = [gradient(PLAIN, parameters, document)[1] for document in documents]
    engine = make_engine("exact", PLAIN, CORPUS.vocab_size)
    for product, of_document in zip(products, gradients, strict=True):
        losses = []
        for step in (1e-6, -1e-6):
            moved = {name: array("d", numbers) for name, numbers in parameters.items()}
            for name, numbers in moved.items():
                for i, number in enumerate(numbers):
                    mean = math.fsum(each[name][i] ** 2 for each in gradients) / len(gradients)
                    numbers[i] = number - step * of_document[name][i] / (math.sqrt(mean) + EPSILON)
            engine.load_parameters(moved)
            total, count = engine.evaluate(query)
            losses.append(total / count)
        assert (losses[1] - losses[0]) / 2e-6 == pytest.approx(product, rel=1e-5, abs=1e-6)


# --- lessons ----------------------------------------------------------------------------------------------------


def trained(documents: list[str], **options: Any) -> GPT:
    shape = {"n_embd": 4, "n_head": 2, "block_size": 4}
    return tapegpt.train(Corpus.of(documents), **{**shape, "steps": 9, **options})


def visited(trainer: Trainer, steps: int) -> list[tuple[int, list[int]]]:
    """The windows that a training goes through, one after the other: the step of each from 1 on, and its tokens."""
    tokens, batch_size = trainer.tokens, trainer.settings.batch_size
    order = range(len(tokens)) if tokens.order is None else tokens.order
    found = []
    for visit in range(steps * batch_size):
        window = order[visit % len(order)]
        found.append((visit // batch_size + 1, tokens.ids[tokens.starts[window] : tokens.starts[window + 1]].tolist()))
    return found


@pytest.mark.slow
@settings(max_examples=many(30))
@given(
    documents=st.lists(st.text("ab", min_size=1, max_size=7), min_size=2, max_size=9),
    steps=st.integers(1, 12),
    options=st.sampled_from([{}, *({**FAST, "long": long} for long in ("cut", "window", "overlap"))]),
    numbers=st.lists(st.floats(-1, 1), min_size=60, max_size=60),
)
def test_lessons_are_what_the_training_went_through(
    documents: list[str], steps: int, options: dict[str, Any], numbers: list[float]
) -> None:
    model = trained([*documents, "ab"], steps=steps, **options)
    assert model.state is not None
    trainer = Trainer(Corpus.of([*documents, "ab"]), model.config, model.state.settings)
    lessons = Lessons(model, None)
    windows = lessons.order[: lessons.visits]
    tokens = [lessons.tokens.ids[lessons.tokens.starts[w] : lessons.tokens.starts[w + 1]].tolist() for w in windows]
    visits = visited(trainer, steps)
    assert [seen for _, seen in visits[: len(windows)]] == tokens

    products = array("d", numbers[: len(windows)])
    strengths = lessons.strengths(windows, products, True)
    expected = dict.fromkeys(strengths, 0.0)
    found: dict[str, set[int]] = {document: set() for document in strengths}
    for place, (step, seen) in enumerate(visits):
        document = lessons.document(windows[place % len(windows)])
        weight = min(len(seen), model.config.block_size) if options else 1
        expected[document] += products[place % len(windows)] * weight * (place + 1) / len(visits)
        found[document].add(step)
    assert strengths == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert lessons.steps(strengths) == {document: tuple(sorted(each)) for document, each in found.items()}
    assert lessons.strengths(windows, products, False).keys() == strengths.keys()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {**FAST, "n_gram": 2, "gram_rows": 16}], ids=["exact", "fast"])
def test_an_attribution_ranks_the_documents_by_their_strengths(options: dict[str, Any]) -> None:
    model = trained(NAMES, steps=3, **options)
    lessons = Lessons(model, None)
    for unseen in (False, True):
        windows = lessons.order if unseen else lessons.order[: lessons.visits]
        rater = Rater(model.config, model.vocab_size, model.parameters)
        loss, products = rater.rate(encoded(model, "banto"), lessons.tokens, windows)
        strengths = lessons.strengths(windows, products, not unseen)
        scale = math.sqrt(math.fsum(strength**2 for strength in strengths.values()) / len(strengths))
        found = attribute(model, "banto", top=3, unseen=unseen)
        assert (found.text, found.loss, found.documents, found.seen) == ("bant", loss, len(strengths), not unseen)
        falling = sorted(strengths, key=lambda document: -strengths[document])
        assert [each.document for each in found.taught] == [name for name in falling if strengths[name] > 0][:3]
        assert [each.document for each in found.hindered] == [name for name in falling[::-1] if strengths[name] < 0][:3]
        for each in (*found.taught, *found.hindered):
            assert each.influence == pytest.approx(strengths[each.document] / scale)
            assert NAMES[each.number] == each.document
            assert each.steps == lessons.steps([each.document])[each.document]


def test_what_was_held_out_or_came_after_the_best_weights_did_not_teach() -> None:
    corpus = Corpus.of(NAMES * 3)
    trainer = Trainer(
        corpus, Config(n_embd=4, n_head=2, block_size=4), Settings(steps=40, validation=0.3, learning_rate=1)
    )
    recording = record(trainer, ())
    best = min(recording.evaluations, key=lambda evaluation: evaluation.loss)
    assert best.step < 40
    found = attribute(trainer.model, "ann", recording, top=99)
    assert trainer.held_out is not None
    listed = [*found.taught, *found.hindered]
    assert {each.document for each in listed}.isdisjoint(trainer.held_out.documents)
    assert max(step for each in listed for step in each.steps) <= best.step
    trainer.keep(lambda model: None)
    assert attribute(trainer.model, "ann", top=99) == found  # what the model itself remembers is the same


def test_without_knowledge_of_the_training_all_documents_are_compared() -> None:
    model = trained(NAMES, steps=2)
    everything = attribute(model, "ann", unseen=True)
    model.state = model.data = None
    found = attribute(model, "ann")
    assert not found.seen
    assert [(e.document, e.influence) for e in found.taught] == [(e.document, e.influence) for e in everything.taught]
    assert all(each.steps == () for each in found.taught)


# --- training again ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=many(15))
@given(
    left_out=st.sets(st.sampled_from(NAMES), max_size=5),
    steps=st.integers(1, 20),
    options=st.sampled_from([{}, FAST]),
)
def test_training_again_goes_through_the_others_in_their_order(
    left_out: set[str], steps: int, options: dict[str, Any]
) -> None:
    model = trained(NAMES, steps=steps, **options)
    assert model.state is not None
    query, chosen = encoded(model, "bant"), model.state.settings
    retraining = Retraining(model, Lessons(model, None))
    retraining.run_without(left_out)
    found = retraining.loss(query)

    rng = Random(chosen.seed)
    corpus = Corpus.of(NAMES)
    tokens = corpus.windows(model.config.block_size, long=chosen.long)
    windows = [len(corpus.windows(model.config.block_size, [number], chosen.long)) for number in range(len(NAMES))]
    owners = [name for name, count in zip(NAMES, windows, strict=True) for _ in range(count)]
    kept = [window for window in rng.permutation(len(tokens)) if owners[window] not in left_out]
    engine = make_engine(chosen.engine, model.config, model.vocab_size, chosen.batch_size)
    initialise(engine, model.config, model.vocab_size, rng)
    tokens = tokens.replace(order=array("I", kept)) if options else corpus.tokens(kept)
    engine.train(tokens, Trainer(corpus, model.config, chosen).adam, 0, steps)
    total, count = engine.evaluate(query)
    assert found == total / count


def test_leaving_out_what_taught_a_string_is_compared_with_random_draws() -> None:
    model = trained(NAMES, steps=8)
    found = attribute(model, "nan", top=2)
    verification = verify(model, found, draws=5)
    retraining, query = Retraining(model, Lessons(model, None)), encoded(model, "nan")
    retraining.run_without({each.document for each in found.taught})
    change = retraining.loss(query) - found.loss
    assert (verification.count, len(verification.random)) == (2, 5)
    assert verification.taught == pytest.approx(change)
    mean = sum(verification.random) / 5
    assert verification.mean == pytest.approx(mean)
    assert verification.deviation == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in verification.random) / 4))
    assert verify(model, found, draws=5) == verification


# --- what cannot be used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "top", "message"),
    [
        ("", 10, "text must be a str of at least one character, not ''"),
        (7, 10, "text must be a str of at least one character, not 7"),
        ("anné", 10, "text 'anné': the model does not know 'é': leave that out"),
        ("ann", 0, "top must be a whole number from 1 on, not 0"),
        ("ann", 1.5, "top must be a whole number from 1 on, not 1.5"),
    ],
)
def test_a_bad_question_is_refused(text: Any, top: Any, message: str) -> None:
    with pytest.raises(TapeGPTError) as error:
        attribute(trained(NAMES), text, top=top)
    assert str(error.value) == message


def test_documents_that_are_others_are_refused() -> None:
    model = trained(NAMES)
    model.documents = [*NAMES[1:], NAMES[0]]
    with pytest.raises(TapeGPTError, match=r"the data is not what the model was trained on: .* in another order"):
        attribute(model, "ann")
    model.data, model.documents = None, ["anne"]
    with pytest.raises(TapeGPTError, match=r"^the model does not know the data's characters 'e': give what it was"):
        attribute(model, "ann")
    model.documents = None
    with pytest.raises(TapeGPTError, match="does not know what it was trained on: give its training data"):
        attribute(model, "ann")


def test_a_training_that_cannot_be_repeated_is_not_verified() -> None:
    model = trained(NAMES, steps=8)
    found = attribute(model, "ann", top=1)
    with pytest.raises(TapeGPTError, match="draws must be a whole number from 2 on, not 1"):
        verify(model, found, draws=1)
    with pytest.raises(TapeGPTError, match="attribute without unseen"):
        verify(model, attribute(model, "ann", unseen=True))
    with pytest.raises(TapeGPTError, match=r"^7 of 8 documents cannot be left out and compared with others"):
        verify(model, found.replace(taught=found.taught * 7, documents=8))
    assert model.state is not None
    training = model.state
    model.state = training.replace(settings=training.settings.replace(seed=1))
    with pytest.raises(TapeGPTError, match="other weights come out"):
        verify(model, found)
    model.state = training.replace(settings=training.settings.replace(engine="fast", budget=1.0))
    with pytest.raises(TapeGPTError, match="it followed the clock"):
        verify(model, found)


def test_numbers_that_overflow_are_refused() -> None:
    model = trained(NAMES)
    model.engine.load_parameters({name: array("d", [1e300] * len(each)) for name, each in model.parameters.items()})
    with pytest.raises(TapeGPTError, match="overflow"):
        attribute(model, "ann")


def test_half_of_the_documents_may_be_left_out_and_patience_is_no_matter() -> None:
    model = trained(NAMES * 3, steps=40, validation=0.3, patience=50)
    found = attribute(model, "ann", top=2)
    assert verify(model, found.replace(documents=2 * len(found.taught)), draws=2).count == len(found.taught) == 2


def test_the_time_of_an_answer_follows_from_weights_and_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, _ = tokens_of(NAMES)
    rater, windows = Rater(PLAIN, CORPUS.vocab_size, drawn(PLAIN, 1)), array("I", range(6))
    positions = 6 * tokens.starts[-1] / len(NAMES)
    for threads in (1, 2):
        monkeypatch.setattr("tapegpt.analysis.influence.threads_that_pay", lambda *_, n=threads: n)
        assert rater.seconds(tokens, windows) == pytest.approx(
            2 * SECONDS * PLAIN.num_parameters(CORPUS.vocab_size) * positions / threads
        )


def test_who_asks_is_told_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    model, told = trained(NAMES), list[float]()
    verify(model, attribute(model, "ann", top=1, watch=told.append), draws=2, watch=told.append)
    assert told == []
    monkeypatch.setattr("tapegpt.analysis.attribution.MANY", 0.0)
    verify(model, attribute(model, "ann", top=1, watch=told.append), draws=2, watch=told.append)
    assert len(told) == 2


# --- the benchmark ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark_compares_rankings_with_random_draws() -> None:
    printed = benchmark.by_ranking(Corpus.of([first + second for first in "abcd" for second in "abcd"]), 2, 12, (1, 3))
    rows = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in rows[0][1:]] == [
        "taught, k = 1",
        "taught, k = 3",
        "hindered, k = 1",
        "hindered, k = 3",
    ]
    assert len(rows) == 2 + 9
    assert all(" ± " in cell for row in rows[2:] for cell in row[1:])


def test_the_benchmark_times_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "MODELS", {"small": {"n_embd": 4, "n_head": 2, "block_size": 4}})
    printed = benchmark.by_question(CORPUS, 1, steps=3)
    names = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert names[2:] == ["small, documents trained on", "small, all documents"]


@pytest.mark.slow
def test_the_benchmark_refuses_products_that_are_not_numpy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = benchmark.Trial(trained(NAMES, steps=8), ["ann"], (1,))
    monkeypatch.setattr("benchmarks.attribution.EPSILON", 1.0)
    with pytest.raises(AssertionError, match="from NumPy's"):
        trial.rankings()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert benchmark.by_ranking(CORPUS, 1) == benchmark.ABSENT
