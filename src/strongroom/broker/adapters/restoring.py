"""A restored broker's database: what its people had signed and seen, and the rows that the log doesn't vouch for.

Nothing here makes a row trustworthy: the keeper verifies each again when it is used. Rows that the log doesn't name are
of acts that never were, or of a later history that isn't the one that was restored: they would only confuse people.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, delete, select
from sqlalchemy.exc import SQLAlchemyError

from strongroom.broker.adapters import schema
from strongroom.broker.adapters.database import migrate, open_engines
from strongroom.broker.errors import StoredRowError
from strongroom.broker.rows import stored_wrapped
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError, UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What the log names: signed objects, each platform's record, each version's manifest, and data keys."""

    objects: Collection[Digest]
    platforms: Mapping[str, Digest]
    manifests: Mapping[tuple[str, int], Digest]
    data_keys: Collection[str]


def signed_requests(path: Path) -> Iterator[Envelope]:
    """Return the requests that a broker's database holds; a row that isn't one is passed over.

    :raises UnavailableError: it isn't a database of the broker's.
    """
    with _transaction(path) as connection:
        for row in connection.execute(select(schema.requests.c.envelope)):
            envelope = _envelope(row.envelope)
            if envelope is not None:
                yield envelope


def keep_vouched(path: Path, vouched: Vouched) -> dict[str, int]:
    """Drop every row that the log doesn't vouch for; returns how many of each table.

    :raises UnavailableError: it isn't a database of the broker's.
    """
    rules: tuple[tuple[Table, Callable[[Row[Any]], bool]], ...] = (
        (schema.approvals, lambda row: _is_named(row.envelope, None, vouched)),
        (schema.requests, lambda row: _is_named(row.envelope, row.digest, vouched)),
        (schema.documents, lambda row: _is_named(row.envelope, row.digest, vouched)),
        (schema.platforms, lambda row: _digest(row.envelope) == vouched.platforms.get(row.platform, b"none")),
        (schema.manifests, lambda row: row.digest == _text(vouched.manifests.get((row.model, row.version)))),
        (schema.wrapped_keys, lambda row: row.data_key in vouched.data_keys),
    )
    dropped = {}
    with _transaction(path) as connection:
        for table, kept in rules:
            bad = [_key(table, row) for row in connection.execute(select(table)) if not kept(row)]
            for values in bad:
                # An approval of a request that goes, goes with it.
                if table is schema.requests:
                    connection.execute(delete(schema.approvals).where(schema.approvals.c.request == values["digest"]))
                connection.execute(delete(table).where(and_(*(table.c[name] == v for name, v in values.items()))))
            dropped[table.name] = len(bad)
    return dropped


def wrapping_keks(path: Path) -> dict[str, str]:
    """Return each data key's KEK, as the rows of a broker's database say; a row that can't be read is passed over.

    :raises UnavailableError: it isn't a database of the broker's.
    """
    found = {}
    with _transaction(path) as connection:
        for row in connection.execute(select(schema.wrapped_keys)):
            try:
                found[str(row.data_key)] = stored_wrapped(row.body).kek
            except (StoredRowError, AttributeError):
                continue
    return found


@contextmanager
def _transaction(path: Path) -> Iterator[Connection]:
    """Open the database at a path for one write transaction."""
    engines = open_engines(path)
    try:
        with engines[0].begin() as connection:
            migrate(connection)
            yield connection
    except SQLAlchemyError as error:
        raise UnavailableError(f"the backup's database can't be used ({type(error).__name__})") from None
    finally:
        for engine in engines:
            engine.dispose()


def _key(table: Table, row: Row[Any]) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in table.primary_key}


def _is_named(envelope: object, digest: object, vouched: Vouched) -> bool:
    found = _digest(envelope)
    return found in vouched.objects and digest in (None, str(found))


def _text(digest: Digest | None) -> str | None:
    # Never the text "None", which a row could say too.
    return None if digest is None else str(digest)


def _digest(text: object) -> Digest | None:
    envelope = _envelope(text)
    return None if envelope is None else envelope.digest


def _envelope(text: object) -> Envelope | None:
    # Whoever owns the file chooses every value in it.
    try:
        return Envelope.parse(text.encode()) if isinstance(text, str) else None
    except (MalformedError, UnicodeEncodeError):
        return None
