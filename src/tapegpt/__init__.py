"""tapegpt: a character-level GPT in Python, bit for bit microgpt.py and thousands of times faster.

    import tapegpt
    model = tapegpt.train("input.txt", steps=1000)
    model.generate(20)

Names are imported at their first use, so that `import tapegpt` stays cheap.
"""

from __future__ import annotations

from importlib import import_module

from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.checkpoint import load, save
    from tapegpt.constraints import Constraints, Drawing
    from tapegpt.corpus import Corpus
    from tapegpt.ensemble import Ensemble
    from tapegpt.errors import DivergedError, TapeGPTError, TapeGPTWarning
    from tapegpt.gradients import check_gradients
    from tapegpt.model import GPT
    from tapegpt.models.base import Model
    from tapegpt.models.gpt import Config
    from tapegpt.notebook import widget
    from tapegpt.optimizers import SGD, Adam
    from tapegpt.rng import Random
    from tapegpt.scaling_laws import scaling
    from tapegpt.sweeping import sweep
    from tapegpt.tape import Tape
    from tapegpt.trainer import Trainer, train
    from tapegpt.value import Value

__all__ = [
    "GPT",
    "SGD",
    "Adam",
    "Config",
    "Constraints",
    "Corpus",
    "DivergedError",
    "Drawing",
    "Ensemble",
    "Model",
    "Random",
    "Tape",
    "TapeGPTError",
    "TapeGPTWarning",
    "Trainer",
    "Value",
    "__version__",
    "check_gradients",
    "load",
    "save",
    "scaling",
    "sweep",
    "train",
    "widget",
]

_MODULES = {
    "GPT": "model",
    "SGD": "optimizers",
    "Adam": "optimizers",
    "Model": "models.base",
    "Config": "models.gpt",
    "Constraints": "constraints",
    "Corpus": "corpus",
    "DivergedError": "errors",
    "Drawing": "constraints",
    "Ensemble": "ensemble",
    "Random": "rng",
    "Tape": "tape",
    "TapeGPTError": "errors",
    "TapeGPTWarning": "errors",
    "Trainer": "trainer",
    "Value": "value",
    "check_gradients": "gradients",
    "load": "checkpoint",
    "save": "checkpoint",
    "scaling": "scaling_laws",
    "sweep": "sweeping",
    "train": "trainer",
    "widget": "notebook",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'tapegpt' has no attribute {name!r}")
    value = getattr(import_module(f"tapegpt.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
