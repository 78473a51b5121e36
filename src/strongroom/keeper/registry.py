"""Two things that the keeper registers for good: enrolled platforms and published versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.attestation.chip_enrolment import PendingChip, begin_chip, finish_chip
from strongroom.attestation.enrolment import EnrolmentRequest, PendingEnrolment, begin, finish
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import PLATFORM_TYPE, PlatformRecord
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.attestation.transcript import NONCE_BYTES
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import ConflictError, DeniedError, NotFoundError
from strongroom.core.events import EventName
from strongroom.keeper.journal import Recorded
from strongroom.keeper.service import Keeper
from strongroom.keys.wrapping import RandomBytes
from strongroom.sealing.manifest import ManifestExpectation, read_manifest, verify_manifest

MAX_PENDING: Final = 64
SESSION_BYTES: Final = 16
PLATFORMS: Final = "platform"


class PlatformEnrolledError(ConflictError):
    """The platform or its hardware is enrolled already; an enrolled identity never changes."""

    code = "platform-enrolled"


@dataclass(frozen=True, slots=True)
class OpenEnrolment:
    """An enrolment that waits for a TPM's answer."""

    session: str
    pending: PendingEnrolment


@dataclass(frozen=True, slots=True)
class OpenChipEnrolment:
    """An enrolment that waits for a chip's evidence."""

    session: str
    pending: PendingChip


class PlatformRegistry:
    """Enrols platforms. Pending enrolments live in memory alone, bounded."""

    def __init__(self, keeper: Keeper, clock: Clock, random_bytes: RandomBytes) -> None:
        self._keeper = keeper
        self._clock = clock
        self._random = random_bytes
        self._open: dict[str, PendingEnrolment | PendingChip] = {}

    def begin(self, request: EnrolmentRequest) -> OpenEnrolment:
        """Check the platform's certificates and make the credential that only its TPM opens.

        :raises DeniedError: no reference values are in force, or too many enrolments are open.
        :raises ChainRefusedError: no chain to a root that the reference values list.
        """
        values = self._room_for_one()
        pending = begin(
            request,
            roots=values.anchors,
            at=self._clock.now(),
            random_bytes=self._random,
            lists=self._keeper.collateral.lists,
        )
        session = self._random(SESSION_BYTES).hex()
        self._open[session] = pending
        return OpenEnrolment(session, pending)

    def begin_chip(self, kind: EvidenceKind) -> OpenChipEnrolment:
        """Make the challenge that a confidential-computing chip's evidence must answer.

        :raises DeniedError: no reference values are in force, or too many enrolments are open.
        :raises MalformedError: a TPM or a device: neither is enrolled so.
        """
        self._room_for_one()
        session, nonce = self._random(SESSION_BYTES).hex(), self._random(NONCE_BYTES)
        genesis, now = self._keeper.genesis.digest, self._clock.now()
        pending = begin_chip(kind, genesis=genesis, session=session, nonce=nonce, at=now)
        self._open[session] = pending
        return OpenChipEnrolment(session, pending)

    async def finish(self, session: str, answer: bytes) -> Envelope:
        """Check the answer, record the platform, and return its record signed by the keeper.

        :raises NotFoundError: no such enrolment is open.
        :raises EnrolmentRefusedError: the answer is late or wrong.
        :raises PlatformEnrolledError: it is enrolled already.
        :raises WitnessQuorumStaleError: no quorum of witnesses has seen the log lately.
        """
        self._keeper.require_unlocked()
        await self._keeper.witnesses.require()
        pending = self._open.pop(session, None)
        if not isinstance(pending, PendingEnrolment):
            raise NotFoundError("no such enrolment is open", remedy="begin again")
        return await self._record(finish(pending, answer, at=self._clock.now()))

    async def finish_chip(self, session: str, evidence: bytes) -> Envelope:
        """Check a chip's evidence, record the platform, and return its record signed by the keeper.

        :raises NotFoundError: no such enrolment is open.
        :raises EnrolmentRefusedError: late, not genuine, not as the policy wants it, or a chip that hides its identity.
        :raises PlatformEnrolledError: it is enrolled already.
        :raises WitnessQuorumStaleError: no quorum of witnesses has seen the log lately.
        """
        self._keeper.require_unlocked()
        await self._keeper.witnesses.require()
        pending = self._open.pop(session, None)
        if not isinstance(pending, PendingChip):
            raise NotFoundError("no such enrolment is open", remedy="begin again")
        collateral, now = self._keeper.collateral, self._clock.now()
        return await self._record(
            finish_chip(pending, evidence, reference_values=self._values(), collateral=collateral, at=now)
        )

    def _values(self) -> ReferenceValues:
        values = self._keeper.documents.reference_values
        if values is None:
            raise DeniedError("no reference values are in force", reason="no-reference-values")
        return values

    def _room_for_one(self) -> ReferenceValues:
        self._keeper.require_unlocked()
        values, now = self._values(), self._clock.now()
        self._open = {name: pending for name, pending in self._open.items() if pending.expires > now}
        if len(self._open) >= MAX_PENDING:
            raise DeniedError(
                "too many enrolments are open", reason="enrolments-busy", remedy="try again in five minutes"
            )
        return values

    async def _record(self, record: PlatformRecord) -> Envelope:
        ledger = self._keeper.journal.ledger
        if record.platform in ledger.platforms:
            # The answer to the first enrolment was lost on its way: the same platform proved itself and gets it again.
            kept = self._keeper.kept(PLATFORMS, ledger.platforms[record.platform])
            if kept is not None and record.platform not in ledger.revoked_platforms:
                return kept
        if record.platform in ledger.platforms or record.hardware in ledger.hardware:
            raise PlatformEnrolledError(f"the platform `{record.platform}`, or its hardware, is enrolled already")
        envelope = sign(PLATFORM_TYPE, record.to_bytes(), self._keeper.vault.signer)
        self._keeper.keep(PLATFORMS, envelope)
        facts: dict[str, Fact] = {
            "platform": record.platform,
            "record": envelope.digest,
            "hardware": record.hardware,
            "isolation": record.isolation.value,
        }
        await self._keeper.record_pinned(EventName.PLATFORM_ENROLLED, facts)
        return envelope


