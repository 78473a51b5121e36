"""The keeper's hold on the log: it knows every leaf, so it checks every root that the log writer signs.

The keeper is the only appender. It folds each entry into the ledger when it queues it, in the order in which the log
will hold it, so that a freeze or a spent use counts from that moment on; an effect waits until its entry is durable.
If an entry may not have become durable, nothing that was decided on it can be trusted: the journal fails for good.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.entries import Entry, make_entry, read_entry, verify_entry
from strongroom.audit.errors import LogError
from strongroom.audit.facts import Fact, Producer
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.space import require_space
from strongroom.audit.succession import Head, Prepared, Succession, check_opening
from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.encoding import to_base64
from strongroom.core.errors import StrongroomError, TamperedError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Signer
from strongroom.keeper.pins import Pins, RolledBackError
from strongroom.release.chronicle import Chronicle
from strongroom.release.errors import LedgerError
from strongroom.release.ledger import Ledger

READ_COUNT: Final = 256
MAX_APPEND: Final = 512
MAX_APPEND_BYTES: Final = 700_000
"""Bytes of entries in one append: base64 makes a third more of them, and a call has 1 MiB. A batch that no call holds
would stop the keeper for good, and whoever has many keys released while the log's disk stalls could make one."""


class LogEquivocationError(TamperedError):
    """The log writer signed a tree that isn't the one that the keeper built from the same entries."""

    code = "log-equivocates"


@dataclass(frozen=True, slots=True)
class Appended:
    """What the log writer answered: entries durable from ``first`` on, under a signed checkpoint."""

    first: int
    checkpoint: bytes


