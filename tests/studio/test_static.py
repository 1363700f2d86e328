"""The studio without a server: its folder, and how it answers without sockets and threads."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

import tapegpt
from tapegpt.cli import main
from tapegpt.data.corpus import Corpus
from tapegpt.errors import TapeGPTError
from tapegpt.studio import static, work
from tapegpt.studio.browser import Browser
from tapegpt.studio.limits import Limits
from tests.studio.server import NAMES, SMALL

START = {"name": "some names", "limits": {}, "corpus": {"strings": NAMES}}
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(autouse=True)
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "can_start_threads", lambda: False)


class Asked:
    """A request and the pieces of its response, each as JSON where it is an event."""

    def __init__(self, browser: Browser, method: str, address: str, body: Any = None, **headers: str) -> None:
        self.status, self.headers, self.content = 0, dict[str, str](), b""
        self.ended = asyncio.Event()
        content = b"" if body is None else json.dumps(body).encode()
        self.leave = browser.ask(method, address, headers, content, self._take)

    def _take(self, status: int, headers: list[tuple[str, str]], content: bytes, more: bool) -> None:
        self.status, self.headers = status, dict(headers)
        self.content += content
        if not more:
            self.ended.set()

    async def answer(self) -> Any:
        await self.ended.wait()
        return json.loads(self.content)

    @property
    def events(self) -> list[str]:
        return [part.split(b"\n")[0].decode() for part in self.content.split(b"\n\n") if part]


def browser() -> Browser:
    return Browser(json.dumps(START), log=print)


def training(page: Browser, corpus: str, **settings: Any) -> Asked:
    return Asked(page, "POST", "/api/runs", {"corpus": corpus, "settings": {**SMALL, **settings}}, **EVENTS)


def test_answers_are_the_server_s() -> None:
    async def story() -> None:
        page = browser()
        (corpus,) = await Asked(page, "GET", "/api/corpora").answer()
        assert corpus["name"] == "some names"
        body = {"corpus": corpus["id"], "settings": SMALL, "text": "anna"}
        run = await Asked(page, "POST", "/api/runs", body).answer()
        small: dict[str, Any] = SMALL
        model = tapegpt.train(NAMES, **small)
        moment = await Asked(page, "GET", f"/api/runs/{run['id']}/moments/60?text=an%20na&temperature=1").answer()
        assert moment["error"]["message"].startswith("text 'an na'")
        file = Asked(page, "GET", f"/api/runs/{run['id']}/file")
        await file.ended.wait()
        assert file.headers["content-disposition"] == f'attachment; filename="tapegpt-{run["id"]}.safetensors"'
        assert tapegpt.loads(file.content).parameters == model.parameters
        missing = Asked(page, "GET", "/nowhere")
        await missing.answer()
        assert (missing.status, missing.headers["content-type"]) == (404, "application/json")

    asyncio.run(story())


def test_a_training_yields_to_the_next_and_ends_where_nobody_waits() -> None:
    async def story() -> None:
        page = browser()
        (corpus,) = await Asked(page, "GET", "/api/corpora").answer()
        long = training(page, corpus["id"], steps=100_000)
        short = training(page, corpus["id"])
        await short.ended.wait()
        while "event: progress" not in long.events:
            await asyncio.sleep(0.01)
        assert short.events[-1] == "event: done"
        assert not long.ended.is_set()
        long.leave()
        while page._tasks:
            await asyncio.sleep(0.01)
        assert "event: done" not in long.events

    asyncio.run(story())


# --- the folder


@pytest.fixture
def pyodide(tmp_path: Path) -> Path:
    """A folder that looks as if it had Pyodide."""
    place = tmp_path / "pyodide"
    place.mkdir()
    for name in static.FILES:
        (place / name).write_text(name)
    with ZipFile(place / "msgspec-0.20.0-cp314-cp314-pyemscripten_2026_0_wasm32.whl", "w") as wheel:
        wheel.writestr("msgspec/_core.so", b"")
    (place / "pyodide-lock.json").write_text('{"info": {"python": "3.14.2", "abi_version": "2026_0"}}')
    return place


def test_the_folder_has_all_that_the_page_needs(
    tmp_path: Path, pyodide: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "_rehearse", lambda *_: None)
    here, there = tmp_path / "here", tmp_path / "there"
    data = tmp_path / "names.txt"
    data.write_text("\n".join(NAMES))
    here.mkdir()
    (here / "studio.json").write_text("of an earlier version")
    assert main(["studio", str(data), "--static-dir", str(here), "--pyodide", str(pyodide), "--max-steps", "500"]) == 0
    assert capsys.readouterr().out == f"try it: python -m http.server -d {here}\n"
    settings = json.loads((here / "studio.json").read_text())
    assert settings["pyodide"] == "pyodide/"
    assert settings["start"]["limits"]["steps"] == 500
    assert Corpus.of(**settings["start"]["corpus"]) == Corpus.of(NAMES)
    labelled = Corpus.of(NAMES, tokens="words", labels={"kind": [*"ab" * 6]})
    assert Corpus.of(**static._arguments(labelled)) == labelled
    assert sorted(path.name for path in (here / "pyodide").iterdir()) == sorted(static.FILES)
    assert "msgspec/_core.so" in packed(here)
    assert settings["packages"] == []
    model = tapegpt.train(NAMES, steps=5)
    static.write(str(there), Corpus.dataset("names"), "names", Limits(), model=model)
    assert json.loads((there / "studio.json").read_text())["model"] == "model.safetensors"
    assert settings["model"] is None
    loaded = tapegpt.load(there / "model.safetensors")
    assert (loaded.parameters, loaded.data) == (model.parameters, None)
    page = (there / "index.html").read_text()
    assert "script-src 'self' https://cdn.jsdelivr.net 'wasm-unsafe-eval';" in page
    assert "https://" not in (here / "index.html").read_text()
    assert json.loads((there / "studio.json").read_text())["packages"] == ["msgspec"]
    names = packed(there)
    packages = {name.partition("/")[0] for name in names}
    assert {"tapegpt", "starlette", "anyio"} <= packages
    assert not {"llvmlite", "uvicorn", "msgspec"} & packages
    assert {"tapegpt/web/studio.html", "tapegpt/data/datasets/names.txt"} <= names
    assert not [name for name in names if name.endswith(".pyc")]


def packed(folder: Path) -> set[str]:
    """Names of the files in a folder's archive of packages."""
    with tarfile.open(folder / "tapegpt.pack") as archive:
        return set(archive.getnames())


