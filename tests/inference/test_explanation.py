"""Explanations: what the reference engine and the model itself say; traces: each number made again from its inputs."""

from __future__ import annotations

import gc
import itertools
import math
from array import array
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from weakref import ref
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegpt import GPT, Config, Random, TapeGPTError
from tapegpt.autograd.model import Model
from tapegpt.autograd.node import Node
from tapegpt.autograd.tape import Tape
from tapegpt.autograd.value import Matrix
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference import explanation
from tapegpt.inference.explanation import MAX_PRODUCTS, Trace, explain, stages, trace
from tapegpt.inference.scores import END
from tapegpt.models.bigram import Bigram
from tapegpt.models.gru import GRU
from tapegpt.models.mlp import MLP
from tapegpt.models.modern import ModernGPT
from tapegpt.models.trained import initialise, make_engine
from tapegpt.models.wavenet import WaveNet
from tests.properties import many

LETTERS = "abdeo"
CONFIG = Config(2, 4, 2, 5)
TEXT = "abba"
TEXTS = st.text(LETTERS, max_size=8)


@cache
def made(engine: str = "exact", config: Config = CONFIG, seed: int = 1) -> GPT:
    """A model with random parameters, so large that they matter."""
    model = GPT(config, Vocabulary.of(LETTERS), Random(seed), make_engine(engine, config, len(LETTERS) + 1))
    initialise(model.engine, config, model.vocab_size, Random(seed), 0.4)
    if not config.is_plain:
        gram = Random(seed).gauss_array(config.gram_rows * config.n_embd, 0.0, 0.4)
        model.engine.load_parameters({**model.parameters, "wte_gram": gram})
    return model


def runs() -> GPT:
    return made("fast", Config(1, 4, 2, 5, n_gram=3, gram_rows=16))


def read_by_the_reference(model: GPT, text: str) -> tuple[float, dict[str, Matrix]]:
    engine = ReferenceEngine(model.config, model.vocab_size)
    engine.load_parameters(model.parameters)
    bos = len(LETTERS)
    loss = engine.loss([bos, *map(LETTERS.index, text), bos])
    engine.backward()
    return loss.data, engine.stages()


# --- place by place ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=many(50))
@given(text=TEXTS, engine=st.sampled_from(["exact", "fast", "reference"]))
def test_an_explanation_has_the_reference_engines_numbers(text: str, engine: str) -> None:
    found = explain(made(engine), text)
    loss, rows = read_by_the_reference(made(engine), text)
    assert found.loss == loss
    assert found.surprises == [surprise.data for (surprise,) in rows["surprise"]]
    assert found.probabilities == [[value.data for value in row] for row in rows["probability"]]
    for layer, head in itertools.product(range(2), range(2)):
        weights = enumerate(rows[f"layer{layer}.attn_weights"])
        expected = [row[head * (t + 1) : (head + 1) * (t + 1)] for t, row in weights]
        assert found.attention[layer][head] == [[weight.data for weight in row] for row in expected]
    for stage, norms in found.gradients:
        assert norms == [math.hypot(*[value.grad for value in row]) for row in rows[stage]]


def test_the_gradients_path_leads_from_the_loss_to_the_embeddings() -> None:
    names = [stage for stage, _ in explain(made(), TEXT).gradients]
    assert (names[0], names[-1]) == ("logits", "embedding")
    assert names.index("layer1.attention") < names.index("layer0.mlp_fc1") < names.index("layer0.attn_wq")
    assert names == [stage for stage in reversed(stages(made(), TEXT)) if stage in names]


@given(text=TEXTS)
def test_a_text_is_cut_to_the_block_and_ends_where_there_is_room(text: str) -> None:
    found = explain(made(), text)
    assert found.text == text[:5]
    assert found.inputs == ("", *text[:4])
    assert found.targets == ((*text, "") if len(text) < 5 else tuple(text[:5]))


@pytest.mark.slow
@settings(max_examples=many(50))
@given(text=TEXTS, has_runs=st.booleans())
def test_a_fast_model_expects_what_it_says_it_does(text: str, has_runs: bool) -> None:
    model = runs() if has_runs else made("fast")
    found = explain(model, text)
    assert model.score([found.text])[0].surprises[: len(found.surprises)] == pytest.approx(found.surprises, rel=1e-4)
    for t, row in enumerate(found.probabilities):
        expected = model.next_probabilities(text[:t])
        assert row == pytest.approx([expected[character] for character in (*LETTERS, "")], rel=1e-4)


