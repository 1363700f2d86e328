"""The widget: what it is told, and that it works in a real notebook."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT, TapeGPTError
from tapegpt.inference.explanation import explain
from tapegpt.models.curves import curve
from tapegpt.web.data import STRINGS, explanation_data, nats
from tapegpt.web.notebook import Answers, widget

pytest_plugins = ["tests.web.browser"]

NAMES = ["anna", "bob", "cara", "abba", "barbara", "ada", "rob", "carob", "bar", "cab"]
NOTEBOOK = f"""import marimo

app = marimo.App()


@app.cell
def _():
    import tapegpt
    from tapegpt.web.notebook import widget

    model = tapegpt.train({NAMES!r}, steps=60, n_embd=8, n_head=2, block_size=8)
    widget(model, text="cab")
    return


if __name__ == "__main__":
    app.run()
"""


@pytest.fixture(scope="module")
def model() -> GPT:
    return tapegpt.train(NAMES, steps=60, n_embd=8, n_head=2, block_size=8)


# --- answers ----------------------------------------------------------------------------------------------------


def test_strings_are_those_of_the_model(model: GPT) -> None:
    reply = Answers(model).reply({"id": "1", "ask": "strings", "temperature": 0.8, "prefix": "a"})
    texts = model.generate(STRINGS, seed=0, temperature=0.8, prefix="a")
    told = [{"text": text, "labels": [], "known": text in NAMES, "nats": nats(model, text)} for text in texts]
    assert reply == {"id": "1", "answer": told}
    assert {string["known"] for string in told} == {False, True}


def test_a_text_is_read_by_the_model(model: GPT) -> None:
    reply = Answers(model).reply({"id": "1", "ask": "explanation", "text": "cab"})
    assert reply == {"id": "1", "answer": explanation_data(explain(model, "cab"))}


@pytest.mark.parametrize(
    "wish",
    [
        {"ask": "strings", "temperature": 0.5, "prefix": "é"},
        {"ask": "strings", "temperature": -1, "prefix": ""},
        {"ask": "explanation", "text": "xyz"},
    ],
)
def test_what_is_wrong_is_told_in_a_line(wish: dict[str, Any], model: GPT) -> None:
    reply = Answers(model).reply({"id": "1", **wish})
    assert set(reply) == {"id", "error"}
    assert "\n" not in reply["error"]


def test_labels_are_chosen() -> None:
    given = tapegpt.Corpus.of(NAMES, labels={"sex": ["f", "m"] * 5})
    answers = Answers(tapegpt.train(given, steps=20, n_embd=8, n_head=2, block_size=8))
    assert answers.start(None)["labels"] == [{"name": "sex", "values": ["f", "m"]}]
    assert {string["labels"][0] for string in answers.strings(0.8, "", ["sex=m"])} == {"m"}
    assert answers.explanation("anna", ["sex=m"])["targets"][0] == "sex=m"
    assert answers.explanation("anna")["labels"][0] in ("sex=f", "sex=m")


def test_a_model_without_its_data_has_a_widget(model: GPT, tmp_path: Path) -> None:
    tapegpt.save(model, tmp_path / "weights.safetensors", weights_only=True)
    start = Answers(tapegpt.load(tmp_path / "weights.safetensors")).start(None)
    assert not any(string["known"] for string in start["strings"])
    assert start["moment"]["explanation"]["text"]
    assert len(start["moment"]["embeddings"]) == len(model.vocabulary)
    assert (start["losses"]["steps"], start["baselines"]) == ([], {})


def test_a_model_trained_here_shows_its_losses(model: GPT) -> None:
    start = Answers(model).start("cab")
    assert start["losses"] == curve(model.losses)
    assert set(start["baselines"]) == {"uniform", "unigram", "bigram", "5-gram"}


# --- the widget -------------------------------------------------------------------------------------------------


def test_messages_are_answered(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget")
    shown = widget(model, text="cab")
    sent: list[Any] = []
    monkeypatch.setattr(shown, "send", sent.append)
    shown._handle_custom_msg({"id": "7", "ask": "explanation", "text": "bob"}, [])
    assert [message["id"] for message in sent] == ["7"]
    assert sent[0]["answer"]["text"] == "bob"
    assert json.loads(json.dumps(shown.start)) == Answers(model).start("cab")


def test_a_widget_without_anywidget_says_what_to_install(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(TapeGPTError, match=r"pip install '\.\[notebook\]'"):
        widget(model)


def test_a_text_that_cannot_be_read_has_no_widget(model: GPT) -> None:
    pytest.importorskip("anywidget")
    with pytest.raises(TapeGPTError):
        widget(model, text="xyz")


# --- in a notebook ----------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[str]:
    """The address of a notebook that runs."""
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", "notebook.py", "--headless", "--no-token", "--host", "127.0.0.1"]
    environment = {**os.environ, "MARIMO_SKIP_UPDATE_CHECK": "1", "XDG_CONFIG_HOME": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while True:
                assert server.poll() is None, (tmp_path / "log").read_text()
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait()


def test_a_notebook_shows_a_widget_that_answers(notebook: str, page: Any, model: GPT, problems: list[str]) -> None:
    page.goto(notebook)
    page.locator(".widget .tg-strings").wait_for(timeout=60_000)
    assert page.locator(".widget .tg-string").all_inner_texts()[0] == first(model, temperature=0.5)
    assert "letter pairs" in page.locator(".widget .tg-loss").inner_text()
    page.get_by_role("button", name="attention, layer0.attention").click()
    assert page.locator(".tg-operations .tg-readout").inner_text().startswith("attention: ")
    page.get_by_label("Temperature").fill("1.5")
    page.get_by_label("Begins with").fill("ca")
    wanted = first(model, temperature=1.5, prefix="ca")
    page.locator(".widget .tg-strings li", has_text=wanted).first.wait_for()
    page.get_by_label("Reads").fill("bob")
    page.get_by_role("button", name="the end:").wait_for()
    page.locator(".widget button.tg-surprising").nth(2).click()
    assert "After bo" in page.locator(".widget .tg-bars").inner_text()
    page.get_by_label("Reads").fill("bobé")
    page.locator(".widget-problem", has_text="é").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    problems[:] = [each for each in problems if "was preloaded" not in each]  # marimo's own, on a slow machine


def first(model: GPT, **wishes: Any) -> str:
    return model.generate(STRINGS, seed=0, **wishes)[0]
