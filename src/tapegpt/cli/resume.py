"""`tapegpt resume`: go on with a training, to the bits of one that was never interrupted; or with other data."""

from __future__ import annotations

import os

from tapegpt.cli import running
from tapegpt.cli.data import corpus_of, data_arguments
from tapegpt.cli.models import file_argument, given, loaded, shape_arguments
from tapegpt.cli.options import number, setting, whole
from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from tapegpt.data.corpus import Corpus
    from tapegpt.models.trained import GPT
    from tapegpt.settings import Settings

READING = {"format": None, "column": None, "delimiter": "line", "encoding": "utf-8", "lowercase": False}
READING |= {"max_length": None, "unique": False, "no_header": False}  # how DATA is read, and defaults


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from tapegpt.settings import ENGINES

    about = "file written by tapegpt train -o, or directory by --run-dir"
    parser.add_argument("model", metavar="MODEL", help=about)
    data_arguments(parser.add_argument_group("data"), "what MODEL was trained on, read again from where it was")
    training = parser.add_argument_group("training")
    about = "steps to add, the learning rate falling to 0 after them; of --finetune all [as planned]"
    setting(training, "--steps", whole, about)
    about = "start anew with MODEL's weights, on any DATA; its new characters are added"
    training.add_argument("--finetune", action="store_true", help=about)
    setting(training, "--learning-rate", number, "with --finetune: at the first step [as MODEL was trained]")
    output = parser.add_argument_group("output")
    running.output_arguments(output, " [MODEL; with --finetune it must be given]")
    shape = parser.add_argument_group("model", "It cannot be changed; what is given must be what it is.")
    file_argument(shape)
    shape_arguments(shape)
    shape.add_argument("--engine", choices=ENGINES, metavar="NAME", help=f"{' or '.join(ENGINES)}")


def run(options: argparse.Namespace) -> int:
    """Go on, show how far it is, and print some strings."""
    from tapegpt.training.trainer import Trainer

    path, directory = options.model, None
    if os.path.isdir(path):
        directory, path = path, os.path.join(path, running.MODEL)
    if options.finetune and options.output is None:
        raise TapeGPTError("--finetune makes another model: say where to with -o")
    if options.learning_rate is not None and not options.finetune:
        raise TapeGPTError("--learning-rate is for --finetune: leave it out, a training goes on with its own")
    model = loaded(options, path)
    _check_shape(model, options)
    corpus = _corpus(model, options)
    if options.output is not None:
        directory = None  # it is only where the model comes from
    elif directory is not None:
        running.settle(options, directory)
    else:
        options.output = path
    running.check_outputs(options, corpus.source.files() if corpus.source and corpus.source.paths else [])
    if options.finetune:
        trainer = Trainer.finetuned(model, corpus, _settings(model, options))
    else:
        trainer = Trainer.resumed(model, corpus, options.steps)
        print(f"resumed after step: {trainer.step}")
    return running.run(trainer, options, directory)


def _check_shape(model: GPT, options: argparse.Namespace) -> None:
    engine = model.state.settings.engine if model.state else model.engine.name
    wanted = given(options, type(model.config))
    if options.engine is not None:
        wanted["engine"] = options.engine
    known = {**model.config.as_dict(), "engine": engine}
    differences = [f"{name} is {known[name]}, not {value}" for name, value in wanted.items() if known[name] != value]
    if differences:
        raise TapeGPTError(f"the model is another one: {'; '.join(differences)}: leave that out, or train anew")


def _corpus(model: GPT, options: argparse.Namespace) -> Corpus:
    """What is given, or what the model was trained on."""
    if options.data or options.dataset is not None:
        known = (model.data.source if model.data else None) or {}
        return corpus_of(options, sample=None if options.finetune else known.get("sample"))
    for name, default in READING.items():
        if getattr(options, name) != default:
            raise TapeGPTError(f"--{name.replace('_', '-')} says how DATA is read: give DATA too")
    if model.data is None:
        raise TapeGPTError("the model has weights only, no training to go on with: give DATA to --finetune it on")
    return model.data.read()


def _settings(model: GPT, options: argparse.Namespace) -> Settings:
    """Those that the model was trained with, where it knows, but for what is given."""
    from tapegpt.training.presets import resolved

    if model.state:
        settings = model.state.settings
    else:
        settings = resolved({"engine": "fast"} if model.engine.name == "fast" else {})[1]
    if options.steps is not None:
        settings = settings.replaced(steps=options.steps, budget=None)
    if options.learning_rate is not None:
        settings = settings.replaced(learning_rate=options.learning_rate)
    return settings
