"""The studio as an ASGI application: routes, how endpoints are called, the page's files.

Not here: what endpoints do, access (`guard.py`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route, compile_path

from tapegpt import web
from tapegpt.studio import completions, questions, responses, runs
from tapegpt.studio.guard import Guard, body
from tapegpt.studio.limits import CHARACTER_BYTES
from tapegpt.studio.openapi import EVENTS, document
from tapegpt.studio.replies import body_of, event, json, refusal_of, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeVar

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from tapegpt.studio.openapi import Endpoint
    from tapegpt.studio.studio import Studio

    T = TypeVar("T", bound=msgspec.Struct)

PAGE = "studio.html"
MEDIA = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
BODY_BYTES = 2 << 20  # of a request that brings neither data nor a model


def application(studio: Studio, host: str, token: str | None) -> Starlette:
    """The application of a server bound to `host`; where other machines reach it, clients must know the token."""
    groups = (runs.Runs(studio), questions.Questions(studio), completions.Completions(studio))
    endpoints = [endpoint for group in groups for endpoint in group.endpoints()]

    @cache
    def described() -> bytes:  # in 20 ms, which no page waits for
        return msgspec.json.encode(document(endpoints))

    async def openapi(_: Request) -> Response:
        return Response(described(), media_type="application/json")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        studio.open()
        yield
        studio.close()

    async def no_route(request: Request, error: Exception) -> Response:
        return refused(request.url.path, refusal_of(error, studio.log))

    async def no_method(request: Request, error: Exception) -> Response:
        response = await no_route(request, error)
        known = [each.method for each in endpoints if compile_path(each.path)[0].match(request.url.path)]
        response.headers["Allow"] = ", ".join(known or ["GET"])
        return response

    return Starlette(
        routes=[
            *[Route(each.path, _endpoint(studio, each), methods=[each.method]) for each in endpoints],
            Route("/openapi.json", openapi),
            Route("/", _page),
            Route("/web/{name}", _page),
        ],
        middleware=[Middleware(Guard, host=host, token=token)],
        exception_handlers={HTTPException: no_route, 405: no_method},
        lifespan=lifespan,
    )


def _endpoint(studio: Studio, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """The function that reads a request, calls the endpoint, and turns exceptions into error responses."""
    most = BODY_BYTES
    if endpoint.request is bytes:
        most = studio.limits.model_bytes
    if endpoint.response in (responses.Corpus, responses.Reading):
        most = max(CHARACTER_BYTES * studio.limits.characters, BODY_BYTES)
    decoder = msgspec.json.Decoder(endpoint.request) if endpoint.request not in (None, bytes) else None

    async def answer(request: Request) -> Response:
        as_events = endpoint.tells and EVENTS in request.headers.get("accept", "")
        try:
            sent = await body(request, most)
            parts = []
            if endpoint.request is not None:
                parts.append(decoder.decode(sent) if decoder else sent)
            if endpoint.query is not None:
                parts.append(_query(request.query_params, endpoint.query))
            result = await endpoint.function(request, *parts)
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets an answer
            refusal = refusal_of(error, studio.log)
            if as_events:  # which begin before anybody knows how they end
                return Response(event("error", body_of(refusal, "")), endpoint.status, media_type=EVENTS)
            return refused(request.url.path, refusal)
        if isinstance(result, Response):
            return result
        if as_events:
            return Response(event("done", result), endpoint.status, media_type=EVENTS)
        return json(result, endpoint.status)

    return answer


def _query(given: QueryParams, kind: type[T]) -> T:
    """The struct of parameters, of which those that are lists may come several times."""
    lists = {each.encode_name for each in msgspec.structs.fields(kind) if isinstance(each.default_factory, type)}
    values = {name: given.getlist(name) if name in lists else value for name, value in given.items()}
    return msgspec.convert(values, kind, strict=False)


async def _page(request: Request) -> Response:
    """The page, or a file that it loads."""
    name = request.path_params.get("name", PAGE)
    media = MEDIA.get(name.rpartition(".")[2])
    if media is None or "/" in name or "\\" in name or name.startswith("."):
        raise HTTPException(404)
    try:
        return Response(web.source(name), media_type=media)
    except (OSError, ValueError):
        raise HTTPException(404) from None
