"""The keys' part of the ledger: in which state each KEK, epoch and root generation is, as the log replays to it.

The keyring holds bytes and no states; what may be done with them stands here. A keyring that doesn't fit is an older
one that somebody put back, or one act ahead of the log: :func:`strongroom.keeper.reconciling.reconcile` tells which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.keys.states import PROCESSES, KeyState, KeyStateError, step
from strongroom.release.errors import LedgerError

_LIVING: Final = PROCESSES | {KeyState.SUSPENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """An epoch key's life so far."""

    epoch: int
    escrowed: bool
    state: KeyState
    at: Instant
    """When it was created."""
    authority: Digest | None = None
    """The order or request that it follows another epoch by; None for a tree's first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KekRecord:
    """A KEK's life so far."""

    kek: str
    model: ModelId
    epoch: int
    """Under which epoch it stands now."""
    escrowed: bool
    state: KeyState
    at: Instant
    """When it was created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyedModel:
    """A model whose KEK was destroyed: no version of it is ever opened again."""

    model: ModelId
    request: Digest
    kek: str
    epoch: int
    generation: int
    index: int
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedEscrow:
    """The escrow in force: whose shares open the root key of a generation."""

    escrow: Digest
    generation: int
    threshold: int
    custodians: tuple[PersonId, ...]
    index: int
    at: Instant


@dataclass(slots=True)
class KeyLedger:
    """State folded from key entries. Only :meth:`apply` changes it."""

    generation: int = 1
    """Of the root key."""
    generation_at: Instant = 0
    epochs: dict[int, EpochRecord] = field(default_factory=dict)
    keks: dict[str, KekRecord] = field(default_factory=dict)
    by_model: dict[ModelId, list[str]] = field(default_factory=dict)
    """Each model's KEKs, oldest first."""
    data_keys: dict[ModelId, dict[str, str]] = field(default_factory=dict)
    """Model -> data key -> the KEK that it was last known to be under. Only those that may still be wanted."""
    registered: dict[ModelId, set[str]] = field(default_factory=dict)
    """Model -> the data keys of its registered versions: none of them may be lost."""
    outrun: dict[ModelId, set[str]] = field(default_factory=dict)
    """Model -> data keys that were made for a version, which was registered under another. Whoever sealed under one may
    have it stored: it goes with its KEK, but not while a hold stands."""
    destroyed: dict[ModelId, DestroyedModel] = field(default_factory=dict)
    escrow: AdoptedEscrow | None = None
    """The newest; None where nobody keeps shares."""
    restored: Digest | None = None
    """The order under which the deployment was put back last."""
    authorities: set[Digest] = field(default_factory=set)
    """Key orders and requests that acts on the deployment's keys rested on: an order is good once."""

    def apply(self, index: int, entry: Entry) -> None:
        """Fold in an entry, of whatever kind.

        :raises LedgerError: a key entry that contradicts what went before.
        """
        handler = _HANDLERS.get(entry.event)
        if handler is None:
            return
        try:
            handler(self, index, entry)
        except KeyStateError as error:
            raise LedgerError(f"entry {index}: {error.message}") from None

    def active(self, model: ModelId) -> KekRecord | None:
        """Return the KEK under which a model's new data keys are wrapped."""
        return next((kek for kek in self.of(model) if kek.state is KeyState.ACTIVE), None)

    def previous(self, model: ModelId) -> tuple[KekRecord, ...]:
        """Return the KEKs that a model is moving away from, oldest first: retired once no data key stands under them.

        One at most, but for a model that is rotated while a hold stands on it.
        """
        return tuple(reversed([kek for kek in self.of(model) if kek.state is KeyState.DEACTIVATED]))

    def of(self, model: ModelId) -> Iterator[KekRecord]:
        """Return a model's KEKs, newest first."""
        return (self.keks[name] for name in reversed(self.by_model.get(model, [])))

    def epochs_of(self, model: ModelId) -> frozenset[int]:
        """Return the epochs that a model's KEKs stood under last, retired and destroyed ones too."""
        return frozenset(kek.epoch for kek in self.of(model))

    def escrowed_of(self, model: ModelId) -> frozenset[bool]:
        """Return in which trees a model's KEKs ever stood: whether they are escrowed."""
        return frozenset(kek.escrowed for kek in self.of(model))

    def living(self) -> Iterator[KekRecord]:
        """Return every KEK whose bytes the keyring must hold."""
        return (kek for kek in self.keks.values() if kek.state in _LIVING)

    def living_epochs(self) -> Iterator[EpochRecord]:
        """Return every epoch whose bytes the keyring must hold."""
        return (epoch for epoch in self.epochs.values() if epoch.state in _LIVING)

    def current_epoch(self, *, escrowed: bool) -> EpochRecord | None:
        """Return the active epoch of a tree, if it has one."""
        found = (one for one in self.epochs.values() if one.state is KeyState.ACTIVE and one.escrowed is escrowed)
        return next(found, None)

    def unregistered(self, model: ModelId, kek: str) -> tuple[str, ...]:
        """Return the data keys that stood under a KEK and that no version is registered under."""
        known, registered = self.data_keys.get(model, {}), self.registered.get(model, set())
        return tuple(name for name, under in known.items() if under == kek and name not in registered)

    def moving(self, model: ModelId) -> tuple[str, ...]:
        """Return the data keys that aren't known to be under the model's active KEK."""
        active = self.active(model)
        known = self.data_keys.get(model, {})
        return tuple(name for name, kek in known.items() if active is None or kek != active.kek)


