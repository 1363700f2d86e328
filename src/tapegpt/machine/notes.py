"""Notes that a command leaves for later ones, in the cache: values that follow from the package's own files.

A value is noted under what it is of. It holds as long as the package's files, but for those in `ABOVE`, are those that
the command found when it began, as Python's own compiled files do, so it must follow from them, from what it is of, and
from nothing else; and no code of others may run in the process. So processes that are no command of the package have no
notes. Not here: files (`cache.py`).
"""

from __future__ import annotations

import os
import sys
from _blake2 import blake2b
from marshal import dumps, loads
from time import time

from tapegpt.machine import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Folders that no module with notes imports from: to look at their files too takes 0.6 ms.
ABOVE = ("training", "analysis", "experiments", "web", "export", "cluster", "studio", "cli")
SETTLED = 2.0  # seconds after a change in which another one may have the same time
_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_found: list[bytes] = []  # the package's files when this command began; none: there are no notes


def begin(*, settled: bool = False) -> None:
    """Call it when a command begins, before it imports what decides the values; `settled`: no file changes any more."""
    if os.path.isdir(_PACKAGE):
        files, changed = _files()
        _found[:] = [files] if settled or changed / 1e9 < time() - SETTLED else []


def end() -> None:
    """Call it before code of others runs, which may change anything."""
    _found.clear()


def recall(*of: object, names: Iterable[type] = ()) -> Any:
    """The value that is noted of this, None where there is none; `names` are the classes in it."""
    content = cache.read(_key(of)) if _found else None
    if content is None:
        return None
    return eval(loads(content), {each.__name__: each for each in names})  # noqa: S302, S307  # as trusted as code


def note(value: object, *of: object) -> None:
    """Note a value, whose `repr` is Python for it."""
    if _found and _found[0] == _files()[0]:
        cache.write(_key(of), dumps(compile(repr(value), "", "eval")))


def _key(of: tuple[object, ...]) -> str:
    told = (_found[0], sys.version, [(type(each).__module__, each) for each in of])
    return blake2b(repr(told).encode(), digest_size=16).hexdigest()


def _files() -> tuple[bytes, int]:
    """A sum over the package's files by name, size and times, and when one changed last, which cannot be set."""
    found: list[object] = [_PACKAGE]
    folders, last, passed = [_PACKAGE], 0, {*ABOVE, "__pycache__", "datasets"}
    for folder in folders:  # which grow meanwhile
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    found += entry.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns
                    last = max(last, status.st_mtime_ns, status.st_ctime_ns)
                elif entry.name not in passed and entry.is_dir():
                    folders.append(entry.path)
    return blake2b(repr(found).encode()).digest(), last
