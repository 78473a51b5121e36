"""What the log writer answers: appends through the writer, reads from the store, proofs from the published tiles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from strongroom.audit.errors import ProofError
from strongroom.audit.facts import Producer
from strongroom.audit.merkle import EMPTY_ROOT, make_consistency, make_inclusion, range_root
from strongroom.audit.protocol import MAX_READ_BYTES, Head
from strongroom.audit.sequencer import EntryStore
from strongroom.audit.tiles import TileReader, TileSource
from strongroom.audit.writer import LogWriter

T = TypeVar("T")


class Publication(Protocol):
    """Writes the published copy of the log."""

    def publish(self) -> int:
        """Publish everything committed so far; returns the published size."""
        ...


class LogService:
    """The log writer's operations. Bound to one event loop.

    The store is read in the commit thread, so it is never used by two threads; proofs are made in the publishing
    thread, so tiles don't move while they are read.
    """

    def __init__(
        self,
        *,
        writer: LogWriter,
        store: EntryStore,
        store_executor: Executor,
        publication: Publication,
        published: TileSource,
        publish_executor: Executor,
    ) -> None:
        self.writer = writer
        self._store = store
        self._store_executor = store_executor
        self._publication = publication
        self._published = published
        self._publish_executor = publish_executor
        self._published_size = 0
        self.cosigned: Callable[[], bytes | None] = lambda: None
        """Returns the newest checkpoint that a quorum of witnesses cosigned, as whoever asks the witnesses knows it."""

    def head(self) -> Head:
        """Return the committed state."""
        return Head(
            size=self._store.frontier.size,
            checkpoint=self._store.checkpoint,
            next_seq=self.writer.next_seq(Producer.KEEPER),
            halted=self.writer.halted,
            tight=self.writer.tight,
        )

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return committed entries from ``start`` on: at most ``count``, fewer where an answer would grow too large."""
        entries = await self._run(self._store_executor, lambda: self._store.read(start, count))
        taken, length = 0, 0
        while taken < len(entries) and (taken == 0 or length + len(entries[taken]) <= MAX_READ_BYTES):
            length += len(entries[taken])
            taken += 1
        return entries[:taken]

    async def flush(self) -> int:
        """Publish now; returns the published size."""
        self._published_size = await self._run(self._publish_executor, self._publication.publish)
        return self._published_size

    async def prove_inclusion(self, index: int, size: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return an entry's leaf hash and its audit path in the tree of ``size`` entries.

        :raises ProofError: the log isn't that long, or the tree has no such entry.
        """
        reader = await self._reader(size)
        return await self._run(
            self._publish_executor, lambda: (reader.node(0, index), make_inclusion(index, size, reader.node))
        )

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``old`` entries is a prefix of the one of ``new``.

        :raises ProofError: the log isn't that long, or ``old`` is greater than ``new``.
        """
        reader = await self._reader(new)
        return await self._run(self._publish_executor, lambda: make_consistency(old, new, reader.node))

    async def root_at(self, size: int) -> bytes:
        """Return the root over the first ``size`` entries.

        :raises ProofError: the log isn't that long.
        """
        if size == 0:
            return EMPTY_ROOT
        reader = await self._reader(size)
        return await self._run(self._publish_executor, lambda: range_root(0, size, reader.node))

    async def _reader(self, size: int) -> TileReader:
        if size > self._store.frontier.size:
            raise ProofError(f"the log has {self._store.frontier.size} entries, not {size}")
        published = self._published_size if size <= self._published_size else await self.flush()
        return TileReader(self._published, published)

    @staticmethod
    async def _run(executor: Executor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
