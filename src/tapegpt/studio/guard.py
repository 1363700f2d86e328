"""Access, sizes of request bodies, headers of all responses: an ASGI middleware.

Bound to this machine alone, the server answers only to names of this machine, so that a page elsewhere cannot reach it
under a name that it points here. Bound to anything else, it needs a token. Requests that change something must come
from the same origin. Other origins are allowed nothing: there are no CORS headers. Not here: endpoints.
"""

from __future__ import annotations

import asyncio
from hmac import compare_digest
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse

from tapegpt.studio.limits import RefusedError, too_large
from tapegpt.studio.policy import policy
from tapegpt.studio.replies import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "tapegpt_token"
BODY_SECONDS, SEND_SECONDS = 30.0, 60.0  # for a body to come, and for a client to take a piece of a response
HEADERS = {
    "Content-Security-Policy": policy({"frame-ancestors": "'none'"}),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Admits requests; `host` is what the server is bound to, `token` what clients must know, if anything."""

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app, self._host, self._token = app, host.lower(), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the headers that all responses have."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        answer: ASGIApp = self._app
        try:
            connection = HTTPConnection(scope)
            self._check_host(connection.headers)
            self._check_origin(scope["method"], connection.headers)
            if self._token is not None:
                answer = self._admit(connection, self._token) or self._app
        except RefusedError as refusal:
            answer = refused(scope["path"], refusal)
        await answer(scope, receive, sent)

    def _check_host(self, headers: Headers) -> None:
        name = _split(f"//{headers.get('host', '')}").hostname or ""
        try:
            address = ip_address(name)
        except ValueError:
            known = name == "localhost" or name == self._host
        else:
            known = self._token is not None or address.is_loopback
        if not known:
            raise _forbidden("the studio does not answer to this name: use the address that it printed")

    def _check_origin(self, method: str, headers: Headers) -> None:
        origin = headers.get("origin")
        if method in SAFE_METHODS or origin is None:
            return
        if _split(origin).netloc.lower() != headers.get("host", "").lower():
            raise _forbidden("another site may not change anything here: use the studio's own page")

    def _admit(self, connection: HTTPConnection, token: str) -> Response | None:
        """None where the client knows the token; where the address of a first load has it, a redirect with a cookie."""
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), token):
            return None
        if _equal(connection.cookies.get(COOKIE, ""), token):
            return None
        scope, given = connection.scope, connection.query_params.get("token", "")
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD") and _equal(given, token):
            response = RedirectResponse("/", 303)  # so that the token is in no address any more
            response.set_cookie(COOKIE, token, httponly=True, samesite="lax")  # a link may be followed
            return response
        raise _forbidden("this needs the token: open the address that the studio printed, or send it as a Bearer token")


def _split(address: str) -> SplitResult:
    """The parts of an address, empty for an invalid one."""
    try:
        return urlsplit(address)
    except ValueError:  # of brackets that do not close
        return urlsplit("")


def _equal(given: str, token: str) -> bool:
    """Whether both are equal, compared in constant time."""
    return compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())


def _forbidden(message: str) -> RefusedError:
    return RefusedError(403, "forbidden", message)


async def body(request: Request, largest: int) -> bytes:
    """A request's body, counted as it arrives; raises `RefusedError` for one that is too large or too slow."""
    length = request.headers.get("content-length", "0")
    refusal = too_large(f"the body has more than the {largest:,} bytes that are allowed: send less")
    if not length.isdecimal() or int(length) > largest:
        raise refusal
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > largest:
                    raise refusal
                parts.append(part)
    except TimeoutError:
        slow = f"the body did not come within {BODY_SECONDS:g} seconds: send it faster"
        raise RefusedError(408, "invalid_request", slow) from None
    return b"".join(parts)
