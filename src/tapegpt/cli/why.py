"""`tapegpt why`: the training strings that taught a model a string. Not here: how they are found (`attribution.py`)."""

from __future__ import annotations

from tapegpt.cli.console import bar, notice, print_json, table
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, label_argument, option, switch
from tapegpt.data.labels import Labelled
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import Whole
from tapegpt.text import amount, clip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.analysis.attribution import Attribution, Influence, Verification

BAR = 30  # columns, of the strongest influence
STEPS = 3  # that are listed of a document
TEXT = 48  # columns of a document


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.analysis.attribution import DRAWS, TOP

    model_argument(parser, data=True)
    option(parser, "text", "TEXT", "the string")
    label_argument(parser, "TEXT")
    option(parser, "--top", Whole(1), "training strings to list that taught it, and that hindered it", default=TOP)
    about = "all training strings, also those no step has used, ranked by what they would teach the model now"
    switch(parser, "--all", about)
    switch(parser, "--verify", f"train again without those that taught it, and {DRAWS} times without as many others")
    switch(parser, "--json", "JSON")


def run(options: Namespace) -> int:
    from tapegpt.analysis.attribution import attribute, verify

    if options.all and options.verify:
        raise TapeGPTError("--all and --verify exclude each other: what was not trained on cannot be left out")
    model = load_model(options)
    text = Labelled(options.text, model.vocabulary.combination(options.label))
    found = attribute(model, text, top=options.top, unseen=options.all, watch=_announce)
    verification = verify(model, found, watch=_announce) if options.verify else None
    if options.json:
        print_json({**found.as_json(), "verification": verification and verification.as_json()})
        return 0
    if found.text != options.text:
        seen, given = (len(model.vocabulary.split(text)) for text in (found.text, options.text))
        notice(f"the model sees {seen} {model.vocabulary.unit}s of {given}, the rest is left out")
    if model.state is None:
        notice("the model does not say how it was trained: these are all strings, by what they would teach it now")
    for line in page(found, verification, "never" if model.state else "unknown"):
        print(line)
    return 0


def _announce(seconds: float) -> None:
    notice(f"this takes about {seconds:.0f} s")


def page(found: Attribution, verification: Verification | None, never: str) -> Iterator[str]:
    """The lines that are printed; `never` is what they say of strings that no step came to."""
    yield f"{clip(found.text, TEXT)}: {found.loss:.3f} nats per token"
    strongest = max((abs(each.influence) for each in (*found.taught, *found.hindered)), default=1.0)
    compared = "strings that it was trained on" if found.seen else "strings, trained on or not"
    taught, hindered = ("taught", "hindered") if found.seen else ("would teach", "would hinder")
    for verb, influences in ((taught, found.taught), (hindered, found.hindered)):
        yield ""
        yield f"what {verb} it most, of {found.documents:,} {compared}"
        rows = [_row(influence, strongest, never) for influence in influences]
        yield from table([("influence", " " * BAR, "step", "string"), *rows], "><><")
    if verification is not None:
        yield ""
        yield from _verify_page(verification)


def _row(influence: Influence, strongest: float, never: str) -> tuple[str, str, str, str]:
    steps = influence.steps
    shown = " ".join(map(str, steps)) if len(steps) <= STEPS else f"{len(steps)} of them"
    share = abs(influence.influence) / strongest
    return f"{influence.influence:.2f}", bar(share, BAR), shown or never, clip(influence.document, TEXT)


def _verify_page(verification: Verification) -> Iterator[str]:
    strings = amount(verification.count, "string")
    yield f"trained again without the {strings} that taught it most: {verification.taught:+.4f} nats per token"
    spread = f"standard deviation {verification.deviation:.4f}"
    yield f"without {strings} at random, {len(verification.random)} draws: {verification.mean:+.4f}, {spread}"
