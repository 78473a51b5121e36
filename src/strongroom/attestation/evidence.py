"""The evidence envelope: what an attester hands in. Bounded before it is parsed; parsing it proves nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.attestation.measurement import MAX_EVENTS, Measurement
from strongroom.attestation.tpm.quote import MAX_ATTEST
from strongroom.attestation.tpm.signature import MAX_SIGNATURE
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId, platform_id

MAX_EVIDENCE: Final = 16 * 1024
RECIPIENT_KEY_BYTES: Final = 1216
"""ML-KEM-768 public key (1,184 bytes), then X25519 public key (32)."""
_MAX_PCR: Final = 23


class EvidenceKind(StrEnum):
    """Kinds of evidence that a verifier exists for."""

    TPM2 = "tpm2"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A line of the event log: which PCR was extended, and with what."""

    pcr: int
    measurement: Measurement

    @classmethod
    def read(cls, fields: Fields) -> LoggedEvent:
        """Read ``{pcr, name, digest}``."""
        return cls(fields.integer("pcr", most=_MAX_PCR), Measurement.read(fields))

    def to_json(self) -> dict[str, Json]:
        """Return ``{pcr, name, digest}``."""
        return {"pcr": self.pcr, **self.measurement.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A TPM quote, its signature, the event log behind it, and the recipient key that it binds."""

    platform: PlatformId
    quote: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""
    events: tuple[LoggedEvent, ...]
    recipient_key: bytes

    @classmethod
    def parse(cls, data: bytes) -> Evidence:
        """Read canonical bytes.

        :raises MalformedError: too long, not canonical, another kind, or a recipient key of the wrong length.
        """
        with Fields(decode(data, max_bytes=MAX_EVIDENCE), "evidence") as fields:
            fields.constant("v", 1)
            fields.constant("kind", EvidenceKind.TPM2.value)
            evidence = cls(
                platform=fields.parsed("platform", platform_id),
                quote=fields.binary("quote", max_length=MAX_ATTEST),
                signature=fields.binary("signature", max_length=MAX_SIGNATURE),
                events=fields.objects("events", LoggedEvent.read, most=MAX_EVENTS),
                recipient_key=fields.binary("recipient_key", max_length=RECIPIENT_KEY_BYTES),
            )
        if len(evidence.recipient_key) != RECIPIENT_KEY_BYTES:
            raise MalformedError(f"`evidence.recipient_key` must hold {RECIPIENT_KEY_BYTES} bytes")
        return evidence

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "kind": EvidenceKind.TPM2.value,
                "platform": self.platform,
                "quote": to_base64(self.quote),
                "signature": to_base64(self.signature),
                "events": [event.to_json() for event in self.events],
                "recipient_key": to_base64(self.recipient_key),
            }
        )

    @property
    def digest(self) -> Digest:
        """How a log entry names this evidence."""
        return Digest.of(self.to_bytes())

    @property
    def recipient_digest(self) -> Digest:
        """SHA-256 of the recipient key, for the binding."""
        return Digest.of(self.recipient_key)
