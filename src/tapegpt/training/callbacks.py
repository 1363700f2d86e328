"""Trainings watched by other programs: callbacks for `tapegpt.train` that log losses through those programs' libraries.

A callback is called with the trainer and the losses since its last call, at the end of the training perhaps with none;
one that returns True ends the training.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tapegpt.training.trainer import Trainer


class _Log:
    """Which losses have been logged."""

    def __init__(self) -> None:
        self._evaluations = 0

    def _new(self, trainer: Trainer, losses: list[float]) -> Iterator[tuple[str, float, int]]:
        """Name, number and step of what there is to log."""
        for step, loss in enumerate(losses, trainer.step - len(losses) + 1):
            yield "loss", loss, step
        for evaluation in trainer.evaluations[self._evaluations :]:
            yield "held_out", evaluation.loss, evaluation.step
        self._evaluations = len(trainer.evaluations)


class TensorBoard(_Log):
    """Writes event files to a directory, for `tensorboard --logdir`; needs the extra `tensorboard`."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-untyped]  # it has no type hints
        except ImportError:
            raise missing("TensorBoard", "tensorboard") from None
        try:
            self._writer = SummaryWriter(directory)
        except OSError as error:
            raise TapeGPTError(f"{directory}: cannot be written: {error.strerror}: choose another place") from None

    def __call__(self, trainer: Trainer, losses: list[float]) -> None:
        """Log what is new."""
        for name, number, step in self._new(trainer, losses):
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Write what is pending: the library has a thread of its own for it."""
        self._writer.close()


class WandB(_Log):
    """Logs to a project of Weights & Biases, with `wandb.init`'s settings; needs the extra `wandb`."""

    def __init__(self, project: str, **settings: Any) -> None:
        super().__init__()
        try:
            import wandb
        except ImportError:
            raise missing("Weights & Biases", "wandb") from None
        try:
            self._run = wandb.init(project=project, **settings)
        except wandb.errors.Error as error:
            raise TapeGPTError(f"Weights & Biases cannot be used: {error}") from None

    def __call__(self, trainer: Trainer, losses: list[float]) -> None:
        """Log what is new."""
        for name, number, step in self._new(trainer, losses):
            self._run.log({name: number}, step=step)

    def close(self) -> None:
        """End the run, whose uploads this waits for."""
        self._run.finish()
