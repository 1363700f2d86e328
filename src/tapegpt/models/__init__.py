"""Models: each a record of its settings with its forward pass. From simple to full: a ladder.

The package's own have a name, and are imported when they are used.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.autograd.model import Model

NAMES = {
    "bigram": "Bigram",
    "mlp": "MLP",
    "wavenet": "WaveNet",
    "gru": "GRU",
    "gpt": "GPT",
    "modern": "ModernGPT",
}  # of modules -> of the model there


def named(name: str) -> type[Model]:
    """The package's model of this name, one of `NAMES`; raises `TapeGPTError` where there is none."""
    from importlib import import_module

    if name not in NAMES:
        raise TapeGPTError(
            f"model {quote(name)}: there is none of this name: choose one of {', '.join(NAMES)}, or give FILE.py:CLASS"
        )
    model: type[Model] = getattr(import_module(f"tapegpt.models.{name}"), NAMES[name])
    return model
