"""A delivered folder on a disk: listed and opened by descriptors, through no link, and read at offsets.

A file that changes while it is looked at is noticed: its size, its times and its place are compared afterwards.
"""

from __future__ import annotations

import hashlib
import os
import resource
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.intake.folder import MAX_DEPTH, MAX_FILES, Entry, EntryKind, check_folder
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Source
from strongroom.intake.verdict import DeliveredFile, FileList

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE: Final = 1 << 20
_MOST_SEEN: Final = 10 * MAX_FILES
"""Names that are listed at all: what is left out counts too."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """One delivered file, open."""

    name: str
    fd: int
    found: os.stat_result

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.found.st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes.

        :raises IntakeRefusedError: digest-mismatch, if the file shrank meanwhile.
        """
        data = os.pread(self.fd, length, offset)
        while len(data) < length:
            more = os.pread(self.fd, length - len(data), offset + len(data))
            if not more:
                raise IntakeRefusedError(Rule.DIGEST_MISMATCH, f"{shown(self.name)} changed while it was read")
            data += more
        return data

    def digest(self) -> Digest:
        """Return the SHA-256 of all bytes."""
        made, buffer, at = hashlib.sha256(), memoryview(bytearray(_PIECE)), 0
        while got := os.preadv(self.fd, [buffer], at):
            made.update(buffer[:got])
            at += got
        return Digest(DigestAlgorithm.SHA256, made.digest())

    def check_unchanged(self) -> None:
        """Refuse a file that somebody wrote to since it was opened.

        :raises IntakeRefusedError: digest-mismatch.
        """
        now = os.fstat(self.fd)
        for what in ("st_size", "st_mtime_ns", "st_ctime_ns", "st_nlink"):
            if getattr(now, what) != getattr(self.found, what):
                raise IntakeRefusedError(Rule.DIGEST_MISMATCH, f"{shown(self.name)} changed while it was read")


@dataclass(frozen=True, slots=True)
class DeliveredFolder:
    """All files of a delivery, open, after the rules about folders."""

    files: tuple[OpenFile, ...]

    @property
    def sources(self) -> Mapping[str, Source]:
        """The files by name."""
        return {one.name: one for one in self.files}

    def listed(self) -> FileList:
        """Hash every file, as many at once as there are cores; a file that changed meanwhile is refused.

        :raises IntakeRefusedError: digest-mismatch.
        """
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            digests = pool.map(OpenFile.digest, self.files)
            found = FileList.of(
                DeliveredFile(one.name, one.size, digest) for one, digest in zip(self.files, digests, strict=True)
            )
        for one in self.files:
            one.check_unchanged()
        return found


@contextmanager
def open_delivery(path: Path, *, leave_out: Iterable[str] = ()) -> Iterator[DeliveredFolder]:
    """Open a delivered folder, and refuse what may not lie in one.

    :raises IntakeRefusedError: as :func:`~strongroom.intake.folder.check_folder`.
    :raises OSError: the folder can't be read.
    """
    more_files()
    with ExitStack() as opened:
        root = _opened(opened, path, _FOLDER, None)
        entries = check_folder(_walk(root, "", 0), leave_out=frozenset(leave_out))
        yield DeliveredFolder(tuple(_open(opened, root, entry) for entry in entries))


def more_files() -> None:
    """Let this process have as many files open as the system lets it: a delivery may have thousands."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _opened(opened: ExitStack, name: str | Path, flags: int, within: int | None) -> int:
    fd = os.open(name, flags, dir_fd=within)
    opened.callback(os.close, fd)
    return fd


def _walk(folder: int, prefix: str, depth: int) -> Iterator[Entry]:
    if depth > MAX_DEPTH:
        raise IntakeRefusedError(Rule.UNSAFE_NAME, f"{shown(prefix)} is too deep")
    with os.scandir(folder) as found:
        names = sorted(entry.name for entry, _ in zip(found, range(_MOST_SEEN + 1), strict=False))
    if len(names) > _MOST_SEEN:
        raise IntakeRefusedError(Rule.TOO_MANY_FILES, f"more than {_MOST_SEEN} names in one folder")
    for name in names:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            fd = os.open(name, _FOLDER, dir_fd=folder)
            try:
                yield from _walk(fd, f"{prefix}{name}/", depth + 1)
            finally:
                os.close(fd)
            continue
        kind = EntryKind.FILE if stat.S_ISREG(facts.st_mode) else EntryKind.OTHER
        if stat.S_ISLNK(facts.st_mode):
            kind = EntryKind.LINK
        yield Entry(name=prefix + name, kind=kind, size=facts.st_size, links=facts.st_nlink)


def _open(opened: ExitStack, root: int, entry: Entry) -> OpenFile:
    *folders, name = entry.name.split("/")
    with ExitStack() as passing:
        within = root
        for part in folders:
            within = _opened(passing, part, _FOLDER, within)
        fd = _opened(opened, name, _FILE, within)
    found = os.fstat(fd)
    # What was listed and what was opened may differ, if somebody works on the folder meanwhile.
    if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_nlink) != (entry.size, 1):
        raise IntakeRefusedError(Rule.DIGEST_MISMATCH, f"{shown(entry.name)} changed while it was opened")
    return OpenFile(entry.name, fd, found)
