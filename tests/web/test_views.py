"""Pictures of a model, drawn by a real browser under the studio's policy: what they show, also of odd data."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapegpt import web
from tests.properties import many
from tests.web.browser import emulates, until

pytest_plugins = ["tests.web.browser"]

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>views</title>
<link rel="stylesheet" href="/views.css"><body class="tapegpt"></body></html>"""
POLICY = {"Content-Security-Policy": "default-src 'self'"}
HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "&lt;b&gt; & \"'",
    "שלום",
    "👩‍👩‍👧 é",
    "a\u200b\u202eb\x00c",
    "\ud800",
    " two  spaces ",
    "",
    "x" * 300,
]
NARROW, WIDE = 280, 1200

Data = dict[str, Any]


@pytest.fixture
def views(page: Any) -> Any:
    """A page that has views.js, what it is drawn with, and nothing else."""

    def answer(route: Any) -> None:
        name = route.request.url.rpartition("/")[2]
        if name in ("views.js", "drawing.js", "views.css"):
            kind = "text/javascript" if name.endswith(".js") else "text/css"
            route.fulfill(body=web.source(name), content_type=kind, headers=POLICY)
        else:
            route.fulfill(body=PAGE if not name else "", content_type="text/html", headers=POLICY)

    page.route("http://localhost/**", answer)
    page.goto("http://localhost/")
    return page


def draw(page: Any, name: str, *arguments: Any) -> Any:
    """The element that a view makes, alone on the page."""
    script = """async ([name, args]) => {
      const views = await import("/views.js");
      document.body.replaceChildren(views[name](...args));
    }"""
    page.evaluate(script, [name, list(arguments)])
    return page.locator("body > *")


def explanation(text: str, layers: int = 1, heads: int = 1, vocabulary: str | None = None) -> Data:
    """How a model that knows nothing would read a text: of any shape, without the model."""
    tokens = [*sorted(set(text if vocabulary is None else vocabulary)), ""]
    places = range(len(text) + 1)
    row = [[token, 1 / len(tokens)] for token in tokens][:8]
    return {
        "text": text,
        "inputs": ["", *text],
        "targets": [*text, ""],
        "surprises": [float(place) for place in places],
        "loss": 1.0,
        "next": [row for _ in places],
        "target_p": [1 / len(tokens) for _ in places],
        "attention": [[[[1 / (t + 1)] * (t + 1) for t in places] for _ in range(heads)] for _ in range(layers)],
        "gradients": [{"name": name, "norms": [0.0 for _ in places]} for name in ("logits", "embeddings")],
    }


def run(means: list[float], **fields: Any) -> Data:
    losses = {"steps": list(range(10, 10 * len(means) + 1, 10)), "mean": means}
    return {"name": "this run", "losses": losses, "held_out": [], "pinned": False, **fields}


def score(text: str) -> Data:
    return {
        "tokens": list(text),
        "nats": 2.0,
        "perplexity": 7.4,
        "percentile": None,
        "surprises": [2.0] * (len(text) + 1),
    }


def every_view(text: str) -> list[tuple[str, list[Any]]]:
    """Each view with its arguments, about a text."""
    read = explanation(text[:12])
    points = [{"character": character, "x": 0.5, "y": -1.0, "share": 0.1} for character in sorted(set(text))]
    return [
        ("lossCurve", [{"runs": [run([3.0, 2.0, 2.5], name=text)], "baselines": {text: 2.2}}]),
        ("stringList", [[{"text": text, "known": True, "nats": 2.0}]]),
        ("attentionView", [read]),
        ("embeddingMap", [points]),
        ("surpriseText", [read]),
        ("probabilityBars", [read, len(read["targets"]) - 1]),
        ("gradientBars", [read, 0]),
        ("gradientPath", [read]),
        ("heatmap", [{"name": text, "rows": 2, "columns": 3, "values": [0.0, 1, -1, 0.5, 0, 0]}]),
        ("scoreTable", [[score(text)]]),
        ("influenceList", [[{"document": text, "influence": -1e-9, "steps": []}]]),
        ("codeBlock", [{"text": text, "label": text}]),
    ]


