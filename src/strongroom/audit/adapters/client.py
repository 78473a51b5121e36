"""Clients of the log writer's socket: one for an event loop, one that blocks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from strongroom.audit import protocol
from strongroom.audit.errors import LogOutcomeUnknownError
from strongroom.audit.protocol import MAX_READ, Head, Operation, ProvenEntry
from strongroom.audit.succession import Prepared, Seam
from strongroom.audit.writer import Receipt
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.ipc import frames
from strongroom.ipc.adapters.streams import frames_of
from strongroom.ipc.frames import HEADER

T = TypeVar("T")
_SECONDS: Final = 10.0
_LOST: Final = "the connection to the log writer was lost"
_REMEDY: Final = "Check that the log writer runs, then try again."


def _receipt(fields: Fields) -> Receipt:
    return Receipt(
        first=fields.integer("first_index"),
        size=fields.integer("size"),
        checkpoint=_note(fields),
    )


def _note(fields: Fields) -> bytes:
    value = fields.value("checkpoint")
    if not isinstance(value, str):
        raise MalformedError("`answer.checkpoint` must be a note")
    return value.encode()


def _head(fields: Fields) -> Head:
    size, next_seq = fields.integer("size"), fields.integer("next_seq")
    halted, tight = fields.boolean("halted"), fields.boolean("tight")
    note = _note(fields) if fields.optional("checkpoint") else None
    return Head(size=size, checkpoint=note, next_seq=next_seq, halted=halted, tight=tight)


def _entries(fields: Fields) -> tuple[bytes, ...]:
    return protocol.read_entries(fields, most=MAX_READ)


def _inclusion(fields: Fields) -> tuple[bytes, tuple[bytes, ...]]:
    return fields.binary("leaf", max_length=32), protocol.read_hashes(fields)


def _read(result: Json | StrongroomError, read: Callable[[Fields], T]) -> T:
    if isinstance(result, StrongroomError):
        raise result
    with Fields(result, "answer") as fields:
        return read(fields)


@dataclass(slots=True)
class _Waiting:
    """A request that was sent: how its answer is read, and who is told."""

    operation: Operation
    read: Callable[[Fields], Any]
    done: asyncio.Future[Any]
    until: float

    def end(self, result: Json | StrongroomError) -> None:
        if self.done.done():
            return
        try:
            self.done.set_result(_read(result, self.read))
        except StrongroomError as error:
            self.done.set_exception(error)

    def fail(self, why: str) -> None:
        if self.done.done():
            return
        if self.operation is Operation.APPEND:
            self.done.set_exception(LogOutcomeUnknownError(why, remedy="Treat the act as not done."))
        else:
            self.done.set_exception(UnavailableError("the log writer didn't answer", remedy=_REMEDY))


class LogClient:
    """A connection for an event loop. Many requests at once; appends keep the order of the calls.

    Answers are not trusted for integrity: checkpoints are verified by who holds the log's key.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, timeout_seconds: float) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout = timeout_seconds
        self._number = 0
        self._waiting: dict[int, _Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._lost: str | None = None
        self._task = asyncio.create_task(self._receive(), name="log-client")

    @classmethod
    async def connect(cls, path: Path, *, timeout_seconds: float = _SECONDS) -> Self:
        """Connect to the socket at ``path``.

        :raises UnavailableError: nobody listens there, or this user isn't admitted.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                reader, writer = await asyncio.open_unix_connection(path)
        except (OSError, TimeoutError):
            raise UnavailableError("the log writer can't be reached", remedy=_REMEDY) from None
        return cls(reader, writer, timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        """End the connection; whatever waits fails."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def begin_append(self, entries: Sequence[bytes]) -> asyncio.Future[Receipt]:
        """Send entries now, before this returns; the future ends when they are durable, or with an error.

        :raises UnavailableError: the connection is lost; nothing was sent.
        """
        return self._send(Operation.APPEND, {"entries": protocol.write_entries(tuple(entries))}, _receipt)

    async def append(self, entries: Sequence[bytes]) -> Receipt:
        """Append entries; returns once they are durable.

        :raises LogOutcomeUnknownError: no answer in time, or the connection broke.
        :raises StrongroomError: what the log writer answered.
        """
        return await self.begin_append(entries)

    async def head(self) -> Head:
        """Return the committed state of the log."""
        return await self._ask(Operation.HEAD, {}, _head)

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return at most ``count`` (256) entries from index ``start`` on."""
        return await self._ask(Operation.READ, {"start": start, "count": count}, _entries)

    async def prove_inclusion(self, index: int, size: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a leaf hash and its audit path; verify with :func:`strongroom.audit.merkle.verify_inclusion`."""
        return await self._ask(Operation.PROVE_INCLUSION, {"index": index, "size": size}, _inclusion)

    async def prove_entries(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Return the first of these entries at least, each with its audit path; verify as :meth:`prove_inclusion`."""
        return await self._ask(Operation.PROVE_ENTRIES, {"places": [*places], "size": size}, protocol.read_proven)

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return a proof; verify with :func:`strongroom.audit.merkle.verify_consistency`."""
        return await self._ask(Operation.PROVE_CONSISTENCY, {"old": old, "new": new}, protocol.read_hashes)

    async def flush(self) -> int:
        """Publish now; returns the published size."""
        return await self._ask(Operation.FLUSH, {}, lambda fields: fields.integer("size"))

    async def cosigned(self) -> bytes | None:
        """Return the newest checkpoint that a quorum of witnesses cosigned, as the log writer sees it; not verified."""
        return await self._ask(
            Operation.COSIGNED, {}, lambda fields: _note(fields) if fields.optional("checkpoint") else None
        )

    async def prepare(self) -> Prepared:
        """Have the next shard's keys made, and return them; the same ones until that shard begins."""
        return await self._ask(Operation.PREPARE, {}, protocol.read_prepared)

    async def seams(self, first: int) -> tuple[Seam, ...]:
        """Return how shards were closed, from shard ``first`` (counted from 1) on; nothing of it is verified."""
        return await self._ask(Operation.SEAMS, {"first": first}, protocol.read_seams)

    async def _ask(self, operation: Operation, members: dict[str, Json], read: Callable[[Fields], T]) -> T:
        return await self._send(operation, members, read)

    def _send(self, operation: Operation, members: dict[str, Json], read: Callable[[Fields], T]) -> asyncio.Future[T]:
        if self._lost is not None:
            raise UnavailableError(self._lost, remedy=_REMEDY)
        self._number += 1
        data = frames.call(self._number, operation.value, members)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        waiting = _Waiting(operation, read, done, loop.time() + self._timeout)
        self._waiting[self._number] = waiting
        if self._timer is None:
            self._timer = loop.call_at(waiting.until, self._expire)
        self._writer.write(data)
        return done

    def _expire(self) -> None:
        """End the waits that are over. One timer serves all: they end in the order in which they began."""
        loop, self._timer = asyncio.get_running_loop(), None
        for number, waiting in list(self._waiting.items()):
            if waiting.until > loop.time():
                self._timer = loop.call_at(waiting.until, self._expire)
                return
            del self._waiting[number]
            waiting.fail(f"the log writer didn't answer within {self._timeout:g} seconds")

    async def _receive(self) -> None:
        try:
            async for data in frames_of(self._reader):
                number, result = frames.read_answer(data)
                waiting = self._waiting.pop(number, None)
                # An answer that nobody waits for any more belongs to a caller that gave up.
                if waiting is not None:
                    waiting.end(result)
        except ConnectionError:
            self._lost = _LOST
        except MalformedError as error:
            self._lost = f"the log writer's answer was refused: {error.message}"
        finally:
            self._lost = self._lost or _LOST
            if self._timer is not None:
                self._timer.cancel()
            for waiting in self._waiting.values():
                waiting.fail(self._lost)
            self._waiting.clear()
            self._writer.close()


class BlockingLogClient:
    """A connection for programs without an event loop: one request at a time."""

    def __init__(self, path: Path, *, timeout_seconds: float = _SECONDS) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_seconds)
        self._number = 0
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise UnavailableError("the log writer can't be reached", remedy=_REMEDY) from None

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def append(self, entries: Sequence[bytes]) -> Receipt:
        """Append entries; returns once they are durable.

        :raises LogOutcomeUnknownError: no answer in time, or the connection broke.
        :raises StrongroomError: what the log writer answered.
        """
        try:
            result = self._exchange(Operation.APPEND, {"entries": protocol.write_entries(tuple(entries))})
        except OSError:
            self.close()
            raise LogOutcomeUnknownError(_LOST, remedy="Treat the act as not done.") from None
        return _read(result, _receipt)

    def head(self) -> Head:
        """Return the committed state of the log."""
        return self._ask(Operation.HEAD, {}, _head)

    def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return at most ``count`` (256) entries from index ``start`` on."""
        return self._ask(Operation.READ, {"start": start, "count": count}, _entries)

    def prepare(self) -> Prepared:
        """Have the next shard's keys made, and return them; the same ones until that shard begins."""
        return self._ask(Operation.PREPARE, {}, protocol.read_prepared)

    def seams(self, first: int) -> tuple[Seam, ...]:
        """Return how shards were closed, from shard ``first`` (counted from 1) on; nothing of it is verified."""
        return self._ask(Operation.SEAMS, {"first": first}, protocol.read_seams)

    def flush(self) -> int:
        """Publish now; returns the published size."""
        return self._ask(Operation.FLUSH, {}, lambda fields: fields.integer("size"))

    def _ask(self, operation: Operation, members: dict[str, Json], read: Callable[[Fields], T]) -> T:
        try:
            result = self._exchange(operation, members)
        except OSError:
            self.close()
            raise UnavailableError(_LOST, remedy=_REMEDY) from None
        return _read(result, read)

    def _exchange(self, operation: Operation, members: dict[str, Json]) -> Json | StrongroomError:
        self._number += 1
        self._socket.sendall(frames.call(self._number, operation.value, members))
        number, result = frames.read_answer(self._exactly(frames.frame_length(self._exactly(HEADER))))
        if number != self._number:
            self.close()
            raise MalformedError("the log writer answered another request")
        return result

    def _exactly(self, count: int) -> bytes:
        parts, left = [], count
        while left:
            part = self._socket.recv(min(left, 1 << 16))
            if not part:
                raise ConnectionError(_LOST)
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
