"""Signed envelopes: DSSE v1 (secure-systems-lab). The payload's exact bytes are signed together with their type.

The type separates domains: an approval can't be replayed as a denial, nor a roster as a policy, although both
sign plain bytes with the same key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import KeyId
from strongroom.core.signature import PublicKey, SignatureError, Signer

TYPE_PREFIX: Final = "application/vnd.strongroom."
MAX_SIGNATURES: Final = 32
MAX_PAYLOAD: Final = 512 * 1024


def payload_type(name: str) -> str:
    """Return the DSSE payload type of one of our objects, e.g. ``request.v1``."""
    return TYPE_PREFIX + name


def pae(kind: str, payload: bytes) -> bytes:
    """Return the DSSE pre-authentication encoding: what is signed."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature and the id of the key that is said to have made it."""

    key_id: KeyId
    value: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """Bytes, their type, and signatures over both. Parsing one proves nothing: call :func:`verify`."""

    kind: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Envelope:
        """Read the DSSE JSON form.

        :raises MalformedError: not an envelope, or larger than the limits of this module.
        """
        with Fields(parse(data, max_bytes=2 * MAX_PAYLOAD), "envelope") as fields:
            return cls.read(fields)

    @classmethod
    def read(cls, fields: Fields) -> Envelope:
        """Read an envelope that is a member of a larger object."""
        return cls(
            kind=fields.text("payloadType"),
            payload=fields.binary("payload", max_length=MAX_PAYLOAD),
            signatures=fields.objects(
                "signatures",
                lambda f: Signature(KeyId(f.text("keyid", max_length=64)), f.binary("sig", max_length=8192)),
                most=MAX_SIGNATURES,
            ),
        )

    def to_json(self) -> Json:
        """Return the DSSE JSON form."""
        return {
            "payloadType": self.kind,
            "payload": to_base64(self.payload),
            "signatures": [{"keyid": s.key_id, "sig": to_base64(s.value)} for s in self.signatures],
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the DSSE JSON form."""
        return encode(self.to_json())

    @property
    def digest(self) -> Digest:
        """Digest of the payload: the name by which a signed object is known, whoever signed it."""
        return Digest.of(self.payload)

    def signed_by(self, signer: Signer) -> Envelope:
        """Return this envelope with one more signature."""
        value = signer.sign(pae(self.kind, self.payload))
        added = Signature(signer.public_key.key_id, value)
        kept = tuple(s for s in self.signatures if s.key_id != added.key_id)
        return Envelope(self.kind, self.payload, (*kept, added))


def sign(kind: str, payload: bytes, *signers: Signer) -> Envelope:
    """Make an envelope signed by each of ``signers``.

    :raises MalformedError: the payload is longer than any reader takes.
    """
    if len(payload) > MAX_PAYLOAD:
        raise MalformedError(f"what is signed has {len(payload)} bytes; at most {MAX_PAYLOAD} are read")
    envelope = Envelope(kind, payload, ())
    for signer in signers:
        envelope = envelope.signed_by(signer)
    return envelope


def verify(envelope: Envelope, kind: str, keys: Iterable[PublicKey], *, threshold: int) -> frozenset[KeyId]:
    """Check that at least ``threshold`` distinct keys of ``keys`` signed, and that no signature by one of them is bad.

    Signatures by unknown keys are ignored, as DSSE says. Returns the ids of the known keys that signed.

    :raises SignatureError: wrong type, a bad signature by a known key, or too few signatures.
    """
    if envelope.kind != kind:
        raise SignatureError(f"the signed object isn't of type `{kind}`")
    if threshold < 1:
        raise MalformedError("a signature threshold below one would accept unsigned bytes")
    known = {key.key_id: key for key in keys}
    message = pae(envelope.kind, envelope.payload)
    good: set[KeyId] = set()
    for signature in envelope.signatures:
        if signature.key_id in known:
            known[signature.key_id].verify(signature.value, message)
            good.add(signature.key_id)
    if len(good) < threshold:
        raise SignatureError(f"{len(good)} of the {threshold} signatures needed are there")
    return frozenset(good)
