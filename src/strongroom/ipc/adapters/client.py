"""The calling side: an asyncio client that shares one connection among many calls."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.ipc import frames
from strongroom.ipc.adapters.streams import frames_of

_log = structlog.get_logger("strongroom.ipc")


class UnixClient:
    """Calls another process; connects when first used, and again after the other side was restarted.

    :param start: the command that starts what listens there.
    """

    def __init__(self, path: Path, *, seconds: float = 30.0, start: str = "strongroom up") -> None:
        self._path = path
        self._seconds = seconds
        self._start = start
        self._next = 0
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def call(self, operation: str, **members: Json) -> Fields:
        """Call an operation and return its answer, to be read field by field.

        :raises UnavailableError: no connection, or no answer in time; whether it happened is then unknown.
        :raises StrongroomError: whatever the other process refused with.
        """
        writer = await self._connected()
        self._next += 1
        number, done = self._next, asyncio.get_running_loop().create_future()
        self._waiting[number] = done
        try:
            writer.write(frames.call(number, operation, members))
            async with asyncio.timeout(self._seconds):
                # Also this: a large message to a process that reads nothing would wait here for ever.
                await writer.drain()
                answer = await done
        except (ConnectionError, TimeoutError) as error:
            raise UnavailableError(
                f"no answer to `{operation}` from `{self._path.name}` ({type(error).__name__})",
                remedy="see whether the process runs; then ask again",
            ) from None
        finally:
            self._waiting.pop(number, None)
        return Fields(answer, operation)

    async def close(self) -> None:
        """End the connection; what a call that gave up hadn't sent yet isn't sent any more."""
        if self._writer is not None:
            self._writer.transport.abort()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is not None:
                return self._writer
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                raise UnavailableError(
                    f"nothing listens on `{self._path.name[:64]}`", remedy=f"start it: {self._start}"
                ) from None
            self._writer = writer
            self._reading = asyncio.create_task(self._read(reader, writer))
            return writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for data in frames_of(reader):
                number, result = frames.read_answer(data)
                done = self._waiting.get(number)
                if done is None or done.done():
                    continue
                if isinstance(result, StrongroomError):
                    done.set_exception(result)
                else:
                    done.set_result(result)
        except (ConnectionError, MalformedError) as error:
            # Whoever waits gets a refusal below; the next call connects anew.
            _log.debug("connection lost", socket=self._path.name, error=type(error).__name__)
        finally:
            self._writer = None
            writer.close()
            for done in self._waiting.values():
                if not done.done():
                    done.set_exception(ConnectionError())
