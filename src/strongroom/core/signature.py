"""Signing keys and signatures: Ed25519 (RFC 8032), its hybrid with ML-DSA-65 (FIPS 204), of which both halves hold, and
the keys that security keys hold (WebAuthn), on P-256 or Ed25519.

The algorithm travels with the key, never with the signature: a signature that named its own algorithm would let an
attacker choose how it is checked.

In the hybrid, each half signs a label, the digest of the whole public key, and the message. So neither half is a
signature of its own under any other algorithm, and halves of two keys can't be put together.

A security key's signature is of another form than a key file's, and covers the message by its SHA-256 only; see
:mod:`strongroom.core.webauthn`. So no signature of one algorithm is one under another, even with the same curve.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.ids import KeyId
from strongroom.core.webauthn import ED25519_POINT_BYTES, P256_POINT_BYTES, AssertionRefusedError, CredentialKey

SEED_BYTES: Final = 32
ED25519_KEY_BYTES: Final = 32
ED25519_SIGNATURE_BYTES: Final = 64
ML_DSA_KEY_BYTES: Final = 1952
ML_DSA_SIGNATURE_BYTES: Final = 3309
HYBRID_KEY_BYTES: Final = ED25519_KEY_BYTES + ML_DSA_KEY_BYTES
HYBRID_SIGNATURE_BYTES: Final = ED25519_SIGNATURE_BYTES + ML_DSA_SIGNATURE_BYTES
MAX_KEY_TEXT: Final = len("ed25519-ml-dsa-65:") + (HYBRID_KEY_BYTES + 2) // 3 * 4
"""Characters in the longest public key's text."""
_LABEL: Final = b"strongroom ed25519-ml-dsa-65 v1"
_ED25519_SEED: Final = _LABEL + b" ed25519 seed"
_ML_DSA_SEED: Final = _LABEL + b" ml-dsa-65 seed"


class SignatureAlgorithm(StrEnum):
    """Allowed signature algorithms."""

    ED25519 = "ed25519"
    ED25519_ML_DSA_65 = "ed25519-ml-dsa-65"
    WEBAUTHN_ES256 = "webauthn-es256"
    WEBAUTHN_ED25519 = "webauthn-ed25519"


_HYBRID: Final = SignatureAlgorithm.ED25519_ML_DSA_65
_POINT_BYTES: Final = {
    SignatureAlgorithm.WEBAUTHN_ES256: P256_POINT_BYTES,
    SignatureAlgorithm.WEBAUTHN_ED25519: ED25519_POINT_BYTES,
}
SIGNING_ALGORITHMS: Final = (
    SignatureAlgorithm.ED25519,
    SignatureAlgorithm.WEBAUTHN_ES256,
    SignatureAlgorithm.WEBAUTHN_ED25519,
)
"""What a person signs requests, approvals and root documents with: a key file or a security key."""


