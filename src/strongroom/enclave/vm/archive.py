"""The initial file system's archive: cpio, `newc` (Documentation/driver-api/early-userspace/buffer-format.rst). Pure.

Names are sorted, numbers fixed: the same files give the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_TRAILER: Final = "TRAILER!!!"
_ALIGN: Final = 4
_END: Final = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or symbolic link. ``mode`` has the type's bits; ``data`` is a link's target."""

    path: str
    mode: int
    data: bytes = b""

    @classmethod
    def folder(cls, path: str) -> Entry:
        """Return a folder."""
        return cls(path, stat.S_IFDIR | 0o755)

    @classmethod
    def link(cls, path: str, target: str) -> Entry:
        """Return a symbolic link."""
        return cls(path, stat.S_IFLNK | 0o777, target.encode())

    @classmethod
    def file(cls, path: str, data: bytes, *, mode: int) -> Entry:
        """Return a regular file; ``mode`` is its permission bits."""
        return cls(path, stat.S_IFREG | mode, data)


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive of ``entries``, folders before what is in them."""
    parts: list[bytes] = []
    for number, entry in enumerate(sorted(entries, key=lambda one: one.path.split("/")), start=1):
        parts.append(_record(entry.path, number, entry.mode, entry.data))
    parts.append(_record(_TRAILER, 0, 0, b""))
    whole = b"".join(parts)
    return whole.ljust(-(-len(whole) // _END) * _END, b"\0")


def _record(path: str, number: int, mode: int, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # Inode, mode, uid, gid, links, time, size, two devices of two numbers, length of the name, checksum.
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // _ALIGN) * _ALIGN, b"\0")
