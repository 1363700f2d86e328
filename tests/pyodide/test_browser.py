"""The notebook for browsers in a real one: all its cells but the one that installs the package."""

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
from tests.web.browser import served, until

pytest_plugins = ["tests.web.browser"]

PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<script type="module">
import { loadPyodide } from "./pyodide/pyodide.mjs";
const pyodide = await loadPyodide();
const wheel = await fetch("tapegpt.zip");
pyodide.unpackArchive(await wheel.arrayBuffer(), "zip", { extractDir: "/lib/python3.14/site-packages" });
window.pyodide = pyodide;
</script>
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    if not (installed := package()):
        pytest.skip("needs Node, and PYODIDE, a folder with npm's package pyodide")
    (tmp_path / "pyodide").symlink_to(installed.resolve())
    shutil.make_archive(str(tmp_path / "tapegpt"), "zip", ROOT / "src")
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


def test_the_notebook_runs_in_chromium(page: Any, address: str) -> None:
    page.goto(address)
    until(page, "window.pyodide")
    run = "cell => pyodide.runPythonAsync(cell).then(value => pyodide.globals.get('repr')(value))"
    shown = [page.evaluate(run, cell) for cell in cells()[1:]]
    assert shown[0].startswith("<GPT of 4,192 parameters: ")
    assert all("mar" in each for each in shown[2].split(","))
    assert shown[-1] == "True"
