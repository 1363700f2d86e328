"""Names of a package that are imported at their first use, so that importing the package stays cheap."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def importer(package: str, modules: Mapping[str, str], names: dict[str, Any]) -> Callable[[str], Any]:
    """A package's `__getattr__`, which keeps what it finds among the `names`.

    A name is looked up in its module of the package, or is a module, if that has the same name.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        path = f"{package}.{modules[name]}"
        __import__(path)  # to import importlib itself takes 0.5 ms
        module = sys.modules[path]
        names[name] = module if modules[name] == name else getattr(module, name)
        return names[name]

    return get
