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
REHEARSING = {"autograd", "machine"}  # they test each operation's kernels: elsewhere loops are not made twice


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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark tests that need a browser; and as slow these, and others that wait until something has started.

    Their modules come first: one worker starts what they need, and what is left for both at the end is short. Of the
    whole suite, unless there is time for all, keep the first and the last case of each slow test.
    """
    starting = set()
    for item in items:
        needed = {"browser", "cluster", "site"}.intersection(getattr(item, "fixturenames", ()))
        if needed:
            item.add_marker("slow")
            starting.add(item.path)
        if "browser" in needed:
            item.add_marker("browser")
    items.sort(key=lambda item: item.path not in starting)
    yield  # `-m` and `-k` choose
    if is_thorough() or config.args != config.getini("testpaths"):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    between = {item for each in cases.values() for item in each[1:-1]}
    config.hook.pytest_deselected(items=list(between))
    items[:] = [item for item in items if item not in between]


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
