"""The records of suspensions on the disk: gateway and command change them one at a time, and each in one step.

Each credential has a file of its own: what one had blocked makes no other's record longer, and a request reads no more
than its own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.adapters.reading import FileState, state_of
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.ids import ModelId
from strongroom.enclave.gateway.keys import principal_name
from strongroom.enclave.gateway.suspension import MAX_RECORD, Standing

REMEMBERED: Final = 4096
"""Records that are kept in memory as well; beyond that all are read anew."""
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_END: Final = ".json"


class SuspensionFileError(UnavailableError):
    """A record of suspensions can't be read or written. Its credential isn't served meanwhile."""

    code = "suspension-file"


class SuspensionFolder:
    """One model's records, in the governor's folder.

    :raises SuspensionFileError: (construction) there is a record of all in one file, as it was once. Nobody who stands
        suspended in it is let in by being forgotten.
    """

    def __init__(self, folder: Path, model: ModelId) -> None:
        self._folder = folder / f"{model}.suspensions"
        before = folder / f"{model}.suspensions.json"
        if os.path.lexists(before):
            raise SuspensionFileError(
                f"`{before.name}` is a record of suspensions of an older version, and isn't read",
                remedy="take the API keys of those who stand suspended in it away, and then the file",
            )
        # One value for each, since threads and the event loop both change it: a record must never go with another
        # file's mark.
        self._read: dict[str, tuple[FileState, Standing]] = {}

    def standing(self, principal: str) -> Standing:
        """Return how a credential stands now; read again only if its file is another one.

        :raises SuspensionFileError: it can't be read, or isn't its record.
        """
        path = self._folder / f"{principal}{_END}"
        try:
            handle = os.open(path, _READ)
        except FileNotFoundError:
            self._read.pop(principal, None)
            return Standing(principal)
        except OSError as error:
            raise _unusable(path, error) from None
        with os.fdopen(handle, "rb") as file:
            seen = state_of(os.fstat(file.fileno()))
            known = self._read.get(principal)
            if known is None or known[0] != seen:
                known = seen, _parsed(path, file.read(MAX_RECORD + 1), principal)
                if len(self._read) >= REMEMBERED:
                    self._read.clear()
                self._read[principal] = known
        return known[1]

    def all(self) -> Iterator[Standing]:
        """Return every record, one at a time, in the order of the names.

        :raises SuspensionFileError: one can't be read, or isn't a record. :raises MalformedError: nobody is called so.
        """
        try:
            names = sorted(one.name.removesuffix(_END) for one in self._folder.iterdir() if one.suffix == _END)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unusable(self._folder, error) from None
        for name in names:
            yield self.standing(principal_name(name))

    def change(self, principal: str, change: Callable[[Standing], Standing]) -> Standing:
        """Replace a credential's record by what ``change`` makes of it, durably; returns the new one.

        :raises SuspensionFileError: it can't be written. :raises StrongroomError: what ``change`` raises.
        """
        try:
            with self._locked():
                made = change(self.standing(principal))
                write_durably(self._folder / f"{principal}{_END}", made.to_bytes())
        except OSError as error:
            raise _unusable(self._folder, error) from None
        return made

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Held for as long as one small file is written: gateway and command wait for each other.
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folder.parent)
        handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _parsed(path: Path, data: bytes, principal: str) -> Standing:
    try:
        read = Standing.parse(data)
        if read.principal != principal:
            raise MalformedError("it names another credential")
    except MalformedError as error:
        raise SuspensionFileError(
            f"`{path.name}` isn't a record of suspensions: {error.message}",
            remedy="put the last good one back; removing it lifts its suspension",
        ) from None
    return read


def _unusable(path: Path, error: OSError) -> StrongroomError:
    return SuspensionFileError(f"`{path.name}` can't be used: {error.strerror}", remedy="look at its folder and owner")
