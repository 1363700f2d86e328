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
from tests.web.browser import served

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
    problems.remove("console: Failed to load resource: net::ERR_FILE_NOT_FOUND")


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


@pytest.mark.parametrize("width", [390, 1280])
def test_no_line_of_code_is_cut_off(address: str, page: Any, width: int) -> None:
    wide = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).length"
    page.set_viewport_size({"width": width, "height": 900})
    for name in ("index", "tutorial", "cli", "production", "api"):
        page.goto(f"{address}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.locator(".md-content pre > code").evaluate_all(wide) == 0, name
    page.goto(f"{address}/cli.html")
    assert page.locator(".md-typeset__scrollwrap").evaluate_all(wide) == 0


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
