"""The binding: for whom, for what and to which key a piece of evidence was made (docs/spec/attestation-binding.md).

``T`` is the canonical JSON of the binding. Devices are asked first, for a nonce that the recipient key is mixed into;
then the platform, whose statement commits to ``T`` and with it to every device's statement.

    devices     nonce       = SHA-256("strongroom/attestation/device/v1" 00 nonce recipient-key-digest)
    CPU         report data = SHA-512("strongroom/attestation/cpu/v1" 00 T)
    TPM, vTPM   extraData   = SHA-256("strongroom/attestation/tpm2/v1" 00 T)
    Nitro       nonce       = nonce, user_data = SHA-512("strongroom/attestation/nitro/v1" 00 T)

The verifier builds the same bytes from its own challenge and compares; it never reads a nonce that the attester
repeats.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.kinds import EvidenceKind
from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId, model_id

NONCE_BYTES: Final = 32
MAX_CHALLENGE_ID: Final = 64
_DEVICE_DOMAIN: Final = b"strongroom/attestation/device/v1"
_CPU_DOMAIN: Final = b"strongroom/attestation/cpu/v1"
_TPM2_DOMAIN: Final = b"strongroom/attestation/tpm2/v1"
_NITRO_DOMAIN: Final = b"strongroom/attestation/nitro/v1"


def device_nonce(nonce: bytes, recipient_key: Digest) -> bytes:
    """Return the 32 bytes that devices are asked to sign, known before any device has answered."""
    return hashlib.sha256(_DEVICE_DOMAIN + b"\0" + nonce + recipient_key.value).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Everything that evidence commits to. There is no default: what isn't bound can be replayed or diverted.

    ``genesis`` names the deployment and with it the keeper's key.

    :raises MalformedError: a nonce that isn't 32 bytes, an empty challenge id, or a version below 1.
    """

    genesis: Digest
    challenge: str
    nonce: bytes
    request: Digest
    model: ModelId
    version: int
    manifest: Digest
    recipient_key: Digest
    devices: Digest
    """SHA-256 over the devices' statements; see :func:`~strongroom.attestation.evidence.devices_digest`."""

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE_BYTES:
            raise MalformedError(f"a nonce has {NONCE_BYTES} bytes, not {len(self.nonce)}")
        if not 1 <= len(self.challenge) <= MAX_CHALLENGE_ID or not self.challenge.isprintable():
            raise MalformedError(f"a challenge id has 1 to {MAX_CHALLENGE_ID} printable characters")
        if self.version < 1:
            raise MalformedError("a model's versions begin at 1")
        model_id(self.model)

    def to_bytes(self) -> bytes:
        """Return ``T``."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "challenge": self.challenge,
                "nonce": to_base64(self.nonce),
                "request": str(self.request),
                "model": self.model,
                "version": self.version,
                "manifest": str(self.manifest),
                "recipient_key": str(self.recipient_key),
                "devices": str(self.devices),
            }
        )

    @property
    def tpm2_qualifying_data(self) -> bytes:
        """The 32 bytes that a TPM signs along with its PCRs."""
        return hashlib.sha256(_TPM2_DOMAIN + b"\0" + self.to_bytes()).digest()

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that a CPU signs along with its launch measurement."""
        return hashlib.sha512(_CPU_DOMAIN + b"\0" + self.to_bytes()).digest()

    @property
    def nitro_user_data(self) -> bytes:
        """The 64 bytes that a Nitro document carries as ``user_data``."""
        return hashlib.sha512(_NITRO_DOMAIN + b"\0" + self.to_bytes()).digest()

    @property
    def device_nonce(self) -> bytes:
        """The 32 bytes that each device signs."""
        return device_nonce(self.nonce, self.recipient_key)

    def item(self, kind: EvidenceKind) -> ExpectedBinding:
        """Return what one statement of this kind must commit to."""
        return ExpectedBinding(self._slots(kind))

    def _slots(self, kind: EvidenceKind) -> dict[Slot, bytes]:
        match kind:
            case EvidenceKind.TPM2 | EvidenceKind.AZURE_SNP_VTPM | EvidenceKind.AZURE_TDX_VTPM:
                return {Slot.QUALIFYING_DATA: self.tpm2_qualifying_data}
            case EvidenceKind.SEV_SNP | EvidenceKind.TDX | EvidenceKind.SGX:
                return {Slot.REPORT_DATA: self.report_data}
            case EvidenceKind.NITRO:
                return {Slot.NONCE: self.nonce, Slot.USER_DATA: self.nitro_user_data}
            case EvidenceKind.NVIDIA_GPU | EvidenceKind.NVIDIA_SWITCH:
                return {Slot.NONCE: self.device_nonce}
