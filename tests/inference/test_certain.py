"""Strings that are the same on every CPU: held to f64 alone, on all vector units that this machine has."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Ensemble, Random
from tapegpt.inference.certain import Certain
from tapegpt.inference.constraints import Constraints, Drawing
from tapegpt.inference.forward import Inference
from tapegpt.inference.sampling import _Space
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import INTERPRETED
from tests.properties import many

NAMES = ["anna", "bert", "clara", "dora", "emil", "frida", "gustav", "hanna"]
MODELS = {
    "exact": {"steps": 30},
    "fast": {"steps": 100, "engine": "fast", "n_gram": 2, "gram_rows": 64},
    "modern": {"steps": 30, "model": "modern", "engine": "fast"},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> GPT:
    given = MODELS[request.param]
    return tapegpt.train(NAMES, n_embd=8, n_head=2, block_size=8, **given)  # type: ignore[arg-type]


def draw(
    inference: Inference,
    model: GPT,
    drawing: Drawing,
    seed: int,
    count: int,
    pattern: str = "",
    longest: int | None = None,
) -> list[list[int]]:
    constraints = Constraints(pattern=pattern or None, max_length=longest)
    space = _Space(constraints, model.vocabulary, model.config.block_size)
    return list(inference.draw(Random(seed).streams(count), drawing, space.rules).strings)


@pytest.mark.slow
@settings(max_examples=many(10))
@given(
    st.integers(0, 2**32),
    st.builds(
        Drawing, st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]), st.sampled_from([0, 3]), st.sampled_from([0.5, 1.0])
    ),
    st.sampled_from(["", "[^a]*", "(an|be)+.*"]),
    st.sampled_from([None, 19]),
)
def test_what_is_in_doubt_is_what_f64_draws(
    model: GPT, seed: int, drawing: Drawing, pattern: str, longest: int | None
) -> None:
    sure = Certain(model.inference, [model])
    found = draw(sure, model, drawing, seed, 30, pattern, longest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Certain.draw, "__defaults__", (2.0,))
        assert draw(sure, model, drawing, seed, 30, pattern, longest) == found
    together = Ensemble([model, model]).inference
    assert draw(Certain(together, [model, model]), model, drawing, seed, 5, pattern, longest) == found[:5]


@pytest.mark.slow
def test_a_token_that_f64_draws_otherwise_is_drawn_on_from(model: GPT) -> None:
    """Whatever f32 has drawn."""
    count, block, drawing = 40, model.config.block_size, Drawing(temperature=1.0)
    sure = Certain(model.inference, [model])
    expected, streams = draw(sure, model, drawing, 3, count), Random(3).streams(count)
    rules = _Space(Constraints(), model.vocabulary, block).rules
    for number, right in enumerate(expected):
        for wrong in ([], [0] * block, right[:-1], [*right, 1][:block], [*right[:1], 2, *right[2:]]):
            assert sure._draw_again(wrong, streams[2 * number : 2 * number + 2], drawing, rules) == right


@pytest.mark.slow
def test_every_vector_unit_draws_the_same_strings(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do parameters that differ more than by roundings, with as much more in doubt."""
    drawing, rng = Drawing(temperature=1.0), Random(1)
    units = [target for target in available(host_target()) if target is not INTERPRETED]
    inferences = [Inference(model.config, model.vocab_size, model.parameters, target) for target in units]
    near = {name: [x * rng.uniform(1 - 0.01, 1 + 0.01) for x in numbers] for name, numbers in model.parameters.items()}
    inferences.append(Inference(model.config, model.vocab_size, {name: array("f", near[name]) for name in near}))
    monkeypatch.setattr(Certain.draw, "__defaults__", (0.2,))
    raw = [draw(each, model, drawing, 1, 500) for each in inferences]
    sure = [draw(Certain(each, [model]), model, drawing, 1, 500) for each in inferences]
    assert raw[-1] != raw[0]
    assert all(strings == sure[0] for strings in sure)
