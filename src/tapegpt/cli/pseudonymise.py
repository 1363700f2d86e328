"""`tapegpt pseudonymise`: a column of a table, or lines of text, with names of a model for its values."""

from __future__ import annotations

import sys

from tapegpt.cli.console import output, watched
from tapegpt.cli.data import data_arguments, stream_of, write_table
from tapegpt.cli.generate import string_arguments, string_options
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, flag, option, output_argument, switch
from tapegpt.data.labels import identity
from tapegpt.data.rows import OUTPUT_FORMATS, Rows
from tapegpt.data.sources import LINE
from tapegpt.errors import TapeGPTError
from tapegpt.inference.constraints import split_options
from tapegpt.inference.pseudonyms import read_secret
from tapegpt.ranges import OneOf
from tapegpt.text import line_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


WRITTEN_AS = {"json": "jsonl", "arrow": "parquet"}  # what is read; all else as it is read
LEAVING_OUT = ("max_length", "unique")
COMMON = "--column --secret-file --output --no-unique --no-novel --training-data --pattern --length"


def arguments(parser: ArgumentParser) -> None:
    model_argument(parser, data=True)
    about = "Equal values get the same name; with --labels, a name has the labels of its row. Blank values and other "
    about += "columns stay as they are."
    data_arguments(parser.add_argument_group("values", about), "standard input")
    about = "file of at least 16 random bytes or characters; with it and MODEL, names can be traced back"
    option(parser, "--secret-file", "FILE", about, required=True)
    switch(parser, "--no-unique", "values may share a name; a name then depends on its value alone")
    switch(parser, "--no-novel", "names may be training strings")
    output_argument(parser, "table")
    option(parser, "--output-format", OneOf(OUTPUT_FORMATS), f"{', '.join(OUTPUT_FORMATS)} [as DATA]")
    string_arguments(parser, defaults=False)


def run(options: Namespace) -> int:
    for name in LEAVING_OUT:
        if getattr(options, name):
            raise TapeGPTError(f"{flag(name)} would leave values out, which then keep what they are: leave it out")
    wanted = string_options(options)
    if options.no_novel:
        wanted["novel"] = False
    split_options(wanted)  # refused before the model is read
    secret, model, source = _read_secret(options.secret_file), load_model(options), stream_of(options)
    tables = source.tables if source.again else list(source.tables()).__iter__  # which are read twice

    def keys_of(rows: Rows) -> list[str | None]:
        return model.vocabulary.relabel([text or None for text in source.chosen(rows)], source.labels)

    keys = {identity(text): text for rows in tables() for text in keys_of(rows) if text}
    found = model.names_for(keys.values(), secret=secret, unique=not options.no_unique, **wanted)
    named = dict(zip(keys, found, strict=True))

    def rename(rows: Rows) -> Rows:
        return rows.replace([text and named[identity(text)] for text in keys_of(rows)])

    first = next(path for path, _ in source.open()) if source.again else source.paths[0]  # in a zip its first file
    read = source.kind(first)
    with output(options.output):
        kind, renamed = options.output_format or WRITTEN_AS.get(read, read), map(rename, watched(tables(), "row", len))
        if kind == "text":
            _write_text(renamed, source.delimiter, model.vocabulary.characters)
        else:
            write_table(kind, source, ((rows, {}) for rows in renamed))
    return 0


def _read_secret(path: str) -> bytes:
    """What a file holds, without the ends of its lines."""
    try:
        with open(path, "rb") as file:
            return read_secret(file.read().strip())
    except OSError as error:
        raise TapeGPTError(
            f"--secret-file {path}: cannot be read: {error.strerror}: give a file with a secret"
        ) from None


def _write_text(tables: Iterator[Rows], delimiter: str, alphabet: str) -> None:
    if delimiter != LINE:  # then the text has been read at once
        print(delimiter.join([value or "" for rows in tables for value in rows.values]))
        return
    on_a_line = line_writer(alphabet)
    for rows in tables:
        sys.stdout.write("".join([f"{on_a_line(value or '')}\n" for value in rows.values]))
