"""The record on the disk: numbered files of lines, each synced before it counts. A flood is summed up in one line."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Final

from strongroom.core.buckets import Buckets, Rate
from strongroom.core.canonical import Json
from strongroom.core.clock import uptime
from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError
from strongroom.responder.record import check_record, record_line

MAX_FILE: Final = 16 << 20
RATE: Final = Rate(per_second=10.0, burst=1000)


class RecordUnwritableError(UnavailableError):
    """The responder's record can't be written."""

    code = "responder-record-unwritable"


class RecordFile:
    """Appends to the newest file of a folder. One process at a time has it.

    :raises RecordBrokenError: what is there isn't what was written.
    :raises RecordUnwritableError: the folder can't be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buckets = Buckets(RATE)
        self._writing = threading.Lock()
        self.untold = 0
        """Alerts of a flood that have no line of their own since the last line."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files = sorted(folder.glob("record-*.jsonl"))
            lines = [line for file in files for line in file.read_bytes().split(b"\n") if line]
            # A crash may have left half a line: it was never said to be written, and it is taken off.
            if files and not files[-1].read_bytes().endswith(b"\n") and lines:
                whole = files[-1].read_bytes().rpartition(b"\n")[0]
                files[-1].write_bytes(whole + b"\n" if whole else b"")
                lines.pop()
        except OSError as error:
            raise _unwritable(error) from None
        self._serial, self._before = check_record(lines)
        self._number = len(files) or 1
        self._file = self._open()

    async def append(self, facts: dict[str, Json]) -> None:
        """Add a line; it is on the disk when this returns. Of a flood, only so many are added: the others are counted.

        :raises RecordUnwritableError: it couldn't be written.
        """
        if self._buckets.wait("lines", uptime()):
            self.untold += 1
            return
        untold, self.untold = self.untold, 0
        await asyncio.to_thread(self._append, {**facts, "untold": untold} if untold else facts)

    def close(self) -> None:
        """Let go."""
        os.close(self._file)

    def _append(self, facts: dict[str, Json]) -> None:
        with self._writing:
            line = record_line(self._before, self._serial, facts)
            try:
                if os.fstat(self._file).st_size + len(line) > MAX_FILE:
                    os.close(self._file)
                    self._number += 1
                    self._file = self._open()
                os.write(self._file, line + b"\n")
                os.fdatasync(self._file)
            except OSError as error:
                raise _unwritable(error) from None
            self._serial, self._before = self._serial + 1, Digest.of(line)

    def _open(self) -> int:
        path = self._folder / f"record-{self._number:06}.jsonl"
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(path, flags, 0o600)
        except OSError as error:
            raise _unwritable(error) from None


def read_record(folder: Path) -> list[bytes]:
    """Return all lines of a record, checked.

    :raises RecordBrokenError: a line was taken out, put in or changed.
    """
    lines = [line for file in sorted(folder.glob("record-*.jsonl")) for line in file.read_bytes().split(b"\n") if line]
    check_record(lines)
    return lines


def _unwritable(error: OSError) -> RecordUnwritableError:
    return RecordUnwritableError(
        f"the responder's record can't be written: {error.strerror}", remedy="free its disk, or mend its rights"
    )
