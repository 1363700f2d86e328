"""Where a command's strings come from: the options, and what they mean. Not here: reading files (`sources.py`)."""

from __future__ import annotations

import os
import sys

from tapegpt.cli.console import STDOUT, notice
from tapegpt.cli.options import option
from tapegpt.data.packed import STDIN
from tapegpt.data.sources import DATASETS, ERRORS, FORMATS, Source, parse_delimiter, parse_text
from tapegpt.data.vocabulary import CHARACTERS, Vocabulary
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import OneOf, Whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from tapegpt.data.corpus import Corpus

DEFAULT_DATA = "input.txt"


def data_arguments(group: argparse._ActionsContainer, default: str = "./input.txt, or names") -> None:
    """Declare them; the default is what help says of no DATA."""
    about = "files or directories of text, a string a line, or tables (.csv .tsv .jsonl .json .parquet .arrow); - for "
    about += "standard input; gzip, xz, bzip2 or zip too"
    group.add_argument("data", nargs="*", metavar="DATA", help=f"{about} [{default}]")
    option(group, "--dataset", OneOf(DATASETS), f"embedded data: {', '.join(DATASETS)}")
    about = "of directories and zip files, the files with such names, as '*.abc' [all]"
    group.add_argument("--files", metavar="PATTERN", help=about)
    option(group, "--format", OneOf(FORMATS), f"format of DATA: {', '.join(FORMATS)} [by the names of files]")
    about = "column of a table: its name or number, of JSON a key or a.b [the only one]"
    group.add_argument("--column", metavar="NAME", help=about)
    about = "column of a table whose values are labels of the strings, which a model learns too; may be repeated"
    group.add_argument("--labels", action="append", default=[], metavar="COLUMN", help=about)
    about = ".csv and .tsv without names of columns in the first row, columns by number"
    group.add_argument("--no-header", action="store_true", help=about)
    about = "character between the cells of .csv, as ';' or '\\t' [, or ;]"
    group.add_argument("--separator", metavar="TEXT", help=about)
    group.add_argument("--no-quotes", action="store_true", help="cells of .csv with quotation marks as they are")
    about = "what separates strings: text such as '\\n---\\n', or line, blank or none [line]"
    group.add_argument("--delimiter", default="line", metavar="TEXT", help=about)
    group.add_argument("--encoding", default="utf-8", metavar="NAME", help="encoding of DATA [utf-8]")
    about = "what is not of the encoding: strict, refused; replace, by U+FFFD; skip, strings with it left out"
    option(group, "--errors", OneOf(ERRORS), about, default="strict")
    group.add_argument("--lowercase", action="store_true", help="all characters in lower case")
    option(group, "--max-length", Whole(1), "longest strings to take, in characters [all]")
    group.add_argument("--unique", action="store_true", help="each string once")


def tokens_argument(group: argparse._ActionsContainer) -> None:
    """Declare the rule by which a new model splits strings."""
    about = f"{Vocabulary.fields['rule'].about} [{CHARACTERS}]"
    group.add_argument("--tokens", default=CHARACTERS, metavar="RULE", help=about)


def source_of(options: argparse.Namespace) -> Source:
    """What they choose; raises `TapeGPTError` where they do not fit together."""
    paths, dataset = options.data, options.dataset
    if not paths and dataset is None:
        paths, dataset = ([DEFAULT_DATA], None) if os.path.exists(DEFAULT_DATA) else ([], "names")
    delimiter = "--" if options.delimiter == [] else options.delimiter  # which argparse makes of it up to Python 3.12
    return Source(
        paths=tuple(paths),
        dataset=dataset,
        files=options.files,
        format=options.format,
        encoding=options.encoding,
        errors=options.errors,
        delimiter=parse_delimiter(delimiter),
        column=options.column,
        labels=tuple(options.labels),
        header=not options.no_header,
        separator=options.separator and parse_text(options.separator, "separator"),
        quotes=not options.no_quotes,
        lowercase=options.lowercase,
        max_length=options.max_length,
        unique=options.unique,
    )


def stream_of(options: argparse.Namespace) -> Source:
    """What they choose, of strings that are read as they come: by default standard input."""
    if not options.data and options.dataset is None:
        options.data = [STDIN]
    if options.data == [STDIN] and sys.stdin is not None and sys.stdin.isatty():
        notice("reading strings from the terminal, one a line: Ctrl-D ends them")
    return source_of(options)


def corpus_of(options: argparse.Namespace, tokens: str, budget: float | None = None) -> Corpus:
    """The strings that they choose, split by a rule, or a sample of them where all are too many for a budget.

    Raises `TapeGPTError` where they cannot be read.
    """
    from tapegpt.data.corpus import Corpus
    from tapegpt.training.clock import within

    return Corpus.from_source(within(source_of(options), budget), tokens)


def data_paths(options: argparse.Namespace) -> list[str]:
    """The files to learn from, also those in directories; none for an embedded data set."""
    source = source_of(options)
    return source.listing() if source.paths else []


def check_file(option: str, path: str, data: Iterable[str]) -> None:
    """Refuse a path that no file can be written to, or that means one of the data's."""
    from tapegpt.files import writable

    if path == STDOUT:
        raise TapeGPTError(f"{option} -: a model is no text for standard output: give the name of a file")
    if any(same_file(path, other) for other in data):
        raise TapeGPTError(f"{option} {path} is DATA too: choose another name")
    writable(path)


def same_file(path: str | None, other: str | None) -> bool:
    """Whether two paths mean one file, there or not, through links of both kinds too."""
    if not path or not other:
        return False
    try:
        return os.path.realpath(path) == os.path.realpath(other) or os.path.samefile(path, other)
    except (OSError, ValueError):  # not there, or no path at all: whoever opens it says so
        return False
