"""A real browser: a test module with `pytest_plugins = ["tests.web.browser"]` has the fixtures `browser` and `page`.

It is Chromium, or Firefox where the variable TAPEGPT_BROWSER says so. Tests that ask for it are skipped where that is
not installed. Not here: what a page is to show.

PYTEST_DONT_REWRITE: tests import `until` before this becomes a plugin.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

IS_FIREFOX = os.environ.get("TAPEGPT_BROWSER") == "firefox"
SHELL = "chromium-headless-shell"  # Debian's: it is Chromium without windows
NAMES = ("firefox-esr", "firefox") if IS_FIREFOX else (SHELL, "chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (  # Chromium's
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",  # one process less to tell of each frame: a sixth of the time
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PREFERENCES = {  # Firefox's, which cannot emulate these; and requests of its own go nowhere
    "dom.events.testing.asyncClipboard": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "ui.prefersReducedMotion": 1,
}
emulates = pytest.mark.skipif(IS_FIREFOX, reason="playwright emulates no colour scheme and no motion in Firefox")
VIEWPORT = {"width": 1280, "height": 900}
LOCAL = ("", "127.0.0.1", "localhost")  # hosts; files, data: and blob: have none
TIMEOUT = 60_000  # milliseconds: a new shape is compiled meanwhile, maybe on a very busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A `playwright.sync_api.Browser`; of a module, since its event loop keeps asyncio from others."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    if IS_FIREFOX:
        kind, options = playwright.firefox, {"channel": "moz-firefox", "firefox_user_prefs": PREFERENCES}
    else:
        kind, options = playwright.chromium, {"args": list(ARGUMENTS)}
    browser = kind.launch(executable_path=path, **options)
    yield browser
    browser.close()
    playwright.stop()


@pytest.fixture
def problems() -> list[str]:
    """What went wrong in the page: console errors, requests to elsewhere. A test takes out what it expects."""
    return []


@pytest.fixture(scope="function" if IS_FIREFOX else "module")  # a Firefox that has navigated may miss keys
def tab(browser: Any) -> Iterator[Any]:
    """A `playwright.sync_api.Page`; of a module: each new one would start processes and compile all scripts."""
    context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
    if not IS_FIREFOX:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(TIMEOUT)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(tab: Any, problems: list[str]) -> Iterator[Any]:
    """The tab as if it were new; requests to elsewhere fail, and so does the test of a page with problems."""
    listeners = {
        "request": lambda request: problems.append(f"request: {request.url}") if _leaves(request.url) else None,
        "pageerror": lambda error: problems.append(f"error: {error}"),
        "console": lambda message: problems.append(f"console: {message.text}") if _is_bad(message) else None,
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    yield tab
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    tab.evaluate(FORGET)
    with tab.expect_navigation():
        tab.evaluate("location.replace('about:blank')")  # by itself, so that the next page is in the same process
    tab.unroute_all()
    tab.mouse.move(0, 0)
    tab.set_viewport_size(VIEWPORT)
    tab.emulate_media(color_scheme="light")
    assert problems == []


FORGET = """() => {
    try {
        sessionStorage.clear();
        localStorage.clear();
    } catch {
        // a page without an address has none
    }
}"""


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait until an expression is true in the page, or a function of the argument is.

    The page itself looks again and again: each question from here costs all four processes. `wait_for_function` would
    need it to allow eval.
    """
    assert page.evaluate(UNTIL.replace("EXPRESSION", expression), [argument, TIMEOUT]), f"in vain: {expression}"


UNTIL = """async ([argument, timeout]) => {
    for (const end = performance.now() + timeout; performance.now() < end;) {
        const found = (EXPRESSION);
        if (typeof found === "function" ? found(argument) : found) return true;
        await new Promise(resume => setTimeout(resume, 20));
    }
    return false;
}"""


def enter(field: Any, text: str) -> None:
    """Type a text into a field in place of its own: in Firefox playwright's `fill` adds to a number's."""
    field.press("ControlOrMeta+a")
    field.press_sequentially(text)


def inaccessible(page: Any) -> list[Any]:
    """What axe finds: rules, elements that break them, and what to do."""
    axe = files(pytest.importorskip("axe_playwright_python")) / "axe.min.js"
    page.evaluate(axe.read_text())
    found: list[Any] = page.evaluate(AXE)
    return found


AXE = """() => axe.run().then(({ violations }) => violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => [id, html, failureSummary])))"""


def _is_bad(message: Any) -> bool:
    return message.type in ("error", "warning")


def _leaves(url: str) -> bool:
    return (urlsplit(url).hostname or "") not in LOCAL


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the files in a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
