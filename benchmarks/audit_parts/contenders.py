"""Who appends: our log over both stores, in this process and through its socket, and four plain ways beside it.

Each run begins in a fresh folder or database. Folders are removed when all is over: deleting makes the next syncs slow.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from benchmarks.audit_parts.load import Measured, by_tasks, by_threads

from strongroom.audit.adapters.client import LogClient
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.facts import Producer
from strongroom.audit.sequencer import CheckpointSigner, Counters
from strongroom.audit.wiring import Places
from strongroom.audit.writer import LogWriter, Tree
from support.logs import LOG_SIGNER, ORIGIN, LocalLog, found_home, log_writer, opening
from support.postgres import Cluster


@dataclass(frozen=True)
class Ground:
    """Where runs take place: a folder on the disk that is measured, and a cluster on the same disk."""

    folder: Path
    cluster: Cluster
    entries: Sequence[bytes]
    seconds: float

    def fresh(self) -> Path:
        """Return a new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def database(self) -> str:
        """Return the name of a new database."""
        name = f"run_{os.urandom(6).hex()}"
        self.cluster.database(name)
        return name

    def connect(self, database: str) -> Any:
        """Return a connection that commits each statement and prepares it at once."""
        connection = psycopg.connect(
            host=str(self.cluster.sockets), user="log", dbname=database, autocommit=True, prepare_threshold=0
        )
        connection.execute("SET synchronous_commit = on")
        return connection


def signed(checkpoint: Checkpoint) -> bytes:
    """Sign a tree head as the log does."""
    return checkpoint.sign(LOG_SIGNER)


def unsigned(checkpoint: Checkpoint) -> bytes:
    """Leave a tree head unsigned: what signing costs is the difference."""
    return checkpoint.text().encode()


def in_process(ground: Ground, callers: int, *, postgres: bool, sign: CheckpointSigner) -> Measured:
    """Append to our log writer in this process."""
    settings = ground.cluster.settings(ground.database()) if postgres else None
    store = LocalLog(ground.fresh(), settings).open_store()

    async def run() -> Measured:
        with ThreadPoolExecutor(1) as executor:
            writer = LogWriter(Tree(store=store, origin=ORIGIN, sign=sign), Counters(), executor=executor)
            await writer.append((opening(),), by=Producer.LOG)
            return await by_tasks(
                lambda data: writer.submit((data,), by=Producer.KEEPER), iter(ground.entries), callers, ground.seconds
            )

    try:
        return uvloop.run(run())
    finally:
        store.close()


def through_socket(ground: Ground, callers: int, *, postgres: bool) -> Measured:
    """Append to the real log writer: a process of its own, which also publishes. One connection, as the keeper has."""
    home, _, _ = found_home(ground.fresh() / "home")
    if postgres:
        ground.cluster.choose(home)

    async def run() -> Measured:
        async with await LogClient.connect(Places(home).socket) as client:
            return await by_tasks(
                lambda data: client.begin_append((data,)), iter(ground.entries), callers, ground.seconds
            )

    with log_writer(home):
        return uvloop.run(run())


def file_sync(ground: Ground, callers: int) -> Measured:
    """Append to a file and sync it, for each entry."""
    handle = os.open(ground.fresh() / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lock = threading.Lock()

    def append(data: bytes) -> None:
        with lock:
            os.write(handle, data)
            os.fdatasync(handle)

    try:
        return by_threads([append] * callers, ground.entries, ground.seconds)
    finally:
        os.close(handle)


def sqlite_chain(ground: Ground, callers: int) -> Measured:
    """Append to a hash chain in SQLite (WAL, FULL), one transaction for each entry."""
    db = sqlite3.connect(ground.fresh() / "chain.db", isolation_level=None, check_same_thread=False)
    for statement in (
        "PRAGMA locking_mode=EXCLUSIVE",
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE entry (i INTEGER PRIMARY KEY, d BLOB NOT NULL, h BLOB NOT NULL) STRICT",
    ):
        db.execute(statement).fetchall()
    lock, head = threading.Lock(), b""

    def append(data: bytes) -> None:
        nonlocal head
        with lock:
            head = hashlib.sha256(head + data).digest()
            db.execute("INSERT INTO entry (d, h) VALUES (?, ?)", (data, head))

    try:
        return by_threads([append] * callers, ground.entries, ground.seconds)
    finally:
        db.close()


def _over_connections(ground: Ground, callers: int, create: Sequence[str], statement: str) -> Measured:
    database = ground.database()
    with ExitStack() as stack:
        connections = [stack.enter_context(ground.connect(database)) for _ in range(callers)]
        for one in create:
            connections[0].execute(one)

        def append_with(connection: Any) -> Callable[[bytes], object]:
            return lambda data: connection.execute(statement, (data, data), binary=True)

        return by_threads([append_with(one) for one in connections], ground.entries, ground.seconds)


def postgres_plain(ground: Ground, callers: int) -> Measured:
    """Insert a row into PostgreSQL, one transaction for each entry, a connection for each caller. No chain at all."""
    create = ("CREATE TABLE entry (i bigserial PRIMARY KEY, d bytea NOT NULL)",)
    return _over_connections(ground, callers, create, "INSERT INTO entry (d) SELECT %s::bytea WHERE %s IS NOT NULL")


def postgres_chain(ground: Ground, callers: int) -> Measured:
    """Extend a hash chain in PostgreSQL: one statement and one transaction for each entry, the head's row locked."""
    create = (
        "CREATE TABLE entry (i bigint PRIMARY KEY, d bytea NOT NULL, h bytea NOT NULL)",
        "CREATE TABLE head (i bigint NOT NULL, h bytea NOT NULL)",
        "INSERT INTO head VALUES (0, '')",
    )
    statement = (
        "WITH moved AS (UPDATE head SET i = i + 1, h = sha256(h || %s::bytea) RETURNING i, h) "
        "INSERT INTO entry SELECT i, %s, h FROM moved"
    )
    return _over_connections(ground, callers, create, statement)


CONTENDERS: dict[str, Callable[[Ground, int], Measured]] = {
    "strongroom, SQLite": lambda ground, callers: in_process(ground, callers, postgres=False, sign=signed),
    "  SQLite, unsigned": lambda ground, callers: in_process(ground, callers, postgres=False, sign=unsigned),
    "  SQLite, by socket": lambda ground, callers: through_socket(ground, callers, postgres=False),
    "strongroom, PostgreSQL": lambda ground, callers: in_process(ground, callers, postgres=True, sign=signed),
    "  PostgreSQL, by socket": lambda ground, callers: through_socket(ground, callers, postgres=True),
    "file and fdatasync": file_sync,
    "SQLite, chain": sqlite_chain,
    "PostgreSQL, plain": postgres_plain,
    "PostgreSQL, chain": postgres_chain,
}
