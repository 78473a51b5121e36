"""Cosignatures (c2sp.org/tlog-cosignature): who else saw a checkpoint, and when.

A cosigner says, as of a time in whole seconds, that a tree is the largest consistent one of a log that it has seen.
Two kinds: Ed25519 (type 0x04) and ML-DSA-44 (type 0x06), which also names its signer and holds against quantum
computers. The log itself cosigns what it publishes with ML-DSA-44, under its origin as the name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import CosignatureForgedError
from strongroom.audit.note import Note, NoteSignature, check_key_name
from strongroom.core.clock import Instant
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.signature import SEED_BYTES, derived_seed

ML_DSA_44_KEY_BYTES: Final = 1312
_LOG_SEED: Final = b"strongroom log cosigner v1 ml-dsa-44 seed"
_LABEL: Final = b"subtree/v1\n\0"
_STAMP: Final = 8


class CosignatureKind(IntEnum):
    """The kinds of cosignature, by the type byte that signed-note assigns."""

    ED25519 = 0x04
    ML_DSA_44 = 0x06


_PRIME: Final = 2**255 - 19
_ORDER_8: Final = int.from_bytes(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
)
_SMALL: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""The y of edwards25519's eight points whose order divides 8 (RFC 8032, section 5.1)."""
_SIGNATURE_BYTES: Final = {CosignatureKind.ED25519: 64, CosignatureKind.ML_DSA_44: 2420}


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """A cosigner's key, written ``name+<key id in hex>+<base64 of type byte and public key>``.

    ``raw`` has 32 bytes (Ed25519) or 1,312 (ML-DSA-44).
    """

    name: str
    kind: CosignatureKind
    raw: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        # The length of a name is one byte in what ML-DSA-44 signs.
        if len(self.name.encode()) > 255:
            raise MalformedError("a cosigner's name has at most 255 bytes")
        if self.kind is CosignatureKind.ED25519 and _of_small_order(self.raw):
            raise MalformedError("the key is a point of small order: anybody could sign for it")
        public = Ed25519PublicKey if self.kind is CosignatureKind.ED25519 else MLDSA44PublicKey
        try:
            public.from_public_bytes(self.raw)
        except ValueError:
            raise MalformedError("the bytes aren't a cosigner's public key") from None

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart. Another key with the same four can be made in hours."""
        return bytes.fromhex(self.fingerprint)[:4]

    @property
    def fingerprint(self) -> str:
        """All 64 hex digits of the hash that the key id is cut from: what people compare before they trust a key."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.raw).hexdigest()

    @classmethod
    def parse(cls, text: str) -> CosignerKey:
        """Read the text form.

        :raises MalformedError: another form, another type, or a key id that isn't the key's.
        """
        name, _, rest = text.partition("+")
        hexed, _, encoded = rest.partition("+")
        if not re.fullmatch(r"[0-9a-f]{8}", hexed):
            raise MalformedError("a cosigner's key is written `name+<8 hex digits>+<base64>`")
        raw = from_base64(encoded)
        try:
            kind = CosignatureKind(raw[0]) if raw else None
        except ValueError:
            kind = None
        if kind is None:
            raise MalformedError("a cosigner's key is of type 0x04 (Ed25519) or 0x06 (ML-DSA-44)")
        key = cls(name, kind, raw[1:])
        if key.key_id.hex() != hexed:
            raise MalformedError("the cosigner's key id isn't the one that its name and key have")
        return key

    def __str__(self) -> str:
        return f"{self.shown}+{to_base64(bytes([self.kind]) + self.raw)}"

    @property
    def shown(self) -> str:
        """The name and id, for messages: an ML-DSA-44 key has 1,800 characters."""
        return f"{self.name}+{self.key_id.hex()}"

    def signed_by(self, signature: NoteSignature) -> bool:
        """Whether a line names this key; it isn't verified."""
        return signature.name == self.name and signature.key_id == self.key_id

    def verify(self, checkpoint: Checkpoint, value: bytes) -> Cosignature:
        """Check the value of a signature line over ``checkpoint``.

        :raises CosignatureForgedError: this key didn't sign this checkpoint at the time that the value states.
        """
        at = int.from_bytes(value[:_STAMP])
        try:
            if len(value) != _STAMP + _SIGNATURE_BYTES[self.kind] or at > 2**63 - 1:
                raise InvalidSignature
            message = _message(self.kind, self.name, checkpoint, at)
            if self.kind is CosignatureKind.ED25519:
                Ed25519PublicKey.from_public_bytes(self.raw).verify(value[_STAMP:], message)
            else:
                MLDSA44PublicKey.from_public_bytes(self.raw).verify(value[_STAMP:], message)
        except (InvalidSignature, MalformedError):
            raise CosignatureForgedError(f"the cosignature by `{self.shown}` doesn't verify") from None
        return Cosignature(self, at)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature: by whom, and when. ``at`` is 0 where the cosigner states no time."""

    key: CosignerKey
    at: Instant


class Cosigner:
    """Cosigns checkpoints with a private key held in this process."""

    __slots__ = ("_private", "key")

    def __init__(self, name: str, private: Ed25519PrivateKey | MLDSA44PrivateKey) -> None:
        kind = CosignatureKind.ED25519 if isinstance(private, Ed25519PrivateKey) else CosignatureKind.ML_DSA_44
        self._private = private
        self.key = CosignerKey(name, kind, private.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, name: str, kind: CosignatureKind, seed: bytes) -> Self:
        """Make a cosigner from a 32-byte seed.

        :raises MalformedError: a seed of another length.
        """
        if len(seed) != SEED_BYTES:
            raise MalformedError(f"a signing seed has {SEED_BYTES} bytes")
        if kind is CosignatureKind.ED25519:
            return cls(name, Ed25519PrivateKey.from_private_bytes(seed))
        return cls(name, MLDSA44PrivateKey.from_seed_bytes(seed))

    @classmethod
    def of_log(cls, origin: str, seed: bytes) -> Self:
        """Make a log's own cosigner from the seed of its Ed25519 key.

        Derived under a label, so no key is used in two algorithms; and Ed25519's private scalar, were it ever
        computed from the public key, doesn't lead back to the seed.
        """
        return cls.from_seed(origin, CosignatureKind.ML_DSA_44, derived_seed(seed, _LOG_SEED))

    def cosign(self, checkpoint: Checkpoint, at: Instant) -> NoteSignature:
        """Return the signature line over ``checkpoint`` as of ``at``.

        :raises MalformedError: an origin that ML-DSA-44 can't sign, or a time before 1970.
        """
        if not 0 < at < 2**63:
            raise MalformedError("a cosignature states a time after 1970")
        value = self._private.sign(_message(self.key.kind, self.key.name, checkpoint, at))
        return NoteSignature(self.key.name, self.key.key_id, at.to_bytes(_STAMP) + value)

    def __repr__(self) -> str:
        return f"<Cosigner {self.key.shown}>"


def read_cosignatures(note: Note, checkpoint: Checkpoint, keys: Iterable[CosignerKey]) -> tuple[Cosignature, ...]:
    """Verify every line by a key of ``keys`` and return the newest of each; lines by other keys are ignored.

    :raises CosignatureForgedError: a line by a known key doesn't verify: then the whole note is refused.
    """
    found: dict[CosignerKey, Cosignature] = {}
    for key in keys:
        for signature in note.signatures:
            if key.signed_by(signature):
                one = key.verify(checkpoint, signature.value)
                if key not in found or found[key].at < one.at:
                    found[key] = one
    return tuple(found.values())


def cosign_note(note: bytes, cosigner: Cosigner, at: Instant) -> bytes:
    """Add a cosignature to a signed checkpoint. The caller made or verified it.

    :raises MalformedError: not a checkpoint.
    """
    parsed = Note.parse(note)
    return parsed.signed_also((cosigner.cosign(Checkpoint.parse_text(parsed.text), at),)).to_bytes()


def _of_small_order(raw: bytes) -> bool:
    # Modulo the prime: y has a second spelling where it is small.
    return (int.from_bytes(raw, "little") & ((1 << 255) - 1)) % _PRIME in _SMALL


def _message(kind: CosignatureKind, name: str, checkpoint: Checkpoint, at: Instant) -> bytes:
    if kind is CosignatureKind.ED25519:
        return f"cosignature/v1\ntime {at}\n{checkpoint.text()}".encode()
    origin = checkpoint.origin.encode()
    if len(origin) > 255:
        raise MalformedError("an origin that is cosigned with ML-DSA-44 has at most 255 bytes")
    signer = name.encode()
    return b"".join(
        (
            _LABEL,
            bytes([len(signer)]),
            signer,
            at.to_bytes(8),
            bytes([len(origin)]),
            origin,
            (0).to_bytes(8),
            checkpoint.size.to_bytes(8),
            checkpoint.root,
        )
    )
