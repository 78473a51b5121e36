"""Reading a folder of installed packages, file by file. No link is followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError
from strongroom.intake.installation.compiled import MAX_COMPILED

MAX_FILES: Final = 500_000


class SitePackages:
    """A folder of packages on this machine, as `site-packages` of a virtual environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self) -> Mapping[str, Digest | None]:
        """Return every file's digest; None for a link, a device, or what can't be read.

        :raises UnavailableError: too many files.
        """
        found: dict[str, Digest | None] = {}
        for path in _walk(self._folder):
            found[path.relative_to(self._folder).as_posix()] = _digest(path)
            if len(found) > MAX_FILES:
                raise UnavailableError(f"`{self._folder}` has more than {MAX_FILES} files")
        return found

    def read(self, path: str) -> bytes:
        """Return a file's content, or nothing where it is too long, a link or gone."""
        try:
            opened = os.open(self._folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        with os.fdopen(opened, "rb") as file:
            data = file.read(MAX_COMPILED + 1)
        return data if len(data) <= MAX_COMPILED else b""


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_refuse):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in (*links, *names))


def _refuse(error: OSError) -> None:
    # A folder that can't be listed could hold anything.
    raise error


def _digest(path: Path) -> Digest | None:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        return Digest.of_file(file)
