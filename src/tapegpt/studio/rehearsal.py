"""What a page without a server would do at each of its starts, done once: in Pyodide, which Node runs.

The bytecode of all modules that a first training needs, which take longer to compile than to run, comes to their side,
that of Python's own into their archive; the code of the model's kernels is in the cache. Not here: the page's folder
(`static.py`).
"""

from __future__ import annotations

import asyncio
import json
import marshal
import sys
from importlib.util import MAGIC_NUMBER
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo
from zipimport import zipimporter

from tapegpt.studio.browser import Browser
from tapegpt.studio.openapi import EVENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNCHECKED = MAGIC_NUMBER + b"\1\0\0\0" + bytes(8)  # a .pyc begins so that is not compared with its source
MADE = (1980, 1, 1, 0, 0, 0)  # so that the same modules give the same archive


async def rehearse(folder: str) -> None:
    """Train as the page does at first, and keep what was compiled for it."""
    with open(f"{folder}/studio.json", encoding="utf-8") as file:
        browser = Browser(json.dumps(json.load(file)["start"]), print)
    offered, (corpus,) = [json.loads(await _answer(browser, "GET", f"/api/{name}")) for name in ("settings", "corpora")]
    settings = {each["name"]: each["default"] for each in offered if each["name"] != "tokens"}
    temperature = settings.pop("temperature")  # which is asked of a model, not trained
    text = corpus["sample"][0]
    wanted = {"corpus": corpus["id"], "settings": settings, "text": text, "temperature": temperature}
    await _answer(browser, "POST", "/api/runs", wanted)
    with ZipFile(f"{folder}/pyodide/python_stdlib.zip", "a") as library:
        for name, module in list(sys.modules.items()):
            spec = module.__spec__
            if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
                continue
            loader: Any = spec.loader
            bytecode = UNCHECKED + marshal.dumps(loader.get_code(name))
            if isinstance(loader, zipimporter):
                member = ZipInfo(f"{spec.origin.removeprefix(loader.archive)[1:]}c", MADE)
                library.writestr(member, bytecode, ZIP_DEFLATED, compresslevel=9)
            else:
                loader.set_data(spec.cached, bytecode)


async def _answer(browser: Browser, method: str, path: str, body: Any = None) -> bytes:
    content, ended = bytearray(), asyncio.Event()

    def post(_status: int, _headers: object, piece: bytes, more: bool) -> None:
        content.extend(piece)
        if not more:
            ended.set()

    browser.ask(method, path, {"Accept": EVENTS} if body else {}, json.dumps(body).encode() if body else b"", post)
    await ended.wait()
    return bytes(content)
