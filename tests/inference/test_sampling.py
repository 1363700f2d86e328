"""Strings within constraints, held to an enumeration of all strings of a small model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from statistics import mean, stdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt.inference import sampling
from tapegpt.inference.choice import Choice, truncate
from tapegpt.inference.constraints import Drawing, split_options
from tapegpt.inference.forward import Drawn
from tapegpt.inference.sampling import Sampler
from tapegpt.models.trained import GPT
from tapegpt.processes import can_start_threads
from tests.data.distances import edits
from tests.properties import many

CHARACTERS = "abc"
BLOCK = 4
DOCUMENTS = ["ab", "cab", "bb", "a", "abca", "ccb"]
SIGMAS = 5

pytestmark = pytest.mark.filterwarnings("ignore:(only|no string) .* were requested")  # many tests ask for all there are


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less of it, where small models hardly ever meet a constraint."""
    monkeypatch.setattr(sampling, "MAX_VAIN", 5000)


@pytest.fixture(scope="module", params=["exact", "fast"])
def model(request: pytest.FixtureRequest) -> GPT:
    return tapegpt.train(DOCUMENTS, engine=request.param, n_embd=8, n_head=2, block_size=BLOCK, steps=30)


@pytest.fixture(scope="module")
def small() -> GPT:
    return tapegpt.train(DOCUMENTS, n_embd=8, n_head=2, block_size=BLOCK, steps=30)


def probabilities(model: GPT, temperature: float = 1.0, longest: int = BLOCK) -> dict[str, float]:
    """Of every string, cut where it is longest, by multiplying the probabilities of its characters."""
    found: dict[str, float] = {}

    def extend(prefix: str, probability: float) -> None:
        if len(prefix) == longest:
            found[prefix] = probability
            return
        for character, p in model.next_probabilities(prefix, temperature=temperature).items():
            if character:
                extend(prefix + character, probability * p)
            else:
                found[prefix] = probability * p

    extend("", 1.0)
    return found


def assert_drawn_from(distribution: dict[str, float], strings: list[str]) -> None:
    """Every string as often as its probability says."""
    assert math.isclose(math.fsum(distribution.values()), 1.0, rel_tol=0.01)  # what never came has no weight
    counts = Counter(strings)
    assert counts.keys() <= distribution.keys()
    for text, p in distribution.items():
        assert abs(counts[text] - len(strings) * p) <= SIGMAS * math.sqrt(len(strings) * p) + 1, text


def conditioned(distribution: dict[str, float], strings: list[str]) -> dict[str, float]:
    total = math.fsum(distribution[text] for text in strings)
    return {text: distribution[text] / total for text in strings}


@pytest.mark.slow
def test_all_strings_have_the_models_probabilities_when_nothing_is_asked(model: GPT) -> None:
    assert math.isclose(math.fsum(probabilities(model).values()), 1.0, rel_tol=1e-6)
    assert_drawn_from(probabilities(model), model.generate(20_000, temperature=1.0, seed=1))
    assert_drawn_from(probabilities(model, 0.5), model.generate(20_000, seed=1, unbiased=True))


PATTERNS = ["a.*", ".*b", "(ab|ca)+c?", "[^a]*", ".*cc.*", "a?b?c?"]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_place_by_place_a_string_is_drawn_as_often_as_its_weight_says(model: GPT, pattern: str) -> None:
    everything = probabilities(model)
    constraints, drawing = split_options({"pattern": pattern, "temperature": 1.0, "unbiased": False})
    sampler = model.sampler(constraints, drawing, seed=2)
    drawn = sampler._draw(many(30_000, few=10_000))
    strings = model.vocabulary.texts(drawn.strings)
    assert all(re.fullmatch(pattern, text) for text in strings)
    weights = dict(zip(strings, map(math.exp, drawn.log_weights), strict=True))
    drawn_with = {text: everything[text] / weight for text, weight in weights.items()}
    assert_drawn_from(drawn_with, strings)
    in_order = [text for text in islice(sampler._in_order(), many(3000, few=1000)) if text in weights]
    assert_drawn_from(drawn_with, in_order)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_exact_draws_from_the_models_distribution_given_the_pattern(model: GPT, pattern: str) -> None:
    everything = probabilities(model)
    fitting = [text for text in everything if re.fullmatch(pattern, text)]
    strings = model.generate(4_000, pattern=pattern, temperature=1.0, seed=3, unbiased=True)
    assert_drawn_from(conditioned(everything, fitting), strings)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_some_string_weighs_as_much_as_the_bound_and_none_more(model: GPT, pattern: str) -> None:
    sampler = model.sampler(*split_options({"pattern": pattern, "temperature": 1.0}), seed=0)
    space = sampler._space

    def weights(prefix: list[int], state: int, weight: float) -> Iterator[float]:
        if len(prefix) == BLOCK or prefix[-1:] == [space.bos]:
            yield weight
            return
        logs = model.inference.next_logs([prefix])[0]
        choice = Choice(logs, state, len(prefix), sampler._drawing, sampler._rules)
        weight *= math.fsum(math.exp(logs[token]) for token in choice.weights)
        for token in choice.weights:
            yield from weights([*prefix, token], choice.after(token), weight)

    heaviest = max(weights([], space.automaton.start, 1.0))
    assert min(heaviest, 1.0) <= math.exp(sampler._bound()) <= heaviest * (1.0 + 2.0 * sampling.SLACK) ** BLOCK