def _epoch_created(keys: KeyLedger, index: int, entry: Entry) -> None:
    number, escrowed = entry.integer("epoch"), bool(entry.integer("escrowed"))
    if number != len(keys.epochs) + 1 or keys.current_epoch(escrowed=escrowed) is not None:
        raise LedgerError(f"entry {index} creates epoch {number} out of order")
    record = EpochRecord(epoch=number, escrowed=escrowed, state=KeyState.ACTIVE, at=entry.at)
    keys.epochs[number] = record
    keys.generation_at = keys.generation_at or entry.at


def _epoch_rotated(keys: KeyLedger, index: int, entry: Entry) -> None:
    number, before = entry.integer("epoch"), keys.epochs.get(entry.integer("previous"))
    if number != len(keys.epochs) + 1 or before is None:
        raise LedgerError(f"entry {index} rotates to epoch {number} out of order")
    after = replace(before, state=_step(f"epoch {before.epoch}", before, KeyState.DEACTIVATED))
    authority = _authority(keys, entry)
    keys.epochs[before.epoch] = after
    keys.epochs[number] = EpochRecord(
        epoch=number, escrowed=before.escrowed, state=KeyState.ACTIVE, at=entry.at, authority=authority
    )
    for kek in list(keys.living()):
        if kek.epoch == before.epoch:
            keys.keks[kek.kek] = replace(kek, epoch=number)


def _epoch_destroyed(keys: KeyLedger, index: int, entry: Entry) -> None:
    epoch = keys.epochs.get(entry.integer("epoch"))
    if epoch is None or any(kek.epoch == epoch.epoch for kek in keys.living()):
        raise LedgerError(f"entry {index} destroys an epoch that isn't there, or that KEKs stand under")
    keys.epochs[epoch.epoch] = replace(epoch, state=_step(f"epoch {epoch.epoch}", epoch, KeyState.DESTROYED))


def _kek_created(keys: KeyLedger, index: int, entry: Entry) -> None:
    model = ModelId(entry.text("model"))
    # One KEK a model at a time: a second one, made by a keeper that lost the first, would strand what stands under it.
    if model in keys.by_model or model in keys.destroyed:
        raise LedgerError(f"entry {index} creates a second KEK of `{model}`")
    epoch = keys.epochs.get(entry.integer("epoch"))
    if epoch is not None and epoch.escrowed is not bool(entry.integer("escrowed")):
        raise LedgerError(f"entry {index} creates a KEK of `{model}` in another tree than its epoch's")
    _add(keys, index, entry)


def _kek_rotated(keys: KeyLedger, index: int, entry: Entry) -> None:
    model, before = ModelId(entry.text("model")), keys.keks.get(entry.text("previous"))
    if before is None or before != keys.active(model):
        raise LedgerError(f"entry {index} rotates a KEK of `{model}` that isn't its active one")
    after = replace(before, state=_step(before.kek, before, KeyState.DEACTIVATED))
    # In the tree that the policy wanted at the time: a rotation is how a model goes into escrow, or out of it.
    _add(keys, index, entry)
    keys.keks[before.kek] = after


def _add(keys: KeyLedger, index: int, entry: Entry) -> None:
    name, model, epoch = entry.text("kek"), ModelId(entry.text("model")), keys.epochs.get(entry.integer("epoch"))
    if name in keys.keks or epoch is None or epoch.state is not KeyState.ACTIVE:
        raise LedgerError(f"entry {index} creates a KEK twice, or under an epoch that isn't active")
    keys.keks[name] = KekRecord(
        kek=name, model=model, epoch=epoch.epoch, escrowed=epoch.escrowed, state=KeyState.ACTIVE, at=entry.at
    )
    keys.by_model.setdefault(model, []).append(name)


def _kek_retired(keys: KeyLedger, index: int, entry: Entry) -> None:
    model, name = ModelId(entry.text("model")), entry.text("kek")
    active, lost, known = keys.active(model), set(entry.texts("lost")), keys.data_keys.get(model, {})
    before = next((kek for kek in keys.previous(model) if kek.kek == name), None)
    if before is None or active is None:
        raise LedgerError(f"entry {index} retires a KEK of `{model}` that wasn't rotated before")
    if lost & keys.registered.get(model, set()) or not lost <= known.keys():
        raise LedgerError(f"entry {index} gives up a data key of a registered version of `{model}`, or an unknown one")
    keys.keks[name] = replace(before, state=_step(name, before, KeyState.DESTROYED))
    # What stands under another KEK that a hold kept goes on when that one goes.
    others = {kek.kek for kek in keys.previous(model)}
    kept = {key: kek for key, kek in known.items() if key not in lost}
    keys.data_keys[model] = {key: kek if kek in others else active.kek for key, kek in kept.items()}


