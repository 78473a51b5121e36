"""The ledger: everything that takes access away, or may happen once, as the log replays to it.

No row of a database is asked whether something was denied, frozen, revoked or used. The log is replayed entry by
entry; its head is pinned elsewhere, so that an entry can't be left out either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.audit.facts import Producer
from strongroom.core.clock import Instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId, PlatformId
from strongroom.release import people_ledger
from strongroom.release.copies_ledger import CopiesLedger
from strongroom.release.destruction_ledger import DestructionLedger
from strongroom.release.drop_ledger import DropLedger
from strongroom.release.errors import LedgerError
from strongroom.release.intake_ledger import IntakeLedger
from strongroom.release.key_ledger import KeyLedger
from strongroom.release.ledger_parts import (
    Adopted,
    BreakGlass,
    Created,
    DataKey,
    Grant,
    Proposal,
    Released,
    Use,
    Version,
)
from strongroom.release.metering import Metered, metered_of, odometer_of
from strongroom.release.odometer_ledger import OdometerLedger
from strongroom.release.people_ledger import PeopleLedger
from strongroom.release.precaution_ledger import PrecautionLedger

BREAK_GLASS: Final = "break-glass"


@dataclass(slots=True)
class Ledger(PeopleLedger):
    """State folded from the log. Only :meth:`apply` changes it; entries come in order and are verified before."""

    size: int = 0
    latest: Instant = 0
    keeper_seq: int = 0
    roster: Adopted | None = None
    policy: Adopted | None = None
    reference_values: Adopted | None = None
    egress: Adopted | None = None
    collateral: Digest | None = None
    """The collateral bundle in force."""
    rosters: set[Digest] = field(default_factory=set)
    """Every roster that was ever in force."""
    platforms: dict[PlatformId, Digest] = field(default_factory=dict)
    hardware: set[Digest] = field(default_factory=set)
    revoked_platforms: set[PlatformId] = field(default_factory=set)
    counters: dict[str, int] = field(default_factory=dict)
    """Key id -> the highest signature counter that its authenticator showed."""
    proposals: dict[Digest, Proposal] = field(default_factory=dict)
    stopped: set[Digest] = field(default_factory=set)
    """Proposed documents that an approver stopped."""
    grants: dict[Digest, Grant] = field(default_factory=dict)
    break_glass: dict[Digest, BreakGlass] = field(default_factory=dict)
    """Break-glass requests that were used and aren't reviewed."""
    denied: set[Digest] = field(default_factory=set)
    revoked: set[Digest] = field(default_factory=set)
    uses: dict[Digest, list[Use]] = field(default_factory=dict)
    served: dict[tuple[Digest, Digest], Use] = field(default_factory=dict)
    """(request, recipient) -> its first use: a grant may have thousands, and each release asks for one."""
    released: dict[tuple[Digest, int], Released] = field(default_factory=dict)
    """(request, use) -> what an enclave was released for."""
    ended: dict[tuple[Digest, int], str] = field(default_factory=dict)
    """(request, use) -> why its lease ended. An ended lease never lives again."""
    frozen: set[ModelId] = field(default_factory=set)
    frozen_at: dict[ModelId, Instant] = field(default_factory=dict)
    """When a model was frozen last."""
    resumed: dict[ModelId, int] = field(default_factory=dict)
    """Where the entry stands that resumed a model last."""
    odometers: OdometerLedger = field(default_factory=OdometerLedger)
    """What may have left each model."""
    versions: dict[ModelId, list[Version]] = field(default_factory=dict)
    drops: DropLedger = field(default_factory=DropLedger)
    """Workspaces, and what left them."""
    intake: IntakeLedger = field(default_factory=IntakeLedger)
    """Deliveries, and where each stands."""
    copies: CopiesLedger = field(default_factory=CopiesLedger)
    """Copies, as their registrars say."""
    roots: bytearray = field(default_factory=bytearray)
    """The log's root after each entry, 32 bytes each: what anybody who saw the log must have seen."""
    data_keys: dict[str, DataKey] = field(default_factory=dict)
    keys: KeyLedger = field(default_factory=KeyLedger)
    """The states of the keys that open models."""
    precautions: PrecautionLedger = field(default_factory=PrecautionLedger)
    """What responders had taken away for a while."""
    destructions: DestructionLedger = field(default_factory=DestructionLedger)
    """What was destroyed, and where copies may still be."""

    @property
    def key_epoch(self) -> int:
        """The newest key epoch; 0 before the first."""
        return len(self.keys.epochs)

    def current(self, model: ModelId) -> Version | None:
        """Return the current version of a model, if any is registered."""
        known = self.versions.get(model)
        return known[-1] if known else None

    def root_at(self, size: int) -> bytes:
        """Return the root of the log's first ``size`` entries (at least one); empty when it isn't known."""
        return bytes(self.roots[32 * (size - 1) : 32 * size])

    def times_used(self, request: Digest) -> int:
        """Return how often a grant was used."""
        return len(self.uses.get(request, ()))

    def apply(self, index: int, entry: Entry) -> None:
        """Fold in the entry at ``index``.

        :raises LedgerError: not the next entry, or one that contradicts what went before.
        """
        if index != self.size:
            raise LedgerError(f"entry {index} can't follow {self.size} entries")
        # The signature covers the number: without this, whoever holds the log's key could append an old, genuine
        # entry of the keeper once more, and so undo a freeze with a resumption of last year.
        if entry.by is Producer.KEEPER and entry.seq != self.keeper_seq:
            raise LedgerError(f"entry {index} is number {entry.seq} of the keeper; number {self.keeper_seq} is due")
        if entry.event is EventName.MODEL_DESTROYED:
            # Before anything is folded in: what is refused must not count as destroyed in memory either.
            self._require_agreed(index, entry.digest("request"))
        if entry.event is EventName.KEK_ROTATED:
            self._require_moved(index, ModelId(entry.text("model")))
        self.keys.apply(index, entry)
        self.destructions.apply(index, entry)
        handler = _HANDLERS.get(entry.event)
        if handler is not None:
            handler(self, index, entry)
        self.size += 1
        self.latest = max(self.latest, entry.at)
        if entry.by is Producer.KEEPER:
            self.keeper_seq = entry.seq + 1

    def _require_agreed(self, index: int, request: Digest) -> None:
        if request not in self.grants or self.uses.get(request):
            raise LedgerError(f"entry {index} destroys a model's keys without a grant, or twice")

    def _require_moved(self, index: int, model: ModelId) -> None:
        # What a hold keeps stands under the KEK before until people lift it, and mustn't keep a stolen key in use.
        if self.keys.previous(model) and self.precautions.hold(model) is None:
            raise LedgerError(f"entry {index} rotates a KEK of `{model}` before the rotation before is finished")


