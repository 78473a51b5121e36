"""An enrolled platform: the record that the keeper signs once and never changes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.tpm.public_area import MAX_PUBLIC, PublicArea
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId, platform_id

PLATFORM_TYPE: Final = payload_type("platform.v1")
MAX_RECORD: Final = 8192
MAX_HARDWARE_ID: Final = 128
TPM_CLASSES: Final = frozenset({IsolationClass.VM_SIMULATED, IsolationClass.MEASURED_HOST})
CHIP_CLASSES: Final = frozenset({IsolationClass.VM_SIMULATED, IsolationClass.CVM_WEAK, IsolationClass.CVM})
_NAME_ALGORITHM_BYTES: Final = 2


def platform_of(attestation_key: PublicArea) -> PlatformId:
    """Return a TPM platform's id: ``tpm-`` and the hex of the attestation key's name, without its algorithm.

    The id is a digest of the key, so an identity can't be taken over by another key under the same id.
    """
    return platform_id("tpm-" + attestation_key.name[_NAME_ALGORITHM_BYTES:].hex())


def platform_of_chip(kind: EvidenceKind, hardware_id: bytes) -> PlatformId:
    """Return a chip's platform id: the kind, and SHA-256 of the chip's identity as its maker's evidence states it."""
    return platform_id(f"{kind.value}-{hashlib.sha256(hardware_id).hexdigest()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledTpm:
    """A TPM's attestation key, and the endorsement key beside it, by digest (DER SubjectPublicKeyInfo).

    Not by the certificate: an ECDSA signature has two spellings, so one certificate has two digests.
    """

    attestation_key: PublicArea
    endorsement_key: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledChip:
    """A confidential-computing chip, by the identity in its maker's evidence.

    :raises MalformedError: an empty identity: a masked chip can't be told from any other.
    """

    hardware_id: bytes

    def __post_init__(self) -> None:
        if not 1 <= len(self.hardware_id) <= MAX_HARDWARE_ID:
            raise MalformedError(f"a chip's identity has 1 to {MAX_HARDWARE_ID} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRecord:
    """One platform: what it is known by, the root that vouched for it, and the strongest class that it can have.

    :raises MalformedError: the id isn't that of the identity, or the class isn't one that enrolment can give.
    :raises KeyAttributesError: a TPM's key isn't an attestation key.
    """

    platform: PlatformId
    kind: EvidenceKind
    identity: EnrolledTpm | EnrolledChip
    anchor: Digest
    """SHA-256 of the root certificate."""
    isolation: IsolationClass
    enrolled: Instant

    def __post_init__(self) -> None:
        if isinstance(self.identity, EnrolledTpm):
            self.identity.attestation_key.require_attestation_key()
            named, classes = platform_of(self.identity.attestation_key), TPM_CLASSES
            if self.kind is not EvidenceKind.TPM2:
                raise MalformedError(f"a platform of kind `{self.kind}` isn't known by a TPM's key")
        else:
            named, classes = platform_of_chip(self.kind, self.identity.hardware_id), CHIP_CLASSES
            if self.kind is EvidenceKind.TPM2 or self.kind.is_device:
                raise MalformedError(f"a platform of kind `{self.kind}` isn't known by a chip's identity")
        if self.platform != named:
            raise MalformedError("the platform's id isn't the one of its identity")
        if self.isolation not in classes:
            raise MalformedError(f"enrolment of a `{self.kind}` platform can't give the class `{self.isolation}`")

    @property
    def hardware(self) -> Digest:
        """What no second platform may have: the endorsement key's digest, or the chip identity's."""
        if isinstance(self.identity, EnrolledTpm):
            return self.identity.endorsement_key
        return Digest.of(self.identity.hardware_id)

    @classmethod
    def parse(cls, data: bytes) -> PlatformRecord:
        """Read canonical bytes; the caller has checked the keeper's signature over them.

        :raises MalformedError: another form, or contents that don't fit together.
        :raises KeyAttributesError: a TPM's key isn't an attestation key.
        """
        with Fields(decode(data, max_bytes=MAX_RECORD), "platform") as fields:
            fields.constant("v", 1)
            kind = fields.parsed("kind", EvidenceKind)
            with fields.child("identity") as identity:
                known = _read_tpm(identity) if kind is EvidenceKind.TPM2 else _read_chip(identity)
            return cls(
                platform=fields.parsed("platform", platform_id),
                kind=kind,
                identity=known,
                anchor=fields.digest("anchor"),
                isolation=fields.parsed("isolation", IsolationClass),
                enrolled=fields.instant("enrolled"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: the payload of a ``platform.v1`` envelope."""
        return encode(
            {
                "v": 1,
                "platform": self.platform,
                "kind": self.kind.value,
                "identity": _identity_json(self.identity),
                "anchor": str(self.anchor),
                "isolation": self.isolation.value,
                "enrolled": format_instant(self.enrolled),
            }
        )


def _read_tpm(fields: Fields) -> EnrolledTpm:
    return EnrolledTpm(
        attestation_key=PublicArea.parse(fields.binary("ak_public", max_length=MAX_PUBLIC)),
        endorsement_key=fields.digest("endorsement_key"),
    )


def _read_chip(fields: Fields) -> EnrolledChip:
    return EnrolledChip(hardware_id=fields.binary("hardware_id", max_length=MAX_HARDWARE_ID))


def _identity_json(identity: EnrolledTpm | EnrolledChip) -> Json:
    if isinstance(identity, EnrolledTpm):
        return {
            "ak_public": to_base64(identity.attestation_key.raw),
            "endorsement_key": str(identity.endorsement_key),
        }
    return {"hardware_id": to_base64(identity.hardware_id)}
