"""Searching the index file: by connections that only read, and never more than so much work at once.

The file may be damaged or made by somebody else: nothing in its schema is trusted to run, no statement over it goes on
for ever, and what it answers is confirmed by :mod:`strongroom.audit.reading.search`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from strongroom.audit.reading.query import Query, Trait, outcome_of
from strongroom.audit.reading.search import IndexWrongError, Places
from strongroom.core.canonical import MAX_INTEGER
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.events import EventName

FEW: Final = 20_000
"""So far entries are counted, to begin with whatever is in the fewest."""
SLICE: Final = 16_384
"""Places that one statement looks through."""
TICK: Final = 1000
"""Steps of SQLite's machine by which work is measured: a time would be another one on each machine."""
WORK: Final = 600
"""Ticks after which a search says how far it came: some hundredths of a second."""
ENDLESS: Final = 200_000
"""Ticks that no statement over an undamaged file takes: a file can be made so that one never ends."""
MOST_BYTES: Final = 1 << 20
"""Bytes of one value or row: a small file can be made that names gigabytes."""
MOST_DIGESTS: Final = 100
IDLE: Final = 8
"""Connections that wait for the next search."""
PRAGMAS: Final = (
    # A hostile file's schema can name functions: none of them runs.
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
)
_NOT_THE_FILES_FAULT: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)
_AFTER_HEX: Final = "g"
"""Sorts behind every hex digit: the end of the range that a prefix spans."""
IN_USE: Final = "another search or console may use it, or the disk is full; else name another file with --index"
_DIGEST: Final = len("sha256:") + 64


class Work:
    """Counts what a connection does, and ends what would never end."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.ticks = 0
        self._ends = ENDLESS
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
        db.set_progress_handler(self._tick, TICK)

    def begin(self) -> None:
        """Allow as much again."""
        self._ends = self.ticks + ENDLESS

    def _tick(self) -> bool:
        self.ticks += 1
        return self.ticks > self._ends


class Reader:
    """A connection that only reads, and counts the work of what it is asked."""

    def __init__(self, path: Path, generation: int) -> None:
        self.generation = generation
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        self._work = Work(self._db)
        for pragma in PRAGMAS:
            self._db.execute(f"PRAGMA {pragma}").fetchall()

    @property
    def ticks(self) -> int:
        """How much it did so far."""
        return self._work.ticks

    def rows(self, text: str, values: Sequence[str | int]) -> list[tuple[object, ...]]:
        """Return what a statement finds."""
        self._work.begin()
        return self._db.execute(text, values).fetchall()

    def places(self, text: str, values: Sequence[str | int]) -> list[int]:
        """Return the places that a statement finds.

        :raises IndexWrongError: one is no place.
        """
        found = [row[0] for row in self.rows(text, values)]
        places = [place for place in found if isinstance(place, int)]
        if len(places) != len(found):
            raise IndexWrongError("the index file names a place that is no number")
        return places

    def place(self, text: str, values: Sequence[str | int]) -> int | None:
        """Return the first place that a statement finds; None where it finds none."""
        return next(iter(self.places(text, values)), None)

    def close(self) -> None:
        """Close it."""
        self._db.close()


class Readers:
    """Connections for searches, each for one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._idle: list[Reader] = []
        self._generation = 0

    @contextmanager
    def one(self) -> Iterator[Reader]:
        """Lend a connection."""
        with self._turn:
            reader = self._idle.pop() if self._idle else None
            generation = self._generation
        reader = reader or Reader(self._path, generation)
        try:
            yield reader
        finally:
            with self._turn:
                keep = reader.generation == self._generation and len(self._idle) < IDLE
                if keep:
                    self._idle.append(reader)
            if not keep:
                reader.close()

    def renew(self) -> None:
        """Lend none any more that was opened before: the file is another one."""
        with self._turn:
            old, self._idle = self._idle, []
            self._generation += 1
        for reader in old:
            reader.close()


@dataclass(frozen=True, slots=True)
class Way:
    """Something that entries are found by, in the order of their places: one of several values of a column."""

    table: str
    condition: str
    values: tuple[str, ...]
    fixed: tuple[str, ...] = ()

    def newest(self, reader: Reader, before: int) -> int | None:
        """Return the newest place before another one."""
        text = f"SELECT i FROM {self.table} WHERE {self.condition} = ? AND i < ? ORDER BY i DESC LIMIT 1"  # noqa: S608
        found = (reader.place(text, [*self.fixed, value, before]) for value in self.values)
        return max((place for place in found if place is not None), default=None)

    def count(self, reader: Reader, before: int) -> int:
        """Return how many places there are before one, counted up to :data:`FEW`."""
        inner = f"SELECT 1 FROM {self.table} WHERE {self.condition} {among(self.values)} AND i < ? LIMIT ?"  # noqa: S608
        counted = reader.place(f"SELECT count(*) FROM ({inner})", [*self.fixed, *self.values, before, FEW])  # noqa: S608
        return counted or 0


