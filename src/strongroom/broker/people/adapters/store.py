"""The directory's database: one file, one writer, rows that are ciphertext and keyed digests.

Every row may have been written by an attacker. What a row says is believed when it opens under its record's own key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from strongroom.broker.adapters.database import check_pragmas, open_engines
from strongroom.broker.people.errors import RecordRefusedError, TakenError
from strongroom.broker.people.ports import StoredRecord
from strongroom.core.clock import Instant
from strongroom.core.errors import UnavailableError

SCHEMA: Final = 1
MAX_FOUND: Final = 64
"""Rows that one look-up returns at most."""
_METADATA: Final = MetaData()
_records: Final = Table(
    "records",
    _METADATA,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("records_by_kind", "kind", "id"),
)
_owner: Final = "records.id"
_uniques: Final = Table(
    "uniques",
    _METADATA,
    Column("mac", LargeBinary, primary_key=True),
    Column("record", Text, ForeignKey(_owner, ondelete="CASCADE"), nullable=False, index=True),
)
_lookups: Final = Table(
    "lookups",
    _METADATA,
    Column("mac", LargeBinary, primary_key=True),
    Column("record", Text, ForeignKey(_owner, ondelete="CASCADE"), primary_key=True, index=True),
)
_seen: Final = Table(
    "seen",
    _METADATA,
    Column("event", LargeBinary, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("until", Integer, nullable=False, index=True),
)


class PeopleStore:
    """Rows in SQLite. A write returns when it is on the disk. Its methods block: call them off the event loop."""

    def __init__(self, writer: Engine, reader: Engine) -> None:
        self._writer, self._reader = writer, reader

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the database at ``path``, or make it.

        :raises UnavailableError: it can't be opened, or doesn't keep what it is given.
        :raises RecordRefusedError: it is of another version.
        """
        writer, reader = open_engines(path)
        try:
            with writer.begin() as connection:
                check_pragmas(connection)
                found = connection.execute(text("PRAGMA user_version")).scalar_one()
                if found not in {0, SCHEMA}:
                    raise RecordRefusedError("the directory's database is of another version")
                _METADATA.create_all(connection)
                connection.execute(text(f"PRAGMA user_version = {SCHEMA}"))
        except SQLAlchemyError as error:
            raise _unavailable(error) from None
        return cls(writer, reader)

    def close(self) -> None:
        """Close it."""
        self._writer.dispose()
        self._reader.dispose()

    def get(self, kind: str, record: str) -> StoredRecord | None:
        """Return a row."""
        query = select(_records).where(_records.c.id == record, _records.c.kind == kind)
        with self._read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _stored(row)

    def find(self, mac: bytes) -> Sequence[StoredRecord]:
        """Return the rows filed under a look-up."""
        named = select(_lookups.c.record).where(_lookups.c.mac == mac)
        unique = select(_uniques.c.record).where(_uniques.c.mac == mac)
        query = select(_records).where(_records.c.id.in_(named) | _records.c.id.in_(unique)).limit(MAX_FOUND)
        with self._read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def owner(self, mac: bytes) -> str | None:
        """Return the record that holds a unique look-up."""
        with self._read() as connection:
            return connection.execute(select(_uniques.c.record).where(_uniques.c.mac == mac)).scalar_one_or_none()

    def page(self, kind: str, *, offset: int, limit: int | None) -> tuple[int, Sequence[StoredRecord]]:
        """Return how many rows of a kind there are, and some of them by id."""
        of_kind = _records.c.kind == kind
        query = select(_records).where(of_kind).order_by(_records.c.id).offset(offset)
        query = query if limit is None else query.limit(limit)
        with self._read() as connection:
            total = connection.execute(select(func.count()).select_from(_records).where(of_kind)).scalar_one()
            return total, [_stored(row) for row in connection.execute(query)]

    def put(self, row: StoredRecord, *, unique: Sequence[bytes], lookups: Sequence[bytes]) -> None:
        """Write a row and its look-ups in place of the one before, in one transaction."""
        statement = upsert(_records).values(id=row.id, kind=row.kind, body=row.body)
        statement = statement.on_conflict_do_update(index_elements=["id"], set_={"kind": row.kind, "body": row.body})
        try:
            with self._write() as connection:
                connection.execute(statement)
                for table, macs in ((_uniques, unique), (_lookups, lookups)):
                    connection.execute(delete(table).where(table.c.record == row.id))
                    if macs:
                        connection.execute(insert(table), [{"mac": mac, "record": row.id} for mac in set(macs)])
        except IntegrityError:
            raise TakenError("another record of the directory has this unique value") from None

    def delete(self, record: str) -> None:
        """Delete a row and its look-ups."""
        with self._write() as connection:
            connection.execute(delete(_records).where(_records.c.id == record))

    def seen(self, event: bytes) -> bytes | None:
        """Return the digest of the event token that was received under this name."""
        with self._read() as connection:
            found = connection.execute(select(_seen.c.digest).where(_seen.c.event == event)).scalar_one_or_none()
        return None if found is None else _bytes(found)

    def note(self, event: bytes, digest: bytes, *, until: Instant, now: Instant) -> None:
        """Remember an event token until an instant, and forget those whose time has passed."""
        with self._write() as connection:
            connection.execute(delete(_seen).where(_seen.c.until < now))
            connection.execute(upsert(_seen).values(event=event, digest=digest, until=until).on_conflict_do_nothing())

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        try:
            with self._reader.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _unavailable(error) from None

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._writer.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise _unavailable(error) from None


def _unavailable(error: SQLAlchemyError) -> UnavailableError:
    # The error's own text could hold what was being stored.
    return UnavailableError(f"the directory's database can't be used ({type(error).__name__})")


def _stored(row: Row[Any]) -> StoredRecord:
    if not isinstance(row.id, str) or not isinstance(row.kind, str):
        raise RecordRefusedError("a row of the directory isn't what was stored")
    return StoredRecord(id=row.id, kind=row.kind, body=_bytes(row.body))


def _bytes(value: object) -> bytes:
    # SQLite lets any column hold any type: a row written by another hand may.
    if not isinstance(value, bytes):
        raise RecordRefusedError("a row of the directory isn't what was stored")
    return value
