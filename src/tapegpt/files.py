"""Files that are written whole or not at all: under a temporary name, flushed to the disk and renamed.

A crash leaves the old file or the new one. Not here: what is in them.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

Path = str | os.PathLike[str]


def path_text(path: Path) -> str:
    """A path as a str; raises `TapeGPTError` for anything that is none."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TapeGPTError(f"a path must be a str or a pathlib.Path, not {quote(path)}")
    return text


def write_file(path: Path, content: bytes) -> None:
    """Write a file; on any failure what stood at the path stays, and `TapeGPTError` says why."""
    with writing(path) as file:
        file.write(content)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the path when the block ends; whatever fails, what stood there stays.

    Raises `TapeGPTError` for a path that cannot be written, and for an `OSError` within the block.
    """
    target = writable(path)
    temporary = _temporary(target)
    try:
        try:
            with _create(temporary) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(target):  # what was private stays private
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            os.replace(temporary, target)
        except BaseException:
            _remove(temporary)
            raise
    except OSError as error:
        raise unwritable(path_text(path), error) from None
    _flush_directory(os.path.dirname(target))


def writable(path: Path) -> str:
    """The file that a path means, after a look whether it can be written; raises `TapeGPTError` where not."""
    name = path_text(path)
    if not name:
        raise TapeGPTError("the name of a file to write is empty: give one")
    try:
        target = os.path.realpath(name)
        directory = os.path.dirname(target)
        if not os.path.basename(name) or os.path.isdir(target):
            raise TapeGPTError(f"{name}: is a directory: give the name of a file in it")
        if not os.path.isdir(directory):
            raise TapeGPTError(f"{name}: there is no directory {directory}: make it first")
        if os.path.lexists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            raise TapeGPTError(f"{name}: is not a regular file: choose another name")
        if os.path.exists(target) and not os.access(target, os.W_OK):
            raise TapeGPTError(f"{name}: is write-protected: choose another name")
        temporary = _temporary(target)
        try:
            _create(temporary).close()  # some directories, such as those of /proc, only look as if they can be written
        finally:
            _remove(temporary)
    except (OSError, ValueError) as error:
        raise unwritable(name, error) from None
    return target


def unwritable(name: str, error: OSError | ValueError) -> TapeGPTError:
    """The error of a file or a directory that cannot be written, by the name that it was given."""
    reason = error.strerror if isinstance(error, OSError) else error
    return TapeGPTError(f"{name}: cannot be written: {reason}: choose another place")


def _temporary(target: str) -> str:
    """A new name beside the file: what a crash left under another is in nobody's way."""
    return os.path.join(os.path.dirname(target), f".tapegpt-{os.urandom(8).hex()}.tmp")


def _create(path: str) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return open(os.open(path, flags, 0o666), "wb")


def _remove(temporary: str) -> None:
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        return


def _flush_directory(path: str) -> None:
    """Make the rename itself durable, where directories can be opened and flushed; the file is whole in any case."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
