"""The kernel asks before a guarded file is opened (Linux, fanotify(7), FAN_OPEN_PERM): decoys stay shut, and are told.

The opener waits in the kernel until we answer, so what is read of it (program, user) is of that very process. Whatever
happens here an answer is given: a guard that forgot to answer would hang every opener. If this process dies, the kernel
drops its marks and opens go on: a decoy holds no weights, and sealed shards are of no use without their key.

Needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import os
import select
import stat
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Final, Self

from strongroom.core.errors import UnavailableError

_CLASS_CONTENT: Final = 0x04
_CLOEXEC: Final = 0x01
_NONBLOCK: Final = 0x02
_MARK_ADD: Final = 0x01
_DONT_FOLLOW: Final = 0x04
_OPEN_PERM: Final = 0x0001_0000
_Q_OVERFLOW: Final = 0x4000
_AT_FDCWD: Final = -100
_ALLOW: Final = 0x01
_DENY: Final = 0x02
_VERSION: Final = 3
_EVENT: Final = struct.Struct("=IBBHQii")
_ANSWER: Final = struct.Struct("=iI")
_READ: Final = 4096 * 4
LOOKS: Final = 512
DECOY_LOOKS: Final = 64
"""Decoys that are looked at together: whoever opens one at that moment waits for it."""


class GuardUnavailableError(UnavailableError):
    """The kernel or this process's rights don't allow files to be guarded."""

    code = "file-guard-unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Somebody tried to open a guarded file: which, with which program, as which user."""

    path: str
    pid: int
    exe: str
    """Empty where the opener was gone, or in another namespace of processes."""
    uid: int
    """-1 where it can't be told."""
    denied: bool


