"""The studio without a server, in Chromium: from the page's address to its first strings, and a slider's moves.

Pyodide and all else is served from this machine. Needs Chromium, playwright, and what `pyodide.py` needs, with a wheel
of msgspec beside Pyodide.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

from benchmarks.pyodide import package
from benchmarks.timing import figure, table
from tapegpt import Corpus
from tapegpt.studio import static
from tapegpt.studio.limits import Limits

MOVES = 10
SHOWN = """async () => {
    const shown = () => document.querySelectorAll("#strings-view li").length;
    while (shown() < 20) await new Promise(resume => setTimeout(resume, 5));
    return performance.now();
}"""
MOVE = """async () => {
    const [slider, save] = ["learning_rate", "save"].map(id => document.getElementById(id));
    const [before, start] = [save.href, performance.now()];
    slider.value = Number(slider.value) === 5 ? 6 : 5;
    for (const name of ["input", "change"]) slider.dispatchEvent(new Event(name, { bubbles: true }));
    while (save.href === before) await new Promise(resume => setTimeout(resume, 1));
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""


def without_server(corpus: Corpus, folder: Path) -> str:
    """Seconds to the first strings, milliseconds of a move with all that is shown, and bytes of the folder."""
    installed, chromium = package(), shutil.which("chromium")
    if installed is None or chromium is None:
        return "needs Chromium, and PYODIDE, which names a folder where `npm install pyodide` was run\n"
    from playwright.sync_api import sync_playwright

    static.write(folder, corpus, "names", Limits(), str(installed))
    with _served(folder) as address, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        page.goto(address)
        first = page.evaluate(SHOWN) / 1e3
        page.evaluate(MOVE)
        moves = [page.evaluate(MOVE) for _ in range(MOVES)]
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    own = sum(size for path, size in sizes.items() if path.parent.name != "pyodide")
    rows = [["first strings, s", figure(first)], ["a move, fastest, ms", figure(min(moves))]]
    rows += [["a move, median, ms", figure(median(moves))]]
    rows += [
        ["folder without Pyodide, MB", figure(own / 1e6)],
        ["Pyodide, MB", figure((sum(sizes.values()) - own) / 1e6)],
    ]
    return table("The studio without a server", ["", "in Chromium"], rows)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=os.fspath(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass
