"""What all tests share: a code cache of their own, guarded memory, and the published data where it is present."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tapegpt", deadline=None)  # an example may have to compile
settings.load_profile("tapegpt")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled code for the session and leave the user's cache alone, also in modules that compile on import."""
    place = tempfile.TemporaryDirectory(prefix="tapegpt-code-")
    config.add_cleanup(place.cleanup)
    os.environ["TAPEGPT_CACHE_DIR"] = place.name
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts behind it ignore Ctrl-C
    from tests.guard import guard

    guard()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The published data and numbers, for a checkout that has them beside it."""
    place = Path(__file__).resolve().parent.parent.parent / "shared"
    if not place.exists():
        pytest.skip("the published numbers are not beside this checkout")
    return place


@pytest.fixture(autouse=True)
def interrupts_arrive() -> Iterator[None]:
    """Ctrl-C that comes in a callback of the garbage collector, such as Hypothesis's, would be ignored by Python."""
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    yield
    gc.callbacks[:] = callbacks
