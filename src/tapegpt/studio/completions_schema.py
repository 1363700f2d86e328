"""What OpenAI's clients send and are given, as structs. Source: OpenAI's API reference, "Completions" and "Models"."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from tapegpt.studio.requests import Request, Text, Whole
from tapegpt.studio.responses import Response

Penalty = Annotated[float, Meta(ge=-2, le=2)]


class StreamOptions(Request):
    """What a stream holds besides completions."""

    include_usage: bool = False
    include_obfuscation: bool = False


class CompletionRequest(Request):
    """OpenAI's request; what the studio cannot do must be left out or have its default."""

    model: Annotated[str, Meta(max_length=100)]
    prompt: Text | Annotated[list[Text | int | list[int]], Meta(min_length=1, max_length=100)] | None = None
    suffix: Text | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=10_000)] | None = 16
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = 1.0
    n: Annotated[int, Meta(ge=1, le=128)] | None = 1
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = False
    stop: Text | Annotated[list[Text], Meta(max_length=4)] | None = None
    seed: Whole | None = None
    best_of: int | None = None
    presence_penalty: Penalty | None = 0.0
    frequency_penalty: Penalty | None = 0.0
    logit_bias: dict[str, float] | None = None
    user: str | None = None


class LogProbs(Response):
    """The model's own log-probabilities, at temperature 1, token by token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Choice(Response):
    """A completion; in a stream a piece of one, whose reason to end comes with its last."""

    text: str
    index: int
    logprobs: LogProbs | None
    finish_reason: Literal["stop", "length"] | None


class Usage(Response):
    """Characters."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(Response):
    """Completions, or in a stream pieces of them."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Model(Response):
    """A run, as OpenAI lists models."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(Response):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class ApiErrorDetail(Response):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ApiError(Response):
    """An error in OpenAI's form."""

    error: ApiErrorDetail
