"""A directory that appears whole or not at all: built under a temporary name, made durable, renamed in one step."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from strongroom.sealing.adapters.files import folder
from strongroom.sealing.errors import DestinationExistsError

_NOREPLACE: Final = 1
_EXCHANGE: Final = 2


@contextmanager
def published(destination: Path, *, unique: str, replace: bool) -> Iterator[int]:
    """Yield an open, empty folder that becomes ``destination`` when the block ends without an error.

    Interrupted at any point, even by a power cut, ``destination`` is what it was before or the whole new directory. A
    folder that a killed process left behind is removed by the next call for the same destination.

    :raises DestinationExistsError: ``destination`` is there and ``replace`` is False.
    :raises OSError: the file system refused.
    """
    if not replace and os.path.lexists(destination):
        raise _exists(destination)
    parent, stem = destination.parent, f".{destination.name}.partial-"
    _sweep(parent, stem)
    building = parent / (stem + unique)
    building.mkdir()
    try:
        with folder(building) as fd:
            # The lock tells a later call that this folder is alive; the kernel drops it if this process dies.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield fd
            os.fsync(fd)
            _move(building, destination, replace=replace)
        _sync(parent)
    finally:
        # After an exchange this is the old version, after an error the unfinished new one, else nothing.
        shutil.rmtree(building, ignore_errors=True)


def _exists(destination: Path) -> DestinationExistsError:
    return DestinationExistsError(
        f"`{destination}` is already there", remedy="choose another name, or say that it may be replaced"
    )


def _sweep(parent: Path, stem: str) -> None:
    for left in parent.iterdir():
        if not re.fullmatch(re.escape(stem) + r"[0-9a-f]{16}", left.name):
            continue
        with suppress(OSError), folder(left) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _sync(path: Path) -> None:
    with folder(path.resolve()) as fd:
        os.fsync(fd)


def _move(building: Path, destination: Path, *, replace: bool) -> None:
    swap = replace and os.path.lexists(destination)
    failure = _renameat2(building, destination, _EXCHANGE if swap else _NOREPLACE)
    if failure == errno.EEXIST:
        raise _exists(destination)
    if failure in {errno.EINVAL, errno.ENOSYS} and not swap:
        # A file system without the flag (some network ones). rename(2) refuses a directory that isn't empty.
        building.rename(destination)
    elif failure:
        raise OSError(failure, os.strerror(failure))


def _renameat2(old: Path, new: Path, flags: int) -> int:
    """Call renameat2(2), which Python doesn't offer; returns 0 or the error number."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return errno.ENOSYS
    at_cwd = -100
    done = function(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), ctypes.c_uint(flags))
    return 0 if done == 0 else ctypes.get_errno()
