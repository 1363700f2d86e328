"""tapegpt: a character-level GPT in Python, bit for bit microgpt.py and thousands of times faster.

    import tapegpt
    model = tapegpt.train("input.txt", steps=1000)
    model.generate(20)

What a command does is a name here, and so are `Tape` and `Value`; `tapegpt.autograd` has what belongs to them. A model
is what `load` or `train` returns, never the path of its file. What cannot be used raises `TapeGPTError`; an argument's
name that there is not raises one that is a `TypeError` too, as in all of Python. Names are imported at their first use,
so that `import tapegpt` stays cheap.
"""

from __future__ import annotations

from tapegpt.lazy import importer
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt import export, studio
    from tapegpt.analysis.attribution import attribute
    from tapegpt.analysis.diff import compare
    from tapegpt.analysis.doctor import examine
    from tapegpt.analysis.evaluation import evaluate
    from tapegpt.autograd.model import Model
    from tapegpt.autograd.tape import Tape
    from tapegpt.autograd.value import Value
    from tapegpt.data.corpus import Corpus
    from tapegpt.data.labels import Labelled
    from tapegpt.data.rng import Random
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.errors import DivergedError, TapeGPTError, TapeGPTWarning
    from tapegpt.experiments.scaling import scaling
    from tapegpt.experiments.sweep import sweep
    from tapegpt.inference.constraints import Constraints, Drawing
    from tapegpt.models.checkpoint import load, loads
    from tapegpt.models.ensemble import Ensemble
    from tapegpt.models.gpt import Config
    from tapegpt.models.trained import GPT
    from tapegpt.models.writing import dumps, save
    from tapegpt.settings import Settings
    from tapegpt.training.train import train
    from tapegpt.training.trainer import Trainer
    from tapegpt.web.notebook import widget
    from tapegpt.web.report import report

__all__ = [
    "GPT",
    "Config",
    "Constraints",
    "Corpus",
    "DivergedError",
    "Drawing",
    "Ensemble",
    "Labelled",
    "Model",
    "Random",
    "Settings",
    "Tape",
    "TapeGPTError",
    "TapeGPTWarning",
    "Trainer",
    "Value",
    "Vocabulary",
    "__version__",
    "attribute",
    "compare",
    "dumps",
    "evaluate",
    "examine",
    "export",
    "load",
    "loads",
    "report",
    "save",
    "scaling",
    "studio",
    "sweep",
    "train",
    "widget",
]

_MODULES = {
    "Config": "models.gpt",
    "Constraints": "inference.constraints",
    "Corpus": "data.corpus",
    "DivergedError": "errors",
    "Drawing": "inference.constraints",
    "Ensemble": "models.ensemble",
    "GPT": "models.trained",
    "Labelled": "data.labels",
    "Model": "autograd.model",
    "Random": "data.rng",
    "Settings": "settings",
    "Tape": "autograd.tape",
    "TapeGPTError": "errors",
    "TapeGPTWarning": "errors",
    "Trainer": "training.trainer",
    "Value": "autograd.value",
    "Vocabulary": "data.vocabulary",
    "attribute": "analysis.attribution",
    "compare": "analysis.diff",
    "dumps": "models.writing",
    "evaluate": "analysis.evaluation",
    "examine": "analysis.doctor",
    "export": "export",
    "load": "models.checkpoint",
    "loads": "models.checkpoint",
    "report": "web.report",
    "save": "models.writing",
    "scaling": "experiments.scaling",
    "studio": "studio",
    "sweep": "experiments.sweep",
    "train": "training.train",
    "widget": "web.notebook",
}

__getattr__ = importer(__name__, _MODULES, globals())


def __dir__() -> list[str]:
    return sorted(__all__)