class LogPort(Protocol):
    """The log writer, as the keeper sees it."""

    async def append(self, entries: tuple[bytes, ...]) -> Appended:
        """Append entries; they are durable when this returns."""
        ...

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries from ``start`` on, at most ``count``."""
        ...

    async def head(self) -> tuple[int, bytes | None]:
        """Return the log's size and last signed checkpoint."""
        ...

    async def tight(self) -> bool:
        """Return whether the log's disk is nearly full."""
        ...

    async def cosigned(self) -> bytes | None:
        """Return the newest checkpoint that a quorum of witnesses cosigned; nothing of it is verified."""
        ...

    async def prepare(self) -> Prepared:
        """Make the next shard's keys durable, unless they are; the same ones until that shard begins."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """A durable entry: where it stands, the checkpoint that covers it, and its signed bytes."""

    index: int
    checkpoint: bytes
    entry: bytes


@dataclass(slots=True)
class _Queued:
    index: int
    data: bytes
    head: Head
    """What the log writer must sign once this entry is its last."""
    closes: bool
    """Nothing follows it in its shard, so nothing follows it in its batch."""
    done: asyncio.Future[Recorded]


class Journal:
    """Appends in order, one batch in flight, and holds the ledger."""

    def __init__(self, genesis: Genesis, log: LogPort, clock: Clock) -> None:
        self.ledger = Ledger()
        self._reader = Chronicle(ledger=self.ledger)
        self._genesis = genesis
        self._log = log
        self._clock = clock
        self.succession = Succession.of(genesis)
        """The log's shards, as its entries say."""
        self.shard_began: Instant = 0
        """When the current shard's first entry was made."""
        self.shards_closed: list[Instant] = []
        """When each closed shard ended, oldest first."""
        self.pruned: dict[int, int] = {}
        """Shard -> below which of its indexes entries aren't published any more."""
        self._frontier = Frontier()
        self._queue: list[_Queued] = []
        self._worker: asyncio.Task[None] | None = None
        self._seen: Instant = 0
        self.failure: StrongroomError | None = None
        self.tight = False
        """Whether the log's disk is nearly full, when last looked: then only what takes access away is recorded."""
        self.on_failure: Callable[[], None] = lambda: None
        self.durable = (0, Frontier().root())
        """Size and root of the log as far as it is known to be durable."""

    @property
    def size(self) -> int:
        """Entries in all shards, durable or queued."""
        return self.ledger.size

    @property
    def between_shards(self) -> bool:
        """Whether a shard was closed and the next one isn't opened: then only its opening may be recorded."""
        return self._frontier.size == 0 and self.size > 0

    @property
    def shard_size(self) -> int:
        """Entries in the current shard, durable or queued."""
        return self._frontier.size

    @property
    def latest(self) -> Instant:
        """The latest time seen: of an entry, or of the clock when it was pinned. It never falls."""
        return max(self.ledger.latest, self._seen)

    async def replay(self, pins: Pins | None) -> None:
        """Read the whole log, check it, and fold it into the ledger.

        :raises RolledBackError: the log is shorter than, or another than, what was pinned; the pins are gone or
            another deployment's; or the clock went back.
        :raises LogEquivocationError: the checkpoint isn't over these entries.
        :raises TamperedError: an entry is forged, malformed or out of order.
        """
        if pins is not None and pins.genesis != self._genesis.digest:
            raise RolledBackError("the pins belong to another deployment", remedy="restore the keeper's own pins")
        size, note = await self._log.head()
        while self.size < size:
            entries = await self._log.read(self.size, min(READ_COUNT, size - self.size))
            if not entries:
                raise LogEquivocationError(f"the log says it has {size} entries and shows {self.size}")
            for data in entries:
                self._fold(data, read_entry(data))
                if pins is not None and self.size == pins.log_size:
                    self._check_pin(pins)
        if note is None or (pins is not None and self.size < pins.log_size):
            raise RolledBackError(
                f"the log has {size} entries; {pins.log_size if pins else 1} were seen before",
                remedy="the log was rolled back: restore it from a copy that holds every entry; nothing is released",
            )
        self._check_head(note, self._head())
        self._check_pins_kept(pins)
        await self.look_for_space()
        now = self._clock.now()
        self._seen = pins.latest if pins else 0
        if now < self.latest:
            raise RolledBackError(
                f"the clock is {self.latest - now} seconds behind what was seen before",
                remedy="mend the machine's clock",
            )

    async def cosigned(self) -> bytes | None:
        """Return what the log writer says that witnesses cosigned; not verified."""
        return await self._log.cosigned()

    def record(self, event: EventName, facts: Mapping[str, Fact], signer: Signer) -> asyncio.Future[Recorded]:
        """Queue an entry; the future ends when it is durable. The ledger knows it at once.

        :raises UnavailableError: an earlier append failed.
        :raises LogFullError: space is short, and this doesn't take access away; nothing was queued.
        :raises LedgerError: the entry can't follow what the log holds; nothing was queued.
        :raises UnfoundedError: the act doesn't follow from what was logged before it; nothing was queued.
        """
        if self.failure is not None:
            raise self.failure
        if self.tight:
            # Here, before the ledger knows of it: an append that the log writer refuses can't be taken back.
            require_space((event,))
        if (event is EventName.SHARD_CONTINUED) is not self.between_shards:
            raise LedgerError("a shard that was closed is followed by the opening of the next, and by nothing else")
        at: Instant = max(self._clock.now(), self.ledger.latest)
        data = make_entry(event, at=at, by=Producer.KEEPER, seq=self.ledger.keeper_seq, facts=facts, signer=signer)
        index, entry = self.ledger.size, read_entry(data)
        # As any auditor will judge it. Whatever let an act come so far, one that doesn't follow isn't recorded, and
        # what isn't recorded isn't carried out.
        self._reader.require(index, entry)
        self._apply(data, entry)
        done: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        # Who queues a record needn't wait for it: its failure is the journal's, and `failure` tells everybody.
        done.add_done_callback(_heard)
        self._queue.append(_Queued(index, data, self._head(), event is EventName.SHARD_CLOSED, done))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="journal")
        return done

    async def turn(self, signer: Signer) -> Recorded:
        """Close the current shard and open the next one, with keys that the log writer prepared for it. One at a time.

        :raises LogEquivocationError: the log writer prepared another shard. :raises SuccessionError: or used keys.
        :raises UnavailableError: the log doesn't answer, or failed. :raises LogFullError: space is short.
        """
        prepared = await self._log.prepare()
        if prepared.number != self.succession.current.number + 1:
            raise LogEquivocationError("the log writer prepared another shard than the next")
        facts: dict[str, Fact] = {
            "next": prepared.number,
            "key": prepared.key,
            "cosigner": to_base64(prepared.cosigner),
            "base": self.size + 1,
        }
        # Both in one go: nothing that others record may stand between them.
        closed = self.record(EventName.SHARD_CLOSED, facts, signer)
        _closed, opened = await asyncio.gather(closed, self.resume_turn(signer))
        return opened

    def resume_turn(self, signer: Signer) -> asyncio.Future[Recorded]:
        """Open the shard for which the one before was closed: by :meth:`turn`, or before a crash.

        :raises LedgerError: the current shard isn't closed.
        """
        opening = self.succession.opening
        if opening is None:
            raise LedgerError("no shard of the log was closed")
        return self.record(EventName.SHARD_CONTINUED, opening.facts(self._genesis.digest), signer)

    async def look_for_space(self) -> None:
        """Ask the log writer whether its disk is nearly full. One that answers nonsense changes nothing."""
        with contextlib.suppress(StrongroomError):
            self.tight = await self._log.tight()

    def pins(self) -> Pins:
        """Return what is to be pinned now: only what is durable."""
        size, root = self.durable
        ledger = self.ledger
        # Kept, so that a clock that is moved back meanwhile doesn't lower what is pinned.
        self._seen = max(self.latest, self._clock.now())
        return Pins(
            genesis=self._genesis.digest,
            log_size=size,
            log_root=Digest(DigestAlgorithm.SHA256, root),
            roster_epoch=ledger.roster.epoch if ledger.roster else 0,
            policy_epoch=ledger.policy.epoch if ledger.policy else 0,
            reference_values_epoch=ledger.reference_values.epoch if ledger.reference_values else 0,
            latest=self._seen,
        )

    async def _work(self) -> None:
        try:
            while self._queue and self.failure is None:
                count = _fitting(self._queue)
                batch, self._queue = self._queue[:count], self._queue[count:]
                try:
                    await self._append(batch)
                except StrongroomError as error:
                    self._fail(batch, error)
                except Exception as error:  # noqa: BLE001 - whatever it was, what is durable is now unknown
                    self._fail(batch, UnavailableError(f"the log didn't answer ({type(error).__name__})"))
        finally:
            self._worker = None

    async def _append(self, batch: list[_Queued]) -> None:
        appended = await self._log.append(tuple(queued.data for queued in batch))
        if appended.first != batch[0].index:
            raise LogEquivocationError("the log holds entries that the keeper didn't write")
        self._check_head(appended.checkpoint, batch[-1].head)
        for queued in batch:
            if not queued.done.done():
                queued.done.set_result(Recorded(queued.index, appended.checkpoint, queued.data))

    def _fail(self, batch: list[_Queued], error: StrongroomError) -> None:
        self.failure = UnavailableError(
            f"the log failed and the keeper stopped: {error.message}",
            remedy="mend the log, then restart the keeper; it checks the whole log before it serves",
            reason=f"log-failed.{error.reason}",
        )
        for queued in (*batch, *self._queue):
            if not queued.done.done():
                queued.done.set_exception(self.failure)
        self._queue.clear()
        self.on_failure()

    def _fold(self, data: bytes, entry: Entry) -> None:
        verify_entry(entry, self._genesis.keeper_key)
        first, opening = self._frontier.size == 0, self.succession.opening
        try:
            check_opening(entry, first=first, opening=opening, genesis=self._genesis.digest)
        except LogError as error:
            raise LogEquivocationError(f"entry {self.size} of the log: {error.message}") from None
        self._apply(data, entry)

    def _apply(self, data: bytes, entry: Entry) -> None:
        closed = self._closed_by(data, entry) if entry.event is EventName.SHARD_CLOSED else None
        self.ledger.apply(self.size, entry)
        if self._frontier.size == 0:
            self.shard_began = entry.at
        self._frontier.append(leaf_hash(data))
        self.ledger.roots += self._frontier.root()
        if closed is not None:
            self.succession, self._frontier = closed, Frontier()
            self.shards_closed.append(entry.at)
        if entry.event is EventName.SHARD_PRUNED:
            self.pruned[entry.integer("shard")] = entry.integer("minimum")

    def _closed_by(self, data: bytes, entry: Entry) -> Succession:
        grown = self._frontier.copy()
        grown.append(leaf_hash(data))
        return self.succession.close(entry, Checkpoint(self.succession.current.origin, grown.size, grown.root()))

    def _head(self) -> Head:
        """Return what a checkpoint over everything queued so far must say."""
        finals = self.succession.finals
        if self._frontier.size == 0 and finals:
            return Head(self.succession.shards[-2], finals[-1])
        shard = self.succession.current
        return Head(shard, Checkpoint(shard.origin, self._frontier.size, self._frontier.root()))

    def _check_pins_kept(self, pins: Pins | None) -> None:
        # The first start pins before it lets anybody adopt a document: a log that has one was pinned.
        ledger = self.ledger
        if pins is None and (ledger.roster or ledger.policy or ledger.reference_values or ledger.egress):
            raise RolledBackError(
                "the keeper's pins are gone, and the log was in use before",
                remedy="restore the keeper's `pins.json`: without it nobody can tell whether the log is whole",
            )

    def _check_pin(self, pins: Pins) -> None:
        if self.ledger.root_at(pins.log_size) != pins.log_root.value:
            raise RolledBackError(
                f"the first {pins.log_size} entries of the log aren't the ones seen before",
                remedy="the log was rewritten: treat this as an incident; nothing is released",
            )

    def _check_head(self, note: bytes, head: Head) -> None:
        if read_checkpoint(note, head.shard.verifier) != head.checkpoint:
            raise LogEquivocationError("the log writer signed another tree than the keeper's entries make")
        self.durable = (head.size, head.root)


def _fitting(queue: list[_Queued]) -> int:
    """Return how many of the entries that wait go into the next append; one at least."""
    room = MAX_APPEND_BYTES
    for count, queued in enumerate(queue[:MAX_APPEND]):
        room -= len(queued.data)
        if count and room < 0:
            return count
        if queued.closes:
            return count + 1
    return min(len(queue), MAX_APPEND)


def _heard(recording: asyncio.Future[Recorded]) -> None:
    if not recording.cancelled():
        recording.exception()
