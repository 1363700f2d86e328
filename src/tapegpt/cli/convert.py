"""`tapegpt convert`: model files from safetensors to JSON and back, and from a `state_dict` of microgpt.py."""

from __future__ import annotations

from tapegpt.cli.models import load_model, model_file, own_class_argument
from tapegpt.cli.options import ArgumentParser, Namespace, option, switch
from tapegpt.errors import TapeGPTError
from tapegpt.models.gpt import Config

SUFFIXES = (".json", ".safetensors")


def arguments(parser: ArgumentParser) -> None:
    option(parser, "model", "IN", "model file, directory of a run, or JSON with a state_dict of microgpt.py")
    option(parser, "target", "OUT", "file to write, its name ending in .json or .safetensors")
    own_class_argument(parser)
    switch(parser, "--weights-only", "only the weights: nothing to resume, nothing about the training data")
    foreign = parser.add_argument_group("what a state_dict of microgpt.py does not contain")
    option(foreign, "--n-head", Config.ranges["n_head"], "attention heads", default=4)
    option(foreign, "--vocabulary", "TEXT", "its characters, in any order [what IN says]")
    option(foreign, "--training-data", "FILE", "training data, whose characters are the vocabulary", nargs="+")


def run(options: Namespace) -> int:
    from tapegpt.models.microgpt_json import from_state_dict, is_state_dict

    if not options.target.lower().endswith(SUFFIXES):
        raise TapeGPTError(f"{options.target}: a model file's name must end in {' or '.join(SUFFIXES)}: choose another")
    source = model_file(options.model)
    if is_state_dict(source):
        if options.kind is not None:
            raise TapeGPTError("--model is not about a state_dict of microgpt.py, which is of gpt: leave it out")
        model = from_state_dict(source, options.n_head, _vocabulary(options))
    else:
        model = load_model(options)
    model.save(options.target, weights_only=options.weights_only)
    return 0


def _vocabulary(options: Namespace) -> str | None:
    if options.vocabulary is not None and options.training_data:
        raise TapeGPTError("--vocabulary and --training-data exclude each other: give one")
    if not options.training_data:
        text: str | None = options.vocabulary
        return text
    from tapegpt.data.corpus import Corpus

    return Corpus.read(*options.training_data).vocabulary.characters