def test_the_bound_leaves_room_for_rounding_in_f32(model: GPT) -> None:
    sampler = model.sampler(*split_options({"pattern": "a.*", "temperature": 1.0}), seed=0)
    assert math.exp(sampler._bound()) == pytest.approx(1.0001 * model.next_probabilities("")["a"], rel=1e-6)


def test_what_is_never_drawn_at_a_low_temperature_has_a_bound_there() -> None:
    model = tapegpt.train(["aaaa"] * 9 + ["b"], steps=100, n_embd=4, n_head=2, block_size=4)
    assert all(text.startswith("b") for text in model.generate(5, pattern="b.*", temperature=0.001, seed=1))


def test_the_bound_is_close_behind_a_long_prefix(small: GPT) -> None:
    prefix = "cab" * 400
    sampler = small.sampler(*split_options({"prefix": prefix, "max_length": 1300}), seed=0)
    weights = sampler._draw(2).log_weights
    assert weights[0] == pytest.approx(weights[1], rel=1e-6)
    assert -0.2 < weights[0] - sampler._bound() < 0 < -700 - weights[0]  # none is a number but by its log
    assert all(text.startswith(prefix) for text in sampler.strings(3))


def test_exact_strings_are_shorter_than_the_block_as_often_as_the_model_writes_such(model: GPT) -> None:
    everything = probabilities(model)
    strings = model.generate(4_000, max_length=BLOCK - 2, temperature=1.0, seed=3, unbiased=True)
    assert_drawn_from(conditioned(everything, [text for text in everything if len(text) <= BLOCK - 2]), strings)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "block_size"), [("exact", 1), ("fast", 2), ("exact", 3)])
def test_strings_beyond_the_block_have_the_probabilities_of_their_scores(engine: Any, block_size: int) -> None:
    model = tapegpt.train(DOCUMENTS, engine=engine, n_embd=8, n_head=2, block_size=block_size, steps=30)
    everything = probabilities(model)
    for score in model.score(list(everything)):
        surprises = score.surprises if len(score.text) < BLOCK else score.surprises[:-1]
        assert math.exp(-math.fsum(surprises)) == pytest.approx(everything[score.text], rel=1e-4)
    assert_drawn_from(everything, model.generate(10_000, max_length=BLOCK, temperature=1.0, seed=1))
    for pattern in PATTERNS[2:4]:
        fitting = [text for text in everything if re.fullmatch(pattern, text)]
        drawn = model.generate(2_000, pattern=pattern, max_length=BLOCK, temperature=1.0, seed=3, unbiased=True)
        assert_drawn_from(conditioned(everything, fitting), drawn)
    assert set(model.generate(1000, max_length=BLOCK, distinct=True, seed=0)) == set(everything)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_probability_of_a_constraint_is_estimated_within_its_error(model: GPT, pattern: str) -> None:
    true = math.fsum(p for text, p in probabilities(model).items() if re.fullmatch(pattern, text))
    estimate = model.estimate_probability(pattern=pattern)
    assert abs(estimate.probability - true) <= SIGMAS * estimate.error + 1e-5
    assert estimate.error < 0.01