def _data_key(keys: KeyLedger, index: int, entry: Entry) -> None:
    model, kek = ModelId(entry.text("model")), keys.active(ModelId(entry.text("model")))
    if kek is None or kek.kek != entry.text("kek"):
        raise LedgerError(f"entry {index} makes a data key under a KEK that isn't the active one of `{model}`")
    keys.data_keys.setdefault(model, {})[entry.text("data_key")] = kek.kek


def _registered(keys: KeyLedger, _index: int, entry: Entry) -> None:
    model = ModelId(entry.text("model"))
    known, registered = keys.data_keys.get(model, {}), keys.registered.setdefault(model, set())
    registered.add(entry.text("data_key"))
    # The others were made for this version too, and lost the race: nothing is ever registered under them.
    keys.outrun.setdefault(model, set()).update(known.keys() - registered)
    keys.data_keys[model] = {name: kek for name, kek in known.items() if name in registered}


def _root_rotated(keys: KeyLedger, index: int, entry: Entry) -> None:
    if (entry.integer("previous"), entry.integer("generation")) != (keys.generation, keys.generation + 1):
        raise LedgerError(f"entry {index} rotates the root key out of order; its generation is {keys.generation}")
    _authority(keys, entry)
    keys.generation, keys.generation_at = keys.generation + 1, entry.at


def _escrow_adopted(keys: KeyLedger, index: int, entry: Entry) -> None:
    generation, threshold = entry.integer("generation"), entry.integer("threshold")
    custodians = tuple(PersonId(name) for name in entry.texts("custodians"))
    if generation != keys.generation or not 1 < threshold <= len(set(custodians)) == len(custodians):
        raise LedgerError(f"entry {index} adopts an escrow of generation {generation}, or one that is none")
    _authority(keys, entry)
    keys.escrow = AdoptedEscrow(
        escrow=entry.digest("escrow"),
        generation=generation,
        threshold=threshold,
        custodians=custodians,
        index=index,
        at=entry.at,
    )


def _escrow_opened(keys: KeyLedger, index: int, entry: Entry) -> None:
    known, escrow, custodians = keys.escrow, entry.digest("escrow"), {*entry.texts("custodians")}
    if known is None or known.escrow != escrow:
        raise LedgerError(f"entry {index} opens an escrow that isn't the one in force")
    if not known.threshold <= len(custodians & {*known.custodians}):
        raise LedgerError(f"entry {index} opens an escrow with too few of its custodians")


def _restored(keys: KeyLedger, index: int, entry: Entry) -> None:
    keys.restored = entry.digest("order")
    keys.authorities.add(keys.restored)
    for name in entry.texts("lost"):
        kek = keys.keks.get(name)
        if kek is None:
            raise LedgerError(f"entry {index} loses a KEK that isn't there")
        # Lost with the machine: nobody destroyed it, and nothing opens with it any more.
        keys.keks[name] = replace(kek, state=_step(name, kek, KeyState.DESTROYED))


def _destroyed(keys: KeyLedger, index: int, entry: Entry) -> None:
    model, kek = ModelId(entry.text("model")), keys.keks.get(entry.text("kek"))
    if kek is None or kek.model != model or kek != keys.active(model) or model in keys.destroyed:
        raise LedgerError(f"entry {index} destroys a KEK of `{model}` that isn't its active one")
    for one in list(keys.of(model)):
        if one.state is not KeyState.DESTROYED:
            keys.keks[one.kek] = replace(one, state=_step(one.kek, one, KeyState.DESTROYED))
    keys.destroyed[model] = DestroyedModel(
        model=model,
        request=entry.digest("request"),
        kek=kek.kek,
        epoch=entry.integer("epoch"),
        generation=entry.integer("generation"),
        index=index,
        at=entry.at,
    )


def _authority(keys: KeyLedger, entry: Entry) -> Digest:
    authority = entry.digest("authority")
    keys.authorities.add(authority)
    return authority


def _step(name: str, record: EpochRecord | KekRecord, after: KeyState) -> KeyState:
    return step(name, record.state, after)


_HANDLERS: Final[Mapping[EventName, Callable[[KeyLedger, int, Entry], None]]] = MappingProxyType(
    {
        EventName.EPOCH_CREATED: _epoch_created,
        EventName.EPOCH_ROTATED: _epoch_rotated,
        EventName.EPOCH_DESTROYED: _epoch_destroyed,
        EventName.KEK_CREATED: _kek_created,
        EventName.KEK_ROTATED: _kek_rotated,
        EventName.KEK_RETIRED: _kek_retired,
        EventName.DATA_KEY_CREATED: _data_key,
        EventName.VERSION_REGISTERED: _registered,
        EventName.ROOT_ROTATED: _root_rotated,
        EventName.ESCROW_ADOPTED: _escrow_adopted,
        EventName.ESCROW_OPENED: _escrow_opened,
        EventName.MODEL_DESTROYED: _destroyed,
        EventName.DEPLOYMENT_RESTORED: _restored,
    }
)
