"""Writing the disk with the sealed files on the host, and reading it inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Final

from strongroom.core.errors import ConflictError, MalformedError, UsageError
from strongroom.enclave.vm.sealed_disk import BLOCK, padding, read_header, require_room, write_header

_CHUNK: Final = 1 << 20


def write_disk(sealed: Path, path: Path) -> None:
    """Write every file below ``sealed`` into the new file ``path``, sorted by name.

    :raises UsageError: not a folder, or something in it that isn't a regular file.
    """
    files = sorted(one for one in sealed.rglob("*") if not one.is_dir())
    if not files or any(one.is_symlink() or not one.is_file() for one in files):
        raise UsageError(f"`{sealed}` isn't a folder of regular files")
    with path.open("xb") as disk:
        for one in files:
            disk.write(write_header(one.relative_to(sealed).as_posix(), one.stat().st_size))
            with one.open("rb") as source:
                copied = _copy(source, disk, one.stat().st_size)
            disk.write(bytes(padding(copied)))
        disk.write(bytes(2 * BLOCK))
        # A disk has whole pages.
        disk.truncate(disk.tell() + -disk.tell() % 4096)


def read_disk(disk: Path, folder: Path, *, most: int) -> int:
    """Copy the files into ``folder`` (memory), ``most`` bytes in all; returns how many there were.

    :raises MalformedError: not a disk as :func:`write_disk` writes one, or too much. :raises ConflictError: one twice.
    """
    found: dict[str, int] = {}
    with disk.open("rb") as source:
        while head := read_header(source.read(BLOCK)):
            name, size = head
            if name in found:
                raise ConflictError("the sealed files' disk has a name twice")
            found[name] = size
            require_room(found, most=most)
            target = folder / name
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # New, and never through a link: there are none in this folder, for none is ever made.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
            with os.fdopen(descriptor, "wb") as copy:
                if _copy(source, copy, size) != size or len(source.read(padding(size))) != padding(size):
                    raise MalformedError("the sealed files' disk ends inside a file")
    return len(found)


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> int:
    left = size
    while left and (part := source.read(min(left, _CHUNK))):
        target.write(part)
        left -= len(part)
    return size - left
