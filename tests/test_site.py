"""The documentation site is built as `zensical.toml` says, in a copy: no link is broken, nothing comes from elsewhere.

Not here: whether the pages are right (`test_docs.py`), and what the views draw from data (`web/test_views.py`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import tapegpt
from benchmarks.pyodide import package
from tapegpt.studio import static
from tapegpt.studio.limits import Limits
from tests.web.browser import IS_FIREFOX, TIMEOUT, emulates, inaccessible, served, until

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "docs").glob("*.md"))
pytest_plugins = ["tests.web.browser"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", copy / "docs", ignore=shutil.ignore_patterns("figures"))
    for name in ("zensical.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    for command in (["docs/make_figures.py"], ["-m", "zensical", "build", "--strict"]):
        done = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return copy / "site"


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "href" in given and tag == "a":
            self.links.append(given["href"])
        else:
            self.loaded += [given[name] for name in ("href", "src") if name in given]


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    return ((path, Page(path)) for path in sorted(site.glob("*.html")) if path.name != "404.html")


def test_every_page_is_there_and_can_be_reached(site: Path) -> None:
    made = dict(pages(site))
    assert {path.stem for path in made} == {source.stem for source in SOURCES}
    reached = {Path(urlsplit(link).path).stem for link in made[site / "index.html"].links}
    assert {source.stem for source in SOURCES} - reached == set()


def test_links_lead_somewhere(site: Path) -> None:
    made = dict(pages(site))
    for path, page in made.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if not parts.scheme:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                target = target / "index.html" if target.is_dir() else target
                assert target.exists(), f"{path.name}: {link}"
                if parts.fragment and target in made:  # a picture's says whether it is for light or dark
                    assert unquote(parts.fragment) in made[target].anchors, f"{path.name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = {link for _, page in pages(site) for link in page.loaded}
    assert loaded
    assert {link for link in loaded if urlsplit(link).netloc} == set()


def test_every_public_name_is_documented(site: Path) -> None:
    anchors = Page(site / "api.html").anchors
    assert {name for name in tapegpt.__all__ if f"tapegpt.{name}" not in anchors} == set()


def test_records_show_their_fields(site: Path) -> None:
    text = re.sub("<[^>]+>", "", (site / "api.html").read_text(encoding="utf-8"))
    assert "n_embd: int = 16" in text
    assert "width of the residual stream" in text


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with served(site) as address:
        yield address


def test_the_search_finds(address: str, page: Any) -> None:
    page.goto(f"{address}/index.html")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("combobox").fill("temperature")
    page.get_by_role("option", name="Drawing").first.click()
    page.wait_for_url("**/api.html*#tapegpt.Drawing")


def test_live_figures_are_drawn_and_move_together(site: Path, page: Any, problems: list[str]) -> None:
    page.goto((site / "how-a-gpt-works.html").as_uri())  # from the disk, which has no search
    assert page.locator("[data-figure] figure").count() == 5
    strings, moment = page.locator("[data-figure=strings] li"), page.locator("[data-figure=attention] output")
    assert (strings.count(), moment.inner_text()) == (20, "after 1,000 steps")
    learned = strings.all_inner_texts()
    page.locator("[data-figure=loss] input").fill("0")
    assert (strings.count(), moment.inner_text()) == (20, "before the first step")
    assert not set(learned) & set(strings.all_inner_texts())
    if not IS_FIREFOX:  # which says nothing of it
        problems.remove("console: Failed to load resource: net::ERR_FILE_NOT_FOUND")


@emulates
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_figures_fit_and_are_light_or_dark_as_the_site_is(address: str, page: Any, scheme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{address}/how-a-gpt-works.html")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for figure in page.locator("[data-figure] .tapegpt").all():
        assert figure.evaluate("node => getComputedStyle(node).colorScheme") == scheme
        assert figure.evaluate("node => node.scrollWidth <= node.clientWidth")


@pytest.mark.parametrize("name", ["cli", "index", "tutorial", "production", "api"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_line_of_code_is_cut_off(address: str, page: Any, width: int, name: str) -> None:
    wide = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).length"
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".md-content pre > code").evaluate_all(wide) == 0
    assert name != "cli" or page.locator(".md-typeset__scrollwrap").evaluate_all(wide) == 0


def test_copy_buttons_give_commands_without_prompts_and_output(address: str, page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for name, number, copied in (
        ("index", 0, "tapegpt train --dataset names --samples 3\n"),
        ("tutorial", 1, "tapegpt doctor dinosaurs.txt\n"),
        ("ladder", 0, 'import inspect\nimport tapegpt\nnames = tapegpt.Corpus.dataset("names")\n'),
        ("scaling", 3, "loss = E + ((A / parameters^a)^q + (B / strings^b)^q + (C / steps^c)^q)^(1 / q)\n"),
    ):
        page.goto(f"{address}/{name}.html")
        page.locator("[data-clipboard-target]").nth(number).click()
        assert page.evaluate("navigator.clipboard.readText()") == copied, name


# --- blocks that run


@pytest.fixture(scope="module")
def running(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site with Pyodide beside it."""
    place = package()
    if place is None or not list(place.glob("msgspec-*.whl")):
        pytest.skip("needs Node, and PYODIDE, a folder with npm's package pyodide, and in that a wheel of msgspec")
    copy = tmp_path_factory.mktemp("running") / "site"
    shutil.copytree(site, copy)
    playground = str(copy / "figures" / "playground")
    static.write(playground, tapegpt.Corpus.dataset("names"), "names", Limits(), str(place))
    with served(copy) as address:
        yield address


def wait(page: Any) -> None:
    """Wait until nothing runs: Python, which has to be loaded first, takes its time on a busy machine."""
    page.wait_for_function("!halt", timeout=5 * TIMEOUT, polling=100)