class Search:
    """One search by one connection."""

    def __init__(self, reader: Reader, query: Query) -> None:
        self._reader = reader
        self._query = query
        events = sorted(event.value for event in query.events if query.outcome in {None, outcome_of(event)})
        self._asks_event = len(events) < len(EventName)
        self._event = Way("entry", "event", tuple(events))
        self._terms = [
            Way("term", "trait = ? AND value", self._digests(value) if trait is Trait.REQUEST else (value,), (trait,))
            for trait, value in query.traits.items()
        ]

    def run(self, limit: int, before: int) -> Places:
        """Look from a place down, until enough is found or much was looked through."""
        floor, high = self._span(before)
        if not all(way.values for way in (*self._terms, self._event)):
            return Places((), 0)
        lead = min(self._ways, key=lambda way: way.count(self._reader, high), default=None)
        text, values = self._statement(lead)
        found, ends = list[int](), self._reader.ticks + WORK
        while high > floor and len(found) < limit:
            newest = high - 1 if lead is None else lead.newest(self._reader, high)
            if newest is not None and newest >= high:
                # Rows out of their order would lead up and down for ever.
                raise IndexWrongError("the index file names places out of their order")
            high = floor if newest is None else max(floor, newest + 1 - SLICE)
            if newest is not None:
                places = self._reader.places(text, [*values, high, newest, limit - len(found)])
                if any(after >= before or after < high for before, after in pairwise((newest + 1, *places))):
                    raise IndexWrongError("the index file names places out of their order")
                found += places
            if self._reader.ticks >= ends:
                break
        looked = found[-1] if found and len(found) >= limit else high
        return Places(tuple(reversed(found)), looked if looked > floor else 0)

    @property
    def _ways(self) -> list[Way]:
        return [*self._terms, *([self._event] if self._asks_event else [])]

    def _span(self, before: int) -> tuple[int, int]:
        """Return from which place to which the log is looked through: less of it where few entries are of the time."""
        since, until = self._query.since, self._query.until
        if since is None and until is None:
            return 0, before
        text = "SELECT min(i), max(i), count(*) FROM (SELECT i FROM entry WHERE at >= ? AND at < ? LIMIT ?)"
        span = self._reader.rows(text, [since or 0, MAX_INTEGER if until is None else until, FEW])
        match span:
            case [(int() as first, int() as last, int() as count)] if count < FEW:
                return first, min(before, last + 1)
            case [(None, None, 0)]:
                return 0, 0
            case [(int(), int(), int())]:
                return 0, before
            case _:
                raise IndexWrongError("the index file names a place that is no number")

    def _statement(self, lead: Way | None) -> tuple[str, list[str | int]]:
        """Return what looks through a slice, and its values but for the slice's first and last place and the limit."""
        query = self._query
        terms = sorted(self._terms, key=lambda way: way is not lead)
        names = [f"t{n}" for n, _way in enumerate(terms)]
        conditions, values = list[str](), list[str | int]()
        for name, way in zip(names, terms, strict=True):
            conditions.append(f"{name}.trait = ? AND {name}.value {among(way.values)}")
            values += [*way.fixed, *way.values]
        by_term = bool(terms) and terms[0] is lead
        timed = query.since is not None or query.until is not None
        if not by_term or self._asks_event or timed:
            names.insert(len(names) if by_term else 0, "e")
        if self._asks_event:
            conditions.append(f"e.event {among(self._event.values)}")
            values += self._event.values
        for compared, wanted in ((">=", query.since), ("<", query.until)):
            if wanted is not None:
                conditions.append(f"e.at {compared} ?")
                values.append(wanted)
        first, *others = names
        conditions += [*(f"{name}.i = {first}.i" for name in others), f"{first}.i BETWEEN ? AND ?"]
        # The first table leads. A beginning of a digest may be that of several in one entry.
        what = f"DISTINCT {first}.i" if query.request is not None else f"{first}.i"
        tables = " CROSS JOIN ".join(f"{'entry' if name == 'e' else 'term'} {name}" for name in names)
        # Only the placeholders' number and fixed names are put into the text.
        text = f"SELECT {what} FROM {tables} WHERE {' AND '.join(conditions)} ORDER BY {first}.i DESC LIMIT ?"  # noqa: S608
        return text, values

    def _digests(self, beginning: str) -> tuple[str, ...]:
        """Return the digests of requests that begin so.

        :raises UsageError: more than :data:`MOST_DIGESTS`.
        """
        if len(beginning) == _DIGEST:
            return (beginning,)
        text = "SELECT value FROM term WHERE trait = ? AND value > ? AND value < ? ORDER BY value LIMIT 1"
        found, last = list[str](), beginning
        while row := self._reader.rows(text, [Trait.REQUEST.value, last, beginning + _AFTER_HEX]):
            if not isinstance(row[0][0], str):
                raise IndexWrongError("the index file names a request that is no text")
            last = row[0][0]
            found.append(last)
            if len(found) > MOST_DIGESTS:
                raise UsageError(f"more than {MOST_DIGESTS} requests begin like that", remedy="give more of its digest")
        return tuple(found)


@contextmanager
def trusting_nothing() -> Iterator[None]:
    """Say what a file's errors mean.

    :raises UnavailableError: it can't be used now. :raises IndexWrongError: it is damaged.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        # It was closed under somebody who was still at it: that says nothing about the file.
        raise UnavailableError("the index was closed", remedy="ask again") from None
    except (sqlite3.Error, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _NOT_THE_FILES_FAULT:
            raise UnavailableError(
                f"the index can't be used now ({getattr(error, 'sqlite_errorname', 'SQLITE')})",
                remedy=IN_USE,
            ) from None
        raise IndexWrongError("the index file can't be read") from None


def among(values: Sequence[str]) -> str:
    """Return the condition that a column has one of these values, with a placeholder for each."""
    # One value is compared by itself: SQLite then reads its places in their order, and sorts none.
    return "= ?" if len(values) == 1 else f"IN ({','.join('?' * len(values))})"
