"""A socket for another sensor's lines, one line each, admitted by the kernel's word about who writes (SO_PEERCRED).

Of a sensor that is flooded, or taken over, so many lines a second are read; the others are counted, and that is told.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import structlog

from strongroom.core.buckets import Buckets, Rate
from strongroom.core.clock import uptime
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.detection.sensors.reading import MAX_LINE, Event, Reader
from strongroom.ipc.adapters.server import clear_stale, peer_uid

RATE: Final = Rate(per_second=500.0, burst=5000)
MAX_WRITERS: Final = 8

_log = structlog.get_logger("strongroom.responder")


class LineSocket:
    """Listens for one sensor.

    :param read: its reader, which may remember what belongs together.
    :param take: is told each event.
    :param heard: is told of each line that is this sensor's, whatever it says, and of each that there was no time for.
    """

    def __init__(
        self, name: str, user: int, read: Reader, take: Callable[[Event], object], heard: Callable[[], None]
    ) -> None:
        self.name = name
        self._user, self._read, self._take, self._heard = user, read, take, heard
        self._buckets = Buckets(RATE)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.Task[None]] = set()
        self.missed = 0
        """Lines that weren't read, for there were too many, or that aren't this sensor's. A kind without an event
        isn't among them: most lines of most sensors are of one."""

    async def start(self, path: Path) -> None:
        """Listen at ``path``; a socket left by a dead process is replaced.

        :raises UnavailableError: the socket can't be made: a living process listens there, or something else is there.
        """
        clear_stale(path)
        before = os.umask(0o111 if self._user != os.geteuid() else 0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, path, limit=MAX_LINE)
        except OSError as error:
            raise UnavailableError(f"no socket can be made for `{self.name}`: {error.strerror}") from None
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        for task in list(self._writers):
            task.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, uid = asyncio.current_task(), peer_uid(writer)
        if task is None or uid != self._user or len(self._writers) >= MAX_WRITERS:
            _log.warning("sensor refused", sensor=self.name, uid=uid)
            writer.close()
            return
        self._writers.add(task)
        try:
            async for line in _lines(reader):
                if line is None:
                    self.missed += 1
                else:
                    self._line(line.strip())
        except ConnectionError:
            self.missed += 1
        finally:
            self._writers.discard(task)
            writer.close()

    def _line(self, line: bytes) -> None:
        if not line:
            return
        if self._buckets.wait(self.name, uptime()):
            self.missed += 1
            self._heard()
            return
        try:
            read = self._read(line)
            self._heard()
            for event in read.events:
                self._take(event)
        except MalformedError:
            self.missed += 1


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes | None]:
    """Yield each line, and None for one that is too long, which is let go of up to its end.

    Whoever can make a sensor write one (a program's arguments may be megabytes) would otherwise end the connection, and
    with it all that the sensor has to say.
    """
    within = False
    while True:
        try:
            line = await reader.readuntil()
        except asyncio.IncompleteReadError as error:
            line = error.partial
        except asyncio.LimitOverrunError as error:
            await reader.readexactly(error.consumed)
            if not within:
                yield None
            within = True
            continue
        if not within:
            yield line
        within = False
        if not line.endswith(b"\n"):
            return
