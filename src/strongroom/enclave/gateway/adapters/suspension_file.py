"""The record of suspensions on the disk: gateway and command change it one at a time, and each time in one step."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.adapters.durable import write_durably
from strongroom.core.adapters.reading import FileState, state_of
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.ids import ModelId
from strongroom.enclave.gateway.suspension import MAX_RECORD, Standing

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class SuspensionFileError(UnavailableError):
    """The record of suspensions can't be read or written. Nobody is served meanwhile."""

    code = "suspension-file"


class SuspensionFile:
    """One model's record in the governor's folder."""

    def __init__(self, folder: Path, model: ModelId) -> None:
        self._path = folder / f"{model}.suspensions.json"
        # One value, since threads and the event loop both change it: a record must never go with another file's mark.
        self._read: tuple[FileState, Standing] | None = None

    def standing(self) -> Standing:
        """Return how it stands now; read again only if the file is another one.

        :raises SuspensionFileError: it can't be read, or isn't a record.
        """
        try:
            handle = os.open(self._path, _READ)
        except FileNotFoundError:
            self._read = None
            return Standing()
        except OSError as error:
            raise self._unusable(error) from None
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(file.fileno())
            seen = state_of(facts)
            known = self._read
            if known is None or known[0] != seen:
                self._read = known = seen, self._parsed(file.read(MAX_RECORD + 1))
        return known[1]

    def change(self, change: Callable[[Standing], Standing]) -> Standing:
        """Replace the record by what ``change`` makes of it, durably; returns the new one.

        :raises SuspensionFileError: it can't be written. :raises StrongroomError: what ``change`` raises.
        """
        try:
            with self._locked():
                made = change(self.standing())
                write_durably(self._path, made.to_bytes())
        except OSError as error:
            raise self._unusable(error) from None
        return made

    def _parsed(self, data: bytes) -> Standing:
        try:
            return Standing.parse(data)
        except MalformedError as error:
            raise SuspensionFileError(
                f"`{self._path.name}` isn't a record of suspensions: {error.message}",
                remedy="put the last good one back; removing it lifts every suspension",
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Held for as long as one small file is written: gateway and command wait for each other.
        handle = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _unusable(self, error: OSError) -> StrongroomError:
        return SuspensionFileError(
            f"`{self._path.name}` can't be used: {error.strerror}", remedy="look at its folder and owner"
        )
