"""Any forward pass has one result in every engine; `python -m tests.engines.random_models 1000` judges many more."""

from __future__ import annotations

import pytest

from tests.engines.random_models import judge


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_models(seed: int) -> None:
    judge(seed)
