"""A keeper's pen for tests of the log writer: signed entries with the next number, in order, each awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.entries import make_entry
from strongroom.audit.errors import ForkError, MissingRowsError
from strongroom.audit.facts import Fact, Producer
from strongroom.audit.note import VerifierKey
from strongroom.audit.protocol import Head
from strongroom.audit.writer import Receipt
from strongroom.core.clock import Instant
from strongroom.core.events import EventName
from strongroom.core.signature import Signer


class AppendableLog(Protocol):
    """A connection to the log writer that keeps the order of its calls."""

    async def head(self) -> Head:
        """Return the committed state."""
        ...

    def begin_append(self, entries: Sequence[bytes]) -> asyncio.Future[Receipt]:
        """Send entries now; the future ends when they are durable."""
        ...


class Recorder:
    """Records events of the keeper. Calls may overlap: they are numbered and sent in order, and wait together.

    After any failure the next number is asked of the log again, once everything in flight has ended: a number is
    never used for two entries, and none is left out.
    """

    def __init__(self, log: AppendableLog, *, signer: Signer, key: VerifierKey, seen: Checkpoint | None = None) -> None:
        self._log = log
        self._signer = signer
        self._key = key
        self._seen = seen
        self._order = asyncio.Lock()
        self._next: int | None = None
        self._verified: tuple[bytes, Checkpoint | None] = (b"", None)
        self._in_flight: set[asyncio.Future[Receipt]] = set()

    @property
    def seen(self) -> Checkpoint | None:
        """The largest verified checkpoint so far: pin it."""
        return self._seen

    async def record(self, event: EventName, *, at: Instant, facts: Mapping[str, Fact]) -> Receipt:
        """Sign and append one entry; returns once it is durable. ``Receipt.first`` is its index.

        :raises EntryError: facts that the event doesn't have; nothing was sent.
        :raises UnavailableError: halted, busy, out of reach or outcome unknown: the act must not take place.
        :raises TamperedError: the log answered with a checkpoint that isn't its own, or that went back.
        """
        async with self._order:
            if self._next is None:
                if self._in_flight:
                    await asyncio.wait(self._in_flight)
                self._next = (await self._log.head()).next_seq
            entry = make_entry(event, at=at, by=Producer.KEEPER, seq=self._next, facts=facts, signer=self._signer)
            done = self._log.begin_append((entry,))
            self._next += 1
            self._in_flight.add(done)
            done.add_done_callback(self._ended)
        receipt = await asyncio.shield(done)
        self._note(receipt)
        return receipt

    def _ended(self, done: asyncio.Future[Receipt]) -> None:
        self._in_flight.discard(done)
        if done.cancelled() or done.exception() is not None:
            self._next = None

    def _note(self, receipt: Receipt) -> None:
        if receipt.checkpoint != self._verified[0]:
            # Callers of one batch share its checkpoint; each note is verified once.
            self._verified = (receipt.checkpoint, read_checkpoint(receipt.checkpoint, self._key))
        checkpoint = self._verified[1]
        if checkpoint is None or checkpoint.size != receipt.size or not 0 <= receipt.first < checkpoint.size:
            raise MissingRowsError("the log's answer isn't covered by its checkpoint", index=receipt.first)
        if self._seen is not None:
            if checkpoint.size == self._seen.size and checkpoint.root != self._seen.root:
                raise ForkError(f"the log signed two roots for {checkpoint.size} entries")
            if checkpoint.size < self._seen.size and receipt.first >= self._seen.size:
                raise MissingRowsError("the log went back behind what it signed before", index=checkpoint.size)
        if self._seen is None or checkpoint.size > self._seen.size:
            self._seen = checkpoint
