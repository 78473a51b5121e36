"""The binding: for whom, for what and to which key a piece of evidence was made.

``qualifying data = SHA-256("strongroom/attestation/tpm2/v1" 00 canonical JSON)``. The verifier builds the same bytes
from its own challenge and compares; it never reads a nonce that the attester repeats.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId, model_id

NONCE_BYTES: Final = 32
MAX_CHALLENGE_ID: Final = 64
_TPM2_DOMAIN: Final = b"strongroom/attestation/tpm2/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Everything that evidence commits to. There is no default: what isn't bound can be replayed or diverted.

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

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE_BYTES:
            raise MalformedError(f"a nonce has {NONCE_BYTES} bytes, not {len(self.nonce)}")
        if not 1 <= len(self.challenge) <= MAX_CHALLENGE_ID or not self.challenge.isprintable():
            raise MalformedError(f"a challenge id has 1 to {MAX_CHALLENGE_ID} printable characters")
        if self.version < 1:
            raise MalformedError("a model's versions begin at 1")
        model_id(self.model)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
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
            }
        )

    @property
    def tpm2_qualifying_data(self) -> bytes:
        """The 32 bytes that a TPM signs along with its PCRs."""
        return hashlib.sha256(_TPM2_DOMAIN + b"\0" + self.to_bytes()).digest()
