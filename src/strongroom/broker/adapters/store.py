"""The broker's store: one writer thread, readers beside it, rows handed on as they lie there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import structlog
from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Select,
    Table,
    and_,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from strongroom.broker.adapters import schema
from strongroom.broker.adapters.database import check_pragmas, migrate, open_engines
from strongroom.broker.errors import StoredRowError
from strongroom.broker.ports import (
    ManifestRow,
    PlatformRow,
    RequestRow,
    RequestState,
    RequestSummary,
    VoiceKind,
    VoiceRow,
    WrappedRow,
)
from strongroom.core.clock import Instant
from strongroom.core.errors import ConflictError, StrongroomError, UnavailableError

T = TypeVar("T")
MAX_VOICES: Final = 256
LATEST: Final = 253_402_300_799
"""The last second of the year 9999: no later one can be written."""
_log = structlog.get_logger("strongroom.broker")


class Store:
    """Rows in SQLite. A ``put`` returns when its row is on the disk."""

    def __init__(self, writer: Engine, reader: Engine) -> None:
        self._writer, self._reader = writer, reader
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reading = ThreadPoolExecutor(2, thread_name_prefix="store-read")

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the database at ``path``, migrating it first.

        :raises UnavailableError: it can't be opened, or doesn't keep what it is given.
        :raises StoredRowError: it holds something else.
        """
        writer, reader = open_engines(path)
        try:
            with writer.begin() as connection:
                check_pragmas(connection)
                migrate(connection)
        except SQLAlchemyError as error:
            raise UnavailableError(f"the broker's database can't be used ({type(error).__name__})") from None
        return cls(writer, reader)

    def close(self) -> None:
        """Finish what is queued and close."""
        self._writing.shutdown()
        self._reading.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    # --- documents ----------------------------------------------------------------------------------------------------

    async def put_document(self, *, kind: str, epoch: int, digest: str, envelope: str) -> None:
        """Store a document that the keeper adopted."""
        await self._put(schema.documents, kind=kind, epoch=epoch, digest=digest, envelope=envelope)

    async def document(self, kind: str, digest: str) -> str | None:
        """Return a document's envelope."""
        table = schema.documents
        row = await self._one(select(table).where(table.c.kind == kind, table.c.digest == digest))
        return None if row is None else _text(row.envelope)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def put_request(self, row: RequestRow) -> None:
        """Store a request. Its first time stays, so that lists keep their order."""
        values = {name: getattr(row, name) for name in row.__slots__}
        statement = upsert(schema.requests).values(values)
        changed = {name: statement.excluded[name] for name in ("envelope", "expires", "log_index", "checkpoint")}
        await self._write(lambda c: c.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=changed)))

    async def request(self, digest: str) -> RequestRow | None:
        """Return a request."""
        row = await self._one(select(schema.requests).where(schema.requests.c.digest == digest))
        return None if row is None else _request(row)

    async def close_request(self, digest: str, at: Instant) -> None:
        """Note that a single-use request was carried out."""
        statement = update(schema.requests).where(schema.requests.c.digest == digest).values(closed=at)
        await self._write(lambda c: c.execute(statement))

    async def requests(
        self, state: RequestState, *, now: Instant, before: tuple[Instant, str] | None, limit: int
    ) -> Sequence[RequestSummary]:
        """Return requests, newest first, those before a place in that order."""
        table = schema.requests
        query = select(
            table, _count(VoiceKind.APPROVE).label("approved"), _count(VoiceKind.DENY).label("denied")
        ).limit(limit)
        query = query.order_by(table.c.created.desc(), table.c.digest.desc())
        if before is not None:
            earlier = and_(table.c.created == before[0], table.c.digest < before[1])
            query = query.where(or_(table.c.created < before[0], earlier))
        if state is RequestState.OPEN:
            query = query.where(
                table.c.closed.is_(None),
                or_(table.c.expires.is_(None), table.c.expires > now),
                _count(VoiceKind.DENY) == 0,
            )
        rows = await self._all(query)
        return [
            RequestSummary(row=_request(row), approvals=_number(row.approved), denials=_number(row.denied))
            for row in rows
        ]

    # --- approvals and denials ----------------------------------------------------------------------------------------

    async def put_voice(self, row: VoiceRow, instead_of: str | None = None) -> None:
        """Store an approval or denial, once; ``instead_of`` is the envelope of an earlier one whose place it takes."""
        table = schema.approvals
        values = {name: getattr(row, name) for name in row.__slots__} | {"kind": row.kind.value}
        before = row.envelope if instead_of is None else instead_of
        same = select(table.c.id).where(
            table.c.request == row.request, table.c.kind == row.kind.value, table.c.envelope == before
        )

        def store(connection: Connection) -> None:
            known = connection.execute(same).scalar()
            if known is None:
                connection.execute(insert(table).values(values))
            else:
                placed = {name: values[name] for name in ("envelope", "log_index", "checkpoint")}
                connection.execute(update(table).where(table.c.id == known).values(placed))

        await self._write(store)

    async def voices(self, request: str) -> Sequence[VoiceRow]:
        """Return what is stored for a request, oldest first."""
        table = schema.approvals
        rows = await self._all(select(table).where(table.c.request == request).order_by(table.c.id).limit(MAX_VOICES))
        return [
            VoiceRow(
                request=_text(row.request),
                kind=_kind(row.kind),
                envelope=_text(row.envelope),
                created=_instant(row.created),
                log_index=_optional_number(row.log_index),
                checkpoint=_optional_text(row.checkpoint),
            )
            for row in rows
        ]

    # --- platforms ----------------------------------------------------------------------------------------------------

    async def put_platform(self, row: PlatformRow) -> None:
        """Store an enrolment record."""
        await self._put(schema.platforms, platform=row.platform, envelope=row.envelope)

    async def platform(self, platform: str) -> PlatformRow | None:
        """Return an enrolment record."""
        row = await self._one(select(schema.platforms).where(schema.platforms.c.platform == platform))
        return None if row is None else PlatformRow(platform=_text(row.platform), envelope=_text(row.envelope))

    async def platforms(self, *, after: str, limit: int) -> Sequence[PlatformRow]:
        """Return enrolment records in the order of their ids."""
        table = schema.platforms
        rows = await self._all(select(table).where(table.c.platform > after).order_by(table.c.platform).limit(limit))
        return [PlatformRow(platform=_text(row.platform), envelope=_text(row.envelope)) for row in rows]

    # --- manifests and wrapped keys -----------------------------------------------------------------------------------

    async def put_manifest(self, row: ManifestRow) -> None:
        """Store a manifest."""
        await self._put(schema.manifests, **{name: getattr(row, name) for name in row.__slots__})

    async def manifest(self, model: str, version: int) -> ManifestRow | None:
        """Return a manifest."""
        table = schema.manifests
        row = await self._one(select(table).where(table.c.model == model, table.c.version == version))
        if row is None:
            return None
        return ManifestRow(
            model=_text(row.model),
            version=_number(row.version),
            digest=_text(row.digest),
            envelope=_text(row.envelope),
            log_index=_optional_number(row.log_index),
            checkpoint=_optional_text(row.checkpoint),
        )

    async def put_wrapped(self, row: WrappedRow) -> None:
        """Store a wrapped data key."""
        await self._put(schema.wrapped_keys, **{name: getattr(row, name) for name in row.__slots__})

    async def wrapped(self, data_key: str) -> WrappedRow | None:
        """Return a wrapped data key by its name."""
        row = await self._one(select(schema.wrapped_keys).where(schema.wrapped_keys.c.data_key == data_key))
        return None if row is None else _wrapped(row)

    async def wrapped_rows(self, model: str, *, after: str, limit: int) -> Sequence[WrappedRow]:
        """Return wrapped data keys of a model in the order of their names, those behind ``after``."""
        table = schema.wrapped_keys
        query = select(table).where(table.c.model == model, table.c.data_key > after)
        return [_wrapped(row) for row in await self._all(query.order_by(table.c.data_key).limit(limit))]

    async def erase_wrapped(self, model: str) -> None:
        """Erase every wrapped data key of a model whose keys were destroyed."""
        table = schema.wrapped_keys
        await self._write(lambda connection: connection.execute(delete(table).where(table.c.model == model)))

    async def swap_wrapped(self, changes: Sequence[tuple[WrappedRow, str]]) -> int:
        """Replace the bodies of rows that are still as they were read, all at once; returns how many were."""
        table, swapped = schema.wrapped_keys, [0]

        def swap(connection: Connection) -> None:
            for row, body in changes:
                # Whoever stored this row anew meanwhile knows better than who read it before.
                same = update(table).where(table.c.data_key == row.data_key, table.c.body == row.body)
                swapped[0] += connection.execute(same.values(body=body)).rowcount

        await self._write(swap)
        return swapped[0]

    async def newest_wrapped(self, model: str, version: int | None = None) -> WrappedRow | None:
        """Return the newest wrapped data key of a model, or of one of its versions."""
        table = schema.wrapped_keys
        query = select(table).where(table.c.model == model)
        if version is not None:
            query = query.where(table.c.version == version)
        # The row id settles which of two keys of one version was made later.
        row = await self._one(
            query.order_by(table.c.version.desc(), literal_column("wrapped_keys.rowid").desc()).limit(1)
        )
        return None if row is None else _wrapped(row)

    # --- threads ------------------------------------------------------------------------------------------------------

    async def _put(self, table: Table, **values: object) -> None:
        statement = upsert(table).values(values)
        keys = [column.name for column in table.primary_key]
        changed = {name: statement.excluded[name] for name in values if name not in keys}
        await self._write(lambda c: c.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed)))

    async def _one(self, query: Select[Any]) -> Row[Any] | None:
        return await self._read(lambda connection: connection.execute(query).one_or_none())

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._read(lambda connection: connection.execute(query).all())

    async def _write(self, work: Callable[[Connection], object]) -> None:
        def transaction() -> None:
            with self._writer.begin() as connection:
                work(connection)

        await _run(self._writing, transaction)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._reader.begin() as connection:
                return work(connection)

        return await _run(self._reading, transaction)


