"""The log's store in PostgreSQL: one connection, one statement for each commit, one log for each database, in which
each shard has a schema of its own.

Who may write is decided twice. The lease is an advisory lock of the writer's session: the server gives it to one at a
time and takes it back when that session ends. The fence is the epoch in the tree head: every opening raises it, and
each commit writes only where it still finds its own. So a writer whose session a connection pool or a fail-over
replaced behind its back writes nothing.

The server is hostile as a disk is: all of it is checked at opening. What can be seen of it while it is open (which
cluster, database, timeline and tables, and whether it still syncs) is compared inside each commit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from strongroom.audit.adapters import postgres_schema as schema
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import (
    LogBusyError,
    LogFencedError,
    StoreDamagedError,
    StoreReplacedError,
    StoreUnsafeError,
)
from strongroom.audit.merkle import Frontier
from strongroom.audit.note import VerifierKey
from strongroom.audit.sequencer import Batch
from strongroom.audit.store_settings import PostgresSettings, Standby
from strongroom.audit.stored import DAMAGED, Visitor, continues, recompute
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.extras import need

LEASE_SECONDS: Final = 20
"""How long an opening waits for the lease: longer than the server takes to give up a writer that fell silent."""
_FETCHED: Final = 500
_OPTIONS: Final = {
    "synchronous_commit": "on",
    "search_path": "pg_catalog",
    "client_min_messages": "warning",
    "row_security": "off",
    "statement_timeout": "30s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
_PARAMETERS: Final = {
    "application_name": "strongroom-log-writer",
    "connect_timeout": "10",
    "gssencmode": "disable",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "target_session_attrs": "read-write",
    "tcp_user_timeout": "10000",
}


class PostgresStore:
    """An opened store. Not safe for use by two threads at once: the writer owns it."""

    def __init__(self, connection: Any, shard: int) -> None:
        self._db = connection
        self._shard = shard
        self._commit = schema.of_shard(schema.COMMIT, shard)
        self._notices: list[str] = []
        self._db.add_notice_handler(lambda notice: self._notices.append(str(notice.sqlstate)))
        self._cursors = ExitStack()
        self._epoch = 0
        self._circumstances = ""
        self._frontier = Frontier()
        self._note: bytes | None = None

    @classmethod
    def open(
        cls,
        settings: PostgresSettings,
        key: VerifierKey,
        *,
        password_file: Path,
        shard: int = 1,
        visit: Visitor | None = None,
        expected: Checkpoint | None = None,
        lease_seconds: int = LEASE_SECONDS,
    ) -> Self:
        """Take the lease, make the tables in a database without them, and check all of it against what was signed.

        ``password_file`` needn't exist. ``expected`` is as for :func:`strongroom.audit.stored.recompute`.

        :raises StoreDamagedError: the store disagrees with itself, with a signature or with ``expected``.
        :raises StoreUnsafeError: the server doesn't sync as it must, or the standby that is required isn't named.
        :raises LogBusyError: another log writer holds the lease.
        :raises UnavailableError: no connection. :raises UsageError: a password that others can read.
        :raises MissingExtraError: psycopg isn't installed.
        """
        psycopg = need("psycopg", extra="postgres")
        _refuse_environment()
        _refuse_open_password(password_file)
        options = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
        parameters = {**_PARAMETERS, **settings.parameters, "passfile": str(password_file), "options": options}
        try:
            store = cls(psycopg.connect(**parameters, autocommit=True, prepare_threshold=0), shard)
        except psycopg.Error:
            # Its message may hold the connection's parameters.
            raise UnavailableError(
                "the log's database can't be reached", remedy="see `store.toml`, `pgpass` and the server's log"
            ) from None
        try:
            store._lease(lease_seconds)
            store._prepare(new_is_gone=expected is not None and expected.size > 0)
            store._examine(settings.standby)
            with store._reading():
                store._frontier, store._note = recompute(store, key, visit=visit, expected=expected)
        except psycopg.errors.LockNotAvailable:
            store.close()
            raise LogBusyError("another log writer holds the lease on this database") from None
        except psycopg.Error as error:
            store.close()
            raise StoreDamagedError(
                f"the log's database can't be used (SQLSTATE {error.sqlstate})", remedy=DAMAGED
            ) from None
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

    def _lease(self, seconds: int) -> None:
        self._db.execute(f"SET lock_timeout = '{int(seconds)}s'")
        # A lock for each shard: one writer holds them all, over a session each, and takes the first one's first.
        self._db.execute("SELECT pg_advisory_lock(%s)", (schema.LEASE + self._shard - 1,))
        self._db.execute("SET lock_timeout = '5s'")

    def _prepare(self, *, new_is_gone: bool) -> None:
        with self._db.transaction():
            found = self._value(self._sql(schema.DESCRIBE))
            if found == "":
                # A store that is made anew beside published tiles would start a second history under one key.
                if new_is_gone:
                    raise StoreDamagedError(
                        "the log's store is gone but its published checkpoint isn't", remedy=DAMAGED
                    )
                for statement in schema.CREATE:
                    self._db.execute(self._sql(statement))
                found = self._value(self._sql(schema.DESCRIBE))
            if found != schema.DESCRIPTION:
                # A trigger, a rule or a policy slipped in could drop what is being acknowledged; an unlogged table
                # is empty after a crash.
                raise StoreDamagedError("the log's database has other tables or triggers than its own", remedy=DAMAGED)
            # Whoever holds an older epoch can't commit from here on.
            self._epoch = self._value(self._sql("UPDATE strongroom_log.head SET epoch = epoch + 1 RETURNING epoch"))

    def _examine(self, standby: Standby) -> None:
        self._circumstances = self._value(self._sql(f"SELECT {schema.CIRCUMSTANCES}"))
        rows = self._db.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (list(schema.SETTINGS),))
        found = dict(rows.fetchall())
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            if found.get(name) != "on":
                raise StoreUnsafeError(
                    f"the log's database runs with `{name}` = {found.get(name)}", remedy=f"set {name} = on"
                )
        if standby is Standby.REQUIRED and not found["synchronous_standby_names"].strip():
            raise StoreUnsafeError(
                "`store.toml` requires a synchronous standby, and the server names none",
                remedy='set synchronous_standby_names, or say `standby = "none"`',
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._db.transaction(), self._cursors:
            self._db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Return index and bytes of each stored entry, in order."""
        return self._stream("entries", "SELECT i, d FROM strongroom_log.entry ORDER BY i")

    def checkpoints(self) -> Iterator[tuple[int, bytes]]:
        """Return size and note of each stored checkpoint, in order."""
        return self._stream("checkpoints", "SELECT size, note FROM strongroom_log.checkpoint ORDER BY size")

    def heads(self) -> list[tuple[int, bytes]]:
        """Return the stored tree heads: one, if the store is sound."""
        rows = self._db.execute(self._sql("SELECT size, frontier FROM strongroom_log.head LIMIT 2"), binary=True)
        return [(size, frontier) for size, frontier in rows.fetchall()]

    def _stream(self, name: str, query: str) -> Iterator[tuple[int, bytes]]:
        cursor = self._cursors.enter_context(self._db.cursor(name, binary=True))
        cursor.itersize = _FETCHED
        cursor.execute(self._sql(query))
        rows: Iterator[tuple[int, bytes]] = iter(cursor)
        return rows

    def commit(self, batch: Batch) -> None:
        """Write entries, head and checkpoint durably, or raise; after an exception the store must not be used again.

        :raises LogFencedError: another log writer took the lease.
        :raises StoreReplacedError: this isn't the cluster, database or table that was opened.
        :raises StoreUnsafeError: the server was told to sync less, or warned that the standby may lack the commit.
        :raises StoreDamagedError: the stored head isn't the one that the batch continues.
        :raises psycopg.Error: the disk or the database failed.
        """
        continues(batch, self._frontier)
        self._notices.clear()
        written = self._db.execute(
            self._commit,
            {
                "size": batch.size,
                "frontier": batch.frontier.to_bytes(),
                "before": batch.first,
                "frontier_before": self._frontier.to_bytes(),
                "epoch": self._epoch,
                "circumstances": self._circumstances,
                "indexes": list(range(batch.first, batch.size)),
                "entries": list(batch.entries),
                "note": batch.checkpoint,
            },
            binary=True,
        ).fetchone()
        if written != (1,):
            raise self._why_not()
        if self._notices:
            # A wait for the standby that was cancelled ends as a success with a warning: not durable there.
            raise StoreUnsafeError(f"the log's database warned while it committed (SQLSTATE {self._notices[0]})")
        self._frontier, self._note = batch.frontier, batch.checkpoint

    def _why_not(self) -> Exception:
        epoch = self._db.execute(self._sql("SELECT epoch FROM strongroom_log.head")).fetchall()
        if epoch != [(self._epoch,)]:
            return LogFencedError("another log writer took the lease on this database")
        now = self._value(self._sql(f"SELECT {schema.CIRCUMSTANCES}")).split(schema.BETWEEN)
        before = self._circumstances.split(schema.BETWEEN)
        if now[: -len(schema.SETTINGS)] != before[: -len(schema.SETTINGS)]:
            return StoreReplacedError(
                "the log's database was replaced or failed over while it was open", remedy=DAMAGED
            )
        if now != before:
            return StoreUnsafeError("the log's database was told to sync in another way while it was open")
        return StoreDamagedError("the stored tree head changed under the log writer", remedy=DAMAGED)

    def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return at most ``count`` committed entries from index ``start`` on."""
        end = min(start + count, self._frontier.size)
        rows = self._db.execute(
            self._sql("SELECT d FROM strongroom_log.entry WHERE i >= %s AND i < %s ORDER BY i"),
            (start, end),
            binary=True,
        )
        return tuple(row[0] for row in rows.fetchall())

    def _sql(self, query: str) -> str:
        return schema.of_shard(query, self._shard)

    def _value(self, query: str) -> Any:
        row = self._db.execute(query).fetchone()
        if row is None:
            raise StoreDamagedError("the log's database lost its tree head", remedy=DAMAGED)
        return row[0]

    def close(self) -> None:
        """Close the store and give the lease back. Never raises: there is nothing left to promise."""
        self._db.close()


def _refuse_environment() -> None:
    # libpq takes whatever a parameter leaves open from there: a password, other options, another service.
    found = sorted(name for name in os.environ if name.startswith("PG"))
    if found:
        raise UsageError(
            f"the environment holds `{found[0]}`, which PostgreSQL's library would follow",
            remedy="unset it: `store.toml` and `pgpass` say all that is needed",
        )


def _refuse_open_password(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise UsageError(f"`{path.name}` must be a file of this user alone", remedy=f"chmod 600 {path.name}")
