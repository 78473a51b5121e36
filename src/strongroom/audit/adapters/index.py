"""The search index: a SQLite file of the reader's own, derived from the log, to be deleted at any time.

It may be damaged or made by somebody else. So a file whose schema isn't exactly this one is thrown away, nothing in its
schema is trusted to run, and what it answers is confirmed by :mod:`strongroom.audit.reading.search`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry
from strongroom.audit.errors import ForkError, MissingRowsError
from strongroom.audit.reading.growth import Place, grow
from strongroom.audit.reading.query import ModelOf, Query, Trait, outcome_of, recorded_request, traits_of
from strongroom.audit.reading.search import IndexWrongError
from strongroom.audit.reading.view import LogView, judged
from strongroom.core.errors import UnavailableError

_SCHEMA: Final = {
    "place": "CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 0), origin TEXT NOT NULL,"
    " size INTEGER NOT NULL, peaks BLOB NOT NULL)",
    "entry": "CREATE TABLE entry (i INTEGER PRIMARY KEY, at INTEGER NOT NULL, event TEXT NOT NULL,"
    " outcome TEXT NOT NULL)",
    "term": "CREATE TABLE term (trait TEXT NOT NULL, value TEXT NOT NULL, i INTEGER NOT NULL,"
    " PRIMARY KEY (trait, value, i)) WITHOUT ROWID",
    "request": "CREATE TABLE request (digest TEXT PRIMARY KEY, model TEXT NOT NULL, i INTEGER NOT NULL) WITHOUT ROWID",
    "entry_at": "CREATE INDEX entry_at ON entry (at)",
    "entry_event": "CREATE INDEX entry_event ON entry (event)",
}
_PRAGMAS: Final = (
    # A hostile file's schema can name functions: none of them runs.
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
    # One search at a time: a second one must not throw away what the first one is building.
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    # After a power failure the last steps are taken anew.
    "synchronous = NORMAL",
)
_NOT_THE_FILES_FAULT: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)
_PATIENCE: Final = 2.0
"""Seconds to wait for another search."""
_FEW: Final = 20_000
"""Entries of one person, model or platform that are looked through one by one."""
_AFTER_HEX: Final = "g"
"""Sorts behind every hex digit: the end of the range that a prefix spans."""


class SqliteIndex:
    """An index in one file, for one process. Several threads may ask it, and one at a time lets it grow. Close it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.RLock()
        """Held while the file is asked, never while the log is."""
        self._growing = threading.Lock()
        self._fits = False
        """Whether the file was shown to be of this log, by this process: its own word on that counts nothing."""
        self._db = self._opened()

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._db.close()

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

    def find(self, query: Query, limit: int, before: int) -> tuple[int, ...]:
        """Return where the newest ``limit`` of the first ``before`` entries stand that answer a query, oldest first.

        :raises IndexWrongError: the file can't be read.
        """
        terms, conditions, values = list[str](), ["e.i < ?"], list[str | int]([before])
        for n, (trait, value) in enumerate(query.traits.items()):
            terms.append(f"term t{n}")
            if n:
                conditions.append(f"t{n}.i = t0.i")
            if trait is Trait.REQUEST:
                # A digest may be cut short: its beginning spans a range.
                conditions.append(f"t{n}.trait = ? AND t{n}.value >= ? AND t{n}.value < ?")
                values += [trait.value, value, value + _AFTER_HEX]
            else:
                conditions.append(f"t{n}.trait = ? AND t{n}.value = ?")
                values += [trait.value, value]
        if query.event is not None:
            conditions.append(f"e.event IN ({','.join('?' * len(query.events))})")
            values += sorted(query.events)
        for column, compared, wanted in (
            ("e.outcome", "=", query.outcome),
            ("e.at", ">=", query.since),
            ("e.at", "<", query.until),
        ):
            if wanted is not None:
                conditions.append(f"{column} {compared} ?")
                values.append(wanted)
        # Both lie in the order of the log, and are read from its end, as few as are shown: by the terms, unless these
        # are very many and an event is asked for, of which there may be few.
        by_event = query.event is not None and not self._few(query)
        source = " CROSS JOIN ".join(["entry e", *terms] if by_event else [*terms, "entry e"])
        conditions += ["e.i = t0.i"] if terms else []
        order = "t0.i" if terms and not by_event else "e.i"
        # A beginning of a digest may be that of several in one entry.
        what = f"DISTINCT {order}" if query.request is not None else order
        # Only the placeholders' number and fixed names are put into the text.
        text = f"SELECT {what} FROM {source} WHERE {' AND '.join(conditions)} ORDER BY {order} DESC LIMIT ?"  # noqa: S608
        with self._turn, _trusting_nothing():
            found = self._db.execute(text, [*values, limit]).fetchall()
            return tuple(_place_in(row) for row in reversed(found))

    def recorded(self, request: str) -> int | None:
        """Return where a request was recorded.

        :raises IndexWrongError: the file can't be read.
        """
        with self._turn, _trusting_nothing():
            row = self._db.execute("SELECT i FROM request WHERE digest = ?", [request]).fetchone()
            return None if row is None else _place_in(row)

    def discard(self) -> None:
        """Delete the file and begin an empty one."""
        with self._turn:
            self._fits = False
            self._db.close()
            _delete(self._path)
            self._db = self._opened()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return self._connected()
        except IndexWrongError:
            _delete(self._path)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        # Made here and not by SQLite, so that nobody else may read who asked for what, whoever made the file before.
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=_PATIENCE, check_same_thread=False)
        try:
            with _trusting_nothing():
                for pragma in _PRAGMAS:
                    db.execute(f"PRAGMA {pragma}").fetchall()
                with closing(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")) as rows:
                    found = dict(rows.fetchall())
                if not found:
                    db.execute("BEGIN IMMEDIATE")
                    for text in _SCHEMA.values():
                        db.execute(text)
                    db.execute("COMMIT")
                elif found != _SCHEMA:
                    raise IndexWrongError("the index file has another form")
        except BaseException:
            db.close()
            raise
        return db

    def _place(self, origin: str) -> Place:
        with self._turn, _trusting_nothing():
            row = self._db.execute("SELECT origin, size, peaks FROM place").fetchone()
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
            with self._turn, _trusting_nothing():
                self._write(step, place, after)
            place = after

    def _write(self, step: _Step, before: Place, after: Place) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._place(before.origin) != before:
                # Somebody threw it away meanwhile: what comes after a gap would hide what is in it.
                raise IndexWrongError("the index file was begun anew")
            self._db.executemany("INSERT INTO request VALUES (?, ?, ?)", step.request_rows)
            self._db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", step.entry_rows)
            self._db.executemany("INSERT INTO term VALUES (?, ?, ?)", step.term_rows)
            self._db.execute(
                "INSERT OR REPLACE INTO place VALUES (0, ?, ?, ?)", [after.origin, after.size, after.peaks]
            )
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk ended it already. A second error would hide the first, and cost the whole file.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _few(self, query: Query) -> bool:
        """Tell whether one of the traits that are asked for is that of few entries."""
        text = "SELECT count(*) FROM (SELECT 1 FROM term WHERE trait = ? AND value = ? LIMIT ?)"
        with self._turn, _trusting_nothing():
            return any(
                self._db.execute(text, [trait.value, value, _FEW]).fetchone()[0] < _FEW
                for trait, value in query.traits.items()
            )

    def _model_of(self, request: str) -> str | None:
        with self._turn, _trusting_nothing():
            row = self._db.execute("SELECT model FROM request WHERE digest = ?", [request]).fetchone()
        return None if row is None or not isinstance(row[0], str) else row[0]


class _Step:
    """Rows for a number of entries, written at once."""

    def __init__(self, before: ModelOf) -> None:
        self._before = before
        self._models: dict[str, str | None] = {}
        self.request_rows: list[tuple[str, str, int]] = []
        self.entry_rows: list[tuple[int, int, str, str]] = []
        self.term_rows: list[tuple[str, str, int]] = []

    def add(self, i: int, entry: Entry) -> None:
        told = recorded_request(entry)
        if told is not None and self._model_of(told[0]) is None:
            self._models[told[0]] = told[1]
            self.request_rows.append((*told, i))
        self.entry_rows.append((i, entry.at, entry.event.value, outcome_of(entry.event).value))
        self.term_rows += [(trait.value, value, i) for trait, value in traits_of(entry, self._model_of)]

    def _model_of(self, request: str) -> str | None:
        if request not in self._models:
            self._models[request] = self._before(request)
        return self._models[request]


@contextmanager
def _trusting_nothing() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _NOT_THE_FILES_FAULT:
            raise UnavailableError(
                f"the index can't be used now ({getattr(error, 'sqlite_errorname', 'SQLITE')})",
                remedy="another search or console may use it, or the disk is full; else name another file with --index",
            ) from None
        raise IndexWrongError("the index file can't be read") from None


def _place_in(row: tuple[object, ...]) -> int:
    place = row[0]
    if not isinstance(place, int):
        raise IndexWrongError("the index file names a place that is no number")
    return place


def _delete(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink(missing_ok=True)
