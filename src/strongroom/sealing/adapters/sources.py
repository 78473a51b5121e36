"""Reading sealed objects from local files, in the way that is fastest for where their bytes are now.

- In the page cache, and the file is this user's or root's alone: mapped, and decrypted from where the bytes lie.
- In the page cache otherwise: copied out a segment at a time.
- On disk: read past the page cache (O_DIRECT), 4 MiB at a time, so that bytes that are used once displace nothing.

Mapping needs that care because whoever can write to a file changes mapped memory under the cipher, which reads it
twice: once to check, once to decrypt. Who owns the file alone could as well read this process's memory.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import threading
from typing import Final

from strongroom.sealing.adapters.memory import plaintext_buffer
from strongroom.sealing.source import PositionalSource

_CACHESTAT: Final = 451
"""Linux 6.5; the same number on every architecture."""
_POPULATE_READ: Final = 22
"""MADV_POPULATE_READ, Linux 5.14: faults all pages in at once, and fails instead of a signal where there are none."""
_PAGE: Final = 4096
_DIRECT_STRIDE: Final = 4 << 20
_SEGMENT: Final = 1 << 20
_CORES: Final = os.cpu_count() or 1
_DIRECT_DEPTH: Final = 8
_MOSTLY: Final = 0.5
_WINDOW: Final = 256 << 10
_WINDOWS: Final = 16
_WORTH_IT: Final = 2 << 20
"""Smaller objects are read through the page cache."""
_LOCAL_KINDS: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0x2FC12FC1, 0xF2F52010})
"""ext, XFS, Btrfs, tmpfs, overlay, ZFS, F2FS: their pages change only through this kernel."""

_libc = ctypes.CDLL(None, use_errno=True)


def private_source(fd: int) -> PositionalSource:
    """Return a source whose pieces are copies. Owns ``fd`` no more than the caller: it must stay open."""
    return _on_disk(fd) or FileSource(fd)


def shared_source(fd: int) -> PositionalSource:
    """Return the fastest source: mapped where that is safe and the bytes are cached."""
    return _on_disk(fd) or (_mapped(fd) if _mappable(fd) else None) or FileSource(fd)


def _mapped(fd: int) -> PositionalSource | None:
    source = MappedSource(fd)
    try:
        source.piece(0, 1)
    except OSError:  # the kernel can't fault pages in ahead: a file that shrinks would be a signal
        return None
    return source


def _on_disk(fd: int) -> PositionalSource | None:
    if os.fstat(fd).st_size < _WORTH_IT or cached_share(fd) > _MOSTLY:
        return None
    source, flags = DirectSource(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        source.piece(0, _PAGE)
    except OSError:  # no direct reads here, or not in blocks of 4,096; some file systems only say so when they read
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        return None
    return source


def cached_share(fd: int) -> float:
    """Return how much of an open file is in the page cache, from 0 to 1; 1 where the kernel can't tell.

    From a few windows: asking for every page of a large file takes longer than reading one tensor of it.
    """
    size = os.fstat(fd).st_size
    window = min(size, _WINDOW)
    wanted, found, cached = (ctypes.c_uint64 * 2)(0, window), (ctypes.c_uint64 * 5)(), 0
    for number in range(_WINDOWS):
        wanted[0] = (size - window) * number // (_WINDOWS - 1) // _PAGE * _PAGE
        if _libc.syscall(_CACHESTAT, fd, ctypes.byref(wanted), ctypes.byref(found), 0) != 0:
            return 1.0
        cached += found[0] * _PAGE
    return min(1.0, cached / max(1, _WINDOWS * window))


def _mappable(fd: int) -> bool:
    stat = os.fstat(fd)
    if stat.st_size == 0 or stat.st_uid not in {os.geteuid(), 0} or stat.st_mode & 0o022:
        return False
    kind = ctypes.create_string_buffer(256)
    if _libc.fstatfs(fd, kind) != 0:
        return False
    return struct.unpack_from("@l", kind)[0] & 0xFFFFFFFF in _LOCAL_KINDS


class FileSource:
    """A file read a segment at a time into a buffer of each thread's own."""

    stride = _SEGMENT
    depth = _CORES

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._local = threading.local()
        self.size = os.fstat(fd).st_size

    def piece(self, offset: int, length: int) -> memoryview:
        """Read without moving the file's position: threads may share the descriptor."""
        staging = _staging(self._local, length)
        done = 0
        while done < length and (got := os.preadv(self._fd, [staging[done:length]], offset + done)):
            done += got
        return staging[:done]


class DirectSource:
    """A file read past the page cache. Offsets are multiples of 4,096, as all of the format's are."""

    stride = _DIRECT_STRIDE
    depth = _DIRECT_DEPTH

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._local = threading.local()
        self.size = os.fstat(fd).st_size

    def piece(self, offset: int, length: int) -> memoryview:
        """Read whole disk blocks, and return what was asked for."""
        skip = offset % _PAGE
        blocks = -(-(skip + length) // _PAGE) * _PAGE
        staging = _staging(self._local, blocks)
        done = 0
        while done < blocks and (got := os.preadv(self._fd, [staging[done:blocks]], offset - skip + done)):
            done += got
            if got % _PAGE:  # the end of the file; a direct read couldn't go on from here
                break
        return staging[skip : max(skip, min(done, skip + length))]


def _staging(local: threading.local, length: int) -> memoryview:
    found: memoryview | None = getattr(local, "buffer", None)
    if found is None or len(found) < length:
        found = local.buffer = plaintext_buffer(length)
    return found


class MappedSource:
    """A file's cached pages, where they are."""

    stride = _SEGMENT
    depth = _CORES

    def __init__(self, fd: int) -> None:
        self._map: mmap.mmap | None = mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self.size = len(self._map)

    def piece(self, offset: int, length: int) -> memoryview:
        """Return the bytes where they are.

        :raises OSError: the file shrank, or the disk failed: asked for now, so that decrypting doesn't meet a signal.
        """
        if self._map is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        start, end = offset // mmap.PAGESIZE * mmap.PAGESIZE, min(offset + length, self.size)
        if start < end:
            self._map.madvise(_POPULATE_READ, start, end - start)
        return memoryview(self._map)[offset:end]

    def close(self) -> None:
        """Let go of the pages, with the last piece that is in use: while they are mapped, the kernel keeps them."""
        self._map = None