def test_token_by_token_strings_are_led_to_where_the_constraints_are_met(small: GPT) -> None:
    """What lies ahead counts by what the model's strings are like; where every string is met it is all the same."""
    for pattern, is_led in ((".*bbb", True), (".*", False)):
        constraints, drawing = split_options({"pattern": pattern, "temperature": 1.0, "unbiased": False})
        space = small.sampler(constraints, drawing, seed=1)._space
        rules, states = space.rules, space.automaton.states
        prospects = [rules.ahead[length * states + rules.start] for length in range(BLOCK - 2)]
        assert all(-20.0 < prospect < -0.1 for prospect in prospects) == is_led
        assert prospects == sorted(prospects, reverse=True)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_what_lies_ahead_counts_as_much_at_every_temperature(small: GPT, temperature: float) -> None:
    """A batch draws as Python does; at temperature 0 the first string of all."""
    pattern = ".*bbb"
    asked = split_options({"pattern": pattern, "unbiased": False, "temperature": temperature})
    sampler = small.sampler(*asked, seed=1)
    space, drawn = sampler._space, sampler._draw(20)
    for tokens, log_weight in zip(drawn.strings, drawn.log_weights, strict=True):
        state, expected = space.automaton.start, 0.0
        for length, token in enumerate([*tokens, space.bos][:BLOCK]):
            logs = small.inference.next_logs([list(tokens[:length])])[0]
            choice = Choice(logs, state, length, sampler._drawing, sampler._rules)
            expected += choice.log_weight(token)
            state = choice.after(token)
        assert math.isclose(log_weight, expected, rel_tol=1e-4, abs_tol=1e-4)
    assert small.generate(1, pattern=pattern, temperature=0) == small.generate(
        1, pattern=pattern, temperature=0, distinct=True
    )


