"""Makes docs/figures/: the pictures of docs/how-a-gpt-works.md, the page of docs/export.md, the playground of
docs/studio.md and the site's icon.

    .venv/bin/python docs/make_figures.py

The data come from a real training, and the package's own views draw them. Not here: their arrangement (`live.js`,
`live.css`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from blocks import film

from tapegpt import GPT, Corpus, export, train
from tapegpt.studio import static
from tapegpt.studio.limits import Limits
from tapegpt.web import bundle, source

DOCS = Path(__file__).resolve().parent
FIGURES = DOCS / "figures"
TEXT = "emma"


def script(model: GPT) -> str:
    """The views, their styles, their data and `live.js` as one script: a page opened from the disk loads no modules."""
    views = "\n".join(line.removeprefix("export ") for line in bundle("views.js").splitlines())
    look = _in_pixels(source("views.css")) + (DOCS / "live.css").read_text(encoding="utf-8")
    live = (DOCS / "live.js").read_text(encoding="utf-8")
    data = f"const look = {_json(look)};\nlet film = {_json(film(model, TEXT))};"
    return f'(() => {{\n"use strict";\n{views}\n{data}\n{live}}})();\n'


def _in_pixels(css: str) -> str:
    """Lengths in rem become the pixels of a browser's default: the site has a larger rem."""
    return re.sub(r"([\d.]+)rem\b", lambda found: f"{16 * float(found[1]):g}px", css)


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    names = train(Corpus.dataset("names"))
    (FIGURES / "live.js").write_text(script(names), encoding="utf-8")
    export.write(names, FIGURES / "names.html", train=True)
    static.write(FIGURES / "playground", Corpus.dataset("names"), "names", Limits())
    (FIGURES / "icon.svg").write_text(source("studio.svg"), encoding="utf-8")
