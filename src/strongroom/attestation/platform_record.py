"""An enrolled platform: the record that the keeper signs once and never changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.tpm.public_area import MAX_PUBLIC, PublicArea
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId, platform_id

PLATFORM_TYPE: Final = payload_type("platform.v1")
MAX_RECORD: Final = 8192
ENROLLABLE: Final = frozenset({IsolationClass.VM_SIMULATED, IsolationClass.MEASURED_HOST})
_NAME_ALGORITHM_BYTES: Final = 2


def platform_of(attestation_key: PublicArea) -> PlatformId:
    """Return the platform's id: ``tpm-`` and the hex of the attestation key's name, without its algorithm.

    The id is a digest of the key, so an identity can't be taken over by another key under the same id.
    """
    return platform_id("tpm-" + attestation_key.name[_NAME_ALGORITHM_BYTES:].hex())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRecord:
    """One platform's attestation key, the endorsement certificate that vouched for it, and its isolation class.

    :raises MalformedError: the id isn't that of the key, or the class isn't one that enrolment can give.
    :raises KeyAttributesError: the key isn't an attestation key.
    """

    platform: PlatformId
    attestation_key: PublicArea
    ek_certificate: Digest
    ek_root: Digest
    isolation: IsolationClass
    enrolled: Instant

    def __post_init__(self) -> None:
        self.attestation_key.require_attestation_key()
        if self.platform != platform_of(self.attestation_key):
            raise MalformedError("the platform's id isn't the name of its attestation key")
        if self.isolation not in ENROLLABLE:
            raise MalformedError(f"enrolment of a TPM can't give the class `{self.isolation}`")

    @classmethod
    def parse(cls, data: bytes) -> PlatformRecord:
        """Read canonical bytes; the caller has checked the keeper's signature over them.

        :raises MalformedError: another form, or contents that don't fit together.
        :raises KeyAttributesError: the key isn't an attestation key.
        """
        with Fields(decode(data, max_bytes=MAX_RECORD), "platform") as fields:
            fields.constant("v", 1)
            return cls(
                platform=fields.parsed("platform", platform_id),
                attestation_key=PublicArea.parse(fields.binary("ak_public", max_length=MAX_PUBLIC)),
                ek_certificate=fields.digest("ek_certificate"),
                ek_root=fields.digest("ek_root"),
                isolation=fields.parsed("isolation", IsolationClass),
                enrolled=fields.instant("enrolled"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: the payload of a ``platform.v1`` envelope."""
        return encode(
            {
                "v": 1,
                "platform": self.platform,
                "ak_public": to_base64(self.attestation_key.raw),
                "ek_certificate": str(self.ek_certificate),
                "ek_root": str(self.ek_root),
                "isolation": self.isolation.value,
                "enrolled": format_instant(self.enrolled),
            }
        )
