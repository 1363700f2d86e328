"""An uploaded file of data: read as the command line reads it, with the choices that it leaves and what doctor finds.

Not here: endpoints (`runs.py`), how files are read (`sources.py`), what is found in them (`doctor.py`).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from warnings import catch_warnings, simplefilter

from tapegpt.analysis.doctor import examine_contents
from tapegpt.data.decoding import decode, fitting_encodings, with_line_feeds
from tapegpt.data.packed import TooLargeError, contents
from tapegpt.data.sources import IN_PLACE, LINE, Source, format_of
from tapegpt.data.tables import column_names, read_rows
from tapegpt.errors import TapeGPTError, TapeGPTWarning
from tapegpt.processes import renew_at_fork
from tapegpt.studio.limits import CHARACTER_BYTES, too_large
from tapegpt.studio.store import KeptCorpus
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any
    from warnings import WarningMessage

    from tapegpt.analysis.doctor import DataReport
    from tapegpt.studio.requests import FileQuery

EDITED = 100_000  # characters of a file that become a text to edit
SEPARATORS = (",", ";", "\\t", "|")  # as options are written, where one line has several strings
MANY, NEARLY_ALL = 3, 0.9  # strings in a line; share of the lines, of which a table has as many cells in each
SHOWN, WIDTH = 3, 100  # values in a sample, and its characters

_lock = renew_at_fork(allocate_lock())


def read_file(data: bytes, wanted: FileQuery, characters: int) -> tuple[dict[str, Any], KeptCorpus | None]:
    """The response `Reading` but for its corpus, and that; none where something has to be chosen first.

    Raises `TapeGPTError` for what cannot be read, and `RefusedError` for too much.
    """
    largest = CHARACTER_BYTES * characters
    try:
        found = contents(wanted.name, data, largest)
    except TooLargeError:
        raise too_large(f"the file holds more than the {largest:,} bytes that are allowed: give less") from None
    name, held = found[0]
    kind = wanted.format or format_of(name)
    if kind in IN_PLACE:
        raise TapeGPTError(f"{wanted.name}: is {kind}, which this page does not read: give it as csv or jsonl")
    encodings = fitting_encodings(found, wanted.encoding)
    encoding = encodings[0].name if encodings else wanted.encoding
    delimiter = Source.ranges["delimiter"].read("delimiter", wanted.delimiter)
    reading: Any = {"format": kind, "encoding": encoding, "delimiter": delimiter}
    source = Source(paths=(wanted.name,), **reading, column=wanted.column, labels=wanted.labels, header=wanted.header)
    with _note_warnings():  # of which the reading itself tells
        columns = _columns(kind, decode(name, held, encoding), wanted.header) if kind != "text" else []
    told: dict[str, Any] = {"format": kind, "problem": None, "columns": columns, "findings": [], "text": None}
    told |= {"encoding": encoding, "encodings": [_option(each.name, [each.sample]) for each in encodings]}
    told |= {"formats": [], "delimiters": []}
    if len(columns) > 1 and wanted.column is None:
        return {**told, "problem": "This is a table: choose the column to train on."}, None
    with _note_warnings() as notes:
        report, corpus = examine_contents(found, source, measured=False)
    if report.characters > characters:
        raise too_large(f"the file has {report.characters:,} characters, the limit here is {characters:,}: give less")
    said = dict.fromkeys(str(note.message) for note in notes)
    findings = [{"reason": note, "max_length": None} for note in said] + _findings(report)
    told |= {"findings": findings, "text": None if wanted.labels else _editable(corpus.documents)}
    if kind == "text" and delimiter == LINE:
        told |= _separators(corpus.documents)
    return told, KeptCorpus(corpus.replace(source=None), wanted.name)


@contextmanager
def _note_warnings() -> Iterator[list[WarningMessage]]:
    """The warnings of the library; one thread at a time, since filters are those of the process."""
    with _lock, catch_warnings(record=True) as caught:
        simplefilter("always", TapeGPTWarning)
        yield caught


def _option(name: str, values: Iterable[str | None]) -> dict[str, str]:
    shown = islice(filter(None, map(str.strip, filter(None, values))), SHOWN)
    return {"name": name, "sample": ", ".join(shown)[:WIDTH]}


def _columns(kind: str, text: str, header: bool) -> list[dict[str, str]]:
    """The columns of a table, numbered where it has no header, with the first values of each."""
    lines = [with_line_feeds(text)]
    names = column_names(kind, lines)
    if not header:
        names = [str(number) for number, _ in enumerate(names, 1)]
    try:
        source = Source(paths=("",), format=kind, column=names[0] if names else None, header=header)
        rows = next(read_rows("", kind, lines, source, every=True)) if names else None
        return [_option(name, rows.column(name) if rows else ()) for name in names]
    except TapeGPTError:  # in a row, which is told of once a column is chosen
        return [_option(name, ()) for name in names]


def _separators(documents: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """How else a text can be read: a single line as strings, several lines as the rows of a table."""
    parse = Source.ranges["delimiter"].parse
    if len(documents) == 1:
        parts = {each: documents[0].split(parse(each)) for each in SEPARATORS}
        return {"delimiters": [_option(each, found) for each, found in parts.items() if len(found) >= MANY]}
    for written in SEPARATORS[:-1]:
        counts = Counter(text.count(parse(written)) for text in documents)
        cells, lines = counts.most_common(1)[0]
        if cells and lines >= NEARLY_ALL * len(documents):
            return {"formats": [_option("tsv" if written == "\\t" else "csv", documents[:1])]}
    return {}


def _findings(report: DataReport) -> list[dict[str, Any]]:
    """What doctor finds in it."""
    counts = [amount(file.controls, "control character") for file in report.files if file.controls]
    controls = [{"reason": f"{count} in it", "max_length": None} for count in counts]
    flags = [(flag.reason, flag.words[1]) for flag in report.flags if flag.words[0] == "--max-length"]
    return controls + [{"reason": reason, "max_length": int(length)} for reason, length in flags]


def _editable(documents: list[str]) -> str | None:
    """The strings, one a line, where they are few and each is a line."""
    text = "\n".join(documents)
    return text if len(text) <= EDITED and text.count("\n") == len(documents) - 1 else None
