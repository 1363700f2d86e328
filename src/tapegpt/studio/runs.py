"""Endpoints of corpora, trainings and model files. Not here: what a run is asked (`questions.py`), OpenAI's API."""

from __future__ import annotations

import asyncio

from msgspec import defstruct
from starlette.responses import Response, StreamingResponse

from tapegpt.data.corpus import Corpus
from tapegpt.data.decoding import with_line_feeds
from tapegpt.data.labels import columns_of
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.errors import TapeGPTError
from tapegpt.studio import requests, responses
from tapegpt.studio.controls import offer
from tapegpt.studio.limits import Limits, check_rule, too_large
from tapegpt.studio.openapi import EVENTS, Endpoint
from tapegpt.studio.replies import body_of, event, refusal_of
from tapegpt.studio.store import KeptCorpus, KeptRun
from tapegpt.studio.training import FIRST_SECONDS, PROGRESS_SECONDS, TrainingTask, name_of
from tapegpt.studio.uploads import read_file
from tapegpt.studio.work import answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from starlette.requests import Request

    from tapegpt.studio.studio import Studio
    from tapegpt.studio.work import Deadline
    from tapegpt.web.data import Portrait

PASTED = "pasted text"


# The response of that name: what is allowed.
LIMITS = defstruct("Limits", [(name, {"int": int, "float": float}[each.kind]) for name, each in Limits.fields.items()])