class Block:
    """A block as a reader sees it, by its number on the page."""

    def __init__(self, page: Any, number: int) -> None:
        self._page = page
        self._node = page.locator(".highlight:has(.run)").nth(number)
        self.note = self._node.locator(".note")

    @property
    def shown(self) -> list[str]:
        return str(self._node.locator("code").text_content()).splitlines()

    def press(self, name: str) -> None:
        self._node.get_by_role("button", name=name).click()

    def run(self) -> list[str]:
        self.press("Run")
        return self.result()

    def result(self) -> list[str]:
        wait(self._page)
        return self.shown

    def write(self, text: str) -> None:
        if self._node.locator("textarea").is_hidden():
            self.press("Edit")
        self._node.locator("textarea").fill(text)

    @property
    def is_marked(self) -> bool:
        return "changed" in str(self._node.get_attribute("class")) and bool(self._node.locator(".mark").is_visible())


def test_blocks_run_and_can_be_changed(running: str, page: Any) -> None:
    page.goto(f"{running}/how-a-gpt-works.html")
    assert not page.locator(".needs").count()
    training, tokens = Block(page, 0), Block(page, 1)
    printed = tokens.shown
    assert not [worker for worker in page.workers if "blocks" in worker.url]  # until something runs
    tokens.press("Run")
    until(page, "document.querySelectorAll('.note')[1].textContent.startsWith('Loading Python … ')")
    assert tokens.result() == printed  # what is above it has run
    assert training.shown[-1].startswith("<GPT of 4,192 parameters")
    assert tokens.note.inner_text().startswith("done in ")
    tokens.press("Edit")
    page.keyboard.press("ControlOrMeta+End")
    page.keyboard.type("\n[2 * token for token in tokens]")
    page.keyboard.press("ControlOrMeta+Enter")
    assert tokens.result() == [*printed, ">>> [2 * token for token in tokens]", "[52, 8, 24, 24, 0, 52]"]
    assert page.evaluate("document.activeElement.textContent") == "Run"
    assert tokens.is_marked
    assert not training.is_marked
    tokens.write("tokens[99]")
    assert tokens.run() == [">>> tokens[99]", "NameError: name 'tokens' is not defined"]  # not what it left before
    tokens.write("bos = 1\nwhile True: pass")
    tokens.press("Run")
    until(page, "document.querySelectorAll('.note')[1].textContent.startsWith('Running … ')")
    tokens.press("Stop")
    assert tokens.result() == [">>> tokens[99]", "NameError: name 'tokens' is not defined"]
    assert tokens.note.inner_text() == "stopped"
    tokens.press("Reset")
    assert tokens.shown == printed
    assert not tokens.is_marked


def test_figures_show_the_model_and_the_word_of_the_reader(running: str, page: Any) -> None:
    page.goto(f"{running}/how-a-gpt-works.html")
    word, moment = page.locator("[data-figure=surprise] .word input"), page.locator("[data-figure=loss] output")
    assert moment.inner_text() == "after 1,000 steps"
    Block(page, 0).write('import tapegpt\nmodel = tapegpt.train(["emma", "eva"] * 9, steps=30, n_embd=8)')
    Block(page, 0).run()
    assert moment.inner_text() == "after 30 steps"
    assert set(page.locator("[data-figure=embeddings] .tg-point").all_inner_texts()) == set("aemv")
    for field in ("eva", "zoe"):
        word.fill(field)
        word.press("Enter")
        wait(page)
    assert page.locator(".word [role=status]").inner_text().startswith("text 'zoe': the model does not know 'oz'")
    heads = page.locator("[data-figure=gradients] thead th").all_inner_texts()
    assert heads[1:-1] == ["•", "e", "v", "a"]


def test_commands_run_and_can_be_changed(running: str, page: Any) -> None:
    page.goto(f"{running}/tutorial.html")
    data = Block(page, 0)
    printed = data.shown
    assert data.run() == printed
    data.write("echo emma | tapegpt generate\ntapegpt --version")
    failed, version = "tapegpt: error: ", f"tapegpt {tapegpt.__version__}"
    shown = data.run()
    assert [shown[0], shown[1][: len(failed)], *shown[2:]] == [
        "$ echo emma | tapegpt generate",
        failed,
        "$ tapegpt --version",
        version,
    ]
    page.locator("[data-clipboard-target]").nth(0).click()
    assert page.evaluate("navigator.clipboard.readText()") == "echo emma | tapegpt generate\ntapegpt --version\n"


def test_pyodide_is_asked_for_when_something_runs(address: str, page: Any, problems: list[str]) -> None:
    page.goto(f"{address}/tutorial.html")
    assert problems == []
    Block(page, 0).run()
    assert Block(page, 0).note.inner_text().startswith("Python does not load: ")
    asked = [problem for problem in problems if problem.startswith("request: ")]
    assert asked
    assert [each for each in asked if not each.startswith(f"request: {static.PYODIDE}")] == []
    problems.clear()


@pytest.mark.parametrize("name", ["tutorial", "how-a-gpt-works"])
def test_pages_from_the_disk_say_what_running_needs(site: Path, name: str, page: Any, problems: list[str]) -> None:
    page.goto((site / f"{name}.html").as_uri())
    assert page.locator(".needs").inner_text() == "This needs JavaScript, and a page from a server instead of the disk."
    assert page.locator(".run, .word").count() == 0
    if not IS_FIREFOX:  # which says nothing of it
        problems.remove("console: Failed to load resource: net::ERR_FILE_NOT_FOUND")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["tutorial", "how-a-gpt-works"])
def test_pages_with_blocks_are_accessible(address: str, page: Any, scheme: str, name: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{address}/{name}.html")
    Block(page, 1).write("another text")
    assert inaccessible(page) == []
