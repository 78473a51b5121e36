"""Replacing a file so that a crash at any moment leaves the old one or the new one, whole: never a mixture of both.

The new bytes are synced beside the old ones before they take their name, and the name before anybody is told. A file of
lines is appended to; what a crash leaves of a line is taken off at the next start, by whoever reads it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file; it is on the disk when this returns.

    A link that somebody laid where the new bytes go is not followed.

    :param mode: who may read it, less what the umask takes away; nobody but its owner, if it isn't said.
    :raises OSError: the disk refused. Which of the two files is there is unknown only if the folder's sync failed.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_durably(handle: int, data: bytes) -> None:
    """Add bytes to the end of a file that was opened to be appended to; they are on the disk when this returns.

    What isn't said to be written is cut off again: the next line must not stand behind half of this one.

    :raises OSError: the disk refused. Nothing of it is there, unless the disk refused to cut it off as well.
    """
    size = os.fstat(handle).st_size
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fdatasync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, size)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    :raises OSError: the disk refused.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
