"""What mkdocstrings is told of our records: fields make their constructor, and what each is stands in a list.

Not here: anything else of the site (`zensical.toml`).
"""

from __future__ import annotations

import ast
from typing import Any

import griffe

_KINDS = {"Record", "Model", "Optimizer"}


class Records(griffe.Extension):
    """Gives a subclass of `Record` its constructor, and a list of its fields with what each is."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called with each class, when all its members are known."""
        if not _KINDS.isdisjoint(map(str, cls.bases)):
            annotated = [member for member in cls.attributes.values() if member.annotation is not None]
            fields = [member for member in annotated if "instance-attribute" in member.labels]
            abouts = {field.name: _settle(field) for field in fields}
            kind = griffe.ParameterKind.positional_or_keyword
            parameters = [griffe.Parameter(f.name, annotation=f.annotation, kind=kind, default=f.value) for f in fields]
            cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))
            docstring = "" if cls.docstring is None else cls.docstring.value
            lines = [f"- `{name}`{about and f': {about}'}" for name, about in abouts.items()]
            cls.docstring = griffe.Docstring("\n".join([docstring, "", *lines]), parent=cls)


def _settle(field: griffe.Attribute) -> str:
    """What a field is, by `field(...)` or by its comment; of `field(...)` only the default stays its value."""
    given = ast.parse(str(field.value), mode="eval").body
    if isinstance(given, ast.Call) and ast.unparse(given.func) == "field":
        named = {each.arg: ast.unparse(each.value) for each in given.keywords}
        field.value = named.get("default")
        return str(ast.literal_eval(given.args[0])) if given.args else ""
    return field.source.partition("  # ")[2].strip().replace("][", r"]\[")  # indices, no link