@pytest.mark.parametrize("draws", [2, 3, 200])
def test_the_error_of_an_estimate_is_that_of_a_mean(small: GPT, draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_BATCH", 64)
    drawn: list[float] = []

    def noting(self: Sampler, count: int) -> Drawn:
        found = self._inference.draw(self._rng.streams(count), self._drawing, self._rules)
        drawn.extend(map(math.exp, found.log_weights))
        return found

    monkeypatch.setattr(Sampler, "_draw", noting)
    estimate = small.estimate_probability(pattern="a.*", draws=draws)
    assert len(drawn) == estimate.draws == draws
    assert estimate.probability == pytest.approx(mean(drawn))
    assert estimate.error == pytest.approx(stdev(drawn) / math.sqrt(draws))


def test_the_probability_counts_novelty_too(small: GPT) -> None:
    true = math.fsum(p for text, p in probabilities(small).items() if text not in DOCUMENTS)
    estimate = small.estimate_probability(novel=True)
    assert abs(estimate.probability - true) <= SIGMAS * estimate.error


def test_an_impossible_constraint_has_no_probability(small: GPT) -> None:
    assert small.estimate_probability(pattern="a{9}").probability == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("unbiased", [False, True, None])
def test_unique_gives_every_string_there_is_and_ends(small: GPT, temperature: float, unbiased: bool | None) -> None:
    if unbiased and not temperature:
        return
    strings = small.generate(10_000, distinct=True, temperature=temperature, unbiased=unbiased, seed=0)
    assert len(strings) == len(set(strings)) == sum(3**length for length in range(BLOCK + 1))


@pytest.mark.slow
def test_unique_draws_without_replacement(small: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = conditioned(probabilities(small), ["ab", "cab", "bb", "a"])
    expected = {
        f"{first} {second}": p * q / (1 - p)
        for (first, p), (second, q) in product(everything.items(), repeat=2)
        if first != second
    }
    for worth in (sampling.WORTH, 0.5):  # in batches, and in the order of a race
        monkeypatch.setattr(sampling, "WORTH", worth)
        drawn = [
            " ".join(small.generate(2, pattern="ab|cab|bb|a", distinct=True, unbiased=True, temperature=1.0, seed=seed))
            for seed in range(many(300, few=100))
        ]
        assert_drawn_from(expected, drawn)


def test_the_memory_of_many_different_strings_is_told_before_the_first(small: GPT) -> None:
    with pytest.warns(tapegpt.TapeGPTWarning, match=r"^up to 3\.0 GB of memory: strings are kept"):
        next(iter(small.stream(10_000_000, distinct=True, seed=1)))


def test_a_string_is_the_same_however_many_are_asked_for(small: GPT) -> None:
    for wishes in ({"distinct": True}, {"novel": True}, {"pattern": ".*b"}, {"unbiased": True, "suffix": "c"}):
        long = small.generate(70, seed=5, temperature=1.0, **wishes)
        assert small.generate(30, seed=5, temperature=1.0, **wishes) == long[:30]
        assert small.generate(30, seed=6, temperature=1.0, **wishes) != long[:30]


@pytest.mark.parametrize("worth", [sampling.WORTH, 0.001])  # in batches, and in the order of a race
def test_novel_strings_are_not_in_the_training_data(small: GPT, worth: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "WORTH", worth)
    everything = probabilities(small)
    strings = small.generate(4_000, novel=True, temperature=1.0, seed=1)
    assert_drawn_from(conditioned(everything, [text for text in everything if text not in DOCUMENTS]), strings)


@pytest.mark.parametrize("distance", [1, 2])
def test_novel_strings_are_further_from_all_training_data(small: GPT, distance: int) -> None:
    far = {text for text in probabilities(small) if min(edits(text, known) for known in DOCUMENTS) > distance}
    strings = small.generate(500, novel=distance, distinct=True, temperature=1.0, seed=1)
    assert set(strings) == far


def test_what_is_left_of_a_constraint_comes_and_the_rest_is_said(small: GPT) -> None:
    with pytest.warns(tapegpt.TapeGPTWarning, match="^only 1 string meets the constraints, 5 were requested$"):
        assert small.generate(5, pattern="ab|cab|bc", novel=True, distinct=True) == ["bc"]
    with pytest.warns(tapegpt.TapeGPTWarning, match="^no string meets the constraints, 5 were requested$") as caught:
        assert small.generate(5, pattern="x") == []
    assert caught[0].filename == __file__
    for far in (max(map(len, probabilities(small))), 2**31, 2**70):  # where to look for one would take for ever
        with pytest.warns(tapegpt.TapeGPTWarning, match="^no string meets the constraints, 5 were requested$"):
            assert small.generate(5, novel=far) == []


@pytest.mark.slow
@settings(max_examples=many(150))
@given(
    prefix=st.text(CHARACTERS, max_size=2),
    suffix=st.text(CHARACTERS, max_size=2),
    pattern=st.none() | st.sampled_from(PATTERNS),
    lengths=st.tuples(st.integers(0, BLOCK), st.integers(0, BLOCK)).map(sorted),
    avoid=st.lists(st.text("aBc", min_size=1, max_size=2), max_size=2),
    novel=st.sampled_from([False, True, 1]),
    unbiased=st.sampled_from([True, False, None]),
    seed=st.integers(),
)
def test_all_constraints_hold_together_and_all_that_fits_comes(
    small: GPT,
    prefix: str,
    suffix: str,
    pattern: str | None,
    lengths: list[int],
    avoid: list[str],
    novel: bool | int,
    unbiased: bool | None,
    seed: int,
) -> None:
    near = {
        known[:i] + c + known[j:] for known in DOCUMENTS for i in range(5) for j in (i, i + 1) for c in ["", *"abc"]
    }
    known = set() if novel is False else set(DOCUMENTS) if novel is True else near
    every = ("".join(text) for length in range(BLOCK + 1) for text in product(CHARACTERS, repeat=length))
    fitting = {
        text
        for text in every
        if text.startswith(prefix)
        and text.endswith(suffix)
        and (pattern is None or re.fullmatch(pattern, text))
        and lengths[0] <= len(text) <= lengths[1]
        and not any(word.lower() in text for word in avoid)
        and text not in known
    }
    strings = small.generate(
        200,
        prefix=prefix,
        suffix=suffix,
        pattern=pattern,
        min_length=lengths[0],
        max_length=lengths[1],
        avoid=avoid,
        novel=novel,
        unbiased=unbiased,
        distinct=True,
        seed=seed,
    )
    assert len(strings) == len(set(strings))
    assert set(strings) == fitting


@settings(max_examples=many(100))
@given(
    top_k=st.integers(0, 4),
    top_p=st.floats(0.01, 1.0),
    min_p=st.floats(0.0, 1.0),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 3.0]),
    pattern=st.none() | st.sampled_from(PATTERNS),
)
def test_truncation_leaves_the_same_strings_in_batches_and_in_a_race(
    small: GPT, top_k: int, top_p: float, min_p: float, temperature: float, pattern: str | None
) -> None:
    wishes = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "temperature": temperature, "pattern": pattern}
    side_by_side = set(small.generate(500, seed=1, **wishes))  # type: ignore[arg-type]
    everything = small.generate(1000, seed=1, distinct=True, **wishes)  # type: ignore[arg-type]
    if temperature:
        assert side_by_side <= set(everything)
    else:
        assert side_by_side == {everything[0]}


@settings(max_examples=many(500))
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=9),
    st.integers(0, 10),
    st.sampled_from([1 / 8, 1 / 2, 3 / 4, 1.0]),
    st.sampled_from([0.0, 1 / 4, 1 / 2, 1.0]),
)
def test_truncation_leaves_what_each_rule_leaves_of_the_one_before(
    weights: list[int], top_k: int, top_p: float, min_p: float
) -> None:
    kept = list(enumerate(weight / 64 for weight in weights))  # sums without rounding
    found = truncate(kept, Drawing(top_k=top_k, top_p=top_p, min_p=min_p))
    kept = [(token, p) for token, p in kept if not top_k or sum(other > p for _, other in kept) < top_k]
    mass = sum(p for _, p in kept)
    kept = [(token, p) for token, p in kept if sum(other for _, other in kept if other > p) < top_p * mass]
    assert found == [(token, p) for token, p in kept if p >= min_p * max(weights) / 64]


