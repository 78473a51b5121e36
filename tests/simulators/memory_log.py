"""A log writer in memory that speaks the keeper's port: honest, slow when told to, or dishonest in one chosen way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosigner
from strongroom.audit.entries import Entry, make_entry, read_entry
from strongroom.audit.facts import Producer
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.note import Note
from strongroom.audit.succession import Prepared, Succession
from strongroom.core.clock import Instant
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Ed25519Signer, Signer
from strongroom.keeper.journal import Appended


class MemoryLog:
    """Entries and signed checkpoints, in memory. ``gate`` holds appends back; ``fault`` replaces an answer."""

    def __init__(self, genesis: Genesis, signer: Signer, *, at: Instant) -> None:
        opened = make_entry(
            EventName.LOG_OPENED, at=at, by=Producer.LOG, seq=0, facts={"genesis": genesis.digest}, signer=None
        )
        self.entries: list[bytes] = [opened]
        self.succession = Succession.of(genesis)
        self.signers: list[Signer] = [signer]
        """Each shard's key, oldest first, and the one that was prepared last."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.fault: Callable[[Appended], Appended] | None = None
        self.short_of_space = False
        self.witnessed: bytes | None = None
        """What it says that witnesses cosigned."""

    def last(self, event: EventName | None = None) -> Entry:
        """Return the newest entry, or the newest of an event."""
        read = (read_entry(data) for data in reversed(self.entries))
        return next(entry for entry in read if event in {None, entry.event})

    def sign(self, size: int | None = None, *, by: Signer | None = None) -> bytes:
        """Sign the head of the first ``size`` entries, as whoever holds the log's key can at any time."""
        size = len(self.entries) if size is None else size
        shard = self.succession.holding(size - 1)
        frontier = Frontier.over(leaf_hash(entry) for entry in self.entries[shard.base : size])
        signer = by or self.signers[shard.number - 1]
        return Checkpoint(shard.origin, frontier.size, frontier.root()).sign(signer)

    async def prepare(self) -> Prepared:
        """Make the next shard's keys."""
        number = self.succession.current.number + 1
        if len(self.signers) < number:
            self.signers.append(Ed25519Signer.from_seed(bytes([number]) * 32))
        cosigner = Cosigner.of_log(self.succession.origin(number), bytes([number]) * 32)
        return Prepared(number=number, key=self.signers[-1].public_key, cosigner=cosigner.key.raw)

    async def append(self, entries: tuple[bytes, ...]) -> Appended:
        """Append once the gate is open."""
        await self.gate.wait()
        first = len(self.entries)
        self.entries.extend(entries)
        for end, data in enumerate(entries, first + 1):
            entry = read_entry(data)
            if entry.event is EventName.SHARD_CLOSED:
                final = Checkpoint.parse_text(Note.parse(self.sign(end)).text)
                self.succession = self.succession.close(entry, final)
        self.batches.append(len(entries))
        answer = Appended(first, self.sign())
        return self.fault(answer) if self.fault else answer

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries."""
        return tuple(self.entries[start : start + count])

    async def head(self) -> tuple[int, bytes | None]:
        """Return size and checkpoint."""
        return len(self.entries), self.sign()

    async def tight(self) -> bool:
        """Return whether space is short."""
        return self.short_of_space

    async def cosigned(self) -> bytes | None:
        """Return what witnesses cosigned."""
        return self.witnessed
