"""`tapegpt resume`: the rest of a training, to the bits of one that was never interrupted."""

from __future__ import annotations

import os

from tapegpt.cli import running
from tapegpt.cli.models import load_model, model_argument, model_file
from tapegpt.cli.options import ArgumentParser, Namespace, option
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.data.corpus import Corpus
    from tapegpt.models.trained import GPT


def arguments(parser: ArgumentParser) -> None:
    model_argument(parser)
    about = "training data, if they have moved or came from standard input [the recorded place]"
    option(parser, "data", "DATA", about, nargs="*")
    option(parser, "--more-steps", Whole(1), "steps to add; the learning rate falls to 0 after them [as planned]")
    running.output_arguments(parser.add_argument_group("output"), new=False)


def run(options: Namespace) -> int:
    from tapegpt.training.trainer import Trainer

    model = load_model(options)
    corpus = _corpus(model, options.data)
    is_directory = os.path.isdir(options.model) and options.output is None and options.metrics is None
    options.run_dir = options.model if is_directory else None
    options.output = options.output or model_file(options.model)
    running.prepare_outputs(options, corpus.source.listing() if corpus.source and corpus.source.paths else [])
    return running.run(Trainer.resume(model, corpus, options.more_steps), options)


def _corpus(model: GPT, paths: list[str]) -> Corpus:
    from tapegpt.data.corpus import Corpus

    if model.data is None:
        raise TapeGPTError("the model has weights only, no training to resume: tapegpt finetune starts one from them")
    return Corpus.from_source(model.data.source_of(*paths)) if paths else model.data.read()
