"""What mkdocstrings is told of our records: fields make their constructor, and a comment says what each is.

Not here: anything else of the site (`zensical.toml`).
"""

from __future__ import annotations

from typing import Any

import griffe

_KINDS = {"Record", "Model", "Optimizer"}


class Records(griffe.Extension):
    """Gives a subclass of `Record` its constructor, and a list of its fields with the comments beside them."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called with each class, when all its members are known."""
        if not _KINDS.isdisjoint(map(str, cls.bases)):
            fields = [f for f in cls.attributes.values() if f.annotation is not None and "property" not in f.labels]
            kind = griffe.ParameterKind.positional_or_keyword
            parameters = [griffe.Parameter(f.name, annotation=f.annotation, kind=kind, default=f.value) for f in fields]
            cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))
            about = "" if cls.docstring is None else cls.docstring.value
            lines = [f"- `{field.name}`{_comment(field)}" for field in fields]
            cls.docstring = griffe.Docstring("\n".join([about, "", *lines]), parent=cls)


def _comment(field: griffe.Attribute) -> str:
    _, mark, comment = field.source.partition("  # ")
    comment = comment.strip().replace("][", r"]\[")  # indices, no link
    return f": {comment}" if mark else ""
