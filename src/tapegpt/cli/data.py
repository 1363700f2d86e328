"""Where a command's strings come from: the options, and what they mean. Not here: reading files (`sources.py`)."""

from __future__ import annotations

import os
import sys

from tapegpt.cli.console import STDOUT, notice
from tapegpt.cli.options import Group, Namespace, given, option, setting_arguments
from tapegpt.data.packed import STDIN
from tapegpt.data.sources import Selection, Source
from tapegpt.data.vocabulary import CHARACTERS, Vocabulary
from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tapegpt.data.corpus import Corpus
    from tapegpt.data.rows import Rows
    from tapegpt.data.writers import Added

DEFAULT_DATA = "input.txt"


def data_arguments(group: Group, default: str = "") -> None:
    """Declare them; the default is what help says of no DATA. Those of a new model can be split by a rule."""
    about = (
        "files or directories of text, one string per line, or tables (.csv .tsv .jsonl .json .parquet .arrow); - for "
    )
    about += "standard input; gzip, xz, bzip2 or zip too"
    option(group, "data", "DATA", f"{about} [{default or './input.txt, or names'}]", nargs="*")
    setting_arguments(group, Source, "dataset", "files", "format", "column")
    about = "column of a table with labels, such as a country, to learn too; may be repeated"
    option(group, "--labels", "COLUMN", about, action="append", default=[])
    setting_arguments(group, Source, "header", "separator", "quotes", "delimiter", "encoding", "errors")
    setting_arguments(group, Source, *Selection.fields)
    if not default:
        option(group, "--tokens", "RULE", f"{Vocabulary.fields['rule'].about} [{CHARACTERS}]", default=CHARACTERS)


def source_of(options: Namespace) -> Source:
    """What they choose; raises `TapeGPTError` where they do not fit together."""
    paths, dataset = options.data, options.dataset
    if not paths and dataset is None:
        paths, dataset = ([DEFAULT_DATA], None) if os.path.exists(DEFAULT_DATA) else ([], "names")
    if options.delimiter == []:
        options.delimiter = "--"  # which argparse makes of it up to Python 3.12
    how = given(options, [name for name in Source.fields if name not in ("paths", "dataset", "labels", "sample")])
    return Source(paths=tuple(paths), dataset=dataset, labels=tuple(options.labels), **how)


def stream_of(options: Namespace) -> Source:
    """What they choose, of strings that are read as they come: by default standard input."""
    if not options.data and options.dataset is None:
        options.data = [STDIN]
    if options.data == [STDIN] and sys.stdin is not None and sys.stdin.isatty():
        notice("reading strings from the terminal, one a line: Ctrl-D ends them")
    return source_of(options)


def corpus_of(options: Namespace, tokens: str, budget: float | None = None) -> Corpus:
    """The strings that they choose, split by a rule, or a sample of them where all are too many for a budget.

    Raises `TapeGPTError` where they cannot be read.
    """
    from tapegpt.data.corpus import Corpus
    from tapegpt.training.clock import within

    return Corpus.from_source(within(source_of(options), budget), tokens)


def write_table(kind: str, source: Source, tables: Iterable[tuple[Rows, Added]]) -> None:
    """Write rows of a source to standard output, each some with more columns, as they come."""
    from tapegpt.data.writers import table_writer

    with table_writer(sys.stdout.buffer, kind, source) as write:
        for rows, added in tables:
            write(rows, added)
            sys.stdout.flush()


def data_paths(options: Namespace) -> list[str]:
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
