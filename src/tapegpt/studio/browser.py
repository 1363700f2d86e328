"""The studio inside a browser, in Pyodide: requests come as messages of a page, not from a socket.

The page's own worker (`web/studio-worker.js`) calls this; what answers is the server's application. Not here: the
folder that a host serves (`static.py`).
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

import msgspec

from tapegpt.data.corpus import Corpus
from tapegpt.studio.app import application
from tapegpt.studio.limits import Limits
from tapegpt.studio.store import KeptCorpus
from tapegpt.studio.studio import Studio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message

    # Of a piece of a response: its status, its headers, the bytes, and whether more follow.
    Post = Callable[[int, list[tuple[str, str]], bytes, bool], object]

HOST = "localhost"
SEARCH_SECONDS = 2.0  # for strings within constraints: there is no thread for anything else meanwhile
OPENING_SECONDS = 1.0  # until the background work begins: the page's first model comes first


class Browser:
    """A studio that one page talks to; to be made while the event loop runs."""

    def __init__(self, start: str, log: Callable[[str], None]) -> None:
        """`start` is what `static.py` wrote, as JSON: the name of the data, limits, and arguments of a corpus."""
        given = msgspec.json.decode(start)
        wanted = given["corpus"]
        corpus = Corpus.of(**wanted) if "strings" in wanted else Corpus.dataset(**wanted)
        limits = Limits(**given["limits"]).replace(search_seconds=SEARCH_SECONDS)
        studio = Studio(KeptCorpus(corpus, given["name"]), limits, log)
        self._app: ASGIApp = application(studio, HOST, None)
        self._tasks = set[asyncio.Task[None]]()
        asyncio.get_running_loop().call_later(OPENING_SECONDS, studio.open)

    def ask(self, method: str, address: str, headers: dict[str, str], body: bytes, post: Post) -> Callable[[], object]:
        """Begin to answer a request, with calls of `post`; what is returned tells that nobody waits any more."""
        path, _, query = address.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": unquote(path),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in {**headers, "Host": HOST}.items()],
        }
        left = asyncio.Event()
        incoming: list[Message] = [{"type": "http.request", "body": body}]
        status, sent = 0, list[tuple[str, str]]()

        async def receive() -> Message:
            if incoming:
                return incoming.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = [(name.decode(), value.decode()) for name, value in message["headers"]]
            else:
                post(status, sent, message.get("body", b""), message.get("more_body", False))

        async def answer() -> None:
            await self._app(scope, receive, send)

        task = asyncio.ensure_future(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return left.set