def _adopt(name: str) -> Callable[[Ledger, int, Entry], None]:
    def handler(ledger: Ledger, index: int, entry: Entry) -> None:
        before: Adopted | None = getattr(ledger, name)
        adopted = Adopted(epoch=entry.integer("epoch"), document=entry.digest("document"))
        # An epoch that stands still or falls would bring a dismissed person or an old rule back.
        if adopted.epoch != (before.epoch + 1 if before else 1):
            raise LedgerError(f"entry {index} adopts epoch {adopted.epoch} of the {name} out of order")
        setattr(ledger, name, adopted)
        if name == "roster":
            ledger.rosters.add(adopted.document)

    return handler


def _use(ledger: Ledger, index: int, entry: Entry) -> None:
    request, recipient = entry.digest("request"), entry.digest("recipient")
    uses = ledger.uses.setdefault(request, [])
    if entry.integer("use") != len(uses) + 1:
        raise LedgerError(f"entry {index} records use {entry.integer('use')} after {len(uses)} uses")
    uses.append(Use(number=len(uses) + 1, index=index, recipient=recipient, at=entry.at))
    ledger.served.setdefault((request, recipient), uses[-1])


def _created(ledger: Ledger, _index: int, entry: Entry) -> None:
    ledger.created[entry.digest("request")] = Created(
        requester=PersonId(entry.text("requester")),
        action=entry.text("action"),
        model=ModelId(entry.text("model")),
        at=entry.at,
    )


def _voice(ledger: Ledger, entry: Entry, voice: Digest) -> None:
    ledger.voices[voice] = PersonId(entry.text("person"))
    key, counter = entry.text("key"), entry.integer("counter")
    ledger.counters[key] = max(ledger.counters.get(key, 0), counter)