# --- odd data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_any_text_is_text_and_fits(width: int, views: Any) -> None:
    views.set_viewport_size({"width": width, "height": 800})
    drawn = [(text, *view) for text in HOSTILE for view in every_view(text)]
    for (text, name, _), (elements, taken, markup) in zip(drawn, views.evaluate(MEASURED, drawn), strict=True):
        assert elements == 1, (name, text)
        assert taken <= width, (name, text)
        assert markup == 0, (name, text)
    assert views.evaluate("window.hacked") is None


MEASURED = """async drawn => {
  const views = await import("/views.js");
  return drawn.map(([_, name, args]) => {
    document.body.replaceChildren(views[name](...args));
    const markup = document.querySelectorAll("img, script:not([src]), b").length;
    return [document.body.childElementCount, document.documentElement.scrollWidth, markup];
  });
}"""


def test_the_views_under_test_are_all_that_there_are(views: Any) -> None:
    names = views.evaluate("import('/views.js').then(Object.keys)")
    assert sorted(names) == sorted({name for name, _ in every_view("a")})


def test_nothing_moves_by_itself(views: Any) -> None:
    for name, arguments in every_view("anna"):
        draw(views, name, *arguments)
        assert views.evaluate("document.getAnimations().length") == 0


@settings(max_examples=many(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])), max_size=5))
def test_strings_come_out_as_they_are(texts: list[str], views: Any) -> None:
    drawn = draw(views, "stringList", [{"text": text, "known": False, "nats": 1.0} for text in texts])
    script = "list => [...list.querySelectorAll('.tg-string')].map(each => each.textContent)"
    assert drawn.evaluate(script) == texts


# --- numbers ----------------------------------------------------------------------------------------------------


READINGS: list[tuple[str, Any, str]] = [
    ("decimal", 1234.5, "1,234.50"),
    ("decimal", -0.126, "\N{MINUS SIGN}0.13"),
    ("short", 0, "0"),
    ("short", 0.0123456, "0.012"),
    ("given", 64, "64"),
    ("given", 0.006307, "0.00631"),
    ("given", 0.001, "0.001"),
    ("given", 2.3, "2.30"),
    ("short", 0.000001234, "1.2e\N{MINUS SIGN}6"),
    ("short", -12.345, "\N{MINUS SIGN}12.3"),
    ("short", 1234.6, "1,235"),
    ("percent", 0, "0%"),
    ("percent", 0.314, "31%"),
    ("percent", 0.0999, "10%"),
    ("percent", 0.0421, "4.2%"),
    ("percent", 0.00421, "0.42%"),
    ("percent", 0.00001, "< 0.01%"),
    ("visible", "a", "a"),
    ("visible", " ", "␣"),
    ("visible", "\u200b", "U+200B"),
    ("visible", "\u0301", "◌\u0301"),
]


def test_numbers_and_characters_read_well(views: Any) -> None:
    script = "async ([name, number]) => (await import('/drawing.js'))[name](number)"
    for name, number, text in READINGS:
        assert views.evaluate(script, [name, number]) == text


# --- loss -------------------------------------------------------------------------------------------------------


def curve(page: Any, **fields: Any) -> Any:
    return draw(page, "lossCurve", fields)


def test_losses_lie_where_the_axis_says(views: Any) -> None:
    drawn = curve(views, runs=[run([3.0, 2.0, 2.5])], baselines={"bigram": 2.5})
    path = drawn.locator(".tg-run").get_attribute("d").removeprefix("M").split("L")
    points = [tuple(map(float, point.split())) for point in path]
    assert [x for x, _ in points] == pytest.approx([100 / 3, 200 / 3, 100])
    (_, top), (_, bottom), (_, middle) = points
    assert middle == pytest.approx((top + bottom) / 2)
    level = drawn.locator(".tg-baseline").get_attribute("d").partition("L")[0]
    assert float(level.split()[1]) == pytest.approx(middle)
    assert drawn.locator(".tg-label").all_text_contents() == ["2.50 letter pairs", "2.50 training"]
    assert "loss from 3.00 to 2.50" in drawn.locator(".tg-plot").get_attribute("aria-label")


