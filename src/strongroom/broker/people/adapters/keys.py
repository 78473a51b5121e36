"""Keys of people's records, a file each under ``<home>/broker/people-keys``: to destroy one is to erase a person.

A copy of the database alone tells nothing. Leave this folder out of backups that live longer than a person's data may:
a record is erased from every copy of the database as soon as no copy of its key is left.
"""

from __future__ import annotations

import hmac
import os
import re
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.broker.people.ports import Entropy
from strongroom.core.adapters.durable import sync_folder
from strongroom.core.errors import MalformedError, UnavailableError, UsageError

KEY_BYTES: Final = 32
_RECORD: Final = re.compile(r"[0-9a-f]{32}")
_LOOKUP: Final = "lookup.key"


class KeyFolder:
    """A folder of keys, for this user alone."""

    def __init__(self, folder: Path, lookup: bytes, entropy: Entropy) -> None:
        self._folder = folder
        self._lookup = lookup
        self._entropy = entropy

    @classmethod
    def open(cls, folder: Path, entropy: Entropy) -> Self:
        """Open a folder of keys, or make it with a new look-up key.

        :raises UnavailableError: the disk refuses.
        :raises UsageError: others can read it.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _refused(error) from None
        found = _read(folder / _LOOKUP)
        if found is None:
            found = entropy(KEY_BYTES)
            _write_new(folder / _LOOKUP, found)
        return cls(folder, found, entropy)

    def make(self, record: str) -> AESGCM:
        """Make a record's key. It is on the disk before anything is encrypted under it.

        :raises UnavailableError: the disk refuses, or the record has a key.
        """
        key = self._entropy(KEY_BYTES)
        _write_new(self._place(record), key)
        return AESGCM(key)

    def get(self, record: str) -> AESGCM | None:
        """Return a record's key; None when there is none, or no more.

        :raises UsageError: others can read it.
        """
        # The id may come from a row or an address: it names a file only if it has the form of those that we made.
        if not _RECORD.fullmatch(record):
            return None
        key = _read(self._place(record))
        return None if key is None else AESGCM(key)

    def destroy(self, record: str) -> None:
        """Destroy a record's key: gone from the folder, durably, when this returns.

        :raises UnavailableError: the disk refuses.
        """
        if not _RECORD.fullmatch(record):
            return
        place = self._place(record)
        try:
            handle = os.open(place, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refused(error) from None
        try:
            # Overwritten first: on disks that write in place the old bytes are gone too. Others keep them for a while.
            with os.fdopen(handle, "wb", buffering=0) as file:
                file.write(bytes(KEY_BYTES))
                os.fsync(file.fileno())
            place.unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise _refused(error) from None

    def lookup(self, data: bytes) -> bytes:
        """Return the keyed digest of what a record is looked up by."""
        return hmac.digest(self._lookup, data, "sha256")

    def _place(self, record: str) -> Path:
        return self._folder / f"{record}.key"


def _read(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(error) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise UsageError(f"`{path.name}` must belong to the broker's user alone", remedy=f"chmod 600 {path.name}")
        data = file.read(KEY_BYTES + 1)
    if len(data) != KEY_BYTES:
        raise MalformedError(f"`{path.name}` doesn't hold a key")
    return data


def _write_new(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: it fails where there is a key already, and never shows half of one.
        os.link(temporary, path)
        temporary.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise _refused(error) from None


def _refused(error: OSError) -> UnavailableError:
    return UnavailableError(f"the folder of people's keys refuses: {os.strerror(error.errno or 0).lower()}")
