"""What the directory needs from outside: stored records, keys of people, the roster's names, the effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.clock import Instant
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import SuspensionCause

Suspend = Callable[[PersonId, SuspensionCause], Awaitable[None]]
"""End everything that a person has. Returns when the keeper has it on record; again is harmless.

:raises NotFoundError: the roster in force has nobody of this id.
:raises StrongroomError: anything else: the caller is told to try again.
"""

Knows = Callable[[PersonId], Awaitable[bool]]
"""Tell whether the roster in force lists a person.

:raises StrongroomError: it can't be told now.
"""

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A row. It may have been written by an attacker."""

    id: str
    kind: str
    body: bytes


class RecordStore(Protocol):
    """Rows in a database that is believed in nothing. Every method may raise UnavailableError."""

    def get(self, kind: str, record: str) -> StoredRecord | None:
        """Return a row."""
        ...

    def find(self, mac: bytes) -> Sequence[StoredRecord]:
        """Return the rows filed under a look-up."""
        ...

    def owner(self, mac: bytes) -> str | None:
        """Return the record that holds a unique look-up."""
        ...

    def page(self, kind: str, *, offset: int, limit: int | None) -> tuple[int, Sequence[StoredRecord]]:
        """Return how many rows of a kind there are, and some of them by id."""
        ...

    def put(self, row: StoredRecord, *, unique: Sequence[bytes], lookups: Sequence[bytes]) -> None:
        """Write a row and its look-ups, durably, in place of the one before.

        :raises TakenError: another record holds one of the unique look-ups.
        """
        ...

    def delete(self, record: str) -> None:
        """Delete a row and its look-ups; none is no error."""
        ...

    def seen(self, event: bytes) -> bytes | None:
        """Return the digest of the event token that was received under this name."""
        ...

    def note(self, event: bytes, digest: bytes, *, until: Instant, now: Instant) -> None:
        """Remember an event token until an instant, and forget those whose time has passed."""
        ...


class RecordKeys(Protocol):
    """One key for each record, each in a place of its own, so that destroying it destroys the record's every copy."""

    def make(self, record: str) -> AESGCM:
        """Make a record's key, durably."""
        ...

    def get(self, record: str) -> AESGCM | None:
        """Return a record's key; None when there is none, or no more."""
        ...

    def destroy(self, record: str) -> None:
        """Destroy a record's key, durably; none is no error."""
        ...

    def lookup(self, data: bytes) -> bytes:
        """Return a keyed digest (HMAC-SHA256, 32 bytes) of what a record is looked up by."""
        ...
