"""SQLite as a careful server uses it: WAL, synchronous FULL, one writer, readers that can't write, migrations."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL

from strongroom.broker.errors import StoredRowError
from strongroom.core.errors import UnavailableError

MIGRATIONS: Final = Path(__file__).resolve().parent.parent / "migrations"
BUSY_MILLISECONDS: Final = 5000


def open_engines(path: Path) -> tuple[Engine, Engine]:
    """Open the database at ``path`` for writing and for reading; it is made private to this user.

    :raises UnavailableError: it can't be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise UnavailableError(f"the broker's database can't be opened ({type(error).__name__})") from None
    return _engine(path, writes=True), _engine(path, writes=False)


def migrate(connection: Connection) -> None:
    """Bring the database to the newest schema, inside the connection's transaction; does nothing the second time.

    :raises StoredRowError: the database holds a schema that no migration here knows.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except Exception as error:
        raise StoredRowError(
            f"the broker's database can't be brought to this version's schema ({type(error).__name__})",
            remedy="it was changed by hand or by a newer version: restore it, or move it away, post all anew",
        ) from error


def check_pragmas(connection: Connection) -> None:
    """Refuse to serve on a database that doesn't keep what it says it has kept.

    :raises UnavailableError: the journal mode or the synchronous level isn't what was set.
    """
    mode = connection.execute(text("PRAGMA journal_mode")).scalar_one()
    level = connection.execute(text("PRAGMA synchronous")).scalar_one()
    if (mode, level) != ("wal", 2):
        raise UnavailableError("the file system of the broker's database can't keep a write-ahead log")


def _engine(path: Path, *, writes: bool) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        # Errors are logged: what was being stored stays out of them.
        hide_parameters=True,
        pool_size=1 if writes else 2,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        for pragma in (
            f"busy_timeout = {BUSY_MILLISECONDS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "trusted_schema = OFF",
            "cell_size_check = ON",
            *(() if writes else ("query_only = ON",)),
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the lock at once: two that first read and then write would fail each other.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
