"""Encrypting a key to one recipient: HPKE (RFC 9180) with ML-KEM-768 + X25519, HKDF-SHA-256 and AES-256-GCM.

Hybrid, so that a recording made today stays closed if either part falls. Nothing rests on TLS. All context goes in
``info``: the library's single-shot mode has no associated data.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes

MLKEM_BYTES: Final = 1184
X25519_BYTES: Final = 32
RECIPIENT_KEY_BYTES: Final = MLKEM_BYTES + X25519_BYTES
_MLKEM_SEED: Final = 64
IDENTITY_BYTES: Final = _MLKEM_SEED + X25519_BYTES
_TEXT_PREFIX: Final = "mlkem768-x25519:"
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class DeliveryError(TamperedError):
    """An encrypted key doesn't open: another recipient, another context, or changed bytes."""

    code = "delivery-refused"


class RecipientKey:
    """An ephemeral recipient key pair. It is never serialised and dies with the process that made it."""

    __slots__ = ("_private", "public")

    def __init__(self) -> None:
        mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self._private: MLKEM768X25519PrivateKey | None = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        """1,216 bytes: ML-KEM-768 public key, then X25519 public key."""

    @property
    def digest(self) -> Digest:
        """SHA-256 of the public key: how requests, evidence and log entries name it."""
        return Digest.of(self.public)

    def open(self, ciphertext: bytes, context: bytes) -> SecretBytes:
        """Open one delivery and forget the private key.

        :raises DeliveryError: wrong recipient or context, changed bytes, or a second use.
        """
        private, self._private = self._private, None
        if private is None:
            raise DeliveryError("this recipient key was used already")
        try:
            return SecretBytes(bytearray(_SUITE.decrypt(ciphertext, private, context)))
        except (InvalidTag, ValueError):
            raise DeliveryError("the delivered key doesn't open with this recipient key and context") from None


class RecipientIdentity:
    """A lasting recipient key pair, for who opens sealed models without a keeper: a customer, an embedded host, escrow.

    ``seed`` has 96 bytes: ML-KEM-768's 64, then X25519's 32. It stays the caller's, who can wipe it at once.
    """

    __slots__ = ("_private", "public")

    def __init__(self, seed: SecretBytes) -> None:
        if len(seed) != IDENTITY_BYTES:
            raise MalformedError(f"a recipient identity has {IDENTITY_BYTES} secret bytes")
        raw = seed.reveal(TOKEN)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes(raw[:_MLKEM_SEED]))
        x25519 = X25519PrivateKey.from_private_bytes(bytes(raw[_MLKEM_SEED:]))
        self._private = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        """1,216 bytes, as of :class:`RecipientKey`."""

    @property
    def digest(self) -> Digest:
        """SHA-256 of the public key: how stanzas name it."""
        return Digest.of(self.public)

    def open(self, ciphertext: bytes, context: bytes) -> SecretBytes:
        """Open a key that was encrypted to this identity.

        :raises DeliveryError: wrong recipient or context, or changed bytes.
        """
        try:
            return SecretBytes(bytearray(_SUITE.decrypt(ciphertext, self._private, context)))
        except (InvalidTag, ValueError):
            raise DeliveryError("the encrypted key doesn't open with this recipient identity and context") from None


def public_text(public: bytes) -> str:
    """Return a recipient's public key as text: ``mlkem768-x25519:<base64>``."""
    return f"{_TEXT_PREFIX}{to_base64(public)}"


def parse_public(text: str) -> bytes:
    """Read what :func:`public_text` gives.

    :raises MalformedError: another form.
    """
    if not text.startswith(_TEXT_PREFIX):
        raise MalformedError(f"a recipient's public key must be written `{_TEXT_PREFIX}<base64>`")
    public = from_base64(text.removeprefix(_TEXT_PREFIX))
    if len(public) != RECIPIENT_KEY_BYTES:
        raise MalformedError(f"a recipient key has {RECIPIENT_KEY_BYTES} bytes, not {len(public)}")
    return public


def encrypt_to(recipient_public: bytes, secret: SecretBytes, context: bytes) -> bytes:
    """Encrypt ``secret`` to a recipient's 1,216-byte public key, bound to ``context``.

    :raises MalformedError: the public key has the wrong length or isn't valid.
    """
    if len(recipient_public) != RECIPIENT_KEY_BYTES:
        raise MalformedError(f"a recipient key has {RECIPIENT_KEY_BYTES} bytes, not {len(recipient_public)}")
    try:
        public = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(recipient_public[:MLKEM_BYTES]),
            X25519PublicKey.from_public_bytes(recipient_public[MLKEM_BYTES:]),
        )
        # The type says bytes; any buffer is taken, and a copy of ours could never be cleared.
        return _SUITE.encrypt(secret.reveal(TOKEN), public, context)
    except ValueError:
        raise MalformedError("the recipient key isn't a valid ML-KEM-768 + X25519 public key") from None
