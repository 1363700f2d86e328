"""`tapegpt classify`: which labels strings probably have, a line each, or the rows of a table with them."""

from __future__ import annotations

import math
import sys

from tapegpt.cli.console import notice, output, watched
from tapegpt.cli.data import data_arguments, stream_of, write_table
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, label_argument, option, output_argument, switch
from tapegpt.data.labels import labels_of
from tapegpt.data.rows import OUTPUT_FORMATS, Rows
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import OneOf
from tapegpt.text import amount, json_line, line_writer, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.data.sources import Source
    from tapegpt.data.writers import Added
    from tapegpt.inference.classes import Classes
    from tapegpt.models.trained import GPT

LEAST = 1e-12  # of a probability whose log is taken
COMMON = "--dataset --column --by --labels --output --output-format --json"


def arguments(parser: ArgumentParser) -> None:
    model_argument(parser)
    data_arguments(parser.add_argument_group("strings"), "standard input")
    about = "column of labels to predict, by its name in the training data [all columns together]"
    option(parser, "--by", "COLUMN", about)
    label_argument(parser, "all strings")
    shown = parser.add_argument_group("output")
    output_argument(shown, "labels")
    about = "table with all columns of DATA and the labels: csv, tsv, jsonl, parquet, or text"
    option(shown, "--output-format", OneOf(OUTPUT_FORMATS), about, default="text")
    switch(shown, "--json", "JSON lines, with the probabilities of all labels")
    parser.epilog = (
        "MODEL must have been trained with --labels. If DATA has the true labels, in columns named by --labels, the "
        "last line shows how many predictions are right. Probabilities are calibrated if the training had "
        "--validation."
    )


def run(options: Namespace) -> int:
    if options.json and options.output_format != "text":
        raise TapeGPTError("--json and --output-format exclude each other: give one of them")
    model, source = load_model(options), stream_of(options)
    model.classify([], by=options.by, label=options.label)  # refused before the data are read
    tally = _Tally(model, source)

    def classify(texts: Sequence[str | None]) -> Classes:
        found = model.classify(texts, by=options.by, label=options.label)
        tally.add(texts, found)
        return found

    def add(rows: Rows) -> tuple[Rows, Added]:  # nothing to those that are blank
        return rows, classify([text or None for text in source.chosen(rows)]).as_columns()

    with output(options.output):
        if options.output_format == "text":
            for texts in watched(source.batches(keep_blank=True), "string", len):
                _print(model, texts, classify(texts), as_json=options.json)
        else:
            write_table(options.output_format, source, map(add, watched(source.tables(), "row", len)))
    tally.tell()
    return 0


def _print(model: GPT, texts: Sequence[str], found: Classes, *, as_json: bool) -> None:
    if as_json:
        for text, shares in zip(texts, found, strict=True):
            every = [
                {**dict(zip(found.columns, labels, strict=True)), "probability": round(share, 6)}
                for labels, share in shares.items()
            ]
            print(json_line({"text": text, "labels": every}))
        return
    on_a_line = line_writer(model.vocabulary.characters)
    values = {name: [visible(value) for value in every] for name, every in model.vocabulary.labels}
    widths = [max(map(len, values[name])) for name in found.columns]
    names: dict[object, str] = {
        labels: "  ".join([f"{visible(each):{width}}" for each, width in zip(labels, widths, strict=True)])
        for labels in {*found.labels}
        if labels is not None
    }
    lines = zip(found.probabilities, found.labels, texts, strict=True)
    sys.stdout.write("".join([f"{share:.4f}  {names[labels]}  {on_a_line(text)}\n" for share, labels, text in lines]))
    sys.stdout.flush()


class _Tally:
    """How many labels are told right, where the data have them."""

    def __init__(self, model: GPT, source: Source) -> None:
        self._vocabulary, self._names = model.vocabulary, source.labels
        self._right = self._count = 0
        self._nats = 0.0

    def add(self, texts: Sequence[str | None], found: Classes) -> None:
        if not self._names:
            return
        labelled = self._vocabulary.relabel(texts, self._names)
        places = list(map(self._vocabulary.columns.index, found.columns))
        for text, best, shares in zip(labelled, found.labels, found, strict=True):
            known = () if text is None else tuple([value for place in places if (value := labels_of(text)[place])])
            if len(known) < len(places):
                continue
            self._count += 1
            self._right += best == known
            self._nats -= math.log(max(shares.get(known, 0.0), LEAST))

    def tell(self) -> None:
        if self._count:
            share, nats = self._right / self._count, self._nats / self._count
            notice(f"{share:.1%} of {amount(self._count, 'label')} are right; log loss {nats:.4f} nats")
