"""Packing a folder that hostile code has left behind. It always comes to an archive: what can't be taken is counted.

A refusal would say something outside what is charged, and the researcher's code could choose it. So links, pipes,
names that no archive takes and whatever is too large are left out, and the archive says how many of each.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.egress.archive import MAX_DEPTH, MAX_FILES, MAX_HEADER, Archive, ArchivedFile, check_name

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a pipe would wait for ever for somebody to write.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_EACH: Final = 48
"""Bytes of the header for a file, beside its name."""
_READ: Final = 1 << 20


class _Packing:
    """One walk. Names are taken in order, so that the same folder always makes the same archive."""

    def __init__(self, limit: int) -> None:
        self.files: list[ArchivedFile] = []
        self.left_out: Counter[str] = Counter()
        self._room = limit - MAX_HEADER
        self._header = MAX_HEADER - (MAX_HEADER >> 4)

    def walk(self, folder: int, prefix: str) -> None:
        """Take everything in an open folder."""
        for name in sorted(os.listdir(folder)):
            whole = prefix + name
            try:
                check_name(whole)
                kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if stat.S_ISDIR(kind):
                    self._deeper(folder, name, whole)
                elif stat.S_ISREG(kind):
                    self._file(folder, name, whole)
                else:
                    self.left_out["link" if stat.S_ISLNK(kind) else "special"] += 1
            except MalformedError:
                self.left_out["name"] += 1
            except OSError:
                self.left_out["unreadable"] += 1

    def _deeper(self, folder: int, name: str, whole: str) -> None:
        if whole.count("/") + 1 >= MAX_DEPTH:
            self.left_out["name"] += 1
            return
        inner = os.open(name, _FOLDER, dir_fd=folder)
        try:
            self.walk(inner, whole + "/")
        finally:
            os.close(inner)

    def _file(self, folder: int, name: str, whole: str) -> None:
        descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            size = os.fstat(descriptor).st_size
            # In JSON a character may take twice its bytes.
            named = 2 * len(whole.encode()) + _EACH
            if size > self._room or named > self._header:
                self.left_out["too-large"] += 1
                return
            if len(self.files) >= MAX_FILES:
                self.left_out["too-many"] += 1
                return
            data = _read(descriptor, size)
        finally:
            os.close(descriptor)
        self._room -= len(data)
        self._header -= named
        self.files.append(ArchivedFile(whole, data))


def pack_folder(path: str, *, limit: int, facts: Mapping[str, int]) -> Archive:
    """Return everything below ``path`` that an archive of at most ``limit`` bytes takes, and ``facts`` with it.

    What was left out is told as facts ``left-out-…``. Nothing may change the folder meanwhile.
    """
    packing = _Packing(limit)
    try:
        root = os.open(path, _FOLDER)
    except OSError:
        packing.left_out["folder"] += 1
    else:
        try:
            packing.walk(root, "")
        finally:
            os.close(root)
    told = {f"left-out-{why}": count for why, count in packing.left_out.items()}
    return Archive.of(packing.files, {**facts, **told})


def _read(descriptor: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := os.read(descriptor, min(_READ, size - len(data)))):
        data += part
    return bytes(data)
