"""A keeper inside the test's own process: the real keeper, vault and journal over a log, clock and stores in memory.

The platform is played by :mod:`simulators.attester`, so nothing here needs a TPM or another process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from simulators.attester import APPRAISAL, NOW, SimulatedAttester, attester, tpm_root, vendor_root
from simulators.memory_log import MemoryLog
from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.policy import POLICY_TYPE, ModelTerms, Policy, Weights
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, LogHead, Purpose, Request
from strongroom.attestation.evidence import Evidence, devices_digest
from strongroom.attestation.measurement import launch_measurements
from strongroom.attestation.platform_record import PLATFORM_TYPE, PlatformRecord
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.attestation.transcript import Binding
from strongroom.audit.facts import Fact
from strongroom.core.canonical import Json, decode
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import ConflictError, DeniedError, NotFoundError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId, PersonId, PlatformId
from strongroom.core.secret import SecretBytes
from strongroom.keeper import voices
from strongroom.keeper.adoption import adopt
from strongroom.keeper.founding import Founded, found
from strongroom.keeper.journal import Journal, LogPort
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.people import People
from strongroom.keeper.pins import Pins
from strongroom.keeper.records import PersonRecords
from strongroom.keeper.registry import PLATFORMS
from strongroom.keeper.rotation import Rotation
from strongroom.keeper.service import Keeper
from strongroom.keeper.vault import Vault
from strongroom.keys.recipient import RecipientKey
from strongroom.keys.split_root import make_root
from strongroom.keys.uri import KeyUri
from strongroom.keys.wiring import RootProviders, key_provider
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from strongroom.release.decided import DecisionNotKeptError
from strongroom.release.delivery import Delivery, accept
from strongroom.release.documents import DocumentKind
from strongroom.release.dossier import Dossier, Testimony, WrappedDataKey
from strongroom.release.statements import StatementKind
from strongroom.sealing.manifest import Manifest, ManifestObject
from support.clocks import FixedClock
from support.cosigners import LOG_COSIGNER
from support.deployment import (
    CHEAP,
    DAY,
    LEVEL,
    MODEL,
    PASSPHRASE,
    PEOPLE,
    ROOTS,
    bare_request,
    person,
    publisher,
    rules,
    signer,
    vetted,
    vetting,
)

IMAGE = ImageId("embedder")
LOCAL = KeyUri.parse("local:")
MANIFEST = Digest.of(b"manifest")
_serial = itertools.count(1)


def counted_bytes(count: int) -> bytes:
    """Bytes that never repeat and need no entropy; what they make guards nothing."""
    return (Digest.of(next(_serial).to_bytes(8, "big")).value * (count // 32 + 1))[:count]


@dataclass
class MemoryPins:
    """Pins in memory; ``history`` keeps every one ever saved."""

    history: list[Pins] = field(default_factory=list)

    def load(self) -> Pins | None:
        """Return the newest."""
        return self.history[-1] if self.history else None

    def save(self, pins: Pins) -> None:
        """Keep."""
        self.history.append(pins)


@dataclass
class MemoryKeyrings:
    """The keyring's file, in memory; ``history`` keeps everything that was ever written to it."""

    history: list[bytes] = field(default_factory=list)

    def save(self, keyring: bytes) -> None:
        """Replace."""
        self.history.append(keyring)


@dataclass
class MemoryDocuments:
    """Kept documents in memory."""

    kept: dict[tuple[str, Digest], bytes] = field(default_factory=dict)

    def load(self, kind: str, digest: Digest) -> bytes | None:
        """Return the envelope."""
        return self.kept.get((kind, digest))

    def save(self, kind: str, digest: Digest, envelope: bytes) -> None:
        """Keep."""
        self.kept[kind, digest] = envelope


@dataclass
class MemoryRecords:
    """The keeper's encrypted records about people, in memory."""

    files: dict[str, bytes] = field(default_factory=dict)

    def load(self, name: str) -> bytes | None:
        """Return a file's bytes."""
        return self.files.get(name)

    def save(self, name: str, data: bytes) -> None:
        """Keep."""
        self.files[name] = data

    def erase(self, name: str) -> None:
        """Remove."""
        self.files.pop(name, None)


@dataclass
class MemoryDecisions:
    """Kept decisions, in memory."""

    kept: list[bytes] = field(default_factory=list)

    def append(self, record: bytes) -> None:
        """Keep."""
        self.kept.append(record)

    def newest(self, count: int, before: Digest | None = None) -> tuple[bytes, ...]:
        """Return the newest, each once; or those before one of them."""
        kept = [*dict.fromkeys(reversed(self.kept))]
        digests = [Digest.of(record) for record in kept]
        if before is not None and before not in digests:
            raise DecisionNotKeptError
        begin = 0 if before is None else digests.index(before) + 1
        return tuple(reversed(kept[begin : begin + count]))

    def find(self, digest: Digest) -> bytes | None:
        """Return the decision with this digest."""
        return next((record for record in self.kept if Digest.of(record) == digest), None)

    def forget(self, person: PersonId) -> None:
        """Remove every decision that a person was part of."""
        self.kept = [record for record in self.kept if f'"id":"{person}"'.encode() not in record]


