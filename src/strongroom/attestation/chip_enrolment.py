"""Enrolling a confidential-computing chip, which answers a challenge, by the identity in its maker's evidence.

    begin:  1. a nonce for one session and one kind of evidence
    finish: 2. in time                 3. genuine, bound to this enrolment, and as the policy for its kind wants it
            4. its maker tells which chip it is                5. the root that vouched       6. record

Nothing is measured against an image here: which software runs is asked at each release. What comes out is a record for
the keeper to sign. A TPM is enrolled otherwise (:mod:`strongroom.attestation.enrolment`): its maker certifies a key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.appraisal import appraise_item
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import EnrolmentRefusedError
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import CHIP_CLASSES, EnrolledChip, PlatformRecord, platform_of_chip
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.attestation.results import Status, SubmoduleResult
from strongroom.attestation.transcript import NONCE_BYTES
from strongroom.attestation.trust_anchors import TrustAnchor, TrustAnchors, vendor_anchors
from strongroom.core.canonical import encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError

ANSWER_SECONDS: Final = 300
MAX_SESSION: Final = 64
_DOMAIN: Final = b"strongroom/enrolment/"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentBinding:
    """What an enrolling chip's evidence commits to.

    Its bytes begin with other domains than a release's (:mod:`strongroom.attestation.transcript`): evidence that was
    made to enrol releases nothing, and the other way round.

    :raises MalformedError: a kind that isn't enrolled by evidence, a nonce that isn't 32 bytes, or no session.
    """

    genesis: Digest
    session: str
    kind: EvidenceKind
    nonce: bytes

    def __post_init__(self) -> None:
        if self.kind is EvidenceKind.TPM2 or self.kind.is_device:
            raise MalformedError(f"a platform isn't enrolled by evidence of kind `{self.kind}`")
        if len(self.nonce) != NONCE_BYTES:
            raise MalformedError(f"a nonce has {NONCE_BYTES} bytes, not {len(self.nonce)}")
        if not 1 <= len(self.session) <= MAX_SESSION or not self.session.isprintable():
            raise MalformedError(f"a session has 1 to {MAX_SESSION} printable characters")

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that every kind commits to."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "session": self.session,
                "kind": self.kind.value,
                "nonce": to_base64(self.nonce),
            }
        )

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that a CPU signs."""
        return hashlib.sha512(_DOMAIN + b"cpu/v1\0" + self.to_bytes()).digest()

    @property
    def qualifying_data(self) -> bytes:
        """The 32 bytes that a chip's virtual TPM signs."""
        return hashlib.sha256(_DOMAIN + b"tpm2/v1\0" + self.to_bytes()).digest()

    @property
    def user_data(self) -> bytes:
        """The 64 bytes that a Nitro document carries beside the nonce."""
        return hashlib.sha512(_DOMAIN + b"nitro/v1\0" + self.to_bytes()).digest()

    def item(self) -> ExpectedBinding:
        """Return what the statement must commit to."""
        if self.kind in {EvidenceKind.AZURE_SNP_VTPM, EvidenceKind.AZURE_TDX_VTPM}:
            return ExpectedBinding({Slot.QUALIFYING_DATA: self.qualifying_data})
        if self.kind is EvidenceKind.NITRO:
            return ExpectedBinding({Slot.NONCE: self.nonce, Slot.USER_DATA: self.user_data})
        return ExpectedBinding({Slot.REPORT_DATA: self.report_data})


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChip:
    """The keeper's half of an enrolment that waits for the chip's evidence."""

    binding: EnrolmentBinding
    expires: Instant


def begin_chip(kind: EvidenceKind, *, genesis: Digest, session: str, nonce: bytes, at: Instant) -> PendingChip:
    """Step 1: return the challenge that a chip of this kind must answer.

    :raises MalformedError: a TPM or a device: neither is enrolled so.
    """
    binding = EnrolmentBinding(genesis=genesis, session=session, kind=kind, nonce=nonce)
    return PendingChip(binding=binding, expires=at + ANSWER_SECONDS)


def finish_chip(
    pending: PendingChip, body: bytes, *, reference_values: ReferenceValues, collateral: Collateral, at: Instant
) -> PlatformRecord:
    """Steps 2 to 6: check a chip's evidence and return the record to sign.

    :raises EnrolmentRefusedError: too late, not genuine, not as the policy wants it, or a chip that can't be told from
        others of its make.
    :raises UsageError: a library that this kind needs isn't installed.
    """
    kind = pending.binding.kind
    # 2.
    if at >= pending.expires:
        raise EnrolmentRefusedError("the enrolment's answer came too late", reason="enrolment-expired")
    # 3.
    anchors = vendor_anchors().joined(reference_values.anchors)
    result = _appraised(pending, body, reference_values, anchors, collateral, at)
    if result.status is not Status.WANTED:
        told = "\n".join(f"{one.name}: seen {one.seen or 'nothing'}, wanted {one.wanted}" for one in result.failed)
        names = ", ".join(f"`{claim.name}`" for claim in result.failed) or "no step was passed"
        raise EnrolmentRefusedError(
            f"the evidence isn't that of a chip that this deployment takes: {names}", reason=result.reason, remedy=told
        )
    # 4.
    if not result.hardware_id:
        raise EnrolmentRefusedError(
            "the evidence doesn't tell which chip it is of",
            reason="chip-masked",
            remedy="have the host's owner show the chip's identity to the guest (on SEV-SNP: MASK_CHIP_ID off)",
        )
    # 5.
    vouching = _vouching(pending, body, reference_values, anchors, collateral, at)
    isolation = result.isolation.weaker(vouching.isolation)
    if isolation not in CHIP_CLASSES:
        raise EnrolmentRefusedError(
            f"evidence of the class `{isolation}` enrols no chip", reason="enrolment-class", remedy="use another chip"
        )
    # 6.
    return PlatformRecord(
        platform=platform_of_chip(kind, result.hardware_id),
        kind=kind,
        identity=EnrolledChip(hardware_id=result.hardware_id),
        anchor=vouching.digest,
        isolation=isolation,
        enrolled=at,
    )


def _appraised(
    pending: PendingChip,
    body: bytes,
    values: ReferenceValues,
    anchors: TrustAnchors,
    collateral: Collateral,
    at: Instant,
) -> SubmoduleResult:
    kind = pending.binding.kind
    return appraise_item(
        f"{kind.family}0",
        EvidenceItem(kind, body),
        binding=pending.binding.item(),
        endorsements=Endorsements(anchors=anchors, collateral=collateral),
        policy=values.appraisal,
        at=at,
    )


def _vouching(
    pending: PendingChip,
    body: bytes,
    values: ReferenceValues,
    anchors: TrustAnchors,
    collateral: Collateral,
    at: Instant,
) -> TrustAnchor:
    """Return the root with which alone the evidence is genuine: found by leaving out all others, not by a name."""
    found = [
        anchor
        for anchor in anchors.anchors
        if _appraised(pending, body, values, TrustAnchors((anchor,)), collateral, at).status is not Status.ERROR
    ]
    if not found:
        raise EnrolmentRefusedError("no single root vouches for the evidence", reason="enrolment-root")
    # Should two do, the weaker: a record never promises more than the least of what it may rest on.
    return min(found, key=lambda anchor: anchor.isolation.rank)
