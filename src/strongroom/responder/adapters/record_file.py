"""The record on the disk: numbered files of lines, each synced before it counts. A flood is summed up in one line."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from strongroom.core.adapters.durable import append_durably, sync_folder
from strongroom.core.buckets import Buckets, Rate
from strongroom.core.canonical import Json
from strongroom.core.clock import uptime
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.responder.record import Line, archived_facts, check_record, record_line

MAX_FILE: Final = 16 << 20
ROOM: Final = 1 << 20
"""Bytes that must be free on the record's disk."""
RATE: Final = Rate(per_second=10.0, burst=1000)


class RecordUnwritableError(UnavailableError):
    """The responder's record can't be written."""

    code = "responder-record-unwritable"


class RecordTakenError(UnavailableError):
    """Another process has the responder's record."""

    code = "responder-record-taken"


class RecordFile:
    """Appends to the newest file of a folder. One process at a time has it, and all that lies beside it.

    :raises RecordBrokenError: what is there isn't what was written.
    :raises RecordTakenError: another process has it: two chains in one file would be none.
    :raises RecordUnwritableError: the folder can't be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buckets = Buckets(RATE)
        self._writing = threading.Lock()
        self._open_lines: set[int] = set()
        self.untold = 0
        """Alerts of a flood that have no line of their own since the last line."""
        self._failed = False
        self._held = hold_folder(folder)
        try:
            files = _files(folder)
            if files:
                _take_off_half_a_line(files[-1])
            self._serial, self._before = check_record(_lines(files))
            self._number = _number(files[-1]) if files else 1
            self._file = self._open(self._number)
        except OSError as error:
            os.close(self._held)
            raise _unwritable(error) from None
        except StrongroomError:
            os.close(self._held)
            raise

    async def append(self, facts: dict[str, Json]) -> Line | None:
        """Add a line, to be settled; it is on the disk when this returns.

        Of a flood, only so many are added; None: it is one of the others, which are counted.

        :raises RecordUnwritableError: it couldn't be written.
        """
        if self._buckets.wait("lines", uptime()):
            self.untold += 1
            return None
        untold, self.untold = self.untold, 0
        try:
            return await asyncio.to_thread(self._append, {**facts, "untold": untold} if untold else facts)
        except RecordUnwritableError:
            self.untold += untold
            raise

    def settle(self, line: Line) -> int:
        """Take that a line is dealt with; returns how many are, counted from the first, with none left out."""
        with self._writing:
            self._open_lines.discard(line.serial)
            return min(self._open_lines, default=self._serial)

    def since(self, count: int) -> list[tuple[Line, bytes]]:
        """Return the lines after the first ``count``, as the last run left them; each is to be settled.

        A count that is more than there are is another record's, and none of this one's are dealt with.
        """
        with self._writing:
            count = count if count <= self._serial else 0
            numbered = ((_serial(line), line) for line in _lines(_files(self._folder)))
            found = [
                (Line(serial=serial, digest=Digest.of(line)), line) for serial, line in numbered if serial >= count
            ]
            self._open_lines.update(line.serial for line, _text in found)
        return found

    def facts(self) -> Iterator[Mapping[str, Json]]:
        """Yield what each line says, from the first on, as the last run left them."""
        return (json.loads(line)["facts"] for line in _lines(_files(self._folder)))

    def old_files(self) -> Iterator[tuple[Path, list[bytes]]]:
        """Yield the files that aren't written to any more, oldest first, with their lines."""
        return ((path, [*_lines([path])]) for path in _files(self._folder)[:-1])

    def put_aside(self, path: Path, still: Mapping[str, Json]) -> None:
        """Take the oldest file away, once it is kept elsewhere. A line says so before it goes.

        :param still: what that line says beside it, of what stood in the file and holds on.
        :raises RecordUnwritableError: the disk refuses: it may still be there, and the record is whole either way.
        """
        lines = [*_lines([path])]
        if lines:
            self.settle(self._append({**archived_facts(_serial(lines[-1]) + 1, Digest.of(lines[-1])), **still}))
        try:
            path.unlink()
            sync_folder(self._folder)
        except OSError as error:
            raise _unwritable(error) from None

    async def check(self) -> None:
        """Check that the record can be written, now; one that couldn't be is tried with a line that says nothing.

        :raises RecordUnwritableError: it can't.
        """
        await asyncio.to_thread(self._check)

    @property
    def head(self) -> Json:
        """How many lines there are, and the digest of the last."""
        return {"lines": self._serial, "last": str(self._before)}

    def close(self) -> None:
        """Let go, once a line that is being written is; nothing is written after."""
        # Whoever waited for that line may be gone, and its thread goes on: the number that is closed here becomes
        # another file's, and a line in there would be anybody's.
        with self._writing:
            if self._file >= 0:
                os.close(self._file)
                os.close(self._held)
            self._file = -1

    def _check(self) -> None:
        if self._failed:
            self.settle(self._append({"again": True}))
            return
        with self._writing:
            try:
                os.fdatasync(self._file)
                status, disk = os.fstat(self._file), os.fstatvfs(self._file)
            except OSError as error:
                raise _unwritable(error) from None
        if not status.st_nlink or disk.f_bavail * disk.f_frsize < ROOM:
            raise _unwritable(OSError(errno.ENOSPC, "it was removed" if not status.st_nlink else "its disk is full"))

    def _append(self, facts: dict[str, Json]) -> Line:
        self._failed = True
        with self._writing:
            if self._file < 0:
                raise _unwritable(OSError(errno.EBADF, "it is closed"))
            line = record_line(self._before, self._serial, facts)
            size = os.fstat(self._file).st_size
            if size + len(line) > MAX_FILE:
                opened, size = self._open(self._number + 1), 0
                os.close(self._file)
                self._file, self._number = opened, self._number + 1
            try:
                append_durably(self._file, line + b"\n")
            except OSError as error:
                raise _unwritable(error) from None
            written = Line(serial=self._serial, digest=Digest.of(line))
            self._open_lines.add(written.serial)
            self._serial, self._before = self._serial + 1, written.digest
            self._failed = False
            return written

    def _open(self, number: int) -> int:
        path = self._folder / f"record-{number:06}.jsonl"
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            opened = os.open(path, flags, 0o600)
            sync_folder(self._folder)
        except OSError as error:
            raise _unwritable(error) from None
        return opened


