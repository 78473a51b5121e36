"""Signing keys and signatures. Ed25519 (RFC 8032) today; the algorithm travels with the key, never with the signature.

A signature that named its own algorithm would let an attacker choose how it is checked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.ids import KeyId


class SignatureAlgorithm(StrEnum):
    """Allowed signature algorithms."""

    ED25519 = "ed25519"


class SignatureError(TamperedError):
    """A signature doesn't verify, or too few of the required keys signed."""

    code = "bad-signature"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public signing key, written ``ed25519:<base64 of 32 bytes>``."""

    algorithm: SignatureAlgorithm
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the text form.

        :raises MalformedError: unknown algorithm, wrong length, or not a curve point.
        """
        name, _, encoded = text.partition(":")
        if name != SignatureAlgorithm.ED25519:
            raise MalformedError("a public key must be written `ed25519:<base64>`")
        raw = from_base64(encoded)
        try:
            Ed25519PublicKey.from_public_bytes(raw)
        except ValueError:
            raise MalformedError("the bytes aren't an Ed25519 public key") from None
        return cls(SignatureAlgorithm.ED25519, raw)

    @property
    def key_id(self) -> KeyId:
        """The first 16 bytes of SHA-256 over the text form, in hex."""
        return KeyId(hashlib.sha256(str(self).encode()).hexdigest()[:32])

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature; returns nothing.

        :raises SignatureError: it doesn't verify.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            raise SignatureError(f"a signature by key `{self.key_id}` doesn't verify") from None

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{to_base64(self.raw)}"


class Signer(Protocol):
    """Whatever can sign: a key file here, a hardware key or a key service elsewhere."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what this signs."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign ``message``."""
        ...


class Ed25519Signer:
    """A signer over an Ed25519 private key held in this process."""

    __slots__ = ("_private", "_public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public = PublicKey(SignatureAlgorithm.ED25519, private.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> Ed25519Signer:
        """Make a signer from a 32-byte seed."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public_key(self) -> PublicKey:
        """The matching public key."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Sign ``message`` (64 bytes)."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"<Ed25519Signer {self._public.key_id}>"