async def register_version(keeper: Keeper, manifest: Envelope, request: Digest) -> Recorded:
    """Register a sealed version: from then on it is the current one of its model.

    :param request: the ``seal`` request under which the data key was made.
    :raises DeniedError: the manifest doesn't fit that request, its publisher, or the version before it.
    :raises TamperedError: the manifest isn't the publisher's.
    :raises WitnessQuorumStaleError: no quorum of witnesses has seen the log lately.
    """
    keeper.require_unlocked()
    ledger = keeper.journal.ledger
    claimed = read_manifest(manifest)
    await keeper.witnesses.require()
    made = ledger.data_keys.get(claimed.data_key_id)
    if made is None or made.request != request or (made.model, made.version) != (claimed.model, claimed.version):
        raise DeniedError("the manifest names a data key that wasn't made for it", reason="data-key-of-another-version")
    if claimed.data_key_id not in ledger.keys.data_keys.get(claimed.model, {}):
        raise DeniedError(
            "the manifest's data key was given up when the model's KEK was rotated: it wasn't stored",
            reason="data-key-lost",
            remedy="seal the version again",
        )
    current = ledger.current(claimed.model)
    if claimed.predecessor != (current.manifest if current else None):
        raise DeniedError("the manifest doesn't name the current version as its predecessor", reason="not-a-successor")
    publisher = keeper.roster().person(claimed.publisher)
    if publisher.id != made.requester:
        raise DeniedError("the manifest's publisher didn't ask for its data key", reason="other-publisher")
    signers = {signature.key_id for signature in manifest.signatures}
    # The publisher's hybrid key before any other: with none, the manifest is refused for what is wrong with it.
    keys = sorted((key for key in publisher.keys if key.key_id in signers), key=lambda key: not key.hybrid)
    if not keys:
        raise DeniedError("the manifest isn't signed by its publisher", reason="other-publisher")
    expected = ManifestExpectation(
        genesis=keeper.genesis.digest, model=claimed.model, version=claimed.version, digest=None
    )
    verified = verify_manifest(manifest, keys[0], expect=expected)
    facts: dict[str, Fact] = {
        "request": request,
        "model": verified.model,
        "version": verified.version,
        "manifest": verified.digest,
        "predecessor": verified.predecessor,
        "publisher": publisher.id,
        "publisher_key": keys[0],
        "data_key": verified.data_key_id,
    }
    return await keeper.record_pinned(EventName.VERSION_REGISTERED, facts)
