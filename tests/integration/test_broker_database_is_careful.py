"""The broker's database: migrations that match the code and run once, durable writes, readers that can't write."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from strongroom.broker.adapters.database import migrate, open_engines
from strongroom.broker.adapters.schema import METADATA
from strongroom.broker.adapters.store import Store
from strongroom.broker.errors import StoredRowError
from strongroom.broker.ports import VoiceKind, VoiceRow, WrappedRow
from strongroom.core.errors import ConflictError, UnavailableError

pytestmark = pytest.mark.integration  # an event loop needs a socket pair


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker" / "broker.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store.open(path)
    yield opened
    opened.close()


def schema(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_migrations_make_what_the_code_expects(store: Store) -> None:
    with store._reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


def test_migrations_run_once(path: Path) -> None:
    Store.open(path).close()
    before = schema(path)
    Store.open(path).close()
    assert schema(path) == before
    assert {name for kind, name, _sql in before if kind == "table" and not name.startswith("sqlite_")} == {
        "alembic_version", "approvals", "documents", "manifests", "platforms", "requests", "wrapped_keys",
    }  # fmt: skip


def test_a_failed_migration_leaves_nothing_behind(path: Path) -> None:
    writer, reader = open_engines(path)
    with writer.begin() as connection:
        connection.execute(text("CREATE TABLE platforms (mine TEXT)"))
    with pytest.raises(StoredRowError, match="schema"), writer.begin() as connection:
        migrate(connection)
    assert [name for _kind, name, _sql in schema(path)] == ["platforms"]
    for engine in (writer, reader):
        engine.dispose()


def test_a_schema_of_the_future_is_refused(path: Path) -> None:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoredRowError, match="schema"):
        Store.open(path)


@pytest.mark.parametrize("content", [b"not a database" * 100, bytes(8192)])
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises((UnavailableError, StoredRowError)):
        Store.open(path)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(UnavailableError):
        Store.open(path)
    assert not (tmp_path / "elsewhere.db").exists()


def test_every_connection_is_durable_and_checks_references(store: Store) -> None:
    for engine in (store._writer, store._reader):
        with engine.connect() as connection:
            found = [
                connection.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        assert found == ["wal", 2, 1, 5000]


def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(OperationalError, match="readonly"), store._reader.begin() as connection:
        connection.execute(text("DELETE FROM approvals"))


def test_errors_keep_what_was_stored_to_themselves(store: Store) -> None:
    with pytest.raises(OperationalError) as caught, store._writer.begin() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:x)"), {"x": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_an_approval_of_no_request_is_refused(store: Store) -> None:
    row = VoiceRow(request="sha256:0", kind=VoiceKind.APPROVE, envelope="{}", created=1)
    with pytest.raises(ConflictError):
        asyncio.run(store.put_voice(row))


def test_the_newest_key_is_found(store: Store) -> None:
    async def story() -> list[str]:
        for name, version in (("a", 1), ("b", 2), ("c", 2), ("d", 1)):
            await store.put_wrapped(WrappedRow(data_key=name, model="m", version=version, body="{}"))
        found = [await store.newest_wrapped("m"), await store.newest_wrapped("m", 1), await store.newest_wrapped("x")]
        return [row.data_key if row else "" for row in found]

    assert asyncio.run(story()) == ["c", "d", ""]


def test_many_writers_at_once_all_succeed(store: Store) -> None:
    async def story() -> None:
        rows = [WrappedRow(data_key=str(n), model="m", version=1, body="{}") for n in range(40)]
        await asyncio.gather(*(store.put_wrapped(row) for row in rows))
        assert all([await store.wrapped(row.data_key) == row for row in rows])

    asyncio.run(story())
