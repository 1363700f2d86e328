"""What all tests share: a code cache of their own, and the shared data where a checkout has it beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("tapegpt", deadline=None)  # an example may have to compile
settings.load_profile("tapegpt")


@pytest.fixture(autouse=True, scope="session")
def code_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compiled code is kept for the session, and the user's cache is left alone."""
    place = tmp_path_factory.mktemp("code")
    former = os.environ.get("TAPEGPT_CACHE_DIR")
    os.environ["TAPEGPT_CACHE_DIR"] = str(place)
    yield place
    if former is None:
        del os.environ["TAPEGPT_CACHE_DIR"]
    else:
        os.environ["TAPEGPT_CACHE_DIR"] = former


@pytest.fixture(scope="session")
def shared() -> Path:
    """The published data and numbers, for a checkout that has them beside it."""
    place = Path(__file__).resolve().parent.parent.parent / "shared"
    if not place.exists():
        pytest.skip("the published numbers are not beside this checkout")
    return place
