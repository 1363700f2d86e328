"""Responses as JSON, and errors as responses: in the studio's form, below /v1/ in OpenAI's. Not here: endpoints."""

from __future__ import annotations

import traceback

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from tapegpt.errors import TapeGPTError
from tapegpt.studio.limits import RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RETRY_SECONDS = "1"
OPENAI = "/v1/"  # below which errors have another form


def json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Data as a response."""
    return Response(msgspec.json.encode(data), status, headers, "application/json")


def event(name: str, data: Any) -> bytes:
    """A server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def refusal_of(error: Exception, log: Callable[[str], None]) -> RefusedError:
    """What a client is told of an error: of a bug of ours only that it happened, and the log gets a line."""
    match error:
        case RefusedError():
            return error
        case TapeGPTError():
            return RefusedError(400, "invalid_request", str(error))
        case msgspec.DecodeError() | UnicodeDecodeError():
            return RefusedError(400, "invalid_request", f"not as /openapi.json describes it: {error}")
        case HTTPException(status_code=404):
            return RefusedError(404, "not_found", "there is nothing at this address: see /openapi.json")
        case HTTPException(status_code=status):
            return RefusedError(status, "invalid_request", "this address takes another method: see /openapi.json")
        case ClientDisconnect():
            return RefusedError(400, "invalid_request", "the request ended within its body")
        case MemoryError():
            return RefusedError(413, "too_large", "not enough memory: choose a smaller model or less data")
        case _:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log(f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})".replace("\n", " "))
            return RefusedError(500, "failed", "something failed inside the studio; its terminal says what")


def body_of(refusal: RefusedError, path: str) -> dict[str, Any]:
    """An error as the clients of this path know it."""
    error: dict[str, Any] = {"message": str(refusal), "type": refusal.kind}
    if path.startswith(OPENAI):
        error = {**error, "type": f"{refusal.kind}_error", "param": None, "code": refusal.kind}
    return {"error": error}


def refused(path: str, refusal: RefusedError) -> Response:
    """An error as a response."""
    headers = {"Retry-After": RETRY_SECONDS} if refusal.status == 503 else None
    return json(body_of(refusal, path), refusal.status, headers)