def read_record(folder: Path) -> list[bytes]:
    """Return all lines of a record, checked.

    :raises RecordBrokenError: a line was taken out, put in or changed.
    """
    lines = [*_lines(_files(folder))]
    check_record(lines)
    return lines


def hold_folder(folder: Path) -> int:
    """Make a folder where there is none, and keep every other process off it until the handle is closed.

    :raises RecordTakenError: another has it, or this one already. :raises RecordUnwritableError: it can't be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RecordTakenError("another responder has this folder", remedy="stop it first") from None
    except OSError as error:
        os.close(handle)
        raise _unwritable(error) from None
    return handle


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("record-*.jsonl"))


def _number(file: Path) -> int:
    return int(file.stem.removeprefix("record-"))


def _serial(line: bytes) -> int:
    serial: int = json.loads(line)["serial"]
    return serial


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    # A file at a time: whoever fills the record for weeks mustn't make it larger than what a start can hold.
    return (line for file in files for line in file.read_bytes().split(b"\n") if line)


def _take_off_half_a_line(file: Path) -> None:
    # Left by a crash: it was never said to be written.
    data = file.read_bytes()
    if not data.endswith(b"\n"):
        os.truncate(file, data.rfind(b"\n") + 1)


def _unwritable(error: OSError) -> RecordUnwritableError:
    return RecordUnwritableError(
        f"the responder's record can't be written: {error.strerror}", remedy="free its disk, or mend its rights"
    )
