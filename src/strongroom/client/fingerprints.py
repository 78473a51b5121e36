"""The file of fingerprints: a catalogue, signed by the registrar and encrypted to those who search.

Four bytes of length, a DSSE envelope, then the catalogue under AES-256-GCM. The statement names the deployment,
the ciphertext by digest, and the file's key as encrypted to each recipient. (docs/spec/fingerprints.md)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import MAX_PAYLOAD, Envelope, payload_type, sign, verify
from strongroom.core.errors import DeniedError, TamperedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.reader import Reader
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey, Signer
from strongroom.intake.copies.catalogue import MAX_CATALOGUE, Catalogue
from strongroom.keys.recipient import RecipientIdentity, encrypt_to, parse_public, public_text

FINGERPRINTS_TYPE: Final = payload_type("fingerprints.v1")
MAX_RECIPIENTS: Final = 64
_KEY_BYTES: Final = 32
_NONCE: Final = bytes(12)
"""The key is used once."""
_LABEL: Final = b"strongroom fingerprints v1\0"
_MOST_ENVELOPE: Final = 2 * MAX_PAYLOAD
_MOST_TEXT: Final = 2048
_MOST_STANZA: Final = 4096


class NotARecipientError(DeniedError):
    """The fingerprints aren't encrypted to this identity."""

    code = "fingerprints-not-for-this-identity"


class FingerprintsChangedError(TamperedError):
    """The file's ciphertext isn't what the registrar signed."""

    code = "fingerprints-changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """The file's key, encrypted to one recipient."""

    public: bytes
    encrypted: bytes

    @classmethod
    def read(cls, fields: Fields) -> Stanza:
        """Read the object.

        :raises MalformedError: another form.
        """
        return cls(
            public=fields.parsed("recipient", parse_public, max_length=_MOST_TEXT),
            encrypted=fields.binary("key", max_length=_MOST_STANZA),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """An opened file."""

    genesis: Digest
    catalogue: Catalogue
    recipients: tuple[bytes, ...]
    """Public keys of those who can open it."""


def write_fingerprints(
    catalogue: Catalogue,
    recipients: Sequence[bytes],
    signer: Signer,
    *,
    genesis: Digest,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """Encrypt a catalogue to ``recipients`` (public keys) and sign it.

    :raises UsageError: no recipients, or more than 64.
    :raises MalformedError: one isn't a key, or the catalogue is larger than what is read again.
    """
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise UsageError(f"fingerprints are encrypted to 1 to {MAX_RECIPIENTS} identities", remedy="give --to")
    context = _LABEL + genesis.value
    plain = catalogue.to_bytes()
    Catalogue.parse(plain)
    with SecretBytes(bytearray(random_bytes(_KEY_BYTES))) as key:
        body = AESGCM(key.reveal(TOKEN)).encrypt(_NONCE, plain, context)
        keys: list[Json] = [
            {"recipient": public_text(one), "key": to_base64(encrypt_to(one, key, context))} for one in recipients
        ]
    statement = encode({"v": 1, "genesis": str(genesis), "body": str(Digest.of(body)), "keys": keys})
    envelope = sign(FINGERPRINTS_TYPE, statement, signer).to_bytes()
    return len(envelope).to_bytes(4, "big") + envelope + body


def read_fingerprints(data: bytes, registrar: PublicKey, identity: RecipientIdentity) -> Fingerprints:
    """Check a file's signature and open it.

    :raises MalformedError: another form. :raises SignatureError: the registrar didn't sign it.
    :raises FingerprintsChangedError: the ciphertext is another. :raises NotARecipientError: it is for others.
    """
    reader = Reader(data, "fingerprints", max_bytes=2 * MAX_CATALOGUE)
    envelope = Envelope.parse(reader.counted(4, _MOST_ENVELOPE))
    body = reader.rest()
    verify(envelope, FINGERPRINTS_TYPE, [registrar], threshold=1)
    with Fields(decode(envelope.payload, max_bytes=MAX_PAYLOAD), "fingerprints") as fields:
        fields.constant("v", 1)
        genesis, digest = fields.digest("genesis"), fields.digest("body")
        stanzas = fields.objects("keys", Stanza.read, most=MAX_RECIPIENTS)
    if not Digest.of(body).matches(digest):
        raise FingerprintsChangedError("the fingerprints aren't what the registrar signed", remedy="fetch them again")
    mine = next((one for one in stanzas if one.public == identity.public), None)
    if mine is None:
        raise NotARecipientError(
            "the fingerprints are for other identities", remedy="have the registrar add this one: --to FILE.pub"
        )
    context = _LABEL + genesis.value
    with identity.open(mine.encrypted, context) as key:
        try:
            catalogue = Catalogue.parse(AESGCM(key.reveal(TOKEN)).decrypt(_NONCE, body, context))
        except (InvalidTag, ValueError):
            raise FingerprintsChangedError("the fingerprints don't open with their own key") from None
    return Fingerprints(genesis=genesis, catalogue=catalogue, recipients=tuple(one.public for one in stanzas))
