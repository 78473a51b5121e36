"""Space that is kept for the log's last words: a preallocated file that is given back when the disk runs short."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Final

import structlog

from strongroom.audit.space import Space

MOST: Final = 16 << 20
"""Bytes kept in reserve. An entry on its own takes up to 20 KB of the store's journal: room for 800 at least."""
_SHARE: Final = 16
"""At most this part of the file system, so that a small one isn't taken up by its reserve."""
_BLOCK: Final = 512
LOOK_SECONDS: Final = 0.02
"""How long a look at the disk lasts while there is room for all that can come meanwhile. Asking the kernel each time
lets another thread in, and cost twenty microseconds for each entry."""
_FAR: Final = 64 << 20
"""Bytes free: ten times what is appended in that time, journal included."""

_log = structlog.get_logger("strongroom.audit")


class Reserve:
    """Watches the file system of ``path``, and holds the reserve there.

    Tight below twice the reserve; below once, the reserve is given back. It is taken again when there is room for it
    and as much again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = os.statvfs(path.parent)
        self._size = min(MOST, found.f_blocks * found.f_frsize // _SHARE)
        # Blocks, not length: a start that was interrupted may have left a file that holds less.
        self._held = path.exists() and path.stat().st_blocks * _BLOCK >= self._size
        self._until = -math.inf

    def space(self) -> Space:
        """Return how much room there is; gives the reserve back, or takes it again.

        Looks at the disk each time once it fills up: what is queued before the next look must fit the reserve.
        """
        now = time.monotonic()
        if now < self._until:
            return Space.AMPLE
        found = os.statvfs(self._path.parent)
        free = found.f_bavail * found.f_frsize
        if not self._held and free >= 3 * self._size:
            self._take()
            free -= self._size
        elif self._held and free < self._size:
            self._path.unlink(missing_ok=True)
            self._held = False
            _log.error("the log's disk is nearly full: its reserve is given back", free=free)
        if not self._held:
            return Space.RESERVE
        if free >= 2 * self._size + _FAR:
            self._until = now + LOOK_SECONDS
        return Space.TIGHT if free < 2 * self._size else Space.AMPLE

    def _take(self) -> None:
        # Space that is really allocated: a file with a hole would hold nothing.
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._size)
            os.fsync(handle)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            _log.warning("no space for the log's reserve", errno=error.errno)
            return
        finally:
            os.close(handle)
        self._held = True
