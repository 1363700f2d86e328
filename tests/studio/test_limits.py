"""Each limit of the studio allows what it says, and nothing beyond: one below it, the limit itself, one above."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tapegpt import Config, TapeGPTError
from tapegpt.settings import Settings
from tapegpt.studio import limits
from tapegpt.studio.limits import Limits, RefusedError

SHAPE = Config(n_embd=8, n_head=2, block_size=8)
TOKENS = 27


def holds(limit: float, check: Callable[[Any], None], values: tuple[Any, Any, Any]) -> None:
    """Nothing is said of the first two values, which are the limit and less; the third is refused."""
    for value in values[:2]:
        check(value)
    with pytest.raises(RefusedError) as caught:
        check(values[2])
    assert (caught.value.status, caught.value.kind) == (413, "too_large")
    assert "\n" not in str(caught.value)
    assert f"{limit:,}" in str(caught.value)


def around(limit: int) -> tuple[int, int, int]:
    return limit - 1, limit, limit + 1


def test_layers_and_block() -> None:
    few = Limits(parameters=10**9)
    holds(12, lambda n: few.check_shape(SHAPE.replace(n_layer=n), TOKENS), around(12))
    holds(256, lambda n: few.check_shape(SHAPE.replace(block_size=n), TOKENS), around(256))
    holds(2000, few.check_length, around(2000))


def test_parameters() -> None:
    number = SHAPE.num_parameters(TOKENS)
    for limit in (number + 1, number):
        Limits(parameters=limit).check_shape(SHAPE, TOKENS)
    with pytest.raises(RefusedError, match=f"parameters is {number:,}, the limit of this studio is {number - 1:,}"):
        Limits(parameters=number - 1).check_shape(SHAPE, TOKENS)


def test_attention_weights_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(n_layer=2, n_head=4, block_size=8)
    assert limits.weights(config, 27, 8) == 2 * 4 * 8 * 8
    for limit in (513, 512):
        monkeypatch.setattr(limits, "WEIGHTS", limit)
        Limits().check_shape(config, TOKENS)
    monkeypatch.setattr(limits, "WEIGHTS", 511)
    with pytest.raises(RefusedError, match="the number of heads times block_size squared"):
        Limits().check_shape(config, TOKENS)


def test_steps_budget_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    def check(**fields: Any) -> None:
        Limits(steps=1000, seconds=5.0).check_training(SHAPE, Settings(**fields), TOKENS, 5.0)

    holds(1000, lambda n: check(steps=n), around(1000))
    holds(5.0, lambda n: check(engine="fast", budget=n), (4.9, 5.0, 5.1))
    holds(2, lambda n: check(engine="fast", threads=n), around(2))
    with pytest.raises(RefusedError):
        Limits(seconds=1e-9).check_training(SHAPE, Settings(engine="fast", budget=1e-9), TOKENS, 5.0)  # one step


@pytest.mark.parametrize(("batch_size", "tokens", "seen"), [(1, 5.0, 5), (16, 5.0, 80), (16, 5.5, 88), (1, 99.0, 8)])
def test_the_work_of_a_training(batch_size: int, tokens: float, seen: int) -> None:
    """Forward, and backward twice as much: three multiply-adds a parameter of each position that is seen."""
    settings = Settings(engine="fast", batch_size=batch_size, steps=1000)
    work = 3 * 1000 * seen * SHAPE.num_parameters(TOKENS)
    enough = work / limits.RATE
    for seconds in (math.nextafter(enough, 1), enough):
        Limits(seconds=seconds).check_training(SHAPE, settings, TOKENS, tokens)
    with pytest.raises(RefusedError, match="ask for less"):
        Limits(seconds=math.nextafter(enough, 0)).check_training(SHAPE, settings, TOKENS, tokens)
    with pytest.raises(RefusedError, match="ask for less"):
        Limits(seconds=enough).check_training(SHAPE, settings.replace(steps=1001), TOKENS, tokens)


def test_work() -> None:
    most = int(2 * limits.RATE)
    for work in around(most)[:2]:
        Limits().check_work(work, 2.0)
    with pytest.raises(RefusedError, match="about 2 seconds, the limit of this studio is 2:"):
        Limits().check_work(most + 1, 2.0)


def test_the_attention_weights_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(n_layer=2, n_head=4, block_size=8)
    monkeypatch.setattr(limits, "SHOWN_WEIGHTS", 2 * 4 * 5**2)
    for text in ("abc", "abcd"):
        Limits().check_text(config, 27, text)
    with pytest.raises(RefusedError, match="6 positions"):
        Limits().check_text(config, 27, "abcde")
    monkeypatch.setattr(limits, "SHOWN_WEIGHTS", 2 * 4 * 8**2)
    Limits().check_text(config, 27, "a" * 100)  # which reads no more than a block


def test_moments_fill_the_memory_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 8 * SHAPE.num_parameters(TOKENS)
    for bytes_allowed, kept in ((10 * size, 10), (10 * size - 1, 9), (1000 * size, 40), (0, 1)):
        monkeypatch.setattr(limits, "MOMENT_BYTES", bytes_allowed)
        assert Limits().moments(SHAPE, TOKENS, 40) == kept


@pytest.mark.parametrize("name", Limits().as_dict())
def test_limits_are_above_nothing(name: str) -> None:
    Limits().replace(**{name: 1})
    for value in (0, -1, math.nan):
        with pytest.raises(TapeGPTError, match=f"{name} must be a .*number"):
            Limits().replace(**{name: value})
