"""Callbacks: when they are called, how they stop a training, and what other programs read of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt.training.callbacks import TensorBoard, WandB
from tapegpt.training.trainer import Trainer

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
SHAPE: Any = {"n_embd": 4, "n_head": 2, "block_size": 5}


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


def scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, number) of an event file: TFRecords of protobuf, read field by field."""
    data, place = path.read_bytes(), 0
    found: dict[str, list[tuple[int, float]]] = {}
    while place < len(data):
        (size,) = struct.unpack_from("<Q", data, place)
        event = dict(fields(data[place + 12 : place + 12 + size]))
        place += size + 16
        if isinstance(summary := event.get(5), bytes):
            value = dict(fields(dict(fields(summary))[1]))  # type: ignore[arg-type]  # a message, so bytes
            name, number = value[1], value[2]
            assert isinstance(name, bytes)
            assert isinstance(number, bytes)
            found.setdefault(name.decode(), []).append((int(event.get(2, 0)), struct.unpack("<f", number)[0]))
    return found


def fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message."""
    place, found = 0, []

    def varint() -> int:
        nonlocal place
        result = shift = 0
        while True:
            byte = message[place]
            place += 1
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result

    while place < len(message):
        key = varint()
        value: int | bytes
        if key & 7 == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            value = message[place : place + size]
            place += size
        found.append((key >> 3, value))
    return found


def test_tensorboard_reads_every_loss(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    losses: list[float] = []
    callbacks: list[Any] = [TensorBoard(str(tmp_path / "log")), lambda _, new: losses.extend(new)]
    tapegpt.train(NAMES, steps=20, validation=0.3, callbacks=callbacks, **SHAPE)
    (path,) = (tmp_path / "log").iterdir()
    found = scalars(path)
    assert [step for step, _ in found["loss"]] == list(range(1, 21))
    assert [number for _, number in found["loss"]] == pytest.approx(losses, rel=1e-6)
    assert len(found["held_out"]) == 20


def test_weights_and_biases_logs_every_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    logged: list[tuple[dict[str, float], int]] = []

    class Run:
        def log(self, numbers: dict[str, float], step: int) -> None:
            logged.append((numbers, step))

        def finish(self) -> None:
            logged.append(({}, -1))

    def init(**settings: object) -> Run:
        assert settings == {"project": "names", "mode": "offline"}
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    tapegpt.train(NAMES, steps=5, callbacks=[WandB("names", mode="offline")], **SHAPE)
    assert [step for _, step in logged] == [1, 2, 3, 4, 5, -1]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, make, extra in (("tensorboardX", TensorBoard, "tensorboard"), ("wandb", WandB, "wandb")):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(tapegpt.TapeGPTError, match=rf"pip install '\.\[{extra}\]'"):
            make("x")
