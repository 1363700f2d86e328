"""The studio in Chromium, with a server and without: first strings, a slider's moves to the pixels, and memory.

A move lasts from the input event to the second frame after all that comes of it is in the page. Needs Chromium and
playwright, and without a server what `pyodide.py` needs, with a wheel of msgspec beside Pyodide, which is served from
this machine.
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
from benchmarks.studio import resident, studio
from benchmarks.timing import figure, table
from tapegpt import Corpus
from tapegpt.studio import static
from tapegpt.studio.limits import Limits

MOVES, RETRAINS = 20, 400
SHOWN = """async () => {
    const shown = () => document.querySelectorAll("#strings-view li").length;
    while (shown() < 20) await new Promise(resume => setTimeout(resume, 5));
    return performance.now();
}"""
MOVE = """async ([name, value]) => {
    const [slider, view] = [name, "strings-view"].map(id => document.getElementById(id));
    const drawn = new Promise(resume => {
        const observer = new MutationObserver(() => {
            if (document.querySelector("main").dataset.state !== "" || view.querySelectorAll("li").length < 20) return;
            observer.disconnect();
            resume();
        });
        observer.observe(view, { childList: true });
    });
    const start = performance.now();
    slider.value = value;
    for (const kind of ["input", "change"]) slider.dispatchEvent(new Event(kind, { bubbles: true }));
    await drawn;
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""


def with_server(retrains: int = RETRAINS) -> str:
    """Milliseconds of a move, and megabytes of the server and of the page's scripts while it is retrained."""
    with _opened() as page, studio() as (port, process):
        page.goto(f"http://127.0.0.1:{port}/")
        first = page.evaluate(SHOWN) / 1e3
        moves = _moves(page)
        devtools = page.context.new_cdp_session(page)
        memory = []
        for count in range(1, retrains + 1):
            name, values = list(SLIDERS.items())[count % len(SLIDERS)]
            page.evaluate(MOVE, [name, values[count // len(SLIDERS) % len(values)]])
            if count in (retrains // 8, retrains // 2, retrains):
                devtools.send("HeapProfiler.collectGarbage")
                heap = devtools.send("Runtime.getHeapUsage")["usedSize"]
                memory.append(
                    [f"after {count} retrains: server, page, MB", figure(resident(process)), figure(heap / 1e6)]
                )
    rows = [["first strings, s", figure(first), ""], _row("a move, fastest and median, ms", moves), *memory]
    return table("The studio with a server", ["", "in Chromium", ""], rows)


# Where a slider stands: other shapes, and other settings of one shape.
SLIDERS = {"n_embd": [2, 3, 5], "learning_rate": [3, 4, 5, 6, 7], "n_layer": [0, 1], "block_size": [3, 2]}


def _row(name: str, samples: list[float]) -> list[str]:
    return [name, figure(min(samples)), figure(median(samples))]


def _moves(page: Any) -> list[float]:
    """Milliseconds of moves of the learning rate; the first is left out."""
    return [page.evaluate(MOVE, ["learning_rate", 5 + count % 2]) for count in range(MOVES + 1)][1:]


@contextmanager
def _opened() -> Iterator[Any]:
    """A page of Chromium; its first visit plays no film."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "needs Chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium.new_page(reduced_motion="reduce")


def without_server(corpus: Corpus, folder: Path) -> str:
    """Seconds to the first strings, milliseconds of a move with all that is shown, and bytes of the folder."""
    installed = package()
    if installed is None:
        return "needs PYODIDE, which names a folder where `npm install pyodide` was run\n"
    static.write(folder, corpus, "names", Limits(), str(installed))
    with _served(folder) as address, _opened() as page:
        page.goto(address)
        first = page.evaluate(SHOWN) / 1e3
        moves = _moves(page)
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    own = sum(size for path, size in sizes.items() if path.parent.name != "pyodide")
    rows = [["first strings, s", figure(first), ""], _row("a move, fastest and median, ms", moves)]
    rows += [["folder without Pyodide, Pyodide, MB", figure(own / 1e6), figure((sum(sizes.values()) - own) / 1e6)]]
    return table("The studio without a server", ["", "in Chromium", ""], rows)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=os.fspath(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass
