"""A studio for tests: a real server on a free port of this machine, in a thread, and a client that checks answers.

Not here: tests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # it has no type hints
import msgspec

from tapegpt.data.corpus import Corpus
from tapegpt.studio import warming
from tapegpt.studio.limits import Limits
from tapegpt.studio.server import Server
from tapegpt.studio.store import KeptCorpus
from tapegpt.studio.studio import Studio

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva", "nathan", "eva", "bonnie", "tobias"]
SMALL = {"n_embd": 8, "n_head": 2, "block_size": 8, "steps": 60}


warming.SECONDS = 0.0  # tests compile what they ask for


@contextmanager
def running(limits: Limits | None = None, host: str = "127.0.0.1", corpus: Corpus | None = None) -> Iterator[Client]:
    """A client of a studio with a corpus, by default some names, which ends with the context."""
    log: list[str] = []
    studio = Studio(KeptCorpus(corpus or Corpus.of(NAMES), "some names"), limits or Limits(), log.append)
    server = Server(studio, host, 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with Client(studio, server, log) as client:
            yield client
    finally:
        server.stop()
        thread.join()


class Client(httpx.Client):
    """Holds each response to what /openapi.json says of it."""

    def __init__(self, studio: Studio, server: Server, log: list[str]) -> None:
        port = server.address.partition("/?")[0].rstrip("/").rpartition(":")[2]
        super().__init__(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False)
        self.studio, self.server, self.log = studio, server, log
        self.port = int(port)
        self._document: dict[str, Any] = {}

    @property
    def document(self) -> dict[str, Any]:
        """The description of the API."""
        if not self._document:
            self._document = super().request("GET", "/openapi.json", headers=self._known()).json()
        return self._document

    def _known(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.server.token}"} if self.server.token else {}

    def ask(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        """The JSON of a response, or its bytes where it is none; its status must be this one."""
        content = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.request(method, path, content=content, headers={**self._known(), **named})
        assert response.status_code == status, response.text
        return self.checked(method, path, response)

    def checked(self, method: str, path: str, response: httpx.Response) -> Any:
        """What a response holds, after a look at what it should."""
        described = self._described(method, path.partition("?")[0])["responses"]
        assert str(response.status_code) in described, f"{response.status_code} is not described: {response.text}"
        if response.status_code == 204:
            return None
        kind = response.headers["content-type"].partition(";")[0]
        media = described[str(response.status_code)]["content"][kind]
        if kind != "application/json":
            return response.content
        found = response.json()
        self.check(found, media["schema"])
        return found

    def check(self, found: Any, schema: dict[str, Any]) -> None:
        """Raise where something is not of a schema of the document."""
        jsonschema.Draft202012Validator({**schema, "components": self.document["components"]}).validate(found)

    def _described(self, method: str, path: str) -> Any:
        parts = path.strip("/").split("/")
        for template, methods in self.document["paths"].items():
            names = template.strip("/").split("/")
            fits = len(names) == len(parts) and all(
                name.startswith("{") or name == part for name, part in zip(names, parts, strict=True)
            )
            if fits and method.lower() in methods:
                return methods[method.lower()]
        raise AssertionError(f"{method} {path} is not described")

    def corpus(self) -> str:
        """The id of the corpus that the studio was opened with."""
        return str(self.ask("GET", "/api/corpora")[0]["id"])

    def run(self, text: str = "anna", **settings: Any) -> Any:
        """A run on it."""
        body = {"corpus": self.corpus(), "settings": {**SMALL, **settings}, "text": text}
        return self.ask("POST", "/api/runs", body, 201)
