"""A model as an ES module with JSDoc's types, for Node, Deno and browsers: `generate`, `score` and `next`.

It needs nothing: the kernels are in it as WebAssembly, the parameters as they are. What it says is in `web/model.js`.
Not here: a page around it (`page.py`).
"""

from __future__ import annotations

from base64 import b64encode
from json import dumps
from zlib import compress

from tapegpt.export.portable import name_of, portable
from tapegpt.export.training import with_training
from tapegpt.machine.target import WASM
from tapegpt.machine.wasm import Module
from tapegpt.version import __version__
from tapegpt.web import bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.models.trained import GPT

ROOM = 4096  # tokens of a string, at most
# With squares, roots and exp of our own, whose numbers are the same in every browser; a step takes half the time.
TARGET = WASM.replace(certified=True, known_exp="unfused")


def export(model: GPT) -> bytes:
    """The module; raises `TapeGPTError` for an ensemble."""
    runtime = bundle("model.js").replace("export async", "async")
    exports = f"export const {{ generate, score, next }} = await modelOf({dumps(data(model))});"
    return f"// {name_of(model)}, exported by tapegpt {__version__}.\n{runtime}\n{exports}\n".encode()


def data(model: GPT, room: int = ROOM, rows: int = 1, *, train: bool = False) -> dict[str, Any]:
    """What `modelOf` takes; it reads strings of so many tokens, expects at so many positions, and has its training."""
    own, training = portable(model, TARGET, room, rows), None
    if train:
        own, training = with_training(own, model, TARGET)
    parts = [Module(TARGET).add_all(own.entries).binary(), own.parameters]
    if training:
        parts += [training.parameters, training.documents]
    return {
        "packed": b64encode(compress(b"".join(parts), 9)).decode(),
        "lengths": [len(part) for part in parts],
        "size": own.size,
        "places": own.places,
        "room": own.room,
        "block": own.block_size,
        "tokens": own.vocabulary.tokens,
        "columns": own.vocabulary.labels,
        "steps": training.steps if training else 0,
    }