class FileGuard:
    """Guards files by their inodes: a decoy by any name is the same decoy.

    :param decoys: files that nobody may open.
    :param watched: files whose opening is told and allowed.
    :raises GuardUnavailableError: fanotify isn't there, or isn't ours to use.
    """

    def __init__(self, decoys: Iterable[Path], watched: Iterable[Path] = ()) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._decoys: set[tuple[int, int]] = set()
        self._lying: dict[Path, tuple[int, int, int, int]] = {}
        """Each decoy as it lay when it was marked, until it was told that it doesn't any more."""
        self._watched: dict[Path, tuple[int, int, int]] = {}
        """Each as it was when it was marked: an inode's number may be another file's soon after."""
        self.lost = 0
        """How often the kernel's queue ran over, or a file was lost sight of: openings neither seen nor stopped."""
        self._fd: int = self._libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC | _NONBLOCK, os.O_RDONLY | os.O_CLOEXEC)
        if self._fd < 0:
            raise self._refused("files can't be guarded")
        try:
            for path in decoys:
                self._lying[path] = _lay(path.lstat())
                self._mark(path)
                self._decoys.add(_identity(path.stat()))
            for path in watched:
                # First: one that is replaced meanwhile is found to be another when it is looked at again.
                self._watched[path] = _seen(path.lstat())
                self._mark(path)
            self._turns, self._rounds = cycle(tuple(self._watched)), cycle(tuple(self._lying))
            self._round = len(self._lying)
        except BaseException:
            os.close(self._fd)
            raise

    def _mark(self, path: Path, how: int = 0) -> None:
        mask = ctypes.c_uint64(_OPEN_PERM)
        if self._libc.fanotify_mark(self._fd, _MARK_ADD | how, mask, _AT_FDCWD, os.fsencode(path)) < 0:
            raise self._refused(f"`{path}` can't be guarded")

    def look_again(self) -> None:
        """Watch what stands now where a watched file stood; what can't be watched any more is lost, and counted.

        It looks at so many (:data:`LOOKS`) at a time, and then at others: openers wait meanwhile.

        Marks are on inodes, and sealing anew puts another file in a name's place. A link is followed nowhere: by one to
        a file that we need ourselves we would wait for our own answer.
        """
        for path in islice(self._turns, min(LOOKS, len(self._watched))):
            try:
                found = path.lstat()
            except OSError:
                # Nothing is there at this moment, or no more: it is looked for again.
                continue
            if _seen(found) == self._watched[path]:
                continue
            self._watched[path] = _seen(found)
            if not (stat.S_ISREG(found.st_mode) and self._marked(path)):
                self.lost += 1

    def gone(self) -> tuple[Path, ...]:
        """Return decoys that were taken away, moved or changed since: each once.

        As above, it looks at so many at a time. No open is needed for any of that, so the kernel doesn't ask. A file in
        a decoy's place may have its inode's number, and hardly its length and time as well.
        """
        places = dict.fromkeys(islice(self._rounds, min(DECOY_LOOKS, self._round)))
        found = tuple(path for path in places if path in self._lying and not _lies(path, self._lying[path]))
        for path in found:
            del self._lying[path]
        return found

    def _marked(self, path: Path) -> bool:
        try:
            self._mark(path, _DONT_FOLLOW)
        except GuardUnavailableError:
            return False
        return True

    def _refused(self, what: str) -> GuardUnavailableError:
        told = os.strerror(ctypes.get_errno()).lower()
        return GuardUnavailableError(f"{what}: {told}", remedy="run as root (CAP_SYS_ADMIN), on Linux with fanotify")

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def wait(self, seconds: float | None) -> bool:
        """Wait until somebody tries to open something; returns whether one did."""
        return bool(select.select([self._fd], [], [], seconds)[0])

    def answer(self, tell: Callable[[Opening], object]) -> int:
        """Answer every waiting opener, then call ``tell`` for each; returns how many there were.

        The denial comes first: nobody waits for what ``tell`` does.
        """
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return 0
        openings = [opening for at in _offsets(data) if (opening := self._answered(data, at)) is not None]
        for opening in openings:
            tell(opening)
        return len(openings)

    def _answered(self, data: bytes, at: int) -> Opening | None:
        _length, version, _reserved, _metadata, mask, fd, pid = _EVENT.unpack_from(data, at)
        if version != _VERSION:
            raise GuardUnavailableError("the kernel speaks another version of fanotify")
        if mask & _Q_OVERFLOW or fd < 0:
            self.lost += 1
            return None
        denied = True
        try:
            found = os.fstat(fd)
            denied = _identity(found) in self._decoys
            opening = Opening(path=_linked(f"/proc/self/fd/{fd}"), pid=pid, exe=_linked(f"/proc/{pid}/exe"),
                              uid=_owner(pid), denied=denied)  # fmt: skip
        finally:
            # Always: without an answer the opener, and perhaps the machine, would hang.
            os.write(self._fd, _ANSWER.pack(fd, _DENY if denied else _ALLOW))
            os.close(fd)
        return opening

    def close(self) -> None:
        """Let go of all files: the kernel allows every open from here on."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_kind: object) -> None:
        self.close()


def _offsets(data: bytes) -> Iterable[int]:
    at = 0
    while at + _EVENT.size <= len(data):
        yield at
        (length,) = struct.unpack_from("=I", data, at)
        at += max(length, _EVENT.size)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _seen(found: os.stat_result) -> tuple[int, int, int]:
    return *_identity(found), found.st_ctime_ns


def _lay(found: os.stat_result) -> tuple[int, int, int, int]:
    # Not when its inode changed: that does with a link to it, and with its mode.
    return *_identity(found), found.st_size, found.st_mtime_ns


def _lies(path: Path, lay: tuple[int, int, int, int]) -> bool:
    try:
        return _lay(path.lstat()) == lay
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # A disk that doesn't answer now may a moment later.
        return True


def _linked(link: str) -> str:
    try:
        return str(Path(link).readlink())
    except OSError:
        return ""


def _owner(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return -1