def _approve(ledger: Ledger, _index: int, entry: Entry) -> None:
    _voice(ledger, entry, entry.digest("approval"))
    people = ledger.approvals.setdefault(entry.digest("request"), {})
    people[PersonId(entry.text("person"))] = entry.at


def _deny(ledger: Ledger, _index: int, entry: Entry) -> None:
    _voice(ledger, entry, entry.digest("denial"))
    ledger.denied.add(entry.digest("request"))


def _grant(ledger: Ledger, index: int, entry: Entry) -> None:
    request = entry.digest("request")
    if request in ledger.grants or request not in ledger.created:
        raise LedgerError(f"entry {index} issues a grant twice, or without a request")
    ledger.grants[request] = Grant(
        requester=PersonId(entry.text("requester")),
        model=ModelId(entry.text("model")),
        access=entry.text("access"),
        at=entry.at,
        expires=parse_instant(entry.text("expires")),
        uses=entry.integer("uses"),
        approvers=tuple(PersonId(name) for name in entry.texts("approvers")),
    )


def _propose(ledger: Ledger, _index: int, entry: Entry) -> None:
    ledger.proposals[entry.digest("document")] = Proposal(
        kind=entry.text("kind"),
        epoch=entry.integer("epoch"),
        at=entry.at,
        effective=parse_instant(entry.text("effective")),
    )


def _stop(ledger: Ledger, _index: int, entry: Entry) -> None:
    ledger.stopped.add(entry.digest("document"))


def _reviewed(ledger: Ledger, _index: int, entry: Entry) -> None:
    ledger.break_glass.pop(entry.digest("request"), None)


def _access_reviewed(ledger: Ledger, _index: int, entry: Entry) -> None:
    ledger.said.add(entry.digest("statement"))
    ledger.revoked.update(entry.digests("removed"))


def _hand_over(ledger: Ledger, index: int, entry: Entry) -> None:
    _living(ledger, index, entry)
    _use(ledger, index, entry)
    request = entry.digest("request")
    created = ledger.created.get(request)
    if created is not None and created.action == BREAK_GLASS and len(ledger.uses[request]) == 1:
        people = {PersonId(entry.text("requester")), *(PersonId(one) for one in entry.texts("approvers"))}
        ledger.break_glass[request] = BreakGlass(
            request=request, model=created.model, at=entry.at, people=frozenset(people)
        )


def _release(ledger: Ledger, index: int, entry: Entry) -> None:
    _hand_over(ledger, index, entry)
    released = Released(
        request=entry.digest("request"),
        use=entry.integer("use"),
        recipient=entry.digest("recipient"),
        model=ModelId(entry.text("model")),
        platform=PlatformId(entry.text("platform")),
        isolation=entry.text("isolation"),
        reset_count=None if entry.facts["reset_count"] is None else entry.integer("reset_count"),
        requester=PersonId(entry.text("requester")),
        approvers=tuple(PersonId(name) for name in entry.texts("approvers")),
    )
    ledger.released[released.request, released.use] = released


def _lease_attested(ledger: Ledger, index: int, entry: Entry) -> None:
    name = entry.digest("request"), entry.integer("use")
    released = ledger.released.get(name)
    if released is None or name in ledger.ended:
        raise LedgerError(f"entry {index} attests for a lease that isn't open")
    # What the machine was found to be last is what its lease stands on from now on.
    ledger.released[name] = replace(released, isolation=entry.text("isolation"))


def _lease_ended(ledger: Ledger, index: int, entry: Entry) -> None:
    name = entry.digest("request"), entry.integer("use")
    released = ledger.released.get(name)
    if released is None or released.recipient != entry.digest("recipient") or name in ledger.ended:
        raise LedgerError(f"entry {index} ends a lease that isn't open")
    ledger.ended[name] = entry.text("reason")


def _restored(ledger: Ledger, _index: int, _entry: Entry) -> None:
    # What the lost machine released may run on somewhere: none of it renews here.
    for name in ledger.released:
        ledger.ended.setdefault(name, "deployment-restored")


def _key_created(ledger: Ledger, index: int, entry: Entry) -> None:
    _living(ledger, index, entry)
    _use(ledger, index, entry)
    request = entry.digest("request")
    if request not in ledger.created:
        raise LedgerError(f"entry {index} makes a data key under a request that isn't in the log")
    ledger.data_keys[entry.text("data_key")] = DataKey(
        model=ModelId(entry.text("model")),
        version=entry.integer("version"),
        request=request,
        requester=ledger.created[request].requester,
    )


