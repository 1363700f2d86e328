"""Where a command's strings come from: the options, and what they mean. Not here: reading files (`sources.py`)."""

from __future__ import annotations

import os

from tapegpt.cli.options import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from tapegpt.data.corpus import Corpus
    from tapegpt.data.sources import Source

DEFAULT_DATA = "input.txt"


def data_arguments(group: argparse._ActionsContainer, default: str = "./input.txt, or names") -> None:
    """Declare them; the default is what help says of no DATA."""
    from tapegpt.data.sources import DATASETS, FORMATS

    about = (
        "files or directories, gzip or not, - for standard input: text, a string a line, or tables, .csv .tsv .jsonl "
        ".json"
    )
    group.add_argument("data", nargs="*", metavar="DATA", help=f"{about} [{default}]")
    group.add_argument("--dataset", choices=DATASETS, metavar="NAME", help=f"embedded data: {' or '.join(DATASETS)}")
    about = f"of DATA: {', '.join(FORMATS)} [by the names of files]"
    group.add_argument("--format", choices=FORMATS, metavar="NAME", help=about)
    about = "of a table: its name or number, of JSON a key or a.b [the only one]"
    group.add_argument("--column", metavar="NAME", help=about)
    about = "of .csv and .tsv: the first row is data too, and columns have numbers"
    group.add_argument("--no-header", action="store_true", help=about)
    about = "what separates strings: text such as '\\n---\\n', or line, blank or none [line]"
    group.add_argument("--delimiter", default="line", metavar="TEXT", help=about)
    group.add_argument("--encoding", default="utf-8", metavar="NAME", help="encoding of DATA [utf-8]")
    group.add_argument("--lowercase", action="store_true", help="make all characters lower case")
    group.add_argument("--max-length", type=whole, metavar="N", help="leave out strings of more characters [none]")
    group.add_argument("--unique", action="store_true", help="take each string once")


def source_of(options: argparse.Namespace) -> Source:
    """What they choose; raises `TapeGPTError` where they do not fit together."""
    from tapegpt.data.sources import Source, parse_delimiter

    paths, dataset = options.data, options.dataset
    if not paths and dataset is None:
        paths, dataset = ([DEFAULT_DATA], None) if os.path.exists(DEFAULT_DATA) else ([], "names")
    delimiter = "--" if options.delimiter == [] else options.delimiter  # which argparse makes of it up to Python 3.12
    return Source(
        paths=tuple(paths),
        dataset=dataset,
        format=options.format,
        encoding=options.encoding,
        delimiter=parse_delimiter(delimiter),
        column=options.column,
        header=not options.no_header,
        lowercase=options.lowercase,
        max_length=options.max_length,
        unique=options.unique,
    )


def corpus_of(options: argparse.Namespace, *, sample: int | None = None, budget: float | None = None) -> Corpus:
    """The strings that they choose, or a sample of them, where that is given or all are too many for a budget.

    Raises `TapeGPTError` where they cannot be read.
    """
    from tapegpt.data.corpus import Corpus
    from tapegpt.training.clock import within

    return Corpus.from_source(within(source_of(options).replaced(sample=sample), budget))


def data_paths(options: argparse.Namespace) -> list[str]:
    """The files to learn from, also those in directories; none for an embedded data set."""
    source = source_of(options)
    return source.files() if source.paths else []
