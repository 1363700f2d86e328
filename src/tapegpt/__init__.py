"""tapegpt: a character-level GPT in Python, bit for bit microgpt.py and thousands of times faster.

    import tapegpt
    model = tapegpt.train("input.txt", steps=1000)
    model.generate(20)

What a command does is a name here, and so are `Tape` and `Value`; `tapegpt.autograd` has what belongs to them. What
cannot be used raises `TapeGPTError`; an argument's name that there is not raises one that is a `TypeError` too, as in
all of Python. Names are imported at their first use, so that `import tapegpt` stays cheap.
"""

from __future__ import annotations

from tapegpt.lazy import importer
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt import export as export
    from tapegpt import studio as studio
    from tapegpt.analysis.attribution import attribute as attribute
    from tapegpt.analysis.diff import compare as compare
    from tapegpt.analysis.doctor import examine as examine
    from tapegpt.analysis.evaluation import evaluate as evaluate
    from tapegpt.autograd.model import Model as Model
    from tapegpt.autograd.tape import Tape as Tape
    from tapegpt.autograd.value import Value as Value
    from tapegpt.data.corpus import Corpus as Corpus
    from tapegpt.data.labels import Labelled as Labelled
    from tapegpt.data.rng import Random as Random
    from tapegpt.data.vocabulary import Vocabulary as Vocabulary
    from tapegpt.errors import DivergedError as DivergedError
    from tapegpt.errors import TapeGPTError as TapeGPTError
    from tapegpt.errors import TapeGPTWarning as TapeGPTWarning
    from tapegpt.experiments.scaling import scaling as scaling
    from tapegpt.experiments.sweep import sweep as sweep
    from tapegpt.inference.constraints import Constraints as Constraints
    from tapegpt.inference.constraints import Drawing as Drawing
    from tapegpt.models.checkpoint import load as load
    from tapegpt.models.checkpoint import loads as loads
    from tapegpt.models.ensemble import Ensemble as Ensemble
    from tapegpt.models.gpt import Config as Config
    from tapegpt.models.trained import GPT as GPT
    from tapegpt.models.writing import dumps as dumps
    from tapegpt.models.writing import save as save
    from tapegpt.settings import Settings as Settings
    from tapegpt.training.train import train as train
    from tapegpt.training.trainer import Trainer as Trainer
    from tapegpt.web.notebook import widget as widget
    from tapegpt.web.report import report as report

_NAMES = {  # by module
    "analysis.attribution": "attribute",
    "analysis.diff": "compare",
    "analysis.doctor": "examine",
    "analysis.evaluation": "evaluate",
    "autograd.model": "Model",
    "autograd.tape": "Tape",
    "autograd.value": "Value",
    "data.corpus": "Corpus",
    "data.labels": "Labelled",
    "data.rng": "Random",
    "data.vocabulary": "Vocabulary",
    "errors": "DivergedError TapeGPTError TapeGPTWarning",
    "experiments.scaling": "scaling",
    "experiments.sweep": "sweep",
    "export": "export",
    "inference.constraints": "Constraints Drawing",
    "models.checkpoint": "load loads",
    "models.ensemble": "Ensemble",
    "models.gpt": "Config",
    "models.trained": "GPT",
    "models.writing": "dumps save",
    "settings": "Settings",
    "studio": "studio",
    "training.train": "train",
    "training.trainer": "Trainer",
    "web.notebook": "widget",
    "web.report": "report",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = ["__version__", *_MODULES]  # noqa: PLE0604  # all of them are strings

__getattr__ = importer(__name__, _MODULES, globals())


def __dir__() -> list[str]:
    return sorted(__all__)
