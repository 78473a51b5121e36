"""What every part of the keeper stands on: keys, log, documents and pins, and the lock that ends them all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, LockedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.secret import SecretBytes
from strongroom.keeper.journal import Journal, Recorded
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.pins import DocumentStore, KeyringStore, PinStore
from strongroom.keeper.reconciling import reconcile
from strongroom.keeper.vault import Vault
from strongroom.keeper.walls import Standing
from strongroom.keys.hierarchy import Tree
from strongroom.personnel.roster import Roster
from strongroom.release.documents import DocumentKind, Documents, StaleDocumentError, adopted, examine_document
from strongroom.release.standing import TAKES_NOTHING


async def _nobody_left(_before: Roster | None, _after: Roster) -> None:
    """Stand in until the people's registry takes its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where the keeper keeps what it starts from again."""

    pins: PinStore
    keyrings: KeyringStore
    documents: DocumentStore


class KeeperState:
    """Keeps the vault, the log's ledger and the documents in force together; records, pins and locks."""

    def __init__(self, genesis: Genesis, vault: Vault, journal: Journal, stores: Stores, clock: Clock) -> None:
        self.genesis = genesis
        self.vault = vault
        self.journal = journal
        self.documents = Documents()
        self._stores = stores
        self._clock = clock
        self._pinning = threading.Lock()
        self.locked_because = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.acted: Callable[[], None] = lambda: None
        """Called before a control act is pinned."""
        self.standing: Standing | None = None
        """The walls around this process, once they stand."""
        self.on_roster: Callable[[Roster | None, Roster], Awaitable[None]] = _nobody_left
        self.on_replayed: Callable[[], None] = lambda: None
        """Called at the start, before the keyring is compared with the log that was replayed."""
        self.changed: Callable[[], None] = lambda: None
        """Called when somebody or something may have lost access: leases are looked at again."""
        journal.on_failure = lambda: self.lock("log-failed")

    async def start(self) -> None:
        """Replay the log against the pins, take the kept documents into force, and record the unlocking.

        :raises TamperedError: the log, the pins, the keyring or a kept document contradict each other.
        """
        self._loop = asyncio.get_running_loop()
        pins = self._stores.pins.load()
        await self.journal.replay(pins)
        for kind in DocumentKind:
            in_force = adopted(self.journal.ledger, kind)
            data = self._stores.documents.load(kind.value, in_force.document) if in_force else None
            if data is not None:
                candidate, known = examine_document(kind, Envelope.parse(data), self.genesis, self.journal.ledger)
                if not known:
                    raise StaleDocumentError(f"the keeper's copy of the {kind.value} isn't the one in force")
                candidate.put_into(self.documents)
        if self.journal.between_shards:
            await self.journal.resume_turn(self.vault.signer)
        self.on_replayed()
        self._reconcile()
        await self.pinned(self.record(EventName.KEEPER_UNLOCKED, {}))

    def _reconcile(self) -> None:
        ledger = self.journal.ledger
        fits = reconcile(self.vault.keyring, ledger.keys, held=lambda model: ledger.precautions.hold(model) is not None)
        if fits.keyring != self.vault.keyring:
            self.hold(fits.keyring)
        for event, facts in fits.records:
            self.record(event, facts)

    def hold(
        self, keyring: Keyring, roots: Mapping[Tree, SecretBytes] | None = None, *, data: bytes | None = None
    ) -> None:
        """Make a keyring durable, and use it from now on. The one that it was planned on must still be in use.

        :param roots: its root keys, where they are others than before.
        :param data: its bytes, where whoever calls has them.
        :raises UnavailableError: it couldn't be written; the one before stands.
        """
        self._stores.keyrings.save(keyring.to_bytes() if data is None else data)
        self.vault.take(keyring, roots)

    def begin(
        self,
        keyring: Keyring,
        event: EventName,
        facts: Mapping[str, Fact],
        *,
        data: bytes | None = None,
        held: Callable[[], None] = lambda: None,
    ) -> asyncio.Future[Recorded]:
        """Hold a keyring with a new key, and queue the record that names it: a crash in between leaves an unused key.

        :param held: called in between.
        :raises UnavailableError: the keyring couldn't be written, or the log takes nothing; the one before stands.
        :raises StrongroomError: as :meth:`Journal.record`; the one before stands.
        """
        before = self.vault.keyring
        self.hold(keyring, data=data)
        held()
        try:
            return self.record(event, facts)
        except StrongroomError:
            # Refused before anything was queued, say because the log's disk is nearly full: as if it hadn't begun.
            self.hold(before)
            raise

    def keep(self, kind: str, envelope: Envelope) -> None:
        """Keep a signed object in the keeper's own folder, named by its digest."""
        self._stores.documents.save(kind, envelope.digest, envelope.to_bytes())

    def kept(self, kind: str, digest: Digest) -> Envelope | None:
        """Return a signed object that was kept."""
        data = self._stores.documents.load(kind, digest)
        return None if data is None else Envelope.parse(data)

    def lock(self, cause: str) -> None:
        """Wipe the keys; nothing is decided or released until the process is started again. From any thread.

        The log says so and why, where it still takes entries: the entry is signed before the key goes, and queued.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # Another thread: only the loop's may touch ledger and queue. It locks before it hears of anything else.
            if self._loop is not None and self._loop.is_running():
                self._loop.call_soon_threadsafe(self.lock, cause)
            else:
                self.locked_because = self.locked_because or cause
                self.vault.lock()
            return
        if not self.locked_because:
            self.locked_because = cause
            with contextlib.suppress(StrongroomError):
                self.journal.record(EventName.KEEPER_LOCKED, {"cause": cause}, self.vault.signer)
        self.vault.lock()

    def stop(self) -> None:
        """Wipe the keys because the process ends. An orderly end isn't recorded."""
        self.locked_because = self.locked_because or "stopped"
        self.vault.lock()

    def pin(self) -> None:
        """Pin the state as far as it is durable: after each control act, and every second, from a thread, for releases.

        Without pins a rollback would go unseen: when they can't be written the keeper locks.

        :raises UnavailableError: the pins couldn't be written.
        """
        # Taken and written under one lock: an older state must not be pinned over a newer one.
        with self._pinning:
            try:
                self._stores.pins.save(self.journal.pins())
            except UnavailableError:
                self.lock("pins-failed")
                raise

    def record(self, event: EventName, facts: Mapping[str, Fact]) -> asyncio.Future[Recorded]:
        """Queue a record now; the future ends when it is durable."""
        recording = self.journal.record(event, facts, self.vault.signer)
        if event not in TAKES_NOTHING:
            self.changed()
        return recording

    async def record_pinned(self, event: EventName, facts: Mapping[str, Fact]) -> Recorded:
        """Record a control act and pin it before anybody is told: it must not be rolled back unseen."""
        return await self.pinned(self.record(event, facts))

    async def pinned(self, recording: asyncio.Future[Recorded]) -> Recorded:
        """Wait until a queued record is durable, and pin it."""
        recorded = await recording
        self.acted()
        self.pin()
        return recorded

    def roster(self) -> Roster:
        """Return the roster in force.

        :raises DeniedError: there is none yet.
        """
        if self.documents.roster is None:
            raise DeniedError("no roster is in force", reason="no-documents", remedy="have the root quorum sign one")
        return self.documents.roster

    def require_unlocked(self) -> None:
        """Refuse when locked, or when the clock is behind the log.

        :raises LockedError: the keys were wiped.
        :raises DeniedError: the clock went back, behind the log or behind what was pinned.
        """
        if self.locked_because:
            raise LockedError(
                f"the keeper is locked: {self.locked_because}", remedy="mend the cause and start the deployment again"
            )
        if self._clock.now() < self.journal.latest:
            raise DeniedError(
                "the clock is behind what was seen before", reason="clock-behind", remedy="mend the clock"
            )
