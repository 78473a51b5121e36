"""Files opened one way only: by name under an open folder, never through a link, regular files or nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from strongroom.sealing.errors import (
    NoSpaceError,
    SpecialFileError,
    StorageError,
    SymlinkError,
    UnsafeNameError,
)

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe that nobody writes to must not hang; it means nothing for a regular file.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SYMLINKS_REFUSED: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | SYMLINKS_REFUSED
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def storage(doing: str, place: Path) -> Iterator[None]:
    """Turn the system's errors into ours while ``doing`` something at ``place``.

    :raises NoSpaceError: full, over quota, or over the size limit of a file.
    :raises StorageError: any other refusal.
    """
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "input/output error"
        if error.errno in _FULL:
            raise NoSpaceError(
                f"no room while {doing}: {why}",
                remedy=f"free space on the file system of `{place}` (or raise the quota or size limit), then try again",
            ) from error
        raise StorageError(f"the file system refused while {doing}: {why}", remedy=f"look at `{place}`") from error


@contextmanager
def folder(name: str | Path, *, within: int | None = None) -> Iterator[int]:
    """Open a folder; the last part of its name may not be a symbolic link.

    :raises SymlinkError: it is one.
    :raises OSError: it can't be opened.
    """
    fd = _open(str(name), _FOLDER, within)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def regular_file(name: str, *, within: int) -> Iterator[int]:
    """Open a regular file for reading; ``name`` may have folders in it, none of which may be a symbolic link.

    :raises SymlinkError: a symbolic link on the way.
    :raises SpecialFileError: not a regular file.
    :raises OSError: it can't be opened.
    """
    head, _, rest = name.partition("/")
    if rest:
        with folder(head, within=within) as fd, regular_file(rest, within=fd) as found:
            yield found
        return
    fd = _open(name, _FILE, within)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SpecialFileError(f"`{ascii(name)[1:-1]}` isn't a regular file")
        yield fd
    finally:
        os.close(fd)


def _open(name: str, flags: int, within: int | None) -> int:
    try:
        return os.open(name, flags, dir_fd=within)
    except OSError as error:
        shown = ascii(name)[1:-1]
        link = error.errno == errno.ELOOP
        if error.errno == errno.ENOTDIR:  # what O_DIRECTORY with O_NOFOLLOW says of a symbolic link
            with suppress(OSError):
                link = stat.S_ISLNK(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)
        if link:
            raise SymlinkError(
                f"`{shown}` is a symbolic link", remedy="put the file itself there (for example with `cp -L`)"
            ) from None
        if error.errno == errno.ENXIO:  # a socket, or a pipe without a reader
            raise SpecialFileError(f"`{shown}` isn't a regular file") from None
        raise


@contextmanager
def new_file(name: str, *, within: int) -> Iterator[int]:
    """Create a file that must not exist yet; it is on disk when the block ends. ``name`` may have one folder in it."""
    fd = os.open(name, _NEW, 0o644, dir_fd=within)
    try:
        yield fd
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: memoryview) -> None:
    """Write all of ``data``."""
    while data:
        data = data[os.write(fd, data) :]


def walk(fd: int, *, prefix: str = "", depth: int = 16) -> list[str]:
    """Return the names of all regular files below an open folder, in order. Empty folders are left out.

    :raises SymlinkError: a symbolic link anywhere.
    :raises SpecialFileError: a device, socket or pipe.
    :raises UnsafeNameError: nested too deep.
    """
    if depth == 0:
        raise UnsafeNameError("folders are nested deeper than 16")
    names = []
    with os.scandir(fd) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = prefix + entry.name
        shown = ascii(name)[1:-1]
        mode = os.stat(entry.name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise SymlinkError(
                f"`{shown}` is a symbolic link", remedy="put the file itself there (for example with `cp -L`)"
            )
        if stat.S_ISDIR(mode):
            with folder(entry.name, within=fd) as below:
                names += walk(below, prefix=f"{name}/", depth=depth - 1)
        elif stat.S_ISREG(mode):
            names.append(name)
        else:
            raise SpecialFileError(f"`{shown}` is a device, socket or pipe")
    return sorted(names)
