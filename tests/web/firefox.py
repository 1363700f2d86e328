"""A Firefox, driven over WebDriver BiDi: playwright drives only builds of its own. Not here: what a page is to show.

The protocol: https://w3c.github.io/webdriver-bidi
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

NAMES = ("firefox-esr", "firefox")
SECONDS = 60.0  # for what a page does, maybe on a very busy machine
QUIET = {  # requests of its own go nowhere
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "ui.prefersReducedMotion": 1,
}


class Tab:
    """A page; `problems` are what it wrote to the console as a warning or an error."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._numbers, self.problems = socket, count(1), list[str]()
        self._ask("session.new", capabilities={})
        self._ask("session.subscribe", events=["log.entryAdded"])
        self._context = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (told := json.loads(self._socket.recv(timeout=2 * SECONDS))).get("id") != number:
            self._note(told)
        assert told["type"] == "success", told
        return told["result"]

    def _note(self, told: dict[str, Any]) -> None:
        entry = told.get("params", {})
        if told.get("method") == "log.entryAdded" and entry["level"] in ("warn", "error"):
            self.problems.append(entry["text"])

    def open(self, address: str) -> None:
        """Go to an address; what is loaded is there then."""
        self._ask("browsingContext.navigate", context=self._context, url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, as JSON has it; a promise is awaited."""
        found = self._ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    def until(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        assert self.evaluate(UNTIL % (SECONDS * 1000, expression)), f"in vain: {expression}"

    def _element(self, selector: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(
            "browsingContext.locateNodes", context=self._context, locator={"type": "css", "value": selector}
        )["nodes"][0]
        return {"sharedId": found["sharedId"]}

    def click(self, selector: str) -> None:
        """Click an element, as with a mouse."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{ block: 'center' }})")
        origin = {"type": "element", "element": self._element(selector)}
        actions = [{"type": "pointerMove", "x": 0, "y": 0, "origin": origin}]
        actions += [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")]
        self._ask(
            "input.performActions",
            context=self._context,
            actions=[{"type": "pointer", "id": "mouse", "actions": actions}],
        )

    def press(self, selector: str, key: str) -> None:
        """Press a key while an element has the focus."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._ask(
            "input.performActions",
            context=self._context,
            actions=[{"type": "key", "id": "keyboard", "actions": actions}],
        )

    def give(self, selector: str, path: Path) -> None:
        """Choose a file in a field."""
        self._ask("input.setFiles", context=self._context, element=self._element(selector), files=[str(path)])


UNTIL = """(async () => {
    for (const end = performance.now() + %d; performance.now() < end;) {
        if (%s) return true;
        await new Promise((resume) => setTimeout(resume, 20));
    }
    return false;
})()"""
ARROW_LEFT = "\ue012"  # as WebDriver numbers keys


@contextmanager
def firefox(profile: Path) -> Iterator[Tab]:
    """A tab of a Firefox with a new profile in this folder; the test is skipped where none is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Firefox is installed")
    connect = pytest.importorskip("websockets.sync.client").connect
    (profile / "user.js").write_text(
        "".join(f"user_pref({json.dumps(each)}, {json.dumps(value)});\n" for each, value in QUIET.items())
    )
    command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            told = (re.search(r"listening on (ws://\S+)", line) for line in process.stderr)
            address = next(filter(None, told))[1]
            Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would hold it up
            with connect(f"{address}/session", max_size=None) as socket:
                yield Tab(socket)
        finally:
            process.terminate()
