"""Wrapping one key under another: AES-256-GCM (SP 800-38D) with the purpose as associated data.

The purpose is canonical JSON naming what the key is for. A wrapped key that is copied to another row of a hostile
database, or brought back from another epoch, no longer authenticates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import TamperedError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

RandomBytes = Callable[[int], bytes]
"""``n`` -> ``n`` unpredictable bytes (``os.urandom`` in every process)."""


class WrapError(TamperedError):
    """A wrapped key doesn't open: another purpose, another wrapping key, or changed bytes. Which one can't be told."""

    code = "wrapped-key-refused"


class KeyKind(StrEnum):
    """What a key is for; part of every wrap's associated data."""

    ROOT = "root"
    ROOT_PART = "root-part"
    EPOCH = "epoch"
    MODEL_KEK = "model-kek"
    DATA = "data"
    KEEPER_SIGNING = "keeper-signing"
    PERSON_SIGNING = "person-signing"
    PERSON_RECORD = "person-record"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapPurpose:
    """What one wrapped key is for, complete: two different uses never have equal purposes."""

    genesis: Digest
    kind: KeyKind
    name: str
    """Names the key within its kind: an epoch number, a model, or a data-key id."""
    parent: str
    """Names the wrapping key: its kind and name."""
    model: str = ""
    version: int = 0

    def associated_data(self) -> bytes:
        """Return the canonical bytes that the wrap authenticates."""
        return encode(
            {
                "v": 1,
                "type": "strongroom/wrapped-key",
                "genesis": str(self.genesis),
                "kind": self.kind.value,
                "name": self.name,
                "parent": self.parent,
                "model": self.model,
                "version": self.version,
            }
        )


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A wrapped key: 12-byte nonce, then ciphertext and 16-byte tag. Not secret; safe in a hostile store."""

    nonce: bytes
    ciphertext: bytes

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"nonce": to_base64(self.nonce), "ciphertext": to_base64(self.ciphertext)}

    @classmethod
    def read(cls, fields: Fields) -> WrappedKey:
        """Read the JSON form.

        :raises MalformedError: a member is missing or too long.
        """
        return cls(
            fields.binary("nonce", max_length=NONCE_BYTES),
            fields.binary("ciphertext", max_length=KEY_BYTES + TAG_BYTES),
        )


def new_key(random_bytes: RandomBytes) -> SecretBytes:
    """Make a random 256-bit key."""
    return SecretBytes(bytearray(random_bytes(KEY_BYTES)))


def wrap(wrapping_key: SecretBytes, key: SecretBytes, purpose: WrapPurpose, random_bytes: RandomBytes) -> WrappedKey:
    """Wrap a 32-byte ``key`` under ``wrapping_key`` for ``purpose``."""
    nonce = random_bytes(NONCE_BYTES)
    sealed = AESGCM(wrapping_key.reveal(TOKEN)).encrypt(nonce, key.reveal(TOKEN), purpose.associated_data())
    return WrappedKey(nonce, sealed)


def unwrap(wrapping_key: SecretBytes, wrapped: WrappedKey, purpose: WrapPurpose) -> SecretBytes:
    """Open a wrapped key.

    :raises WrapError: wrong purpose, wrong wrapping key, or changed bytes.
    """
    out = bytearray(KEY_BYTES)
    try:
        if len(wrapped.nonce) != NONCE_BYTES or len(wrapped.ciphertext) != KEY_BYTES + TAG_BYTES:
            raise InvalidTag
        AESGCM(wrapping_key.reveal(TOKEN)).decrypt_into(
            wrapped.nonce, wrapped.ciphertext, purpose.associated_data(), out
        )
    except InvalidTag:
        raise WrapError(
            f"the wrapped `{purpose.kind}` key `{purpose.name}` doesn't open for this purpose",
            remedy="the stored row was changed, swapped with another, or comes from another deployment or epoch",
        ) from None
    return SecretBytes(out)
