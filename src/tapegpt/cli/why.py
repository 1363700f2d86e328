"""`tapegpt why`: the training strings that taught a model a string. Not here: how they are found (`attribution.py`)."""

from __future__ import annotations

import math

from tapegpt.cli.console import notice
from tapegpt.cli.models import file_argument, loaded
from tapegpt.cli.options import option
from tapegpt.errors import TapeGPTError
from tapegpt.text import amount, columns, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tapegpt.analysis.attribution import Attribution, Influence, Verification

BAR = 30  # columns, of the strongest influence
STEPS = 3  # that are listed of a document
TEXT = 48  # columns of a document


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from tapegpt.analysis.attribution import DRAWS, TOP

    parser.add_argument("model", metavar="MODEL", help="file written by tapegpt train -o")
    file_argument(parser)
    parser.add_argument("text", metavar="TEXT", help="the string")
    option(parser, "--top", TOP, "training strings to list that taught it, and that hindered it")
    about = "rank all training strings, also those that no step came to, by what they would teach the model now"
    parser.add_argument("--all", action="store_true", help=about)
    about = f"leave out those that taught it, and as many others {DRAWS} times, and train again"
    parser.add_argument("--verify", action="store_true", help=about)
    about = "training data [where it was read for training]"
    parser.add_argument("--training", nargs="+", metavar="FILE", help=about)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print what taught the string."""
    from tapegpt.analysis.attribution import attribute, verify

    if options.all and options.verify:
        raise TapeGPTError("--all and --verify exclude each other: what was not trained on cannot be left out")
    model = loaded(options, options.model)
    notice(model.engine.notice)
    if options.training:
        model.read_training_data(*options.training)
    found = attribute(model, options.text, top=options.top, unseen=options.all, watch=_announce)
    verification = verify(model, found, watch=_announce) if options.verify else None
    if options.json:
        import json

        fields = {**found.as_json(), "verification": verification and verification.as_json()}
        print(json.dumps(fields, indent=2))
        return 0
    if found.text != options.text:
        notice(f"the model sees {len(found.text)} characters of {len(options.text)}, the rest is left out")
    if model.state is None:
        notice("the model does not say how it was trained: these are all strings, by what they would teach it now")
    for line in page(found, verification, "never" if model.state else "unknown"):
        print(line)
    return 0


def _announce(seconds: float) -> None:
    notice(f"this takes about {seconds:.0f} s")


def page(found: Attribution, verification: Verification | None, never: str) -> Iterator[str]:
    """The lines that are printed; `never` is what they say of strings that no step came to."""
    yield f"{_clipped(found.text)}: {found.loss:.3f} nats per token"
    strongest = max((abs(each.influence) for each in (*found.taught, *found.hindered)), default=1.0)
    compared = "strings that it was trained on" if found.seen else "strings, trained on or not"
    taught, hindered = ("taught", "hindered") if found.seen else ("would teach", "would hinder")
    for verb, influences in ((taught, found.taught), (hindered, found.hindered)):
        yield ""
        yield f"what {verb} it most, of {found.documents:,} {compared}"
        yield f"{'influence':>9}  {'':{BAR}}  {'step':>16}  string"
        for influence in influences:
            yield _line(influence, strongest, never)
    if verification is not None:
        yield ""
        yield from _verified(verification)


def _line(influence: Influence, strongest: float, never: str) -> str:
    bar = "#" * math.ceil(abs(influence.influence) / strongest * BAR - 1e-9)
    steps = influence.steps
    shown = " ".join(map(str, steps)) if len(steps) <= STEPS else f"{len(steps)} of them"
    return f"{influence.influence:>9.2f}  {bar:{BAR}}  {shown or never:>16}  {_clipped(influence.document)}"


def _verified(verification: Verification) -> Iterator[str]:
    strings = amount(verification.count, "string")
    yield f"trained again without the {strings} that taught it most: {verification.taught:+.4f} nats per token"
    spread = f"standard deviation {verification.deviation:.4f}"
    yield f"without {strings} at random, {len(verification.random)} draws: {verification.mean:+.4f}, {spread}"


def _clipped(text: str) -> str:
    shown: list[str] = []
    width = 0
    for character in text:
        width += columns(character)
        if width > TEXT:
            return f"{''.join(shown[:-3])}..."
        shown.append(visible(character))
    return "".join(shown)