def _control(ledger: Ledger, index: int, entry: Entry) -> None:
    # A control request (freeze, resume, revoke) is spent by its own effect.
    request = entry.digest("request")
    uses = ledger.uses.setdefault(request, [])
    uses.append(Use(number=len(uses) + 1, index=index, recipient=request, at=entry.at))


def _precaution_taken(ledger: Ledger, index: int, entry: Entry) -> None:
    ledger.said.add(entry.digest("statement"))
    ledger.precautions.take(index, entry)


def _precaution_lifted(ledger: Ledger, index: int, entry: Entry) -> None:
    _control(ledger, index, entry)
    ledger.precautions.lift(index, entry)


def _stop_model(ledger: Ledger, model: ModelId, at: Instant) -> None:
    ledger.frozen.add(model)
    ledger.frozen_at[model] = at


def _freeze(ledger: Ledger, index: int, entry: Entry) -> None:
    _control(ledger, index, entry)
    _stop_model(ledger, ModelId(entry.text("model")), entry.at)


def _resume(ledger: Ledger, index: int, entry: Entry) -> None:
    model = _living(ledger, index, entry)
    _control(ledger, index, entry)
    ledger.frozen.discard(model)
    ledger.resumed[ModelId(entry.text("model"))] = index


def _living(ledger: Ledger, index: int, entry: Entry) -> ModelId:
    model = ModelId(entry.text("model"))
    # Its keys are gone: an entry that goes on with the model was made by somebody who put older ones back.
    if model in ledger.keys.destroyed:
        raise LedgerError(f"entry {index} goes on with model `{model}`, whose keys were destroyed")
    return model


def _destroyed(ledger: Ledger, index: int, entry: Entry) -> None:
    _control(ledger, index, entry)
    _stop_model(ledger, ModelId(entry.text("model")), entry.at)


def _metered(ledger: Ledger, index: int, entry: Entry) -> Metered:
    metered = metered_of(entry)
    released = ledger.released.get((metered.request, metered.use))
    if released is None or released.model != metered.model:
        raise LedgerError(f"entry {index} meters a release that isn't in the log")
    return metered


def _odometer(ledger: Ledger, index: int, entry: Entry) -> None:
    metered, reading = _metered(ledger, index, entry), odometer_of(entry)
    if (metered.request, metered.use) in ledger.ended or metered.model in ledger.frozen:
        raise LedgerError(f"entry {index} meters a lease that ended, or a frozen model")
    if reading.epoch != ledger.key_epoch:
        raise LedgerError(f"entry {index} meters in key epoch {reading.epoch}; {ledger.key_epoch} is the newest")
    ledger.odometers.advance(index, metered, reading)


def _breached(ledger: Ledger, index: int, entry: Entry) -> None:
    # As a freeze by people does, until the model's quorum resumes it.
    _stop_model(ledger, _metered(ledger, index, entry).model, entry.at)


def _revoke_grant(ledger: Ledger, index: int, entry: Entry) -> None:
    _control(ledger, index, entry)
    ledger.revoked.add(entry.digest("grant"))


def _revoke_platform(ledger: Ledger, index: int, entry: Entry) -> None:
    _control(ledger, index, entry)
    ledger.revoked_platforms.add(PlatformId(entry.text("platform")))


def _enrol(ledger: Ledger, index: int, entry: Entry) -> None:
    platform, record = PlatformId(entry.text("platform")), entry.digest("record")
    # An identity, once enrolled, is immutable: a second record would let another key take it over.
    if ledger.platforms.setdefault(platform, record) != record:
        raise LedgerError(f"entry {index} enrols platform `{platform}` a second time")
    ledger.hardware.add(entry.digest("hardware"))


def _register(ledger: Ledger, index: int, entry: Entry) -> None:
    versions = ledger.versions.setdefault(_living(ledger, index, entry), [])
    version = Version(
        version=entry.integer("version"),
        manifest=entry.digest("manifest"),
        data_key=entry.text("data_key"),
        publisher_key=entry.public_key("publisher_key"),
    )
    before = versions[-1].version if versions else 0
    if version.version != before + 1:
        raise LedgerError(f"entry {index} registers version {version.version} after {before}")
    versions.append(version)


