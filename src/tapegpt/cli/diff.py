"""`tapegpt diff`: where two trainings part, as a page of text or as JSON. Not here: how that is found (`diff.py`)."""

from __future__ import annotations

import math

from tapegpt.cli.console import bar, facts, print_report, table
from tapegpt.cli.models import is_model, model_file, own_class_argument
from tapegpt.cli.options import ArgumentParser, Namespace, option, switch
from tapegpt.errors import quote
from tapegpt.ranges import Number
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tapegpt.analysis.diff import Comparison, LossComparison, Losses, Pair
    from tapegpt.models.trained import GPT

LABEL, BAR = 14, 32  # columns
TEXT = 30  # columns of a setting that is shown as it is


def arguments(parser: ArgumentParser) -> None:
    parser.epilog = "Exit code: 0 for equal numbers, 1 for different ones, 2 if they cannot be compared."
    about = "model file, directory of a run, or losses: a file by --metrics, printed steps, or one number per line"
    option(parser, "a", "A", about)
    option(parser, "b", "B", "another one")
    own_class_argument(parser)
    option(parser, "--tolerance", Number(0), "largest difference of losses that counts as equal", default=0.0)
    switch(parser, "--json", "JSON")


def run(options: Namespace) -> int:
    from tapegpt.analysis.diff import compare

    found = compare(_read(options, options.a), _read(options, options.b), options.tolerance)
    print_report(found, page, options.json, equal=found.equal)
    return 0 if found.equal else 1


def _read(options: Namespace, path: str) -> GPT | Losses:
    from tapegpt.analysis.diff import losses_of
    from tapegpt.data.decoding import decode
    from tapegpt.data.packed import contents, named
    from tapegpt.models.checkpoint import is_own, load

    path = model_file(path)
    if is_model(path):
        return load(path, options.kind if is_own(path) else None)  # the other model may be one of the package
    text = "".join([decode(named(name), data, "utf-8") for name, data in contents(path)])
    return losses_of(text, named(path))


def page(found: Comparison) -> Iterator[str]:
    """The lines that are printed."""
    if found.equal:
        yield "no difference"
    yield from facts(_facts(found), LABEL)
    if found.parting is not None:
        yield from _growth(found)
    yield from _tensors(found)


def _facts(found: Comparison) -> Iterator[tuple[str, str]]:
    for number, (name, (a, b)) in enumerate(found.settings.items()):
        yield "" if number else "settings", f"{name}: {_format(a)} and {_format(b)}"
    if found.reason:
        yield "trainings", f"not compared: {found.reason.for_command}"
    if found.losses is not None:
        yield from _losses(found.losses)
    if found.parting is not None:
        parting = found.parting
        when = f"after step {parting.step}" if parting.step else "before the first step"
        yield "parameters", f"part {when}, where {parting.differing:,} differ, first {parting.cell}:"
        yield from _pair(parting.cell.pair)


def _losses(losses: LossComparison) -> Iterator[tuple[str, str]]:
    rounded = "" if losses.decimals is None else f", to {losses.decimals} decimals"
    last = f"the last are {losses.a_last:,} and {losses.b_last:,}"
    yield "losses", f"{amount(losses.steps, 'step')} in common{rounded}; {last}"
    if losses.step is None or losses.pair is None:
        yield "", "all are equal"
        return
    before = f"equal up to step {losses.last_equal:,}, " if losses.last_equal else ""
    yield "", f"{before}different at step {losses.step:,}:"
    yield from _pair(losses.pair)


def _pair(pair: Pair) -> Iterator[tuple[str, str]]:
    for value in (pair.a, pair.b):
        yield "", f"  {value!r:24} {value.hex()}"
    yield "", f"  {pair.apart:.3g} apart, {amount(pair.ulps, 'ulp')}"


def _growth(found: Comparison) -> Iterator[str]:
    """How far the trainings are apart as they continue, the bars on a logarithmic scale."""
    logs = [math.log10(each.parameters) for each in found.distances if each.parameters]
    low, high = min(logs, default=0.0) - 1, max(logs, default=0.0)
    rows = [("after step", "loss", "parameters at most", "")]
    for each in found.distances:
        share = (math.log10(each.parameters) - low) / (high - low) if each.parameters else 0.0
        rows.append((f"{each.step:,}", f"{each.loss:.1e}", f"{each.parameters:.1e}", bar(share, BAR)))
    yield from _below("apart", rows, ">>><")


def _tensors(found: Comparison) -> Iterator[str]:
    if all(each.largest is None and each.a_shape == each.b_shape for each in found.tensors):
        return
    rows = [("tensor", "equal", "largest difference")]
    for each in found.tensors:
        if each.a_shape is None or each.b_shape is None or each.a_shape != each.b_shape:
            rows.append((each.name, "", f"shapes {_shape(each.a_shape)} and {_shape(each.b_shape)}"))
            continue
        share = each.equal / (each.a_shape[0] * each.a_shape[1])
        largest = each.largest
        apart = "" if largest is None else f"{largest.pair.apart:.3g} at [{largest.row}, {largest.column}]"
        rows.append((each.name, f"{share:.1%}", apart))
    yield from _below("at the end", rows, "<><")


def _below(label: str, rows: Sequence[Sequence[str]], align: str) -> Iterator[str]:
    return facts(((label if not number else "", line) for number, line in enumerate(table(rows, align))), LABEL)


def _shape(shape: tuple[int, int] | None) -> str:
    return "none" if shape is None else f"({shape[0]}, {shape[1]})"


def _format(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and len(value) <= TEXT else quote(value)
