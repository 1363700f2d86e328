"""`tapegpt doctor`: what there is to know of data, as a page of text or as JSON. Not here: finding it (`doctor.py`)."""

from __future__ import annotations

from itertools import accumulate

from tapegpt.analysis.doctor import RARE, DataReport, examine
from tapegpt.cli.console import bar, print_report
from tapegpt.cli.data import data_arguments, source_of
from tapegpt.cli.models import class_argument, find_class
from tapegpt.cli.options import ArgumentParser, Namespace, option, switch
from tapegpt.data.vocabulary import CHARACTERS
from tapegpt.models.gpt import Config
from tapegpt.text import amount, clip, columns, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


WIDTH = 100  # columns
LABEL = 18
BAR, TEXT = 40, 40
LISTED = 8  # files and rare characters that are shown
COMMON = "--dataset --block-size --json"


def arguments(parser: ArgumentParser) -> None:
    data_arguments(parser.add_argument_group("data"))
    class_argument(parser)
    about = "block size of the model to train"
    option(parser, "--block-size", Config.ranges["block_size"], about, default=Config.block_size)
    switch(parser, "--json", "JSON, with more than the page says")


def run(options: Namespace) -> int:
    config = find_class(options)(block_size=options.block_size)
    report = examine(source_of(options), config, tokens=options.tokens)
    print_report(report, page, options.json)
    return 0


def page(report: DataReport) -> Iterator[str]:
    """The lines of the page, of at most `WIDTH` columns but for the command, which is to be pasted."""
    for section in (_faults, _files, _documents, _characters, _lengths, _split, _costs):
        rows = list(section(report))
        for label, text in rows:
            yield from _wrap(label, text)
        if rows:
            yield ""
    yield "to train on it, and why"
    yield f"  {report.command}"
    for flag in report.flags:
        yield from _wrap("", f"{' '.join(flag.words)}: {flag.reason}")


def _faults(report: DataReport) -> Iterator[tuple[str, str]]:
    if report.encodings:
        yield "encoding", "not what was requested; choose what reads well"
    for encoding in report.encodings:
        chosen = ", which is used below" if encoding.name == report.encoding else ""
        yield "", f"{encoding.name} fits{chosen}: {clip(encoding.sample, TEXT)}"
    for file in report.files:
        if file.controls:
            found = f"{amount(file.controls, 'control character')}, {file.nuls:,} of them NUL"
            advice = "choose another --encoding, or leave them out"
            yield "control", f"{file.path} has {found}, which would be learnt like letters: {advice}"


def _files(report: DataReport) -> Iterator[tuple[str, str]]:
    for file in report.files[:LISTED]:
        ends = {"LF": file.line_feeds, "CR LF": file.both, "CR": file.carriage_returns}
        found = [f"{count:,} {name}" for name, count in ends.items() if count]
        facts = [file.format, amount(file.size, "byte"), *found]
        facts += ["mixed line ends, all read as one"] * (len(found) > 1) + ["BOM, left out"] * file.bom
        yield "file", f"{file.path}: {', '.join(facts)}"
    if len(report.files) > LISTED:
        yield "", f"and {len(report.files) - LISTED:,} files more, see --json"
    if not report.encodings:
        is_strict = all(flag.words[0] != "--errors" for flag in report.flags)
        yield "encoding", f"{report.encoding} {'throughout' if is_strict else 'but for what is noted'}"


def _documents(report: DataReport) -> Iterator[tuple[str, str]]:
    again = report.documents - report.distinct
    yield "strings", f"{report.documents:,}, {report.distinct:,} of them distinct, {again:,} repetitions"
    yield "left out", f"{report.blank:,} blank, {report.too_long:,} too long"
    yield "stripped", f"{report.stripped:,} of white space around them"
    for number, (document, count) in enumerate(report.frequent):
        yield "" if number else "most frequent", f"{count:,} times {clip(document, TEXT)}"


