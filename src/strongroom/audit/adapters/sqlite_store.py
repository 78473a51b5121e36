"""The log's own store: SQLite with exactly one connection, WAL, synchronous=FULL.

Entries, tree head and signed checkpoint go into one transaction, so a crash leaves all of a batch or nothing.
One connection only, held exclusively: SQLite before 3.51.3 could corrupt a WAL that two connections reset.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final, Self

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import LogBusyError, StoreDamagedError, StoreReplacedError
from strongroom.audit.merkle import Frontier
from strongroom.audit.note import VerifierKey
from strongroom.audit.sequencer import Batch
from strongroom.audit.stored import DAMAGED, Visitor, continues, recompute

_SCHEMA: Final = {
    "entry": "CREATE TABLE entry (i INTEGER PRIMARY KEY, d BLOB NOT NULL) STRICT",
    "head": "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL,"
    " frontier BLOB NOT NULL) STRICT",
    # The primary key is the rule that no size is ever signed twice.
    "checkpoint": "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT",
}
_PRAGMAS: Final = (
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=ON",
    "PRAGMA checkpoint_fullfsync=ON",
)
_PAGE: Final = 4096
_JOURNAL: Final = 8 << 20
"""Bytes after which the journal is folded into the file: milliseconds and two syncs, which somebody waits for.

Not more: folding takes new space of that size at worst, and on a full disk that is the reserve for last words."""
_JOURNAL_SHARE: Final = 32
"""On a small file system at most this part of it: half of the reserve there."""


_INSERTS: Final = {
    rows: "INSERT INTO entry VALUES " + ",".join(["(?, ?)"] * rows)  # noqa: S608 - no text but ours
    for rows in (64, 8, 1)
}
"""Several entries a statement: each statement lets another thread take the interpreter, and waits to have it back."""

_Identity = tuple[int, int]
"""Device and inode: what tells a file from another one that took its name."""


def _identity(path: str) -> _Identity:
    found = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - twice for each file and commit: the short way
    return found.st_dev, found.st_ino


class SqliteStore:
    """An opened store. Not safe for use by two threads at once: the writer owns it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection
        self._files = (str(path), f"{path}-wal")
        self._identity: tuple[_Identity, ...] = ()
        self._frontier = Frontier()
        self._note: bytes | None = None

    @classmethod
    def open(
        cls, path: Path, key: VerifierKey, *, visit: Visitor | None = None, expected: Checkpoint | None = None
    ) -> Self:
        """Open or make the store at ``path`` and check all of it against what was signed.

        ``expected`` is a checkpoint known from elsewhere (the published one): a store that is smaller, or that
        disagrees with it, was rolled back or replaced.

        :raises StoreDamagedError: the store disagrees with itself, with a signature or with ``expected``.
        :raises LogBusyError: another process has it open.
        """
        try:
            # A store that may be made anew beside published tiles would start a second history under one key.
            if expected is not None and expected.size and not path.exists():
                raise StoreDamagedError("the log's store is gone but its published checkpoint isn't", remedy=DAMAGED)
            connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error:
            raise StoreDamagedError("the log's store can't be opened", remedy=DAMAGED) from None
        store = cls(path, connection)
        try:
            store._prepare(path)
            store._frontier, store._note = recompute(store, key, visit=visit, expected=expected)
        except sqlite3.OperationalError as error:
            store.close()
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise LogBusyError("another process has the log's store open") from None
            raise StoreDamagedError("the log's store can't be read", remedy=DAMAGED) from None
        except sqlite3.Error:
            store.close()
            raise StoreDamagedError("the log's store isn't a sound database", remedy=DAMAGED) from None
        except BaseException:
            store.close()
            raise
        return store

    @property
    def frontier(self) -> Frontier:
        """The tree as last committed."""
        return self._frontier

    @property
    def checkpoint(self) -> bytes | None:
        """The last signed checkpoint; None for an empty log."""
        return self._note

    def _prepare(self, path: Path) -> None:
        for pragma in _PRAGMAS:
            self._db.execute(pragma).fetchall()
        disk = os.statvfs(path.parent)
        journal = min(_JOURNAL, disk.f_blocks * disk.f_frsize // _JOURNAL_SHARE)
        self._db.execute(f"PRAGMA wal_autocheckpoint={max(1, journal // _PAGE)}").fetchall()
        self._db.execute("BEGIN EXCLUSIVE")
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_schema"))
        if not found:
            for statement in _SCHEMA.values():
                self._db.execute(statement)
            self._db.execute("INSERT INTO head VALUES (1, 0, x'')")
        elif found != _SCHEMA:
            # A trigger or a view slipped in could drop what is being acknowledged.
            raise StoreDamagedError("the log's store has other tables or triggers than its own", remedy=DAMAGED)
        self._db.execute("COMMIT")
        path.chmod(0o600)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._identity = tuple(map(_identity, self._files))

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Return index and bytes of each stored entry, in order."""
        return self._db.execute("SELECT i, d FROM entry ORDER BY i")

    def checkpoints(self) -> Iterator[tuple[int, bytes]]:
        """Return size and note of each stored checkpoint, in order."""
        return self._db.execute("SELECT size, note FROM checkpoint ORDER BY size")

    def heads(self) -> list[tuple[int, bytes]]:
        """Return the stored tree heads: one, if the store is sound."""
        return self._db.execute("SELECT size, frontier FROM head").fetchall()

    def commit(self, batch: Batch) -> None:
        """Write entries, head and checkpoint durably, or raise; after an exception the store must not be used again.

        :raises StoreReplacedError: the file isn't the one that was opened.
        :raises StoreDamagedError: the stored head isn't the one that the batch continues.
        :raises sqlite3.Error: the disk or the database failed.
        """
        self._same_files()
        continues(batch, self._frontier)
        before = (self._frontier.size, self._frontier.to_bytes())
        self._db.execute("BEGIN IMMEDIATE")
        self._insert(batch)
        moved = self._db.execute(
            "UPDATE head SET size = ?, frontier = ? WHERE size = ? AND frontier = ?",
            (batch.size, batch.frontier.to_bytes(), *before),
        )
        if moved.rowcount != 1:
            raise StoreDamagedError("the stored tree head changed under the log writer", remedy=DAMAGED)
        self._db.execute("INSERT INTO checkpoint VALUES (?, ?)", (batch.size, batch.checkpoint))
        self._db.execute("COMMIT")
        # Again, before anybody is told: what was just written may have gone to a file without a name.
        self._same_files()
        self._frontier, self._note = batch.frontier, batch.checkpoint

    def _insert(self, batch: Batch) -> None:
        at = 0
        for rows, statement in _INSERTS.items():
            while len(batch.entries) - at >= rows:
                numbered = enumerate(batch.entries[at : at + rows], batch.first + at)
                self._db.execute(statement, [*chain.from_iterable(numbered)])
                at += rows

    def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return at most ``count`` committed entries from index ``start`` on."""
        # Bounded by the committed size: after a failed commit the connection still sees rows that nobody promised.
        end = min(start + count, self._frontier.size)
        rows = self._db.execute("SELECT d FROM entry WHERE i >= ? AND i < ? ORDER BY i", (start, end))
        return tuple(row[0] for row in rows)

    def _same_files(self) -> None:
        try:
            same = tuple(map(_identity, self._files)) == self._identity
        except OSError:
            same = False
        if not same:
            raise StoreReplacedError("the log's store was removed or replaced while it was open", remedy=DAMAGED)

    def close(self) -> None:
        """Close the store; SQLite folds its WAL into the file. Never raises: there is nothing left to promise."""
        self._db.close()
