"""OpenAI's own client speaks to the studio: completions, streams, log-probabilities, errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tapegpt
from tests.properties import many
from tests.studio.server import NAMES, Client, running

if TYPE_CHECKING:
    import openai

quick = settings(
    max_examples=many(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
BLOCK = 8


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running() as client:
        yield client


@pytest.fixture(scope="module")
def key(client: Client) -> str:
    return str(client.run()["id"])


@pytest.fixture(scope="module")
def ai(client: Client, key: str) -> Iterator[openai.OpenAI]:
    import openai

    with openai.OpenAI(base_url=f"http://127.0.0.1:{client.port}/v1", api_key="none", max_retries=0) as ai:
        yield ai


@pytest.fixture(scope="module")
def model() -> tapegpt.GPT:
    return tapegpt.train(NAMES, n_embd=8, n_head=2, block_size=BLOCK, steps=60)


@pytest.mark.slow
def test_a_completion_is_what_the_model_says_with_this_prefix(ai: openai.OpenAI, model: tapegpt.GPT) -> None:
    found = ai.completions.create(model="latest", prompt="na", n=5, seed=3, temperature=0.7, max_tokens=BLOCK)
    strings = model.generate(5, seed=3, prefix="na", temperature=0.7)
    assert ["na" + choice.text for choice in found.choices] == strings
    assert [choice.index for choice in found.choices] == list(range(5))
    assert found.object == "text_completion"
    assert found.usage is not None
    told = (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens)
    given_tokens = sum(len(text) - 2 for text in strings)
    assert told == (2, given_tokens, 2 + given_tokens)


@pytest.mark.slow
def test_an_end_is_the_models_or_a_cut(ai: openai.OpenAI, model: tapegpt.GPT) -> None:
    strings = model.generate(200, seed=1, temperature=1.0)
    found = ai.completions.create(model="latest", prompt="", n=100, seed=1, max_tokens=4)
    for choice, text in zip(found.choices, strings, strict=False):
        assert (choice.text, choice.finish_reason) == (text[:4], "length" if len(text) > 4 else "stop")
    whole = ai.completions.create(model="latest", prompt="", n=100, seed=1, max_tokens=100)
    strings = model.generate(100, seed=1, temperature=1.0, max_length=100)
    for choice, text in zip(whole.choices, strings, strict=True):
        assert (choice.text, choice.finish_reason) == (text, "length" if len(text) == 100 else "stop")
    assert max(map(len, strings)) > BLOCK


def test_a_completion_goes_on_beyond_the_block_by_windows(
    ai: openai.OpenAI, client: Client, model: tapegpt.GPT
) -> None:
    asked: Any = {"model": "latest", "prompt": "nathan", "seed": 2, "max_tokens": 20, "logprobs": 0}
    choices = ai.completions.create(**asked, n=20).choices
    strings = ["nathan" + choice.text for choice in choices]
    assert strings == model.generate(20, seed=2, prefix="nathan", temperature=1.0, max_length=26)
    assert max(map(len, strings)) > BLOCK
    for choice, score in zip(choices, model.score(strings), strict=True):
        logs = choice.logprobs.token_logprobs if choice.logprobs else None
        assert logs == pytest.approx([-nats for nats in score.surprises[6:-1]], abs=1e-4)
    long = ai.completions.create(model="latest", prompt="an" * BLOCK, max_tokens=3)
    assert len(long.choices[0].text) <= 3
    refused = client.ask("POST", "/v1/completions", {**asked, "max_tokens": 2000}, 413)
    assert "the length of strings is 2,006, the limit of this studio is 2,000" in refused["error"]["message"]


def test_prompts_may_be_several(ai: openai.OpenAI, model: tapegpt.GPT) -> None:
    found = ai.completions.create(model="latest", prompt=["a", "bo"], n=2, seed=5, max_tokens=BLOCK, echo=True)
    strings = [*model.generate(2, seed=5, prefix="a", temperature=1.0)]
    strings += model.generate(2, seed=6, prefix="bo", temperature=1.0)
    assert [choice.text for choice in found.choices] == strings
    assert found.usage is not None
    assert found.usage.completion_tokens == sum(map(len, strings)) - 2 * 3


def test_a_stream_is_the_completion_in_pieces(ai: openai.OpenAI) -> None:
    asked: Any = {"model": "latest", "prompt": "a", "n": 3, "seed": 2, "max_tokens": 5, "logprobs": 2}
    whole = ai.completions.create(**asked)
    pieces = list(ai.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert pieces.pop().usage == whole.usage
    for choice in whole.choices:
        own = [piece.choices[0] for piece in pieces if piece.choices[0].index == choice.index]
        assert "".join(piece.text for piece in own) == choice.text
        assert [piece.finish_reason for piece in own] == [None] * (len(own) - 1) + [choice.finish_reason]
        logs = [log for piece in own if piece.logprobs for log in piece.logprobs.token_logprobs or ()]
        assert choice.logprobs is not None
        assert logs == choice.logprobs.token_logprobs
    assert len({piece.id for piece in pieces}) == 1


def test_a_stop_ends_a_completion_before_it(ai: openai.OpenAI) -> None:
    asked: Any = {"model": "latest", "prompt": "", "n": 60, "seed": 4, "max_tokens": BLOCK}
    free = [choice.text for choice in ai.completions.create(**asked).choices]
    for stop in ("n", ["na", "t", "v"]):
        stopped = ai.completions.create(**asked, stop=stop).choices
        for choice, text in zip(stopped, free, strict=True):
            places = [text.find(each) for each in ([stop] if isinstance(stop, str) else stop) if each in text]
            assert choice.text == (text[: min(places)] if places else text)
            assert not places or choice.finish_reason == "stop"


def test_log_probabilities_are_the_models_own(ai: openai.OpenAI, model: tapegpt.GPT) -> None:
    found = ai.completions.create(model="latest", prompt="an", seed=1, max_tokens=3, logprobs=3, echo=True).choices[0]
    logs = found.logprobs
    assert logs is not None
    assert logs.tokens == list(found.text)
    assert logs.text_offset == list(range(len(found.text)))
    assert logs.top_logprobs is not None
    assert logs.token_logprobs is not None
    for place, (character, log) in enumerate(zip(found.text, logs.token_logprobs, strict=True)):
        expected = model.next_probabilities(found.text[:place])
        assert log == pytest.approx(math.log(expected[character]), abs=1e-5)
        assert list(logs.top_logprobs[place]) == list(dict.fromkeys([*list(expected)[:3], character]))
        assert logs.top_logprobs[place][character] == log
    plain = ai.completions.create(model="latest", prompt="an", seed=1, max_tokens=3, logprobs=0).choices[0].logprobs
    assert plain is not None
    assert plain.token_logprobs == logs.token_logprobs[2:]
    assert plain.top_logprobs is not None
    assert [list(each) for each in plain.top_logprobs] == [[character] for character in found.text[2:]]


def test_a_prompt_alone_can_be_judged(ai: openai.OpenAI) -> None:
    found = ai.completions.create(model="latest", prompt="anna", max_tokens=0, echo=True, logprobs=1).choices[0]
    assert found.text == "anna"
    assert found.logprobs is not None
    assert len(found.logprobs.tokens or ()) == 4


def test_a_suffix_is_what_comes_after(ai: openai.OpenAI) -> None:
    found = ai.completions.create(model="latest", prompt="n", suffix="n", n=20, seed=1, max_tokens=BLOCK, echo=False)
    assert all(len(choice.text) <= BLOCK for choice in found.choices)
    assert any(choice.text for choice in found.choices)


def test_models_are_the_runs_and_the_latest(ai: openai.OpenAI, client: Client, key: str) -> None:
    listed = [each.id for each in ai.models.list()]
    assert {key, "latest"} <= set(listed)
    assert ai.models.retrieve("latest").id == "latest"
    assert ai.models.retrieve(key).owned_by == "tapegpt"
    assert ai.completions.create(model=key, prompt="a").model == key
    client.ask("GET", "/v1/models")


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"prompt": [1, 2]}, "token"),
        ({"prompt": [[1, 2]]}, "token"),
        ({"prompt": "é"}, "does not know"),
        ({"best_of": 3}, "best_of"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"temperature": 3.0}, "temperature"),
        ({"n": 0}, "`$.n`"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
def test_what_cannot_be_is_refused_as_openai_refuses(ai: openai.OpenAI, asked: Any, word: str) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as caught:
        ai.completions.create(**{"model": "latest", "prompt": "a", **asked})
    assert word in str(caught.value)
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_model_is_not_found(ai: openai.OpenAI) -> None:
    import openai

    with pytest.raises(openai.NotFoundError):
        ai.completions.create(model="gpt-2", prompt="a")
    with pytest.raises(openai.NotFoundError):
        ai.models.retrieve("gpt-2")


def test_the_latest_is_the_run_that_was_used_last() -> None:
    with running() as client:
        keys = [client.run(seed=seed)["id"] for seed in (1, 2)]
        asked = {"model": "latest", "prompt": "", "n": 20, "seed": 3}
        texts = {}
        for key in (*keys, keys[0]):
            texts[key] = [
                each["text"] for each in client.ask("POST", "/v1/completions", {**asked, "model": key})["choices"]
            ]
            latest = [each["text"] for each in client.ask("POST", "/v1/completions", asked)["choices"]]
            assert latest == texts[key]
        assert texts[keys[0]] != texts[keys[1]]


def test_without_a_run_there_is_no_latest() -> None:
    with running() as client:
        assert client.ask("GET", "/v1/models")["data"] == []
        client.ask("POST", "/v1/completions", {"model": "latest"}, 404)


texts = st.text(alphabet="anotbé", max_size=9)


@pytest.mark.slow
@quick
@given(
    body=st.fixed_dictionaries(
        {"model": st.just("latest")},
        optional={
            "prompt": st.none() | texts | st.lists(texts | st.integers(0, 9), max_size=3),
            "suffix": st.none() | texts,
            "max_tokens": st.none() | st.integers(-1, 12),
            "temperature": st.none() | st.sampled_from([0, 0.5, 2, 2.1, 1e-9]),
            "top_p": st.none() | st.sampled_from([0, 0.5, 1]),
            "n": st.none() | st.integers(0, 4),
            "logprobs": st.none() | st.integers(-1, 6),
            "echo": st.none() | st.booleans(),
            "stop": st.none() | texts | st.lists(texts, max_size=5),
            "seed": st.none() | st.integers(-1, 2**53),
            "best_of": st.none() | st.integers(0, 2),
            "user": st.none() | texts,
        },
    )
)
def test_whatever_is_asked_is_answered_or_refused(client: Client, key: str, body: dict[str, Any]) -> None:
    response = client.post("/v1/completions", json=body)
    found = client.checked("POST", "/v1/completions", response)
    if response.status_code != 200:
        assert response.status_code == 400
        return
    prompt, most = body.get("prompt") or "", body.get("max_tokens", 16)
    prompts = prompt if isinstance(prompt, list) else [prompt]
    assert len(found["choices"]) == (body.get("n") or 1) * len(prompts)
    for choice in found["choices"]:
        asked = prompts[choice["index"] // (body.get("n") or 1)]
        assert not body.get("echo") or choice["text"].startswith(asked)
        assert len(choice["text"]) <= (BLOCK if most is None else most) + len(asked) * bool(body.get("echo"))
