"""The ledger: everything that takes access away, or may happen once, as the log replays to it.

No row of a database is asked whether something was denied, frozen, revoked or used. The log is replayed entry by
entry; its head is pinned elsewhere, so that an entry can't be left out either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from strongroom.audit.entries import Entry
from strongroom.audit.facts import Producer
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId, PlatformId
from strongroom.core.signature import PublicKey


class LedgerError(TamperedError):
    """The log holds an entry that can't follow the ones before it."""

    code = "ledger-inconsistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A document in force: its epoch and digest."""

    epoch: int
    document: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered version of a model."""

    version: int
    manifest: Digest
    data_key: str
    publisher_key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One recorded use of a grant: its number, where its record stands, and to whom it went."""

    number: int
    index: int
    recipient: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """For which version a data key was made, under whose request."""

    model: ModelId
    version: int
    request: Digest
    requester: PersonId


@dataclass(slots=True)
class Ledger:
    """State folded from the log. Only :meth:`apply` changes it; entries come in order and are verified before."""

    size: int = 0
    latest: Instant = 0
    keeper_seq: int = 0
    key_epoch: int = 0
    roster: Adopted | None = None
    policy: Adopted | None = None
    reference_values: Adopted | None = None
    rosters: set[Digest] = field(default_factory=set)
    """Every roster that was ever in force."""
    platforms: dict[PlatformId, Digest] = field(default_factory=dict)
    ek_certificates: set[Digest] = field(default_factory=set)
    revoked_platforms: set[PlatformId] = field(default_factory=set)
    created: dict[Digest, PersonId] = field(default_factory=dict)
    """Every recorded request, and who made it."""
    denied: set[Digest] = field(default_factory=set)
    revoked: set[Digest] = field(default_factory=set)
    uses: dict[Digest, list[Use]] = field(default_factory=dict)
    served: dict[tuple[Digest, Digest], Use] = field(default_factory=dict)
    """(request, recipient) -> its first use: a grant may have thousands, and each release asks for one."""
    frozen: set[ModelId] = field(default_factory=set)
    versions: dict[ModelId, list[Version]] = field(default_factory=dict)
    roots: bytearray = field(default_factory=bytearray)
    """The log's root after each entry, 32 bytes each: what anybody who saw the log must have seen."""
    data_keys: dict[str, DataKey] = field(default_factory=dict)

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
        handler = _HANDLERS.get(entry.event)
        if handler is not None:
            handler(self, index, entry)
        self.size += 1
        self.latest = max(self.latest, entry.at)
        if entry.by is Producer.KEEPER:
            self.keeper_seq = entry.seq + 1


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
    uses.append(Use(number=len(uses) + 1, index=index, recipient=recipient))
    ledger.served.setdefault((request, recipient), uses[-1])


def _created(ledger: Ledger, _index: int, entry: Entry) -> None:
    ledger.created[entry.digest("request")] = PersonId(entry.text("requester"))


def _key_created(ledger: Ledger, index: int, entry: Entry) -> None:
    _use(ledger, index, entry)
    request = entry.digest("request")
    if request not in ledger.created:
        raise LedgerError(f"entry {index} makes a data key under a request that isn't in the log")
    ledger.data_keys[entry.text("data_key")] = DataKey(
        model=ModelId(entry.text("model")),
        version=entry.integer("version"),
        request=request,
        requester=ledger.created[request],
    )


def _control(ledger: Ledger, index: int, entry: Entry) -> None:
    # A control request (freeze, resume, revoke) is spent by its own effect.
    request = entry.digest("request")
    uses = ledger.uses.setdefault(request, [])
    uses.append(Use(number=len(uses) + 1, index=index, recipient=request))


def _freeze(ledger: Ledger, index: int, entry: Entry) -> None:
    _control(ledger, index, entry)
    ledger.frozen.add(ModelId(entry.text("model")))


def _resume(ledger: Ledger, index: int, entry: Entry) -> None:
    _control(ledger, index, entry)
    ledger.frozen.discard(ModelId(entry.text("model")))


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
    ledger.ek_certificates.add(entry.digest("ek_certificate"))


def _register(ledger: Ledger, index: int, entry: Entry) -> None:
    versions = ledger.versions.setdefault(ModelId(entry.text("model")), [])
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


_HANDLERS: dict[EventName, Callable[[Ledger, int, Entry], None]] = {
    EventName.EPOCH_CREATED: lambda ledger, _i, entry: setattr(ledger, "key_epoch", entry.integer("epoch")),
    EventName.ROSTER_ADOPTED: _adopt("roster"),
    EventName.POLICY_ADOPTED: _adopt("policy"),
    EventName.REFERENCE_VALUES_ADOPTED: _adopt("reference_values"),
    EventName.PLATFORM_ENROLLED: _enrol,
    EventName.PLATFORM_REVOKED: _revoke_platform,
    EventName.REQUEST_CREATED: _created,
    EventName.REQUEST_DENIED: lambda ledger, _i, entry: ledger.denied.add(entry.digest("request")),
    EventName.GRANT_REVOKED: _revoke_grant,
    EventName.MODEL_FROZEN: _freeze,
    EventName.MODEL_RESUMED: _resume,
    EventName.DATA_KEY_CREATED: _key_created,
    EventName.VERSION_REGISTERED: _register,
    EventName.RELEASED: _use,
}