def test_it_is_of_the_parameters_that_the_model_has_now() -> None:
    model = GPT(CONFIG, Vocabulary.of(LETTERS), Random(0), make_engine("exact", CONFIG, 6))
    for seed in (1, 2, 1):
        model.engine.load_parameters(made(seed=seed).parameters)
        assert explain(model, TEXT) == explain(made(seed=seed), TEXT)


def test_threads_share_a_model() -> None:
    texts = ["", "a", "abba", "doe", "adobe", "bode"] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: explain(made(), text), texts))
    assert found == [explain(made(), text) for text in texts]


def test_what_reads_a_model_goes_with_it() -> None:
    model = GPT(CONFIG, Vocabulary.of(LETTERS), Random(0), make_engine("exact", CONFIG, 6))
    explain(model, TEXT)
    engine = ref(model.engine)
    del model
    gc.collect()
    assert engine() is None


@pytest.mark.slow
def test_models_of_one_shape_are_told_apart() -> None:
    first, second = (GPT(CONFIG, Vocabulary.of(LETTERS), Random(0), make_engine("exact", CONFIG, 6)) for _ in range(2))
    for number, model in enumerate((first, second)):
        initialise(model.engine, CONFIG, 6, Random(number))
    found = [explain(model, TEXT) for model in (first, second, first, second)]
    assert found[0] == found[2] != found[1] == found[3]
    explanation._probes.clear()
    for block_size in range(1, explanation.PROBES + 2):
        config = Bigram(block_size=block_size)
        explain(GPT(config, Vocabulary.of(LETTERS), Random(0), make_engine("exact", config, 6)), "")
    assert [config.block_size for config, _ in explanation._probes] == list(range(2, explanation.PROBES + 2))
    assert explain(first, TEXT) == found[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abxyz", r"^text 'abxyz': the model does not know 'xyz': leave that out$"),
        (b"ab", r"^text must be a str, not b'ab'$"),
        (None, r"^text must be a str, not None$"),
    ],
)
def test_other_texts_are_refused(text: Any, message: str) -> None:
    for question in (explain, stages, lambda model, text: trace(model, text, "loss")):
        with pytest.raises(TapeGPTError, match=message):
            question(made(), text)


def test_numbers_that_overflow_are_refused() -> None:
    model = GPT(CONFIG, Vocabulary.of(LETTERS), Random(0), make_engine("exact", CONFIG, 6))
    numbers = made().parameters
    model.engine.load_parameters({**numbers, "lm_head": array("d", [1e5 * number for number in numbers["lm_head"]])})
    for question in (explain, stages):
        with pytest.raises(TapeGPTError, match="overflow on this text: train it again at a smaller learning rate"):
            question(model, TEXT)


# --- number by number -------------------------------------------------------------------------------------------


@cache
def traced() -> dict[str, Trace]:
    """All numbers of a model and a text."""
    scalars = explanation._Scalars(made(), TEXT)
    return {name: scalars.trace(name, 1) for stage, shape in scalars.shapes.items() for name in names(stage, shape)}


def names(stage: str, shape: tuple[int, ...]) -> Iterator[str]:
    for indices in itertools.product(*map(range, shape)):
        if len(shape) < 3 or indices[2] <= indices[0]:
            yield f"{stage}[{','.join(map(str, indices))}]" if indices else stage


def in_order(inputs: tuple[Trace, ...]) -> list[float]:
    """Their values by column, as the sums of a softmax and of a norm take them."""
    return [each.value for each in sorted(inputs, key=lambda each: int(each.name.rstrip("]").rpartition(",")[2]))]


def again(found: Trace) -> float:
    """The number made of its inputs, with microgpt.py's roundings."""
    values = [each.value for each in found.inputs]
    if found.terms and len(found.terms[0]) == 2:
        products = sum(a.value * b.value for a, b in found.terms)
        return products * (CONFIG.head_dim**0.5) ** -1 if "sqrt" in found.formula else products
    if found.formula.startswith("softmax"):
        ordered = in_order(found.inputs)
        return math.exp(values[0] - max(ordered)) * sum(math.exp(value - max(ordered)) for value in ordered) ** -1
    if "root mean square" in found.formula:
        mean_square = sum(value * value for value in in_order(found.inputs)) * len(values) ** -1
        return values[0] * math.pow(mean_square + 1e-5, -0.5)
    if "+" in found.formula:
        return values[0] + values[1]
    if found.formula.startswith("mean"):
        return sum(values) * (1 / len(values))
    (value,) = values
    if found.formula == "row of a table":
        return value
    return math.log(value) * -1 if found.formula == "minus the log" else max(0.0, value)


