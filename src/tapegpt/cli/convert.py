"""`tapegpt convert`: model files from safetensors to JSON and back, and from a `state_dict` of microgpt.py."""

from __future__ import annotations

from tapegpt.cli.models import file_argument, loaded
from tapegpt.cli.options import whole
from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

SUFFIXES = (".json", ".safetensors")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", metavar="IN", help="model file, or JSON with a state_dict of microgpt.py")
    parser.add_argument("target", metavar="OUT", help="file to write, its name ending in .json or .safetensors")
    about = "leave out the training it could go on with, and where its data came from"
    file_argument(parser)
    parser.add_argument("--weights-only", action="store_true", help=about)
    foreign = parser.add_argument_group("what a state_dict of microgpt.py does not say")
    foreign.add_argument("--n-head", type=whole, default=4, metavar="N", help="attention heads [4]")
    foreign.add_argument("--vocabulary", metavar="TEXT", help="its characters, in any order [what IN says]")
    foreign.add_argument("--data", nargs="+", metavar="FILE", help="text whose characters are the vocabulary")


def run(options: argparse.Namespace) -> int:
    """Write the one as the other."""
    from tapegpt.models.microgpt_json import from_state_dict, is_state_dict

    if not options.target.lower().endswith(SUFFIXES):
        raise TapeGPTError(f"{options.target}: a model file's name must end in {' or '.join(SUFFIXES)}: choose another")
    if is_state_dict(options.source):
        if options.kind is not None:
            raise TapeGPTError("--model is not about a state_dict of microgpt.py, which is of gpt: leave it out")
        model = from_state_dict(options.source, options.n_head, _vocabulary(options))
    else:
        model = loaded(options, options.source)
    model.save(options.target, weights_only=options.weights_only)
    return 0


def _vocabulary(options: argparse.Namespace) -> str | None:
    if options.vocabulary is not None and options.data:
        raise TapeGPTError("--vocabulary and --data exclude each other: give one")
    if not options.data:
        text: str | None = options.vocabulary
        return text
    from tapegpt.data.corpus import Corpus

    return Corpus.read(*options.data).vocabulary
