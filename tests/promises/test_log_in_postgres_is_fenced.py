"""One log writer at a time in PostgreSQL, and only where the server keeps what it promised when it was opened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.audit.adapters.postgres_store import PostgresStore
from strongroom.audit.entries import read_entry
from strongroom.audit.errors import (
    LogFencedError,
    LogHaltedError,
    StoreDamagedError,
    StoreReplacedError,
    StoreUnsafeError,
)
from strongroom.audit.facts import Producer
from strongroom.audit.sequencer import Counters, EntryStore
from strongroom.audit.store_settings import PostgresSettings, Standby
from strongroom.audit.writer import LogWriter, Tree
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.events import EventName
from support.logs import LOG_KEY, LOG_SIGNER, ORIGIN, LocalLog, next_batch, sample_entry, some_entries
from support.postgres import Cluster

pytestmark = pytest.mark.integration


@pytest.fixture
def log(postgres: Cluster, tmp_path: Path) -> LocalLog:
    made = LocalLog(tmp_path, postgres.emptied())
    made.append(some_entries(10))
    return made


def name_of(log: LocalLog) -> str:
    assert log.settings is not None
    return log.settings.parameters["dbname"]


def size_of(log: LocalLog) -> int:
    store = log.open_store()
    store.close()
    return store.frontier.size


def more(store: EntryStore, count: int = 1) -> None:
    first = store.frontier.size - 1
    store.commit(next_batch(store, [sample_entry(EventName.REFUSED, first + i) for i in range(count)]))


def end_sessions(postgres: Cluster, log: LocalLog) -> None:
    own = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'strongroom-log-writer'"
    )
    postgres.sql("postgres", f"{own} AND datname = '{name_of(log)}'")


def test_a_second_leader_takes_over_and_the_first_writes_nothing_more(postgres: Cluster, log: LocalLog) -> None:
    first, _ = log.open()
    more(first)
    end_sessions(postgres, log)
    second, _ = log.open()
    with pytest.raises(Exception, match=r"terminating connection|closed"):
        more(first)
    first.close()
    more(second, 3)
    second.close()
    assert size_of(log) == 14


def test_a_raised_epoch_stops_a_writer_whose_session_lives_on(postgres: Cluster, log: LocalLog) -> None:
    # As behind a connection pool, where the lease's session isn't the writer's own.
    store, _ = log.open()
    more(store)
    postgres.sql(name_of(log), "UPDATE strongroom_log.head SET epoch = epoch + 1")
    with pytest.raises(LogFencedError):
        more(store)
    store.close()
    assert size_of(log) == 11


def test_a_fenced_writer_halts_for_good(postgres: Cluster, log: LocalLog) -> None:
    async def run() -> None:
        counters = Counters()
        store = log.open_store(visit=lambda index, data, _leaf: counters.replay(read_entry(data), index))
        with ThreadPoolExecutor(1) as executor:
            writer = LogWriter(
                Tree(store=store, origin=ORIGIN, sign=lambda checkpoint: checkpoint.sign(LOG_SIGNER)),
                counters,
                executor=executor,
            )
            await writer.append([sample_entry(EventName.REFUSED, 9)], by=Producer.KEEPER)
            postgres.sql(name_of(log), "UPDATE strongroom_log.head SET epoch = epoch + 1")
            for _ in range(3):
                with pytest.raises(LogHaltedError):
                    await writer.append([sample_entry(EventName.REFUSED, 10)], by=Producer.KEEPER)
            # Even where the fence is gone again.
            postgres.sql(name_of(log), "UPDATE strongroom_log.head SET epoch = epoch - 1")
            with pytest.raises(LogHaltedError, match="log-fenced"):
                await writer.append([sample_entry(EventName.REFUSED, 10)], by=Producer.KEEPER)
        store.close()

    asyncio.run(run())


def test_tables_that_took_the_place_of_the_opened_ones_are_refused(postgres: Cluster, log: LocalLog) -> None:
    store, _ = log.open()
    postgres.sql(
        name_of(log),
        "SET search_path = strongroom_log",
        "ALTER TABLE checkpoint RENAME TO gone",
        "CREATE TABLE checkpoint (size bigint PRIMARY KEY, note bytea NOT NULL)",
        "INSERT INTO checkpoint SELECT * FROM gone",
    )
    with pytest.raises(StoreReplacedError):
        more(store)
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE entry SET UNLOGGED",
        "CREATE RULE lose AS ON INSERT TO entry DO INSTEAD NOTHING",
        "ALTER TABLE entry ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY hide ON entry USING (i < 5)",
        "ALTER TABLE checkpoint DROP CONSTRAINT checkpoint_pkey",
        "ALTER TABLE head DROP CONSTRAINT head_one_check",
        "ALTER TABLE entry ALTER COLUMN d DROP NOT NULL",
        "ALTER TABLE entry ADD COLUMN more text DEFAULT 'x'",
        "ALTER TABLE entry ALTER COLUMN i TYPE numeric",
        "CREATE TABLE below () INHERITS (entry)",
        "CREATE INDEX ON entry (d)",
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER TABLE head ALTER COLUMN epoch DROP NOT NULL",
    ],
)
def test_other_tables_than_our_own_are_refused(postgres: Cluster, log: LocalLog, statement: str) -> None:
    postgres.sql(name_of(log), "SET search_path = strongroom_log, pg_catalog", statement)
    with pytest.raises(StoreDamagedError):
        log.open()


@contextmanager
def set_to(postgres: Cluster, name: str, value: str) -> Iterator[None]:
    postgres.sql("postgres", f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")
    try:
        yield
    finally:
        postgres.sql("postgres", f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_doesnt_sync_is_refused(postgres: Cluster, log: LocalLog, name: str) -> None:
    with set_to(postgres, name, "off"), pytest.raises(StoreUnsafeError, match=name):
        log.open()


@pytest.mark.parametrize(
    ("name", "value"), [("fsync", "off"), ("full_page_writes", "off"), ("synchronous_standby_names", "'nobody'")]
)
def test_a_server_that_is_told_to_sync_otherwise_stops_the_writer(
    postgres: Cluster, log: LocalLog, name: str, value: str
) -> None:
    store, _ = log.open()
    more(store)
    with set_to(postgres, name, value), pytest.raises(StoreUnsafeError):
        more(store)
    store.close()
    assert size_of(log) == 11


def test_asynchronous_commits_by_default_change_nothing(postgres: Cluster, log: LocalLog) -> None:
    # The log writer's own session says what it wants.
    with set_to(postgres, "synchronous_commit", "off"):
        store, _ = log.open()
        more(store)
        store.close()


def test_a_standby_that_is_required_and_not_named_is_refused(log: LocalLog) -> None:
    assert log.settings is not None
    settings = replace(log.settings, standby=Standby.REQUIRED)
    with pytest.raises(StoreUnsafeError, match="standby"):
        PostgresStore.open(settings, LOG_KEY, password_file=log.home / "pgpass", lease_seconds=2)


def test_a_commit_that_gave_up_on_its_standby_isnt_acknowledged(postgres: Cluster, log: LocalLog) -> None:
    # The server calls that a success, with a warning: it is durable here, and perhaps nowhere else.
    with ThreadPoolExecutor(1) as executor, set_to(postgres, "synchronous_standby_names", "'nobody'"):
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        # The opening itself must get past the standby that isn't there.
        opening = executor.submit(log.open_store)
        while not opening.done():
            postgres.sql("postgres", cancel)
        store = opening.result()
        committing = executor.submit(more, store)
        while not committing.done():
            postgres.sql("postgres", cancel)
        with pytest.raises(StoreUnsafeError, match="warned"):
            committing.result()
        store.close()


def test_a_lost_server_is_told_without_what_was_sent(log: LocalLog, tmp_path: Path) -> None:
    settings = PostgresSettings(
        parameters={"host": str(tmp_path), "user": "hidden-user", "dbname": "vault"}, standby=Standby.NONE
    )
    with pytest.raises(UnavailableError) as caught:
        PostgresStore.open(settings, LOG_KEY, password_file=log.home / "pgpass")
    assert "hidden-user" not in caught.value.diagnosis()


def test_a_password_that_others_can_read_is_refused(log: LocalLog) -> None:
    assert log.settings is not None
    path = log.home / "pgpass"
    path.write_text("*:*:*:log:pass phrase\n")
    path.chmod(0o640)
    with pytest.raises(UsageError, match="pgpass"):
        log.open()
    path.chmod(0o600)
    log.open()[0].close()


def test_a_password_in_the_environment_is_refused(log: LocalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "pass phrase")
    with pytest.raises(UsageError) as caught:
        log.open()
    assert "pass phrase" not in caught.value.diagnosis()
