"""The responder's desk, as people's programs reach it: its socket, for one question at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.fields import Fields
from strongroom.ipc.adapters.client import UnixClient

ASK_SECONDS: Final = 30.0


class DeskDoor:
    """A :class:`strongroom.responder.reading.AskDesk`.

    :param seconds: how long to wait for an answer.
    """

    def __init__(self, path: Path, *, seconds: float = ASK_SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    def __call__(self, operation: str, /, **members: Json) -> Fields:
        """Ask; a connection of its own, so that a question that hangs holds up no other.

        :raises UnavailableError: it doesn't answer. :raises StrongroomError: what it refused with.
        """
        return asyncio.run(self._asked(operation, members))

    async def _asked(self, operation: str, members: dict[str, Json]) -> Fields:
        client = UnixClient(self._path, seconds=self._seconds, start="strongroom responder run")
        try:
            return await client.call(operation, **members)
        finally:
            await client.close()
