"""An uploaded file of data: read as the command line reads it, with the choices that it leaves and what doctor finds.

Not here: endpoints (`runs.py`), how files are read (`sources.py`), what is found in them (`doctor.py`).
"""

from __future__ import annotations

from _thread import allocate_lock
from contextlib import contextmanager
from warnings import catch_warnings, simplefilter

from tapegpt.analysis.doctor import examine_contents
from tapegpt.data.decoding import decode, fitting_encodings, with_line_feeds
from tapegpt.data.packed import TooLargeError, contents
from tapegpt.data.sources import IN_PLACE, Source, format_of
from tapegpt.data.tables import column_names
from tapegpt.errors import TapeGPTError, TapeGPTWarning
from tapegpt.processes import renew_at_fork
from tapegpt.studio.limits import CHARACTER_BYTES, too_large
from tapegpt.studio.store import KeptCorpus
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any
    from warnings import WarningMessage

    from tapegpt.analysis.doctor import DataReport
    from tapegpt.data.decoding import Encoding
    from tapegpt.studio.requests import FileQuery

EDITED = 100_000  # characters of a file that become a text to edit
ELSEWHERE = (
    "--block-size",
    "--preset",
    "--validation",
    "--format",
    "--column",
    "--labels",
    "--delimiter",
    "--encoding",
)

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
    names: list[str] = []
    if kind != "text":
        names = column_names(kind, [with_line_feeds(decode(name, held, encoding))])
        names = names if wanted.header else [str(number + 1) for number in range(len(names))]
    told: dict[str, Any] = {"format": kind, "problem": None, "columns": names, "findings": [], "text": None}
    told |= {"encoding": encoding, "encodings": [_choice(each) for each in encodings]}
    if len(names) > 1 and wanted.column is None:
        return {**told, "problem": "This is a table: choose the column to train on."}, None
    with _note_warnings() as notes:
        report, corpus = examine_contents(found, source, measured=False)
    if report.characters > characters:
        raise too_large(f"the file has {report.characters:,} characters, the limit here is {characters:,}: give less")
    said = dict.fromkeys(str(note.message) for note in notes)
    findings = [{"option": "", "reason": note} for note in said] + _findings(report)
    told |= {"findings": findings, "text": None if wanted.labels else _editable(corpus.documents)}
    return told, KeptCorpus(corpus.replace(source=None), wanted.name)


@contextmanager
def _note_warnings() -> Iterator[list[WarningMessage]]:
    """The warnings of the library; one thread at a time, since filters are those of the process."""
    with _lock, catch_warnings(record=True) as caught:
        simplefilter("always", TapeGPTWarning)
        yield caught


def _choice(encoding: Encoding) -> dict[str, str]:
    return {"name": encoding.name, "sample": encoding.sample[:100]}


def _findings(report: DataReport) -> list[dict[str, str]]:
    """What doctor would have done otherwise, and why."""
    counts = [amount(file.controls, "control character") for file in report.files if file.controls]
    controls = [{"option": "", "reason": f"{count} in it"} for count in counts]
    flags = [flag for flag in report.flags if flag.words[0].partition("=")[0] not in ELSEWHERE]
    return controls + [{"option": " ".join(flag.words), "reason": flag.reason} for flag in flags]


def _editable(documents: list[str]) -> str | None:
    """The strings, one a line, where they are few and each is a line."""
    text = "\n".join(documents)
    return text if len(text) <= EDITED and text.count("\n") == len(documents) - 1 else None
