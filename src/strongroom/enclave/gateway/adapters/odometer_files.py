"""The governor's durable files: its local record, the mark of a freeze, and a log for where there is no other.

A kill at any moment leaves either the old or the new state, whole: an entry counts once its line is on the disk, and
the local record is replaced in one step. One governor has the folder; a second one is refused.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Final

from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import ConflictError
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import ModelId
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import Block, LocalRecord, OdometerEntry
from strongroom.enclave.gateway.errors import FrozenBeforeError, OdometerFileError
from strongroom.enclave.gateway.odometer import OdometerLog, OpenedRun

_MAX_RECORD: Final = 4096
_MAX_LOG: Final = 256 << 20


class FileLog:
    """Odometer entries of one model, a line of canonical JSON each, appended and synced before they count.

    It stands where a deployment's log isn't reached: it is as good against a kill, and no better than its disk against
    a restore. The local record should then lie on another disk.
    """

    def __init__(self, path: Path, model: ModelId) -> None:
        """Open or begin the log.

        :raises ConflictError: another governor has it.
        :raises OdometerFileError: it can't be opened.
        :raises StrongroomError: a line that isn't an entry, or doesn't follow.
        """
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise ConflictError(
                f"another governor has the odometer of `{model}`", remedy="stop it first", reason="odometer-taken"
            ) from None
        self._writing, self._closed = threading.Lock(), False
        self.mirror = self._replay(Mirror(model))
        _sync_folder(path.parent)

    def open(self, *, epoch: int, seen: LocalRecord | None, now: Instant) -> OpenedRun:
        """Begin a run (step 1)."""
        with self._writing:
            entry = self.mirror.open(epoch=epoch, seen=seen, now=now)
            self._append(entry)
        return OpenedRun(entry=entry, recent=self.mirror.recent(now))

    def advance(self, block: Block, *, limit: int, now: Instant) -> OdometerEntry:
        """Append the answer to a block (step 3)."""
        with self._writing:
            entry = self.mirror.advance(block, limit=limit, now=now)
            self._append(entry)
        return entry

    def close(self) -> None:
        """Let the next governor have it. An entry that is being written is finished first; none follows."""
        with self._writing:
            self._closed = True
            os.close(self._file)

    def _append(self, entry: OdometerEntry) -> None:
        if self._closed:
            raise OdometerFileError("the odometer's log was closed", remedy="start the governor again")
        after = self.mirror.after(entry)
        data = canonical.encode(entry.to_json()) + b"\n"
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            os.fsync(self._file)
        except OSError as error:
            written, why = 0, error.strerror
        else:
            why = "the disk is full"
        if written != len(data):
            # A torn line would swallow the next one.
            os.ftruncate(self._file, before)
            raise OdometerFileError(f"the odometer's log can't be written: {why}", remedy="free space on its disk")
        self.mirror = after

    def _replay(self, mirror: Mirror) -> Mirror:
        data = os.pread(self._file, _MAX_LOG, 0)
        if not data.endswith(b"\n"):
            # Killed while it wrote: nobody was told of that entry, so nothing left on its account.
            data = data[: data.rfind(b"\n") + 1]
            os.ftruncate(self._file, len(data))
        for line in data.splitlines():
            with reading(canonical.decode(line, max_bytes=_MAX_RECORD), "odometer") as fields:
                mirror = mirror.after(OdometerEntry.read(fields))
        return mirror


class GovernorFolder:
    """Where a governor's process keeps what it must not forget (steps 1 and 4)."""

    def __init__(self, folder: Path, model: ModelId) -> None:
        self._record, self._frozen = folder / f"{model}.odometer.json", folder / f"{model}.frozen.json"
        self._model = model

    def open(self, log: OdometerLog, *, epoch: int, now: Instant) -> OpenedRun:
        """Begin a run and keep its record.

        :raises FrozenBeforeError: an earlier run was frozen, and nobody looked since.
        :raises StrongroomError: the log refuses, or a file can't be read or written.
        """
        if self._frozen.exists():
            raise FrozenBeforeError(
                f"`{self._model}` was frozen by an earlier run and isn't served",
                remedy=f"find out why, with a second person, and then remove `{self._frozen.name}`",
            )
        opened = log.open(epoch=epoch, seen=self.stored(), now=now)
        self.keep(opened.entry)
        return opened

    def stored(self) -> LocalRecord | None:
        """Return the local record, if there is one."""
        try:
            data = self._record.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._record, error) from None
        with Fields(canonical.decode(data, max_bytes=_MAX_RECORD), "odometer-record") as fields:
            return LocalRecord.read(fields)

    def keep(self, entry: OdometerEntry) -> None:
        """Store an entry's record durably (step 4); it never gets lower."""
        self._write(self._record, entry.record.over(self.stored()).to_json())

    def freeze(self, cause: str, now: Instant) -> None:
        """Remember that the model was frozen: a restart doesn't serve it again."""
        self._write(self._frozen, {"v": 1, "model": self._model, "cause": cause, "at": format_instant(now)})

    def _write(self, path: Path, value: Json) -> None:
        new = path.with_name(f".{path.name}.new")
        try:
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(canonical.encode(value))
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise _unusable(path, error) from None
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> OdometerFileError:
    return OdometerFileError(f"`{path.name}` can't be used: {error.strerror}", remedy="look at its folder and owner")
