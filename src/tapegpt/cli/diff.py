"""`tapegpt diff`: where two runs part, as a page of text or as JSON. Not here: how that is found (`diff.py`)."""

from __future__ import annotations

import math

from tapegpt.cli.models import file_argument
from tapegpt.cli.options import number
from tapegpt.errors import shown
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tapegpt.analysis.diff import Comparison, LossComparison, Losses, Pair
    from tapegpt.models.trained import GPT

LABEL, BAR = 14, 32  # columns
TEXT = 30  # columns of a setting that is shown as it is


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "The exit code is 0 where both came to the same numbers, 1 where not, 2 for what cannot be compared."
    )
    about = "file written by tapegpt train -o, or losses: what --metrics wrote or was printed, or a number a line"
    parser.add_argument("a", metavar="A", help=about)
    parser.add_argument("b", metavar="B", help="another one")
    file_argument(parser)
    parser.add_argument("--tolerance", type=number, default=0.0, metavar="X", help="by which losses may differ [0]")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print where they part; 1 where they do."""
    from tapegpt.analysis.diff import compare

    found = compare(_read(options, options.a), _read(options, options.b), options.tolerance)
    if options.json:
        import json

        print(json.dumps({"equal": found.equal, **found.as_json()}, indent=2))
    else:
        for line in page(found):
            print(line)
    return 0 if found.equal else 1


def _read(options: argparse.Namespace, path: str) -> GPT | Losses:
    """A model, of whose file safetensors begins with a length and JSON names us, or losses."""
    from tapegpt.analysis.diff import losses_of
    from tapegpt.data.decoding import decode
    from tapegpt.data.sources import content, named
    from tapegpt.models.checkpoint import is_own, load

    data = content(path)
    if b"\0" in data[:8] or b'"tapegpt"' in data:
        return load(path, options.kind if is_own(path) else None)  # the other model may be one of the package
    return losses_of(decode(named(path), data, "utf-8"), named(path))


def page(found: Comparison) -> Iterator[str]:
    """The lines that are printed."""
    if found.equal:
        yield "no difference"
    for place, (name, (a, b)) in enumerate(found.settings.items()):
        yield f"{'' if place else 'settings':{LABEL}}{name}: {_shown(a)} and {_shown(b)}"
    if found.reason:
        yield f"{'trainings':{LABEL}}not compared: {found.reason}"
    if found.losses is not None:
        yield from _losses(found.losses)
    if found.parting is not None:
        parting = found.parting
        when = f"after step {parting.step}" if parting.step else "before the first step"
        yield f"{'parameters':{LABEL}}part {when}, where {parting.differing:,} differ, first {parting.cell}:"
        yield from _pair(parting.cell.pair)
        yield from _growth(found)
    yield from _tensors(found)


def _losses(losses: LossComparison) -> Iterator[str]:
    rounded = "" if losses.decimals is None else f", to {losses.decimals} decimals"
    last = f"the last are {losses.a_last:,} and {losses.b_last:,}"
    yield f"{'losses':{LABEL}}{amount(losses.steps, 'step')} in common{rounded}; {last}"
    if losses.step is None or losses.pair is None:
        yield f"{'':{LABEL}}all are equal"
        return
    before = f"equal up to step {losses.last_equal:,}, " if losses.last_equal else ""
    yield f"{'':{LABEL}}{before}different at step {losses.step:,}:"
    yield from _pair(losses.pair)


def _pair(pair: Pair) -> Iterator[str]:
    for value in (pair.a, pair.b):
        yield f"{'':{LABEL}}  {value!r:24} {value.hex()}"
    yield f"{'':{LABEL}}  {pair.apart:.3g} apart, {amount(pair.ulps, 'ulp')}"


def _growth(found: Comparison) -> Iterator[str]:
    """How far the trainings are apart as they go on, the bars on a logarithmic scale."""
    yield f"{'apart':{LABEL}}{'after step':>10}  {'loss':>8}  {'parameters at most':18}"
    logs = [math.log10(each.parameters) for each in found.distances if each.parameters]
    low, high = min(logs, default=0.0) - 1, max(logs, default=0.0)
    for each in found.distances:
        bar = "#" * round(BAR * (math.log10(each.parameters) - low) / (high - low)) if each.parameters else ""
        yield f"{'':{LABEL}}{each.step:>10,}  {each.loss:>8.1e}  {each.parameters:>8.1e}  {bar}".rstrip()


def _tensors(found: Comparison) -> Iterator[str]:
    if all(each.largest is None and each.a_shape == each.b_shape for each in found.tensors):
        return
    yield f"{'at the end':{LABEL}}{'tensor':20}  {'equal':>7}  largest difference"
    for each in found.tensors:
        if each.a_shape is None or each.b_shape is None or each.a_shape != each.b_shape:
            yield f"{'':{LABEL}}{each.name:20}  {'':>7}  shapes {_shape(each.a_shape)} and {_shape(each.b_shape)}"
            continue
        share = each.equal / (each.a_shape[0] * each.a_shape[1])
        largest = each.largest
        apart = "" if largest is None else f"{largest.pair.apart:.3g} at [{largest.row}, {largest.column}]"
        yield f"{'':{LABEL}}{each.name:20}  {share:>7.1%}  {apart}".rstrip()


def _shape(shape: tuple[int, int] | None) -> str:
    return "none" if shape is None else f"({shape[0]}, {shape[1]})"


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and len(value) <= TEXT else shown(value)
