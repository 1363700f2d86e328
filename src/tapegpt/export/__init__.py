"""A trained model as a file of another language or runtime that needs nothing of this package.

    model = tapegpt.load("names.safetensors")
    tapegpt.export.write(model, "names.html")

One module a kind; what most share is in `portable.py`. Not here: files that this package reads (`models/writing.py`).
"""

from __future__ import annotations

import os

from tapegpt.errors import TapeGPTError, argument
from tapegpt.files import Path, path_text, write_file
from tapegpt.lazy import importer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.models.trained import GPT

KINDS = {
    ".html": "a page that works offline",
    ".js": "an ES module",
    ".py": "a Python module and program",
    ".c": "C99",
    ".h": "the same, to include",
    ".onnx": "an ONNX graph",
}
_MODULES = {".html": "page", ".js": "javascript", ".py": "python", ".c": "c", ".h": "c", ".onnx": "onnx"}
_module = importer(__name__, {name: name for name in {*_MODULES.values()}}, {})


def kind_of(path: Path) -> str:
    """The ending of a file's name, one of `KINDS`; raises `TapeGPTError` for another."""
    kind = os.path.splitext(path_text(path))[1].lower()
    if kind not in KINDS:
        raise TapeGPTError(f"{path_text(path)}: an exported file's name must end in {', '.join(KINDS)}: choose one")
    return kind


def write(model: GPT, path: Path, *, train: bool = False) -> None:
    """Export a model to a file whose name's ending says as what, see `KINDS`; with `train` a page trains it again.

    Raises `TapeGPTError` for another ending, a path that cannot be written, and models that cannot be exported so.
    """
    kind = kind_of(path)
    if train and kind != ".html":
        raise TapeGPTError(f"{argument('train')} is for pages: export to a file whose name ends in .html")
    write_file(path, _module(_MODULES[kind]).export(model, **({"train": True} if train else {})))