@settings(max_examples=many(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    losses=st.lists(st.floats(0, 5), min_size=1, max_size=6),
    levels=st.lists(st.floats(0, 5), max_size=5),
)
def test_labels_never_lie_on_each_other(losses: list[float], levels: list[float], views: Any) -> None:
    drawn = curve(views, runs=[run(losses)], baselines={f"model {n}": loss for n, loss in enumerate(levels)})
    boxes = sorted(drawn.locator(".tg-label").evaluate_all(BOXES))
    assert len(boxes) == len(levels) + 1
    for (_, bottom), (top, _) in pairwise(boxes):
        assert top >= bottom - 1


BOXES = "labels => labels.map(each => [each.getBoundingClientRect().top, each.getBoundingClientRect().bottom])"


def test_pinned_runs_and_held_out_losses_have_lines_of_their_own(views: Any) -> None:
    held = [{"step": 0, "loss": 3.0}, {"step": 30, "loss": 2.6}]
    pinned = [run([3.0, 2.4], name=f"pin {n}", pinned=True) for n in range(3)]
    drawn = curve(views, runs=[run([3.0, 2.0], held_out=held), *pinned], baselines=None)
    assert drawn.locator("path.tg-pinned").count() == 3
    assert drawn.locator(".tg-held").count() == 1
    labels = drawn.locator(".tg-label").all_text_contents()
    assert sorted(labels) == ["2.00 this run", "2.40 pin 0", "2.40 pin 1", "2.40 pin 2", "2.60 held out"]
    dashes = "lines => lines.map(each => getComputedStyle(each).strokeDasharray)"
    assert len(set(drawn.locator("path.tg-pinned").evaluate_all(dashes))) == 3


@pytest.mark.parametrize("means", [[], [2.5]])
def test_a_training_of_no_step_or_one_has_a_curve(means: list[float], views: Any) -> None:
    text = curve(views, runs=[run(means)], baselines=None).inner_text()
    assert "NaN" not in text
    assert ("2.50 training" if means else "Nothing is known of the training.") in text


@pytest.mark.parametrize(
    ("steps", "shown"), [([1], "0 1"), ([2, 3, 5, 6], "0 2 4 6"), ([1005, 1010], "1,000 1,005 1,010")]
)
def test_steps_of_the_axis_are_whole_and_begin_where_the_training_does(
    steps: list[int], shown: str, views: Any
) -> None:
    drawn = curve(views, runs=[{**run([]), "losses": {"steps": steps, "mean": [2.0] * len(steps)}}])
    assert drawn.locator(".tg-tick-x").all_inner_texts() == shown.split()


def test_a_step_is_read_and_chosen_with_the_pointer(views: Any) -> None:
    script = """async run => {
      const views = await import("/views.js");
      window.chosen = [];
      document.body.append(views.lossCurve({ runs: [run], moment: 10, onMoment: step => window.chosen.push(step) }));
    }"""
    views.evaluate(script, run([3.0, 2.0, 2.5, 1.5]))
    readout = views.locator(".tg-readout")
    assert readout.inner_text() == "step 10 · 3.00"
    box = views.locator(".tg-plot").bounding_box()
    views.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    assert readout.inner_text() == "step 20 · 2.00"
    assert views.evaluate("window.chosen") == []
    views.mouse.down()
    views.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 60)
    views.mouse.up()
    assert views.evaluate("window.chosen") == [20, 30]
    views.mouse.move(0, 0)
    assert readout.inner_text() == "step 10 · 3.00"


# --- how a text is read -----------------------------------------------------------------------------------------


