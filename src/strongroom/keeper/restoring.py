"""The keeper's part in backups: it records that one was made, and takes up a deployment that was put back from one.

A restored deployment is believed for three things: the root quorum's order, which names the backup; the log, replayed
as at every start; and a keyring that fits it. Whatever keys are missing are gone, and the log says so. Then every
living model gets a new key epoch: what the lost machine's disk still holds opens nothing that comes after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.access.request import LogHead
from strongroom.audit.facts import MAX_LIST
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, MalformedError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.keeper.journal import Recorded
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.pins import Pins
from strongroom.keeper.quotas import Quota
from strongroom.keeper.records import PersonRecords
from strongroom.keeper.rotation import Rotation
from strongroom.keeper.service import Keeper
from strongroom.keys.hierarchy import Tree
from strongroom.keys.states import KeyState
from strongroom.release.key_ledger import KeyLedger
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder, KeyOrderRefusedError, examine_order
from strongroom.release.ledger import Ledger
from strongroom.release.precautions import PrecautionKind

MARKER: Final = "restored.json"
MAX_MARKER: Final = 65536


class KeysMissingError(DeniedError):
    """The key package doesn't go with the log: it is of before a rotation, or lacks keys that are in use."""

    code = "key-package-behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What lies beside a restored keyring until the keeper has taken it up: whose order it was, and what is missing."""

    order: Envelope
    backup: Digest
    size: int
    lost: tuple[str, ...]
    """KEKs that the log calls alive and the key package doesn't hold: their models are never opened again."""

    @classmethod
    def parse(cls, data: bytes) -> Restored:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_MARKER), "restored") as fields:
            fields.constant("v", 1)
            with fields.child("order") as order:
                envelope = Envelope.read(order)
            return cls(
                order=envelope,
                backup=fields.digest("backup"),
                size=fields.integer("size"),
                lost=fields.texts("lost", most=MAX_LIST, max_length=64),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "order": self.order.to_json(),
                "backup": str(self.backup),
                "size": self.size,
                "lost": [*self.lost],
            }
        )


class RestoredStore(Protocol):
    """Where a restored deployment's marker lies: the keeper's own folder."""

    def load(self) -> Restored | None:
        """Return it, or None: this deployment wasn't just restored."""
        ...

    def drop(self) -> None:
        """Remove it, durably."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A key package's keyring, fitted to the log: what the log calls destroyed is taken out; ``lost`` is missing."""

    keyring: Keyring
    lost: tuple[str, ...]
    models: tuple[ModelId, ...]
    """The models of the lost KEKs."""


def fit(keyring: Keyring, keys: KeyLedger) -> Fitted:
    """Fit a key package's keyring to what the log says of the deployment's keys. Pure.

    :raises KeysMissingError: it is of another generation of the root key, of before an epoch was rotated, or lacks too
        many keys.
    """
    if keyring.generation != keys.generation:
        raise KeysMissingError(
            f"the key package is of generation {keyring.generation} of the root key; the log is at {keys.generation}",
            remedy="take the newest key package: one is due after every rotation",
        )
    trees = {tree for tree, _stored in keyring.roots}
    living = {epoch.epoch for epoch in keys.living_epochs()}
    held = {one.epoch for one in keyring.epochs}
    for epoch in keys.living_epochs():
        tree = Tree.of(escrowed=epoch.escrowed)
        if epoch.state is KeyState.ACTIVE and epoch.epoch not in held and tree in trees:
            raise KeysMissingError(
                f"the key package lacks key epoch {epoch.epoch}",
                remedy="take the newest key package: one is due after every rotation",
            )
    fitted = keyring.without_epochs(held - living)
    alive = {kek.kek for kek in keys.living()}
    fitted = fitted.without_keks({one.kek for one in fitted.keks} - alive)
    places = {(one.kek, one.epoch) for one in fitted.keks}
    lost = [kek for kek in keys.living() if (kek.kek, kek.epoch) not in places]
    gone = {kek.kek for kek in lost}
    if len(gone) > MAX_LIST:
        # One entry of the log names them all: found out now, and not at the first start.
        raise KeysMissingError(
            f"the key package lacks {len(gone)} keys; at most {MAX_LIST} can be given up",
            remedy="take a newer key package",
        )
    return Fitted(
        keyring=fitted.without_keks(gone),
        lost=tuple(sorted(gone)),
        models=tuple(sorted({kek.model for kek in lost})),
    )


def restored_pins(genesis: Genesis, ledger: Ledger, at: Instant) -> Pins:
    """Return the pins of a deployment that goes on from a log: all of it was verified, so all of it is pinned."""
    return Pins(
        genesis=genesis.digest,
        log_size=ledger.size,
        log_root=Digest(DigestAlgorithm.SHA256, ledger.root_at(ledger.size)),
        roster_epoch=ledger.roster.epoch if ledger.roster else 0,
        policy_epoch=ledger.policy.epoch if ledger.policy else 0,
        reference_values_epoch=ledger.reference_values.epoch if ledger.reference_values else 0,
        latest=max(ledger.latest, at),
    )


