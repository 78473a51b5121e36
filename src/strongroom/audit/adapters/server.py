"""The log writer's door: the operations of :class:`LogService` on a Unix socket, for the users that it admits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.audit import protocol
from strongroom.audit.facts import Producer
from strongroom.audit.protocol import Operation
from strongroom.audit.service import LogService
from strongroom.audit.succession import MAX_SHARDS
from strongroom.audit.writer import MAX_APPEND
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.errors import DeniedError, MalformedError
from strongroom.core.fields import Fields
from strongroom.ipc.adapters.server import UnixServer
from strongroom.ipc.frames import Call


@dataclass(frozen=True, slots=True)
class Admission:
    """User ids that may connect. Appenders may also read."""

    appenders: frozenset[int]
    readers: frozenset[int] = field(default_factory=frozenset)

    @classmethod
    def of(cls, appenders: Collection[int], readers: Collection[int] = ()) -> Admission:
        """Make an admission from any collections of user ids."""
        return cls(frozenset(appenders), frozenset(readers))


class LogServer:
    """Serves a :class:`LogService` on a socket."""

    def __init__(self, service: LogService, admission: Admission) -> None:
        self._service = service
        self._admission = admission
        self._server = UnixServer(self._serve, admits=admission.appenders | admission.readers)
        self._operations: dict[Operation, Callable[[Fields], Awaitable[dict[str, Json]]]] = {
            Operation.READ: self._read,
            Operation.HEAD: self._head,
            Operation.PROVE_INCLUSION: self._prove_inclusion,
            Operation.PROVE_ENTRIES: self._prove_entries,
            Operation.PROVE_CONSISTENCY: self._prove_consistency,
            Operation.FLUSH: self._flush,
            Operation.COSIGNED: self._cosigned,
            Operation.SEAMS: self._seams,
        }

    async def start(self, path: Path) -> None:
        """Listen at ``path``.

        :raises UnavailableError: a living process listens there.
        """
        await self._server.start(path)

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        await self._server.stop()

    async def _serve(self, call: Call, uid: int) -> dict[str, Json]:
        try:
            operation = Operation(call.operation)
        except ValueError:
            raise MalformedError("the log writer has no such operation") from None
        if operation is Operation.APPEND:
            return await self._append(call.fields, uid)
        if operation is Operation.PREPARE:
            return await self._prepare(call.fields, uid)
        return await self._operations[operation](call.fields)

    async def _append(self, fields: Fields, uid: int) -> dict[str, Json]:
        self._require_appender(uid)
        entries = protocol.read_entries(fields, most=MAX_APPEND)
        fields.end()
        # No await before this line: calls begin in the order of their frames, so appends are queued in that order.
        done = await self._service.writer.submit(entries, by=Producer.KEEPER)
        return {"first_index": done.first, "size": done.size, "checkpoint": done.checkpoint.decode()}

    async def _read(self, fields: Fields) -> dict[str, Json]:
        start, count = fields.integer("start"), fields.integer("count", most=protocol.MAX_READ)
        fields.end()
        return {"entries": protocol.write_entries(await self._service.read(start, count))}

    async def _head(self, fields: Fields) -> dict[str, Json]:
        fields.end()
        head = self._service.head()
        note = None if head.checkpoint is None else head.checkpoint.decode()
        return {
            "size": head.size,
            "checkpoint": note,
            "next_seq": head.next_seq,
            "halted": head.halted,
            "tight": head.tight,
        }

    async def _prove_inclusion(self, fields: Fields) -> dict[str, Json]:
        index, size = fields.integer("index"), fields.integer("size")
        fields.end()
        leaf, proof = await self._service.prove_inclusion(index, size)
        return {"leaf": to_base64(leaf), "proof": protocol.write_hashes(proof)}

    async def _prove_entries(self, fields: Fields) -> dict[str, Json]:
        places, size = protocol.read_places(fields), fields.integer("size")
        fields.end()
        return {"entries": protocol.write_proven(await self._service.prove_entries(places, size))}

    async def _prove_consistency(self, fields: Fields) -> dict[str, Json]:
        old, new = fields.integer("old"), fields.integer("new")
        fields.end()
        return {"proof": protocol.write_hashes(await self._service.prove_consistency(old, new))}

    async def _flush(self, fields: Fields) -> dict[str, Json]:
        fields.end()
        return {"size": await self._service.flush()}

    async def _cosigned(self, fields: Fields) -> dict[str, Json]:
        fields.end()
        note = self._service.cosigned()
        return {"checkpoint": None if note is None else note.decode()}

    async def _prepare(self, fields: Fields, uid: int) -> dict[str, Json]:
        self._require_appender(uid)
        fields.end()
        return protocol.write_prepared(await self._service.prepare())

    async def _seams(self, fields: Fields) -> dict[str, Json]:
        first = fields.integer("first", least=1, most=MAX_SHARDS)
        fields.end()
        return {"seams": [seam.to_json() for seam in await self._service.seams(first, protocol.MAX_SEAMS)]}

    def _require_appender(self, uid: int) -> None:
        if uid not in self._admission.appenders:
            raise DeniedError("this user may not append to the log", reason="log-append-denied")
