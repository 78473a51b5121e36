"""A gate's record on the disk: one file, replaced in one step, held by one process; and the mark of one that was shut.

The mark is a file of its own: whoever shuts the gate doesn't wait for whoever watches it, and neither writes over the
other's word.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core import canonical
from strongroom.core.adapters.durable import write_durably
from strongroom.core.errors import UsageError
from strongroom.core.fields import reading
from strongroom.enclave.gate.errors import GateFrozenError, GateTakenError
from strongroom.enclave.gate.record import GateRecord
from strongroom.enclave.gate.settings import GateSettings

_MOST: Final = 4096


class RecordFile:
    """Reads and replaces a record. What was written is on the disk when :meth:`write` returns."""

    def __init__(self, folder: Path, settings: GateSettings) -> None:
        self._folder, self._path = folder, folder / f"{settings.name}.gate.json"
        self._mark = folder / f"{settings.name}.frozen"
        self._settings = settings

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the record against other processes.

        :raises GateTakenError: another one has it. :raises UsageError: the folder can't be used.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._folder / f".{self._path.name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UsageError(f"the gate's folder can't be used: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GateTakenError(f"another process has the gate `{self._settings.name}`") from None
        else:
            yield
        finally:
            os.close(lock)

    def read(self) -> GateRecord:
        """Return the record; a new one where there is none.

        :raises MalformedError: it can't be read: then nothing is let through.
        """
        try:
            data = self._path.read_bytes()[: _MOST + 1]
        except FileNotFoundError:
            return GateRecord(settings=self._settings.digest)
        except OSError as error:
            raise UsageError(f"the gate's record can't be read: {error.strerror}") from None
        with reading(canonical.decode(data, max_bytes=_MOST), "gate-record") as fields:
            return GateRecord.read(fields)

    def require_open(self) -> None:
        """Refuse a gate that was shut.

        :raises GateFrozenError: it was, and nobody has looked since.
        """
        if self._mark.exists():
            raise GateFrozenError(
                f"the gate `{self._settings.name}` was shut",
                remedy=f"find out why, with a second person, and then remove `{self._mark.name}`",
            )

    def shut(self, cause: str) -> None:
        """Remember, durably, that the gate was shut, and why."""
        self._replace(self._mark, f"{cause}\n".encode())

    def write(self, record: GateRecord) -> None:
        """Replace the record, durably.

        :raises UsageError: the disk refuses.
        """
        self._replace(self._path, canonical.encode(record.to_json()))

    def _replace(self, path: Path, data: bytes) -> None:
        try:
            write_durably(path, data)
        except OSError as error:
            raise UsageError(f"the gate's record can't be written: {error.strerror}", remedy="free its disk") from None
