"""The evidence envelope: what an attester hands in. Bounded before it is parsed; parsing it proves nothing.

Evidence is composite (RFC 9334, section 3.3): one statement of the platform, and one of each device attached to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.kinds import EvidenceKind
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId, platform_id

MAX_DEVICES: Final = 24
"""Sixteen accelerators and eight switches: twice what is sold in one machine."""
MAX_BODY: Final = 384 * 1024
MAX_EVIDENCE: Final = 1024 * 1024
RECIPIENT_KEY_BYTES: Final = 1216
"""ML-KEM-768 public key (1,184 bytes), then X25519 public key (32)."""


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """One statement: its kind, and its body in the kind's own encoding (see the kind's verifier)."""

    kind: EvidenceKind
    body: bytes

    @classmethod
    def read(cls, fields: Fields) -> EvidenceItem:
        """Read ``{kind, body}``."""
        return cls(fields.parsed("kind", EvidenceKind), fields.binary("body", max_length=MAX_BODY))

    def to_json(self) -> Json:
        """Return ``{kind, body}``."""
        return {"kind": self.kind.value, "body": to_base64(self.body)}


def devices_digest(devices: tuple[EvidenceItem, ...]) -> Digest:
    """Return what the platform's statement commits to: SHA-256 over the canonical JSON of the devices' statements."""
    return Digest.of(encode([device.to_json() for device in devices]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A platform's statement, its devices' statements, and the recipient key that they bind.

    :raises MalformedError: a device where the platform should speak, or the other way round; too many devices; a
        recipient key of the wrong length.
    """

    platform: PlatformId
    main: EvidenceItem
    devices: tuple[EvidenceItem, ...] = ()
    recipient_key: bytes

    def __post_init__(self) -> None:
        if self.main.kind.is_device or not all(device.kind.is_device for device in self.devices):
            raise MalformedError("evidence is one statement of a platform, and then those of its devices")
        if len(self.devices) > MAX_DEVICES:
            raise MalformedError(f"evidence has at most {MAX_DEVICES} devices, not {len(self.devices)}")
        if len(self.recipient_key) != RECIPIENT_KEY_BYTES:
            raise MalformedError(f"`evidence.recipient_key` must hold {RECIPIENT_KEY_BYTES} bytes")

    @classmethod
    def parse(cls, data: bytes) -> Evidence:
        """Read canonical bytes.

        :raises MalformedError: too long, not canonical, an unknown kind, or a recipient key of the wrong length.
        """
        with Fields(decode(data, max_bytes=MAX_EVIDENCE), "evidence") as fields:
            fields.constant("v", 1)
            with fields.child("main") as main:
                item = EvidenceItem.read(main)
            return cls(
                platform=fields.parsed("platform", platform_id),
                main=item,
                devices=fields.objects("devices", EvidenceItem.read, most=MAX_DEVICES),
                recipient_key=fields.binary("recipient_key", max_length=RECIPIENT_KEY_BYTES),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "platform": self.platform,
                "main": self.main.to_json(),
                "devices": [device.to_json() for device in self.devices],
                "recipient_key": to_base64(self.recipient_key),
            }
        )

    def submodules(self) -> Iterator[tuple[str, EvidenceItem]]:
        """Name each statement as results do: ``cpu0`` or ``tpm0``, then ``gpu0``, ``gpu1``, ``switch0``, ..."""
        return named_items((self.main, *self.devices))

    @property
    def digest(self) -> Digest:
        """How a log entry names this evidence."""
        return Digest.of(self.to_bytes())

    @property
    def devices_digest(self) -> Digest:
        """What the platform's statement must commit to."""
        return devices_digest(self.devices)

    @property
    def recipient_digest(self) -> Digest:
        """SHA-256 of the recipient key, for the binding."""
        return Digest.of(self.recipient_key)


def named_items(items: tuple[EvidenceItem, ...]) -> Iterator[tuple[str, EvidenceItem]]:
    """Name statements by family and number: ``cpu0``, ``gpu0``, ``gpu1``, ``switch0``."""
    counted: dict[str, int] = {}
    for item in items:
        number = counted.get(item.kind.family, 0)
        counted[item.kind.family] = number + 1
        yield f"{item.kind.family}{number}", item
