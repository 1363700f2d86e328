"""The studio's page in a real Firefox, with a server and without one: what a person does first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.pyodide import package
from tapegpt import Corpus
from tapegpt.studio import static
from tapegpt.studio.limits import Limits
from tests.studio.server import running
from tests.web.browser import served
from tests.web.firefox import ARROW_LEFT, Tab, firefox

FRUITS = ["apple", "pear", "plum", "papaya", "pomelo", "grape", "lime", "lemon", "mango", "melon"]
DROP = """(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([%r], "fruits.csv"));
    document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer, bubbles: true }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
})()"""


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    (tmp_path / "profile").mkdir()
    with firefox(tmp_path / "profile") as tab:
        yield tab
        assert tab.problems == []


def strings(tab: Tab) -> list[str]:
    found: list[str] = tab.evaluate(
        "[...document.querySelectorAll('#strings-view bdi')].map((each) => each.textContent)"
    )
    return found


def trained(tab: Tab, before: str = "") -> str:
    """Wait for another run than this one; its address."""
    tab.until(TRAINED % before)
    found: str = tab.evaluate("document.querySelector('#save').getAttribute('href')")
    return found


TRAINED = """document.querySelector("#timing").textContent.startsWith("trained")
    && document.querySelector("#save").getAttribute("href") !== "%s\""""


def story(tab: Tab, address: str, tmp_path: Path) -> None:
    """First strings, a slider, a string that is read, a file that is opened and one that is dropped."""
    tab.open(address)
    first = trained(tab)
    assert len(strings(tab)) == 20
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    tab.press("#n_embd", ARROW_LEFT)
    second = trained(tab, first)
    assert tab.evaluate("document.querySelector('#n_embd').getAttribute('aria-valuetext')") == "12"
    text = strings(tab)[0]
    tab.click("#strings-view button")
    tab.until(f"document.querySelectorAll('#surprise-view button').length === {len(text) + 1}")
    assert tab.evaluate("document.querySelector('#probe').value") == text
    assert tab.evaluate("document.querySelectorAll('#surprise-view .tg-arcs path').length") > 0
    tab.click("#model-view button")
    tab.until("document.querySelector('#part-view .tg-map')")
    (tmp_path / "fruits.txt").write_text("\n".join(FRUITS))
    tab.give("#file", tmp_path / "fruits.txt")
    third = trained(tab, second)
    assert set("".join(strings(tab))) <= set("".join(FRUITS))
    tab.evaluate(DROP % "".join(f"{number},{fruit}\n" for number, fruit in enumerate(["fruit", *FRUITS])))
    tab.until("document.querySelector('#findings button')")
    tab.click("#findings li:nth-child(1) button:nth-of-type(2)")
    trained(tab, third)
    assert tab.evaluate("document.querySelector('#text').value.split('\\n')") == FRUITS


@pytest.mark.slow
def test_the_page_of_a_server(tab: Tab, tmp_path: Path) -> None:
    with running(corpus=Corpus.dataset("names")) as client:
        story(tab, f"http://127.0.0.1:{client.port}/", tmp_path)


@pytest.mark.slow
def test_the_page_without_a_server(tab: Tab, tmp_path: Path) -> None:
    place = package()
    if place is None or not list(place.glob("msgspec-*.whl")):
        pytest.skip("needs Node, and PYODIDE, a folder with npm's package pyodide, and in that a wheel of msgspec")
    static.write(tmp_path / "page", Corpus.dataset("names"), "names", Limits(), str(place))
    with served(tmp_path / "page") as address:
        story(tab, f"{address}/", tmp_path)