class Runs:
    """The functions behind the paths; each takes the request, and what was sent as structs."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def endpoints(self) -> list[Endpoint]:
        """The table of them."""
        corpora, runs, run = "/api/corpora", "/api/runs", "/api/runs/{id}"
        names, look = {"text": "emma\nolivia\nava"}, requests.MomentQuery
        wanted = {"corpus": "ID", "settings": {"n_embd": 16, "steps": 1000}, "text": "emma", "temperature": 0.5}
        events = (responses.Progress,)
        return [
            Endpoint("GET", "/api/limits", self.limits, LIMITS),
            Endpoint("GET", "/api/settings", self.settings, list[responses.Setting]),
            Endpoint("GET", corpora, self.corpora, list[responses.Corpus]),
            Endpoint("POST", corpora, self.new_corpus, responses.Corpus, requests.NewCorpus, names, status=201),
            Endpoint("GET", f"{corpora}/{{id}}", self.corpus, responses.Corpus),
            Endpoint("POST", "/api/files", self.new_file, responses.Reading, bytes, query=requests.FileQuery),
            Endpoint("GET", runs, self.runs, list[responses.Summary]),
            Endpoint("POST", runs, self.new_run, responses.Run, requests.NewRun, wanted, status=201, events=events),
            Endpoint("GET", run, self.run, responses.Run, query=look),
            Endpoint("DELETE", run, self.delete_run, status=204),
            Endpoint("GET", f"{run}/file", self.file),
            Endpoint("GET", f"{run}/page", self.page),
            Endpoint("POST", "/api/models", self.new_model, responses.Run, bytes, query=look, status=201),
        ]

    async def limits(self, _: Request) -> dict[str, Any]:
        """The limits of requests."""
        return self._studio.limits.as_dict()

    async def settings(self, _: Request) -> list[dict[str, Any]]:
        """The settings that the page offers: of a training, and the temperature."""
        return offer(self._studio.limits)

    async def corpora(self, _: Request) -> list[dict[str, Any]]:
        """All corpora."""
        return [kept.as_dict() for kept in self._studio.corpora]

    async def corpus(self, request: Request) -> dict[str, Any]:
        """One corpus."""
        return self._studio.corpora[request.path_params["id"]].as_dict()

    async def new_corpus(self, request: Request, wanted: requests.NewCorpus) -> dict[str, Any]:
        """Make a corpus of a text with one string per line, of an embedded data set, or of another corpus; of all its
        strings, or of each once, or of those that have at most so many characters.
        """
        if sum([isinstance(each, str) for each in (wanted.text, wanted.dataset, wanted.corpus)]) != 1:
            raise TapeGPTError("a corpus is made of a text, a dataset or another corpus: give one of them")
        if isinstance(wanted.text, str) and len(wanted.text) > (most := self._studio.limits.characters):
            raise too_large(f"the text has {len(wanted.text):,} characters, the limit here is {most:,}: give less")
        known = self._studio.corpora[wanted.corpus] if isinstance(wanted.corpus, str) else None
        chosen: dict[str, Any] = {"unique": wanted.unique, "max_length": wanted.max_length}
        is_whole = not any(chosen.values())
        for kept in self._studio.corpora:
            if is_whole and kept.dataset == wanted.dataset and kept.corpus.vocabulary.rule == wanted.tokens:
                return kept.as_dict()

        def task(deadline: Deadline) -> KeptCorpus:
            if known is not None:
                corpus, name = known.corpus, known.name
            elif isinstance(wanted.dataset, str):
                corpus, name = Corpus.dataset(wanted.dataset), wanted.dataset
            else:
                assert isinstance(wanted.text, str)
                lines = with_line_feeds(wanted.text.removeprefix("\ufeff")).split("\n")
                corpus, name = Corpus.of(lines), PASTED
            if not is_whole:
                labels = columns_of(corpus.documents, corpus.vocabulary.columns) or None
                corpus = Corpus.of(corpus.documents, **chosen, labels=labels)
            check_rule(wanted.tokens, corpus.documents, deadline.seconds)
            vocabulary = Vocabulary.of(corpus.documents, wanted.tokens, corpus.vocabulary.columns)
            return KeptCorpus(corpus.replace(vocabulary=vocabulary), name)

        return self._studio.add_corpus(await self._studio.short(request, task)).as_dict()

    async def new_file(self, request: Request, content: bytes, wanted: requests.FileQuery) -> dict[str, Any]:
        """Read a file as data, as the command line does."""
        most = self._studio.limits.characters
        told, kept = await self._studio.short(request, lambda _: read_file(content, wanted, most))
        return {**told, "corpus": kept and self._studio.add_corpus(kept).as_dict()}

    async def runs(self, _: Request) -> list[dict[str, Any]]:
        """All runs."""
        return [kept.as_summary() for kept in self._studio.runs]

    async def new_run(self, request: Request, wanted: requests.NewRun) -> Response | dict[str, Any]:
        """Train a model; as events, with its progress, where the client accepts events."""
        training = TrainingTask(wanted, self._studio.corpora[wanted.corpus], self._studio.limits)
        if EVENTS in request.headers.get("accept", ""):
            future = self._studio.training.submit(training.run(), training.deadline)
            return StreamingResponse(self._events(training, future), 201, media_type=EVENTS)
        portrait, data = await answer(request, self._studio.training, training.run(), training.deadline)
        return self._kept(training, portrait, data)

    async def _events(
        self, training: TrainingTask, future: asyncio.Future[tuple[Portrait, dict[str, Any]]]
    ) -> AsyncIterator[bytes]:
        """The training's progress, every now and then where it changes, and its result."""
        shown: dict[str, Any] = {}
        try:
            await asyncio.wait({future}, timeout=FIRST_SECONDS)
            while not future.done():
                if training.progress is not shown:
                    shown = training.progress
                    yield event("progress", shown)
                await asyncio.wait({future}, timeout=PROGRESS_SECONDS)
            try:
                portrait, data = future.result()
            except Exception as error:  # noqa: BLE001  # the response has begun: this is how it tells
                if training.progress is not shown:
                    yield event("progress", training.progress)
                yield event("error", body_of(refusal_of(error, self._studio.log), ""))
            else:
                yield event("done", self._kept(training, portrait, data))
        finally:
            training.deadline.abandon()
            future.cancel()

    def _kept(self, training: TrainingTask, portrait: Portrait, data: dict[str, Any]) -> dict[str, Any]:
        name = name_of(training.config, training.settings)
        kept = KeptRun(portrait, name, training.corpus, data.pop("seconds"), training.trainer)
        self._studio.runs.add(kept)
        self._studio.warming.begin(kept.model.config, kept.model.vocabulary, training.settings.engine)
        return {**kept.as_dict(), **data}

    async def run(self, request: Request, wanted: requests.MomentQuery) -> dict[str, Any]:
        """A run, perhaps with another text or temperature."""
        return await self._show(request, self._studio.run(request), wanted)

    async def new_model(self, request: Request, content: bytes, wanted: requests.MomentQuery) -> dict[str, Any]:
        """Load a model from a file: a run of one moment."""
        recording = await self._studio.long(request, lambda deadline: self._studio.uploaded(content, deadline))
        return await self._show(request, self._studio.add_recording(recording), wanted)

    async def _show(self, request: Request, kept: KeptRun, wanted: requests.MomentQuery) -> dict[str, Any]:
        self._studio.limits.check_text(kept.model.config, kept.model.vocab_size, wanted.text)
        data = await self._studio.short(
            request, lambda _: kept.portrait.run(wanted.text, wanted.temperature, wanted.label)
        )
        return {**kept.as_dict(), **data}

    async def delete_run(self, request: Request) -> Response:
        """Forget a run."""
        del self._studio.runs[request.path_params["id"]]
        return Response(status_code=204)

    async def file(self, request: Request) -> Response:
        """The model as a file."""
        kept = self._studio.run(request)
        content = await self._studio.long(request, lambda _: kept.file())
        return _attachment(content, f"tapegpt-{kept.id}.safetensors", "application/octet-stream")

    async def page(self, request: Request) -> Response:
        """The model as a page in one file, which trains it again where the training was made here."""
        kept = self._studio.run(request)
        content = await self._studio.long(request, lambda _: kept.page())
        return _attachment(content, f"tapegpt-{kept.id}.html", "text/html")


def _attachment(content: bytes, name: str, media: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media, headers=headers)
