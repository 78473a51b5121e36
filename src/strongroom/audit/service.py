"""What the log writer answers: appends through the writer, reads from the store, proofs from the published tiles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from strongroom.audit.errors import ProofError
from strongroom.audit.facts import Producer
from strongroom.audit.merkle import EMPTY_ROOT, NodeReader, make_consistency, make_inclusion, range_root
from strongroom.audit.protocol import MAX_READ_BYTES, Head, ProvenEntry
from strongroom.audit.sequencer import EntryStore
from strongroom.audit.succession import Prepared, Seam, Shard
from strongroom.audit.tiles import TileReader, TileSource
from strongroom.audit.writer import LogWriter
from strongroom.core.errors import UnavailableError

T = TypeVar("T")


class Publication(Protocol):
    """Writes the published copy of the log."""

    def publish(self) -> int:
        """Publish everything committed so far; returns the published size."""
        ...


class ServedShard:
    """One shard as it is read: its store, its published copy, and whoever writes that. Sizes are those of the shard.

    It is also what the shard's witnesses are shown. Proofs are made in ``executor``, the publishing thread, so tiles
    don't move while they are read.
    """

    def __init__(
        self, shard: Shard, store: EntryStore, publication: Publication, published: TileSource, executor: Executor
    ) -> None:
        self.shard = shard
        self.store = store
        self.publication = publication
        self.size = 0
        """Entries that were published, as far as this process knows."""
        self._published = published
        self._executor = executor

    async def flush(self) -> int:
        """Publish now; returns the published size."""
        self.size = await _run(self._executor, self.publication.publish)
        return self.size

    async def prove(self, size: int, work: Callable[[NodeReader], T]) -> T:
        """Return what ``work`` makes of the hashes of the shard's first ``size`` entries, once these are published.

        :raises ProofError: the shard isn't that long.
        """
        if size > self.store.frontier.size:
            raise ProofError(f"the shard has {self.store.frontier.size} entries, not {size}")
        if size > self.size:
            await self.flush()
        reader = TileReader(self._published, self.size)
        return await _run(self._executor, lambda: work(reader.node))

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``old`` entries is a prefix of the one of ``new``.

        :raises ProofError: the shard isn't that long, or ``old`` is greater than ``new``.
        """
        return await self.prove(new, lambda node: make_consistency(old, new, node))

    async def root_at(self, size: int) -> bytes:
        """Return the root over the shard's first ``size`` entries.

        :raises ProofError: it isn't that long.
        """
        return EMPTY_ROOT if size == 0 else await self.prove(size, lambda node: range_root(0, size, node))


async def _run(executor: Executor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)


