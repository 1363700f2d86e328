"""The studio without a server, in a browser.

The page runs Python by Pyodide; its test is left out where that is not installed, or has no wheel of msgspec.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

import tapegpt
from benchmarks.pyodide import package
from tapegpt.data.corpus import Corpus
from tapegpt.studio import static
from tapegpt.studio.limits import Limits
from tests.studio.server import NAMES
from tests.studio.test_static import packed
from tests.web.browser import IS_FIREFOX, served, until

pytest_plugins = ["tests.web.browser"]


@pytest.mark.slow
def test_the_page_without_a_server(page: Any, tmp_path: Path) -> None:
    place = package()
    if place is None or not list(place.glob("msgspec-*.whl")):
        pytest.skip("needs Node, and PYODIDE, a folder with npm's package pyodide, and in that a wheel of msgspec")
    model = tapegpt.train(["apple", "pear"], steps=50)
    static.write(str(tmp_path / "below"), Corpus.of(NAMES), "some names", Limits(), str(place), model)
    names = packed(tmp_path / "below")
    assert "tapegpt/studio/__pycache__/browser.cpython-314.pyc" in names
    assert len([each for each in names if each.startswith("cache/")]) == 4
    assert "asyncio/__init__.pyc" in ZipFile(tmp_path / "below" / "pyodide" / "python_stdlib.zip").namelist()
    with served(tmp_path) as address, served(tmp_path) as elsewhere:
        page.goto(f"{address}/below/")
        until(page, "document.getElementById('timing').textContent.startsWith('Model: ')")
        assert set("".join(page.locator("#strings-view bdi").all_text_contents())) <= set("aeplr")
        until(page, "document.querySelectorAll('#strings-view li').length === 20")
        first = page.get_attribute("#save", "href")
        send = "address => fetch(address, { mode: 'no-cors' }).then(() => 'sent', () => 'refused')"
        if not IS_FIREFOX:  # there playwright sees no worker, and not what is saved from a blob
            assert page.workers[0].evaluate(send, elsewhere) == "refused"
        page.focus("#learning_rate")
        page.keyboard.press("ArrowRight")
        until(page, TRAINED, first)
        assert "compiled" not in str(page.text_content("#timing"))
        second = page.get_attribute("#save", "href")
        page.select_option("#dataset", "own")
        page.fill("#text", "apple\npear\nplum\npapaya")
        until(page, TRAINED, second)
        assert set("".join(page.locator("#strings-view bdi").all_text_contents())) <= set("aeplrumy")
        page.evaluate("document.getElementById('model').scrollIntoView()")
        page.click("#model-view button >> nth=0")
        page.click("#stages input[value=asm] + span")
        until(page, "document.getElementById('part-error').textContent.includes('LLVM')")
        if IS_FIREFOX:
            return
        with page.expect_download() as saved:
            page.click("#save")
    assert saved.value.suggested_filename.endswith(".safetensors")
    assert tapegpt.load(saved.value.path()).vocabulary.tokens == tuple("aelmpruy")


TRAINED = """before => document.getElementById("timing").textContent.startsWith("trained")
    && document.getElementById("save").getAttribute("href") !== before"""