def test_attention_tells_who_looks_at_whom(views: Any) -> None:
    read = explanation("em", heads=2)
    read["attention"][0][1] = [[1.0], [0.25, 0.75], [0.1, 0.42, 0.48]]
    drawn = draw(views, "attentionView", read)
    box = drawn.locator("svg").nth(1).bounding_box()
    for column, text in ((1, "head 1: m looks at e: 0.42"), (2, "head 1: m looks at itself: 0.48")):
        views.mouse.move(box["x"] + box["width"] * (column + 1.5) / 4, box["y"] + box["height"] * 3.5 / 4)
        assert drawn.locator(".tg-readout").inner_text() == text
    views.mouse.move(box["x"] + box["width"] * 3.5 / 4, box["y"] + box["height"] * 1.5 / 4)  # nobody looks ahead
    assert drawn.locator(".tg-readout").inner_text() == "row: the position that reads; column: what it attends to"
    table = drawn.locator("table").all_text_contents()[0]
    assert "2: m" in table
    assert "itself" not in table
    assert "m (2) 0.48" in table


def test_cells_are_darker_the_more_a_place_is_looked_at(views: Any) -> None:
    read = explanation("a")
    read["attention"] = [[[[1.0], [0.25, 0.75]]]]
    drawn = draw(views, "attentionView", read)
    script = (
        "paths => Object.fromEntries(paths.map(each => [each.getAttribute('d'), each.getAttribute('fill-opacity')]))"
    )
    shades = drawn.locator(".tg-plus").evaluate_all(script)
    assert {path: float(shade) for path, shade in shades.items()} == {
        "M0 0h1v1h-1z": 1.0,
        "M0 1h1v1h-1z": 0.25,
        "M1 1h1v1h-1z": 0.75,
    }


def test_many_heads_fit(views: Any) -> None:
    drawn = draw(views, "attentionView", explanation("abcdefghijklmnop"[:15], layers=8, heads=8))
    assert drawn.locator("svg").count() == 64
    assert drawn.locator(".tg-layer").all_inner_texts() == [f"layer {number}" for number in range(8)]
    assert drawn.get_by_role("img", name="Attention of layer 7, head 7").count() == 1
    views.set_viewport_size({"width": NARROW, "height": 800})
    assert views.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_what_a_model_has_not_is_said(views: Any) -> None:
    read = explanation("em", layers=0)
    assert draw(views, "attentionView", read).inner_text() == "The model has no attention."
    assert draw(views, "embeddingMap", []).inner_text() == "The model has no table of embeddings."


def test_characters_are_chosen_by_keyboard(views: Any) -> None:
    script = """async read => {
      const views = await import("/views.js");
      window.chosen = [];
      document.body.append(views.surpriseText(read, { onSelect: t => window.chosen.push(t), selected: 0 }));
    }"""
    views.evaluate(script, explanation("em"))
    characters = views.get_by_role("button")
    assert [each.get_attribute("aria-label") for each in characters.all()] == [
        "e: 0.00 nats",
        "m: 1.00 nats",
        "the end: 2.00 nats",
    ]
    views.keyboard.press("Tab")
    views.keyboard.press("Tab")
    assert characters.nth(1).locator(".tg-nats").evaluate("each => getComputedStyle(each).opacity") == "1"
    views.keyboard.press("Enter")
    assert views.evaluate("window.chosen") == [1]
    assert [each.get_attribute("aria-pressed") for each in characters.all()] == ["false", "true", "false"]


def test_surprise_is_colour(views: Any) -> None:
    read = {**explanation("ab"), "surprises": [0.0, 3.0, 60.0]}
    drawn = draw(views, "surpriseText", read)
    script = "all => all.map(each => each.style.getPropertyValue('--tg-level'))"
    assert drawn.locator(".tg-surprising").evaluate_all(script) == ["0%", "50%", "100%"]


