"""A real browser: the notebook, all its cells but the one that installs the package, and models of this Python."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from benchmarks.pyodide import ROOT, package
from tests.pyodide import exchange
from tests.web.browser import served, until

pytest_plugins = ["tests.web.browser"]

PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<script type="module">
import { loadPyodide } from "./pyodide/pyodide.mjs";
const pyodide = await loadPyodide();
const wheel = await fetch("tapegpt.zip");
pyodide.unpackArchive(await wheel.arrayBuffer(), "zip", { extractDir: "/lib/python3.14/site-packages" });
const files = await fetch("files.zip");
pyodide.unpackArchive(await files.arrayBuffer(), "zip", { extractDir: "/files" });
window.pyodide = pyodide;
</script>
"""
MODELS = """
import sys
from pathlib import Path
sys.path.append("/files")
import exchange
exchange.check(Path("/files"))
exact, reference = (tapegpt.train(exchange.NAMES, steps=3, engine=name, n_embd=4) for name in ("exact", "reference"))
exact.losses == reference.losses, exact.parameters == reference.parameters
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    if not (installed := package()):
        pytest.skip("needs Node, and PYODIDE, a folder with npm's package pyodide")
    (tmp_path / "pyodide").symlink_to(installed.resolve())
    shutil.make_archive(str(tmp_path / "tapegpt"), "zip", ROOT / "src")
    (tmp_path / "files").mkdir()
    exchange.write(tmp_path / "files")
    shutil.copy(str(exchange.__file__), tmp_path / "files")
    shutil.make_archive(str(tmp_path / "files"), "zip", tmp_path / "files")
    (tmp_path / "index.html").write_text(PAGE)
    with served(tmp_path) as place:
        yield place


def cells() -> list[str]:
    """The code of the notebook, cell by cell; the first one installs the package."""
    notebook = json.loads((ROOT / "examples" / "browser.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_wheel_has_the_name_of_this_version() -> None:
    page = (ROOT / "docs" / "browser.md").read_text(encoding="utf-8")
    named = re.findall(r"[\w.-]+\.whl", cells()[0] + page)
    assert set(named) == {f"tapegpt-{tapegpt.__version__}-py3-none-any.whl"}


def test_the_notebook_and_models_of_another_python_in_chromium(page: Any, address: str) -> None:
    page.goto(address)
    until(page, "window.pyodide")
    run = "cell => pyodide.runPythonAsync(cell).then(value => pyodide.globals.get('repr')(value))"
    shown = [page.evaluate(run, cell) for cell in cells()[1:]]
    assert shown[0].startswith("<GPT of 4,192 parameters: ")
    assert all("mar" in each for each in shown[2].split(","))
    assert shown[-1] == "True"
    assert page.evaluate(run, MODELS) == "(True, True)"
