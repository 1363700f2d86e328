"""The journal of a sweep: JSON lines, what is swept, then each outcome as it arrives. Not here: what they mean."""

from __future__ import annotations

import math
import os

from tapegpt.errors import TapeGPTError, quote
from tapegpt.experiments.population import LOSS, Outcome
from tapegpt.files import unwritable
from tapegpt.ranges import Number, Whole
from tapegpt.settings import MAX_STEPS, SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    Key = tuple[int, int, int, int | None]  # of a training: candidate, steps, seed, held-out strings

JOURNAL = "sweep.jsonl"  # in the directory of a sweep
HEAD = b'{"tapegpt": '  # that each begins with
SPENT = Number(0, SECONDS.most)


class Journal:
    """JSON lines in a directory: what is swept, then each outcome as it arrives. A line that is not whole is dropped.

    Without a directory nothing is kept. Raises `TapeGPTError` where it cannot be written, or is of another sweep.
    """

    def __init__(self, directory: str | os.PathLike[str] | None, spec: dict[str, Any]) -> None:
        self._path = "" if directory is None else os.path.join(os.fspath(directory), JOURNAL)
        self.outcomes: dict[Key, Outcome] = {}  # without their candidates
        self.rungs: dict[int, int] = {}  # steps
        self.spent = 0.0
        self._file: BinaryIO | None = None
        self._spec: dict[str, Any] | None = None  # still to be written
        if directory is None:
            return
        try:
            os.makedirs(directory, exist_ok=True)
            with open(self._path, "a+b") as file:
                file.seek(0)
                content = file.read()
                whole, end, _ = content.rpartition(b"\n")
                if end:
                    self._take_all(whole.splitlines(), spec)
                elif HEAD.startswith(content[: len(HEAD)]):
                    self._spec = spec
                else:
                    raise self._foreign()
                file.truncate(len(whole + end))
        except (OSError, ValueError) as error:
            raise unwritable(self._path, error) from None

    def _take_all(self, lines: list[bytes], spec: dict[str, Any]) -> None:
        import json

        try:
            former, *records = map(json.loads, lines)
            spec = json.loads(json.dumps(spec))
            differs = next(((name, former[name], value) for name, value in spec.items() if former[name] != value), None)
            if differs is None:
                for record in records:
                    if record != former:  # processes that began the same sweep at the same time each wrote it
                        self._take(record)
        except (TapeGPTError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._foreign() from None
        if differs is not None:
            name, then, value = differs
            raise TapeGPTError(
                f"{self._path}: is of another sweep, whose {name} is {quote(then)}, not {quote(value)}: "
                "give the same command, or choose another directory"
            )

    def _take(self, record: dict[str, Any]) -> None:
        self.spent = record.pop("at")
        SPENT.check("at", self.spent)
        if "rung" in record:
            Whole(1, MAX_STEPS).check("steps", record["steps"])
            self.rungs[record["rung"]] = record["steps"]
        else:
            number, steps, seed, strings = record.pop("key")
            self.outcomes[number, steps, seed, strings] = _outcome(record)

    def note(self, key: Key, outcome: Outcome, spent: float) -> None:
        """Add the line of an outcome, after so many seconds of the sweep."""
        if self._path:
            record = outcome.as_json()
            del record["candidate"]
            self.write({"key": key, **record, "at": spent})

    def write(self, record: dict[str, Any]) -> None:
        """Add a line, and hand it to the system."""
        if not self._path:
            return
        import json

        lines = [record] if self._spec is None else [self._spec, record]
        try:
            if self._file is None:
                self._file = open(self._path, "ab")  # noqa: SIM115  # as long as the sweep runs
            self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            self._file.flush()
        except OSError as error:
            raise unwritable(self._path, error) from None
        self._spec = None

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            self._file.close()

    def _foreign(self) -> TapeGPTError:
        return TapeGPTError(f"{self._path}: is no journal of a sweep: choose another directory")


def _outcome(record: dict[str, Any]) -> Outcome:
    """The outcome that a line is of, its numbers checked; a loss that is infinite is None there."""
    for name in ("loss", "training_loss"):
        if record[name] is None:
            record[name] = math.inf
        else:
            LOSS.check(name, record[name])
    for name, numbers in record["losses"].items():
        for number in numbers:
            Number().check(name, number)
    return Outcome(candidate=None, **record)  # type: ignore[arg-type]  # the sweep knows it
