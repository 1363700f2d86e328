"""Any forward pass has one result in every engine; `python -m tests.engines.random_models 1000` judges many more."""

from __future__ import annotations

from unittest import mock

import pytest

from tapegpt.machine import llvm
from tapegpt.machine.llvm import compile_object
from tests.engines.random_models import judge


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_models(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEGPT_CACHE_DIR", "")  # what is not optimised must not be found by others
    with mock.patch.object(llvm, "compile_object", lambda ir, target, **_: compile_object(ir, target, False)):
        judge(seed)
