"""The log writer as the keeper's port, over its socket."""

from __future__ import annotations

from strongroom.audit.adapters.client import LogClient
from strongroom.audit.succession import Prepared
from strongroom.keeper.journal import Appended


class SocketLog:
    """Appends, reads, asks for the head. A lost connection fails the append under way, and with it the keeper."""

    def __init__(self, client: LogClient) -> None:
        self._client = client

    async def append(self, entries: tuple[bytes, ...]) -> Appended:
        """Append entries; they are durable when this returns."""
        receipt = await self._client.append(entries)
        return Appended(receipt.first, receipt.checkpoint)

    async def tight(self) -> bool:
        """Return whether the log's disk is nearly full."""
        return (await self._client.head()).tight

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries from ``start`` on, at most ``count``."""
        return await self._client.read(start, count)

    async def head(self) -> tuple[int, bytes | None]:
        """Return the log's size and last signed checkpoint."""
        head = await self._client.head()
        return head.size, head.checkpoint

    async def prepare(self) -> Prepared:
        """Have the next shard's keys made, and return them."""
        return await self._client.prepare()

    async def cosigned(self) -> bytes | None:
        """Return the newest checkpoint that a quorum of witnesses cosigned."""
        return await self._client.cosigned()
