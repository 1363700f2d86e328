"""OpenAI's completions and models, for clients that know those. A token is one of the model's, a prompt a prefix.

A prompt and its completion are one string of the model, cut where `max_tokens` tokens have come; with a `suffix`
the string ends with it, and the completion is what lies between. Not here: chats, which need a model that has seen
some.
"""

from __future__ import annotations

import time
from itertools import accumulate
from secrets import token_urlsafe

from msgspec.json import encode
from msgspec.structs import replace
from starlette.responses import Response, StreamingResponse

from tapegpt.data.labels import Labelled, labels_of
from tapegpt.errors import TapeGPTError
from tapegpt.studio.limits import RefusedError, too_large
from tapegpt.studio.openapi import EVENTS, Endpoint
from tapegpt.studio.questions import draw
from tapegpt.studio.requests import CompletionRequest
from tapegpt.studio.responses import ApiError, Choice, Completion, LogProbs, Model, Models, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from starlette.requests import Request

    from tapegpt.inference.constraints import GenerateOptions
    from tapegpt.models.trained import GPT
    from tapegpt.studio.store import KeptRun
    from tapegpt.studio.studio import Studio
    from tapegpt.studio.work import Deadline

LATEST = "latest"  # the name of whichever run was used last
MAX_CHOICES = 1000  # completions in a call