def _within(entries: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return as many of the entries as make no endless answer, the first at least."""
    taken, length = 0, 0
    while taken < len(entries) and (taken == 0 or length + len(entries[taken]) <= MAX_READ_BYTES):
        length += len(entries[taken])
        taken += 1
    return tuple(entries[:taken])


def _none_prepared() -> Prepared:
    raise UnavailableError("this log writer prepares no shard")


class LogService:
    """The log writer's operations over all shards. Bound to one event loop.

    Stores are read in the commit thread, so none is ever used by two threads. Indexes and sizes count over all shards;
    a proof is one within the shard that holds the last of so many entries.
    """

    def __init__(
        self,
        *,
        writer: LogWriter,
        shards: Sequence[ServedShard],
        store_executor: Executor,
    ) -> None:
        self.writer = writer
        self.shards = shards
        """Oldest first. The commit thread puts one behind the last when that is closed."""
        self._store_executor = store_executor
        self._seams: list[Seam] = []
        self.cosigned: Callable[[], bytes | None] = lambda: None
        """Returns the newest checkpoint that a quorum of witnesses cosigned, as whoever asks the witnesses knows it."""
        self.prepare_next: Callable[[], Prepared] = _none_prepared
        """Makes the next shard's keys durable and returns them; called in the commit thread."""

    @property
    def size(self) -> int:
        """Entries that are committed."""
        newest = self.shards[-1]
        return newest.shard.base + newest.store.frontier.size

    def head(self) -> Head:
        """Return the committed state."""
        # A shard that was just begun has no checkpoint: then the final one before is the log's newest.
        shards = tuple(self.shards)
        newest = shards[-1] if shards[-1].store.frontier.size or len(shards) == 1 else shards[-2]
        return Head(
            size=newest.shard.base + newest.store.frontier.size,
            checkpoint=newest.store.checkpoint,
            next_seq=self.writer.next_seq(Producer.KEEPER),
            halted=self.writer.halted,
            tight=self.writer.tight,
        )

    async def prepare(self) -> Prepared:
        """Return the next shard's keys, which are durable."""
        return await _run(self._store_executor, self.prepare_next)

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return committed entries from ``start`` on: at most ``count``, fewer where an answer would grow too large."""
        if start >= self.size:
            return ()
        served = self._holding(start)
        return _within(await _run(self._store_executor, lambda: served.store.read(start - served.shard.base, count)))

    async def flush(self) -> int:
        """Publish now; returns the published size."""
        published = 0
        # A closed shard first: its end is on the disk before anything that follows it.
        for served in self.shards[-2:]:
            published = served.shard.base + await served.flush()
        return published

    async def prove_inclusion(self, index: int, size: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return an entry's leaf hash and its audit path in the tree of ``size`` entries.

        :raises ProofError: the log isn't that long, or that tree has no such entry.
        """
        served = self._tree(size)
        at, end = index - served.shard.base, size - served.shard.base
        if at < 0:
            raise ProofError(
                f"entry {index} is in an earlier shard than the one that the log of {size} entries ends with"
            )
        return await served.prove(end, lambda node: (node(0, at), make_inclusion(at, end, node)))

    async def prove_entries(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Return entries with their audit paths as :meth:`prove_inclusion` does, of several at once.

        As many as make no endless answer, the first at least.

        :raises ProofError: as :meth:`prove_inclusion`, for any of them.
        """
        served = self._tree(size)
        base, end = served.shard.base, size - served.shard.base
        if min(places) < base:
            raise ProofError(f"not all of these entries are in the shard that the log of {size} entries ends with")
        proofs = await served.prove(end, lambda node: [make_inclusion(place - base, end, node) for place in places])
        read = await _run(
            self._store_executor, lambda: [entry for place in places for entry in served.store.read(place - base, 1)]
        )
        return tuple(zip(_within(read), proofs, strict=False))

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``old`` entries is a prefix of the one of ``new``, both of one shard.

        :raises ProofError: the log isn't that long, ``old`` is greater than ``new``, or of an earlier shard.
        """
        served = self._tree(new)
        base = served.shard.base
        if 0 < old <= base:
            raise ProofError(f"the log of {old} entries ends in an earlier shard than the one of {new}")
        return await served.prove_consistency(max(0, old - base), new - base)

    async def seams(self, first: int, most: int) -> tuple[Seam, ...]:
        """Return how shards were closed, from shard ``first`` (counted from 1) on."""
        for closed in tuple(self.shards[len(self._seams) : -1]):
            seam = await self._seam(closed)
            # Somebody who asked meanwhile may have come first: twice in the list, no client could follow it any more.
            if len(self._seams) < closed.shard.number:
                self._seams.append(seam)
        return tuple(self._seams[first - 1 :][:most])

    async def _seam(self, closed: ServedShard) -> Seam:
        size, note = closed.store.frontier.size, closed.store.checkpoint
        proof = await closed.prove(size, lambda node: make_inclusion(size - 1, size, node))
        entries = await _run(self._store_executor, lambda: closed.store.read(size - 1, 1))
        return Seam(checkpoint=note or b"", entry=entries[0], proof=proof)

    def _holding(self, index: int) -> ServedShard:
        return next(served for served in reversed(self.shards) if served.shard.base <= index)

    def _tree(self, size: int) -> ServedShard:
        if size > self.size:
            raise ProofError(f"the log has {self.size} entries, not {size}")
        return self._holding(max(0, size - 1))