def test_temperature_0_gives_the_most_probable_next_character(small: GPT) -> None:
    text = ""
    while len(text) < BLOCK and (best := next(iter(small.next_probabilities(text)))):
        text += best
    assert small.generate(3, temperature=0) == [text] * 3


@pytest.mark.slow
@pytest.mark.skipif(not can_start_threads(), reason="needs threads")
def test_threads_share_a_model(small: GPT) -> None:
    def work(seed: int) -> list[str]:
        return [
            *small.generate(50, pattern=".*b", distinct=True, seed=seed),
            *small.generate(50, seed=seed),
            *[f"{nats:.9f}" for nats in small.score(DOCUMENTS).nats],
            *small.names_for([str(seed)], secret=b"0" * 16, novel=False),
        ]

    alone = [work(seed) for seed in range(many(24, few=8))]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(len(alone)))) == alone
        strings = [text for part in pool.map(lambda _: small.generate(20, distinct=True), range(8)) for text in part]
    assert len(strings) == 160  # without a seed, from one generator


def test_a_stream_goes_on_for_as_long_as_it_is_read(small: GPT) -> None:
    stream = small.stream(prefix="ca", temperature=1.0)
    assert all(next(stream).startswith("ca") for _ in range(300))
    assert set(small.stream(prefix="ab", distinct=True)) == {"ab", *[f"ab{x}{y}" for x in "abc" for y in ["", *"abc"]]}


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"prefix": "x"}, "prefix 'x': the model does not know 'x'"),
        ({"prefix": "aaaaa"}, "prefix 'aaaaa': strings have at most 4 characters"),
        ({"min_length": 5}, "min_length 5: strings have at most 4 characters: give a larger max_length"),
        ({"prefix": "a" * 7, "max_length": 6}, "prefix 'aaaaaaa': strings have at most 6 characters"),
        ({"max_length": 1 << 21}, "max_length must be a whole number from 0 to 1,048,576, not 2097152"),
        ({"min_length": 3, "max_length": 2}, "min_length 3 is above max_length 2"),
        ({"pattern": "("}, "pattern"),
        ({"top_k": -1}, "top_k must be a whole number from 0 to 1,114,112, not -1"),
        ({"top_p": 0.0}, "top_p must be a number above 0, at most 1, not 0.0"),
        ({"min_p": 2}, "min_p must be a number from 0 to 1, not 2"),
        ({"temperature": -1}, "temperature must be 0 or a number from 0.001 to 1000, not -1"),
        ({"avoid": "abc"}, "avoid must be several strings"),
        ({"avoid": [""]}, "avoid must be words, none of them empty"),
        ({"novel": -1}, "novel must be True, False or a number of edits, not -1"),
        ({"unbiased": True, "top_k": 2}, "leave out top_k"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(small: GPT, wishes: dict[str, object], message: str) -> None:
    with pytest.raises(tapegpt.TapeGPTError, match=re.escape(message)):
        small.generate(1, **wishes)  # type: ignore[arg-type]


def test_an_option_that_there_is_not_is_a_type_error_that_names_the_nearest(small: GPT) -> None:
    with pytest.raises(TypeError, match=r"generate got an unexpected argument 'patern': did you mean 'pattern'\?"):
        small.generate(1, patern="a")  # type: ignore[call-arg]


def test_what_the_model_hardly_ever_writes_is_drawn_place_by_place_or_refused(
    small: GPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = {"pattern": "cccc|bbb[bc]", "temperature": 0.05}
    monkeypatch.setattr(sampling, "MAX_VAIN", 64)
    monkeypatch.setattr(sampling, "BOUND_LOOKS", 1)
    with pytest.warns(tapegpt.TapeGPTWarning, match="^the model hardly ever meets the constraints: .*token by token"):
        assert len(small.generate(50, seed=1, **rare)) == 50  # type: ignore[arg-type]
    monkeypatch.setattr(sampling, "MAX_PREFIXES", 2)
    monkeypatch.setattr(sampling, "LEAST_SHARE", 1.0)
    with pytest.raises(tapegpt.TapeGPTError, match=r"^after 0 strings: hardly any more come, .*: leave out unbiased"):
        small.generate(50, unbiased=True, **rare)  # type: ignore[arg-type]
