"""COSE_Sign1 (RFC 9052, section 4.2) as AWS writes it: ES384, nothing unprotected, tagged with 18 or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.attestation.nitro.cbor import decode, encode
from strongroom.core.errors import MalformedError

MAX_PAYLOAD: Final = 16384
MAX_SIGN1: Final = MAX_PAYLOAD + 256
SIGNATURE_BYTES: Final = 96
"""r and s of P-384, big-endian."""
_TAG_18: Final = b"\xd2"
_ONLY_ES384: Final = b"\xa1\x01\x38\x22"
"""{1: -35}."""


@dataclass(frozen=True, slots=True)
class Sign1:
    """The parts that are signed over, and the signature."""

    protected: bytes
    payload: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> Sign1:
        """Read exactly one COSE_Sign1.

        :raises MalformedError: another structure, another algorithm, any other header, or a size out of its bounds.
        """
        item = decode(data.removeprefix(_TAG_18), "COSE_Sign1", max_bytes=MAX_SIGN1)
        if type(item) is not list or len(item) != 4:
            raise MalformedError("a COSE_Sign1 is an array of four items")
        protected, unprotected, payload, signature = item
        # Headers outside the signature could be anybody's; AWS sends none.
        if type(unprotected) is not dict or unprotected:
            raise MalformedError("a COSE_Sign1 of AWS has no unprotected headers")
        if not all(type(part) is bytes for part in (protected, payload, signature)):
            raise MalformedError("a COSE_Sign1's headers, payload and signature are byte strings")
        # Exactly this one: a critical header that goes unread is a condition that goes unchecked.
        if protected != _ONLY_ES384:
            raise MalformedError("a COSE_Sign1 of AWS is signed with ES384 and says nothing else in its headers")
        if not 1 <= len(payload) <= MAX_PAYLOAD or len(signature) != SIGNATURE_BYTES:
            raise MalformedError(f"a payload has 1 to {MAX_PAYLOAD} bytes and a signature {SIGNATURE_BYTES}")
        return cls(protected, payload, signature)

    @property
    def signed(self) -> bytes:
        """The Sig_structure that the signature covers (RFC 9052, section 4.4)."""
        return encode(["Signature1", self.protected, b"", self.payload])