class Completions:
    """The functions behind the paths."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def endpoints(self) -> list[Endpoint]:
        """The table of them."""
        example = {"model": LATEST, "prompt": "em", "max_tokens": 8}
        asked, path, events = CompletionRequest, "/v1/completions", (Completion,)
        return [
            Endpoint("GET", "/v1/models", self.models, Models, error=ApiError),
            Endpoint("GET", "/v1/models/{model}", self.model, Model, error=ApiError),
            Endpoint("POST", path, self.complete, Completion, asked, example, events=events, error=ApiError),
        ]

    async def models(self, _: Request) -> Models:
        """The runs, and the name of the one that was used last."""
        runs = list(self._studio.runs)
        named = [(run.id, run.created) for run in runs] + [(LATEST, run.created) for run in runs[-1:]]
        return Models(object="list", data=[_model(*each) for each in named])

    async def model(self, request: Request) -> Model:
        """A run, as OpenAI lists models."""
        name = request.path_params["model"]
        return _model(name, self._run(name).created)

    async def complete(self, request: Request, wanted: CompletionRequest) -> Response | Completion:
        """Completions of each prompt, n of each; as events where stream is true."""
        run, prompts = self._run(wanted.model), _prompts(wanted)
        _check(wanted, len(prompts))
        self._studio.limits.check_length(max([_longest(run.model, wanted, prompt) for prompt in prompts]))
        texts = await self._studio.short(request, lambda deadline: _choices(run.model, wanted, prompts, deadline))
        completion = Completion(
            id=f"cmpl-{token_urlsafe(12)}",
            object="text_completion",
            created=int(time.time()),
            model=wanted.model,
            choices=texts,
        )
        usage = _usage(run.model, prompts, texts, wanted)
        if wanted.stream:
            return StreamingResponse(_stream(completion, usage, wanted), media_type=EVENTS)
        completion.usage = usage
        return completion

    def _run(self, name: str) -> KeptRun:
        """The run of this name; raises `RefusedError` where there is none."""
        runs = list(self._studio.runs)
        if name != LATEST:
            return self._studio.runs[name]
        if not runs:
            raise RefusedError(404, "not_found", "there is no model yet: train one, on the page or by POST /api/runs")
        return runs[-1]


def _model(name: str, created: int) -> Model:
    return Model(id=name, object="model", created=created, owned_by="tapegpt")


def _prompts(wanted: CompletionRequest) -> list[str]:
    """The prompts; raises `TapeGPTError` for lists of tokens."""
    given = wanted.prompt if isinstance(wanted.prompt, list) else [wanted.prompt or ""]
    prompts = [prompt for prompt in given if isinstance(prompt, str)]
    if len(prompts) < len(given):
        raise TapeGPTError("prompt must be a string or a list of strings, not tokens")
    return prompts


def _check(wanted: CompletionRequest, prompts: int) -> None:
    """Raise `TapeGPTError` for what the studio cannot do."""
    n = wanted.n or 1
    for name, refused in (
        ("best_of", wanted.best_of not in (None, n)),
        ("presence_penalty", bool(wanted.presence_penalty)),
        ("frequency_penalty", bool(wanted.frequency_penalty)),
        ("logit_bias", bool(wanted.logit_bias)),
    ):
        if refused:
            raise TapeGPTError(f"{name} is not supported by this server: leave it out")
    if n * prompts > MAX_CHOICES:
        raise too_large(f"{n * prompts:,} completions are requested, the limit is {MAX_CHOICES:,}: ask for fewer")


def _longest(model: GPT, wanted: CompletionRequest, prompt: str) -> int:
    """The tokens that a string may have: as many as are wanted, beyond the block too, or else those of the block."""
    whole = len(prompt) + (wanted.max_tokens or 0) + len(wanted.suffix or "")
    return max(whole, model.config.block_size - len(model.vocabulary.labels))


def _choices(model: GPT, wanted: CompletionRequest, prompts: Sequence[str], deadline: Deadline) -> list[Choice]:
    n, choices = wanted.n or 1, list[Choice]()
    for number, prompt in enumerate(prompts):
        seed = None if wanted.seed is None else wanted.seed + number
        for text in _strings(model, wanted, prompt, n, seed, deadline):
            choices.append(_choice(model, wanted, prompt, text, len(choices)))
            deadline.check()
    return choices


def _strings(
    model: GPT, wanted: CompletionRequest, prompt: str, n: int, seed: int | None, deadline: Deadline
) -> list[str]:
    suffix, widest = wanted.suffix or "", max(map(len, model.vocabulary))
    options: GenerateOptions = {
        "prefix": prompt,
        "suffix": suffix,
        "min_length": (len(prompt) + len(suffix)) // widest,
        "max_length": _longest(model, wanted, prompt),
        "temperature": 1.0 if wanted.temperature is None else wanted.temperature,
        "top_p": 1.0 if wanted.top_p is None else wanted.top_p,
    }
    texts, notes = draw(model, n, seed, options, deadline)
    if len(texts) < n:
        raise TapeGPTError(notes[0])
    return texts


def _choice(model: GPT, wanted: CompletionRequest, prompt: str, whole: str, index: int) -> Choice:
    """A string as a completion: what comes between prompt and suffix, up to a stop or `max_tokens`."""
    rest = whole[len(prompt) : len(whole) - len(wanted.suffix or "")]
    pieces, split = model.vocabulary.split(rest), model.vocabulary.split
    most = len(pieces) if wanted.max_tokens is None else wanted.max_tokens
    is_cut = len(pieces) > most or len(split(whole)) >= _longest(model, wanted, prompt)
    text, stops = "".join(pieces[:most]), [wanted.stop] if isinstance(wanted.stop, str) else wanted.stop or []
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    if ends:
        text, is_cut = text[: min(ends)], False
    shown = prompt + text if wanted.echo else text
    read = Labelled(prompt + text, labels_of(whole))
    logprobs = None if wanted.logprobs is None else _logprobs(model, read, shown, wanted.logprobs)
    return Choice(text=shown, index=index, logprobs=logprobs, finish_reason="length" if is_cut else "stop")


def _logprobs(model: GPT, whole: str, shown: str, top: int) -> LogProbs:
    """Of the tokens that are shown, the last ones of the whole."""
    tokens, pieces = model.vocabulary.encode(whole), list(model.vocabulary.split(shown))
    first = len(tokens) - len(pieces)
    rows = model.inference.next_logs([tokens[:position] for position in range(first, len(tokens))]) if shown else []
    named = model.vocabulary.names
    came = [(row[token], named[token]) for row, token in zip(rows, tokens[first:], strict=True)]
    best = [sorted(zip(row, named, strict=True), reverse=True)[:top] for row in rows]
    return LogProbs(
        tokens=pieces,
        token_logprobs=[log for log, _ in came],
        # the best ones, and what came: up to one more than requested
        top_logprobs=[{name: log for log, name in [*pairs, own]} for pairs, own in zip(best, came, strict=True)],
        text_offset=list(accumulate(map(len, pieces[:-1]), initial=0)) if pieces else [],
    )


def _usage(model: GPT, prompts: Sequence[str], choices: Sequence[Choice], wanted: CompletionRequest) -> Usage:
    asked, shown = (
        sum(map(len, model.vocabulary.split_all(texts))) for texts in (prompts, [choice.text for choice in choices])
    )
    given = shown - asked * (wanted.n or 1) if wanted.echo else shown
    return Usage(prompt_tokens=asked, completion_tokens=given, total_tokens=asked + given)


async def _stream(completion: Completion, usage: Usage, wanted: CompletionRequest) -> AsyncIterator[bytes]:
    """The completions, a character an event, each with its reason to end in its last."""
    with_usage = bool(wanted.stream_options and wanted.stream_options.include_usage)
    for choice in completion.choices:
        for piece in _pieces(choice):
            completion.choices = [piece]
            yield b"data: %s\n\n" % encode(completion)
    if with_usage:
        completion.choices, completion.usage = [], usage
        yield b"data: %s\n\n" % encode(completion)
    yield b"data: [DONE]\n\n"


def _pieces(choice: Choice) -> Iterator[Choice]:
    whole = choice.logprobs
    for position, piece in enumerate(whole.tokens if whole else choice.text):
        lists = whole and {name: [getattr(whole, name)[position]] for name in whole.__struct_fields__}
        yield replace(choice, text=piece, logprobs=lists and LogProbs(**lists), finish_reason=None)
    yield replace(choice, text="", logprobs=None)
