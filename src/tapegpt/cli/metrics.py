"""`--metrics`: the losses of a training as JSON lines."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TextIO

    from tapegpt.trainer import Trainer


class Metrics:
    """Losses, and those held out, as JSON lines whose numbers round-trip, or nothing where there is no path."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._evaluations = 0  # written
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115  # closed by __exit__
            except (OSError, ValueError) as error:
                raise self._failure(error) from None

    def _failure(self, error: OSError | ValueError) -> TapeGPTError:
        reason = error.strerror if isinstance(error, OSError) else error
        return TapeGPTError(f"--metrics {self._path}: cannot be written: {reason}: choose another place")

    def write(self, trainer: Trainer, losses: list[float]) -> None:
        """The losses of the steps up to now, and the evaluations since the last call."""
        if self._file:
            try:
                for number, loss in enumerate(losses, trainer.step - len(losses) + 1):
                    self._file.write(f'{{"step": {number}, "loss": {loss!r}}}\n')
                for evaluation in trainer.evaluations[self._evaluations :]:
                    self._file.write(f'{{"step": {evaluation.step}, "held_out": {evaluation.loss!r}}}\n')
                self._evaluations = len(trainer.evaluations)
                self._file.flush()
            except OSError as error:
                raise self._failure(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            try:
                self._file.close()
            except OSError:  # what it says has been said by write
                self._file = None