def test_every_number_is_what_its_formula_makes_of_its_inputs() -> None:
    composed = [found for found in traced().values() if found.formula != "parameter"]
    assert {found.name.partition("[")[0] for found in composed} == {
        stage for stage in stages(made(), TEXT) if not stage.endswith((".weight", "wte", "wpe", "lm_head"))
    }
    for found in composed:
        assert again(found) == found.value, found.name
        for each in found.inputs:
            assert (each.value, each.gradient) == (traced()[each.name].value, traced()[each.name].gradient)


def test_gradients_are_what_those_who_use_a_number_pass_back() -> None:
    """The chain rule over all numbers, which knows nothing of how the engine walks its graph."""
    passed: defaultdict[str, float] = defaultdict(float, loss=1.0)
    for found in traced().values():
        for each in found.inputs:
            passed[each.name] += found.gradient * each.local_gradient
    for name, found in traced().items():
        assert passed[name] == pytest.approx(found.gradient, rel=1e-9, abs=1e-15), name


@pytest.mark.slow
@settings(max_examples=many(40))
@given(data=st.data())
def test_gradients_of_parameters_are_slopes(data: st.DataObject) -> None:
    numbers = made().parameters
    matrix = data.draw(st.sampled_from(sorted(numbers)))
    columns = CONFIG.shapes(6)[matrix][1]
    place = data.draw(st.integers(0, len(numbers[matrix]) - 1))
    row, column = divmod(place, columns)
    weight = matrix if "." not in matrix else f"{matrix}.weight"
    found = traced()[f"{weight}[{row},{column}]"]
    assert (found.value, found.formula, found.inputs) == (numbers[matrix][place], "parameter", ())
    losses = []
    for change in (1e-5, -1e-5):
        model = GPT(CONFIG, Vocabulary.of(LETTERS), Random(0), make_engine("reference", CONFIG, 6))
        numbers[matrix][place] = found.value + change
        model.engine.load_parameters(numbers)
        losses.append(read_by_the_reference(model, TEXT)[0])
    assert found.gradient == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-7)


@pytest.mark.slow
@settings(max_examples=many(30))
@given(data=st.data(), depth=st.integers(2, 3))
def test_a_tree_is_made_of_smaller_trees(data: st.DataObject, depth: int) -> None:
    name = data.draw(st.sampled_from(["probability[3,2]", "layer1.attn_logits[2,1,0]", "layer0.mlp_relu[1,3]"]))
    whole = trace(made(), TEXT, name, depth)
    assert whole.local_gradient == 1.0
    each = data.draw(st.sampled_from(whole.inputs))
    assert each.replace(local_gradient=1.0) == trace(made(), TEXT, each.name, depth - 1)


def test_names_may_have_spaces_and_empty_texts_numbers() -> None:
    assert trace(made(), TEXT, "logits[1, 4]") == traced()["logits[1,4]"]
    assert trace(made(), "", "loss").inputs[0].name == "surprise[0]"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logit[0,0]", r"there is no number 'logit\[0,0\]': stages names all there are"),
        ("layer2.mlp_fc1[0,0]", "stages names all"),
        ("logits[5,0]", r"logits has shape \(5, 6\), counted from 0$"),
        ("logits[-1,0]", r"logits has shape \(5, 6\)"),
        ("logits", r"logits has shape \(5, 6\)"),
        ("logits[1,2", r"logits has shape \(5, 6\)"),
        ("loss[0]", r"loss has shape \(\), counted from 0$"),
        ("layer0.attn_weights[1,0,2]", r"has shape \(5, 2, 5\), counted from 0, and looks at no later position$"),
        ("layer0.mlp_fc1.weight[16,0]", r"layer0.mlp_fc1.weight has shape \(16, 4\)"),
        ("", "there is no number ''"),
        (["loss"], r"there is no number \['loss'\]"),
    ],
)
def test_a_name_that_is_none_is_refused(name: Any, message: str) -> None:
    with pytest.raises(TapeGPTError, match=message):
        trace(made(), TEXT, name)


@pytest.mark.parametrize("depth", [0, -1, 1.0, True, "1"])
def test_a_depth_that_is_none_is_refused(depth: Any) -> None:
    with pytest.raises(TapeGPTError, match="depth must be a whole number from 1 on, not"):
        trace(made(), TEXT, "loss", depth)


@pytest.mark.slow
def test_what_is_too_much_is_refused() -> None:
    with pytest.raises(TapeGPTError, match="more than 20,000 numbers lie that deep: choose a smaller depth"):
        trace(made(), TEXT, "loss", 10**9)
    wide = made("reference", Config(1, 100, 2, 16))
    products = 17 * wide.num_parameters
    assert products > MAX_PRODUCTS
    with pytest.raises(
        TapeGPTError, match="products are too many to be traced one by one, the limit is 1,000,000: choose"
    ):
        trace(wide, TEXT * 4, "loss")