@pytest.mark.parametrize(("came", "rows"), [("a", 2), ("q", 3)])
def test_what_came_is_marked_though_it_was_not_expected(came: str, rows: int, views: Any) -> None:
    read = explanation("a")
    read.update(next=[[["a", 0.9], ["b", 0.09]]] * 2, targets=[came, ""], target_p=[0.9 if came == "a" else 0.001, 0.1])
    drawn = draw(views, "probabilityBars", read, 0)
    assert drawn.locator("tr").count() == rows
    marked = drawn.locator(".tg-came").inner_text().split()
    assert marked[:2] == [came, "90%" if came == "a" else "0.10%"]


def test_names_of_labels_are_short_above_dots(views: Any) -> None:
    read = {**explanation("a"), "inputs": ["", "country=France"]}
    assert draw(views, "gradientPath", read).locator("thead th").all_inner_texts() == ["d loss / d", "•", "co…", "norm"]


def test_gradients_are_dots_by_area(views: Any) -> None:
    read = {**explanation("a"), "gradients": [{"name": "logits", "norms": [4.0, 1.0]}]}
    drawn = draw(views, "gradientPath", read)
    script = "all => all.map(each => each.style.getPropertyValue('--tg-size'))"
    assert drawn.locator(".tg-dot").evaluate_all(script) == ["100.0%", "50.0%"]
    assert drawn.locator("tbody .tg-number").inner_text() == "4.12"


def test_the_gradient_at_a_position_is_bars(views: Any) -> None:
    read = {**explanation("a"), "gradients": [{"name": "logits", "norms": [4.0, 1.0]}, {"name": "x", "norms": [1, 2]}]}
    drawn = draw(views, "gradientBars", read, 0)
    assert drawn.locator(".tg-bar").evaluate_all("all => all.map(each => each.style.width)") == ["100%", "25%"]
    assert drawn.locator(".tg-number").all_inner_texts() == ["4.00", "1.00"]
    assert drawn.locator(".tg-readout").inner_text() == "at the start"


# --- parameters, lists, code ------------------------------------------------------------------------------------


def test_a_map_puts_characters_where_they_are(views: Any) -> None:
    points = [{"character": "a", "x": -1, "y": 1, "share": 0.4}, {"character": "b", "x": 1, "y": -1, "share": 0.1}]
    drawn = draw(views, "embeddingMap", points)
    boxes = drawn.locator(".tg-point").evaluate_all(
        "all => all.map(each => [each.getBoundingClientRect().left, each.getBoundingClientRect().top])"
    )
    assert boxes[0][0] < boxes[1][0]
    assert boxes[0][1] < boxes[1][1]
    assert drawn.locator(".tg-vowel").all_inner_texts() == ["a"]
    assert drawn.locator(".tg-readout").inner_text() == "their two main directions · vowels in bold"


@pytest.mark.parametrize("width", [300, 900])
def test_characters_of_a_map_never_lie_on_one_another(width: int, views: Any) -> None:
    """Points that are all near one another, and more names than there is room for."""
    names = [*"abcdefghijklmnopqrstuvwxyz", *[f"word {number}" for number in range(74)]]
    points = [
        {"character": name, "x": place % 5 / 50, "y": place % 7 / 70, "share": 1 / (place + 1)}
        for place, name in enumerate(names)
    ]
    views.set_viewport_size({"width": width, "height": 900})
    drawn = draw(views, "embeddingMap", points)
    until(views, "document.querySelector('.tg-map line')")
    boxes = drawn.locator(".tg-point:not([hidden])").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect()).map(each => [each.x, each.y, each.right, each.bottom])"
    )
    area = drawn.locator(".tg-map").bounding_box()
    assert 26 < len(boxes) <= 100
    for place, (left, top, right, bottom) in enumerate(boxes):
        assert area["x"] <= left < right <= area["x"] + area["width"] + 1
        assert area["y"] <= top < bottom <= area["y"] + area["height"] + 1
        for other in boxes[:place]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    lines = drawn.locator(".tg-map line").count()
    assert len(boxes) - 5 <= lines < len(boxes)


