"""The log writer's door: a Unix socket that admits by the kernel's word (SO_PEERCRED), not by anything sent."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from strongroom.audit import protocol
from strongroom.audit.facts import Producer
from strongroom.audit.protocol import Operation, Request
from strongroom.audit.service import LogService
from strongroom.audit.writer import MAX_APPEND
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.errors import DeniedError, MalformedError, StrongroomError, UnavailableError

MAX_IN_FLIGHT: Final = 512
MAX_CONNECTIONS: Final = 64
_BODY_SECONDS: Final = 10.0
_CREDENTIALS: Final = struct.Struct("3i")

_log = structlog.get_logger("strongroom.audit")


@dataclass(frozen=True, slots=True)
class Admission:
    """User ids that may connect. Appenders may also read."""

    appenders: frozenset[int]
    readers: frozenset[int] = field(default_factory=frozenset)

    @classmethod
    def of(cls, appenders: Collection[int], readers: Collection[int] = ()) -> Admission:
        """Make an admission from any collections of user ids."""
        return cls(frozenset(appenders), frozenset(readers))

    def admits(self, uid: int) -> bool:
        """Whether ``uid`` may connect at all."""
        return uid in self.appenders or uid in self.readers


class LogServer:
    """Serves a :class:`LogService` on a socket. One task for each connection, bounded requests in flight."""

    def __init__(self, service: LogService, admission: Admission) -> None:
        self._service = service
        self._admission = admission
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, path: Path) -> None:
        """Listen at ``path`` with mode 0600; a socket left by a dead process is replaced.

        :raises UnavailableError: a living process listens there.
        """
        _clear_stale(path)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, path)
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        uid = _peer_uid(writer)
        if task is None or len(self._connections) >= MAX_CONNECTIONS or not self._admission.admits(uid):
            _log.warning("connection refused", uid=uid)
            writer.close()
            return
        self._connections.add(task)
        try:
            await _Connection(self._service, reader, writer, may_append=uid in self._admission.appenders).serve()
        except asyncio.CancelledError:
            # Only `stop` cancels; ending here keeps the stream's own callback from reporting it.
            _log.debug("connection ended at shutdown", uid=uid)
        finally:
            self._connections.discard(task)
            writer.close()


def _clear_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise UnavailableError("another log writer listens on the socket")


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return int(uid)


class _Connection:
    def __init__(
        self, service: LogService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, may_append: bool
    ) -> None:
        self._service = service
        self._reader = reader
        self._writer = writer
        self._may_append = may_append
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._operations: dict[Operation, Callable[[Request], Awaitable[dict[str, Json]]]] = {
            Operation.READ: self._read,
            Operation.HEAD: self._head,
            Operation.PROVE_INCLUSION: self._prove_inclusion,
            Operation.PROVE_CONSISTENCY: self._prove_consistency,
            Operation.FLUSH: self._flush,
        }

    async def serve(self) -> None:
        try:
            while True:
                await self._places.acquire()
                header = await self._reader.readexactly(protocol.HEADER)
                length = protocol.frame_length(header)
                data = await asyncio.wait_for(self._reader.readexactly(length), _BODY_SECONDS)
                self._begin(protocol.read_request(data))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            _log.debug("connection closed")
        except MalformedError as error:
            # Without a sound frame nobody can tell where the next one begins.
            _log.warning("connection ended", reason=error.reason, detail=error.message)
        finally:
            for task in self._tasks:
                task.cancel()

    def _begin(self, request: Request) -> None:
        if request.operation is Operation.APPEND:
            # Queued here, before the next frame is read: the order of appends is the order of frames.
            work = self._append(request)
        else:
            work = self._operations[request.operation](request)
        task = asyncio.create_task(self._finish(request.id, work))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()

    async def _finish(self, number: int, work: Awaitable[dict[str, Json]]) -> None:
        try:
            reply = protocol.answer(number, await work)
        except StrongroomError as error:
            reply = protocol.refusal(number, error)
        except Exception as error:  # noqa: BLE001 - the caller waits for an answer; the cause goes to the program log
            _log.error("request failed", error=type(error).__name__)
            reply = protocol.refusal(number, UnavailableError("the log writer failed to serve the request"))
        try:
            self._writer.write(reply)
            await self._writer.drain()
        except ConnectionError:
            _log.debug("the caller left before its answer")

    def _append(self, request: Request) -> Awaitable[dict[str, Json]]:
        try:
            if not self._may_append:
                raise DeniedError("this user may not append to the log", reason="log-append-denied")
            entries = protocol.read_entries(request.fields, most=MAX_APPEND)
            request.fields.end()
            queued = self._service.writer.submit(entries, by=Producer.KEEPER)
        except StrongroomError as error:
            return _raise(error)

        async def wait() -> dict[str, Json]:
            done = await self._service.writer.confirmed(queued)
            return {"first_index": done.first, "size": done.size, "checkpoint": done.checkpoint.decode()}

        return wait()

    async def _read(self, request: Request) -> dict[str, Json]:
        start, count = request.fields.integer("start"), request.fields.integer("count", most=protocol.MAX_READ)
        request.fields.end()
        return {"entries": protocol.write_entries(await self._service.read(start, count))}

    async def _head(self, request: Request) -> dict[str, Json]:
        request.fields.end()
        head = self._service.head()
        note = None if head.checkpoint is None else head.checkpoint.decode()
        return {"size": head.size, "checkpoint": note, "next_seq": head.next_seq, "halted": head.halted}

    async def _prove_inclusion(self, request: Request) -> dict[str, Json]:
        index, size = request.fields.integer("index"), request.fields.integer("size")
        request.fields.end()
        leaf, proof = await self._service.prove_inclusion(index, size)
        return {"leaf": to_base64(leaf), "proof": protocol.write_hashes(proof)}

    async def _prove_consistency(self, request: Request) -> dict[str, Json]:
        old, new = request.fields.integer("old"), request.fields.integer("new")
        request.fields.end()
        return {"proof": protocol.write_hashes(await self._service.prove_consistency(old, new))}

    async def _flush(self, request: Request) -> dict[str, Json]:
        request.fields.end()
        return {"size": await self._service.flush()}


async def _raise(error: StrongroomError) -> dict[str, Json]:
    raise error