def found_room(log_name: str = "log") -> Founded:
    """Found a deployment in memory."""
    with SecretBytes(bytearray(PASSPHRASE)) as passphrase:
        return found(
            deployment="room",
            root_keys=[root.public_key for root in ROOTS],
            root_threshold=2,
            log_key=signer(log_name).public_key,
            log_cosigner=LOG_COSIGNER,
            at=NOW,
            random_bytes=counted_bytes,
            root_of=lambda genesis: _root(genesis, passphrase),
        )


def _root(genesis: Digest, passphrase: SecretBytes) -> tuple[SecretBytes, bytes]:
    return make_root(genesis, [key_provider(LOCAL, passphrase=passphrase, cost=CHEAP)], counted_bytes)


def unlocked(founded: Founded, keyring: Keyring | None = None) -> Vault:
    """Open the founded keyring, or another one of the same deployment."""
    genesis = founded.genesis.digest
    keyring = keyring or founded.keyring
    with SecretBytes(bytearray(PASSPHRASE)) as passphrase:
        providers = RootProviders(genesis, passphrase)
        roots = {tree: providers.open(tree, stored) for tree, stored in keyring.roots}
    return Vault(genesis, keyring, roots, providers)


class Room:
    """A keeper with everything that it needs to release; every part can be taken out and made wrong."""

    def __init__(self, founded: Founded | None = None) -> None:
        self.founded = founded or found_room()
        self.genesis: Genesis = self.founded.genesis
        self.clock = FixedClock(NOW)
        self.log = MemoryLog(self.genesis, signer("log"), at=NOW)
        self.pins = MemoryPins()
        self.keyrings = MemoryKeyrings([self.founded.keyring.to_bytes()])
        self.documents = MemoryDocuments()
        self.records = MemoryRecords()
        self.decisions = MemoryDecisions()
        self.attested = MemoryDecisions()
        self.said: dict[tuple[str, Digest], bytes] = {}
        """What people signed and handed in, by kind and by the digest that the log has for it."""
        self.serials: dict[str, int] = {}
        self.platform: SimulatedAttester = attester()
        self.measurements = launch_measurements(
            interpreter=Digest.of(b"interpreter"),
            files=Digest.of(b"files"),
            command=Digest.of(b"command"),
            sandbox=Digest.of(b"sandbox"),
            genesis=self.genesis.digest,
        )
        self.keeper: Keeper = self.make_keeper()
        self.people: People = self.make_people()
        self.manifest = MANIFEST
        self.terms = ModelTerms(model=MODEL, level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST)
        self.record: Envelope | None = None
        self.wrapped: WrappedDataKey | None = None

    def make_keeper(self, log: LogPort | None = None) -> Keeper:
        """Make a keeper over this room's log and stores; it isn't started."""
        return Keeper(
            genesis=self.genesis,
            vault=unlocked(self.founded, Keyring.parse(self.keyrings.history[-1])),
            journal=Journal(self.genesis, log or self.log, self.clock),
            pins=self.pins,
            keyrings=self.keyrings,
            documents=self.documents,
            decisions=self.decisions,
            attested=self.attested,
            clock=self.clock,
            random_bytes=counted_bytes,
        )

    def rotation(self) -> Rotation:
        """Make what rotates this room's keys."""
        records = PersonRecords(self.genesis.digest, self.keeper.vault, self.records, counted_bytes)
        return Rotation(keeper=self.keeper, records=records, random_bytes=counted_bytes)

    def make_people(self) -> People:
        """Make the registry of people over this room's keeper."""
        records = PersonRecords(self.genesis.digest, self.keeper.vault, self.records, counted_bytes)
        return People(self.keeper, records, self.decisions, self.clock)

    async def restart(self) -> None:
        """Start another keeper over the same log and stores, as after a crash."""
        self.keeper = self.make_keeper()
        self.people = self.make_people()
        await self.keeper.start()
        self.people.load()

    async def vet(self, name: str, **members: object) -> None:
        """Have a person's next vetting record recorded."""
        serial = self.serials.get(name, 0) + 1
        now = self.clock.now()
        record = vetting(self.genesis.digest, name, at=now, until=NOW + 30 * DAY, serial=serial, **members)
        await self.people.state(StatementKind.VETTING, vetted(record))
        self.serials[name] = serial

    async def furnish(self) -> Room:
        """Start the keeper, adopt the documents, enrol the platform, and register version 1."""
        await self.keeper.start()
        genesis = self.genesis.digest
        people = tuple(person(name) for name in PEOPLE)
        self.roster = Roster(genesis=genesis, epoch=1, predecessor=None, people=people)
        terms = (self.terms,)
        self.policy = Policy(
            genesis=genesis, epoch=1, predecessor=None, cedar=DEFAULT_CEDAR, rules=rules(), models=terms
        )
        await self.adopt_roster(self.roster)
        await adopt(self.keeper, self.clock, DocumentKind.POLICY, sign(POLICY_TYPE, self.policy.to_bytes(), *ROOTS[:2]))
        await self.adopt_values(self.first_values())
        for name in PEOPLE:
            await self.vet(name)
        await self._enrol()
        await self._register()
        return self

    def image(self) -> ReferenceImage:
        """The image that is asked for."""
        return ReferenceImage.launched(IMAGE, self.measurements)

    def first_values(self) -> ReferenceValues:
        """The first reference values."""
        return ReferenceValues(
            genesis=self.genesis.digest,
            epoch=1,
            images=(self.image(),),
            anchors=(tpm_root(vendor_root()),),
            appraisal=APPRAISAL,
            not_after=NOW + 90 * DAY,
            predecessor=None,
        )

    async def adopt_values(self, values: ReferenceValues) -> None:
        """Have reference values adopted."""
        envelope = sign(REFERENCE_VALUES_TYPE, values.to_bytes(), *ROOTS[:2])
        await adopt(self.keeper, self.clock, DocumentKind.REFERENCE_VALUES, envelope)
        self.values = values

    async def next_values(self, **members: object) -> None:
        """Have the next reference values adopted, with members changed."""
        before = self.values
        told: dict[str, object] = {"epoch": before.epoch + 1, "predecessor": Digest.of(before.to_bytes())}
        await self.adopt_values(replace(before, **(told | members)))  # type: ignore[arg-type]

    def platform_record(self) -> PlatformRecord:
        """The record that the platform's enrolment made."""
        return self.platform.record()

    @property
    def platform_id(self) -> PlatformId:
        """The enrolled platform."""
        return self.platform.record().platform

    async def adopt_roster(self, roster: Roster) -> None:
        """Have a roster adopted."""
        await adopt(self.keeper, self.clock, DocumentKind.ROSTER, sign(ROSTER_TYPE, roster.to_bytes(), *ROOTS[:2]))
        self.roster = roster

    async def next_policy(self, **members: object) -> None:
        """Have the next policy adopted, with members changed."""
        before = self.policy
        policy: Policy = replace(
            before,
            epoch=before.epoch + 1,
            predecessor=Digest.of(before.to_bytes()),
            **members,  # type: ignore[arg-type]
        )
        await adopt(self.keeper, self.clock, DocumentKind.POLICY, sign(POLICY_TYPE, policy.to_bytes(), *ROOTS[:2]))
        self.policy = policy

    async def voice(self, request: Envelope, by: str, *, deny: bool = False) -> Envelope:
        """Approve or deny a request and have it recorded."""
        if deny:
            envelope = sign(DENIAL_TYPE, request.payload, signer(by))
            await voices.deny(self.keeper, envelope)
            self.said["denial", Digest.of(envelope.to_bytes())] = envelope.to_bytes()
        else:
            envelope = sign(APPROVAL_TYPE, request.payload, signer(by))
            await voices.approve(self.keeper, self.clock, envelope)
            self.said["approval", Digest.of(envelope.to_bytes())] = envelope.to_bytes()
        return envelope

    @staticmethod
    def signed(request: Envelope, by: str) -> Envelope:
        """Sign an approval, and hand it in to nobody."""
        return sign(APPROVAL_TYPE, request.payload, signer(by))

    @staticmethod
    def bare(request: Envelope, *approvals: Envelope, key: RecipientKey | None = None) -> Dossier:
        """Return a dossier without evidence."""
        return Dossier(request=request, approvals=approvals, recipient_key=key.public if key else b"")

    @staticmethod
    def parse(payload: bytes) -> Json:
        """Return canonical JSON, read."""
        return decode(payload)

    async def _enrol(self) -> None:
        record = self.platform_record()
        self.record = sign(PLATFORM_TYPE, record.to_bytes(), self.keeper.vault.signer)
        self.keeper.keep(PLATFORMS, self.record)
        facts: dict[str, Fact] = {
            "platform": record.platform,
            "record": self.record.digest,
            "hardware": record.hardware,
            "isolation": record.isolation.value,
        }
        await self.keeper.record_pinned(EventName.PLATFORM_ENROLLED, facts)

    async def _register(self) -> None:
        key = RecipientKey()
        request = await self.submit(Action.SEAL, version=1, recipient=key.digest, purpose=Purpose.PUBLISH)
        _delivery, self.wrapped = await self.keeper.seal(Dossier(request=request, recipient_key=key.public))
        facts: dict[str, Fact] = {
            "request": request.digest,
            "model": MODEL,
            "version": 1,
            "manifest": MANIFEST,
            "predecessor": None,
            "publisher": "dana",
            "publisher_key": publisher("dana").public_key,
            "data_key": self.wrapped.data_key,
        }
        await self.keeper.record_pinned(EventName.VERSION_REGISTERED, facts)

    # --- acts -------------------------------------------------------------------------------------------------------

    def request(self, action: Action, *, by: str = "dana", **members: object) -> Request:
        """Make a request."""
        size, root = self.keeper.journal.durable
        log = LogHead(size=size, root=Digest(DigestAlgorithm.SHA256, root))
        base = bare_request(
            self.genesis.digest, self.roster, self.policy, log, action, by=by, at=NOW, nonce=counted_bytes(16)
        )
        return replace(base, **members)  # type: ignore[arg-type]

    async def submit(self, action: Action, *, by: str = "dana", **members: object) -> Envelope:
        """Make, sign and record a request."""
        envelope = sign(REQUEST_TYPE, self.request(action, by=by, **members).to_bytes(), signer(by))
        await voices.submit(self.keeper, self.clock, envelope)
        self.said["request", envelope.digest] = envelope.to_bytes()
        return envelope

    async def ask(self, *, action: Action = Action.OPEN_IN_ENCLAVE, **members: object) -> Envelope:
        """Ask to open the model in the enclave."""
        told: dict[str, object] = {
            "version": 1,
            "manifest": MANIFEST,
            "image": IMAGE,
            "measurement": self.image().measurement,
            "platforms": (self.platform_id,),
        }
        return await self.submit(action, **(told | members))  # type: ignore[arg-type]  # none is `by`

    async def approvals(self, request: Envelope, *people: str) -> tuple[Envelope, ...]:
        """Sign approvals and have them recorded, where the keeper records them."""
        signed = tuple(sign(APPROVAL_TYPE, request.payload, signer(name)) for name in people or ("sam", "rina"))
        for approval in signed:
            with suppress(DeniedError, ConflictError, NotFoundError):
                await voices.approve(self.keeper, self.clock, approval)
                self.said["approval", Digest.of(approval.to_bytes())] = approval.to_bytes()
        return signed

    def testimony(self, request: Envelope, key: RecipientKey) -> Testimony:
        """Take a challenge and answer it."""
        asked = Request.parse(request.payload)
        assert asked.manifest is not None
        assert self.record is not None
        challenge = self.keeper.challenge(request.digest, self.platform_id)
        binding = Binding(
            genesis=self.genesis.digest,
            challenge=challenge.id,
            nonce=challenge.nonce,
            request=request.digest,
            model=asked.model,
            version=asked.version,
            manifest=asked.manifest,
            recipient_key=key.digest,
            devices=devices_digest(()),
        )
        evidence = self.evidence(binding, key).to_bytes()
        return Testimony(challenge=challenge.id, platform=self.record, evidence=evidence)

    def evidence(self, binding: Binding, key: RecipientKey) -> Evidence:
        """Answer as the platform does."""
        return self.platform.evidence(binding, self.measurements, recipient_key=key.public)

    async def dossier(self, request: Envelope, key: RecipientKey, *people: str) -> Dossier:
        """Have it approved, and answer a challenge."""
        return Dossier(
            request=request,
            approvals=await self.approvals(request, *people),
            testimony=self.testimony(request, key),
            wrapped=self.wrapped,
        )

    async def release(
        self,
        request: Envelope,
        *,
        key: RecipientKey | None = None,
        change: Callable[[Dossier], Dossier] = lambda dossier: dossier,
    ) -> tuple[Delivery, SecretBytes]:
        """Carry out a whole release."""
        key = key or RecipientKey()
        handed_over = await self.keeper.release(change(await self.dossier(request, key)))
        return accept(handed_over.delivery, self.genesis, key, request=request.digest, model=MODEL, version=1)


def second_manifest(room: Room, data_key: str) -> Manifest:
    """Return a manifest of version 2, by the publisher of the first, under a data key."""
    index, one = (
        ManifestObject(object_id=bytes([n]) * 16, size=5000, header=Digest.of(b"h"), root=Digest.of(b"r"))
        for n in range(2)
    )
    return Manifest(
        genesis=room.genesis.digest,
        model=MODEL,
        version=2,
        predecessor=MANIFEST,
        data_key_id=data_key,
        commitment=bytes(32),
        publisher=PersonId("dana"),
        index=index,
        objects=(one,),
    )
