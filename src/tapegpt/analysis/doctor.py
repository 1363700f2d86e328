"""What there is to know of data before a model learns from it: how it reads, what is in it, what it will cost.

A command is made of that, with a reason for each of its options. Not here: how it is printed (`cli/doctor.py`).
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter

from tapegpt.autograd.model import Model
from tapegpt.data.corpus import Corpus
from tapegpt.data.decoding import UTF_16_MARKS, Encoding, decode, fitting_encodings
from tapegpt.data.labels import without_gaps
from tapegpt.data.packed import MAX_CONTENT, STDIN, named
from tapegpt.data.sources import IN_PLACE, LINE, Source
from tapegpt.data.vocabulary import CHARACTERS, Vocabulary
from tapegpt.files import path_text
from tapegpt.models.gpt import Config
from tapegpt.ranges import Instance
from tapegpt.record import Record
from tapegpt.training.presets import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tapegpt.data.rows import Rows
    from tapegpt.training.presets import Options
    from tapegpt.training.trainer import Trainer

RARE = 5  # documents: a character in fewer is rare
SHARE, SEED = 0.1, 42  # of the split that is looked at
LOOKS, PAIRS = 2000, 60_000_000  # held-out documents that are compared, and comparisons: half a second
FREQUENT = 5  # repeated documents that are named
BINS = 12  # of the histogram
SAMPLE, STEPS, SECONDS = 10_000, 20, 0.2  # documents and steps of a training that is timed, and its time, at most
ENOUGH = 20  # distinct documents for a split
LONGEST_BLOCK = 1024  # that is suggested: the time of a step grows with it


class File(Record):
    """One file as bytes and text."""

    path: str
    format: str  # one of `FORMATS`
    size: int  # bytes, decompressed
    bom: bool
    line_feeds: int  # ends of lines: LF, CR LF and CR
    both: int
    carriage_returns: int
    nuls: int  # NUL characters
    controls: int  # all control characters but tabs and the ends of lines


class Rare(Record):
    """A character of few documents."""

    character: str
    code_point: str  # U+0041
    name: str
    documents: int
    example: str


class Bin(Record):
    """How many documents have `first` to `last` characters."""

    first: int
    last: int
    documents: int


class Lengths(Record):
    """Characters of the documents; percentiles are lengths that occur."""

    smallest: int
    median: int
    p95: int
    largest: int
    histogram: list[Bin]


class Block(Record):
    """What a block holds; a document of n tokens makes n + 1 predictions, the last of its end."""

    size: int
    cut: int  # documents that are longer than it
    size_for_95_percent: int
    size_for_all: int


class Split(Record):
    """A split for validation, and what n-gram models make of it."""

    validation: float
    seed: int
    held_out: int
    compared: int  # of the held-out documents, with all that is left for training
    near: int  # of those compared, how many are one edit away from a training document
    baselines: dict[str, float] | None  # nats per token by n-gram model; None where there is no machine code


class TrainingTime(Record):
    """What a training will take, as some steps of it did."""

    training: str  # "default", or a preset
    steps: int
    seconds: float
    compiling: float  # seconds that making its code took, once for a shape; 0 where it is in the cache


class Flag(Record):
    """A part of the suggested command, and why."""

    words: list[str]
    reason: str


class DataReport(Record):
    """All of it. Counts are of documents where nothing else is said."""

    files: list[File]
    encoding: str  # that it was read with
    encodings: list[Encoding]  # that could be chosen, where the files are not of the requested one
    values: int  # lines, or what else may become a document
    blank: int
    stripped: int  # that had white space around them
    too_long: int  # that were left out
    documents: int
    distinct: int
    frequent: list[tuple[str, int]]
    characters: int  # of all documents together
    vocabulary: str
    rule: str  # of the tokens
    tokens: int  # distinct
    rare: list[Rare]
    lower_vocabulary: int  # characters, were all in lower case
    lower_distinct: int
    lengths: Lengths
    block: Block
    split: Split | None  # None where all documents are the same, or nothing was measured
    costs: list[TrainingTime]  # empty where there is no machine code, or nothing was measured
    flags: list[Flag]
    command: str  # to be pasted into a shell


def examine(
    data: str | os.PathLike[str] | Source | Corpus,
    config: Model | None = None,
    *,
    tokens: str = CHARACTERS,
    measured: bool = True,
) -> DataReport:
    """What there is to know of the data, a path or a corpus, for models of this shape, by default microgpt.py's.

    Files that are not of the source's encoding are read in one that fits, and split by the rule of `tokens`. Of the
    settings only block_size matters. Two trainings are begun to see how long they take, which compiles what is not in
    the cache yet: about two seconds. With `measured` False no model is made: the report has no split and no costs.
    Raises `TapeGPTError` for what cannot be read in any case, and where no document is left.
    """
    config = Config() if config is None else config
    Instance(Model).check("config", config)
    if isinstance(data, Corpus):
        return _report(data, config, [], [], data.documents, measured)
    if not isinstance(data, Source):
        data = Source(paths=(path_text(data),))
    found = [(name, b"".join(chunks)) for name, chunks in data.open(MAX_CONTENT)]
    return examine_contents(found, data, config, tokens=tokens, measured=measured)[0]


def examine_contents(
    contents: list[tuple[str, bytes]],
    source: Source,
    config: Model | None = None,
    *,
    tokens: str = CHARACTERS,
    measured: bool = True,
) -> tuple[DataReport, Corpus]:
    """As `examine`, of files whose content has been read, with their paths; and their documents."""
    texts = [(named(path), held) for path, held in contents if source.kind(path) not in IN_PLACE]
    encodings = fitting_encodings(texts, source.encoding) if source.errors == "strict" else []
    if encodings:
        source = source.replace(encoding=encodings[0].name)
    files = [_file(path, held, source) for path, held in contents]
    tables = [(path, list(source.rows(path, [held]))) for path, held in contents]
    values = [value for path, rows in tables for value in _values(path, rows, source)]
    every = [value for _, rows in tables for each in rows for value in each.values]
    labels = [[cell for _, rows in tables for each in rows for cell in each.column(name)] for name in source.labels]
    documents = without_gaps(source.select(every, labels=labels), source.labels)
    if not documents:
        raise source.emptiness()
    corpus = Corpus(documents, Vocabulary.of(documents, tokens, source.labels), source)
    return _report(corpus, config or Config(), files, encodings, values, measured), corpus


def _report(
    corpus: Corpus,
    config: Model,
    files: list[File],
    encodings: list[Encoding],
    values: list[str],
    measured: bool,
) -> DataReport:
    source = corpus.source
    documents = corpus.documents
    counts = Counter(documents)
    lower = list(map(str.lower, documents))
    kept = [value.strip() for value in values if value.strip()]
    lengths, block = _lengths(documents), _block(corpus.lengths(), config.block_size)
    report = DataReport(
        files=files,
        encoding=source.encoding if source else "utf-8",
        encodings=encodings,
        values=len(values),
        blank=len(values) - len(kept),
        stripped=sum(value != value.strip() for value in values if value.strip()),
        too_long=_too_long(kept, source),
        documents=len(documents),
        distinct=len(counts),
        frequent=[pair for pair in counts.most_common(FREQUENT) if pair[1] > 1],
        characters=sum(map(len, documents)),
        vocabulary=corpus.vocabulary.characters,
        rule=corpus.vocabulary.rule,
        tokens=len(corpus.vocabulary),
        rare=_rare(documents, corpus.vocabulary.characters),
        lower_vocabulary=len(set().union(*lower)),
        lower_distinct=len(set(lower)),
        lengths=lengths,
        block=block,
        split=_split(corpus) if measured and len(counts) > 1 else None,
        costs=_costs(corpus, type(config), _block_size(block), _max_length(lengths)) if measured else [],
        flags=[],
        command="",
    )
    flags = [*_name_model(type(config)), *_flags(source, report, type(config).block_size)]
    return report.replace(flags=flags, command=_command(source, flags))


# --- files ------------------------------------------------------------------------------------------------------


def _file(path: str, data: bytes, source: Source) -> File:
    kind = source.kind(path)
    text = "" if kind in IN_PLACE else decode(named(path), data, source.encoding, mark=source.errors != "strict")
    both = text.count("\r\n")
    controls = {code: text.count(chr(code)) for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}
    return File(
        path=source.dataset or named(path),
        format=kind,
        size=len(data),
        bom=data.startswith((b"\xef\xbb\xbf", *UTF_16_MARKS)),
        line_feeds=text.count("\n") - both,
        both=both,
        carriage_returns=text.count("\r") - both,
        nuls=controls[0],
        controls=sum(controls.values()),
    )


def _values(path: str, tables: list[Rows], source: Source) -> list[str]:
    """Without nulls, and the empty one behind the last delimiter of a text."""
    values = [value for rows in tables for value in rows.values if value is not None]
    is_cut = source.kind(path) == "text" and source.delimiter != LINE
    return values[:-1] if is_cut and values and not values[-1] else values


def _too_long(kept: list[str], source: Source | None) -> int:
    if source is None or source.max_length is None:
        return 0
    every = source.replace(max_length=None, unique=False).select(kept)
    return sum(len(document) > source.max_length for document in every)


# --- documents --------------------------------------------------------------------------------------------------


def _rare(documents: Iterable[str], vocabulary: str) -> list[Rare]:
    """The characters of fewer than `RARE` documents, the rarest first."""
    from unicodedata import name

    seen: dict[str, list[str]] = {character: [] for character in vocabulary}
    rare = set(vocabulary)
    for document in documents:
        for character in rare.intersection(document):
            seen[character].append(document)
            if len(seen[character]) == RARE:
                rare.remove(character)
    return [
        Rare(each, f"U+{ord(each):04X}", name(each, "without a name"), len(seen[each]), seen[each][0])
        for each in sorted(rare, key=lambda each: (len(seen[each]), each))
    ]


def _lengths(documents: Sequence[str]) -> Lengths:
    lengths = sorted(map(len, documents))
    smallest, largest = lengths[0], lengths[-1]
    width = math.ceil((_percentile(lengths, 0.99) - smallest + 1) / BINS)
    bins = Counter(min((length - smallest) // width, BINS - 1) for length in lengths)
    histogram = [Bin(smallest + i * width, smallest + (i + 1) * width - 1, bins[i]) for i in range(max(bins) + 1)]
    histogram[-1] = histogram[-1].replace(last=max(largest, histogram[-1].last))
    return Lengths(smallest, _percentile(lengths, 0.5), _percentile(lengths, 0.95), largest, histogram)


def _percentile(lengths: list[int], share: float) -> int:
    """The smallest length that so large a share of the sorted lengths do not exceed."""
    return lengths[math.ceil(share * len(lengths)) - 1]


def _block(lengths: list[int], size: int) -> Block:
    predictions = sorted(length + 1 for length in lengths)
    cut = sum(count > size for count in predictions)
    return Block(size, cut, _percentile(predictions, 0.95), predictions[-1])


def _split(corpus: Corpus) -> Split:
    from tapegpt.data.holdout import hold_out
    from tapegpt.data.neighbours import Neighbours
    from tapegpt.data.ngrams import baselines, kernels

    training, validation = hold_out(corpus, SHARE, SEED)
    neighbours = Neighbours(training.documents)
    count = min(LOOKS, max(PAIRS // len(training), 1), len(validation))
    looked = validation.documents[:: -(-len(validation) // count)]
    near = sum(neighbours.within(document, 1) for document in looked)
    losses = None if kernels().notice else baselines(training, validation, corpus.vocab_size)
    return Split(SHARE, SEED, len(validation), len(looked), near, losses)


def _costs(corpus: Corpus, kind: type[Model], block_size: int, max_length: int | None) -> list[TrainingTime]:
    """Of trainings with what the command says of block and length."""
    from tapegpt.training.trainer import Trainer

    documents = [text for text in corpus.documents if max_length is None or len(text) <= max_length]
    costs, some = [], corpus.replace(documents=documents[:: -(-len(documents) // SAMPLE)])
    for name, preset in (("default", None), ("quick", "quick")):
        options: Options = {"block_size": block_size}
        config, settings = resolve(options, preset, model=kind)
        trainer = Trainer(some, config, settings)
        engine = trainer.model.engine
        if engine.notice:
            return []
        first = _seconds(trainer, 1)
        took = _seconds(trainer, max(1, min(STEPS, int(SECONDS / first))))
        costs.append(TrainingTime(name, settings.steps, settings.steps * took, engine.compile_seconds))
    return costs


def _seconds(trainer: Trainer, steps: int) -> float:
    """Of one step, a mean of so many."""
    start = time.perf_counter()
    trainer.run(steps)
    return max(time.perf_counter() - start, 1e-9) / steps


# --- advice -----------------------------------------------------------------------------------------------------


def _name_model(kind: type[Model]) -> Iterator[Flag]:
    if kind is not Config:
        from tapegpt.models.loading import address

        yield Flag(["--model", address(kind)], "as you gave it")


def _flags(source: Source | None, report: DataReport, block_size: int) -> list[Flag]:
    """How to train on it: what was requested, and what the report suggests."""
    given = _given(source, report) if source else []
    options = {flag.words[0] for flag in given}
    return [*given, *[flag for flag in _suggest(report, block_size) if flag.words[0] not in options]]


def _given(source: Source, report: DataReport) -> list[Flag]:
    options = source.options()
    flags = [Flag(words, "as you gave it") for name, words in options.items() if name != "encoding"]
    if report.rule != CHARACTERS:
        flags.append(Flag(["--tokens", report.rule], "as you gave it"))
    if report.encodings:
        flags.append(Flag(["--encoding", source.encoding], "the first that fits: see whether its sample reads well"))
    elif "encoding" in options:
        flags.append(Flag(options["encoding"], "as you gave it"))
    return flags


def _suggest(report: DataReport, block_size: int) -> Iterator[Flag]:
    block, lengths = report.block, report.lengths
    size = _block_size(block)
    if size != block_size:
        cut = f"{block.cut:,} of {report.documents:,} strings do not fit into {block.size} with their end"
        yield Flag(["--block-size", str(size)], cut if size != block.size else "as you gave it")
    if longest := _max_length(lengths):
        reason = f"the longest has {lengths.largest:,} characters, 95 % have at most {lengths.p95:,}"
        yield Flag(["--max-length", str(longest)], reason)
    if report.distinct <= 0.95 * report.documents:
        again = report.documents - report.distinct
        yield Flag(
            ["--unique"], f"{again:,} of {report.documents:,} strings are repetitions, and count more without it"
        )
    yield Flag(["--preset", "quick"], "a first look; good and best take longer and learn more")
    if report.distinct >= ENOUGH:
        yield Flag(["--validation", str(SHARE)], "tells learning from memorising")


def _block_size(block: Block) -> int:
    """One that holds all documents, or most where a few are much longer."""
    few_are_long = block.size_for_all > 2 * block.size_for_95_percent
    wanted = block.size_for_95_percent if few_are_long else block.size_for_all
    return max(block.size, min(wanted, LONGEST_BLOCK))


def _max_length(lengths: Lengths) -> int | None:
    """One that leaves out what is far longer than most, where there is any."""
    return 2 * lengths.p95 if lengths.largest > 10 * lengths.p95 else None


def _command(source: Source | None, flags: list[Flag]) -> str:
    import shlex

    paths = list(source.paths) if source else ["DATA"]
    first = (
        "model" if not source or STDIN in paths[:1] else source.dataset or os.path.basename(os.path.abspath(paths[0]))
    )
    output = f"{first.split('.')[0] or 'model'}.safetensors"
    words = [word for flag in flags for word in flag.words]
    return shlex.join(["tapegpt", "train", *paths, *words, "-o", output])
