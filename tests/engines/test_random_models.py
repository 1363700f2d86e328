"""Any forward pass has one result in every engine; `python -m tests.engines.random_models 1000` judges many more."""

from __future__ import annotations

import pytest

from tests.engines.random_models import judge
from tests.properties import many


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(many(12, few=6)))
def test_random_models(seed: int) -> None:
    judge(seed)
