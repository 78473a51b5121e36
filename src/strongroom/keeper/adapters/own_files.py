"""What this process last wrote into its own files: a content that it didn't write there is somebody else's."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.keeper.tamper import TamperCause, changed_to

_MOST: Final = 32 << 20
_OTHERS: Final = 0o077


class OwnFiles:
    """A few small files, read again every second; and the folder that they are in.

    The content is compared, and not a time or an inode: those change with each write of our own, and can be set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, bytes | None] = {}
        self._folder: tuple[Path, int] | None = None

    def watch(self, folder: Path, files: Sequence[Path]) -> None:
        """From here on, only :meth:`writing` may change ``files``, and nothing may take the place of ``folder``.

        :raises OSError: a file can't be read.
        """
        # Held open: the number of a folder that was removed could be given to the next one.
        self._folder = folder, os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._known = {path: _content(path)[0] for path in files}

    @contextmanager
    def writing(self, path: Path, data: bytes) -> Iterator[None]:
        """Write ``data`` to ``path`` within this block; nobody looks meanwhile."""
        with self._lock:
            before = self._known.get(path)
            try:
                yield
            except OSError:
                # Which of the two is there now isn't known, so either is taken for ours.
                if path in self._known:
                    now = _content(path)[0]
                    self._known[path] = data if now == data else before
                raise
            if path in self._known:
                self._known[path] = data

    def look(self) -> TamperCause | None:
        """Return how files or folder were changed by somebody else, if they were."""
        if self._folder is None:
            return None
        folder, handle = self._folder
        ours, there = os.fstat(handle), folder.stat()
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            return TamperCause.FOLDER_REPLACED
        if there.st_uid != os.geteuid() or there.st_mode & _OTHERS:
            return TamperCause.FILE_EXPOSED
        for path in tuple(self._known):
            with self._lock:
                known = self._known[path]
                now, exposed = _content(path)
            if now != known:
                return changed_to(path.name, known, now)
            if exposed:
                return TamperCause.FILE_EXPOSED
        return None


def _content(path: Path) -> tuple[bytes | None, bool]:
    """Return a file's bytes, and whether others than this user may read or write it. A link is not followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, False
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return b"", True  # a link: no file of ours is empty
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        return file.read(_MOST), bool(found.st_uid != os.geteuid() or found.st_mode & _OTHERS)


OWN_FILES: Final = OwnFiles()
"""This process's own."""
