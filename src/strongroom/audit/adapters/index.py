"""The search index: a SQLite file of the reader's own, derived from the log, to be deleted at any time.

It may be damaged or made by somebody else. So a file whose schema isn't exactly this one is thrown away, nothing in its
schema is trusted to run, and what it answers is confirmed by :mod:`strongroom.audit.reading.search`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from strongroom.audit.adapters.index_search import IN_USE, PRAGMAS, Readers, Search, Work, trusting_nothing
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry
from strongroom.audit.errors import ForkError, MissingRowsError
from strongroom.audit.reading.growth import Place, grow
from strongroom.audit.reading.query import ModelOf, Query, recorded_request, traits_of
from strongroom.audit.reading.search import IndexWrongError, Places
from strongroom.audit.reading.view import LogView, judged
from strongroom.core.errors import UnavailableError

_SCHEMA: Final = {
    "place": "CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 0), origin TEXT NOT NULL,"
    " size INTEGER NOT NULL, peaks BLOB NOT NULL)",
    "entry": "CREATE TABLE entry (i INTEGER PRIMARY KEY, at INTEGER NOT NULL, event TEXT NOT NULL)",
    "term": "CREATE TABLE term (trait TEXT NOT NULL, value TEXT NOT NULL, i INTEGER NOT NULL,"
    " PRIMARY KEY (trait, value, i)) WITHOUT ROWID",
    "request": "CREATE TABLE request (digest TEXT PRIMARY KEY, model TEXT NOT NULL, i INTEGER NOT NULL) WITHOUT ROWID",
    "entry_at": "CREATE INDEX entry_at ON entry (at)",
    "entry_event": "CREATE INDEX entry_event ON entry (event)",
}
_WRITING: Final = (
    *PRAGMAS,
    # Whoever searches reads what stood there when they began, and waits for nobody who writes or searches.
    "journal_mode = WAL",
    # After a power failure the last steps are taken anew.
    "synchronous = NORMAL",
)
_PATIENCE: Final = 2.0
"""Seconds to wait for another process."""


class SqliteIndex:
    """An index in one file, for one process. Several threads may ask it, and one at a time lets it grow. Close it.

    :raises UnavailableError: another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.RLock()
        """Held while something is written or the place is read; never while somebody searches or the log is read."""
        self._growing = threading.Lock()
        self._fits = False
        """Whether the file was shown to be of this log, by this process: its own word on that counts nothing."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock: int | None = _locked(path.with_name(f"{path.name}.lock"))
        try:
            self._db = self._opened()
        except BaseException:
            os.close(self._lock)
            raise
        self._readers = Readers(path)

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._readers.renew()
            self._db.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def update(self, view: LogView, head: Checkpoint) -> None:
        """Take in what the log grew by, step by step, so that an interruption costs one step.

        :raises LogError: the log itself isn't what was signed.
        """
        self._take(view, head, None)

    def grow(self, view: LogView, head: Checkpoint) -> int:
        """Take in one step of what the log grew by, unless somebody else is at it; returns how far the index goes.

        An index that goes further than ``head`` stays, once it was shown to be the log's: somebody else was shown more.

        :raises LogError: as :meth:`update`. :raises IndexWrongError: the file can't be read.
        """
        if not self._goes_to(head) and self._growing.acquire(blocking=False):
            try:
                # Somebody else may have been at it until a moment ago.
                if not self._goes_to(head):
                    self._take(view, head, 1)
            finally:
                self._growing.release()
        return self._place(head.origin).size if self._fits else 0

    def find(self, query: Query, limit: int, before: int) -> Places:
        """Return where the newest ``limit`` of the first ``before`` entries stand that answer a query.

        Slices of the log are looked through from its end, of each by whatever is in the fewest entries. What is in very
        many, and all of it in few together, takes long: then it says how far it came.

        :raises IndexWrongError: the file can't be read. :raises UsageError: a digest's beginning is that of too many.
        """
        with trusting_nothing(), self._readers.one() as reader:
            return Search(reader, query).run(limit, before)

    def recorded(self, request: str) -> int | None:
        """Return where a request was recorded.

        :raises IndexWrongError: the file can't be read.
        """
        with trusting_nothing(), self._readers.one() as reader:
            return reader.place("SELECT i FROM request WHERE digest = ?", [request])

    def discard(self) -> None:
        """Delete the file and begin an empty one. Whoever searches the old one goes on in it, and is found out."""
        with self._turn:
            self._fits = False
            self._db.close()
            _delete(self._path)
            self._db = self._opened()
            self._readers.renew()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except IndexWrongError:
            _delete(self._path)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        _tidy(self._path)
        # Made here and not by SQLite, so that nobody else may read who asked for what, whoever made the file before.
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=_PATIENCE, check_same_thread=False)
        try:
            with trusting_nothing():
                self._work = Work(db)
                for pragma in _WRITING:
                    db.execute(f"PRAGMA {pragma}").fetchall()
                with closing(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")) as rows:
                    found = rows.fetchmany(len(_SCHEMA) + 1)
                if not found:
                    db.execute("BEGIN IMMEDIATE")
                    for text in _SCHEMA.values():
                        db.execute(text)
                    db.execute("COMMIT")
                elif len(found) != len(_SCHEMA) or dict(found) != _SCHEMA:
                    # Each name once: a trigger may be called as a table is.
                    raise IndexWrongError("the index file has another form")
        except BaseException:
            db.close()
            raise
        return db

    def _place(self, origin: str) -> Place:
        with self._writer() as db:
            row = db.execute("SELECT origin, size, peaks FROM place").fetchone()
        if row is None:
            return Place.start(origin)
        if [type(value) for value in row] != [str, int, bytes]:
            raise IndexWrongError("the index file doesn't say how far it goes")
        return Place(*row)

    def _goes_to(self, head: Checkpoint) -> bool:
        return self._fits and self._place(head.origin).size >= head.size

    def _take(self, view: LogView, head: Checkpoint, steps: int | None) -> None:
        try:
            self._take_from(view, head, self._place(head.origin), steps)
        except (IndexWrongError, ForkError, MissingRowsError):
            # Of another log, or damaged, or the log went back. The last two are no news that an index could prove.
            self.discard()
            self._take_from(view, head, Place.start(head.origin), steps)
        self._fits = True

    def _take_from(self, view: LogView, head: Checkpoint, place: Place, steps: int | None) -> None:
        for after, entries in islice(grow(view, place, head), steps):
            step = _Step(self._model_of)
            for i, data in enumerate(entries, after.size - len(entries)):
                step.add(i, judged(view, i, data))
            with self._writer() as db:
                self._write(db, step, place, after)
            place = after

    @contextmanager
    def _writer(self) -> Iterator[sqlite3.Connection]:
        with self._turn, trusting_nothing():
            self._work.begin()
            yield self._db

    def _write(self, db: sqlite3.Connection, step: _Step, before: Place, after: Place) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._place(before.origin) != before:
                # Somebody threw it away meanwhile: what comes after a gap would hide what is in it.
                raise IndexWrongError("the index file was begun anew")
            db.executemany("INSERT INTO request VALUES (?, ?, ?)", step.request_rows)
            db.executemany("INSERT INTO entry VALUES (?, ?, ?)", step.entry_rows)
            db.executemany("INSERT INTO term VALUES (?, ?, ?)", step.term_rows)
            db.execute("INSERT OR REPLACE INTO place VALUES (0, ?, ?, ?)", [after.origin, after.size, after.peaks])
            db.execute("COMMIT")
        except BaseException:
            # A full disk ended it already. A second error would hide the first, and cost the whole file.
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _model_of(self, request: str) -> str | None:
        with self._writer() as db:
            row = db.execute("SELECT model FROM request WHERE digest = ?", [request]).fetchone()
        return None if row is None or not isinstance(row[0], str) else row[0]


class _Step:
    """Rows for a number of entries, written at once."""

    def __init__(self, before: ModelOf) -> None:
        self._before = before
        self._models: dict[str, str | None] = {}
        self.request_rows: list[tuple[str, str, int]] = []
        self.entry_rows: list[tuple[int, int, str]] = []
        self.term_rows: list[tuple[str, str, int]] = []

    def add(self, i: int, entry: Entry) -> None:
        told = recorded_request(entry)
        if told is not None and self._model_of(told[0]) is None:
            self._models[told[0]] = told[1]
            self.request_rows.append((*told, i))
        self.entry_rows.append((i, entry.at, entry.event.value))
        self.term_rows += [(trait.value, value, i) for trait, value in traits_of(entry, self._model_of)]

    def _model_of(self, request: str) -> str | None:
        if request not in self._models:
            self._models[request] = self._before(request)
        return self._models[request]


def _locked(path: Path) -> int:
    """Take the lock of an index: a second process must not throw away what the first one is building."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    ends = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                os.close(handle)
                raise UnavailableError("another process has the index", remedy=IN_USE) from None
            time.sleep(_PATIENCE / 40)
        else:
            return handle


def _tidy(path: Path) -> None:
    """Take away what somebody else may have laid beside an index that is about to be opened."""
    # This index has no rollback journal but while it is made. One can name any file, which SQLite then deletes.
    _beside(path, "journal").unlink(missing_ok=True)
    for name in (_beside(path, "wal"), _beside(path, "shm")):
        if name.is_symlink():
            name.unlink()


def _delete(path: Path) -> None:
    for name in (path, _beside(path, "wal"), _beside(path, "shm")):
        name.unlink(missing_ok=True)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}-{what}")
