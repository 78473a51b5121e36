"""Enrolling a platform: proof that an attestation key lives in the TPM whose maker certified its endorsement key.

    begin:  1. chain to a pinned root        2. certificate is an endorsement key's, class from root and certificate
            3. certified key = EK public     4. AK attributes        5. credential for (EK, AK name)
    finish: 6. in time                       7. the TPM opened the credential        8. record

What comes out is a record for the keeper to sign. Everything is pure: the keeper keeps the pending enrolment.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.attestation.chain import MAX_DEPTH, walk
from strongroom.attestation.errors import EnrolmentRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import EnrolledTpm, PlatformRecord, platform_of
from strongroom.attestation.revocation import NO_LISTS, RevocationLists
from strongroom.attestation.tpm.credential import MAX_SECRET, Credential, make_credential
from strongroom.attestation.tpm.endorsement_certificate import TpmIdentity, tpm_identity
from strongroom.attestation.tpm.public_area import MAX_PUBLIC, PublicArea
from strongroom.attestation.trust_anchors import MAX_CERTIFICATE, TrustAnchor, Vendor, public_key_bytes
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes

ANSWER_SECONDS: Final = 300
MAX_REQUEST: Final = 96 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """What a platform hands in: certificates (DER, leaf first) and the public areas of its two keys."""

    ek_chain: tuple[bytes, ...]
    ek_public: bytes
    ak_public: bytes

    @classmethod
    def parse(cls, data: bytes) -> EnrolmentRequest:
        """Read canonical bytes.

        :raises MalformedError: too long or another form.
        """
        with Fields(decode(data, max_bytes=MAX_REQUEST), "enrolment") as fields:
            fields.constant("v", 1)
            size = (MAX_CERTIFICATE + 2) // 3 * 4
            return cls(
                ek_chain=tuple(from_base64(t) for t in fields.texts("ek_chain", most=MAX_DEPTH, max_length=size)),
                ek_public=fields.binary("ek_public", max_length=MAX_PUBLIC),
                ak_public=fields.binary("ak_public", max_length=MAX_PUBLIC),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "ek_chain": [to_base64(der) for der in self.ek_chain],
                "ek_public": to_base64(self.ek_public),
                "ak_public": to_base64(self.ak_public),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentFacts:
    """What was established about the platform before it answered; shown to the person who admits it."""

    platform: PlatformId
    attestation_key: PublicArea
    endorsement_key: Digest
    anchor: Digest
    isolation: IsolationClass
    tpm: TpmIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEnrolment:
    """The keeper's half of an enrolment. The secret never leaves it; only the credential does."""

    credential: Credential
    secret: SecretBytes
    facts: EnrolmentFacts
    expires: Instant


def begin(
    request: EnrolmentRequest,
    *,
    roots: Sequence[TrustAnchor],
    at: Instant,
    random_bytes: Callable[[int], bytes],
    lists: RevocationLists = NO_LISTS,
) -> PendingEnrolment:
    """Check what the platform hands in and make the credential that only its TPM can open.

    :raises MalformedError: a structure can't be parsed.
    :raises ChainRefusedError: no chain to a pinned root, or not an endorsement certificate.
    :raises CertificateRevokedError: a current list of its issuer names a certificate.
    :raises KeyAttributesError: a key isn't of the kind that its role needs.
    :raises EnrolmentRefusedError: the certificate belongs to another key.
    """
    # 1. and 2. A certificate that says "simulated" is simulated, whichever root vouched for it.
    path = walk(request.ek_chain, [root for root in roots if root.vendor is Vendor.TPM], at, lists=lists)
    certificate, root = path.leaf, path.anchor
    tpm = tpm_identity(certificate)
    isolation = root.isolation.weaker(IsolationClass.VM_SIMULATED) if tpm.simulated else root.isolation
    # 3.
    endorsement = PublicArea.parse(request.ek_public)
    endorsement.require_endorsement_key()
    certified = endorsement.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certified != public_key_bytes(certificate):
        raise EnrolmentRefusedError("the endorsement certificate belongs to another key", reason="ek-not-certified")
    # 4.
    attestation_key = PublicArea.parse(request.ak_public)
    attestation_key.require_attestation_key()
    # 5.
    secret = bytearray(random_bytes(MAX_SECRET))
    credential = make_credential(endorsement, attestation_key.name, bytes(secret), random_bytes)
    facts = EnrolmentFacts(
        platform=platform_of(attestation_key),
        attestation_key=attestation_key,
        endorsement_key=Digest.of(certified),
        anchor=root.digest,
        isolation=isolation,
        tpm=tpm,
    )
    return PendingEnrolment(credential=credential, secret=SecretBytes(secret), facts=facts, expires=at + ANSWER_SECONDS)


def finish(pending: PendingEnrolment, answer: bytes, *, at: Instant) -> PlatformRecord:
    """Check the platform's answer and return the record to sign. The secret is wiped: one credential, one answer.

    :raises EnrolmentRefusedError: too late, or the answer isn't what the credential holds.
    :raises SecretUseError: the credential was answered already.
    """
    with pending.secret as secret:
        right = hmac.compare_digest(secret.reveal(TOKEN), answer)
    # 6.
    if at >= pending.expires:
        raise EnrolmentRefusedError("the enrolment's answer came too late", reason="enrolment-expired")
    # 7.
    if not right:
        raise EnrolmentRefusedError(
            "the attestation key and the endorsement key aren't in the same TPM", reason="credential-not-opened"
        )
    # 8.
    facts = pending.facts
    return PlatformRecord(
        platform=facts.platform,
        kind=EvidenceKind.TPM2,
        identity=EnrolledTpm(attestation_key=facts.attestation_key, endorsement_key=facts.endorsement_key),
        anchor=facts.anchor,
        isolation=facts.isolation,
        enrolled=at,
    )
