"""The endpoints as a table, and the description of the API that is made of it, an OpenAPI 3.1 document.

Not here: what the endpoints do (`runs.py`, `completions.py`), how they are called (`app.py`).
"""

from __future__ import annotations

from tapegpt.record import Record
from tapegpt.studio import responses
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    Function = Callable[..., Awaitable[Any]]  # of the request, its body and its parameters, where there are such

JSON, EVENTS, BYTES = "application/json", "text/event-stream", "application/octet-stream"
ERRORS = {
    400: "The request cannot be used; the message says why.",
    403: "The token is missing, or the request comes from another site.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    413: "The request exceeds the limits.",
    500: "Something failed inside.",
    503: "Too many tasks are running; `Retry-After` says when to try again.",
}
PARAMETERS = {
    "id": ("Id of a run or corpus.", {"type": "string"}),
    "step": ("Steps of training, up to the run's; the last moment at or before is shown.", {"type": "integer"}),
    "name": ("Name of a matrix, as a moment lists them.", {"type": "string"}),
    "model": ("Id of a run, or `latest`.", {"type": "string"}),
}


class Endpoint(Record):
    """An endpoint: the function that answers, what it takes and gives; its docstring describes it."""

    method: str
    path: str
    function: Function
    response: Any = None  # struct, or list of structs; None for bytes
    request: Any = None  # struct of the body, or bytes
    example: Any = None  # of the body
    query: Any = None  # struct of the parameters after "?"
    status: int = 200
    events: tuple[Any, ...] = ()  # structs of what is sent as events on the way
    error: Any = responses.Error

    @property
    def about(self) -> str:
        """What it does."""
        return (self.function.__doc__ or "").strip().rstrip(".")

    @property
    def tells(self) -> bool:
        """Whether a client that accepts events gets the answer as one: its refusals are no failures of the network."""
        return self.response is not None and self.error is responses.Error


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document of these endpoints."""
    from msgspec.json import schema_components

    named: list[Any] = []
    for each in endpoints:
        kinds = (each.response, each.request, each.error, *each.events)
        named += [kind for kind in kinds if kind not in (None, bytes, *named)]
    schemas, components = schema_components(named, ref_template="#/components/schemas/{name}")
    of = dict(zip(map(repr, named), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        paths.setdefault(each.path.replace(":int", ""), {})[each.method.lower()] = _describe(each, of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tapegpt studio",
            "version": __version__,
            "description": "Trains small character-level language models and shows what is inside them. Losses and "
            "surprises are in nats per token. Bound to anything but this machine, it wants a Bearer token.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _describe(each: Endpoint, of: dict[str, Any]) -> dict[str, Any]:
    content = {BYTES: {}} if each.response is None else {JSON: {"schema": of[repr(each.response)]}}
    if each.events or each.tells:
        content[EVENTS] = {"schema": {"type": "string", "description": _events(each)}}
    good = {"description": each.about} if each.status == 204 else {"description": each.about, "content": content}
    bad = {JSON: {"schema": of[repr(each.error)]}}
    described: dict[str, Any] = {
        "operationId": each.function.__name__,
        "summary": each.about,
        "responses": {
            str(each.status): good,
            **{str(status): {"description": about, "content": bad} for status, about in ERRORS.items()},
        },
    }
    if parameters := [*_path_parameters(each.path), *_query_parameters(each.query)]:
        described["parameters"] = parameters
    if each.request is bytes:
        described["requestBody"] = {"required": True, "content": {BYTES: {}}}
    elif each.request is not None:
        body: dict[str, Any] = {"schema": of[repr(each.request)]}
        if each.example is not None:
            body["example"] = each.example
        described["requestBody"] = {"required": True, "content": {JSON: body}}
    return described


def _events(each: Endpoint) -> str:
    names = ", ".join([kind.__name__ for kind in each.events])
    on_the_way = f"Events, each of one of these as JSON: {names}." if names else ""
    end = "The last event is `done`, with the response, or `error`, with an `Error`." if each.tells else ""
    return f"{on_the_way} {end}".strip()


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1].partition(":")[0] for part in path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "description": about, "schema": kind}
        for name in names
        for about, kind in [PARAMETERS[name]]
    ]


def _query_parameters(query: Any) -> list[dict[str, Any]]:
    if query is None:
        return []
    from msgspec.json import schema_components

    _, components = schema_components([query])
    fields = components[query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": kind} for name, kind in fields.items()]
