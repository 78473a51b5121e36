"""The files of a copy on this machine, each opened when a stretch of it is wanted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from strongroom.core.errors import NotFoundError, UnavailableError
from strongroom.core.printable import printable
from strongroom.intake.adapters.delivered_folder import OpenFile
from strongroom.intake.adapters.scan_tree import Unread, walk
from strongroom.intake.source import Source

ALONE: Final = "file"
"""What the one file of a copy that isn't a folder is called: it may have another name elsewhere."""


class PathFile:
    """A file by its path. No link is followed in the last step."""

    __slots__ = ("_path", "size")

    def __init__(self, path: Path, size: int) -> None:
        self._path, self.size = path, size

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes.

        :raises IntakeRefusedError: digest-mismatch, if the file has fewer by now. :raises OSError: it can't be read.
        """
        fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return OpenFile(self._path.name, fd, os.fstat(fd)).read(offset, length)
        finally:
            os.close(fd)


def copy_sources(place: Path) -> Mapping[str, Source]:
    """Return a copy's files by their names in it. Links aren't part of a copy.

    :raises NotFoundError: nothing is there. :raises UnavailableError: a part of it can't be read.
    """
    if not place.exists():
        raise NotFoundError(f"there is no `{printable(str(place))}`")
    found: dict[str, Source] = {}
    folder = place.is_dir()
    for met in walk(place):
        if isinstance(met.what, Unread):
            raise UnavailableError(f"`{printable(met.what.name)}` can't be read: {met.what.why}")
        name = "/".join(met.parts) if folder else ALONE
        path = place.joinpath(*met.parts) if folder else place
        found[os.fsencode(name).decode("utf-8", "backslashreplace")] = PathFile(path, met.what.size)
    return found
