"""A model as a page, in a real browser, from its file: what it says, what can be asked of it, and that it is safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT, Config, TapeGPTError
from tapegpt.export.page import export
from tests.export.examples import HOSTILE, STRINGS, trained, untrained
from tests.web.browser import emulates, enter, inaccessible, until

pytest_plugins = ["tests.web.browser"]

LABELS = {"<img src=x onerror=hacked=1>": ["f", "m"] * 4, "n": list("aabbaabb")}
SHOWN = "all => all.map(each => each.dataset.nats)"
TRAINED = "document.getElementById('trained').textContent.includes('steps:')"


@pytest.fixture
def opened(page: Any, tmp_path: Path) -> Any:
    """Opens the page of a model, from a double click."""

    def opened(model: GPT, **options: Any) -> Any:
        path = tmp_path / "'\"<b>&amp;#?%.html"
        path.write_bytes(export(model, **options))
        page.goto(path.as_uri())
        until(page, "document.querySelector('#strings button') && document.querySelector('#reading button')")
        return page

    return opened


def strings(page: Any) -> list[str]:
    found: list[str] = page.locator("#strings button").all_text_contents()
    return found


def own(model: GPT, n: int = 24, **options: Any) -> list[str]:
    return [text or "(empty)" for text in model.generate(n, **{"seed": 42, **options})]


def test_it_generates_and_reads_as_the_model_does(opened: Any) -> None:
    model = trained()
    page = opened(model)
    assert strings(page) == own(model)
    page.get_by_role("button", name="Others").click()
    assert strings(page) == own(model, seed=43)
    enter(page.get_by_label("How many"), "5")
    page.get_by_label("Temperature").fill("1.5")
    assert strings(page) == own(model, 5, seed=43, temperature=1.5)
    page.get_by_role("button", name="Copy").click()
    until(page, "document.getElementById('copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == strings(page)
    page.get_by_label("Begins with").fill("bo")
    assert all(text.startswith("bo") for text in strings(page))
    page.get_by_label("A string").fill("anna")
    nats = [float(each) for each in page.locator("#reading .tg-nats").evaluate_all(SHOWN)]
    assert nats == pytest.approx(model.score(["anna"])[0].surprises, abs=0.051)
    page.locator("#reading button").nth(2).press("Enter")
    assert "After an" in page.inner_text("#reading figcaption")
    assert page.locator("#reading .tg-arcs path").count() == 2 * 3  # heads, and what they look at
    (likeliest, share), *_ = model.next_probabilities("an").items()
    assert page.inner_text("#reading tr >> nth=0").split() == [likeliest or "⏎", f"{share:.0%}"]


def test_what_cannot_be_is_said_in_a_line(opened: Any) -> None:
    page = opened(trained())
    page.get_by_label("Begins with").fill("x")
    page.get_by_label("A string").fill("ann☃")
    assert page.locator("[role=alert]").all_text_contents() == [f'the model does not know "{c}"' for c in "x☃"]
    page.get_by_label("Begins with").fill("")
    page.get_by_label("A string").fill("")
    assert page.locator("[role=alert]").all_text_contents() == ["", ""]
    assert page.locator("#reading button").count() == 1  # the end


@emulates
@pytest.mark.parametrize(("width", "theme"), [(320, "dark"), (1280, "light")])
def test_it_fits_and_axe_finds_nothing(width: int, theme: str, opened: Any, page: Any) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=theme)
    opened(trained(), train=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert inaccessible(page) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (theme == "light")


@pytest.mark.parametrize("options", [{}, {"engine": "fast", "batch_size": 3, "n_gram": 2, "kn_share": 0.2}])
def test_it_trains_again(options: Any, opened: Any) -> None:
    model = tapegpt.train(STRINGS, steps=60, n_embd=8, n_head=2, block_size=8, **options)
    page = opened(model, train=True)
    before = strings(page)
    page.get_by_role("button", name="Train it again").click()
    until(page, TRAINED)
    assert page.inner_text("#trained").startswith("60 steps: the same model ")
    assert page.locator("#loss figure").count() == 1
    said = page.get_attribute("#loss [role=img]", "aria-label")
    first, last = model.losses[0], sum(model.losses[-3:]) / 3
    assert f"from {first:.2f} to {last:.2f} nats per token in 60 steps" in said
    assert strings(page) == before


def test_what_cannot_be_trained_again_is_said() -> None:
    with pytest.raises(TapeGPTError, match="does not know what it was trained on"):
        export(untrained(["a"]), train=True)


def test_any_text_is_text(opened: Any) -> None:
    labelled = tapegpt.train([*STRINGS, "eve"], labels=LABELS, steps=20, n_embd=4, n_head=1, block_size=8)
    page = opened(labelled)
    assert page.get_by_label("<img").first.locator("option").all_text_contents() == ["any", "f", "m"]
    page = opened(untrained(HOSTILE))
    page.get_by_label("Temperature").fill("2")
    enter(page.get_by_label("How many"), "100")
    assert len(strings(page)) == 100
    page.get_by_label("A string").fill("".join(HOSTILE).replace("\0", ""))
    assert page.locator("#reading button").count() == len(HOSTILE)
    assert page.evaluate("typeof hacked") == "undefined"


@pytest.mark.slow
def test_the_file_is_small_and_says_where_nothing_goes() -> None:
    page = export(untrained(sorted("abcdefghijklmnopqrstuvwxyz"), Config()))
    assert len(page) < 200_000
    assert b"default-src 'none'; script-src 'sha256-" in page
    assert json.dumps("</script>").encode() not in export(untrained(HOSTILE))
