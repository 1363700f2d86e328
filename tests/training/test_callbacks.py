"""Callbacks: when they are called, and how they stop a training."""

from __future__ import annotations

from typing import Any

import pytest

import tapegpt
from tapegpt.training.trainer import Trainer

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
SHAPE: Any = {"n_embd": 4, "n_head": 2, "block_size": 5}


@pytest.mark.slow
def test_callbacks_see_every_loss_and_change_nothing() -> None:
    seen: list[float] = []
    steps: list[int] = []

    def note(trainer: Trainer, losses: list[float]) -> None:
        seen.extend(losses)
        steps.append(trainer.step)

    model = tapegpt.train(NAMES, steps=50, callbacks=[note], **SHAPE)
    assert (len(seen), steps[-2:]) == (50, [50, 50])  # at the end once more
    assert model.parameters == tapegpt.train(NAMES, steps=50, **SHAPE).parameters


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_one_that_returns_true_ends_the_training(validation: float) -> None:
    stopped: list[Trainer] = []
    seen: list[float] = []

    def stop(trainer: Trainer, losses: list[float]) -> bool:
        stopped.append(trainer)
        return trainer.step >= 20

    callbacks: list[Any] = [stop, lambda _, losses: seen.extend(losses)]
    model = tapegpt.train(NAMES, steps=10_000, validation=validation, callbacks=callbacks, **SHAPE)
    assert 20 <= model.steps < 10_000
    assert len(seen) == model.steps  # the others are told of the last steps too
    if validation:
        best = stopped[-1].best
        assert best is not None
        assert stopped[-1].evaluate().loss == best.loss  # the best weights were taken
