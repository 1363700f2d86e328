"""The page about many trainings: what it says, that it is safe and whole, and what can be done with it in a browser."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config, TapeGPTError
from tapegpt.experiments.population import Candidate, Outcome
from tapegpt.models.curves import curve
from tapegpt.settings import Settings
from tapegpt.web import leaderboard
from tapegpt.web.leaderboard import MOST, POINTS
from tests.web.browser import inaccessible, until

pytest_plugins = ["tests.web.browser"]

BASELINES = {"uniform": 3.3, "bigram": 2.4}
FIELDS = [(16, 0.001, 900), (8, 0.1, 900), (32, 0.03, 300), (16, 0.5, 100)]
LOSSES = [2.1, 2.3, 2.7, math.inf]


def outcome(number: int, n_embd: int, learning_rate: float, steps: int, loss: float, **fields: Any) -> Outcome:
    means = [3.3 - step / steps for step in range(steps)]
    return Outcome(
        Candidate(number, Config(n_embd=n_embd), Settings(steps=steps, learning_rate=learning_rate)),
        **{
            "loss": loss,
            "error": 0.01 if number < 2 else None,
            "training_loss": loss,
            "seconds": 0.0123,
            "losses": curve(means),
            "parameters": 1000 * n_embd,
            "diverged": "" if math.isfinite(loss) else "the loss is not finite",
            **fields,
        },
    )


OUTCOMES = [outcome(number, *FIELDS[number], LOSSES[number]) for number in range(4)]
TEXT = leaderboard.page(OUTCOMES, BASELINES)


def data_of(text: str) -> dict[str, Any]:
    start = text.index('id="data">') + len('id="data">')
    data: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return data


def column(text: str, name: str) -> list[Any]:
    (values,) = [each["values"] for each in data_of(text)["columns"] if each["name"] == name]
    found: list[Any] = values
    return found


# --- what it says -----------------------------------------------------------------------------------------------


def test_the_page_tells_the_best_and_what_to_compare_it_with() -> None:
    assert "<h1>A sweep of 4 trainings</h1>" in TEXT
    assert (
        "The best one costs 2.1000 ± 0.0100 nats per token of strings that none of them has seen: n_embd 16, "
        "learning_rate 0.001. To compare, guessing 3.30, letter pairs 2.40. Of all, 1 diverged." in TEXT
    )


def test_axes_are_what_the_candidates_differ_in_and_how_far_they_came() -> None:
    data = data_of(TEXT)
    assert [data["columns"][axis]["name"] for axis in data["axes"]] == ["n_embd", "learning_rate", "steps", "held-out"]
    assert column(TEXT, "held-out") == [2.1, 2.3, 2.7, None]
    assert column(TEXT, "learning_rate") == [0.001, 0.1, 0.03, 0.5]
    assert column(TEXT, "steps") == [900, 900, 300, 100]


def test_the_table_can_be_read_without_a_script() -> None:
    body = TEXT[TEXT.index("<tbody>") : TEXT.index("</tbody>")]
    rows = [line.replace("</th>", "").replace("</tr>", "").split("<td>") for line in body.splitlines()[1:]]
    cells = [[cell.replace("</td>", "").rpartition(">")[2] for cell in row] for row in rows]
    assert cells == [
        ["1", "2.1000", "0.0100", "2.1000", "16", "0.001", "16,000", "900", "0.0123"],
        ["2", "2.3000", "0.0100", "2.3000", "8", "0.1", "8,000", "900", "0.0123"],
        ["3", "2.7000", "", "2.7000", "32", "0.03", "32,000", "300", "0.0123"],
        ["4", "diverged", "", "diverged", "16", "0.5", "16,000", "100", "0.0123"],
    ]


def test_one_training_and_none_that_ended_are_told() -> None:
    assert "<h1>A sweep of 1 training</h1>" in leaderboard.page(OUTCOMES[:1])
    assert "None of them finished: the loss is not finite." in leaderboard.page(OUTCOMES[3:], BASELINES)
    with pytest.raises(TapeGPTError, match="there is none: let the sweep run longer"):
        leaderboard.page([])


def test_of_many_the_best_are_shown() -> None:
    text = leaderboard.page(OUTCOMES * MOST)
    assert "<h1>A sweep of 2,000 trainings</h1>" in text
    assert "And 1,500 more, which are worse." in text
    assert len(column(text, "rank")) == len(data_of(text)["curves"]) == MOST


@given(st.lists(st.floats(0, 9) | st.just(math.inf), max_size=3 * POINTS))
def test_curves_keep_their_mean_and_their_end(losses: list[float]) -> None:
    (thin,) = data_of(leaderboard.page([outcome(0, 16, 0.1, 1, 2.0, losses=curve(losses))]))["curves"]
    known = [(step, loss) for step, loss in enumerate(losses, 1) if math.isfinite(loss)]
    if len(losses) == len(known):
        assert len(thin["steps"]) == len(thin["mean"]) == min(len(known), POINTS)
        assert thin["steps"][-1:] == [step for step, _ in known[-1:]]
    if thin["mean"]:
        assert min(loss for _, loss in known) <= max(thin["mean"]) * 1.001
        assert max(loss for _, loss in known) >= min(thin["mean"]) * 0.999


def test_the_page_is_the_same_each_time_and_asks_for_nothing() -> None:
    assert leaderboard.page(OUTCOMES, BASELINES) == TEXT
    assert "default-src 'none'" in TEXT
    assert not any(attribute in TEXT for attribute in (" src=", " href=", "@import", "url("))


def test_nothing_that_is_told_is_markup() -> None:
    hostile = "</script><!--<img src=x>&'\""
    text = leaderboard.page([outcome(0, 16, 0.1, 9, math.inf, diverged=hostile)], {hostile: 2.0})
    assert "<img" not in text
    assert "<!--" not in text
    assert data_of(text)["baselines"] == {hostile: 2.0}


# --- in a browser -----------------------------------------------------------------------------------------------


@pytest.fixture
def opened(page: Any, tmp_path: Path) -> Any:
    return show(page, tmp_path, TEXT)


def show(page: Any, place: Path, text: str) -> Any:
    (place / "leaderboard.html").write_text(text, encoding="utf-8")
    page.goto((place / "leaderboard.html").as_uri())
    return page


def ranks(page: Any) -> list[str]:
    """Of the rows that are seen, in their order."""
    found: list[str] = page.locator("tbody tr:visible th").all_inner_texts()
    return found


def readouts(page: Any) -> list[str]:
    found: list[str] = page.locator(".tg-readout").all_inner_texts()
    return found


def test_each_training_is_a_line_in_both_pictures(opened: Any) -> None:
    assert [opened.locator(f"{kind} .line").count() for kind in (".tg-parallel", ".tg-learning")] == [4, 4]
    assert opened.locator(".tg-parallel .diverged").count() == 1
    assert opened.locator(".tg-baseline").count() == 2
    assert opened.locator(".lb-curves .tg-label").all_inner_texts() == ["3.30 guessing", "2.40 letter pairs"]
    assert readouts(opened) == ["rank 1 · 2.1000 nats · n_embd 16 · learning_rate 0.001 · steps 900"] * 2
    assert opened.locator(".shown").count() == 3


def test_lines_lie_where_the_axes_say(opened: Any) -> None:
    d = opened.locator(".tg-parallel .shown").get_attribute("d").removeprefix("M").split("L")
    points = [tuple(map(float, point.split())) for point in d]
    assert [x for x, _ in points] == pytest.approx([0, 100 / 3, 200 / 3, 100])
    assert [y for _, y in points] == pytest.approx([50, 100, 0, 100])


def test_what_is_pointed_at_shows_everywhere_and_a_click_keeps_it(opened: Any) -> None:
    plot = opened.locator(".tg-parallel .lb-plot")
    box = plot.bounding_box()
    opened.mouse.move(box["x"] + 0.999 * box["width"], box["y"] + box["height"] / 3 + 1)  # the worst loss
    assert all(text.startswith("rank 3 ") for text in readouts(opened))
    assert opened.locator("tr.shown th").inner_text() == "3"
    opened.mouse.move(0, 0)
    assert all(text.startswith("rank 1 ") for text in readouts(opened))
    opened.locator("tbody tr").nth(1).click()
    opened.mouse.move(0, 0)
    assert all(text.startswith("rank 2 ") for text in readouts(opened))


def test_the_table_is_sorted_and_walked_by_keyboard(opened: Any) -> None:
    opened.get_by_role("button", name="learning_rate").focus()
    opened.keyboard.press("Enter")
    assert ranks(opened) == ["1", "3", "2", "4"]
    opened.keyboard.press("Enter")
    assert ranks(opened) == ["4", "2", "3", "1"]
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    opened.get_by_role("button", name="held-out").click()
    assert ranks(opened) == ["1", "2", "3", "4"]  # what has no loss comes last
    assert opened.locator("tbody tr[tabindex='0']").count() == 1
    opened.locator("tbody tr[tabindex='0']").focus()
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("ArrowDown")
    assert all(text.startswith("rank 3 ") for text in readouts(opened))
    opened.keyboard.press("ArrowUp")
    assert all(text.startswith("rank 2 ") for text in readouts(opened))


def test_the_ends_of_an_axis_are_moved_by_keys(opened: Any) -> None:
    end = opened.get_by_role("slider", name="n_embd to")
    end.focus()
    assert end.get_attribute("aria-valuetext") == "32"
    opened.keyboard.press("ArrowDown")
    assert end.get_attribute("aria-valuetext") == "16"
    assert ranks(opened) == ["1", "2", "4"]
    assert opened.get_by_text("3 of 4 within").count() == 1
    assert opened.locator(".tg-parallel .out").count() == 1
    opened.get_by_role("slider", name="n_embd from").focus()
    opened.keyboard.press("End")  # no further than the other end
    assert ranks(opened) == ["1", "4"]
    opened.keyboard.press("Home")
    end.focus()
    opened.keyboard.press("End")
    assert ranks(opened) == ["1", "2", "3", "4"]


def test_the_ends_of_an_axis_are_dragged(opened: Any) -> None:
    handle = opened.get_by_role("slider", name="held-out to")
    box, plot = handle.bounding_box(), opened.locator(".tg-parallel .lb-plot").bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + 6)
    opened.mouse.down()
    opened.mouse.move(plot["x"] + plot["width"], plot["y"] + 0.6 * plot["height"], steps=3)
    opened.mouse.up()
    assert handle.get_attribute("aria-valuetext") == "2.30"
    assert ranks(opened) == ["1", "2"]


@pytest.mark.parametrize("width", [320, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_whatever_the_width(width: int, scheme: Any, opened: Any) -> None:
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 900})
    until(opened, "width => document.documentElement.scrollWidth <= width", width)
    assert inaccessible(opened) == []
    colours = opened.locator(".tg-parallel .line").evaluate_all("all => all.map(each => getComputedStyle(each).stroke)")
    assert len(set(colours)) == 4


def test_simpler_models_that_are_worse_than_guessing_are_drawn(page: Any, tmp_path: Path) -> None:
    opened = show(page, tmp_path, leaderboard.page(OUTCOMES, {"uniform": 1.95, "unigram": 2.4}))
    heights = [float(d.split()[1].partition("L")[0]) for d in opened.locator(".tg-baseline").evaluate_all(PATHS)]
    assert len(heights) == 2
    assert all(0 < height < 100 for height in heights)


PATHS = "all => all.map(each => each.getAttribute('d'))"


@pytest.mark.parametrize("outcomes", [OUTCOMES[:1], OUTCOMES[3:], [OUTCOMES[0]] * 3])
def test_odd_trainings_are_drawn_too(outcomes: list[Outcome], page: Any, tmp_path: Path) -> None:
    opened = show(page, tmp_path, leaderboard.page(outcomes))
    assert opened.locator(".tg-parallel .line").count() == len(outcomes)
    assert opened.locator(".tg-tick-x").count() or "None of them took a step" in opened.locator("main").inner_text()
    assert "NaN" not in opened.content()[opened.content().index("<body") : opened.content().index("<script")]


def test_a_training_that_failed_at_once_has_no_curve(page: Any, tmp_path: Path) -> None:
    failed = outcome(4, 64, 1.0, 10, math.inf, losses=curve([]))
    opened = show(page, tmp_path, leaderboard.page([*OUTCOMES, failed], BASELINES))
    assert opened.locator(".tg-learning .line[d='']").count() == 1
    engines = [
        each.replace(candidate=each.candidate.replace(settings=Settings(engine=name)))
        for each, name in zip(OUTCOMES, ("exact", "fast", "exact", "reference"), strict=True)
    ]
    opened = show(page, tmp_path, leaderboard.page(engines))
    opened.get_by_role("button", name="engine").click()
    assert ranks(opened) == ["1", "3", "2", "4"]
