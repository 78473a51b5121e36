"""The log for reading, over the log writer's socket; connects again after the log writer was restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from strongroom.audit.adapters.client import LogClient
from strongroom.audit.protocol import ProvenEntry
from strongroom.audit.succession import Seam, Succession
from strongroom.core.errors import UnavailableError
from strongroom.core.genesis import Genesis

T = TypeVar("T")


class SocketLog:
    """Reads. What it returns is verified by who uses it; its checkpoints are verified here too."""

    def __init__(self, path: Path, genesis: Genesis) -> None:
        self._path = path
        self._genesis = genesis
        self._succession = Succession.of(genesis)
        self._client: LogClient | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            await self._client.close()

    async def checkpoint(self) -> tuple[int, str]:
        """Return the size over all shards and the newest signed checkpoint.

        :raises UnavailableError: the log has none yet.
        :raises LogError: it isn't signed by the key of one of the log's shards.
        """
        head = await self._ask(lambda client: client.head())
        if head.checkpoint is None:
            raise UnavailableError("the log has no checkpoint yet")
        while not self._succession.knows(head.checkpoint):
            followed = await self._followed()
            if followed == self._succession:
                break
            self._succession = followed
        return self._succession.read(head.checkpoint).size, head.checkpoint.decode()

    async def _followed(self) -> Succession:
        known = self._succession
        for seam in await self.seams(known.current.number):
            known = known.cross(seam, self._genesis.keeper_key)
        return known

    async def seams(self, first: int) -> tuple[Seam, ...]:
        """Return how shards were closed, from shard ``first`` (counted from 1) on, some at a time."""
        return await self._ask(lambda client: client.seams(first))

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries from ``start`` on: at most ``count``, fewer where an answer would grow too large."""
        return await self._ask(lambda client: client.read(start, count))

    async def prove_inclusion(self, index: int, size: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a leaf hash and its audit path."""
        return await self._ask(lambda client: client.prove_inclusion(index, size))

    async def prove_entries(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Return entries, each with its audit path."""
        return await self._ask(lambda client: client.prove_entries(places, size))

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``old`` entries is a prefix of that of ``new``."""
        return await self._ask(lambda client: client.prove_consistency(old, new))

    async def _ask(self, ask: Callable[[LogClient], Awaitable[T]]) -> T:
        client = await self._connected()
        try:
            return await ask(client)
        except UnavailableError:
            # Reads have no effect: one more try, over a new connection.
            await self._drop(client)
            return await ask(await self._connected())

    async def _connected(self) -> LogClient:
        async with self._connecting:
            if self._client is None:
                self._client = await LogClient.connect(self._path)
            return self._client

    async def _drop(self, client: LogClient) -> None:
        async with self._connecting:
            if self._client is client:
                self._client = None
        await client.close()
