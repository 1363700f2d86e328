"""`tapegpt finetune`: a new training that starts from a model's weights, on any data."""

from __future__ import annotations

from tapegpt.cli import running
from tapegpt.cli.data import corpus_of, data_arguments, data_paths
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, given, setting_arguments
from tapegpt.errors import TapeGPTError
from tapegpt.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.models.trained import GPT

COMMON = "--dataset --steps --learning-rate --validation --output --metrics --samples --temperature --run-dir"


def arguments(parser: ArgumentParser) -> None:
    model_argument(parser)
    data_arguments(parser.add_argument_group("data; new tokens are added to the vocabulary"), "required")
    training = parser.add_argument_group("training; by default as MODEL was trained")
    setting_arguments(training, Settings, *_list_changes(), marked=True, defaults=False)
    running.output_arguments(parser.add_argument_group("output"), new=True)


def run(options: Namespace) -> int:
    from tapegpt.training.trainer import Trainer

    if not options.data and options.dataset is None:
        raise TapeGPTError("there is nothing to train on: give DATA, or --dataset NAME")
    running.check_directory(options)
    model = load_model(options)
    settings = _settings(model, options)
    corpus = corpus_of(options, model.vocabulary.rule, settings.budget)
    running.prepare_outputs(options, data_paths(options))
    return running.run(Trainer.finetune(model, corpus, settings), options)


def _settings(model: GPT, options: Namespace) -> Settings:
    from tapegpt.training.presets import resolve

    if model.state:
        settings = model.state.settings
    else:
        settings = resolve({"engine": "fast"} if model.engine.name == "fast" else {})[1]
    changes = given(options, _list_changes())
    return settings.replace(**({"budget": None} if "steps" in changes else {}), **changes)


def _list_changes() -> list[str]:
    """The settings that may be others than MODEL's: all but its engine."""
    return [name for name in Settings.fields if name != "engine"]
