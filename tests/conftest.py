"""What all tests share: a code cache of their own, guarded memory, and the published data where it is present."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings

from tests.properties import QUICK, is_thorough, skip_passes

settings.load_profile(QUICK)
TESTS = Path(__file__).parent
OPTIMISED = {"machine", "test_docs.py", "test_learning.py", "test_readme.py"}  # they test, show or need its speed
REHEARSING = {  # what tests kernels of the package: elsewhere their loops are not made twice
    *("autograd", "data", "engines", "inference", "machine"),
    *("test_anatomy.py", "test_attribution.py", "test_ensemble.py", "test_models.py", "test_portable.py"),
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled code between sessions, apart from the user's; `--cache-clear` has all compiled again."""
    if not hasattr(config, "workerinput"):  # workers have the same directory in their environment
        os.environ["TAPEGPT_CACHE_DIR"] = _code_directory(config)
    sys.dont_write_bytecode = False  # else all asserts are made anew in each session: 6 s
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):  # as users have it: a command takes 0.04 s, not 0.13
        os.environ.pop(name, None)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts behind it ignore Ctrl-C
    from tests.guard import guard

    guard()


def _code_directory(config: pytest.Config) -> str:
    """A directory beside what pytest keeps itself; without such a one (`-p no:cacheprovider`), a temporary one."""
    if cache := getattr(config, "cache", None):
        return str(cache.mkdir("tapegpt-code"))
    place = tempfile.TemporaryDirectory(prefix="tapegpt-code-")
    config.add_cleanup(place.cleanup)
    return place.name


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a browser; and as slow these, and others that wait until something has started."""
    for item in items:
        needed = {"browser", "cluster", "site"}.intersection(getattr(item, "fixturenames", ()))
        if needed:
            item.add_marker("slow")
        if "browser" in needed:
            item.add_marker("browser")


def pytest_collection_finish() -> None:
    """Whatever collecting made lives until the end: the garbage collector need not visit it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The published data and numbers, for a checkout that has them beside it."""
    place = TESTS.resolve().parent.parent / "shared"
    if not place.exists():
        pytest.skip("the published numbers are not beside this checkout")
    return place


@pytest.fixture(scope="module", autouse=True)
def code_is_made_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests that only use machine code spend most of their time on compiling it: there it need not be fast."""
    parts = request.path.relative_to(TESTS).parts
    with ExitStack() as stack:
        if is_thorough() or not REHEARSING.isdisjoint(parts):
            stack.enter_context(mock.patch("tapegpt.machine.maker.TRUSTED", ()))
        if parts[0] not in OPTIMISED:
            stack.enter_context(skip_passes())
        yield


@pytest.fixture(autouse=True)
def interrupts_arrive() -> Iterator[None]:
    """Ctrl-C that comes in a callback of the garbage collector, such as Hypothesis's, would be ignored by Python."""
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    yield
    gc.callbacks[:] = callbacks