# --- any model --------------------------------------------------------------------------------------------------


class Odd(Model):
    """Numbers that are both factors of a product, or several of a sum; a name for few results."""

    block_size = 5

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits (T, V)."""
        table = tape.parameter("table", vocab_size, 4)
        x = tape.embedding(table, tokens)
        h = tape.attention(x, x, x, 2) * x + tape.attention(x, x, x, 1).tanh()
        h = tape.concatenate([h, h, x]).linear("h", 4)
        return tape.linear((h + h) * h.mean(1), table)


MODELS = [
    Odd(),
    Bigram(block_size=5),
    MLP(context=3, n_embd=2, n_hidden=3, block_size=5),
    WaveNet(n_layer=2, n_embd=3, block_size=5),
    GRU(n_embd=2, n_hidden=3, block_size=5),
    ModernGPT(n_layer=1, n_embd=4, n_head=2, block_size=5),
    Config(1, 4, 2, 5, n_gram=3, gram_rows=7),
]
each_model = pytest.mark.parametrize("config", MODELS, ids=lambda config: type(config).__name__)


@cache
def of(config: Model) -> GPT:
    engine = make_engine("fast" if config.needs_fast(6) else "exact", config, 6)
    rng = Random(3)
    engine.load_parameters({name: rng.gauss_array(m * n, 0.0, 0.4) for name, (m, n) in config.shapes(6).items()})
    return GPT(config, Vocabulary.of(LETTERS), rng, engine)


@pytest.mark.slow
@each_model
def test_any_model_is_explained(config: Model) -> None:
    found = explain(of(config), TEXT)
    loss, rows = read_by_the_reference(of(config), TEXT)
    assert found.loss == loss
    assert [len(layer) for layer in found.attention] == config.heads(6)
    assert found.gradients[0][0] == config.record(6).logits.name
    for stage, norms in found.gradients:
        assert norms == pytest.approx([math.hypot(*[value.grad for value in row]) for row in rows[stage]], rel=1e-12)


@pytest.mark.slow
@each_model
def test_the_chain_rule_holds_over_all_numbers_of_any_model(config: Model) -> None:
    scalars = explanation._Scalars(of(config), TEXT)
    every = {name: scalars.trace(name, 1) for stage, shape in scalars.shapes.items() for name in names(stage, shape)}
    passed: defaultdict[str, float] = defaultdict(float, loss=1.0)
    for found in every.values():
        assert "{" not in found.formula
        for term in found.terms:
            for each in term:
                passed[each.name] += found.gradient * each.local_gradient
        if found.terms and len(found.terms[0]) == 2 and "sqrt" not in found.formula:
            assert sum(a.value * b.value for a, b in found.terms) == found.value
    for name, found in every.items():
        assert passed[name] == pytest.approx(found.gradient, rel=1e-9, abs=1e-15), name


def test_what_has_no_name_is_called_by_its_operation() -> None:
    unnamed = ["embedding 1", "attention 1", "mul 1", "attention 2", "tanh 1", "add 1", "h", "add 2", "mean 1", "mul 2"]
    within = ["attn_logits", "attn_weights", "attention 2.attn_logits", "attention 2.attn_weights"]
    found = stages(of(Odd()), TEXT)
    copies = [stage for stage in found if stage.startswith("columns ")]  # of what attention takes in several places
    assert [stage for stage in found if stage not in (*within, *copies)][: len(unnamed)] == unnamed
    assert [found[stage] for stage in within] == [(5, 2, 5)] * 2 + [(5, 1, 5)] * 2
    assert trace(of(Odd()), TEXT, "tanh 1[2,1]").formula == "tanh(a)"
    assert found["h.weight"] == (4, 12)


def test_two_results_of_one_name_are_refused() -> None:
    class Twice(Model):
        def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
            x = tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens)
            return x.tanh().named("x").exp().named("x")

    with pytest.raises(TapeGPTError, match=r"Twice\.forward: two results are named 'x': give each a name of its own"):
        Twice().record(5)


def test_a_notebook_shows_what_was_expected_and_where_heads_look() -> None:
    model = made()
    page = explain(model, "ab")._repr_html_()
    tables = ElementTree.fromstring(f"<div>{page}</div>").findall("table")
    assert len(tables) == 1 + CONFIG.n_layer * CONFIG.n_head
    came = [row.findtext("td/b/bdi") for row in tables[0].findall("tr")[1:]]
    assert came == ["a", "b", END]
    assert [len(row.findall("td")) for row in tables[1].findall("tr")] == [0, 1, 2, 3]
    assert tables[-1].findtext("caption") == "layer 1, head 1"