def _drop_key(ledger: Ledger, _index: int, entry: Entry) -> None:
    ledger.said.add(entry.digest("statement"))
    ledger.drops.key(entry)


def _intake_recorded(ledger: Ledger, index: int, entry: Entry) -> None:
    ledger.intake.record(index, entry, versions=len(ledger.versions.get(ModelId(entry.text("model")), ())))


def _intake_reviewed(ledger: Ledger, index: int, entry: Entry) -> None:
    ledger.said.add(entry.digest("statement"))
    ledger.intake.review(index, entry)


def _workspace_begun(ledger: Ledger, index: int, entry: Entry) -> None:
    _metered(ledger, index, entry)
    ledger.drops.begin(index, entry)


def _drop_charged(ledger: Ledger, index: int, entry: Entry) -> None:
    _metered(ledger, index, entry)
    drop = ledger.drops.charge(index, entry)
    # One odometer for all ways out.
    ledger.odometers.charge(drop.model, drop.bits, entry.integer("total"))


_HANDLERS: dict[EventName, Callable[[Ledger, int, Entry], None]] = {
    EventName.ROSTER_ADOPTED: _adopt("roster"),
    EventName.POLICY_ADOPTED: _adopt("policy"),
    EventName.REFERENCE_VALUES_ADOPTED: _adopt("reference_values"),
    EventName.PLATFORM_ENROLLED: _enrol,
    EventName.PLATFORM_REVOKED: _revoke_platform,
    EventName.COLLATERAL_IMPORTED: lambda ledger, _i, entry: setattr(ledger, "collateral", entry.digest("digest")),
    EventName.REQUEST_CREATED: _created,
    EventName.REQUEST_APPROVED: _approve,
    EventName.REQUEST_DENIED: _deny,
    EventName.GRANT_ISSUED: _grant,
    EventName.VETTING_RECORDED: people_ledger.vetting,
    EventName.KEYS_ENROLLED: people_ledger.enrol_keys,
    EventName.RESPONDER_SILENT: people_ledger.silent,
    EventName.RESPONDER_HEARD: people_ledger.heard,
    EventName.PERSON_SUSPENDED: people_ledger.suspend,
    EventName.PERSON_ERASED: people_ledger.erase,
    EventName.INCIDENT_RECORDED: lambda ledger, _i, entry: ledger.said.add(entry.digest("statement")),
    EventName.PRECAUTION_TAKEN: _precaution_taken,
    EventName.PRECAUTION_LIFTED: _precaution_lifted,
    EventName.ACCESS_REVIEWED: _access_reviewed,
    EventName.BREAK_GLASS_REVIEWED: _reviewed,
    EventName.CHANGE_PROPOSED: _propose,
    EventName.CHANGE_STOPPED: _stop,
    EventName.GRANT_REVOKED: _revoke_grant,
    EventName.MODEL_FROZEN: _freeze,
    EventName.MODEL_RESUMED: _resume,
    EventName.DATA_KEY_CREATED: _key_created,
    EventName.KEK_ROTATED: _control,
    EventName.MODEL_DESTROYED: _destroyed,
    EventName.DEPLOYMENT_RESTORED: _restored,
    EventName.VERSION_REGISTERED: _register,
    EventName.RELEASED: _release,
    EventName.LEASE_ATTESTED: _lease_attested,
    EventName.LEASE_ENDED: _lease_ended,
    EventName.EXPORTED: _hand_over,
    EventName.DROP_KEY_RECORDED: _drop_key,
    EventName.WORKSPACE_BEGUN: _workspace_begun,
    EventName.DROP_CHARGED: _drop_charged,
    EventName.DROP_REVIEWED: lambda ledger, index, entry: ledger.drops.review(index, entry),
    EventName.INTAKE_RECORDED: _intake_recorded,
    EventName.INTAKE_REVIEWED: _intake_reviewed,
    EventName.COPY_RECORDED: lambda ledger, index, entry: ledger.copies.apply(index, entry),
    EventName.ASSESSMENT_RECORDED: lambda ledger, _i, entry: ledger.said.add(entry.digest("statement")),
    EventName.EGRESS_POLICIES_ADOPTED: _adopt("egress"),
    EventName.ODOMETER_ADVANCED: _odometer,
    EventName.EGRESS_BREACHED: _breached,
}
