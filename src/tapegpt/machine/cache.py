"""The cache of compiled code: files that only their owner may write.

A file is executed only if it is a regular file of this user, writable by nobody else, and its checksum over the key and
the code holds; anything else is compiled again and replaced. Files are written under a temporary name and renamed, so
that processes may race. Files that were unused for long, or exceed the limit, are removed. Not here: what the key
covers (`program.py`).
"""

from __future__ import annotations

import os
import stat
import sys
import time
from _blake2 import blake2b

from tapegpt.errors import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "TAPEGPT_CACHE_DIR"  # where the cache lies; empty: no cache
SUFFIX = ".code"
LIMIT = 256 << 20  # bytes of all files together
AGE = 90 * 86400.0  # seconds that a file is kept unused
NOTED = 86400.0  # a file's time is that of its last use, give or take this
_MAGIC = b"tapegpt code 2\n"
_CHECKSUM = 16  # bytes
_KEY = 32  # digits
_DIGITS = "0123456789abcdef"


def directory() -> str:
    """The cache directory, "" for none."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return chosen
    if sys.platform in ("linux", "emscripten"):  # platformdirs gives the same, and costs a warm start 10 ms
        base = os.environ.get("XDG_CACHE_HOME", "")
        return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "tapegpt")
    import platformdirs

    return platformdirs.user_cache_dir("tapegpt", appauthor=False)


def read(key: str) -> bytes | None:
    """The entry under this key, hexadecimal digits, or None if there is none that can be trusted."""
    folder = directory()
    if not folder:
        return None
    path = os.path.join(folder, key + SUFFIX)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _binary()
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:  # a pipe too, without waiting
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not _is_trusted(status):
                return None
            data = file.read()
    except (OSError, ValueError):
        return None
    content = data[len(_MAGIC) + _CHECKSUM :]
    if not data.startswith(_MAGIC) or data[len(_MAGIC) : len(_MAGIC) + _CHECKSUM] != _checksum(key, content):
        return None
    if time.time() - status.st_mtime > NOTED:
        _attempt(os.utime, path)
    return content


def write(key: str, content: bytes) -> bool:
    """Write an entry if possible; returns whether it is written."""
    folder = directory()
    if not folder:
        return False
    path = os.path.join(folder, key + SUFFIX)
    temporary = f"{path}.{os.urandom(8).hex()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _binary(), 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(_MAGIC + _checksum(key, content) + content)
            os.replace(temporary, path)
        except OSError:
            _attempt(os.unlink, temporary)
            if read(key) != content:  # nor has another process written it
                raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        warn(
            f"compiled code cannot be kept in {folder} ({reason}), so every start compiles again: "
            f"set {VARIABLE} to a directory that can be written"
        )
        return False
    _attempt(_remove_old, folder)
    return True


def _remove_old(folder: str) -> None:
    """Remove what was not used for long, and beyond the limit what was not used for longest."""
    now, total = time.time(), 0
    for used, size, path in sorted(_files(folder), reverse=True):
        total += size
        if total > LIMIT or now - used > AGE:
            _attempt(os.unlink, path)  # whoever reads it keeps what it has opened


def _files(folder: str) -> Iterator[tuple[float, int, str]]:
    """Time of last use, size and path of each file of the cache."""
    with os.scandir(folder) as entries:
        for entry in entries:
            key, suffix, _ = entry.name.partition(SUFFIX)
            if suffix and len(key) == _KEY and not key.strip(_DIGITS):
                status = entry.stat(follow_symlinks=False)
                yield status.st_mtime, status.st_size, entry.path


def _attempt(action: Callable[[str], object], path: str) -> None:
    """Call an action that is not needed, and that another process may make fail."""
    try:
        action(path)
    except OSError:
        return


def _checksum(key: str, content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECKSUM, key=key.encode()).digest()


def _binary() -> int:
    return getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _is_trusted(status: os.stat_result) -> bool:
    """Owned by this user and writable by no other; Windows keeps that by directory."""
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
