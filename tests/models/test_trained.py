"""A model that speaks: seeds, streams, settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT, Random, TapeGPTError, Vocabulary


@cache
def trained() -> GPT:
    return tapegpt.train(["anna", "otto", "bob"], steps=30, n_embd=8, n_head=2, block_size=6)


def with_state(seed: int) -> GPT:
    """The model with a generator of its own."""
    return GPT(trained().config, trained().vocabulary, Random(seed), trained().engine, trained().steps)


def test_an_engine_of_another_model_is_refused() -> None:
    model, more = trained(), Vocabulary.of("abnotz")
    with pytest.raises(TapeGPTError, match=r"engine is made for 6 tokens and .*, not for 7 and .*: give the model an"):
        GPT(model.config, more, Random(1), model.engine)
    with pytest.raises(TapeGPTError, match=r"block_size=6, .*, not for 6 and .*block_size=5, "):
        GPT(model.config.replace(block_size=5), model.vocabulary, Random(1), model.engine)


def test_the_models_generator_goes_on() -> None:
    model, other = with_state(1), with_state(1)
    assert model.generate(3) + model.generate(4) == other.generate(7)


def test_a_seed_leaves_the_models_generator_alone() -> None:
    model = with_state(1)
    state = model.rng.getstate()
    strings = model.generate(5, seed=9)
    assert model.rng.getstate() == state
    assert strings == with_state(2).generate(5, seed=9)
    assert strings == with_state(9).generate(5)


def test_a_stream_gives_the_same_strings() -> None:
    assert list(trained().stream(n=300, seed=4)) == trained().generate(300, seed=4)
    endless = trained().stream(n=10**30, seed=4)
    assert [next(endless) for _ in range(40)] == trained().generate(40, seed=4)


def test_strings_are_of_the_vocabulary_and_fit_the_block() -> None:
    strings = trained().generate(500, temperature=1000.0, seed=0)
    assert max(map(len, strings)) == 6
    assert {character for string in strings for character in string} == set("abnot")
    assert len(set(trained().generate(50, temperature=0.001, seed=0))) == 1


def test_settings_out_of_range() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"n": -1}, "n must be a whole number from 0 on, not -1"),
        ({"n": 1.0}, "n must be"),
        ({"n": True}, "n must be"),
        *[
            ({"temperature": t}, "temperature must be")
            for t in (-1.0, 1e-4, 1e4, float("nan"), float("inf"), 10**400, True, False, "1")
        ],
        *[({"seed": seed}, "seed must be a whole number, not") for seed in (1.0, True, "1", b"1")],
    ]
    for settings, message in wrong:
        with pytest.raises(TapeGPTError, match=message):
            trained().generate(**settings)
        with pytest.raises(TapeGPTError, match=message):
            trained().stream(**settings)
    assert trained().generate(0) == []
    with pytest.raises(TapeGPTError, match="prefix must be a str, not 5"):
        trained().stream(prefix=5)  # type: ignore[arg-type]
    with pytest.raises(TapeGPTError, match="n must be a whole number from 0 on, not 'an'"):
        trained().stream("an")  # type: ignore[arg-type]
    with pytest.raises(TapeGPTError, match="n must be a whole number from 0 on, not None"):
        trained().generate(None)  # type: ignore[arg-type]


def test_parameters_are_a_copy() -> None:
    before = trained().parameters
    trained().parameters["wte"][0] = 5.0
    assert trained().parameters == before
    assert sum(map(len, before.values())) == trained().num_parameters


def test_threads_may_share_a_model() -> None:
    expected = [trained().generate(200, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: trained().generate(200, seed=seed), range(8))) == expected


def test_probabilities_of_the_next_character_sum_to_1_and_fall() -> None:
    for prefix in ("", "an", "ottob"):
        probabilities = trained().next_probabilities(prefix)
        assert probabilities.keys() == {*trained().vocabulary, ""}
        assert abs(sum(probabilities.values()) - 1.0) < 1e-9
        assert list(probabilities.values()) == sorted(probabilities.values(), reverse=True)
    first = next(iter(trained().next_probabilities("an")))
    assert trained().next_probabilities("an", temperature=0)[first] == 1.0


def test_at_temperature_0_equals_share_the_probability() -> None:
    model = tapegpt.Trainer(tapegpt.Corpus.of(["anna", "otto"]), trained().config, init_std=0.0).model
    assert set(model.next_probabilities("a", temperature=0).values()) == {1 / model.vocab_size}


def test_percentiles_follow_the_parameters() -> None:
    trainer = tapegpt.Trainer(tapegpt.Corpus.of(["anna", "otto", "bob"]), trained().config, steps=30)
    for _ in range(2):
        trainer.run(15)
        scores = trainer.model.score(["anna", "otto", "bob"])
        assert list(trainer.model.ranks) == sorted(scores.nats)


def test_of_many_training_strings_some_stand_for_all() -> None:
    model = tapegpt.train(["anna", "otto", "bob", "abba", "noon"], steps=5, n_embd=8, n_head=2, block_size=6)
    every = sorted(model.score(model.documents or ()).nats)
    model.ranks = ()
    model.rank(2)
    assert len(model.ranks) == 2
    assert set(model.ranks) < set(every)


def test_an_estimate_draws_fewer_where_each_is_compared_and_repetitions_are_no_matter() -> None:
    found = [trained().estimate_probability(suffix="a", distinct=distinct) for distinct in (False, True)]
    assert found[0] == found[1]
    assert (
        found[0].draws,
        trained().estimate_probability(novel=1).draws,
        trained().estimate_probability(novel=True).draws,
    ) == (
        20_000,
        1000,
        20_000,
    )
    with pytest.raises(TapeGPTError, match="leave out top_k, top_p, min_p and temperature 0"):
        trained().estimate_probability(temperature=0)


def test_probabilities_follow_the_parameters() -> None:
    trainer = tapegpt.Trainer(tapegpt.Corpus.of(["anna", "otto"]), trained().config)
    before = trainer.model.next_probabilities("a")
    assert trainer.model.next_probabilities("a") == before
    trainer.run(1)
    assert trainer.model.next_probabilities("a") != before


def test_a_prefix_that_the_model_does_not_know_is_refused() -> None:
    for prefix, message in (("x", "does not know 'x'"), (1, "must be a str")):
        with pytest.raises(TapeGPTError, match=message):
            trained().next_probabilities(prefix)  # type: ignore[arg-type]


def test_a_notebook_shows_shape_and_strings() -> None:
    page = trained()._repr_html_()
    assert "<th>n_embd</th><td>8</td>" in page
    assert trained().generate(1, seed=0)[0] in page


def test_repr_says_what_it_is() -> None:
    assert repr(trained()) == "<GPT of 912 parameters: n_layer=1 n_embd=8 n_head=2 block_size=6, 6 tokens, 30 steps>"


def test_public_names() -> None:
    assert set(tapegpt.__all__) <= set(dir(tapegpt))
    for name in tapegpt.__all__:
        assert getattr(tapegpt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'torch'"):
        _ = tapegpt.torch
