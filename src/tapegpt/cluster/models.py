"""How a model travels: as what its file holds. Not here: files that stay."""

from __future__ import annotations

from tapegpt.checkpoint import contents, load, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.checkpoint import Contents
    from tapegpt.model import GPT


def packed(model: GPT) -> Contents:
    """What can be sent of a model: all but its training strings and its machine code."""
    return contents(model)


def unpacked(contents: Contents) -> GPT:
    """The model, with every bit."""
    import os
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="tapegpt-") as directory:
        path = os.path.join(directory, "model.safetensors")
        write(contents, path)
        return load(path)
