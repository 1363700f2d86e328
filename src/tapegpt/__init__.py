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
    from tapegpt.analysis.attribution import attribute
    from tapegpt.analysis.diff import compare
    from tapegpt.analysis.doctor import examine
    from tapegpt.analysis.evaluation import evaluate
    from tapegpt.autograd.gradient_check import check_gradients
    from tapegpt.autograd.model import Model
    from tapegpt.autograd.optimizers import SGD, Adam
    from tapegpt.autograd.tape import Tape
    from tapegpt.autograd.value import Value
    from tapegpt.data.corpus import Corpus
    from tapegpt.data.rng import Random
    from tapegpt.errors import DivergedError, TapeGPTError, TapeGPTWarning
    from tapegpt.experiments.scaling import scaling
    from tapegpt.experiments.sweep import sweep
    from tapegpt.inference.constraints import Constraints, Drawing
    from tapegpt.models.checkpoint import load, save
    from tapegpt.models.ensemble import Ensemble
    from tapegpt.models.gpt import Config
    from tapegpt.models.trained import GPT
    from tapegpt.settings import Settings
    from tapegpt.training.trainer import Trainer, train
    from tapegpt.web.notebook import widget

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
    "Settings",
    "Tape",
    "TapeGPTError",
    "TapeGPTWarning",
    "Trainer",
    "Value",
    "__version__",
    "attribute",
    "check_gradients",
    "compare",
    "evaluate",
    "examine",
    "load",
    "save",
    "scaling",
    "sweep",
    "train",
    "widget",
]

_MODULES = {
    "Adam": "autograd.optimizers",
    "Config": "models.gpt",
    "Constraints": "inference.constraints",
    "Corpus": "data.corpus",
    "DivergedError": "errors",
    "Drawing": "inference.constraints",
    "Ensemble": "models.ensemble",
    "GPT": "models.trained",
    "Model": "autograd.model",
    "Random": "data.rng",
    "SGD": "autograd.optimizers",
    "Settings": "settings",
    "Tape": "autograd.tape",
    "TapeGPTError": "errors",
    "TapeGPTWarning": "errors",
    "Trainer": "training.trainer",
    "Value": "autograd.value",
    "attribute": "analysis.attribution",
    "check_gradients": "autograd.gradient_check",
    "compare": "analysis.diff",
    "evaluate": "analysis.evaluation",
    "examine": "analysis.doctor",
    "load": "models.checkpoint",
    "save": "models.checkpoint",
    "scaling": "experiments.scaling",
    "sweep": "experiments.sweep",
    "train": "training.trainer",
    "widget": "web.notebook",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'tapegpt' has no attribute {name!r}")
    value = getattr(import_module(f"tapegpt.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