def _characters(report: DataReport) -> Iterator[tuple[str, str]]:
    characters = len(report.vocabulary)
    if report.rule != CHARACTERS:
        yield "tokens", f"{report.tokens:,} distinct, by {report.rule}"
    yield "characters", f"{characters:,} distinct, {report.characters:,} in all: {clip(report.vocabulary, 70)}"
    merged = report.distinct - report.lower_distinct
    lower = f"{report.lower_vocabulary:,} distinct, {amount(merged, 'string')} would be like others"
    yield "in lower case", lower + ("; --lowercase, where case has no meaning" if merged else "")
    yield "rare characters", f"{len(report.rare):,}, each in fewer than {RARE} strings"
    for rare in report.rare[:LISTED]:
        where = f"{rare.code_point} {rare.name.lower()}, in {rare.documents}: {clip(rare.example, TEXT)}"
        yield "", f"{rare.character}  {where}"
    if len(report.rare) > LISTED:
        yield "", f"and {len(report.rare) - LISTED:,} more, see --json"


def _lengths(report: DataReport) -> Iterator[tuple[str, str]]:
    lengths, block = report.lengths, report.block
    extremes = f"{lengths.smallest:,} to {lengths.largest:,} characters"
    yield "lengths", f"{extremes}, median {lengths.median:,}, 95 % have at most {lengths.p95:,}"
    most = max(each.documents for each in lengths.histogram)
    spans = [f"{each.first}" if each.first == each.last else f"{each.first}-{each.last}" for each in lengths.histogram]
    wide = max(map(len, spans))
    for each, span in zip(lengths.histogram, spans, strict=True):
        count = f"{each.documents:>{len(f'{most:,}')},}"
        yield "", f"{span:>{wide}}  {count}  {bar(each.documents / most, BAR)}".rstrip()
    share = block.cut / report.documents
    yield "block", f"of {block.size}: cuts {block.cut:,} strings, {share:.1%}, with their ends"
    yield "", f"of {block.size_for_95_percent}: cuts at most 5 %; of {block.size_for_all}: cuts none"


def _split(report: DataReport) -> Iterator[tuple[str, str]]:
    split = report.split
    if split is None:
        yield "held out", "nothing can be: there are no two distinct strings"
        return
    yield "held out", f"{amount(split.held_out, 'string')} with --validation {split.validation} --seed {split.seed}"
    looked = "" if split.compared == split.held_out else f" {split.compared:,} of"
    share = split.near / split.compared
    yield "near duplicates", f"{share:.0%} of{looked} them are one edit away from a string that is not held out"
    if split.baselines is None:
        yield "to compare", "nothing: n-gram models need machine code, and there is none here"
        return
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in split.baselines.items())
    yield "to compare", f"nats per token: {losses}"


def _costs(report: DataReport) -> Iterator[tuple[str, str]]:
    if not report.costs:
        yield "time", "not measured: there is no machine code here, and without it a training is slow"
    for cost in report.costs:
        name = "default training" if cost.training == "default" else f"--preset {cost.training}"
        compiled = f"; it took {cost.compiling:.1f} s to compile, once" if cost.compiling else ""
        yield "time", f"{name}: about {_duration(cost.seconds)} for {cost.steps:,} steps{compiled}"


def _duration(seconds: float) -> str:
    """To two digits, in the unit that fits."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 99 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} s"


def _wrap(label: str, text: str) -> Iterator[str]:
    """All of a text in lines of at most `WIDTH` columns, broken at blanks; behind a label, and below its beginning."""
    rest = visible(text)
    while rest:
        widths = accumulate(map(columns, rest))
        end = sum(width <= WIDTH - LABEL for width in widths)
        if end < len(rest):
            end = rest.rfind(" ", 1, end + 1) if " " in rest[1 : end + 1] else end
        yield f"{label:{LABEL}}{rest[:end]}"
        label, rest = "", rest[end:].lstrip(" ")
