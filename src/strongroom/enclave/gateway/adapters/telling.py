"""The way to the responder's socket: once a second, beside the answers and never before one.

A batch counts as told when the responder has read it to its end and closed; until then it is sent again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, uptime
from strongroom.enclave.gateway.telling import Tally

EVERY_SECONDS: Final = 1.0
SEND_SECONDS: Final = 5.0
LAST_SECONDS: Final = 1.0
"""For what is left at the end: a responder that is away keeps no gateway from ending."""
_log = structlog.get_logger("strongroom.gateway")


@asynccontextmanager
async def telling(path: Path | None, tally: Tally, clock: Clock) -> AsyncIterator[None]:
    """Tell the responder at ``path`` meanwhile, and what is left at the end; without one nobody is told."""
    if path is None:
        yield
        return
    teller = _Teller(path, tally, clock)
    task = asyncio.create_task(teller.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await teller.finish()


class _Teller:
    def __init__(self, path: Path, tally: Tally, clock: Clock) -> None:
        self._path, self._tally, self._clock = path, tally, clock
        self._unsent = b""
        """One batch. What comes meanwhile is counted in the tally."""
        self._away = False

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if not self._unsent:
                self._unsent = _lines(self._tally.take(self._clock.now(), uptime()))
            await self._send(SEND_SECONDS)

    async def finish(self) -> None:
        self._unsent += _lines(self._tally.rest(self._clock.now()))
        await self._send(LAST_SECONDS)

    async def _send(self, seconds: float) -> None:
        if not self._unsent:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._sent()
        except (OSError, TimeoutError) as error:
            if not self._away:
                _log.warning("the responder can't be told", cause=type(error).__name__)
            self._away = True
            return
        if self._away:
            _log.info("the responder is told again")
        self._unsent, self._away = b"", False

    async def _sent(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(self._unsent)
            await writer.drain()
            writer.write_eof()
            # It closes when it has read all; where it let us in at all, for else this fails as reset.
            await reader.read(1)
        finally:
            writer.close()


def _lines(events: Sequence[dict[str, Json]]) -> bytes:
    return b"".join(json.dumps(event, sort_keys=True).encode("ascii") + b"\n" for event in events)