class SignatureError(TamperedError):
    """A signature doesn't verify, or too few of the required keys signed."""

    code = "bad-signature"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public signing key, written ``<algorithm>:<base64>``.

    The bytes: 32 for Ed25519; 32 + 1,952 for the hybrid; for a security key, a length byte, the relying party's name
    and the point (:class:`strongroom.core.webauthn.CredentialKey`).
    """

    algorithm: SignatureAlgorithm
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the text form.

        :raises MalformedError: unknown algorithm, wrong length, not a curve point, or not a relying party.
        """
        name, _, encoded = text.partition(":")
        try:
            algorithm = SignatureAlgorithm(name)
        except ValueError:
            forms = " or ".join(f"`{known.value}:<base64>`" for known in SignatureAlgorithm)
            raise MalformedError(f"a public key must be written {forms}") from None
        raw = from_base64(encoded)
        if algorithm in _POINT_BYTES:
            CredentialKey.parse(raw, point_bytes=_POINT_BYTES[algorithm])
            return cls(algorithm, raw)
        try:
            Ed25519PublicKey.from_public_bytes(raw[:ED25519_KEY_BYTES] if algorithm is _HYBRID else raw)
            if algorithm is _HYBRID:
                MLDSA65PublicKey.from_public_bytes(raw[ED25519_KEY_BYTES:])
        except ValueError:
            raise MalformedError(f"the bytes aren't a public key of the form `{algorithm.value}`") from None
        return cls(algorithm, raw)

    @classmethod
    def of_credential(cls, credential: CredentialKey) -> PublicKey:
        """Return a security key's public key; the length of its point says which algorithm."""
        found = next(name for name, size in _POINT_BYTES.items() if size == len(credential.point))
        return cls(found, credential.to_bytes())

    @property
    def hybrid(self) -> bool:
        """Whether a signature holds while either of two algorithms does."""
        return self.algorithm is _HYBRID

    @property
    def hardware(self) -> bool:
        """Whether a security key holds the private half, and signs only for who touches it and knows its PIN."""
        return self.algorithm in _POINT_BYTES

    @property
    def credential(self) -> CredentialKey:
        """The relying party and the point of a security key's public key.

        :raises MalformedError: the key isn't a security key's.
        """
        if self.algorithm not in _POINT_BYTES:
            raise MalformedError(f"a key of the form `{self.algorithm.value}` isn't held by a security key")
        return CredentialKey.parse(self.raw, point_bytes=_POINT_BYTES[self.algorithm])

    @property
    def key_id(self) -> KeyId:
        """The first 16 bytes of SHA-256 over the text form, in hex."""
        return KeyId(hashlib.sha256(str(self).encode()).hexdigest()[:32])

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature, of a hybrid key both halves, of a security key everything about it; returns nothing.

        :raises SignatureError: it doesn't verify; for a security key, ``reason`` says which step failed.
        """
        try:
            if self.hybrid:
                _verify_both(self.raw, signature, message)
            elif self.hardware:
                self.credential.verify(signature, message)
            else:
                Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            raise SignatureError(f"a signature by key `{self.key_id}` doesn't verify") from None
        except AssertionRefusedError as error:
            raise SignatureError(
                f"a signature by key `{self.key_id}` doesn't verify: {error.message}", reason=error.reason
            ) from None

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{to_base64(self.raw)}"


def _bound(public: bytes, message: bytes) -> bytes:
    # What both halves sign. Nothing else that is signed begins with this label: DSSE's encoding begins with its own
    # name, and a note holds no zero byte. The digest ties each half to the other half's key.
    return _LABEL + b"\0" + hashlib.sha256(public).digest() + message


def _verify_both(public: bytes, signature: bytes, message: bytes) -> None:
    # An exact length, so that a signature has one form and no half can be left out.
    if len(signature) != HYBRID_SIGNATURE_BYTES:
        raise InvalidSignature
    bound = _bound(public, message)
    first, second = signature[:ED25519_SIGNATURE_BYTES], signature[ED25519_SIGNATURE_BYTES:]
    Ed25519PublicKey.from_public_bytes(public[:ED25519_KEY_BYTES]).verify(first, bound)
    MLDSA65PublicKey.from_public_bytes(public[ED25519_KEY_BYTES:]).verify(second, bound, _LABEL)


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


class HybridSigner:
    """A signer over an Ed25519 and an ML-DSA-65 private key held in this process."""

    __slots__ = ("_first", "_public", "_second")

    def __init__(self, first: Ed25519PrivateKey, second: MLDSA65PrivateKey) -> None:
        self._first = first
        self._second = second
        raw = first.public_key().public_bytes_raw() + second.public_key().public_bytes_raw()
        self._public = PublicKey(_HYBRID, raw)

    @classmethod
    def from_seed(cls, seed: bytes) -> HybridSigner:
        """Make a signer from a 32-byte seed.

        Each half has a seed of its own, under a label of its own: no key is used in two algorithms, and who learns one
        half's private key learns nothing of the other's.

        :raises MalformedError: a seed of another length.
        """
        if len(seed) != SEED_BYTES:
            raise MalformedError(f"a signing seed has {SEED_BYTES} bytes")
        first, second = (derived_seed(seed, label) for label in (_ED25519_SEED, _ML_DSA_SEED))
        return cls(Ed25519PrivateKey.from_private_bytes(first), MLDSA65PrivateKey.from_seed_bytes(second))

    @property
    def public_key(self) -> PublicKey:
        """The matching public key."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Sign ``message`` (3,373 bytes, others each time: ML-DSA's half takes fresh randomness)."""
        bound = _bound(self._public.raw, message)
        return self._first.sign(bound) + self._second.sign(bound, _LABEL)

    def __repr__(self) -> str:
        return f"<HybridSigner {self._public.key_id}>"


def derived_seed(seed: bytes, label: bytes) -> bytes:
    """Derive a 32-byte seed from another: HKDF-Expand-SHA-384 under ``label``."""
    return HKDFExpand(hashes.SHA384(), SEED_BYTES, label).derive(seed)
