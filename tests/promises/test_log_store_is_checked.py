"""The log writer's own store in hostile hands, stopped or running: the same promises of SQLite and of PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from strongroom.audit.errors import LogBusyError, StoreDamagedError, StoreReplacedError
from strongroom.core.events import EventName
from support.logs import LocalLog, next_batch, sample_entry, some_entries
from support.postgres import VAULT, Cluster

pytestmark = pytest.mark.integration
SIZE: Final = 600


@dataclass
class Place:
    """A log of 600 entries, and a way to its rows past the log writer. ``{b}`` in SQL is the bytes of ``{}``."""

    log: LocalLog
    cluster: Cluster | None = None

    def sql(self, *statements: str) -> None:
        if self.cluster is None:
            db = sqlite3.connect(self.log.db, isolation_level=None)
            for statement in statements:
                db.execute(statement.format(b="x'7b7d'", no="zeroblob(128)"))
            db.close()
            return
        self.cluster.sql(
            VAULT,
            "SET search_path = strongroom_log",
            *(
                statement.format(b=r"'\x7b7d'::bytea", no=r"decode(repeat('00', 128), 'hex')")
                for statement in statements
            ),
        )

    def keep(self) -> None:
        """Copy the store as it is."""
        if self.cluster is None:
            shutil.copy(self.log.db, self.log.home / "older.db")
        else:
            self.cluster.sql("postgres", f"CREATE DATABASE older TEMPLATE {VAULT}")

    def roll_back(self) -> None:
        """Put what :meth:`keep` copied in the store's place."""
        if self.cluster is None:
            shutil.copy(self.log.home / "older.db", self.log.db)
            return
        self.cluster.sql("postgres", f"ALTER DATABASE {VAULT} RENAME TO newer")
        self.cluster.sql("postgres", f"ALTER DATABASE older RENAME TO {VAULT}")

    def lose(self) -> None:
        if self.cluster is None:
            self.log.db.unlink()
        else:
            self.sql("DROP SCHEMA strongroom_log CASCADE")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        made = Place(LocalLog(tmp_path))
    else:
        cluster: Cluster = request.getfixturevalue("postgres")
        made = Place(LocalLog(tmp_path, cluster.emptied()), cluster)
    made.log.append(some_entries(SIZE))
    return made


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET d = {b} WHERE i = 300",
        "DELETE FROM entry WHERE i = 599",
        "DELETE FROM entry WHERE i = 300",
        "DELETE FROM entry",
        "INSERT INTO entry VALUES (600, {b})",
        "INSERT INTO entry VALUES (-1, {b})",
        "UPDATE head SET size = 599",
        "UPDATE head SET frontier = {no}",
        "DELETE FROM head",
        "DELETE FROM checkpoint",
        "DELETE FROM checkpoint WHERE size = 600",
        "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 64) WHERE size = 600",
        "UPDATE checkpoint SET note = {b} WHERE size = 64",
        "INSERT INTO checkpoint SELECT 700, note FROM checkpoint WHERE size = 600",
        "CREATE VIEW shadow AS SELECT 1",
        "CREATE TABLE other (i INTEGER)",
    ],
)
def test_changed_store_is_refused(place: Place, statement: str) -> None:
    place.sql(statement)
    with pytest.raises(StoreDamagedError):
        place.log.open()


def test_sqlite_trigger_is_refused(tmp_path: Path) -> None:
    place = Place(LocalLog(tmp_path))
    place.log.append(some_entries(3))
    place.sql("CREATE TRIGGER lose AFTER INSERT ON entry BEGIN DELETE FROM entry WHERE i = new.i; END")
    with pytest.raises(StoreDamagedError):
        place.log.open()


def test_store_goes_on_where_it_ended(place: Place) -> None:
    place.log.append([sample_entry(EventName.REFUSED, seq) for seq in range(SIZE - 1, SIZE + 50)])
    store, _ = place.log.open()
    assert store.frontier.size == SIZE + 51
    assert store.read(SIZE + 49, 20) == (
        sample_entry(EventName.REFUSED, SIZE + 48),
        sample_entry(EventName.REFUSED, SIZE + 49),
    )
    store.close()


def test_rolled_back_store_is_refused(place: Place) -> None:
    place.keep()
    place.log.append([sample_entry(EventName.REFUSED, seq) for seq in range(599, 620)])
    place.roll_back()
    with pytest.raises(StoreDamagedError):
        place.log.open()


def test_lost_store_isnt_begun_anew(place: Place) -> None:
    place.lose()
    for _ in range(2):
        with pytest.raises(StoreDamagedError, match="gone"):
            place.log.open()
    assert not place.log.db.exists()


def test_second_log_writer_is_refused(place: Place) -> None:
    store, _ = place.log.open()
    with pytest.raises(LogBusyError):
        place.log.open()
    store.commit(next_batch(store, [sample_entry(EventName.REFUSED, SIZE - 1)]))
    store.close()
    again, _ = place.log.open()
    assert again.frontier.size == SIZE + 1
    again.close()


def test_batch_that_doesnt_continue_the_log_is_refused(place: Place) -> None:
    store, _ = place.log.open()
    batch = next_batch(store, [sample_entry(EventName.REFUSED, SIZE - 1)])
    store.commit(batch)
    with pytest.raises(StoreDamagedError):
        store.commit(batch)
    store.close()


def test_entries_of_the_largest_size_are_kept(place: Place) -> None:
    # The store doesn't look into entries: any bytes up to the limit of 64 KiB come back as they were.
    store, _ = place.log.open()
    large = [bytes([number]) * 65_535 for number in range(40)]
    store.commit(next_batch(store, large))
    assert store.read(SIZE, 40) == tuple(large)
    store.close()
    again = place.log.open_store()
    assert again.read(SIZE, 40) == tuple(large)
    again.close()


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("again", [True, False])
def test_replaced_file_is_refused(tmp_path: Path, suffix: str, *, again: bool) -> None:
    log = LocalLog(tmp_path)
    log.append(some_entries(3))
    store, _ = log.open()
    victim = log.db.with_name(log.db.name + suffix)
    copy = victim.with_name("copy")
    shutil.copy(victim, copy)
    victim.unlink()
    if again:
        copy.rename(victim)
    with pytest.raises(StoreReplacedError):
        store.commit(next_batch(store, [sample_entry(EventName.REFUSED, 2)]))
    store.close()
