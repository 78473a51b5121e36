"""Power fails during a write: each 512-byte sector that wasn't synced yet persists or not, in any combination.

A model of the disk below SQLite's files: what was synced stays, what was written since is kept or lost sector by
sector, and so is the growth of a file. Whatever comes of it, what was acknowledged is there, and the last batch is
there whole or not at all.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.audit.adapters.sqlite_store import SqliteStore
from support.logs import LOG_KEY, next_batch, some_entries

SECTOR: Final = 512
WAL_HEADER: Final = 32
NAMES: Final = (
    "one entry",
    "many entries",
    "the first batch",
    "folding the WAL",
    "the header of a new round",
    "the frames of a new round",
)


@dataclass(frozen=True)
class Moment:
    """The files of a store at one moment."""

    db: bytes
    wal: bytes

    @classmethod
    def of(cls, path: Path) -> Moment:
        return cls(path.read_bytes(), Path(f"{path}-wal").read_bytes())

    def recovered(self) -> tuple[bytes, ...]:
        """Open what these files hold, as a start after the crash does; returns the entries."""
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "log.db"
            path.write_bytes(self.db)
            Path(f"{path}-wal").write_bytes(self.wal)
            store = SqliteStore.open(path, LOG_KEY)
            entries = store.read(0, store.frontier.size)
            store.close()
            return entries


def torn(synced: bytes, written: bytes, kept: Collection[int], *, length: int) -> bytes:
    """Return a file of ``length`` bytes in which only the ``kept`` ones of the changed sectors reached the disk."""
    out = bytearray(written[:length].ljust(length, b"\0"))
    for number, start in enumerate(changed(synced, written)):
        if number not in kept:
            # Beyond the synced end the file system shows zeros, or the file is shorter.
            out[start : start + SECTOR] = synced[start : start + SECTOR].ljust(SECTOR, b"\0")
    return bytes(out[:length])


@functools.lru_cache
def changed(synced: bytes, written: bytes) -> tuple[int, ...]:
    """Return where each sector starts that differs."""
    end = max(len(synced), len(written))
    starts = range(0, end, SECTOR)
    return tuple(start for start in starts if synced[start : start + SECTOR] != written[start : start + SECTOR])


@dataclass(frozen=True)
class Crash:
    """What was synced, what was being written, and how many entries were acknowledged before."""

    synced: Moment
    written: Moment
    entries: tuple[bytes, ...]
    acknowledged: int


def committing(*, entries: int, last: int) -> Crash:
    """Return a crash in the middle of the last commit."""
    made = some_entries(entries + last)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.db"
        store = SqliteStore.open(path, LOG_KEY)
        for start in range(0, entries, 5):
            store.commit(next_batch(store, made[start : min(start + 5, entries)]))
        synced = Moment.of(path)
        store.commit(next_batch(store, made[entries:]))
        written = Moment.of(path)
        store.close()
    return Crash(synced, written, tuple(made), entries)


def restarting() -> tuple[Crash, Crash]:
    """Return two crashes in a commit over the frames of an older round of the WAL: of its header, and of its frames.

    SQLite syncs the new header before it writes the frames (its ticket ff5be73dee): under the old one, older frames
    would come back over newer pages. ``test_log_failed_sync_is_final`` sees that sync.
    """
    made = some_entries(43)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.db"
        store = SqliteStore.open(path, LOG_KEY)
        for start in range(0, 40, 5):
            store.commit(next_batch(store, made[start : start + 5]))
        store._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        before = Moment.of(path)
        store.commit(next_batch(store, made[40:]))
        written = Moment.of(path)
        store.close()
    header = Moment(before.db, written.wal[:WAL_HEADER] + before.wal[WAL_HEADER:])
    assert header.wal != before.wal
    return (
        Crash(before, header, tuple(made[:40]), 40),
        Crash(header, written, tuple(made), 40),
    )


def folding() -> Crash:
    """Return a crash while the WAL, which is synced, is written back into the database file."""
    made = some_entries(60)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.db"
        store = SqliteStore.open(path, LOG_KEY)
        for start in range(0, 60, 5):
            store.commit(next_batch(store, made[start : start + 5]))
        synced = Moment.of(path)
        store._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        written = Moment.of(path)
        store.close()
    assert synced.wal == written.wal
    assert changed(synced.db, written.db)
    return Crash(synced, written, tuple(made), 60)


@functools.lru_cache
def crashes() -> dict[str, Crash]:
    return {
        "one entry": committing(entries=20, last=1),
        "many entries": committing(entries=20, last=40),
        "the first batch": committing(entries=0, last=5),
        "folding the WAL": folding(),
        "the header of a new round": restarting()[0],
        "the frames of a new round": restarting()[1],
    }


def check(crash: Crash, data: st.DataObject) -> None:
    sides = [(crash.synced.db, crash.written.db), (crash.synced.wal, crash.written.wal)]
    files = []
    for synced, written in sides:
        sectors = changed(synced, written)
        kept = data.draw(st.sets(st.integers(0, len(sectors) - 1)) if sectors else st.just(set()))
        lengths = st.sampled_from(sorted({len(written), *(end for end in sectors if end >= len(synced))}))
        files.append(torn(synced, written, kept, length=data.draw(lengths) if sectors else len(written)))
    entries = Moment(*files).recovered()
    assert entries in (crash.entries[: crash.acknowledged], crash.entries)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_torn_write_loses_nothing_acknowledged(name: str, data: st.DataObject) -> None:
    check(crashes()[name], data)


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3000)
@given(data=st.data())
def test_torn_write_loses_nothing_acknowledged_in_many_cases(name: str, data: st.DataObject) -> None:
    check(crashes()[name], data)


@pytest.mark.parametrize("name", NAMES)
def test_all_or_nothing_at_the_ends(name: str) -> None:
    crash = crashes()[name]
    assert crash.written.recovered() == crash.entries
    assert crash.synced.recovered() == crash.entries[: crash.acknowledged]


def test_a_bit_that_flips_in_the_middle_is_never_taken_for_another_entry() -> None:
    crash = crashes()["many entries"]
    data = bytearray(crash.written.wal)
    data[len(data) // 2] ^= 1
    # SQLite's checksums end the WAL there, so everything behind the flipped bit is gone; the published checkpoint, or
    # the keeper's pins, are what tells.
    entries = Moment(crash.written.db, bytes(data)).recovered()
    assert entries == crash.entries[: len(entries)]