@pytest.mark.parametrize(("rows", "columns", "cells"), [(2, 3, 6), (300, 2, 200), (1, 1000, 125)])
def test_a_heatmap_shows_all_numbers_or_means_of_neighbours(rows: int, columns: int, cells: int, views: Any) -> None:
    values = [1.0] * (rows * columns)
    values[0] = -3.0
    drawn = draw(views, "heatmap", {"name": "wte", "rows": rows, "columns": columns, "values": values})
    paths = drawn.locator("svg path").evaluate_all("paths => paths.map(each => each.getAttribute('d'))")
    assert sum(path.count("M") for path in paths) in (cells, cells - 1)  # a mean may be zero
    assert f"wte, {rows} \N{MULTIPLICATION SIGN} {columns:,}" in drawn.inner_text()


def test_a_number_of_a_heatmap_is_read_with_the_pointer(views: Any) -> None:
    drawn = draw(views, "heatmap", {"name": "w", "rows": 2, "columns": 2, "values": [0.1, -0.2, 0.3, 0.4]})
    box = drawn.locator("svg").bounding_box()
    views.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    assert drawn.locator(".tg-readout").inner_text() == "row 1, column 2: \N{MINUS SIGN}0.20"


def test_influences_say_when_and_how_much(views: Any) -> None:
    influences = [
        {"document": "anna", "influence": 0.5, "steps": [12, 1400]},
        {"document": "bob", "influence": -0.25, "steps": []},
    ]
    drawn = draw(views, "influenceList", influences)
    assert [text.split("\n") for text in drawn.locator("li").all_inner_texts()] == [
        ["anna", "step 12, 1,400", "0.50"],
        ["bob", "never used", "\N{MINUS SIGN}0.25"],
    ]
    assert drawn.locator(".tg-against").count() == 1


def test_long_code_scrolls_in_its_own_place(views: Any) -> None:
    views.set_viewport_size({"width": NARROW, "height": 800})
    text = "\n".join(["x" * 500, "", *map(str, range(200))]) + "\n"
    drawn = draw(views, "codeBlock", {"text": text, "label": "attention"})
    assert views.evaluate("document.documentElement.scrollWidth") <= NARROW
    assert drawn.locator("code").evaluate("code => code.textContent") == text
    assert "202 lines" in drawn.inner_text()
    views.keyboard.press("Tab")
    views.keyboard.press("End")
    scroller = drawn.locator(".tg-scroll")
    scroller.evaluate("node => new Promise(done => node.scrollTop ? done() : (node.onscroll = done))")


# --- light and dark ---------------------------------------------------------------------------------------------


def luminance(colour: list[int]) -> float:
    """Of sRGB from 0 to 255, as WCAG 2 defines it."""
    parts = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: list[int], other: list[int]) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@emulates
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(scheme: Any, views: Any) -> None:
    views.emulate_media(color_scheme=scheme)
    script = """name => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = `var(--tg-${name})`;
      return getComputedStyle(probe).color.match(/\\d+/g).map(Number);
    }"""
    colours = {
        name: views.evaluate(script, name)
        for name in ("ground", "faint", "ink", "soft", "accent", "warm", "heat", "minus", "plus")
    }
    for name in ("ink", "soft", "accent", "warm", "minus", "plus"):
        for ground in ("ground", "faint"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["ink"], colours["heat"]) >= 4.5
    assert (luminance(colours["ground"]) > 0.5) == (scheme == "light")


def test_simpler_models_have_one_name_each_in_texts_and_in_pictures() -> None:
    (line,) = [line for line in web.source("drawing.js").splitlines() if line.startswith("const LEVEL_NAMES = ")]
    assert dict(re.findall(r'"?([\w-]+)"?: "([^"]+)"', line)) == web.LEVELS


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_theme_overrides_the_system(theme: str, views: Any) -> None:
    views.emulate_media(color_scheme="dark" if theme == "light" else "light")
    views.locator("body").evaluate("(node, theme) => node.style.colorScheme = theme", theme)
    colour = views.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (luminance(colour) > 0.5) == (theme == "light")
    views.locator("body").evaluate("node => node.style.colorScheme = ''")