def require_ordered(order: Envelope, backup: Digest, genesis: Genesis) -> None:
    """Check that the root quorum ordered this backup to be restored; whether it still may be is for the log to say.

    :raises SignatureError: too few root keys signed. :raises MalformedError: not a key order.
    :raises KeyOrderRefusedError: it is about something else.
    """
    genesis.verify_root(order, KEY_ORDER_TYPE)
    found = KeyOrder.parse(order.payload)
    if found.act is not KeyAct.RESTORE or found.subject is None or not found.subject.matches(backup):
        raise KeyOrderRefusedError(
            "the key order doesn't say that this backup is to be restored",
            reason="other-order",
            remedy="have the root holders order it: strongroom backup order",
        )


def examine_restore(order: Envelope, backup: Digest, genesis: Genesis, ledger: Ledger, now: Instant) -> None:
    """Check that the root quorum ordered this backup to be restored, over this log, and not before.

    :raises SignatureError: too few root keys signed. :raises MalformedError: not a key order.
    :raises KeyOrderRefusedError: it may not be carried out; ``reason`` says why.
    """
    require_ordered(order, backup, genesis)
    examine_order(order, genesis, ledger, now)


def seen_by(order: Envelope) -> LogHead:
    """Return the head of the log that whoever signed an order has seen; the signatures are checked elsewhere.

    :raises MalformedError: not a key order.
    """
    return KeyOrder.parse(order.payload).log


class Restoring:
    """Backups made, and this deployment's own restoration, if it was just put back."""

    def __init__(self, keeper: Keeper, store: RestoredStore, clock: Clock) -> None:
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._order: Digest | None = None
        keeper.on_replayed = self._replayed

    async def serve(self, fields: Fields) -> dict[str, Json]:
        """Answer the operation ``backup-made`` (:mod:`strongroom.keeper.key_routes`)."""
        backup, size = fields.digest("backup"), fields.integer("size", least=1)
        log = fields.integer("log", least=1)
        fields.end()
        recorded = await self.made(backup, size=size, log=log)
        return {"index": recorded.index}

    async def made(self, backup: Digest, *, size: int, log: int) -> Recorded:
        """Record that a backup was made, of ``size`` bytes.

        :param log: entries of the log in it: a backup of a log that isn't there yet is nobody's.
        :raises DeniedError: more entries than the log has.
        :raises TooManyEntriesError: too many were recorded lately.
        """
        keeper = self._keeper
        keeper.require_unlocked()
        if not 0 < log <= keeper.journal.ledger.size:
            raise DeniedError(f"the log doesn't have {log} entries", reason="backup-ahead")
        keeper.quotas.take(Quota.BACKUP, "")
        return await keeper.record_pinned(EventName.BACKUP_MADE, {"backup": backup, "size": size})

    def _replayed(self) -> None:
        """Record the restoration, before the keyring is compared with the log. Called at the start, the log replayed.

        A marker that is put back later changes nothing: an order is good once.

        :raises KeyOrderRefusedError: the order isn't good, or is for another backup.
        """
        marker = self._store.load()
        if marker is None:
            return
        keeper, ledger = self._keeper, self._keeper.journal.ledger
        self._order = marker.order.digest
        if self._order in ledger.keys.authorities:
            return
        examine_restore(marker.order, marker.backup, keeper.genesis, ledger, self._clock.now())
        keeper.keep("key-order", marker.order)
        keeper.record(
            EventName.DEPLOYMENT_RESTORED,
            {"order": self._order, "backup": marker.backup, "size": marker.size, "lost": marker.lost},
        )
        held = {one.epoch for one in keeper.vault.keyring.epochs}
        for epoch in list(ledger.keys.living_epochs()):
            # The tree that no share and no package holds stayed on the machine that was lost.
            if epoch.epoch not in held:
                keeper.record(EventName.EPOCH_DESTROYED, {"authority": self._order, "epoch": epoch.epoch})

    @property
    def begun(self) -> bool:
        """Whether this deployment was just restored, and hasn't a new epoch yet."""
        return self._order is not None

    async def finish(self, rotation: Rotation) -> None:
        """Take a new key epoch, and forget that this deployment was restored. Called after the keeper's start.

        A crash on the way is mended at the next start.

        :raises StrongroomError: the epoch couldn't be rotated; the keeper must not serve.
        """
        if self._order is None:
            return
        keys = self._keeper.journal.ledger.keys
        # Of a marker that is put back later, the order was used: no epoch follows from it again.
        followed = any(epoch.authority == self._order for epoch in keys.epochs.values())
        if keys.restored == self._order and not followed:
            await rotation.rotate_epoch(self._order)
        self._store.drop()
        self._order = None


def drop_unreadable(records: PersonRecords, ledger: Ledger) -> tuple[PersonId, ...]:
    """Erase the vetting records that a backup has in another version than the log's, or under a key that is gone.

    Such a record would stop the keeper; without it the person isn't cleared until two officers record it anew.
    """
    dropped = []
    for person, adopted in ledger.vetting.items():
        try:
            found = records.load(person, adopted.epoch, adopted.document)
        except (TamperedError, MalformedError):
            records.erase(person)
            found = None
        if found is None:
            dropped.append(person)
    return tuple(dropped)


def summary(fitted: Fitted, ledger: Ledger) -> Mapping[str, int]:
    """Return what a restored deployment begins with, in numbers."""
    return {
        "entries": ledger.size,
        "models": len(ledger.versions),
        "models_lost": len(fitted.models),
        "models_destroyed": len(ledger.keys.destroyed),
        "grants": len(ledger.grants),
        "people_vetted": len(ledger.vetting),
        "holds": sum(kind is PrecautionKind.HOLD for kind, _subject in ledger.precautions.known),
    }
