"""Reading files that somebody else may have written: never more than is expected, and read again when they change."""

from __future__ import annotations

from os import stat_result
from pathlib import Path

from strongroom.core.errors import MalformedError

FileState = tuple[int, int, int, int, int]


def state_of(found: stat_result) -> FileState:
    """Return what differs once a file is another one or was written to.

    The time of change can't be set: a file that was put back under its old date is another one too.
    """
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_at_most(path: Path, most: int) -> bytes:
    """Return a file's bytes.

    :raises OSError: it can't be read. :raises MalformedError: it has more than ``most`` bytes.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise MalformedError(f"`{path.name}` is larger than {most} bytes")
    return data
