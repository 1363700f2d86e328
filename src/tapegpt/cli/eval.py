"""`tapegpt eval`: a model beside data, as a page of text or as JSON. Not here: the figures (`evaluation.py`)."""

from __future__ import annotations

import math

from tapegpt.cli.console import bar, facts, print_report
from tapegpt.cli.data import corpus_of, data_arguments
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, option, switch
from tapegpt.errors import TapeGPTError
from tapegpt.inference.constraints import TEMPERATURE
from tapegpt.ranges import Whole
from tapegpt.settings import SEED
from tapegpt.text import amount, clip, columns, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.analysis.evaluation import Distribution, EvaluationReport

LABEL, BAR = 18, 26  # columns
WIDTH = 100
LISTED = 32  # lengths and characters that are shown
TEXT = 24  # columns of a string that is shown
COMMON = "--training-data --dataset --samples --json"


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.analysis.evaluation import SAMPLES

    model_argument(parser, data=True)
    data_arguments(parser.add_argument_group("data to compare with"), "required")
    option(parser, "--samples", Whole(1), "number of strings to generate", default=SAMPLES)
    option(parser, "--temperature", TEMPERATURE, "temperature of these strings", default=1.0)
    option(parser, "--seed", SEED, "seed of their random numbers", default=0)
    switch(parser, "--json", "JSON, with more than the page says")


def run(options: Namespace) -> int:
    from tapegpt.analysis.evaluation import evaluate

    if not options.data and options.dataset is None:
        raise TapeGPTError("there is nothing to compare the model with: give DATA, or --dataset NAME")
    model = load_model(options)
    corpus = corpus_of(options, model.vocabulary.rule)
    report = evaluate(model, corpus, samples=options.samples, temperature=options.temperature, seed=options.seed)
    print_report(report, page, options.json)
    return 0


def page(report: EvaluationReport) -> Iterator[str]:
    """The lines of the page, of at most `WIDTH` columns."""
    sections = [section(report) for section in (_strings, _losses, _memory, _distances, _examples)]
    sections += [_distribution("lengths", report.lengths), _distribution("characters", report.characters)]
    for number, section in enumerate(sections):
        if number:
            yield ""
        yield from facts(section, LABEL)


def _strings(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    yield "strings", f"{report.strings:,}, {report.distinct:,} of them distinct"
    if report.reason is None:
        yield "trained on", f"{report.training:,} strings"
    else:
        yield "trained on", "not known, so that all strings are taken together:"
        yield "", clip(report.reason.for_command, WIDTH - LABEL)


def _losses(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    names = {"new": "that are new, no two alike", "trained on": "that were trained on", "all": "in all"}
    for number, (name, loss) in enumerate(report.losses.items()):
        label = "" if number else "loss"
        if loss.loss is None:
            yield label, f"none on the strings {names[name]}: there are none"
        else:
            perplexity = math.exp(min(loss.loss, 700.0))
            figures = f"{loss.loss:.4f} nats per token, perplexity {perplexity:.2f}"
            yield label, f"{figures}, on {loss.strings:,} strings {names[name]}"
        if loss.unknown:
            yield "", f"{loss.unknown:,} more have tokens that the model does not know, and are left out"
    comparison = report.comparison
    if comparison is None:
        yield "to compare", "nothing: it takes new strings, training data, and machine code"
        return
    yield "to compare", ", ".join(f"{name} {loss:.4f}" for name, loss in comparison.losses.items())
    yield "", f"on {comparison.strings:,} strings; n-gram models learned from {comparison.learned_from}"


def _memory(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    memory = report.memory
    yield "generated", f"{memory.samples:,} strings at temperature {memory.temperature:g}"
    yield "copies", f"{memory.copies:,}, {memory.copies / memory.samples:.1%}, are {_reference(report)}"
    yield "repetitions", f"{memory.repeated:,}, {memory.repeated / memory.samples:.1%}, have come before"


def _reference(report: EvaluationReport) -> str:
    return "strings of the data" if report.training is None else "training strings"


def _distances(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    """How far generated strings are from the nearest training string, and how far real ones are."""
    generated, real = report.memory.distances, report.memory.real
    compared = f"of {sum(generated.values()):,} generated strings"
    yield "edits to nearest", f"{compared}{f', and of {sum(real.values()):,} that are real and new' if real else ''}"
    found = [counts for counts in (generated, real) if counts]
    for distance in sorted({*generated, *(real or ())}):
        yield "", f"{distance:>5}  {_bars(*[counts.get(distance, 0) / sum(counts.values()) for counts in found])}"


def _examples(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    if not report.memory.examples:
        yield "nearest", f"all that were compared are {_reference(report)}"
    for number, example in enumerate(report.memory.examples):
        edits = amount(example.distance, "edit")
        text, nearest = clip(example.text, TEXT), clip(example.nearest, TEXT)
        yield "" if number else "nearest", f"{text or '(empty)':{TEXT}}  {edits:>8} from {nearest}"


def _distribution(name: str, distribution: Distribution) -> Iterator[tuple[str, str]]:
    real, generated = distribution.data, distribution.generated
    difference = f"they differ by {distribution.distance:.3f}, by chance {distribution.chance:.3f}"
    yield name, f"of the data, and generated; {difference}"
    larger = {value: max(real.get(value, 0.0), generated.get(value, 0.0)) for value in {*real, *generated}}
    shown = sorted(larger, key=lambda value: (-larger[value], value))[:LISTED]
    most = larger[shown[0]]
    shown.sort(key=int if name == "lengths" else lambda value: -real.get(value, 0.0))
    for value in shown:
        padding = " " * (5 - columns(value))
        yield "", f"{padding}{visible(value)}  {_bars(real.get(value, 0.0), generated.get(value, 0.0), most=most)}"
    if len(larger) > LISTED:
        yield "", f"and {len(larger) - LISTED:,} more, see --json"


def _bars(*shares: float, most: float = 1.0) -> str:
    """Shares with bars, of which the longest possible stands for `most`."""
    bars = [f"{share:>6.1%} {bar(share / most, BAR):{BAR}}" for share in shares]
    return " ".join(bars).rstrip()