def test_without_node_the_page_compiles_and_a_warning_says_so(
    tmp_path: Path, pyodide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(tapegpt.TapeGPTWarning, match="so the page takes seconds longer to start: install Node"):
        static.write(tmp_path / "here", Corpus.of(NAMES), "names", Limits(), str(pyodide))
    assert "tapegpt/studio/browser.py" in packed(tmp_path / "here")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_what_node_cannot_run_is_refused(tmp_path: Path, pyodide: Path) -> None:
    with pytest.raises(TapeGPTError, match=r"pyodide: does not run in Node \(.+\): install both anew"):
        static.write(tmp_path / "here", Corpus.of(NAMES), "names", Limits(), str(pyodide))


REFUSALS = {
    "has other files: give a new directory": lambda here, _: (here / "thesis.txt").write_text(""),
    "run npm install pyodide": lambda _, given: (given / "pyodide.asm.wasm").unlink(),
    "--platform pyemscripten_2026_0_wasm32 --python-version 3.14 ": lambda _, given: next(given.glob("*.whl")).unlink(),
    "msgspec-0.20.0-.*: is no wheel: download it again": lambda _, given: next(given.glob("*.whl")).write_text("404"),
}


@pytest.mark.parametrize(("message", "spoil"), REFUSALS.items())
def test_what_cannot_be_written_is_refused(tmp_path: Path, pyodide: Path, message: str, spoil: Any) -> None:
    here = tmp_path / "here"
    here.mkdir()
    spoil(here, pyodide)
    with pytest.raises(TapeGPTError, match=message):
        static.write(str(here), Corpus.of(NAMES), "names", Limits(), str(pyodide))


class Own(tapegpt.Model):
    """A model whose class is not in the package."""

    def forward(self, tape: Any, tokens: Any, positions: Any, vocab_size: int) -> Any:
        return tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens)


def test_models_that_a_page_without_a_server_does_not_open_are_refused(tmp_path: Path, pyodide: Path) -> None:
    models = [tapegpt.train(NAMES, steps=1, seed=seed) for seed in (1, 2)]
    for model, message in [
        (tapegpt.Ensemble(models), "an ensemble of 2 models"),
        (tapegpt.train(NAMES, model=Own, steps=1), "none of your own classes, such as test_static.py:Own"),
        (tapegpt.train(Corpus.of(NAMES, tokens="an|."), steps=1), "no model with tokens 'an|.'"),
    ]:
        with pytest.raises(TapeGPTError, match=re.escape(message)):
            static.write(str(tmp_path / "here"), Corpus.of(NAMES), "names", Limits(), str(pyodide), model)
    assert not (tmp_path / "here").exists()
