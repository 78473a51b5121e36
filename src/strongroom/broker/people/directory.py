"""The directory: records of people, each under a key of its own, believed only when they open under it.

Blocking; the applications call it off the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from strongroom.broker.people.errors import TakenError
from strongroom.broker.people.member_names import hide, reveal
from strongroom.broker.people.ports import Entropy, RecordKeys, RecordStore, StoredRecord
from strongroom.broker.people.records import NONCE_BYTES, Lookup, LookupName, Record, RecordKind
from strongroom.core.ids import PersonId

UNIQUE: Final = frozenset({LookupName.USER_NAME})
"""What no two records may share."""


class Directory:
    """Reads, writes and erases records. A row whose key is gone is a record that isn't there."""

    def __init__(self, store: RecordStore, keys: RecordKeys, entropy: Entropy) -> None:
        self._store = store
        self._keys = keys
        self._entropy = entropy

    def get(self, kind: RecordKind, record: str) -> Record | None:
        """Return a record.

        :raises RecordRefusedError: the row isn't what was stored.
        """
        row = self._store.get(kind.value, record)
        return None if row is None else self._open(kind, row)

    def page(self, kind: RecordKind, *, offset: int, limit: int | None) -> tuple[int, Sequence[Record]]:
        """Return how many records of a kind there are, and some of them by id.

        :raises RecordRefusedError: one of the rows isn't what was stored.
        """
        total, rows = self._store.page(kind.value, offset=offset, limit=limit)
        return total, self._opened(kind, rows)

    def find(self, kind: RecordKind, lookup: Lookup) -> Sequence[Record]:
        """Return the records that name themselves under a look-up.

        :raises RecordRefusedError: one of the rows isn't what was stored.
        """
        rows = [row for row in self._store.find(self._mac(lookup)) if row.kind == kind.value]
        # The index is a hint: a row that was filed under another's name opens, and doesn't carry the name.
        return [record for record in self._opened(kind, rows) if lookup in record.lookups]

    def free(self, record: Record) -> bool:
        """Tell whether no other record holds one of this one's unique look-ups; what erased ones left is freed."""
        for mac in self._macs(record, unique=True):
            owner = self._store.owner(mac)
            if owner is None or owner == record.id:
                continue
            if self._keys.get(owner) is not None:
                return False
            self._store.delete(owner)
        return True

    def put(self, record: Record) -> None:
        """Store a record in place of the one before; durable when this returns.

        :raises TakenError: another record has a unique value of it.
        :raises MalformedError: it is larger than may be stored.
        """
        if not self.free(record):
            raise TakenError("another record of the directory has this unique value")
        key = self._keys.get(record.id) or self._keys.make(record.id)
        kept = record
        if record.kind is RecordKind.GROUP:
            kept = replace(record, resource=hide(record.id, record.resource, self._keys.get, self._entropy))
        row = StoredRecord(id=record.id, kind=record.kind.value, body=kept.seal(key, self._entropy(NONCE_BYTES)))
        self._store.put(row, unique=self._macs(record, unique=True), lookups=self._macs(record, unique=False))

    def remove(self, record: str) -> None:
        """Destroy a record: first its key, so that a crash in between leaves nothing that can be read."""
        self._keys.destroy(record)
        self._store.delete(record)

    def erase(self, person: PersonId) -> Sequence[str]:
        """Destroy every record of a user that names a person; returns the records' ids.

        Rows of them in older copies of the database can't be read from then on.

        :raises RecordRefusedError: a row filed under the person isn't what was stored: whose it is can't be told.
        """
        found = self.find(RecordKind.USER, Lookup(LookupName.PERSON, person))
        for record in found:
            self.remove(record.id)
        return [record.id for record in found]

    def _opened(self, kind: RecordKind, rows: Iterable[StoredRecord]) -> list[Record]:
        found = (self._open(kind, row) for row in rows)
        return [record for record in found if record is not None]

    def _open(self, kind: RecordKind, row: StoredRecord) -> Record | None:
        key = self._keys.get(row.id)
        if key is None:
            return None
        record = Record.open(kind, row.id, row.body, key)
        if kind is RecordKind.GROUP:
            return replace(record, resource=reveal(record.id, record.resource, self._keys.get))
        return record

    def _macs(self, record: Record, *, unique: bool) -> list[bytes]:
        return [self._mac(lookup) for lookup in record.lookups if (lookup.name in UNIQUE) is unique]

    def _mac(self, lookup: Lookup) -> bytes:
        return self._keys.lookup(lookup.to_bytes())
