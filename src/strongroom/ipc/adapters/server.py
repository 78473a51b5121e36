"""A door that admits by the kernel's word (SO_PEERCRED), not by anything that is sent."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final

import structlog

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.ipc import frames
from strongroom.ipc.adapters.streams import frames_of
from strongroom.ipc.frames import Call

MAX_IN_FLIGHT: Final = 512
MAX_CONNECTIONS: Final = 64
MAX_OF_ONE: Final = 48
"""Connections of one user, where several may connect: none of them can shut the others out."""
_FRAME_SECONDS: Final = 10.0
_CREDENTIALS: Final = struct.Struct("3i")

_log = structlog.get_logger("strongroom.ipc")

Serve = Callable[[Call, int], Awaitable[dict[str, Json]]]
"""``(call, uid)`` -> the answer's members. Called in the order of the frames, so its synchronous part is ordered."""


class UnixServer:
    """Serves calls on one socket: one task for each connection, bounded requests in flight.

    ``admits`` are the user ids that may connect.
    """

    def __init__(self, serve: Serve, *, admits: Collection[int]) -> None:
        self._serve = serve
        self._admits = frozenset(admits)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], int] = {}

    async def start(self, path: Path) -> None:
        """Listen at ``path``; a socket left by a dead process is replaced.

        The file's mode keeps others away where only this user may connect. Where more may, anybody reaches the door
        and the kernel's word about who knocks decides.

        :raises UnavailableError: a living process listens there, or no socket can be made there.
        """
        clear_stale(path)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, path)
        except OSError as error:
            # A path of more than 107 bytes is none for a socket, and the system has no number for that.
            raise UnavailableError(
                f"no socket can be made at `{path.name}`: {error.strerror or error}",
                remedy="see that its folder is there and this user's, and its whole path at most 107 bytes long",
            ) from None
        finally:
            os.umask(before)
        mode = 0o600 if self._admits <= {os.geteuid()} else 0o666
        await asyncio.to_thread(path.chmod, mode)

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        uid = peer_uid(writer)
        if task is None or uid not in self._admits or not self._has_place(uid):
            _log.warning("connection refused", uid=uid)
            writer.close()
            return
        self._connections[task] = uid
        try:
            await _Connection(self._serve, uid, reader, writer).run()
        except asyncio.CancelledError:
            _log.debug("connection ended at shutdown", uid=uid)
        finally:
            self._connections.pop(task, None)
            writer.close()

    def _has_place(self, uid: int) -> bool:
        others, here = self._admits - {uid}, list(self._connections.values())
        return len(here) < MAX_CONNECTIONS and (not others or here.count(uid) < MAX_OF_ONE)


def clear_stale(path: Path) -> None:
    """Take away a socket that a dead process left; whatever else is there stays.

    :raises UnavailableError: a living process listens there.
    """
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise UnavailableError(f"another process listens on `{path.name}`", remedy="stop it first")


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """Return who is at the other end of a Unix socket, by the kernel's word."""
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return int(uid)


class _Connection:
    def __init__(self, serve: Serve, uid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serve = serve
        self._uid = uid
        self._reader = reader
        self._writer = writer
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            async for data in frames_of(self._reader, most=frames.MAX_CALL, frame_seconds=_FRAME_SECONDS):
                await self._places.acquire()
                self._begin(frames.read_call(data))
        except (ConnectionError, TimeoutError):
            _log.debug("connection closed", uid=self._uid)
        except MalformedError as error:
            # Without a sound frame nobody can tell where the next one begins.
            _log.warning("connection ended", uid=self._uid, reason=error.reason)
        finally:
            for task in self._tasks:
                task.cancel()

    def _begin(self, call: Call) -> None:
        task = asyncio.create_task(self._finish(call))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()

    async def _finish(self, call: Call) -> None:
        try:
            reply = frames.answer(call.id, await self._serve(call, self._uid))
        except StrongroomError as error:
            reply = frames.refusal(call.id, error)
        except Exception as error:  # noqa: BLE001 - the caller waits for an answer; the cause stays in the program log
            _log.exception("call failed", operation=call.operation, error=type(error).__name__)
            reply = frames.refusal(call.id, UnavailableError("the process failed to serve the call"))
        try:
            self._writer.write(reply)
            await self._writer.drain()
        except ConnectionError:
            _log.debug("the caller left before its answer")
