"""A model as a page in one HTML file: it generates, and shows how it reads what is typed, without a server.

Not here: the module that does the work (`javascript.py`), what the page shows (`web/page.js`).
"""

from __future__ import annotations

from tapegpt.autograd.operations.attention.exact import Attention
from tapegpt.engines.graph import exact_graph
from tapegpt.export.javascript import TARGET, data
from tapegpt.export.portable import name_of
from tapegpt.text import amount
from tapegpt.version import __version__
from tapegpt.web import document, facts, source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.models.trained import GPT

LONGEST = 200  # tokens that are read


def export(model: GPT, *, train: bool = False) -> bytes:
    """The page, with the training or without.

    Raises `TapeGPTError` for an ensemble, and where a training that is to be in it cannot be.
    """
    title = name_of(model)
    room = max(LONGEST + len(model.vocabulary.labels), model.config.block_size)
    body = source("page.html").format(
        title=title,
        about=_about(model),
        longest=LONGEST,
        hidden="" if train else "hidden",
        facts=facts(model.config.in_use()),
        version=__version__,
    )
    packed = {**data(model, room, room + 1, train=train), "attention": _attention(model)}
    content = {"model": packed, "unit": model.vocabulary.unit}
    return document(title, body, content, "page", "controls.css").encode()


def _about(model: GPT) -> str:
    unit = model.vocabulary.unit
    learned = (
        f" has learned from {amount(model.data.documents, 'string')} how they are spelled, and" if model.data else ""
    )
    return f"It{learned} invents new strings, {unit} by {unit}. It is all in this page: nothing is sent anywhere."


def _attention(model: GPT) -> list[list[int]]:
    """For each layer its heads, and where the exact engine leaves their weights while it reads: the first row of
    exponentials, its distance to the next, the first inverse of their sum, its distance to the next.
    """
    if model.engine.name == "fast":  # which leaves none
        return []
    tape = exact_graph(model.config, model.vocab_size, TARGET).tape
    tape.plan()
    found = []
    for node in tape.nodes:
        if isinstance(node.operation, Attention):
            rows = node.operation.weights_at(tape.positions, node.shape.columns)
            places = [number for each in rows for number in (node.kept + each.start, each.step)]
            found.append([node.operation.n_head, *places])
    return found
