"""Where a command's strings come from: the options, and what they mean. Not here: reading files (`corpus.py`)."""

from __future__ import annotations

import os

from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from tapegpt.corpus import Corpus

DEFAULT_DATA = "input.txt"


def data_arguments(group: argparse._ActionsContainer) -> None:
    """Declare them."""
    from tapegpt.corpus import DATASETS

    group.add_argument("data", nargs="?", metavar="DATA", help="text file, one string a line [./input.txt, or names]")
    group.add_argument("--dataset", choices=DATASETS, metavar="NAME", help=f"embedded data: {' or '.join(DATASETS)}")
    group.add_argument("--encoding", default="utf-8", metavar="NAME", help="encoding of DATA [utf-8]")
    about = "what separates strings: text such as '\\n---\\n', or line, blank or none [line]"
    group.add_argument("--delimiter", default="line", metavar="TEXT", help=about)


def corpus_of(options: argparse.Namespace) -> Corpus:
    """The strings that they choose; raises `TapeGPTError` where they do not fit together."""
    from tapegpt.corpus import Corpus, parse_delimiter

    delimiter = parse_delimiter(options.delimiter)
    if options.dataset and options.data is not None:
        raise TapeGPTError(f"DATA {options.data} and --dataset {options.dataset} exclude each other: give one")
    if options.dataset:
        return Corpus.dataset(options.dataset)
    path = data_path(options)
    return Corpus.dataset("names") if path is None else Corpus.read(path, options.encoding, delimiter)


def data_path(options: argparse.Namespace) -> str | None:
    """The file to learn from, None for an embedded data set."""
    if options.data is None and not options.dataset and os.path.exists(DEFAULT_DATA):
        return DEFAULT_DATA
    path: str | None = options.data
    return path
