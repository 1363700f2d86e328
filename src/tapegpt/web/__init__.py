"""What a browser shows of a model: the files of the page, and the data that its pictures are drawn from (`data.py`).

The studio serves the files one by one; a report and a notebook's widget take a module and what it imports as one text.
Not here: the server (`studio/`), the report (`report.py`), the widget (`notebook.py`).
"""

from __future__ import annotations


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
