"""What a browser shows of a model: the files of the page, and the data that its pictures are drawn from (`data.py`).

The studio serves the files one by one; a report and a notebook's widget take a module and what it imports as one text.
Not here: the server (`studio/`), the report (`report.py`), the widget (`notebook.py`).
"""

from __future__ import annotations

from html import escape

from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from tapegpt.data.sources import Source

LEVELS = {"uniform": "guessing", "unigram": "letter counts", "bigram": "letter pairs", "5-gram": "runs of five"}
# No request goes anywhere, and nothing runs but the page's own script.
POLICY = "default-src 'none'; script-src {script}; style-src {style}"


def source(name: str) -> str:
    """The text of a file of this folder."""
    from importlib.resources import files

    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def bundle(name: str) -> str:
    """An ES module with the modules that it imports, each once and before what needs it, as one text.

    Imports take the form `import { a, b } from "./other.js";` in a line of their own, exports stand before what they
    name, and no two modules have a top-level name in common. The module of this name keeps its exports.
    """
    done: set[str] = set()
    parts: list[str] = []

    def add(module: str) -> None:
        done.add(module)
        lines = []
        for line in source(module).splitlines():
            if line.startswith("import "):
                imported = line.partition('"./')[2].removesuffix('";')
                if imported not in done:
                    add(imported)
            else:
                lines.append(line if module == name else line.removeprefix("export "))
        parts.append("\n".join(lines))

    add(name)
    return "\n".join(parts) + "\n"


def document(title: str, body: str, data: dict[str, Any], name: str = "report", *more: str) -> str:
    """A page that needs nothing else: HTML whose pictures `name`.js draws from the data.

    Its styles are those of pictures and reports, `more` of them, and `name`.css.
    """
    from json import dumps

    names = dict.fromkeys(("views.css", "report.css", *more, f"{name}.css"))
    styles, script = "\n" + "".join(map(source, names)), "\n" + bundle(f"{name}.js")
    runs = _hash(script) + " 'wasm-unsafe-eval'" * ("WebAssembly" in script)
    policy = POLICY.format(script=runs, style=_hash(styles))
    # No string of the data can end the element or begin a comment in it: "<" is written as an escape.
    json = dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{styles}</style>
</head>
<body class="tapegpt">
<main class="{" ".join(dict.fromkeys(("report", name)))}">
{body}
</main>
<script type="application/json" id="data">{json}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def compared(baselines: Mapping[str, float]) -> str:
    """What simpler models lose, in words."""
    return ", ".join(f"{LEVELS.get(name, name)} {loss:.2f}" for name, loss in baselines.items())


def colophon(commands: Iterable[str], source: Source | None, documents: int | None) -> str:
    """What a page was made with: commands, data without the directories they are in, versions, the CPU."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from tapegpt.data.sources import DATASETS
    from tapegpt.machine.host import cpu_name
    from tapegpt.version import __version__

    data = source.by_name().place if source else "strings of a program"
    if source and source.dataset:
        data += f", {DATASETS[source.dataset]}, part of tapegpt"
    made = {} if documents is None else {"data": f"{data}: {amount(documents, 'string')}"}
    try:
        llvmlite = f", llvmlite {version('llvmlite')}"
    except PackageNotFoundError:
        llvmlite = ""
    made |= {"versions": f"tapegpt {__version__}, Python {platform.python_version()}{llvmlite}", "CPU": cpu_name()}
    lines = [f"<pre>{escape(command)}</pre>" for command in commands]
    lines += [f"<p>{name}: {escape(value)}</p>" for name, value in made.items()]
    return "\n".join(['<footer class="made"><h2>How this page was made</h2>', *lines, "</footer>"])


def _hash(text: str) -> str:
    """How a policy names a script or a style."""
    from base64 import b64encode
    from hashlib import sha256

    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def table(
    caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "", scrolls: bool = False
) -> str:
    """A table of cells that are HTML; the first of a row is its head. One that scrolls may be wider than the page."""
    about, head = escape(caption), "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    lines = [
        f'<table class="tg-table ruled {kind}">',
        f"<caption>{about}</caption>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
    ]
    for first, *rest in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    lines += ["</tbody>", "</table>"]
    if scrolls:
        lines = [f'<div class="scroll" tabindex="0" role="region" aria-label="{about}">', *lines, "</div>"]
    return "\n".join(lines)


def facts(values: Mapping[str, Any]) -> str:
    """Names and their values."""
    pairs = [f"<div><dt>{escape(name)}</dt><dd>{escape(said(value))}</dd></div>" for name, value in values.items()]
    return f"<dl>{''.join(pairs)}</dl>"


def said(value: Any) -> str:
    """A value as people read it: 16,384 and 0.01; None is none."""
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if type(value) is int else "none" if value is None else str(value)
