"""Compiled code kept between runs, in files that only their owner may write.

A file is executed only if it is a regular file of this user, writable by nobody else, names the very key that is asked
for, and its checksum holds; anything else is compiled again and replaced. Files are written under a temporary name and
renamed, so that processes may race. Not here: what the key covers (`program.py`).
"""

from __future__ import annotations

import os
import stat
import sys
import zlib  # and no digest of hashlib, whose import costs a warm start 4 ms: the mode keeps others out

VARIABLE = "TAPEGPT_CACHE_DIR"  # where the cache lies; empty: no cache
_MAGIC = b"tapegpt code 1\n"
_CHECKSUM = 4  # bytes


def directory() -> str:
    """The cache directory, "" for none."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return chosen
    if sys.platform == "linux":  # platformdirs gives the same, and costs a warm start 10 ms
        base = os.environ.get("XDG_CACHE_HOME", "")
        return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "tapegpt")
    import platformdirs

    return platformdirs.user_cache_dir("tapegpt", appauthor=False)


def read(key: str) -> bytes | None:
    """The entry under this key, or None if there is none that can be trusted."""
    place = directory()
    if not place:
        return None
    try:
        descriptor = os.open(os.path.join(place, name(key)), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _binary())
    except (OSError, ValueError):
        return None
    with open(descriptor, "rb") as file:
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _trusted(status):
                return None
            data = file.read()
        except OSError:
            return None
    head = f"{key}\0".encode()
    whole = data[len(_MAGIC) + _CHECKSUM :]
    if not data.startswith(_MAGIC + _checksum(whole)) or not whole.startswith(head):
        return None
    return whole[len(head) :]


def write(key: str, content: bytes) -> None:
    """Keep an entry; where that is not possible, go without."""
    place = directory()
    if not place:
        return
    path = os.path.join(place, name(key))
    whole = f"{key}\0".encode() + content
    temporary = f"{path}.{os.urandom(8).hex()}"
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _binary(), 0o600)
    except (OSError, ValueError):
        return
    try:
        with open(descriptor, "wb") as file:
            file.write(_MAGIC + _checksum(whole) + whole)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)


def name(key: str) -> str:
    """The file of a key; two keys may share it, and then take turns."""
    return f"{zlib.crc32(key.encode()):08x}"


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM, "big")


def _binary() -> int:
    return getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _trusted(status: os.stat_result) -> bool:
    """Owned by this user and writable by no other; Windows keeps that by directory."""
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
