"""A model in a notebook's cell: what it generates at a temperature and after a prefix, how it reads a string.

    tapegpt.widget(model)

Drawn by `web/widget.js`, which asks by messages and is answered here. Not here: files of the page (`web/`).
"""

from __future__ import annotations

from tapegpt.data.corpus import Corpus
from tapegpt.data.ngrams import baselines_within
from tapegpt.errors import TapeGPTError, missing
from tapegpt.inference.explanation import explain
from tapegpt.inference.language_model import MODEL
from tapegpt.models.curves import curve
from tapegpt.training.recording import still
from tapegpt.web import bundle, source
from tapegpt.web.data import STRINGS, Portrait, explanation_data, labelled, string_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tapegpt.models.trained import GPT

    Data = dict[str, Any]

TEMPERATURE = 0.5


def widget(model: GPT, *, text: str | None = None) -> Any:
    """The widget, for the last line of a cell; the text is the first that is read, by default one that it generates.

    Takes the extra `notebook`. Raises `TapeGPTError` where anywidget is not installed, and for a text that the model
    cannot read.
    """
    MODEL.check("model", model)
    try:
        from anywidget import AnyWidget
        from traitlets import Dict
    except ImportError:
        raise missing("anywidget", "notebook") from None

    class ModelWidget(AnyWidget):
        """Asked by messages {id, ask, ...}, answers {id, answer} or {id, error}."""

        _esm = bundle("widget.js")
        _css = source("views.css") + source("widget.css")
        start = Dict().tag(sync=True)  # what is shown at first

    answers = Answers(model)
    shown = ModelWidget(start=answers.start(text))
    shown.on_msg(lambda asked, message, _: asked.send(answers.reply(message)))
    return shown


class Answers:
    """What the widget is told about a model."""

    def __init__(self, model: GPT) -> None:
        self._model = model
        self._known = frozenset(model.documents or ())

    def start(self, text: str | None) -> Data:
        """What is shown at first."""
        model = self._model
        if text is None:
            text = next((each for each in model.generate(STRINGS, seed=0) if each and model.vocabulary.knows(each)), "")
        corpus = Corpus(list(model.documents), model.vocabulary) if model.documents else None
        return {
            **Portrait(still(model, corpus)).run(text, TEMPERATURE),
            "temperature": TEMPERATURE,
            "strings": self.strings(TEMPERATURE, ""),
            "losses": curve(model.losses, model.steps - len(model.losses)),
            "baselines": baselines_within(corpus) if corpus else {},
        }

    def reply(self, message: Data) -> Data:
        """The answer to a message, or what is wrong with it."""
        asked: dict[str, Callable[..., Any]] = {"strings": self.strings, "explanation": self.explanation}
        question = dict(message)
        name = question.pop("id", None)
        try:
            return {"id": name, "answer": asked[question.pop("ask")](**question)}
        except TapeGPTError as error:
            return {"id": name, "error": str(error)}

    def strings(self, temperature: float, prefix: str, label: Sequence[str] = ()) -> list[Data]:
        """Strings, from the same random numbers whatever is asked."""
        texts = self._model.generate(STRINGS, seed=0, temperature=temperature, prefix=prefix, label=label)
        return string_data(self._model, texts, self._known)

    def explanation(self, text: str, label: Sequence[str] = ()) -> Data:
        """How a text is read."""
        return explanation_data(explain(self._model, labelled(self._model, text, label)))
