"""`--metrics`: the losses of a training as JSON lines."""

from __future__ import annotations

import os
import sys

from tapegpt.cli.console import STDOUT
from tapegpt.errors import TapeGPTError
from tapegpt.files import unwritable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from tapegpt.training.trainer import Trainer


class Metrics:
    """Losses, and those held out, as JSON lines whose numbers round-trip.

    A resumed training appends to its file, after dropping what that says of steps after those taken: a run that was
    killed had not kept them.
    """

    def __init__(self, path: str, trainer: Trainer, *, durable: bool) -> None:
        self._path, self._durable = path, durable  # down to the disk each time, before a model's file says so
        self._evaluations = len(trainer.evaluations)  # written
        try:
            if path == STDOUT:
                self._file: BinaryIO = sys.stdout.buffer
                self._durable = False
                return
            if trainer.step and os.path.isfile(path):
                os.truncate(path, self._kept(trainer.step))
            self._file = open(path, "ab" if trainer.step else "wb")  # noqa: SIM115  # closed by close
        except (OSError, ValueError) as error:
            raise unwritable(f"--metrics {path}", error) from None

    def _kept(self, step: int) -> int:
        """How many bytes are about steps up to this one; raises `TapeGPTError` for another kind of file."""
        import json

        size = 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):  # a kill or a full disk has cut it
                    break
                try:
                    if json.loads(line)["step"] > step:
                        break
                except (ValueError, LookupError, TypeError, RecursionError):
                    foreign = f"--metrics {self._path}: line {number} is none of a training: choose another name"
                    raise TapeGPTError(foreign) from None
                size += len(line)
        return size

    def __call__(self, trainer: Trainer, losses: list[float]) -> None:
        """The losses of the steps up to now, and the evaluations since the last call."""
        lines = [
            f'{{"step": {number}, "loss": {loss!r}}}\n'
            for number, loss in enumerate(losses, trainer.step - len(losses) + 1)
        ]
        lines += [
            f'{{"step": {evaluation.step}, "held_out": {evaluation.loss!r}}}\n'
            for evaluation in trainer.evaluations[self._evaluations :]
        ]
        self._evaluations = len(trainer.evaluations)
        try:
            self._file.write("".join(lines).encode())
            self._file.flush()
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(f"--metrics {self._path}", error) from None

    def close(self) -> None:
        """Close the file."""
        try:
            if self._path != STDOUT:
                self._file.close()
        except OSError:  # what it says has been said before
            return
