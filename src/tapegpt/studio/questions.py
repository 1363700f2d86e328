"""Endpoints about one run: its moments, parameters and code, what its model generates and expects, what taught it."""

from __future__ import annotations

from itertools import repeat
from secrets import randbits
from time import perf_counter

from tapegpt.inference.constraints import Drawing, split_options
from tapegpt.inference.explanation import explain
from tapegpt.studio import requests, responses
from tapegpt.studio.limits import too_large
from tapegpt.studio.openapi import Endpoint
from tapegpt.studio.work import TimedInference
from tapegpt.web.data import explanation_data, labelled, score_data, string_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starlette.requests import Request

    from tapegpt.inference.constraints import GenerateOptions
    from tapegpt.models.trained import GPT
    from tapegpt.studio.studio import Studio
    from tapegpt.studio.work import Deadline

MAX_SCORED = 200_000  # characters in a call
RUN = "/api/runs/{id}"
MOMENT = RUN + "/moments/{step:int}"


class Questions:
    """The functions behind the paths; each takes the request, and what was sent as structs."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def endpoints(self) -> list[Endpoint]:
        """The table of them."""
        some, strings, text = {"n": 5, "prefix": "ma", "novel": True}, {"strings": ["emma", "xqzt"]}, {"text": "emma"}
        return [
            Endpoint("GET", MOMENT, self.moment, responses.Moment, query=requests.MomentQuery),
            Endpoint("GET", f"{MOMENT}/matrices/{{name}}", self.matrix, responses.Matrix),
            Endpoint("POST", f"{RUN}/generate", self.generate, responses.Strings, requests.Generate, some),
            Endpoint("POST", f"{RUN}/score", self.score, responses.Scores, requests.ToScore, strings),
            Endpoint("POST", f"{RUN}/explain", self.explain, responses.Explanation, requests.ToExplain, text),
            Endpoint("POST", f"{RUN}/why", self.why, responses.Origins, requests.Why, text),
            Endpoint("GET", f"{RUN}/held-out", self.judge, responses.Judgement),
            Endpoint("GET", f"{RUN}/code", self.code, responses.Code, query=requests.CodeQuery),
        ]

    async def moment(self, request: Request, wanted: requests.MomentQuery) -> dict[str, Any]:
        """The model after so many steps: what it generates, how it reads a text."""
        kept, step = self._studio.run(request), request.path_params["step"]
        self._studio.limits.check_text(kept.model.config, kept.model.vocab_size, wanted.text)
        given = (wanted.text, wanted.temperature, wanted.label)
        return await self._studio.short(request, lambda _: kept.portrait.moment(step, *given))

    async def matrix(self, request: Request) -> dict[str, Any]:
        """A matrix of parameters after so many steps."""
        kept, step, name = self._studio.run(request), request.path_params["step"], request.path_params["name"]
        return await self._studio.short(request, lambda _: kept.portrait.matrix(step, name))

    async def explain(self, request: Request, wanted: requests.ToExplain) -> dict[str, Any]:
        """How a text is read, after so many steps or by the model as it came out."""
        kept, text, step = self._studio.run(request), wanted.text, wanted.step
        model = kept.model
        self._studio.limits.check_text(model.config, model.vocab_size, text)
        if isinstance(step, int):
            given = (text, Drawing.temperature, wanted.label)
            moment = await self._studio.short(request, lambda _: kept.portrait.moment(step, *given))
            read: dict[str, Any] = moment["explanation"]
            return read
        return await self._studio.short(
            request, lambda _: explanation_data(explain(model, labelled(model, text, wanted.label)))
        )

    async def why(self, request: Request, wanted: requests.Why) -> dict[str, Any]:
        """The training strings that taught the model a string, and those that pushed against it."""
        from tapegpt.analysis.attribution import attribute

        kept, started = self._studio.run(request), perf_counter()
        limits = self._studio.limits
        limits.check_work(3 * kept.tokens * kept.model.num_parameters, limits.seconds)
        found = await self._studio.long(
            request,
            lambda _: attribute(
                kept.model, labelled(kept.model, wanted.text, wanted.label), kept.recording, wanted.top
            ),
        )
        listed = {
            name: [
                {"document": str(each.document), "influence": each.influence, "steps": each.steps} for each in documents
            ]
            for name, documents in (("taught", found.taught), ("hindered", found.hindered))
        }
        return {**listed, "seconds": round(perf_counter() - started, 4)}

    async def judge(self, request: Request) -> dict[str, Any]:
        """How surprising the strings that are held out are to the model as it came out."""
        kept = self._studio.run(request)
        return await self._studio.short(request, lambda _: kept.judge())

    async def code(self, request: Request, wanted: requests.CodeQuery) -> dict[str, Any]:
        """An operation on its way to machine code."""
        from tapegpt.analysis.anatomy import code

        model = self._studio.run(request).model
        return await self._studio.long(request, lambda _: code(model, wanted.operation, wanted.stage))

    async def generate(self, request: Request, wanted: requests.Generate) -> dict[str, Any]:
        """Strings that the model generates, within constraints."""
        kept, started = self._studio.run(request), perf_counter()
        self._studio.limits.check_length(wanted.max_length)
        options: Any = {name: getattr(wanted, name) for name in wanted.__struct_fields__ if name not in ("n", "seed")}

        def task(deadline: Deadline) -> dict[str, Any]:
            texts, notes = draw(kept.model, wanted.n, wanted.seed, options, deadline)
            strings = []
            for text in texts:
                deadline.check()
                strings += string_data(kept.model, [text], kept.known)
            return {"strings": strings, "notes": notes, "seconds": round(perf_counter() - started, 4)}

        return await self._studio.short(request, task)

    async def score(self, request: Request, wanted: requests.ToScore) -> dict[str, Any]:
        """How surprising strings are to the model."""
        kept, limits = self._studio.run(request), self._studio.limits
        counts = kept.model.counts
        tokens = sum(map(len, wanted.strings))
        if tokens > MAX_SCORED:
            raise too_large(f"the strings have more than {MAX_SCORED:,} characters: send fewer at a time")
        each = len(counts.counts) if counts else 1
        limits.check_work(each * tokens * kept.model.num_parameters, limits.search_seconds)

        def task(_: Deadline) -> list[dict[str, Any]]:
            classes = kept.model.classify(wanted.strings) if counts else repeat(dict[tuple[str, ...], float]())
            return [
                score_data(score, found.items())
                for score, found in zip(kept.scores(wanted.strings, wanted.label), classes, strict=False)
            ]

        return {"scores": await self._studio.short(request, task)}


def draw(
    model: GPT, n: int, seed: int | None, options: GenerateOptions, deadline: Deadline
) -> tuple[list[str], list[str]]:
    """Strings, and notes about them; raises `TapeGPTError` where the deadline passes first."""
    seed = randbits(53) if seed is None else seed
    constraints, drawing = split_options(options)
    notes: list[str] = []
    inference = TimedInference(model.inference, deadline)
    strings = model.draw(n, constraints, drawing, seed=seed, note=notes.append, inference=inference)
    texts = []
    for text in strings:
        deadline.check()
        texts.append(text)
    return texts, notes