async def _run(executor: Executor, work: Callable[[], T]) -> T:
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
    except StrongroomError:
        raise
    except IntegrityError:
        raise ConflictError("the row doesn't fit what is stored", remedy="post what it refers to first") from None
    except SQLAlchemyError as error:
        _log.error("the store failed", error=type(error).__name__)
        raise UnavailableError("the broker's database failed", remedy="look into the broker's program log") from None


def _count(kind: VoiceKind) -> Any:
    table = schema.approvals
    counted = select(func.count()).where(table.c.request == schema.requests.c.digest, table.c.kind == kind.value)
    return counted.correlate(schema.requests).scalar_subquery()


def _request(row: Row[Any]) -> RequestRow:
    return RequestRow(
        digest=_text(row.digest),
        action=_text(row.action),
        model=_text(row.model),
        requester=_text(row.requester),
        created=_instant(row.created),
        envelope=_text(row.envelope),
        expires=None if row.expires is None else _instant(row.expires),
        closed=None if row.closed is None else _instant(row.closed),
        log_index=_optional_number(row.log_index),
        checkpoint=_optional_text(row.checkpoint),
    )


def _wrapped(row: Row[Any]) -> WrappedRow:
    return WrappedRow(
        data_key=_text(row.data_key), model=_text(row.model), version=_number(row.version), body=_text(row.body)
    )


# SQLite's columns hold values of any type, and whoever owns the file chooses them.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _changed()
    return value


def _number(value: object, most: int = 2**53 - 1) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise _changed()
    return value


def _instant(value: object) -> Instant:
    return _number(value, LATEST)


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _optional_number(value: object) -> int | None:
    return None if value is None else _number(value)


def _kind(value: object) -> VoiceKind:
    try:
        return VoiceKind(_text(value))
    except ValueError:
        raise _changed() from None


def _changed() -> StoredRowError:
    return StoredRowError(
        "a stored row isn't what the broker once stored",
        remedy="the database was changed by somebody else: treat this as an incident",
    )
