"""Writing sealed objects to local files, past the page cache where the file system can: ciphertext is written once."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

_BLOCK: Final = 4096
_WORTH_IT: Final = 8 << 20
_NO_DIRECT: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class FileSink:
    """An object in a new file, opened for reading and writing as ``fd``, which stays the caller's."""

    def __init__(self, fd: int, *, size: int | None) -> None:
        self._fd = fd
        self._direct: int | None = None
        if size is not None and size >= _WORTH_IT:
            # Blocks are reserved first: no write has to extend the file, and a full disk shows before any work is done.
            os.posix_fallocate(fd, 0, size)
            with suppress(OSError):
                self._direct = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)

    def put(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset``."""
        if self._direct is not None and offset % _BLOCK == len(data) % _BLOCK == 0:
            try:
                _write(self._direct, data, offset)
            except OSError as error:
                if error.errno not in _NO_DIRECT:
                    raise
            else:
                return
        _write(self._fd, data, offset)

    def finish(self, size: int) -> None:
        """Cut the file to ``size`` and make it durable."""
        self.close()
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the second descriptor; a second call does nothing."""
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done
